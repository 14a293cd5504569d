"""Which entries something exempt cuts addresses out of: to be told, not to be computed with. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice

import numpy as np

from xdropd.columns.listing import Kind, Listing, Row
from xdropd.columns.nesting import ancestors, lengths_in, outermost, sharing, within
from xdropd.columns.prefixes import FAMILIES, Column, find, union
from xdropd.rules.allow import Exempting, Keeper, prefixes_of
from xdropd.rules.winners import Source, State


def narrowed(state: State, by: Exempting, at_most: int) -> list[tuple[Source, Row, Keeper]]:
    """Up to so many entries that share addresses with an exempt one of `by`, each with one of those."""
    exempt = {
        version: outermost(version, union(family.empty_keys(), prefixes_of(by.listing, version)))
        for version, family in FAMILIES.items()
    }
    found = ((source, row) for source in state.sources for row in sharing_rows(source.listing, exempt))
    return [
        (source, row, Keeper(by.kind, by.source or kept.reason, kept))
        for source, row in islice(found, at_most)
        for kept in islice(sharing(by.listing, *row[:3], 1), 1)
    ]


def sharing_rows(listing: Listing, exempt: Mapping[int, Column]) -> Iterator[Row]:
    """Entries of a listing that share addresses with any of these disjoint ascending prefixes, by version."""
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
