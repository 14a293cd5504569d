"""Who decides: what a change touches and what it leaves alone, and that large and small questions have one answer."""

from random import Random

import numpy as np
import pytest
from columns import bases, listing, prefixes_in, spans

from xdropd.columns.listing import Listing, Row
from xdropd.columns.prefixes import FAMILIES, Column
from xdropd.rules import winners
from xdropd.rules.allow import Exempt, Exempting
from xdropd.rules.plan import plan
from xdropd.rules.winners import EXEMPT, Source, State

both_families = pytest.mark.parametrize("version", FAMILIES)


def numbered(*texts: Listing, exempt: Listing | None = None) -> State:
    sources = [Source(f"s{number}", number, text) for number, text in enumerate(texts, start=1)]
    return State(sources, Exempt([Exempting("allow", "blocklist.yaml", exempt)] if exempt else ()))


def some_state(version: int, rng: Random, base: int) -> State:
    def text(at_most: int) -> Listing:
        ends = spans(version, rng, rng.randrange(at_most), base)
        return listing(*(Row(version, *each, line) for line, each in enumerate(ends, start=1)))

    return numbered(*(text(12) for _ in range(rng.randint(1, 3))), exempt=text(5))


def all_prefixes(version: int, state: State) -> Column:
    return state.records(version).keys


@both_families
def test_what_is_asked_for_is_answered_as_in_the_whole(version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By whichever way: from each prefix upwards or all networks in between, columns one by one or together."""
    rng = Random(version)
    for _ in range(150):
        state = some_state(version, rng, rng.choice(bases(version)))
        whole = state.records(version)
        rows = np.flatnonzero([rng.random() < 0.5 for _ in whole.keys])
        for ratio, small in ((0, 0), (1 << 40, 3), (0, 64)):
            monkeypatch.setattr(winners, "_ALL_AT_ONCE", ratio)
            monkeypatch.setattr(winners, "_SMALL", small)
            for found, expected in (
                (state.records(version), whole),
                (state.records(version, whole.keys[rows]), whole.taken(rows)),
            ):
                assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))


@both_families
def test_a_wide_network_with_many_holes_stays_small(version: int) -> None:
    everything = Row(version, 0, (1 << FAMILIES[version].width) - 1)
    holes = listing(*(Row(version, at, at) for at in range(5000, 35_000, 3)))
    records = numbered(listing(everything), exempt=holes).records(version)
    assert len(records.keys) == 10_001
    assert (records.sources == EXEMPT).sum() == 10_000
    assert prefixes_in(version, records.keys[records.sources != EXEMPT]) == [(0, 0)]


def edited(rows: list[Row], at: int, new: Row) -> list[Row]:
    return [*rows[:at], new, *rows[at + 1 :]]


@both_families
def test_an_edit_touches_what_it_says_and_nothing_else(version: int) -> None:
    """However large the list is: an address, a network, a range with what is listed within it, an exemption."""
    base = 1 << FAMILIES[version].width - 3
    addresses = [Row(version, base + 64 * at, base + 64 * at) for at in range(2000)]
    networks = [Row(version, base + 64 * at + 32, base + 64 * at + 47) for at in range(2000)]
    ranges = [Row(version, base + 64 * at + 7, base + 64 * at + 8) for at in range(2000)]
    before, at = [*addresses, *networks, *ranges], base + 64 * 1000
    old = numbered(listing(*before))
    width = FAMILIES[version].width
    for place, new, steps in (
        (1000, Row(version, at + 1, at + 1), {(at, width), (at + 1, width)}),
        (3000, Row(version, at + 16, at + 31), {(at + 32, width - 4), (at + 16, width - 4)}),
        (5000, Row(version, at + 9, at + 10), {(at + at_, width) for at_ in (7, 8, 9, 10)}),
    ):
        change = plan(old, numbered(listing(*edited(before, place, new))))
        found = change.changes[version]
        assert {*prefixes_in(version, found.written.keys), *prefixes_in(version, found.removed.keys)} == steps
        assert change.counted == (1, 1)
    holed = plan(old, numbered(listing(*before), exempt=listing(Row(version, at, at + 39))))
    found = holed.changes[version]
    assert prefixes_in(version, found.removed.keys) == [(at, width), (at + 7, width), (at + 8, width)]
    assert holed.counted == (0, 0)


def test_of_the_same_nothing_is_changed_however_it_was_made() -> None:
    rng = Random(0)
    for version in FAMILIES:
        for _ in range(50):
            seed, base = rng.random(), rng.choice(bases(version))
            one, other = (some_state(version, Random(seed), base) for _ in range(2))
            assert plan(one, other).count == 0
            assert plan(one, other).counted == (0, 0)
            assert plan(one, one).count == 0
            gone = plan(one, State())
            assert gone.removed == gone.count == len(all_prefixes(version, one))


def test_thousands_of_callers_are_sources_as_any_other() -> None:
    """Each lists one address; of those that list the same the first is credited."""
    texts = [listing(Row(4, number % 4000, number % 4000)) for number in range(5000)]
    records = numbered(*texts).records(4)
    assert prefixes_in(4, records.keys) == [(number, 32) for number in range(4000)]
    assert records.sources.tolist() == list(range(1, 4001))
