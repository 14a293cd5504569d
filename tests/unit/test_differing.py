"""Two listings of one source, before and after, as a dictionary has it."""

from random import Random

import pytest

from xdropd.columns.differing import among, difference, lasting_longest, later, split_by_end, split_by_width
from xdropd.columns.listing import NEVER, Listing, Row, combined, without
from xdropd.text.addresses import Span, parse_span

NOW_S = 1_790_000_000.0
_PLACES = [
    "192.0.2.7",
    "0.0.0.0/0",
    "10.0.0.0/8",
    "203.0.113.4-203.0.113.9",
    "1.0.0.0-9.255.255.255",
    "::1",
    "::/0",
    "2001:db8::/64",
    "2001:db8::1-2001:db8::5",
]


def _rows(rng: Random, *, distinct: bool = True) -> list[Row]:
    places = rng.sample(_PLACES, rng.randrange(len(_PLACES))) if distinct else rng.choices(_PLACES, k=rng.randrange(12))
    return [
        Row(*parse_span(place), line, rng.choice(("", "ssh", "Größe")), rng.choice((None, NOW_S, NOW_S + 5)))
        for line, place in enumerate(places, start=1)
    ]


def _said(listing: Listing) -> dict[Span, tuple[str, float | None]]:
    found = {Span(*row[:3]): (row.reason, row.until) for row in listing.rows()}
    assert len(found) == listing.count
    return found


def _end(row: Row) -> float:
    return NEVER if row.until is None else row.until


@pytest.mark.parametrize("seed", range(40))
def test_what_differs(seed: int) -> None:
    rng = Random(seed)
    old, new = Listing.of(_rows(rng)), Listing.of(_rows(rng))
    before, after, found = _said(old), _said(new), difference(old, new)
    assert _said(found.put) == {span: said for span, said in after.items() if before.get(span) != said}
    assert _said(found.gone) == {span: said for span, said in before.items() if span not in after}
    assert found.added == len(after.keys() - before.keys())
    assert found.kept == sum(before.get(span) == said for span, said in after.items())
    assert found.added + found.changed + found.kept == len(after)
    assert _said(combined(without(old, found.gone), found.put)) == after
    assert _said(among(old, new)) == {span: said for span, said in before.items() if span in after}
    assert found.count == found.put.count + found.gone.count


@pytest.mark.parametrize("seed", range(40))
def test_the_later_end_wins_and_a_reason_stays(seed: int) -> None:
    rng = Random(seed)
    rows, asked = _rows(rng), _rows(rng)
    there = {Span(*row[:3]): row for row in rows}
    expected = {}
    for row in asked:
        old = there.get(Span(*row[:3]), row)
        end = max(_end(row), _end(old))
        expected[Span(*row[:3])] = (row.reason or old.reason, None if end == NEVER else end)
    assert _said(later(Listing.of(rows), Listing.of(asked))) == expected


@pytest.mark.parametrize("seed", range(40))
def test_of_several_the_one_that_lasts_longest(seed: int) -> None:
    rows = _rows(Random(seed), distinct=False)
    expected: dict[Span, Row] = {}
    for row in rows:
        span = Span(*row[:3])
        if span not in expected or _end(row) > _end(expected[span]):
            expected[span] = row
    found = {Span(*row[:3]): row for row in lasting_longest(Listing.of(rows)).rows()}
    if all(row.until is None for row in rows):
        assert {span: row.until for span, row in found.items()} == {span: row.until for span, row in expected.items()}
    else:
        assert found == expected


@pytest.mark.parametrize("seed", range(10))
def test_what_has_ended_and_what_is_too_wide(seed: int) -> None:
    listing = Listing.of(_rows(Random(seed)))
    lasting, ended = map(_said, split_by_end(listing, NOW_S))
    assert _said(listing) == {**lasting, **ended}
    assert all(until is None or until > NOW_S for _, until in lasting.values())
    assert all(until is not None and until <= NOW_S for _, until in ended.values())
    for widest in ((0, 0), (8, 16), (9, 65), (32, 128)):
        fine, wide = map(_said, split_by_width(listing, widest))
        assert _said(listing) == {**fine, **wide}
        most = {4: 1 << 32 - widest[0], 6: 1 << 128 - widest[1]}
        assert all(span.size <= most[span.version] for span in fine)
        assert all(span.size > most[span.version] for span in wide)


def test_reasons_that_nothing_has_any_more_go() -> None:
    listing = Listing.of([Row(4, 1, 1, 0, "first")])
    for at in range(3000):
        listing = combined(listing, Listing.of([Row(4, 2, 2, 0, f"reason {at}")]))
    assert [row.reason for row in listing.rows()] == ["first", "reason 2999"]
    assert len(listing.reasons) < 1100
