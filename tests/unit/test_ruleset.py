"""The list arithmetic, against a reading of the contract that looks at every address by itself.

Lists are made in two little worlds, the ends of the address spaces, so that hypothesis finds overlaps by itself.
"""

import time
from array import array
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import answer, apply

from xdropd.rules import ruleset as ruleset_module
from xdropd.rules.plan import difference
from xdropd.rules.ruleset import (
    EVERYTHING,
    VERSIONS,
    Exemption,
    Exemptions,
    Layout,
    Listed,
    Region,
    Ruleset,
    Source,
    nothing,
    rearranged,
    source_of,
    successor,
    whole,
)
from xdropd.text.addresses import WIDTH, Span
from xdropd.text.entries import Column, Entry, Listing

WORLD = 64  # addresses


def base(version: int) -> int:
    return (1 << WIDTH[version]) - WORLD


@st.composite
def spans(draw: st.DrawFn) -> Span:
    version = draw(st.sampled_from(VERSIONS))
    first = draw(st.integers(0, WORLD - 1))
    last = draw(st.integers(first, WORLD - 1)) if draw(st.booleans()) else first
    return Span(version, base(version) + first, base(version) + last)


def listing(texts: list[tuple[Span, bool]]) -> Listing:
    made = Listing(Column(array("I"), array("I")), Column([], array("I")), ())
    entries = []
    for line, (span, annotated) in enumerate(texts, start=1):
        if span.is_address and not annotated:
            (made.plain4 if span.version == 4 else made.plain6).append(span.first, line)
        else:
            entries.append(Entry(span, line))
    return Listing(made.plain4, made.plain6, tuple(entries))


listings = st.lists(st.tuples(spans(), st.booleans()), max_size=12).map(listing)
exemptions = st.lists(spans(), max_size=5).map(
    lambda found: Exemptions(Exemption(span, "allow", "f", 1) for span in found)
)
rulesets = st.builds(
    lambda texts, exempt: Ruleset(
        [source_of(f"s{number}", number, text, 0) for number, text in enumerate(texts, start=1)], exempt
    ),
    st.lists(listings, max_size=3),
    exemptions,
)


def credited(ruleset: Ruleset, version: int, key: int) -> tuple[Span, int] | None:
    """By the contract: fewest addresses, then the order of the sources; what is exempt is nobody's."""
    if any(s.version == version and s.first <= key <= s.last for s in ruleset.exemptions.spans):
        return None
    found = []
    for order, source in enumerate(ruleset.sources):
        for entry in source.all_entries():
            if entry.span.version == version and entry.span.first <= key <= entry.span.last:
                found.append((entry.span.size, order, len(found), entry.span, source.number))
    return min(found)[3:] if found else None


def is_within(inner: Span, outer: Span) -> bool:
    return inner.version == outer.version and outer.first <= inner.first and inner.last <= outer.last


def meets(one: Span, other: Span) -> bool:
    return one.version == other.version and one.first <= other.last and other.first <= one.last


def world() -> list[tuple[int, int]]:
    return [(version, base(version) + at) for version in VERSIONS for at in range(WORLD)]


@given(rulesets)
def test_layout_answers_as_the_contract(ruleset: Ruleset) -> None:
    layout = ruleset.whole_layout()
    for version, key in world():
        assert answer(layout, version, key) == credited(ruleset, version, key)
    assert {
        Listed(span, source.number) for source in ruleset.sources for span in source.entries if not span.is_address
    } == layout.cells


@given(rulesets, rulesets)
def test_no_step_of_a_plan_drops_or_passes_what_both_lists_agree_on(old: Ruleset, new: Ruleset) -> None:
    before, after = old.whole_layout(), new.whole_layout()
    plan = difference(before, after)
    now = Layout({v: dict(before.addresses[v]) for v in VERSIONS}, dict(before.prefixes), before.cells)
    wanted = {place: (credited(old, *place), credited(new, *place)) for place in world()}

    def check() -> None:
        for place, (was, will_be) in wanted.items():
            found = answer(now, *place)
            if was and will_be:
                assert found, f"{place} passes on the way"
            if not was and not will_be:
                assert not found, f"{place} is dropped on the way"

    for prefix in plan.exempt_set:
        now.prefixes[prefix] = None
        check()
    for prefix, listed in plan.listed_set:
        now.prefixes[prefix] = listed
        check()
    for version in VERSIONS:
        for key, number in plan.addresses_set[version].items():
            now.addresses[version][key] = number
            check()
    for version in VERSIONS:
        for key in plan.addresses_removed[version]:
            del now.addresses[version][key]
            check()
    for prefix in (*plan.listed_removed, *plan.exempt_removed):
        del now.prefixes[prefix]
        check()
    assert now.addresses == after.addresses
    assert now.prefixes == after.prefixes


@given(rulesets, st.lists(listings, max_size=3), exemptions)
@settings(max_examples=200)
def test_the_region_of_a_change_holds_all_of_it(old: Ruleset, texts: list[Listing], exempt: Exemptions) -> None:
    region = Region()
    sources: list[Source] = []
    for number, text in enumerate(texts, start=1):
        if number <= len(old.sources):
            source, change = successor(old.sources[number - 1], text, 0, "")
            region.update(change.region)
        else:
            source = source_of(f"s{number}", number, text, 0)
            region.update(whole(source))
        sources.append(source)
    for gone in old.sources[len(texts) :]:
        region.update(whole(gone))
    new = Ruleset(sources, exempt)
    region.update(old.exempt_changes(new))
    plan = difference(old.layout(region), new.layout(region))
    reached, expected = apply(old.whole_layout(), plan), new.whole_layout()
    assert reached.addresses == expected.addresses
    assert reached.prefixes == expected.prefixes
    assert plan == difference(old.layout(region), new.layout(region))


@given(st.data(), st.lists(st.tuples(spans(), st.booleans()), max_size=12), st.lists(listings, max_size=3))
def test_the_region_of_another_order_holds_all_of_it(
    data: st.DataObject, texts: list[tuple[Span, bool]], others: list[Listing]
) -> None:
    """The lines of a file in another order, and the files: who comes first among equals changes, and nothing else."""
    first = source_of("s0", 7, listing(texts), 0)
    old = [first, *(source_of(f"s{number}", number, text, 0) for number, text in enumerate(others, start=1))]
    shuffled, change = successor(first, listing(data.draw(st.permutations(texts))), 0, "")
    new = data.draw(st.permutations([shuffled, *old[1:]]))
    region = change.region
    region.update(rearranged(old, new))
    before, after = Ruleset(old), Ruleset(new)
    reached = apply(before.whole_layout(), difference(before.layout(region), after.layout(region)))
    assert reached.addresses == after.whole_layout().addresses
    assert reached.prefixes == after.whole_layout().prefixes


@given(st.lists(st.tuples(spans(), st.one_of(st.none(), st.integers(1, 5))), max_size=12), st.integers(0, 6))
def test_what_ends_leaves_what_a_fresh_reading_would_find(texts: list[tuple[Span, int | None]], now_s: int) -> None:
    """A span that is mentioned twice does not end with its first mention."""
    entries = tuple(
        Entry(span, line, until=None if until is None else float(until))
        for line, (span, until) in enumerate(texts, start=1)
    )
    text = Listing(Column(array("I"), array("I")), Column([], array("I")), entries)
    source = source_of("list", 1, text, 0)
    over = [entry.span for entry in source.entries.values() if entry.until is not None and entry.until <= now_s]
    source.end(over, now_s)
    assert list(source.entries.items()) == list(source_of("list", 1, text, now_s).entries.items())


def test_a_block_that_ends_is_gone() -> None:
    span = Span(4, 1, 1)
    source = Source("caller", 1, nothing(), {span: Entry(span, 0, until=5.0)}, is_file=False)
    source.end([span], 5)
    assert source.entries == {}


@given(rulesets, rulesets)
def test_many_windows_are_as_good_as_few(old: Ruleset, new: Ruleset) -> None:
    """Where a change touches more windows than are worth looking at one by one, everything is looked at."""
    region = Region()
    for source in (*old.sources, *new.sources):
        region.update(whole(source))
    region.update(old.exempt_changes(new))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ruleset_module, "_WINDOWS_AT_MOST", 1)
        reached = apply(old.whole_layout(), difference(old.layout(region), new.layout(region)))
    assert reached.addresses == new.whole_layout().addresses
    assert reached.prefixes == new.whole_layout().prefixes


@given(rulesets, st.sampled_from(VERSIONS), st.lists(st.integers(0, WORLD - 1), max_size=6, unique=True))
def test_addresses_by_window_are_all_of_them(ruleset: Ruleset, version: int, cuts: list[int]) -> None:
    bounds = [0, *(base(version) + cut for cut in sorted(cuts) if cut), 1 << WIDTH[version]]
    windows = [Span(version, first, last - 1) for first, last in pairwise(bounds)]
    found = list(ruleset.addresses_by_window(version, windows))
    assert all(window.first <= key <= window.last for window, keys in zip(windows, found, strict=True) for key in keys)
    assert {key: number for keys in found for key, number in keys.items()} == ruleset.whole_layout().addresses[version]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_wide_network_with_many_holes_stays_small(version: int) -> None:
    holes = [Span(version, 5000 + 3 * at, 5000 + 3 * at) for at in range(10_000)]
    ruleset = Ruleset(
        [source_of("list", 1, listing([(EVERYTHING[version], False)]), 0)],
        Exemptions(Exemption(hole, "allow", "f", 1) for hole in holes),
    )
    assert len(ruleset.whole_layout().prefixes) == 10_001


def test_members_know_what_changed_however_large_they_are() -> None:
    keys = list(range(0, 300_000, 3))
    old = source_of("list", 1, listing([(Span(4, key, key), False) for key in keys]), 0)
    assert 3 in old.members[4]
    edited = [*keys[:50_000], 7, *keys[50_001:], keys[0]]
    new, change = successor(old, listing([(Span(4, key, key), False) for key in edited]), 0, "")
    assert change.region.keys[4] == {150_000, 7}
    assert (change.added, change.removed) == (1, 1)
    assert sorted(set(edited)) == list(new.members[4].sorted)


def test_an_end_in_the_past_is_not_in_force_and_gives_way_to_the_next_mention() -> None:
    span = Span(4, 1, 1)
    text = Listing(
        Column(array("I"), array("I")), Column([], array("I")), (Entry(span, 1, until=5.0), Entry(span, 2, until=50.0))
    )
    assert source_of("list", 1, text, now_s=10).entries[span].line == 2


def test_a_large_region_is_laid_out_as_a_small_one_is() -> None:
    """By going through the lists instead of asking for each address."""
    keys = {version: [base(version) - 3 * at for at in range(60_000)] for version in VERSIONS}
    texts = [
        listing([(Span(version, key, key), False) for version in VERSIONS for key in keys[version][part::2]])
        for part in (0, 1)
    ]
    texts[1] = listing([(Span(4, keys[4][0], keys[4][0]), False), (Span(4, keys[4][1], keys[4][1]), True)])
    exempt = Exemptions([Exemption(Span(4, keys[4][100], keys[4][0]), "allow", "f", 1)])
    ruleset = Ruleset([source_of(f"s{number}", number, text, 0) for number, text in enumerate(texts, start=1)], exempt)
    large = Region({version: {*keys[version], base(version) + 1} for version in VERSIONS})
    few = [Region({4: set(keys[4][at : at + 600]), 6: set(keys[6][at : at + 600])}) for at in range(0, 60_000, 600)]
    found = ruleset.layout(large)
    assert found.addresses == {
        version: {key: number for region in few for key, number in ruleset.layout(region).addresses[version].items()}
        for version in VERSIONS
    }
    assert len(found.addresses[4]) == 30_000 - 51


@given(
    st.lists(st.tuples(spans(), st.sampled_from(["allow", "guard"])), max_size=40),
    st.lists(spans(), min_size=1, max_size=5),
)
def test_exemptions_are_found_as_one_by_one(kept: list[tuple[Span, str]], asked: list[Span]) -> None:
    """Who alone covers a span, allow before guard, and the fewest addresses, and the first; and who touches it."""
    items = [Exemption(span, kind, "f", line) for line, (span, kind) in enumerate(kept, start=1)]
    exempt = Exemptions(items)
    for span in asked:
        covering = [item for item in items if is_within(span, item.span)]
        expected = min(covering, key=lambda item: (item.kind, item.span.size, item.line), default=None)
        assert exempt.keeper_of(span) == expected
        assert exempt.touching(span) == [item for item in items if meets(item.span, span)]
        keys = range(span.first, span.last + 1)
        assert exempt.covers(span) == all(exempt.holds(span.version, key) for key in keys)
        assert list(exempt.union.met([span])) == [span] * any(exempt.holds(span.version, key) for key in keys)


@given(rulesets, st.lists(spans(), max_size=5))
def test_what_the_guard_narrows_is_named_once_for_each_part_of_it(ruleset: Ruleset, guarded: list[Span]) -> None:
    guard = [Exemption(span, "guard", "address of this host", line) for line, span in enumerate(guarded)]
    found = list(Ruleset(ruleset.sources, Exemptions((*ruleset.exemptions.items, *guard))).narrowed_by_guard())
    expected = []
    for source in ruleset.sources:
        plain = {Span(version, key, key) for version in VERSIONS for key in source.members[version].column.keys}
        listed = (*plain, *source.entries)
        expected += [(source.number, span, item) for span in listed for item in guard if meets(span, item.span)]
    assert sorted((source.number, span, item) for source, span, item in found) == sorted(expected)


@given(listings, st.sets(st.integers(0, WORLD - 1)), st.sampled_from(VERSIONS))
def test_a_batch_is_asked_for_as_each_of_it_is(text: Listing, wanted: set[int], version: int) -> None:
    source = source_of("list", 1, text, 0)
    keys = {base(version) + at for at in wanted}
    assert source.among(version, keys) == {key for key in keys if source.has_address(version, key)}
    listed = {entry.span.first for entry in source.all_entries() if entry.span.is_address and entry.span[0] == version}
    assert source.among(version, keys) == keys & listed


@given(st.lists(st.sampled_from([0x01000000, 0x00010000, 0x00000100, 0x01010101, 0x02010101, 0]), min_size=1))
def test_the_line_of_an_address_is_its_first_one_whatever_the_bytes_around_it(keys: list[int]) -> None:
    for version in VERSIONS:
        source = source_of("list", 1, listing([(Span(version, key, key), False) for key in keys]), 0)
        assert {key: source.members[version].line_of(key) for key in keys} == {key: keys.index(key) + 1 for key in keys}


class Quick:
    """What takes a moment, and took nine seconds and more: judged by the processor's time, for machines are shared."""

    def __enter__(self) -> None:
        self.begun_s = time.process_time()

    def __exit__(self, *_: object) -> None:
        assert time.process_time() - self.begun_s < 2


def test_two_thousand_addresses_of_the_host_and_fifty_thousand_networks_are_a_matter_of_moments() -> None:
    networks = tuple(Entry(Span(4, at << 12, (at << 12) + 255), at + 1) for at in range(50_000))
    source = source_of("list", 1, Listing(Column.empty(4), Column.empty(6), networks), 0)
    first = networks[-1].span.first
    own = [Span(4, first + 7 * at, first + 7 * at) for at in range(2000)]
    guarded = Ruleset([source], Exemptions(Exemption(span, "guard", "address of this host", 0) for span in own))
    with Quick():
        narrowed = list(guarded.narrowed_by_guard())
        region = guarded.exempt_changes(Ruleset([source]))
    assert [(span, item.span) for _, span, item in narrowed] == [(networks[-1].span, span) for span in own[:37]]
    assert region.windows == set(own)


def test_a_large_batch_is_asked_of_many_exemptions_in_a_moment() -> None:
    exempt = Exemptions(Exemption(Span(4, at << 16, (at << 16) + 9), "allow", "f", at) for at in range(1000))
    with Quick():
        for at in range(50_000):
            assert (keeper := exempt.keeper_of(Span(4, at % 1000 << 16, at % 1000 << 16)))
            assert keeper.line == at % 1000
            assert exempt.touching(Span(4, at << 16, (at << 16) + 9)) == list(exempt.items[at : at + 1])


def test_a_batch_among_thousands_of_callers_is_laid_out_in_a_moment() -> None:
    callers = []
    for number in range(1, 5001):
        span = Span(4, number, number)
        callers.append(Source(f"caller{number}", number, nothing(), {span: Entry(span, 0)}, is_file=False))
    with Quick():
        layout = Ruleset(callers).layout(Region({4: set(range(20_000)), 6: set()}))
    assert layout.addresses[4] == {number: number for number in range(1, 5001)}


def test_windows_in_which_nobody_lists_anything_take_no_time() -> None:
    callers = [Source(f"caller{number}", number, nothing(), {}, is_file=False) for number in range(20_000)]
    with Quick():
        windows = [Span(4, at << 24, (at << 24) + (1 << 24) - 1) for at in range(256)]
        assert not any(Ruleset(callers).addresses_by_window(4, windows))
