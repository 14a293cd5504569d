"""Listings against dictionaries: what is said of an entry stays beside it, whatever is done to the columns."""

from random import Random

import numpy as np
import pytest
from columns import bases, listing, spans, texts

from xdropd.columns.listing import NEVER, Builder, Listing, Reasons, Row, combined, without
from xdropd.columns.prefixes import FAMILIES

REASONS = ("", "spam", "ssh: 3 tries\nand more", "Größe \udcff", "x" * 300)
Place = tuple[int, int, int]


def some_rows(rng: Random, count: int) -> list[Row]:
    """Entries of a small world of each family, in the order of a text, with repetitions."""
    found = []
    for line in range(1, count + 1):
        version = rng.choice((4, 6))
        ((first, last),) = spans(version, rng, 1, rng.choice(bases(version)))
        until = rng.choice((None, None, float(rng.randrange(10))))
        found.append(Row(version, first, last, line, rng.choice(REASONS), until))
    return found


def place(row: Row) -> Place:
    return row[:3]


def first_of_each(rows: list[Row]) -> dict[Place, Row]:
    return {place(row): row for row in reversed(rows)}


def in_order(listed: Listing) -> bool:
    return all(bool((table.keys[1:] > table.keys[:-1]).all()) for table in listed.tables)


def test_what_was_added_is_there_each_entry_once() -> None:
    rng = Random(1)
    for count in (*range(12), 300):
        rows = some_rows(rng, count)
        listed = listing(*rows)
        expected = first_of_each(rows)
        now = listed.in_force(-1)
        assert in_order(now)
        assert {place(row): row for row in now.rows()} == expected
        assert now.count == len(expected)
        assert all(now.row(*each) == row for each, row in expected.items())
        assert now.row(4, 1 << 31, (1 << 31) + 6) is None


def test_rows_come_as_they_are_told() -> None:
    """Prefixes before ranges, IPv4 before IPv6, ascending; and many of them."""
    rows = [Row(6, at, at + 1 + at % 2, at) for at in range(9000, 0, -1)] + [Row(4, at, at, at) for at in range(5000)]
    ranges = [row for row in rows if row.last - row.first > 1 or (row.last - row.first == 1 and row.first % 2)]
    prefixes = [row for row in rows if row not in set(ranges)]
    assert list(listing(*rows).rows()) == [*sorted(prefixes), *sorted(ranges)]


def test_what_has_ended_is_over_and_the_next_line_counts() -> None:
    rng = Random(2)
    for _ in range(200):
        rows = some_rows(rng, rng.randrange(30))
        listed = listing(*rows)
        for now_s in range(-1, 11):
            lasting = [row for row in rows if row.until is None or row.until > now_s]
            now = listed.in_force(now_s)
            assert {place(row): row for row in now.rows()} == first_of_each(lasting)
            assert in_order(now)
            ends = [row.until for row in now.rows() if row.until is not None]
            assert now.next_end_s == min(ends, default=NEVER)
            assert now.next_end_s > now_s


def test_nothing_is_copied_where_nothing_has_ended() -> None:
    assert (listed := texts("10.0.0.1", "10.0.0.1-10.0.0.5")).in_force(5) is listed
    lasting = listing(Row(4, 1, 1, 1, "", 10.0))
    assert lasting.in_force(5) is lasting
    assert lasting.in_force(10).count == 0, "an end is the first moment at which it is over"


def test_columns_that_say_nothing_are_not_kept() -> None:
    listed = texts("10.0.0.1", "10.0.0.0/8", "10.0.0.1-10.0.0.5", "::1")
    assert all(table.reasons is None and table.untils is None for table in listed.tables)


def test_parts_of_a_text_that_were_read_in_another_order_are_one_text() -> None:
    """The bulk of a text comes as columns, before the lines in between: of equal entries the first line counts."""
    family = FAMILIES[4]
    numbers = np.array([5, 9, 5, 7], np.uint64)
    for line in (1, 3, 9):
        builder = Builder()
        builder.add(Row(4, 5, 5, line, "odd"))
        builder.prefixes(4, family.keys(numbers, 32), np.array([2, 4, 6, 8], np.uint32))
        builder.add(Row(4, 1, 1, 5))
        listed = builder.listing()
        assert [(row.first, row.line) for row in listed.rows()] == [(1, 5), (5, min(line, 2)), (7, 8), (9, 4)]
        assert listed.row(4, 5, 5).reason == ("odd" if line == 1 else "")


def test_reasons_by_number() -> None:
    reasons = Reasons.of(REASONS[1:])
    assert [reasons[number] for number in range(len(REASONS))] == list(REASONS)
    assert len(reasons) == len(REASONS) - 1
    assert Reasons()[0] == ""
    assert len(Reasons()) == 0


def test_listings_are_combined_and_parted_as_dictionaries_are() -> None:
    rng = Random(3)
    for _ in range(200):
        old, new = (first_of_each(some_rows(rng, rng.choice((0, 1, 3, 20)))) for _ in range(2))
        one, other = listing(*old.values()), listing(*new.values())
        both = combined(one, other)
        assert {place(row): row for row in both.rows()} == old | new
        assert in_order(both)
        left = without(one, other)
        assert {place(row): row for row in left.rows()} == {each: row for each, row in old.items() if each not in new}
        assert {place(row): row for row in one.rows()} == old, "values never change"


def test_an_entry_that_is_listed_twice_is_taken_out_whole() -> None:
    """With two ends, both lines are kept, for the second may outlast the first."""
    twice = listing(Row(4, 5, 5, 1, "", 2.0), Row(4, 5, 5, 2, "", 9.0), Row(4, 6, 6, 3))
    assert twice.in_force(5).row(4, 5, 5).line == 2
    for others in ((), (7, 8, 9, 10)):
        gone = listing(Row(4, 5, 5), *(Row(4, other, other) for other in others))
        assert list(without(twice, gone).rows()) == [Row(4, 6, 6, 3)]
        new = combined(twice, listing(Row(4, 5, 5, 0, "new")))
        assert list(new.rows()) == [Row(4, 5, 5, 0, "new"), Row(4, 6, 6, 3)]


def test_reasons_of_what_is_gone_do_not_pile_up() -> None:
    """A caller blocks and unblocks, each time for another reason."""
    listed = Listing.empty()
    for turn in range(5000):
        row = Row(4, turn % 7, turn % 7, 0, f"reason {turn}")
        listed = combined(without(listed, listing(row)), listing(row))
    assert len(listed.reasons) < 3000
    assert {row.reason for row in listed.rows()} == {f"reason {turn}" for turn in range(4993, 5000)}


@pytest.mark.parametrize("version", FAMILIES)
def test_the_edges_of_all_addresses_are_entries_as_any_other(version: int) -> None:
    top = (1 << FAMILIES[version].width) - 1
    rows = [Row(version, *ends) for ends in ((0, top), (0, 0), (top, top), (0, top - 1), (1, top), (1, top - 1))]
    listed = listing(*rows)
    assert all(listed.row(*place(row)) == row for row in rows)
    assert sorted(listed.rows()) == sorted(rows)
