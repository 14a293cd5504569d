"""Which entries something exempt cuts addresses out of: to be told, not to be computed with. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice

import numpy as np

from xdropd.columns.listing import Kind, Listing, Row
from xdropd.columns.nesting import ancestors, are_within, lengths_in, outermost, sharing, within
from xdropd.columns.prefixes import FAMILIES, Column, find, runs, union
from xdropd.columns.versions import SELECTED
from xdropd.rules.allow import Exempting, Keeper, prefixes_of
from xdropd.rules.winners import Source, State


def narrowed(state: State, by: Exempting, at_most: int) -> list[tuple[Source, Row, Keeper]]:
    """Up to so many entries that share addresses with an exempt one of `by`, each with one of those."""
    exempt = {
        version: outermost(version, union(family.empty_keys(), prefixes_of(by.listing, version)))
        for version, family in FAMILIES.items()
    }
    found = ((source, *shared) for source in state.sources for shared in _shared(source.listing, exempt))
    return [
        (source, row, Keeper(by.kind, by.source or kept.reason, kept))
        for source, row, part in islice(found, at_most)
        for kept in islice(sharing(by.listing, *part, 1), 1)
    ]


def _shared(listing: Listing, exempt: Mapping[int, Column]) -> Iterator[tuple[Row, tuple[int, int, int]]]:
    """As `sharing_rows`, and selections: of each version, first and last address of a part that shares some."""
    yield from ((row, row[:3]) for row in sharing_rows(listing, exempt))
    parts: dict[int, tuple[int, int, int]] = {}
    for version, outer in exempt.items():
        family, (members, selections) = FAMILIES[version], listing.selections.members[version]
        held = are_within(version, members, outer)
        chains = ancestors(version, members, lengths_in(version, members), outer)
        held[runs(np.searchsorted(members, chains), np.searchsorted(members, chains, side="right"))] = True
        found, at = np.unique(selections[held], return_index=True)
        keys = members[held][at]
        ends = zip(family.ints(family.firsts(keys)), family.ints(family.lasts(keys)), strict=True)
        for selection, (first, last) in zip(found.tolist(), ends, strict=True):
            parts.setdefault(selection, (version, first, last))
    for row in listing.some_rows(SELECTED, np.array(sorted(parts), np.intp), is_range=True):
        yield row, parts[int(listing.selections.table.keys.searchsorted(np.uint64(row.first)))]


def sharing_rows(listing: Listing, exempt: Mapping[int, Column]) -> Iterator[Row]:
    """Entries of a listing, but for selections, that share addresses with these disjoint prefixes, by version."""
    for version, outer in exempt.items():
        keys = listing.prefixes[version].keys
        wider, _ = find(keys, ancestors(version, keys, lengths_in(version, keys), outer))
        rows = np.unique(np.concatenate((within(version, keys, outer), wider)))
        yield from listing.some_rows(version, rows, is_range=False)
        ranges = listing.table(Kind(version, is_range=True)).keys
        if len(ranges) and len(outer):
            family = FAMILIES[version]
            firsts, lasts = family.ends_of_ranges(ranges)
            # The first exempt prefix that does not end before a range begins is the only one that has to be looked at.
            at = np.searchsorted(family.lasts(outer), firsts)
            reached = np.append(family.firsts(outer), family.address((1 << family.width) - 1))[at]
            overlapping = (at < len(outer)) & (reached <= lasts)
            yield from listing.some_rows(version, np.flatnonzero(overlapping), is_range=True)
