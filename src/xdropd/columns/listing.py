"""A listing: all that one text, or one caller of `block`, lists, as columns.

A `Table` is one family's prefixes (an address is one of full length) or its ranges, ascending, with what else was said
of each entry beside it. Values that are made once and never change: whoever is given one may keep it.
Not here: any reading, any file, the clock (`in_force` is told the time), and what an entry means.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Self

import numpy as np

from xdropd.columns.prefixes import FAMILIES, Column, find, first_of_each, order_of_equals, runs
from xdropd.columns.versions import SELECTED

NEVER = float("inf")
_ROWS_AT_ONCE = 4096
_REASONS_AT_LEAST = 1024


class Kind(NamedTuple):
    """Which entries of a listing: prefixes (addresses are some) or ranges, of one family, or selections.

    `is_range`: several prefixes may be one entry, which counts for all of them.
    """

    version: int
    is_range: bool

    @property
    def key_type(self) -> np.dtype[Any]:
        """What their keys are."""
        if self.version == SELECTED:
            return np.dtype(np.uint64)
        family = FAMILIES[self.version]
        return family.range_type if self.is_range else family.key_type

    def ends(self, keys: Column) -> tuple[Column, Column]:
        """First and last addresses. Not of selections."""
        family = FAMILIES[self.version]
        return family.ends_of_ranges(keys) if self.is_range else (family.firsts(keys), family.lasts(keys))

    def are_wider(self, keys: Column, length: int) -> Column:
        """Which have more addresses than a prefix of so many bits. Not of selections."""
        family = FAMILIES[self.version]
        if self.is_range:
            return family.behind(*self.ends(keys)) > family.address((1 << family.width - length) - 1)
        return family.lengths(keys) < length


SELECTIONS = Kind(SELECTED, is_range=True)
SPANS = tuple(Kind(version, is_range) for is_range in (False, True) for version in FAMILIES)
"""The kinds whose entries are addresses from one to another: what callers list is of these."""
KINDS = (*SPANS, SELECTIONS)


class Row(NamedTuple):
    """One entry as it was written: all addresses of `version` from `first` to `last`; both are a selection's code."""

    version: int
    first: int
    last: int
    line: int = 0
    """Counted from 1; 0 where there is none."""
    reason: str = ""
    until: float | None = None
    """Seconds since the epoch at which it is over; None: never."""


@dataclass(frozen=True, slots=True)
class Reasons:
    """Texts by number, packed; number 0 is the empty text, so it need not be kept."""

    packed: bytes = b""
    ends: Column = field(default_factory=lambda: np.zeros(1, np.uint32))

    @classmethod
    def of(cls, texts: Iterable[str]) -> Self:
        """Texts that get the numbers 1, 2, ..."""
        encoded = [text.encode("utf-8", "surrogateescape") for text in texts]
        ends = np.zeros(len(encoded) + 1, np.uint32)
        np.cumsum(np.fromiter(map(len, encoded), np.uint32, len(encoded)), out=ends[1:])
        return cls(b"".join(encoded), ends)

    def __getitem__(self, number: int) -> str:
        if not number:
            return ""
        return self.packed[self.ends[number - 1] : self.ends[number]].decode("utf-8", "surrogateescape")

    def __len__(self) -> int:
        return len(self.ends) - 1

    def followed_by(self, others: Reasons) -> Reasons:
        """These, and behind them others, whose numbers go on from there."""
        return Reasons(self.packed + others.packed, np.concatenate((self.ends, others.ends[1:] + self.ends[-1])))


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Entries of one kind. `keys` ascend; the columns beside run parallel to it, and None stands for "nothing said".

    Equal keys may stand together where their ends differ, in the order of their lines; `in_force` leaves one of each.
    """

    keys: Column
    lines: Column
    """uint32, counted from 1; 0 where there is none."""
    reasons: Column | None = None
    """uint32, numbers of the listing's reasons."""
    untils: Column | None = None
    """float64, seconds since the epoch; NEVER where there is no end."""

    def __len__(self) -> int:
        return len(self.keys)

    def taken(self, rows: Column | slice) -> Table:
        """Some of the rows, which must ascend."""
        return Table(
            self.keys[rows],
            self.lines[rows],
            None if self.reasons is None else self.reasons[rows],
            None if self.untils is None else self.untils[rows],
        )

    def in_force(self, now_s: float) -> Table:
        """What has not ended, each key once: of several in a text the first counts."""
        table = self
        if table.untils is not None and len(table):
            lasting = table.untils > now_s
            if not lasting.all():
                table = table.taken(lasting)
            distinct = first_of_each(table.keys)
            if not distinct.all():
                table = table.taken(distinct)
        return table

    @property
    def next_end_s(self) -> float:
        """When the first of these entries ends."""
        return float(self.untils.min()) if self.untils is not None and len(self.untils) else NEVER

    def row_of(self, key: Column) -> int | None:
        """The row of a key, given as a column of one."""
        rows, found = find(self.keys, key)
        return int(rows[0]) if found[0] else None


_EMPTY = {
    is_range: {
        version: Table(np.zeros(0, Kind(version, is_range).key_type), np.zeros(0, np.uint32)) for version in FAMILIES
    }
    for is_range in (False, True)
}
"""Tables of nothing, by whether they are of ranges, and by version."""


class Members(NamedTuple):
    """The prefixes of one family that selections are made of, ascending, and the row of the selection of each.

    Of one selection they are disjoint; a prefix that several have stands here for each of them.
    """

    keys: Column
    rows: Column


@dataclass(frozen=True, slots=True, eq=False)
class Selections:
    """Entries that are given by what they select of a database: one each, as large as all its members together.

    The keys of the table are codes, `lines` the order in which they were written. Members by version.
    """

    table: Table
    members: dict[int, Members]
    sizes: tuple[int, ...]
    """How many addresses each has, by row of the table."""

    @classmethod
    def of(cls, codes: Column, lines: Column, members: dict[int, Members]) -> Self:
        """Selections by their codes, which ascend."""
        sizes = [0] * len(codes)
        for version, (keys, rows) in members.items():
            width = FAMILIES[version].width
            counts = np.bincount(
                rows.astype(np.int64) * (width + 1) + FAMILIES[version].lengths(keys),
                minlength=len(codes) * (width + 1),
            )
            for at in np.flatnonzero(counts).tolist():
                row, length = divmod(at, width + 1)
                sizes[row] += int(counts[at]) << width - length
        return cls(Table(codes, lines), members, tuple(sizes))


_NOTHING_SELECTED = Selections(
    Table(np.zeros(0, np.uint64), np.zeros(0, np.uint32)),
    {version: Members(family.empty_keys(), np.zeros(0, np.uint32)) for version, family in FAMILIES.items()},
    (),
)


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Listing:
    """All tables of one text, by version, or what is selected of a database."""

    prefixes: dict[int, Table]
    ranges: dict[int, Table]
    reasons: Reasons = field(default_factory=Reasons)
    selections: Selections = _NOTHING_SELECTED

    @classmethod
    def empty(cls) -> Self:
        """A listing of nothing."""
        return cls(_EMPTY[False], _EMPTY[True])

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Listing:
        """A listing of these entries, in the order of their text."""
        builder = Builder()
        for row in rows:
            builder.add(row)
        return builder.listing()

    @classmethod
    def of_selections(cls, selections: Selections) -> Self:
        """A listing of nothing else."""
        return cls(_EMPTY[False], _EMPTY[True], selections=selections)

    @property
    def tables(self) -> tuple[Table, ...]:
        """All of them."""
        return (*self.prefixes.values(), *self.ranges.values(), self.selections.table)

    def table(self, kind: Kind) -> Table:
        """The entries of one kind."""
        if kind == SELECTIONS:
            return self.selections.table
        return (self.ranges if kind.is_range else self.prefixes)[kind.version]

    @property
    def count(self) -> int:
        """Entries: a network is one, and so is a range, and a selection."""
        return sum(map(len, self.tables))

    @property
    def weight(self) -> int:
        """How many rows there are to compute with: entries, and what selections are made of."""
        return self.count + sum(len(members.keys) for members in self.selections.members.values())

    @property
    def next_end_s(self) -> float:
        """When the first entry ends."""
        return min(table.next_end_s for table in self.tables)

    @property
    def is_distinct(self) -> bool:
        """Whether no entry is there twice, with another end."""
        return all(bool(first_of_each(table.keys).all()) for table in self.tables if table.untils is not None)

    def from_lines(self, kept: Sequence[range], moved: Sequence[int]) -> Listing:
        """The entries in these lines, which ascend, of each the number of its line so much higher."""
        now = np.zeros(1 + max(int(table.lines.max(initial=0)) for table in self.tables), np.uint32)
        for lines, shift in zip(kept, moved, strict=True):
            now[lines.start : lines.stop] = np.arange(lines.start + shift, lines.stop + shift)

        def of(table: Table) -> Table:
            lines = now[table.lines]
            is_kept = lines > 0
            return replace(table if is_kept.all() else table.taken(is_kept), lines=lines[is_kept])

        return replace(
            self,
            prefixes={version: of(table) for version, table in self.prefixes.items()},
            ranges={version: of(table) for version, table in self.ranges.items()},
        )

    def last_end_s(self, now_s: float) -> float:
        """When the last of those entries ended that are over; -NEVER where none is."""
        untils = [table.untils for table in self.tables if table.untils is not None]
        return max((float(each[each <= now_s].max(initial=-NEVER)) for each in untils), default=-NEVER)

    def in_force(self, now_s: float) -> Listing:
        """What has not ended, each entry once."""
        prefixes = {version: table.in_force(now_s) for version, table in self.prefixes.items()}
        ranges = {version: table.in_force(now_s) for version, table in self.ranges.items()}
        new = replace(self, prefixes=prefixes, ranges=ranges)
        return self if all(one is other for one, other in zip(new.tables, self.tables, strict=True)) else new

    def ended(self, now_s: float) -> Iterator[Row]:
        """The entries that are over."""
        for kind in KINDS:
            untils = self.table(kind).untils
            if untils is not None:
                yield from self.some_rows(kind.version, np.flatnonzero(untils <= now_s), is_range=kind.is_range)

    def without_lines(self) -> Listing:
        """The same, of which nobody knows in which lines it stood."""
        tables = {kind: self.table(kind) for kind in SPANS}
        return having(
            self, {kind: replace(each, lines=np.zeros(len(each), np.uint32)) for kind, each in tables.items()}
        )

    def first_rows(self, at_most: int) -> list[Row]:
        """So many entries, in the order of their lines."""
        found: list[Row] = []
        for kind in KINDS:
            lines = self.table(kind).lines
            rows = np.argsort(lines, kind="stable")[:at_most]
            found += self.some_rows(kind.version, rows, is_range=kind.is_range)
        return sorted(found, key=lambda row: row.line)[:at_most]

    def row(self, version: int, first: int, last: int) -> Row | None:
        """The entry with exactly these addresses, or the selection with this code."""
        if version == SELECTED:
            at = self.selections.table.row_of(np.array([first], np.uint64))
            return None if at is None else Row(version, first, last)
        family = FAMILIES[version]
        length = prefix_length(version, first, last)
        if length is not None:
            table, at = self.prefixes[version], self.prefixes[version].row_of(family.key(first, length))
        else:
            table, at = self.ranges[version], self.ranges[version].row_of(family.range_key(first, last))
        return None if at is None else self._row(table, at, version, first, last)

    def rows(self) -> Iterator[Row]:
        """Every entry: prefixes before ranges, IPv4 before IPv6, ascending."""
        for version, table in self.prefixes.items():
            for at in range(0, len(table), _ROWS_AT_ONCE):
                yield from self._rows(version, table.taken(slice(at, at + _ROWS_AT_ONCE)), is_range=False)
        for version, table in self.ranges.items():
            for at in range(0, len(table), _ROWS_AT_ONCE):
                yield from self._rows(version, table.taken(slice(at, at + _ROWS_AT_ONCE)), is_range=True)
        yield from self._rows(SELECTED, self.selections.table, is_range=True)

    def some_rows(self, version: int, rows: Column, *, is_range: bool) -> Iterator[Row]:
        """The entries in some rows of a table."""
        table = self.table(Kind(version, is_range))
        for at in range(0, len(rows), _ROWS_AT_ONCE):
            yield from self._rows(version, table.taken(rows[at : at + _ROWS_AT_ONCE]), is_range=is_range)

    def rank_of(self, row: Row) -> tuple[int, int]:
        """How many addresses one of these entries has, and its place in the text: the lower one is credited."""
        if row.version != SELECTED:
            return row.last - row.first + 1, row.line
        at = int(self.selections.table.keys.searchsorted(np.uint64(row.first)))
        return self.selections.sizes[at], int(self.selections.table.lines[at])

    def _rows(self, version: int, table: Table, *, is_range: bool) -> Iterator[Row]:
        if version == SELECTED:
            yield from (Row(version, code, code) for code in table.keys.tolist())
            return
        family = FAMILIES[version]
        firsts, lasts = Kind(version, is_range).ends(table.keys)
        for at, (first, last) in enumerate(zip(family.ints(firsts), family.ints(lasts), strict=True)):
            yield self._row(table, at, version, first, last)

    def _row(self, table: Table, at: int, version: int, first: int, last: int) -> Row:
        reason = "" if table.reasons is None else self.reasons[int(table.reasons[at])]
        until = None if table.untils is None or table.untils[at] == NEVER else float(table.untils[at])
        return Row(version, first, last, int(table.lines[at]), reason, until)


class Builder:
    """Collects entries in the order of their text; `listing` sorts them."""

    def __init__(self) -> None:
        self._parts: dict[tuple[int, bool], list[tuple[Column, Column, Column | None, Column | None]]] = {}
        self._rows: dict[tuple[int, bool], list[tuple[int, int, int, int, float]]] = {}
        self._reasons: dict[str, int] = {}
        self.count = 0

    def add(self, row: Row) -> None:
        """One entry."""
        length = prefix_length(row.version, row.first, row.last)
        second = row.last if length is None else length
        self._rows.setdefault((row.version, length is None), []).append(
            (row.first, second, row.line, self.reason(row.reason), NEVER if row.until is None else row.until)
        )
        self.count += 1

    def reason(self, text: str) -> int:
        """The number of a reason."""
        return self._reasons.setdefault(text, len(self._reasons) + 1) if text else 0

    def prefixes(
        self,
        version: int,
        keys: Column,
        lines: Column,
        reasons: Column | None = None,
        untils: Column | None = None,
    ) -> None:
        """Many prefixes, by their keys, in the order of the text."""
        self._parts.setdefault((version, False), []).append((keys, lines, reasons, untils))
        self.count += len(keys)

    def ranges(
        self,
        version: int,
        keys: Column,
        lines: Column,
        reasons: Column | None = None,
        untils: Column | None = None,
    ) -> None:
        """Many ranges, none of them a prefix, by their keys, in the order of the text."""
        self._parts.setdefault((version, True), []).append((keys, lines, reasons, untils))
        self.count += len(keys)

    def listing(self) -> Listing:
        """All that was added; this builder is not used again."""
        tables = {
            is_range: {version: self._table(version, is_range) for version in FAMILIES} for is_range in (False, True)
        }
        return Listing(tables[False], tables[True], Reasons.of(self._reasons))

    def _table(self, version: int, is_range: bool) -> Table:
        parts = self._parts.pop((version, is_range), [])
        if rows := self._rows.pop((version, is_range), []):
            parts.append(_packed(version, is_range, rows))
        if not parts:
            return _EMPTY[is_range][version]
        keys = _joined([part[0] for part in parts])
        lines = _joined([part[1] for part in parts])
        reasons = _joined_or_none([(part[0], part[2]) for part in parts], 0, np.uint32)
        untils = _joined_or_none([(part[0], part[3]) for part in parts], NEVER, np.float64)
        parts.clear()
        return sorted_table(Table(keys, lines, reasons, untils))


def sorted_table(table: Table) -> Table:
    """The same entries in the order of their keys, without those that could never count."""
    if not (len(table) < 2 or bool((table.keys[1:] > table.keys[:-1]).all())):
        table = table.taken(order_of_equals(table.keys, table.lines))
    if table.untils is None or bool((table.untils == NEVER).all()):
        table = replace(table, untils=None)
        distinct = first_of_each(table.keys)
        table = table if distinct.all() else table.taken(distinct)
    if table.reasons is not None and not table.reasons.any():
        table = replace(table, reasons=None)
    return table


def prefix_length(version: int, first: int, last: int) -> int | None:
    """The length of the prefix that has exactly these addresses; None where it takes more than one."""
    differing = first ^ last
    if differing & (differing + 1) or first & differing:
        return None
    return FAMILIES[version].width - differing.bit_length()


def _packed(
    version: int, is_range: bool, rows: Sequence[tuple[int, int, int, int, float]]
) -> tuple[Column, Column, Column, Column]:
    family, size = FAMILIES[version], FAMILIES[version].width // 8
    firsts = family.addresses(b"".join(row[0].to_bytes(size, "big") for row in rows))
    if is_range:
        keys = family.range_keys(firsts, family.addresses(b"".join(row[1].to_bytes(size, "big") for row in rows)))
    else:
        keys = family.keys(firsts, np.array([row[1] for row in rows], np.uint8))
    return (
        keys,
        np.array([row[2] for row in rows], np.uint32),
        np.array([row[3] for row in rows], np.uint32),
        np.array([row[4] for row in rows], np.float64),
    )


def _joined(columns: list[Column]) -> Column:
    return columns[0] if len(columns) == 1 else np.concatenate(columns)


def _joined_or_none(parts: list[tuple[Column, Column | None]], fill: float, kind: type) -> Column | None:
    """One column of several parts, which come with their keys; `fill` where one says nothing, None where all do."""
    if all(column is None for _, column in parts):
        return None
    return _joined([np.full(len(keys), fill, kind) if column is None else column for keys, column in parts])


def combined(old: Listing, new: Listing) -> Listing:
    """All of both; where both have an entry, that of `new`."""
    if len(old.reasons) > 2 * old.count + _REASONS_AT_LEAST:  # most of them are of entries that are gone
        old = _with_needed_reasons(old)
    reasons = old.reasons.followed_by(new.reasons)
    shift = len(old.reasons)

    def both(mine: Table, theirs: Table) -> Table:
        if not len(theirs):
            return mine
        kept = mine.taken(~_among(mine.keys, theirs.keys))
        keys = np.concatenate((kept.keys, theirs.keys))
        rows = np.argsort(keys, kind="stable")
        untils = None
        if kept.untils is not None or theirs.untils is not None:
            untils = np.concatenate((ends_of(kept), ends_of(theirs)))[rows]
        numbers = None
        if kept.reasons is not None or theirs.reasons is not None:
            shifted = numbers_of(theirs)
            shifted = np.where(shifted > 0, shifted + np.uint32(shift), shifted)
            numbers = np.concatenate((numbers_of(kept), shifted))[rows]
        return Table(keys[rows], np.concatenate((kept.lines, theirs.lines))[rows], numbers, untils)

    return Listing(
        {version: both(old.prefixes[version], new.prefixes[version]) for version in FAMILIES},
        {version: both(old.ranges[version], new.ranges[version]) for version in FAMILIES},
        reasons,
    )


def without(old: Listing, gone: Listing) -> Listing:
    """The entries of `old` whose addresses are not an entry of `gone`."""

    def left(mine: Table, theirs: Table) -> Table:
        return mine.taken(~_among(mine.keys, theirs.keys)) if len(theirs) and len(mine) else mine

    return replace(
        old,
        prefixes={version: left(old.prefixes[version], gone.prefixes[version]) for version in FAMILIES},
        ranges={version: left(old.ranges[version], gone.ranges[version]) for version in FAMILIES},
    )


def _among(keys: Column, others: Column) -> Column:
    """Whether each key is among `others`; both ascend, and may stand there more than once."""
    found = np.zeros(len(keys), bool)
    found[runs(np.searchsorted(keys, others), np.searchsorted(keys, others, side="right"))] = True
    return found


def ends_of(table: Table) -> Column:
    """The ends of all entries, NEVER where there is none."""
    return np.full(len(table), NEVER) if table.untils is None else table.untils


def numbers_of(table: Table) -> Column:
    """The reasons of all entries, by number."""
    return np.zeros(len(table), np.uint32) if table.reasons is None else table.reasons


def having(listing: Listing, tables: Mapping[Kind, Table]) -> Listing:
    """A listing with these tables of spans and its own reasons."""
    return replace(
        listing,
        prefixes={version: tables[Kind(version, is_range=False)] for version in FAMILIES},
        ranges={version: tables[Kind(version, is_range=True)] for version in FAMILIES},
    )


def _with_needed_reasons(listing: Listing) -> Listing:
    """The same, with each reason that an entry has once."""
    used = np.unique(np.concatenate([numbers_of(table) for table in listing.tables]))
    numbers: dict[str, int] = {"": 0}
    known = [numbers.setdefault(text, len(numbers)) for text in map(listing.reasons.__getitem__, used.tolist())]
    now = np.zeros(len(listing.reasons) + 1, np.uint32)
    now[used] = known
    tables = {
        kind: table if table.reasons is None else replace(table, reasons=now[table.reasons])
        for kind, table in ((kind, listing.table(kind)) for kind in SPANS)
    }
    return replace(having(listing, tables), reasons=Reasons.of(list(numbers)[1:]))
