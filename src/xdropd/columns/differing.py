"""Two listings of one source, before and after: which entries came, went, or say something else.

What an entry says is its end and its reason; its line plays no part. Every entry is in a listing once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from xdropd.columns.listing import NEVER, SPANS, Kind, Listing, Reasons, Table, ends_of, having, numbers_of, without
from xdropd.columns.prefixes import Column, first_of_each, match


@dataclass(frozen=True, slots=True, eq=False)
class Difference:
    """`put` has what came, and what says something else, as it is now; `gone` what went, as it was."""

    put: Listing
    gone: Listing
    added: int
    kept: int
    """Of the entries before: those that are as they were."""

    @property
    def changed(self) -> int:
        """How many say something else."""
        return self.put.count - self.added

    @property
    def count(self) -> int:
        """How many differ."""
        return self.put.count + self.gone.count


def difference(old: Listing, new: Listing) -> Difference:
    """What makes `new` of `old`."""
    put, added, kept = {}, 0, 0
    for kind in SPANS:
        before, after = old.table(kind), new.table(kind)
        old_rows, new_rows = match(before.keys, after.keys)
        same = ends_of(before)[old_rows] == ends_of(after)[new_rows]
        same &= _say_the_same(old, numbers_of(before)[old_rows], new, numbers_of(after)[new_rows])
        differ = np.ones(len(after), bool)
        differ[new_rows[same]] = False
        put[kind] = after if differ.all() else after.taken(differ)
        added += len(after) - len(new_rows)
        kept += int(same.sum())
    return Difference(having(new, put), without(old, new), added, kept)


def among(listing: Listing, others: Listing) -> Listing:
    """Those entries that the other listing has as well."""
    return having(
        listing,
        {
            kind: listing.table(kind).taken(match(listing.table(kind).keys, others.table(kind).keys)[0])
            for kind in SPANS
        },
    )


def later(old: Listing, asked: Listing) -> Listing:
    """What is asked for, but that what is there keeps a later end, and its reason where none is given."""
    texts: list[str] = []
    numbers: dict[str, int] = {}
    tables = {}
    for kind in SPANS:
        before, table = old.table(kind), asked.table(kind)
        old_rows, rows = match(before.keys, table.keys)
        if not len(rows):
            tables[kind] = table
            continue
        ends, reasons = ends_of(table).copy(), numbers_of(table).copy()
        ends[rows] = np.maximum(ends[rows], ends_of(before)[old_rows])
        known = numbers_of(before)[old_rows]
        needed = (reasons[rows] == 0) & (known > 0)
        distinct, which = np.unique(known[needed], return_inverse=True)
        for text in map(old.reasons.__getitem__, distinct.tolist()):
            if text not in numbers:
                texts.append(text)
                numbers[text] = len(asked.reasons) + len(texts)
        given = np.array([numbers[old.reasons[number]] for number in distinct.tolist()], np.uint32)
        reasons[rows[needed]] = given[which]
        tables[kind] = Table(table.keys, table.lines, _or_none(reasons, 0), _or_none(ends, NEVER))
    found = having(asked, tables)
    return replace(found, reasons=asked.reasons.followed_by(Reasons.of(texts))) if texts else found


def lasting_longest(listing: Listing) -> Listing:
    """Each entry once: of several the one that ends last, and the first of those."""
    tables = {}
    for kind in SPANS:
        table = tables[kind] = listing.table(kind)
        firsts = first_of_each(table.keys)
        if not firsts.all():
            starts, ends = np.flatnonzero(firsts), ends_of(table)
            last = np.maximum.reduceat(ends, starts)
            rows = np.flatnonzero(ends == np.repeat(last, np.diff(np.append(starts, len(table)))))
            tables[kind] = table.taken(rows[first_of_each(table.keys[rows])])
    return having(listing, tables)


def split_by_end(listing: Listing, now_s: float) -> tuple[Listing, Listing]:
    """What goes on, and what has ended."""
    lasting = {kind: ends_of(listing.table(kind)) > now_s for kind in SPANS}
    return _split(listing, lasting)


def split_by_width(listing: Listing, shortest: tuple[int, int]) -> tuple[Listing, Listing]:
    """What has no more addresses than a prefix of this length, of IPv4 and of IPv6; and what is wider."""
    fine = {}
    for kind in SPANS:
        fine[kind] = ~kind.are_wider(listing.table(kind).keys, shortest[kind.version == 6])
    return _split(listing, fine)


def _split(listing: Listing, chosen: dict[Kind, Column]) -> tuple[Listing, Listing]:
    if all(which.all() for which in chosen.values()):
        return listing, Listing.empty()
    rest = {kind: listing.table(kind).taken(~which) for kind, which in chosen.items()}
    return having(listing, {kind: listing.table(kind).taken(which) for kind, which in chosen.items()}), having(
        listing, rest
    )


def _say_the_same(one: Listing, ones: Column, other: Listing, others: Column) -> Column:
    """Whether reasons by their numbers are the same texts."""
    known: dict[str, int] = {}

    def texts(listing: Listing, numbers: Column) -> Column:
        found = np.zeros(len(listing.reasons) + 1, np.intp)
        found[numbers] = 1
        distinct = np.flatnonzero(found)
        said = map(listing.reasons.__getitem__, distinct.tolist())
        found[distinct] = [known.setdefault(text, len(known)) for text in said]
        return found[numbers]

    same: Column = texts(one, ones) == texts(other, others)
    return same


def _or_none(column: Column, fill: float) -> Column | None:
    return None if bool((column == fill).all()) else column
