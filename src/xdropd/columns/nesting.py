"""Who lies within whom: over whole columns, and for single addresses.

Prefixes nest or are disjoint, so in ascending order of their keys they are a forest in pre-order, and everything within
a prefix stands in one stretch behind it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from xdropd.columns.listing import Listing, Row
from xdropd.columns.prefixes import FAMILIES, Column, find, runs
from xdropd.columns.versions import SELECTED

NONE = -1


def parents(version: int, keys: Column) -> Column:
    """Of ascending unique prefixes: the row of the longest other one that holds each; NONE where there is none.

    Starts with the neighbour before. While that one ends too early, the answer is among the neighbour's own ancestors:
    take what is known of its parent, which never comes before the true answer. A few rounds over ever fewer rows.
    Where all before end too early, by the first words of their addresses, there is none; often that is so for most.
    """
    family = FAMILIES[version]
    firsts, lasts = family.firsts(keys), family.lasts(keys)
    above = np.arange(len(keys), dtype=np.int64) - 1
    ended = np.maximum.accumulate(family.words(lasts)[0])
    above[1:][ended[:-1] < family.words(firsts)[0][1:]] = NONE
    open_rows = np.flatnonzero((above >= 0) & (lasts[above] < firsts)) if len(keys) else np.zeros(0, np.intp)
    while len(open_rows):
        above[open_rows] = above[above[open_rows]]
        left = above[open_rows]
        open_rows = open_rows[(left >= 0) & (lasts[left] < firsts[open_rows])]
    return above


def least_above(above: Column, ranks: Column) -> Column:
    """The least rank among each row and all its ancestors."""
    least, jump = ranks.copy(), above.copy()
    rows = np.flatnonzero(jump >= 0)
    while len(rows):
        least[rows] = np.minimum(least[rows], least[jump[rows]])
        jump[rows] = jump[jump[rows]]
        rows = rows[jump[rows] >= 0]
    return least


def outermost(version: int, keys: Column) -> Column:
    """Those of ascending unique prefixes that lie within no other: disjoint, and ascending in their ends as well."""
    found: Column = keys[parents(version, keys) == NONE]
    return found


def within(version: int, keys: Column, outer: Column) -> Column:
    """Rows of the ascending prefixes `keys` that lie within any of the ascending prefixes `outer`, each once."""
    if not len(keys) or not len(outer):
        return np.zeros(0, np.intp)
    family = FAMILIES[version]
    disjoint = outermost(version, outer)
    ends = family.keys(family.lasts(disjoint), family.width)
    return runs(np.searchsorted(keys, disjoint), np.searchsorted(keys, ends, side="right"))


def are_within(version: int, keys: Column, disjoint: Column) -> Column:
    """Whether each prefix lies within one of `disjoint`, which ascend."""
    if not len(disjoint):
        return np.zeros(len(keys), bool)
    family = FAMILIES[version]
    rows = np.searchsorted(disjoint, keys, side="right") - 1  # the only one that may hold it
    held: Column = (rows >= 0) & (family.lasts(disjoint)[rows] >= family.lasts(keys))
    return held


def ancestors(version: int, known: Column, lengths: list[int], keys: Column) -> Column:
    """Those of the ascending prefixes `known`, all of these lengths, that hold any of `keys` and are shorter.

    Not sorted, with repetitions.
    """
    family = FAMILIES[version]
    own_lengths = family.lengths(keys)
    found = [known[:0]]
    for length in lengths:
        longer = keys[own_lengths > length]
        if len(longer):
            wider = family.shortened(longer, length)
            found.append(wider[find(known, wider)[1]])
    return np.concatenate(found)


def lengths_in(version: int, keys: Column) -> list[int]:
    """The lengths of prefixes that occur, ascending."""
    family = FAMILIES[version]
    found: list[int] = np.flatnonzero(np.bincount(family.lengths(keys), minlength=family.width + 1)).tolist()
    return found


# ---- single ones ----


def holding(listing: Listing, version: int, first: int, last: int) -> Iterator[Row]:
    """Every entry of a listing that holds all addresses from `first` to `last`; of a selection one prefix must."""
    family = FAMILIES[version]
    table = listing.prefixes[version]
    length = family.width - (first ^ last).bit_length()
    chain = family.chain(first, length, list(range(family.width + 1)))
    rows, found = find(table.keys, chain)
    yield from listing.some_rows(version, rows[found], is_range=False)
    ranges = listing.ranges[version].keys
    if len(ranges):
        upto = int(np.searchsorted(ranges, family.range_key(first, (1 << family.width) - 1), side="right")[0])
        reaching = family.ends_of_ranges(ranges[:upto])[1] >= family.address(last)
        yield from listing.some_rows(version, np.flatnonzero(reaching), is_range=True)
    selected, selections = listing.selections.members[version]
    if len(selected):
        members = runs(np.searchsorted(selected, chain), np.searchsorted(selected, chain, side="right"))
        yield from listing.some_rows(SELECTED, np.unique(selections[members]), is_range=True)


def sharing(listing: Listing, version: int, first: int, last: int, at_most: int) -> Iterator[Row]:
    """Up to about so many entries of a listing that share an address with those from `first` to `last`."""
    family = FAMILIES[version]
    table, ranges = listing.prefixes[version].keys, listing.ranges[version].keys
    low = int(np.searchsorted(table, family.key(first, 0))[0])
    high = int(np.searchsorted(table, family.key(last, family.width), side="right")[0])
    rows, found = find(table, family.chain(first, family.width, list(range(family.width + 1))))
    before = rows[found & (rows < low)] if len(table) else rows[:0]
    behind = np.arange(low, min(high, low + at_most))
    yield from listing.some_rows(version, np.concatenate((before, behind)), is_range=False)
    if len(ranges):
        upto = int(np.searchsorted(ranges, family.range_key(last, (1 << family.width) - 1), side="right")[0])
        reaching = family.ends_of_ranges(ranges[:upto])[1] >= family.address(first)
        yield from listing.some_rows(version, np.flatnonzero(reaching)[:at_most], is_range=True)
    selected, selections = listing.selections.members[version]
    if len(selected):
        chain = family.chain(first, family.width, list(range(family.width + 1)))
        low = int(np.searchsorted(selected, family.key(first, 0))[0])
        high = int(np.searchsorted(selected, family.key(last, family.width), side="right")[0])
        wider = runs(np.searchsorted(selected, chain), np.searchsorted(selected, chain, side="right"))
        members = np.unique(selections[np.concatenate((wider, np.arange(low, high)))])
        yield from listing.some_rows(SELECTED, members[:at_most], is_range=True)
