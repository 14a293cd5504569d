"""The steps of a change, one record at a time: wherever it is interrupted, no packet gets a verdict of neither list."""

from ipaddress import ip_address
from random import Random
from typing import NamedTuple

import numpy as np
import pytest
from frames import from_source
from verdicts import Verdicts, listing

from xdropd.columns.listing import Listing, Members, Selections
from xdropd.columns.nesting import outermost
from xdropd.columns.prefixes import FAMILIES, union
from xdropd.kernel.tables import records
from xdropd.rules.allow import Exempt, Exempting
from xdropd.rules.winners import Source, State
from xdropd.text.addresses import Span

WORLD = 16  # addresses a family
BASES = {4: int(ip_address("203.0.113.48")), 6: int(ip_address("2001:db8:0:1::")) - WORLD // 2}
HISTORIES = 12
CHANGES = 40


class Text(NamedTuple):
    """What is listed, by source, and by which action; and what is allowed."""

    blocked: list[Span]
    other: list[Span]
    selected: list[Span]
    actions: tuple[str, str, str]
    allowed: list[Span]


EMPTY = Text([], [], [], ("block", "block", "block"), [])


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
    blocked, other, selected, allowed = (
        [span for span in each if rng.random() < 0.6] + spans(rng, at_most)
        for each, at_most in zip((*before[:3], before.allowed), (3, 3, 2, 1), strict=True)
    )
    actions = before.actions
    if rng.random() < 0.3:
        actions = "block", rng.choice(("block", "monitor")), rng.choice(("block", "monitor"))
    return Text(blocked, other, selected, actions, allowed)


def selection(selected: list[Span]) -> Listing:
    """One entry with all of these."""
    members = {}
    for version, family in FAMILIES.items():
        ends = [(each.first, each.last) for each in selected if each.version == version]
        keys = [family.split(family.address(first), family.address(last))[1] for first, last in ends]
        distinct = outermost(version, union(family.empty_keys(), *keys))
        members[version] = Members(distinct, np.zeros(len(distinct), np.uint32))
    return Listing.of_selections(Selections.of(np.array([1 << 32 | 7], np.uint64), np.ones(1, np.uint32), members))


def state_of_text(text: Text) -> State:
    listings = (listing(text.blocked), listing(text.other), selection(text.selected))
    sources = [
        Source(f"s{number}", number, each, action=action)
        for number, (each, action) in enumerate(zip(listings, text.actions, strict=True), start=1)
    ]
    return State(sources, Exempt([Exempting("allow", "blocklist.yaml", listing(text.allowed))]))


def verdict_by(text: Text) -> dict[tuple[int, int], str]:
    """By the contract, address by address: "block", "monitor" or "allow"."""

    def holds(each: list[Span], version: int, address: int) -> bool:
        return any(span.version == version and span.first <= address <= span.last for span in each)

    def verdict(version: int, address: int) -> str:
        actions = {action for each, action in zip(text[:3], text.actions, strict=True) if holds(each, version, address)}
        if holds(text.allowed, version, address) or not actions:
            return "allow"
        return min(actions)

    return {
        (version, address): verdict(version, address)
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
    frames = {place: from_source(str(Span(*place, place[1]))) for place in verdict_by(EMPTY)}
    text = EMPTY
    state = state_of_text(text)
    steps = 0
    for number in range(1, CHANGES + 1):
        before, text = text, next_text(rng, text)
        was, will_be = verdict_by(before), verdict_by(text)
        agreed = {
            place: was[place] == "block" for place in frames if (was[place] == "block") == (will_be[place] == "block")
        }
        old, state = state, state_of_text(text)
        for _ in verdicts.putting(state, old):
            steps += 1
            answers = {place: verdicts.drops(frames[place]) for place in agreed}
            assert answers == agreed, f"change {number}, from {before} to {text}"
        assert verdicts.holds_just(state)
        for place, frame in frames.items():
            counted = sum(verdicts.generation.volumes.get(number).packets for number in (1, 2, 3))
            assert verdicts.verdict(frame) == ("dropped" if will_be[place] == "block" else "passed")
            counted = sum(verdicts.generation.volumes.get(number).packets for number in (1, 2, 3)) - counted
            assert counted == (will_be[place] != "allow"), f"change {number}, {Span(*place, place[1])} of {text}"
    assert steps > 2 * CHANGES
