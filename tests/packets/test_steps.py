"""The steps of a change, one record at a time: wherever it is interrupted, no packet gets a verdict of neither list."""

from ipaddress import ip_address
from random import Random

import pytest
from frames import from_source
from verdicts import Verdicts, state_of

from xdropd.kernel.tables import records
from xdropd.text.addresses import Span

WORLD = 16  # addresses a family
BASES = {4: int(ip_address("203.0.113.48")), 6: int(ip_address("2001:db8:0:1::")) - WORLD // 2}
HISTORIES = 12
CHANGES = 40

Text = tuple[list[Span], list[Span]]
"""What is blocked, and what is allowed."""


def spans(rng: Random, at_most: int) -> list[Span]:
    found = []
    for _ in range(rng.randint(0, at_most)):
        version = rng.choice((4, 6))
        first, last = sorted(rng.randrange(WORLD) for _ in range(2))
        match rng.randrange(3):
            case 0:
                last = first
            case 1:
                height = rng.randrange(4)
                first = first >> height << height
                last = first + (1 << height) - 1
        found.append(Span(version, BASES[version] + first, BASES[version] + last))
    return found


def next_text(rng: Random, before: Text) -> Text:
    """Something of it stays: what both lists agree on is what a change must not touch."""
    blocked, allowed = ([span for span in each if rng.random() < 0.6] for each in before)
    return blocked + spans(rng, 4), allowed + spans(rng, 1)


def blocked_by(text: Text) -> dict[tuple[int, int], bool]:
    """By the contract, address by address."""

    def holds(each: list[Span], version: int, address: int) -> bool:
        return any(span.version == version and span.first <= address <= span.last for span in each)

    return {
        (version, address): holds(text[0], version, address) and not holds(text[1], version, address)
        for version, base in BASES.items()
        for address in range(base, base + WORLD)
    }


@pytest.fixture
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every record is a batch of its own, and so a moment at which packets may come."""
    monkeypatch.setattr(records, "KEYS_A_BATCH", 1)


@pytest.mark.parametrize("seed", range(HISTORIES))
def test_no_step_drops_or_passes_what_both_lists_agree_on(verdicts: Verdicts, one_by_one: None, seed: int) -> None:
    rng = Random(seed)
    frames = {place: from_source(str(Span(*place, place[1]))) for place in blocked_by(([], []))}
    text: Text = [], []
    state = state_of(*text)
    steps = 0
    for number in range(1, CHANGES + 1):
        before, text = text, next_text(rng, text)
        was, will_be = blocked_by(before), blocked_by(text)
        agreed = {place: was[place] for place in frames if was[place] == will_be[place]}
        old, state = state, state_of(*text)
        for _ in verdicts.putting(state, old):
            steps += 1
            answers = {place: verdicts.drops(frames[place]) for place in agreed}
            assert answers == agreed, f"change {number}, from {before} to {text}"
        assert {place: verdicts.drops(frame) for place, frame in frames.items()} == will_be
    assert steps > 2 * CHANGES
