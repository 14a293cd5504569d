"""Entries to the wanted state: block minus allow minus guard, each address credited to the entry with the fewest.

Pure: no clock, no file, no kernel. A `Ruleset` holds what every source lists now. A `Layout` is what the kernel's maps
should hold for it, or for the part of it that a change can touch (a `Region`).

The layout rests on two facts. An address that is listed as such has the fewest addresses possible, so it goes into an
exact map that is asked first. Networks and ranges are cut into prefixes, and so is what is exempt: of all those
prefixes, the longest that holds an address lies within exactly the entries that hold the address, so the entry that
wins for the whole prefix wins for the address. A range costs at most two prefixes for each bit of an address, a hole
costs no more than itself, and nothing has to be cut out of anything.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Container, Generator, Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, compress, filterfalse, islice
from operator import ne
from typing import NamedTuple, TypeVar, cast

from xdropd.rules.intervals import Index, Union
from xdropd.text.addresses import WIDTH, Span, prefixes
from xdropd.text.entries import Column, Entry, Listing

VERSIONS = (4, 6)

_Item = TypeVar("_Item")

EVERYTHING = {version: Span(version, 0, (1 << bits) - 1) for version, bits in WIDTH.items()}

_SORTED_EDITS_AT_MOST = 256
_SORTED_AT_ONCE = 1 << 14  # below, buckets cost more than they save
_AS_LONG_AS_READING = 50  # lines: to look for one address among the sorted ones
_WINDOWS_AT_MOST = 16
_WINDOWS_LOOKED_AT = 1000
_KEYS_A_STEP = 20_000
_FEW_KEYS = 16
_CALLERS_A_STEP = 256
_ENTRIES_A_STEP = 2000


class Prefix(NamedTuple):
    """A prefix as the kernel's maps know it; the bits behind its length are zero."""

    version: int
    first: int
    length_bits: int


class Listed(NamedTuple):
    """A network or range of one source: what a prefix leads to, and what is counted together."""

    span: Span
    source: int


class Members:
    """Plain addresses of one source and family: in the order of the file, and sorted as soon as somebody asks."""

    __slots__ = ("_sorted", "column")

    def __init__(self, column: Column, already_sorted: "array[int] | list[int] | None" = None) -> None:
        self.column = column
        self._sorted = already_sorted

    def __len__(self) -> int:
        return len(self.column)

    @property
    def sorted(self) -> "array[int] | list[int]":
        """The keys in ascending order, each once, however often the text lists it."""
        if self._sorted is None:
            self._sorted = _ascending(self.column.keys)
        return self._sorted

    def __contains__(self, key: int) -> bool:
        keys = self.sorted
        at = bisect_left(keys, key)
        return at < len(keys) and keys[at] == key

    def within(self, first: int, last: int) -> "Collection[int]":
        """The keys from `first` to `last`."""
        keys = self.sorted
        return keys[bisect_left(keys, first) : bisect_right(keys, last)]

    def line_of(self, key: int) -> int:
        """The first line that lists the key, which must be there."""
        keys, start = self.column.keys, 0
        if isinstance(keys, array):
            # Bytes are searched ten times as fast as numbers. Where what they find lies across two, numbers go on.
            start = keys.tobytes().find(array("I", [key]).tobytes()) // keys.itemsize
        return self.column.lines[keys.index(key, start)]

    def replaced_by(self, column: Column) -> tuple["Members", set[int], set[int]]:
        """Members of a new version of the text, the keys that are only in the old one, and those only in the new.

        Nearly always few lines changed: what is alike at both ends is passed over without a look at its keys, and the
        sorted keys are amended where they exist.
        """
        old, new = self.column.keys, column.keys
        head = _common_head(old, new)
        tail = _common_tail(old, new, head)
        gone, come = set(old[head : len(old) - tail]), set(new[head : len(new) - tail])
        gone, come = gone - come, come - gone
        if gone:
            gone -= gone.intersection(new)
        if come:
            come -= come.intersection(old)
        known = None if self._sorted is None else _amended(self._sorted, gone, come)
        return Members(column, known), gone, come


def _ascending(keys: "array[int] | list[int]") -> "array[int] | list[int]":
    """Addresses of one version, each once. Many of IPv4 octet by octet: half the time of one sort, and less memory."""
    if not isinstance(keys, array):
        return list(_each_once(sorted(keys)))
    if len(keys) < _SORTED_AT_ONCE:
        return array("I", _each_once(sorted(keys)))
    buckets = [array("I") for _ in range(256)]
    for key in keys:
        buckets[key >> 24].append(key)
    ascending = array("I")
    for bucket in buckets:
        ascending.extend(_each_once(sorted(bucket)))
    return ascending


def _each_once(ascending: list[int]) -> Iterator[int]:
    return compress(ascending, map(ne, ascending, chain((None,), ascending)))


def _common_head(old: "array[int] | list[int]", new: "array[int] | list[int]") -> int:
    low, high = 0, min(len(old), len(new))
    step = 4096
    while low + step <= high and old[low : low + step] == new[low : low + step]:
        low += step
    while low < high and old[low] == new[low]:
        low += 1
    return low


def _common_tail(old: "array[int] | list[int]", new: "array[int] | list[int]", head: int) -> int:
    low, high = 0, min(len(old), len(new)) - head
    step = 4096
    end_old, end_new = len(old), len(new)
    while low + step <= high and old[end_old - low - step : end_old - low] == new[end_new - low - step : end_new - low]:
        low += step
    while low < high and old[end_old - low - 1] == new[end_new - low - 1]:
        low += 1
    return low


def _amended(keys: "array[int] | list[int]", gone: set[int], come: set[int]) -> "array[int] | list[int] | None":
    """Ascending keys without those that are gone, and with those that have come; None where sorting anew is quicker."""
    if len(gone) + len(come) > _SORTED_EDITS_AT_MOST:
        return None
    amended = keys[:]
    for key in gone:
        del amended[bisect_left(amended, key)]
    for key in come:
        amended.insert(bisect_left(amended, key), key)
    return amended


class Kinds(NamedTuple):
    """How many entries there are of each kind."""

    addresses4: int = 0
    addresses6: int = 0
    networks4: int = 0
    networks6: int = 0

    @classmethod
    def of(cls, spans: Collection[Span]) -> "Kinds":
        """Of some entries; networks are ranges as well."""
        single6 = sum(version == 6 and first == last for version, first, last in spans)
        single4 = sum(version == 4 and first == last for version, first, last in spans)
        all4 = sum(version == 4 for version, _, _ in spans)
        return cls(single4, single6, all4 - single4, len(spans) - all4 - single6)


@dataclass(slots=True)
class Source:
    """What one text or one caller of `block` lists now.

    `number` is the kernel's name for it. `entries` is everything but plain addresses, by span, without what has
    ended; of several entries with one span in a text the first counts. `written` is all of that text's, in its order.
    """

    name: str
    number: int
    members: Mapping[int, Members]
    entries: MutableMapping[Span, Entry] = field(default_factory=dict)
    reason: str = ""
    is_file: bool = True
    written: tuple[Entry, ...] = ()
    kinds: Kinds | None = field(default=None, compare=False)
    """What `entries` consists of, where somebody has counted and nothing changed since."""

    @property
    def count(self) -> int:
        """Entries as written."""
        return sum(map(len, self.members.values())) + len(self.entries)

    @property
    def has_members(self) -> bool:
        """Whether there are plain addresses."""
        return any(map(len, self.members.values()))

    def has_address(self, version: int, key: int) -> bool:
        """Whether this source lists the address as such, not as part of a network."""
        return key in self.members[version] or (bool(self.entries) and Span(version, key, key) in self.entries)

    def addresses(self, version: int) -> list[int]:
        """Those of `entries` that are single addresses, in the order of the text."""
        return [first for of, first, last in self.entries if of == version and first == last]

    def among(self, version: int, keys: set[int]) -> set[int]:
        """Those of many addresses that this source lists as such. Takes no longer than going through the fewer does."""
        found: set[int] = set()
        members = self.members[version]
        if len(members) > _AS_LONG_AS_READING * len(keys):
            found.update(key for key in keys if key in members)
        elif members:
            found.update(keys.intersection(members.column.keys))
        if len(self.entries) > len(keys):
            found.update(key for key in keys if Span(version, key, key) in self.entries)
        elif self.entries:
            found.update(keys.intersection(self.addresses(version)))
        return found

    def entry(self, span: Span) -> Entry | None:
        """The entry with exactly this span, with its line."""
        members = self.members[span.version]
        own = self.entries.get(span)
        if span.is_address and span.first in members:
            plain = Entry(span, members.line_of(span.first), self.reason)
            return plain if own is None or plain.line < own.line else own
        return own

    def end(self, spans: Collection[Span], now_s: float) -> None:
        """Take out entries that are over; where a text mentions a span again, the next mention counts from now on."""
        self.kinds = None
        if self.is_file:
            self.entries = _lasting(self.written, now_s)
        else:  # the caller's own entries, one a span
            for span in spans:
                del self.entries[span]

    def all_entries(self) -> Iterator[Entry]:
        """Everything, plain addresses first, each part in the order of the file."""
        for version in VERSIONS:
            column = self.members[version].column
            for key, line in zip(column.keys, column.lines, strict=True):
                yield Entry(Span(version, key, key), line, self.reason)
        yield from self.entries.values()


def nothing() -> dict[int, Members]:
    """Members of a source without plain addresses."""
    return {4: Members(Column(array("I"), array("I"))), 6: Members(Column([], array("I")))}


@dataclass(slots=True)
class Change:
    """What a new version of a source touches, and how many entries came and went."""

    region: "Region" = field(default_factory=lambda: Region())
    added: int = 0
    removed: int = 0

    def update(self, other: "Change") -> None:
        """Add another change to this one."""
        self.region.update(other.region)
        self.added += other.added
        self.removed += other.removed


def source_of(name: str, number: int, listing: Listing, now_s: float, reason: str = "") -> Source:
    """A source made from a text; entries that have ended are left out."""
    members = {4: Members(listing.plain4), 6: Members(listing.plain6)}
    return Source(name, number, members, _lasting(listing.entries, now_s), reason, written=listing.entries)


def successor(before: Source, listing: Listing, now_s: float, reason: str) -> tuple[Source, Change]:
    """The same source after its text changed, and what that touches."""
    change = Change()
    members = {}
    for version, column in ((4, listing.plain4), (6, listing.plain6)):
        if before.members[version].column is column:
            members[version] = before.members[version]
            continue
        members[version], gone, come = before.members[version].replaced_by(column)
        change.region.keys[version] |= gone | come
        change.added += len(come)
        change.removed += len(gone)
    entries = _lasting(listing.entries, now_s)
    change.region.add(before.entries.keys() ^ entries.keys())
    change.added += len(entries.keys() - before.entries.keys())
    change.removed += len(before.entries.keys() - entries.keys())
    both = _wide_in_both(before.entries, entries), _wide_in_both(entries, before.entries)
    change.region.windows.update(_moved(*both))
    return Source(before.name, before.number, members, entries, reason, before.is_file, listing.entries), change


def _wide_in_both(ordered: Iterable[Span], others: Container[Span]) -> list[Span]:
    return [span for span in ordered if not span.is_address and span in others]


def _moved(before: list[_Item], after: list[_Item]) -> Iterator[_Item]:
    """Of two orders of the same items, at least one of any two that changed places: among equals, order decides."""
    return (item for old, new in zip(before, after, strict=True) if old != new for item in (old, new))


def whole(source: Source) -> "Region":
    """The region of everything that a source lists, for one that comes or goes."""
    region = Region()
    for version in VERSIONS:
        region.keys[version].update(source.members[version].column.keys)
    region.add(source.entries)
    return region


def rearranged(before: Iterable[Source], after: Iterable[Source]) -> "Region":
    """The region of what may be credited to another source because their order changed."""
    now, then = {source.name: source for source in after}, [source.name for source in before]
    both = [name for name in then if name in now], [name for name in now if name in then]
    region = Region()
    for name in set(_moved(*both)):
        region.update(whole(now[name]))
    return region


def _lasting(entries: Iterable[Entry], now_s: float) -> dict[Span, Entry]:
    lasting: dict[Span, Entry] = {}
    for entry in entries:
        if entry.until is None or entry.until > now_s:
            lasting.setdefault(entry.span, entry)
    return lasting


class Exemption(NamedTuple):
    """What is never blocked, and who says so: an `allow` entry or the guard."""

    span: Span
    kind: str  # "allow" or "guard"
    source: str  # the file, or what the guard protects
    line: int  # 0 for the guard


class Exemptions:
    """Everything exempt: as addresses, and as what says so, in the order in which it was written."""

    def __init__(self, items: Iterable[Exemption] = ()) -> None:
        self.items = tuple(items)
        self.spans = frozenset(item.span for item in self.items)
        self.union = Union(self.spans)

    def holds(self, version: int, key: int) -> bool:
        """Whether an address is exempt."""
        return self.union.holds(version, key)

    def covers(self, span: Span) -> bool:
        """Whether the exemptions together cover all of a span."""
        return self.union.covers(span)

    def keeper_of(self, span: Span) -> Exemption | None:
        """An exemption that covers all of a span alone; allow before guard, then the one with the fewest addresses."""
        if not self.covers(span):
            return None
        order, index = self._index[span.version]
        covering = [self.items[at] for at in sorted(order[place] for place in index.covering(span))]
        return min(covering, key=lambda item: (item.kind, item.span.size)) if covering else None

    def touching(self, span: Span) -> list[Exemption]:
        """Exemptions that share an address with a span."""
        order, index = self._index[span.version]
        return [self.items[at] for at in sorted(order[place] for place in index.meeting(span))]

    @cached_property
    def _index(self) -> dict[int, tuple[list[int], Index]]:
        """By version: places of items in the order of their spans, and the index of these spans."""
        found = {}
        for version in VERSIONS:
            order = [at for at, item in enumerate(self.items) if item.span.version == version]
            order.sort(key=lambda at: self.items[at].span)
            found[version] = order, Index([self.items[at].span for at in order])
        return found


def _overlap(one: Span, other: Span) -> bool:
    return one.version == other.version and one.first <= other.last and other.first <= one.last


def _covers(outer: Span, inner: Span) -> bool:
    return outer.version == inner.version and outer.first <= inner.first and inner.last <= outer.last


@dataclass(slots=True)
class Region:
    """The part of the address space that a change can touch: single addresses, and windows for prefixes."""

    keys: dict[int, set[int]] = field(default_factory=lambda: {4: set(), 6: set()})
    windows: set[Span] = field(default_factory=set)

    def add(self, spans: Iterable[Span]) -> None:
        """Spans of entries that came or went."""
        for span in spans:
            if span.is_address:
                self.keys[span.version].add(span.first)
            else:
                self.windows.add(span)

    def update(self, other: "Region") -> None:
        """The union of both."""
        for version in VERSIONS:
            self.keys[version] |= other.keys[version]
        self.windows |= other.windows

    def __bool__(self) -> bool:
        return bool(self.windows) or any(self.keys.values())


@dataclass(frozen=True, slots=True)
class Layout:
    """What the kernel's maps hold, or should hold, in a region.

    `addresses[version]` maps a listed address to the number of the source it is credited to. `prefixes` maps a prefix
    to the network or range that is credited, or to None where it is exempt. `cells` is every network or range that is
    counted, credited at the moment or not.
    """

    addresses: dict[int, dict[int, int]] = field(default_factory=lambda: {4: {}, 6: {}})
    prefixes: dict[Prefix, Listed | None] = field(default_factory=dict)
    cells: frozenset[Listed] = frozenset()


class Ruleset:
    """Everything that is listed and exempt at one moment. `sources` stand in order of precedence."""

    def __init__(self, sources: Iterable[Source] = (), exemptions: Exemptions | None = None) -> None:
        self.sources = tuple(sources)
        self.exemptions = exemptions or Exemptions()

    def owner(self, version: int, key: int) -> Source | None:
        """The source that an address is credited to as an address; None if none lists it so, or it is exempt."""
        if self.exemptions.holds(version, key):
            return None
        return next((source for source in self.sources if source.has_address(version, key)), None)

    def holder(self, version: int, key: int) -> tuple[Source, Entry] | None:
        """The entry that decides on an address, exemptions apart: the one with the fewest, the first of several."""
        holding = (
            (entry.span.size, order, source, entry)
            for order, source in enumerate(self.sources)
            for entry in self._entries_with(source, version, key)
        )
        best = min(holding, key=lambda found: found[:2], default=None)
        return best and (best[2], best[3])

    @staticmethod
    def _entries_with(source: Source, version: int, key: int) -> Iterator[Entry]:
        exact = source.entry(Span(version, key, key))
        if exact:
            yield exact
        for span in [span for span in source.entries if span[1] <= key <= span[2] and span[0] == version]:
            if not span.is_address:
                yield source.entries[span]

    def wide(self, window: Span) -> Iterator[tuple[int, int, Listed]]:
        """Networks and ranges that touch a window, with the order of their source and their own within it."""
        version, begin, end = window
        for order, source in enumerate(self.sources):
            touching = [
                (position, span)
                for position, span in enumerate(source.entries)
                if span[1] <= end and span[2] >= begin and span[0] == version and span[1] != span[2]
            ]
            for position, span in touching:
                yield order, position, Listed(span, source.number)

    def exempt_changes(self, other: "Ruleset") -> Region:
        """The region in which exemptions of two rulesets make a difference, whatever is listed there in either."""
        changed = self.exemptions.spans ^ other.exemptions.spans
        region = Region(windows=set(changed))
        if not changed:
            return region
        union = Union(changed)
        for source in {id(source): source for source in chain(self.sources, other.sources)}.values():
            for version, first, last in union if source.has_members else ():
                region.keys[version].update(source.members[version].within(first, last))
            region.add(span for span in union.met(source.entries) if span.is_address)
        return region

    def layout(self, region: Region) -> Layout:
        """What the kernel should hold in a region."""
        return at_once(self.layout_in_steps(region))

    def layout_in_steps(self, region: Region) -> Generator[None, None, Layout]:
        """The same, yielding now and then; the sources must not change meanwhile."""
        addresses: dict[int, dict[int, int]] = {4: {}, 6: {}}
        for version, keys in region.keys.items():
            left = iter(keys)
            while some := set(islice(left, _KEYS_A_STEP)):
                addresses[version].update((yield from self._owners(version, some)))
        prefixes: dict[Prefix, Listed | None] = {}
        cells: set[Listed] = set()
        for window in _few(region.windows):
            yield
            winners, listed = yield from self._within(window)
            prefixes.update(winners)
            cells.update(listed)
        return Layout(addresses, prefixes, frozenset(cells))

    def _owners(self, version: int, keys: set[int]) -> Generator[None, None, dict[int, int]]:
        """Of these addresses those that are listed and not exempt, with the number of the source credited."""
        left = keys.difference(self.exemptions.union.held(version, keys))
        owners: dict[int, int] = {}
        spans = [Span(version, key, key) for key in left] if len(left) <= _FEW_KEYS else []
        for at, source in enumerate(self.sources):
            if not left:
                break
            if at % _CALLERS_A_STEP == 0 or source.is_file:
                yield
            if spans and not source.is_file:  # of callers there may be thousands
                found = {span.first for span in spans if span in source.entries} & left
            else:
                found = source.among(version, left)
            if found:
                owners.update(dict.fromkeys(found, source.number))
                left -= found
        return owners

    def whole_layout(self) -> Layout:
        """What the kernel should hold in all. For comparing; `bulk` is the cheap way to fill empty maps."""
        addresses: dict[int, dict[int, int]] = {4: {}, 6: {}}
        for version in VERSIONS:
            for number, keys in self.bulk(version):
                addresses[version].update(dict.fromkeys(keys, number))
        wide = self.layout(Region(windows=set(EVERYTHING.values())))
        return replace(wide, addresses=addresses)

    def bulk(self, version: int) -> Iterator[tuple[int, Collection[int]]]:
        """Every listed address that is not exempt, as (source number, keys): the last one written counts."""
        for source in reversed(self.sources):
            for keys in (source.members[version].column.keys, source.addresses(version)):
                exempt = set(self.exemptions.union.held(version, keys))
                left = keys if not exempt else _like(keys, filterfalse(exempt.__contains__, keys))
                if left:
                    yield source.number, left

    def sample(self, version: int, one_in: int) -> Iterator[int]:
        """Some of the listed addresses, about one in so many."""
        for source in self.sources:
            yield from source.members[version].column.keys[::one_in]
            yield from source.addresses(version)[::one_in]

    def addresses_by_window(self, version: int, windows: Iterable[Span]) -> Iterator[dict[int, int]]:
        """The same a window at a time, as keys with the number of the source that each is credited to."""
        columns = [(source.number, source.members[version]) for source in self.sources if source.members[version]]
        rank = {source.number: order for order, source in enumerate(self.sources)}
        # What says more than its address may come from thousands of callers: all of it together.
        annotated: dict[int, int] = {}
        for source in reversed(self.sources):
            annotated.update(dict.fromkeys(source.addresses(version), source.number))
        ascending = sorted(annotated)
        for _, first, last in windows:
            found: dict[int, int] = {}
            for number, members in reversed(columns):
                found.update(dict.fromkeys(members.within(first, last), number))
            for key in ascending[bisect_left(ascending, first) : bisect_right(ascending, last)]:
                if key not in found or rank[annotated[key]] < rank[found[key]]:
                    found[key] = annotated[key]
            for key in self.exemptions.union.held(version, found):
                del found[key]
            yield found

    def _within(self, window: Span) -> Generator[None, None, tuple[dict[Prefix, Listed | None], list[Listed]]]:
        """The prefixes that lie within a window, each with the entry that wins there (None: exempt), and every entry
        that touches the window.
        """
        version, begin, end = window
        width = WIDTH[version]
        candidates: dict[tuple[int, int], _Rank] = {}
        cells: list[Listed] = []
        for at, (order, position, listed) in enumerate(self.wide(window)):
            cells.append(listed)
            rank = _Rank(listed.span.size, order, position, listed)
            for place in prefixes(listed.span):
                known = candidates.get(place)
                if known is None or rank.beats(known):
                    candidates[place] = rank
            if at % _ENTRIES_A_STEP == 0:
                yield
        found: dict[Prefix, Listed | None] = {}
        if not candidates:
            return found, cells
        for span in self.exemptions.spans:
            if _overlap(span, window):
                candidates.update(dict.fromkeys(prefixes(span), _EXEMPT))
        for at, (first, length, rank) in enumerate(_most_specific(candidates, width)):
            if begin <= first and first + (1 << width - length) - 1 <= end:
                found[Prefix(version, first, length)] = rank.listed
            if at % _ENTRIES_A_STEP == 0:
                yield
        return found, cells

    def narrowed_by_guard(self) -> Iterator[tuple[Source, Span, Exemption]]:
        """Each entry that the guard cuts something out of, with each part of the guard that does."""
        guard = Exemptions(item for item in self.exemptions.items if item.kind == "guard")
        for source in self.sources:
            for version, first, last in guard.union if source.has_members else ():
                for key in source.members[version].within(first, last):
                    span = Span(version, key, key)
                    yield from ((source, span, item) for item in guard.touching(span))
            for span in guard.union.met(source.entries):
                yield from ((source, span, item) for item in guard.touching(span))


class _Rank(NamedTuple):
    """Who wins for a prefix: fewest addresses, then the order of the sources, then the order within one."""

    size: int
    order: int
    position: int
    listed: Listed | None

    def beats(self, other: "_Rank") -> bool:
        """Whether this one wins against another."""
        return self[:3] < other[:3]


_EXEMPT = _Rank(-1, -1, -1, None)


def _most_specific(candidates: dict[tuple[int, int], _Rank], width_bits: int) -> Iterator[tuple[int, int, _Rank]]:
    """Of nested prefixes with their own best rank: those at which the winner differs from the next shorter prefix."""
    enclosing: list[tuple[int, _Rank]] = []  # (last address, winner), outermost first
    for first, length in sorted(candidates):
        while enclosing and enclosing[-1][0] < first:
            enclosing.pop()
        rank = candidates[first, length]
        outer = enclosing[-1][1] if enclosing else _EXEMPT
        winner = outer if enclosing and outer.beats(rank) else rank
        enclosing.append((first + (1 << width_bits - length) - 1, winner))
        if winner is not outer:
            yield first, length, winner


def at_once(steps: Generator[None, None, _Item]) -> _Item:
    """The result of work that is done in steps, for those who can wait for it."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return cast("_Item", end.value)


def _like(keys: "array[int] | list[int]", some: Iterable[int]) -> "array[int] | list[int]":
    return array("I", some) if isinstance(keys, array) else list(some)


def _few(windows: Collection[Span]) -> Collection[Span]:
    """Windows without those that lie within others; everything at once where there are many."""
    chosen: list[Span] = []
    if len(windows) > _WINDOWS_LOOKED_AT:
        return list(EVERYTHING.values())
    for window in sorted(windows, key=lambda span: (span.version, span.first, -span.last)):
        if not (chosen and _covers(chosen[-1], window)):
            chosen.append(window)
    if len(chosen) > _WINDOWS_AT_MOST:
        return [EVERYTHING[version] for version in sorted({window.version for window in chosen})]
    return chosen
