"""Who lies within whom, against every pair of prefixes of a small world."""

from random import Random

import numpy as np
import pytest
from columns import bases, column, listing, prefixes_in, spans

from xdropd.columns.listing import Row, prefix_length
from xdropd.columns.nesting import (
    NONE,
    ancestors,
    are_within,
    holding,
    least_above,
    lengths_in,
    outermost,
    parents,
    sharing,
    within,
)
from xdropd.columns.prefixes import FAMILIES

both_families = pytest.mark.parametrize("version", FAMILIES)
Prefix = tuple[int, int]


def forest(version: int, rng: Random) -> list[Prefix]:
    """Prefixes of a small world, and now and then what holds it."""
    width = FAMILIES[version].width
    base = rng.choice(bases(version))
    found = []
    for _ in range(rng.randrange(14)):
        length = width - rng.choice((0, 0, 1, 1, 2, 3, 4, 5, 9, width))
        number = base + rng.randrange(16)
        found.append((number >> width - length << width - length, length))
    return sorted(set(found))


def holds(version: int, outer: Prefix, inner: Prefix) -> bool:
    rest = FAMILIES[version].width - outer[1]
    return outer[1] <= inner[1] and outer[0] >> rest == inner[0] >> rest


@both_families
def test_nesting_is_what_every_pair_says(version: int) -> None:
    rng = Random(version)
    for _ in range(400):
        ones, others = forest(version, rng), forest(version, rng)
        one, other = column(version, ones), column(version, others)
        above = parents(version, one)
        strict = [[outer for outer in ones if outer != inner and holds(version, outer, inner)] for inner in ones]
        assert [None if row == NONE else ones[row] for row in above.tolist()] == [
            max(outer, key=lambda each: each[1], default=None) for outer in strict
        ]
        ranks = np.array([rng.randrange(100) for _ in ones], np.int64)
        rank_of = dict(zip(ones, ranks.tolist(), strict=True))
        assert least_above(above, ranks).tolist() == [
            min(rank_of[each] for each in (inner, *outer)) for inner, outer in zip(ones, strict, strict=True)
        ]
        disjoint = outermost(version, one)
        assert prefixes_in(version, disjoint) == [inner for inner, outer in zip(ones, strict, strict=True) if not outer]
        inside = [any(holds(version, outer, inner) for outer in ones) for inner in others]
        assert within(version, other, one).tolist() == np.flatnonzero(inside).tolist()
        assert are_within(version, other, disjoint).tolist() == inside
        assert lengths_in(version, one) == sorted({length for _, length in ones})
        above_others = {
            outer for outer in ones for inner in others if outer[1] < inner[1] and holds(version, outer, inner)
        }
        assert set(prefixes_in(version, ancestors(version, one, lengths_in(version, one), other))) == above_others


@both_families
def test_single_questions_are_answered_by_every_entry(version: int) -> None:
    rng = Random(version)
    for _ in range(150):
        base = rng.choice(bases(version))
        rows = {
            (first, last): Row(version, first, last) for first, last in spans(version, rng, rng.randrange(10), base)
        }
        if rng.random() < 0.2:
            rows[0, (1 << FAMILIES[version].width) - 1] = Row(version, 0, (1 << FAMILIES[version].width) - 1)
        listed = listing(*rows.values())
        for first, last in spans(version, rng, 10, base):
            assert set(holding(listed, version, first, last)) == {
                row for row in rows.values() if row.first <= first and last <= row.last
            }
            touching = {row for row in rows.values() if row.first <= last and first <= row.last}
            found = list(sharing(listed, version, first, last, 100))
            assert set(found) == touching
            assert len(found) == len(touching), "each once"
            few = list(sharing(listed, version, first, last, 1))
            assert set(few) <= touching
            assert bool(few) == bool(touching)


@both_families
def test_a_span_is_a_prefix_where_one_is_enough(version: int) -> None:
    width = FAMILIES[version].width
    for base in bases(version):
        for first in range(base, base + 16):
            for last in range(first, base + 16):
                size = last - first + 1
                is_prefix = size & size - 1 == 0 and first % size == 0
                expected = width - size.bit_length() + 1 if is_prefix else None
                assert prefix_length(version, first, last) == expected
    assert prefix_length(version, 0, (1 << width) - 1) == 0
