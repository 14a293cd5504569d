"""What is never blocked: entries under `allow`, lists that allow, and what the guard protects, as prefixes.

Pure. Asked by columns for the arithmetic, and by single spans for people.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from xdropd.columns.listing import SPANS, Listing, Row, having
from xdropd.columns.nesting import are_within, holding, lengths_in, outermost, sharing
from xdropd.columns.prefixes import FAMILIES, Column, union

_NAMED_AT_MOST = 10


@dataclass(frozen=True, slots=True, eq=False)
class Exempting:
    """A listing of what is exempt. Of the guard, which has one, `reason` of a row says what is protected."""

    kind: str  # "allow" or "guard"
    source: str  # the file; "" of the guard
    listing: Listing


class Keeper(NamedTuple):
    """An entry that keeps addresses from being blocked."""

    kind: str
    source: str  # the file, or what the guard protects
    row: Row


class Effect(NamedTuple):
    """What of a listing is exempt: the entries that are covered wholly, and those that are in part."""

    covered: Listing
    narrowed: Listing


class Exempt:
    """Everything exempt at one moment. `sources`: those under `allow` before the guard."""

    def __init__(self, sources: Iterable[Exempting] = ()) -> None:
        self.sources = tuple(sources)
        self.prefixes: dict[int, Column] = {}
        """Disjoint and ascending."""
        self.lengths: dict[int, list[int]] = {}
        self._known_intervals: dict[int, tuple[Column, Column]] = {}
        for version, family in FAMILIES.items():
            keys = [prefixes_of(each.listing, version) for each in self.sources]
            self.prefixes[version] = outermost(version, union(family.empty_keys(), *keys))
            self.lengths[version] = lengths_in(version, self.prefixes[version])

    def holds(self, version: int, keys: Column) -> Column:
        """Whether each of these prefixes lies within one exempt prefix."""
        return are_within(version, keys, self.prefixes[version])

    def effect(self, listing: Listing) -> Effect:
        """What the exempt entries together do to the entries of a listing."""
        covered, narrowed = {}, {}
        for kind in SPANS:
            table = listing.table(kind)
            firsts, lasts = kind.ends(table.keys)
            begins, ends = self._intervals(kind.version)
            rows = np.flatnonzero(firsts <= ends[-1]) if len(ends) else np.zeros(0, np.intp)
            firsts, lasts = firsts[rows], lasts[rows]
            at = np.searchsorted(ends, firsts)  # of the intervals that do not end before it, the first alone matters
            is_touched = begins[at] <= lasts
            is_covered = (begins[at] <= firsts) & (ends[at] >= lasts)
            covered[kind] = table.taken(rows[is_covered])
            narrowed[kind] = table.taken(rows[is_touched & ~is_covered])
        return Effect(having(listing, covered), having(listing, narrowed))

    def _intervals(self, version: int) -> tuple[Column, Column]:
        """First and last addresses of what is exempt, where nothing in between is left out."""
        if version not in self._known_intervals:
            family, keys = FAMILIES[version], self.prefixes[version]
            firsts, lasts = family.firsts(keys), family.lasts(keys)
            begins = np.ones(len(keys), bool)
            begins[1:] = family.behind(lasts[:-1], firsts[1:]) != family.address(1)
            self._known_intervals[version] = firsts[begins], lasts[np.append(begins[1:], True)[: len(keys)]]
        return self._known_intervals[version]

    def keepers(self, version: int, first: int, last: int) -> Iterator[Keeper]:
        """Each exempt entry that covers all of a span alone: `allow` before the guard, narrow before wide."""
        for each in self.sources:
            found = sorted(holding(each.listing, version, first, last), key=each.listing.rank_of)
            yield from (Keeper(each.kind, each.source or row.reason, row) for row in found)

    def touching(self, version: int, first: int, last: int) -> list[Keeper]:
        """Exempt entries that share an address with a span; the first few of each source."""
        return [
            Keeper(each.kind, each.source or row.reason, row)
            for each in self.sources
            for row in sharing(each.listing, version, first, last, _NAMED_AT_MOST)
        ]

    def covers(self, version: int, first: int, last: int) -> bool:
        """Whether the exempt entries together cover all of a span."""
        family = FAMILIES[version]
        _, pieces = family.split(family.address(first), family.address(last))
        return all(self._covers_prefix(version, piece) for piece in (pieces[at : at + 1] for at in range(len(pieces))))

    def _covers_prefix(self, version: int, piece: Column) -> bool:
        """By one exempt prefix, or by several that leave nothing between them."""
        family, outer = FAMILIES[version], self.prefixes[version]
        if self.holds(version, piece)[0]:
            return True
        length = int(family.lengths(piece)[0])
        if length == family.width:
            return False
        low = int(outer.searchsorted(piece)[0])
        high = int(outer.searchsorted(family.keys(family.lasts(piece), family.width), side="right")[0])
        lengths = family.lengths(outer[low:high]).tolist()
        return bool(sum(1 << family.width - bits for bits in lengths) == 1 << family.width - length)


def prefixes_of(listing: Listing, version: int) -> Column:
    """Everything that a listing of one family holds, as prefixes; with repetitions, not sorted."""
    family, ranges = FAMILIES[version], listing.ranges[version]
    prefixes = union(listing.prefixes[version].keys, listing.selections.members[version].keys)
    if not len(ranges):
        return prefixes
    return union(prefixes, family.split(*family.ends_of_ranges(ranges.keys))[1])
