"""Which entry decides: block minus allow minus guard, each address credited to the entry with the fewest addresses.

Pure: no clock, no file, no kernel. A `State` is what all sources list, in order of precedence, and what is exempt.
`records` is what the kernel's tables should hold for it, or for those prefixes of it that a change can touch.

The records rest on longest match: of all prefixes in the tables, the longest that holds an address decides. An address
or a network that is blocked therefore needs no contest with what holds it, for it has fewer addresses. Pieces do, of
ranges and of selections (a network may hold a piece and be smaller than all of it); so does all that only monitors, for
it gives way to whatever blocks, however large; and exempt prefixes, which matter within something listed only.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from xdropd.columns.listing import NEVER, Listing, Row
from xdropd.columns.nesting import ancestors, holding, least_above, lengths_in, parents
from xdropd.columns.prefixes import FAMILIES, Column, find, first_of_each, match, runs, union
from xdropd.rules.allow import Exempt

EXEMPT = 0
"""The number that stands for no source: a record that lets its addresses pass."""

MONITORS = np.uint32(1 << 31)
"""Set in a record beside the number of its source: its addresses pass, and are counted."""

_EXEMPT_RANK = -1
_NOBODY = np.iinfo(np.int64).max
_SMALL = 64  # rows of a column that are compared sooner than it is searched
_ALL_AT_ONCE = 8  # looking for the ancestors of so many prefixes costs as much as sorting all networks in between


class Wholes(NamedTuple):
    """What is one entry in several prefixes: the ranges of one family, or selections, by rows of their table.

    `keys` are those of ranges; `selected` has the sizes of selections.
    """

    version: int
    keys: Column
    lines: Column
    selected: tuple[int, ...]

    @classmethod
    def of(cls, version: int, listing: Listing) -> Wholes:
        """Of a listing, which has ranges or selections, never both."""
        selections, ranges = listing.selections, listing.ranges[version]
        if selections.sizes:
            keys = FAMILIES[version].selection_keys(selections.table.keys)
            return cls(version, keys, selections.table.lines, selections.sizes)
        return cls(version, ranges.keys, ranges.lines, ())

    def sizes(self, rows: Column) -> Column:
        """As `_sizes` has them."""
        if self.selected:
            most = (1 << 128) - 1
            behind = (min(max(0, self.selected[row] - 1), most) for row in rows.tolist())
            return FAMILIES[6].words(FAMILIES[6].addresses(b"".join(each.to_bytes(16, "big") for each in behind)))
        family = FAMILIES[self.version]
        return _sizes(self.version, family.behind(*family.ends_of_ranges(self.keys[rows])))


@dataclass(frozen=True, slots=True, eq=False)
class Pieces:
    """The prefixes of wholes, ascending, with repetitions; `rows` tells of which whole each is."""

    keys: Column
    rows: Column
    distinct: Column
    lengths: list[int]

    @classmethod
    def of(cls, version: int, listing: Listing) -> Pieces:
        """The fewest prefixes that cover exactly each range, or those that are selected."""
        family, ranges, keys = FAMILIES[version], listing.ranges[version].keys, listing.selections.members[version].keys
        if len(keys):
            rows = listing.selections.members[version].rows
        elif len(ranges):
            rows, keys = family.split(*family.ends_of_ranges(ranges))
        else:  # as most sources, and every single block
            return cls(family.empty_keys(), np.zeros(0, np.uint32), family.empty_keys(), [])
        distinct = first_of_each(keys)
        distinct_keys = keys if distinct.all() else keys[distinct]
        return cls(keys, rows, distinct_keys, lengths_in(version, distinct_keys))


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """What one text or one caller of `block` lists now. `number` is the kernel's name for it.

    `action`: "block", or "monitor" where packets pass and are counted.
    `written` is the listing with what has ended, of which `listing` is the rest, from `since_s` on.
    """

    name: str
    number: int
    listing: Listing
    reason: str = ""
    is_file: bool = True
    action: str = "block"
    written: Listing | None = None
    since_s: float = -NEVER
    pieces: dict[int, Pieces] = field(init=False)
    lengths: dict[int, list[int]] = field(init=False)
    """Of networks: the lengths that occur."""
    addresses: dict[int, int] = field(init=False)
    """How many entries are one address."""
    contested: dict[int, Column] = field(init=False)
    """Prefixes, ascending, that have a record only where they win against whatever else holds them."""

    @property
    def monitors(self) -> bool:
        """Whether nothing is dropped on its account."""
        return self.action == "monitor"

    @property
    def mark(self) -> np.uint32:
        """Its number as records have it."""
        return np.uint32(self.number) | MONITORS if self.monitors else np.uint32(self.number)

    def is_of(self, written: Listing, now_s: float) -> bool:
        """Whether this is what is in force of a listing at that time, by whatever clock."""
        return self.written is written and self.since_s <= now_s < self.listing.next_end_s

    def __post_init__(self) -> None:
        pieces = {version: Pieces.of(version, self.listing) for version in FAMILIES}
        counts = {
            version: np.bincount(family.lengths(self.listing.prefixes[version].keys), minlength=family.width + 1)
            for version, family in FAMILIES.items()
        }
        of_networks = {version: np.flatnonzero(each[:-1]).tolist() for version, each in counts.items()}
        contested = {version: each.distinct for version, each in pieces.items()}
        if self.monitors:
            contested = {
                version: union(keys, self.listing.prefixes[version].keys) for version, keys in contested.items()
            }
        object.__setattr__(self, "pieces", pieces)
        object.__setattr__(self, "contested", contested)
        object.__setattr__(self, "lengths", of_networks)
        object.__setattr__(self, "addresses", {version: int(each[-1]) for version, each in counts.items()})

    def pieces_of(self, version: int, wholes: Column) -> Column:
        """The pieces of some wholes, by their keys, which ascend: ascending, with repetitions."""
        pieces, known = self.pieces[version], Wholes.of(version, self.listing).keys
        is_one = np.zeros(len(known), bool)
        is_one[match(known, wholes)[0]] = True
        keys: Column = pieces.keys[is_one[pieces.rows]]
        return keys


class Records(NamedTuple):
    """What the kernel's tables should hold of one family: ascending prefixes, and what each leads to.

    `sources`: the number of the source that is credited, with MONITORS where the addresses pass all the same; EXEMPT
    where they pass. `ranges`: the key of the range or selection of which a prefix is a piece; zero: it is an entry.
    """

    keys: Column
    sources: Column
    ranges: Column

    @property
    def numbers(self) -> Column:
        """The numbers of sources alone."""
        return self.sources & ~MONITORS

    @property
    def monitor(self) -> Column:
        """Whether the addresses pass and are counted."""
        return self.sources >= MONITORS

    def taken(self, rows: Column) -> Records:
        """Some of them."""
        return Records(self.keys[rows], self.sources[rows], self.ranges[rows])


class State:
    """Everything that is listed and exempt at one moment."""

    def __init__(self, sources: Iterable[Source] = (), exempt: Exempt | None = None) -> None:
        self.sources = tuple(sources)
        self.exempt = exempt or Exempt()

    @cached_property
    def count(self) -> int:
        """Entries of all sources."""
        return sum(source.listing.count for source in self.sources)

    @cached_property
    def addresses(self) -> dict[int, int]:
        """How many of them are one address, by version."""
        return {version: sum(source.addresses[version] for source in self.sources) for version in FAMILIES}

    @property
    def next_end_s(self) -> float:
        """When the next entry ends, exempt ones included."""
        listings = [*(each.listing for each in self.sources), *(each.listing for each in self.exempt.sources)]
        return min((listing.next_end_s for listing in listings), default=NEVER)

    # ---- for a person who asks ----

    def holder(self, version: int, address: int) -> tuple[Source, Row] | None:
        """The entry that an address is credited to, whether or not something exempts it."""
        held = [
            (source.monitors, size, order, line, source, row)
            for order, source in enumerate(self.sources)
            for row in holding(source.listing, version, address, address)
            for size, line in (source.listing.rank_of(row),)
        ]
        return min(held, key=lambda each: each[:4])[4:] if held else None

    # ---- for the kernel ----

    def records(self, version: int, touched: Column | None = None) -> Records:
        """The record of every prefix that has one, or of those among `touched`, which ascend."""
        family = FAMILIES[version]
        if touched is not None and not len(touched):
            return Records(touched, np.zeros(0, np.uint32), np.zeros(0, family.range_type))
        keys, sources = self._owned(version, touched)
        exempt = self.exempt.holds(version, keys)
        if exempt.any():
            keys, sources = keys[~exempt], sources[~exempt]
        owned = Records(keys, sources, np.zeros(len(keys), family.range_type))
        contested = self._contested(version, touched)
        if contested is None:
            return owned
        alone = np.ones(len(keys), bool)
        alone[match(keys, contested.keys)[0]] = False  # a selection of one prefix and a network are equals
        owned = owned.taken(alone)
        merged = Records(*(np.concatenate(pair) for pair in zip(owned, contested, strict=True)))
        return merged.taken(np.argsort(merged.keys, kind="stable"))

    def _owned(self, version: int, touched: Column | None) -> tuple[Column, Column]:
        """Addresses and networks that are blocked as such: (ascending keys, number of the first source of each)."""
        tables = [(each.number, each.listing.prefixes[version].keys) for each in self.sources if not each.monitors]
        if touched is not None:
            tables = [(number, keys[match(keys, touched)[0]]) for number, keys in _reached(tables, touched)]
        tables = [(number, keys) for number, keys in tables if len(keys)]
        if not tables:
            return FAMILIES[version].empty_keys(), np.zeros(0, np.uint32)
        if len(tables) == 1:
            number, keys = tables[0]
            return keys, np.full(len(keys), number, np.uint32)
        keys = np.concatenate([keys for _, keys in tables])
        numbers = np.repeat(np.array([number for number, _ in tables], np.uint32), [len(keys) for _, keys in tables])
        order = np.argsort(keys, kind="stable")  # so that of equal keys the first source's comes first
        keys = keys[order]
        first = first_of_each(keys)
        return keys[first], numbers[order][first]

    def _contested(self, version: int, touched: Column | None) -> Records | None:
        """What is contested and exempt prefixes with what each leads to, without those that make no difference."""
        exempt = self.exempt.prefixes[version]
        contested = (source.contested[version] for source in self.sources)
        at_stake = [exempt, *(keys for keys in contested if len(keys))]
        if touched is not None:
            at_stake = [keys[match(keys, touched)[0]] for keys in at_stake if len(keys)]
            at_stake.append(touched[:0])
        stakes = union(*at_stake)
        if not len(stakes):
            return None
        nodes = union(stakes, *self._above(version, stakes, is_all=touched is None))
        contest = _Contest(version, nodes)
        for order, source in enumerate(self.sources):
            contest.enter(order, source)
        ranks = contest.ranks()
        ranks[match(nodes, exempt)[0]] = _EXEMPT_RANK
        above = parents(version, nodes)
        least = least_above(above, ranks)
        outer = np.where(above >= 0, least[above], _NOBODY)
        rows, _ = find(nodes, stakes)
        differ = (least[rows] != outer[rows]) & ~((least[rows] == _EXEMPT_RANK) & (outer[rows] == _NOBODY))
        rows = rows[differ]
        return contest.records(rows, least[rows])

    def _above(self, version: int, stakes: Column, *, is_all: bool) -> Iterable[Column]:
        """Whatever holds any of these prefixes, perhaps more. `is_all`: whatever is contested or exempt is at stake."""
        if not is_all:
            yield _above_some(version, self.exempt.prefixes[version], self.exempt.lengths[version], stakes)
        for source in self.sources:
            pieces = source.pieces[version]
            if not is_all:
                yield _above_some(version, pieces.distinct, pieces.lengths, stakes)
            yield _above_some(version, source.listing.prefixes[version].keys, source.lengths[version], stakes)


class _Contest:
    """Who wins at each of some prefixes, `nodes`: who blocks, has fewest addresses, is first."""

    def __init__(self, version: int, nodes: Column) -> None:
        self._version = version
        self._nodes = nodes
        self._monitors: list[Column] = []
        self._sizes: list[Column] = []
        self._orders: list[Column] = []
        self._lines: list[Column] = []
        self._sources: list[Column] = []
        self._ranges: list[Column] = []
        self._count = 0
        self._hits: list[tuple[Column, Column]] = []  # (rows of nodes, contestants there)
        self._by_rank = np.zeros(0, np.int64)

    def enter(self, order: int, source: Source) -> None:
        """A source's addresses and networks among the nodes, and the wholes of which a piece is."""
        family, table = FAMILIES[self._version], source.listing.prefixes[self._version]
        rows, own_rows = match(self._nodes, table.keys)
        if len(rows):
            nothing = np.zeros(len(rows), family.range_type)
            sizes = _sizes(self._version, family.host_masks(self._nodes[rows]))
            self._hits.append((rows, self._enter(order, source, sizes, table.lines[own_rows], nothing)))
        pieces = source.pieces[self._version]
        if not len(pieces.keys):
            return
        wholes = Wholes.of(self._version, source.listing)
        rows, own_rows = _match_repeated(self._nodes, pieces.keys)
        is_here = np.zeros(len(wholes.keys), bool)
        is_here[pieces.rows[own_rows]] = True
        here = np.flatnonzero(is_here)
        entered = self._enter(order, source, wholes.sizes(here), wholes.lines[here], wholes.keys[here])
        self._hits.append((rows, entered[(np.cumsum(is_here) - 1)[pieces.rows[own_rows]]]))

    def _enter(self, order: int, source: Source, sizes: Column, lines: Column, ranges: Column) -> Column:
        count = len(lines)
        self._monitors.append(np.full(count, source.monitors))
        self._sizes.append(sizes)
        self._orders.append(np.full(count, order, np.uint32))
        self._lines.append(lines)
        self._sources.append(np.full(count, source.mark, np.uint32))
        self._ranges.append(ranges)
        self._count += count
        return np.arange(self._count - count, self._count)

    def ranks(self) -> Column:
        """For each node the rank of its best contestant; ranks are distinct, the least wins."""
        found = np.full(len(self._nodes), _NOBODY, np.int64)
        if not self._hits:
            return found
        upper, lower = np.concatenate(self._sizes, axis=1)
        self._by_rank = np.lexsort(
            (np.concatenate(self._lines), np.concatenate(self._orders), lower, upper, np.concatenate(self._monitors))
        )
        rank_of = np.empty(self._count, np.int64)
        rank_of[self._by_rank] = np.arange(self._count)
        rows = np.concatenate([rows for rows, _ in self._hits])
        ranks = rank_of[np.concatenate([contestants for _, contestants in self._hits])]
        while len(rows):
            found[rows] = ranks  # of several for one row, the last one stays; the better ones are written again
            is_better = ranks < found[rows]
            rows, ranks = rows[is_better], ranks[is_better]
        return found

    def records(self, rows: Column, winners: Column) -> Records:
        """What the nodes in these rows lead to, by the ranks of those who win there."""
        sources = np.zeros(len(rows), np.uint32)
        ranges = np.zeros(len(rows), FAMILIES[self._version].range_type)
        listed = winners != _EXEMPT_RANK
        if listed.any():
            contestants = self._by_rank[winners[listed]]
            sources[listed] = np.concatenate(self._sources)[contestants]
            ranges[listed] = np.concatenate(self._ranges)[contestants]
        return Records(self._nodes[rows], sources, ranges)


def _above_some(version: int, known: Column, lengths: list[int], stakes: Column) -> Column:
    """Those of the prefixes `known` that hold any of `stakes`; all that may, where looking for them takes longer."""
    if len(stakes) * len(lengths) <= _ALL_AT_ONCE * len(known):
        return ancestors(version, known, lengths, stakes)
    family = FAMILIES[version]
    wide: Column = known[family.lengths(known) < family.width]
    return wide


def _sizes(version: int, behind: Column) -> Column:
    """How many addresses there are behind the first ones, in two words of 64 bits, the upper one first."""
    words = FAMILIES[version].words(behind)
    return words if len(words) > 1 else np.concatenate((np.zeros_like(words), words))


def _reached(tables: list[tuple[int, Column]], touched: Column) -> list[tuple[int, Column]]:
    """Those of many columns, each with its number, that may have any of these keys.

    There can be thousands of callers who list an entry or two: their columns are looked at together.
    """
    small = [at for at, (_, keys) in enumerate(tables) if 0 < len(keys) <= _SMALL]
    reached = np.array([len(keys) > _SMALL for _, keys in tables], bool)
    if small:
        owners = np.repeat(small, [len(tables[at][1]) for at in small])
        _, found = find(touched, np.concatenate([tables[at][1] for at in small]))
        reached[owners[found]] = True
    return [tables[at] for at in np.flatnonzero(reached).tolist()]


def _match_repeated(distinct: Column, repeated: Column) -> tuple[Column, Column]:
    """As `match`, where keys of the second column may stand there more than once."""
    if len(repeated) <= 4 * len(distinct):
        rows, found = find(distinct, repeated)
        return rows[found], np.flatnonzero(found)
    starts, stops = np.searchsorted(repeated, distinct), np.searchsorted(repeated, distinct, side="right")
    return np.repeat(np.arange(len(distinct)), stops - starts), runs(starts, stops)
