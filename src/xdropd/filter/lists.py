"""The list in the kernel: the generation in force, what entries have counted, and how one state becomes the next.

Knows generations and what systemd keeps of them; does not know interfaces: `put_in_force` makes packets meet a program
on all of them. A change is a generator, so that other events have their turn; its long steps go through `aside`, which
may do them in another thread. One change at a time.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from typing import Protocol, TypeVar

import numpy as np

from xdropd.columns.listing import KINDS, Kind
from xdropd.columns.prefixes import FAMILIES, Column, find, match, without
from xdropd.errors import KernelError
from xdropd.filter.proof import Proof
from xdropd.filter.saved import SavedCounters
from xdropd.filter.store import Store, Stored
from xdropd.host import libc
from xdropd.kernel.abi import Stats, Volume
from xdropd.kernel.compiler import Blueprint
from xdropd.kernel.generation import Generation, Sizes, are_pieces, counts_of
from xdropd.kernel.tables.volumes import SourceVolumes
from xdropd.rules.plan import Counted, Plan, difference
from xdropd.rules.winners import Records, State

_STALE_SHARE = 4  # a fresh generation once one record in so many was removed: hints are only ever set
_SWAP_OVER = 1 << 16  # removing so many records one by one takes longer than starting without them
_ONE_BY_ONE_AT_MOST = 1 << 10

_T = TypeVar("_T")

Entries = tuple[Kind, int, Column, Column]
"""Of one kind and source: ascending keys, and the stats of each."""


class Aside(Protocol):
    """How a long step is done: at once, or in another thread while the generator yields."""

    def __call__(self, step: Callable[[], _T]) -> Generator[None, None, _T]:
        """What the step returns or raises."""


class Readable(Stored, Protocol):
    """A generation whose counts can be read, this version's or another's."""

    volumes: SourceVolumes

    def stats(self, kind: Kind, source: int, key: Column) -> Stats | None:
        """What an entry of a source counts here, its key given as a column of one."""

    def entries(self, kind: Kind) -> Iterator[tuple[Column, Column]]:
        """Every entry of a kind that has records, as (keys, stats), in no order."""

    def counted(self) -> Iterator[tuple[Kind, int, Column, Column]]:
        """All entries that were hit, as (kind, source, ascending keys, stats)."""


def directly(step: Callable[[], _T]) -> Generator[None, None, _T]:
    """A long step, done at once: for changes that are known to be small."""
    return step()
    yield


class Lists:
    """See the module. `blueprint` is called when maps or the program must be made, which may never be.

    `put_in_force(new, old)` raises KernelError where the kernel refuses and everything is as it was before. Whatever
    reads maps through `aside` is done before a generation is closed, for that waits its turn there.
    """

    def __init__(
        self,
        store: Store,
        proof: Proof,
        stamp: str,
        blueprint: Callable[[], Blueprint],
        put_in_force: Callable[[Generation, Generation | None], None],
        aside: Aside,
    ) -> None:
        self._store = store
        self.proof = proof
        self._stamp = stamp
        self._blueprint = blueprint
        self._put_in_force = put_in_force
        self._aside = aside
        self.generation: Generation | None = None
        self.retired: list[Readable] = []
        self.saved = SavedCounters()
        self._next_number = 1
        self._steps = self._done = 0

    @property
    def is_current(self) -> bool:
        """Whether the generation in force was made from this version's program text."""
        return self.generation is not None and self.generation.stamp == self._stamp

    @property
    def percent(self) -> int:
        """How far the change under way is."""
        return min(100, 100 * self._done // max(self._steps, 1))

    def number_after(self, highest: int) -> None:
        """New generations get higher numbers than those that were found."""
        self._next_number = highest + 1

    # ---- changing ----

    def begin(self, after: State, now_s: float, aside: Aside) -> Iterator[None]:
        """Put a list in force where only the maps, if they can be read, tell what was before. Raises as `change`."""
        generation = self.generation
        if generation is None:
            yield from self._swap(after, now_s)
        else:
            change, _ = yield from aside(lambda: self._compared(generation, after))
            yield from self.change(change, now_s, aside)

    def renew(self, now_s: float) -> Iterator[None]:
        """Have what is in force, whatever it is, read by this version's program. Raises as `change` does.

        What cannot be read stays as it is.
        """
        generation = self.generation
        if generation is not None and not self.is_current:
            records = yield from self._aside(lambda: {version: generation.read(version)[0] for version in FAMILIES})
            yield from self._swap(None, now_s, records)

    def change(self, change: Plan, now_s: float, aside: Aside) -> Iterator[None]:
        """Make one state of another, in place or by a swap.

        Raises KernelError, CompileError or MemoryError, with the old list in force, the new one, or, if the kernel
        refuses for good, at least what is in both.
        """
        generation = self.generation
        assert generation
        yield from self.merge_retired(change.before)
        if change.count or not self.is_current:
            is_done = False
            if self._is_in_place(generation, change):
                leaving = yield from aside(lambda: list(_leaving(generation, change)))
                saved = self._saved_with(leaving)
                self._store.keep_saved(saved)  # a process that ends from here on may count twice, and loses nothing
                is_done = yield from aside(lambda: self._is_carried_out(generation, change, now_s, leaving))
                self.saved = saved if is_done else self.saved
            if not is_done:
                yield from self._swap(change.after, now_s)
        yield from aside(lambda: self._forget_unlisted(change.after))

    def repair(self, state: State, now_s: float, aside: Aside) -> Generator[None, None, int]:
        """Compare all that packets meet with what it should be, and mend it; in how many places it differed.

        Only this version's program is known to read maps as they should be; before, there is nothing to compare.
        """
        generation = self.generation
        if generation is None or not self.is_current:
            return 0
        yield from self.merge_retired(state)
        change, differing = yield from aside(lambda: self._compared(generation, state))
        if change.count:
            yield from self.change(change, now_s, aside)
        return differing + change.count

    def _compared(self, generation: Generation, state: State) -> tuple[Plan, int]:
        """What makes the maps hold a state, whatever they hold; and in how many places hints and ranges differed."""
        changes, differing = {}, 0
        generation.ranges.learn()
        for version in FAMILIES:
            wanted = state.records(version)
            there, strays = generation.read(version)
            differing += strays + generation.mend_hints(version, wanted)
            changes[version] = difference(there, wanted)
        return Plan(state, state, changes, Counted()), differing

    def _is_in_place(self, generation: Generation, change: Plan) -> bool:
        used = generation.used
        is_crowded = (generation.removed_since_built + change.removed) * _STALE_SHARE > used + (1 << 14)
        has_little_left = change.removed > _SWAP_OVER and 2 * change.removed > used
        return self.is_current and not is_crowded and not has_little_left and generation.fits(change.changes)

    def _is_carried_out(self, generation: Generation, change: Plan, now_s: float, leaving: list[Entries]) -> bool:
        """Change the maps in force; False if they turn out too small, with part of the change done.

        What the kernel refuses to take out goes on counting where it is: then only what is gone is saved.
        """
        self._steps, self._done = change.count, 0
        self.proof.withdraw()
        try:
            for done in generation.carry_out(change.changes, int(now_s)):
                self._done += done
        except KernelError as refusal:
            gone = []
            for kind, source, keys, stats in leaving:
                rows = match(keys, without(keys, generation.stats_of(kind.version, source, keys)[0]))[0]
                gone.append((kind, source, keys[rows], stats[rows]))
            self.saved = self._saved_with(gone)
            self.saved.is_stored &= not leaving
            if refusal.errno != errno.E2BIG:
                raise
            return False
        return True

    def _saved_with(self, entries: list[Entries]) -> SavedCounters:
        saved = self.saved.copy()
        for kind, source, keys, stats in entries:
            saved.add(kind, source, keys, stats)
        return saved

    def _swap(self, after: State | None, now_s: float, records: Mapping[int, Records] | None = None) -> Iterator[None]:
        """Another generation with all of a state, and what it takes to put it in force without a gap.

        Without a state, with `records`, whatever they are of.
        """
        self._store.insist()
        blueprint = self._blueprint()
        shared = self._store.shared(self._blueprint)
        new = yield from self._aside(lambda: self._built(blueprint, shared, records or _records_of(after), int(now_s)))
        old = self.generation
        try:
            self._store.keep_generation(new)
            self._put_in_force(new, old)
        except (KernelError, MemoryError):
            self._store.drop_generation(new)
            raise
        self.generation = new
        if old is not None:
            self.retired.append(old)
        with contextlib.suppress(KernelError):  # the list is in force; its predecessor is read where it is until then
            yield from self.merge_retired(after)

    def _built(
        self, blueprint: Blueprint, shared: Mapping[str, int], records: Mapping[int, Records], now_s: int
    ) -> Generation:
        self._steps, self._done = sum(len(each.keys) for each in records.values()), 0
        number = max((int(each.sources.max()) for each in records.values() if len(each.sources)), default=0)
        sizes = Sizes.to_hold(counts_of(records), number)
        new = Generation.build(blueprint, self._next_number, sizes, shared, self._stamp)
        self._next_number += 1
        try:
            for version, each in records.items():
                for done in new.fill(version, each, _since_of(version, each, self._readable, now_s)):
                    self._done += done
        except (KernelError, MemoryError):
            new.close()
            raise
        return new

    @property
    def _readable(self) -> list[Readable]:
        """Everything that tells since when something is listed, the latest last."""
        return [*reversed(self.retired), *([self.generation] if self.generation else [])]

    # ---- counts ----

    @property
    def _counting(self) -> list[Readable]:
        """What has counts that are not saved."""
        return [each for each in self._readable if each.number > self.saved.merged]

    def stats(self, kind: Kind, source: int, key: Column) -> Stats | None:
        """What is known of an entry of a source, its key as a column of one: what is saved, and what counts now."""
        total = self.saved.get(kind, source, key)
        for generation in self._counting:
            live = generation.stats(kind, source, key)
            if live is not None:
                total = live if total is None else total.plus(live)
        return total

    def all_stats(self) -> dict[tuple[Kind, int], tuple[Column, Column]]:
        """What is known of all entries, by kind and source: (ascending keys, stats). Long: for `aside`."""
        parts: dict[tuple[Kind, int], list[tuple[Column, Column]]] = {}
        if self.generation is not None:
            for kind in KINDS:
                for keys, stats in self.generation.entries(kind):
                    for source in np.unique(stats["source"]).tolist():
                        rows = stats["source"] == source
                        parts.setdefault((kind, source), []).append((keys[rows], stats[rows]))
        found = {}
        for (kind, source), some in parts.items():
            keys, stats = (np.concatenate(columns) for columns in zip(*some, strict=True))
            order = np.argsort(keys, kind="stable")
            found[kind, source] = keys[order], self.saved.added_to(kind, source, keys[order], stats[order])
        for kind, source, saved in self.saved.tables():
            keys, stats = found.get((kind, source), (saved.keys[:0], saved.stats[:0]))
            alone = without(saved.keys, keys)
            rows = match(saved.keys, alone)[0]
            all_keys = np.concatenate((keys, alone))
            order = np.argsort(all_keys, kind="stable")
            found[kind, source] = all_keys[order], np.concatenate((stats, saved.stats[rows]))[order]
        return found

    def volume(self, source: int) -> Volume:
        """What was dropped on behalf of a source, by entries that are gone as well."""
        total = self.saved.volume(source)
        for generation in self._counting:
            live = generation.volumes.get(source)
            total = Volume(total.packets + live.packets, total.bytes + live.bytes)
        return total

    def forget_sources(self, numbers: Collection[int]) -> None:
        """Have these numbers mean nobody, what they have counted included; none of them may be listed."""
        self.saved.forget_sources(numbers)
        self._store.keep_saved(self.saved)
        if self.generation is not None:
            for number in numbers:
                self.generation.volumes.clear(number)

    def merge_retired(self, listed: State | None) -> Iterator[None]:
        """Save what generations that no packet meets any more have counted of what is listed (None: of all).

        Then they go. The snapshot says up to which generation it holds the counts, so a process that dies in between
        counts nothing twice and loses nothing.
        """
        if not self.retired:
            return
        yield from self._aside(libc.wait_for_readers)
        retired, saved = self.retired[:], self.saved.copy()
        yield from self._aside(lambda: _save_retired(saved, retired, listed))
        self.saved = saved
        self._store.keep_saved(saved)
        for old in retired:
            self.retired.remove(old)
            self._store.drop_generation(old)

    def _forget_unlisted(self, state: State) -> None:
        """Let go of the counters of entries that are not listed any more."""
        listings = {source.number: source.listing for source in state.sources}
        self.saved.keep_listed(listings)
        if self.generation:
            ranges = self.generation.ranges
            for version, number in ranges.owners:
                known = ranges.keys_of((version, number))
                listed = listings[number].ranges[version].keys if number in listings else known[:0]
                if len(gone := without(known, listed)):
                    self.proof.withdraw()
                    ranges.remove((version, number), gone)


def _records_of(state: State | None) -> dict[int, Records]:
    return {version: (state or State()).records(version) for version in FAMILIES}


def _leaving(generation: Generation, change: Plan) -> Iterator[Entries]:
    """Records that go although their entry stays listed."""
    for version, each in change.changes.items():
        for records in (each.removed, each.replaced):
            for source in change.after.sources:
                kind = Kind(version, is_range=False)
                keys = records.keys[records.sources == source.number]
                keys = keys[match(keys, source.listing.table(kind).keys)[0]]
                if len(keys):
                    yield kind, source.number, *generation.stats_of(version, source.number, keys)


def _save_retired(saved: SavedCounters, retired: list[Readable], listed: State | None) -> None:
    sources = {source.number: source for source in listed.sources} if listed else {}
    for old in retired:
        if old.number <= saved.merged:
            continue
        for kind, number, keys, stats in old.counted():
            if listed is None:
                saved.add(kind, number, keys, stats)
            elif number in sources:
                rows = match(keys, sources[number].listing.table(kind).keys)[0]
                saved.add(kind, number, keys[rows], stats[rows])
        for number in range(1, old.volumes.room):
            saved.add_volume(number, old.volumes.get(number))
        saved.merged = old.number
        saved.is_stored = False


def since_in(kind: Kind, readable: list[Readable]) -> tuple[Column, Column]:
    """Since when entries are listed, by what is in maps: (ascending keys, seconds). Of several the last one's."""
    parts = [(np.zeros(0, kind.key_type), np.zeros(0, np.uint32))]
    parts += [(keys, stats["since_s"].copy()) for each in reversed(readable) for keys, stats in each.entries(kind)]
    keys, since = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    order = np.argsort(keys, kind="stable")
    return keys[order], since[order]


def _since_of(version: int, records: Records, readable: list[Readable], now_s: int) -> Column:
    """For each record: since when it, or the range that it is a piece of, was there before, else now."""
    made = np.full(len(records.keys), now_s, np.uint32)
    pieces = are_pieces(version, records)
    for kind, keys in ((Kind(version, is_range=False), records.keys), (Kind(version, is_range=True), records.ranges)):
        which = np.flatnonzero(pieces == kind.is_range)
        if len(which):
            known, since = since_in(kind, readable)
            rows, found = find(known, keys[which])
            made[which[found]] = since[rows[found]]
    return made
