"""What entries have counted: under the generation in force, under those before it, and what is saved of what is gone.

The counts of an entry are what its record counts now and what is saved, so a swap carries nothing over. Knows what is
read and kept of generations; does not know how lists change.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from typing import Protocol, TypeVar

import numpy as np

from xdropd.columns.listing import KINDS, Kind
from xdropd.columns.prefixes import Column, find, match, order, without
from xdropd.filter.numbers import SourceNumbers
from xdropd.filter.saved import SavedCounters
from xdropd.filter.store import Store, Stored
from xdropd.host import libc
from xdropd.kernel.abi import Stats, Volume
from xdropd.kernel.generation import Generation, are_pieces, wholes_of
from xdropd.kernel.tables.volumes import SourceVolumes
from xdropd.rules.winners import Records, State

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


class Counting:
    """See the module. `generation` is the one in force, if it can be read; `retired` are those that no packet meets.

    Whatever reads maps through `aside` is done before a generation is closed, for that waits its turn there.
    """

    def __init__(self, store: Store, aside: Aside) -> None:
        self._store = store
        self._aside = aside
        self.sources: SourceNumbers  # made or taken over before any list is put in force
        self.saved = SavedCounters()
        self.generation: Generation | None = None
        self.retired: list[Readable] = []

    @property
    def readable(self) -> list[Readable]:
        """Everything that tells since when something is listed, the latest last."""
        return [*reversed(self.retired), *([self.generation] if self.generation else [])]

    @property
    def _counting(self) -> list[Readable]:
        """What has counts that are not saved."""
        return [each for each in self.readable if each.number > self.saved.merged]

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
            rows = order(keys)
            found[kind, source] = keys[rows], self.saved.added_to(kind, source, keys[rows], stats[rows])
        for kind, source, saved in self.saved.tables():
            keys, stats = found.get((kind, source), (saved.keys[:0], saved.stats[:0]))
            alone = without(saved.keys, keys)
            rows = match(saved.keys, alone)[0]
            all_keys = np.concatenate((keys, alone))
            places = np.argsort(all_keys, kind="stable")
            found[kind, source] = all_keys[places], np.concatenate((stats, saved.stats[rows]))[places]
        return found

    def volume(self, source: int) -> Volume:
        """What was dropped on behalf of a source, by entries that are gone as well."""
        total = self.saved.volume(source)
        for generation in self._counting:
            total = total.plus(generation.volumes.get(source))
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

    def saved_with(self, entries: list[Entries]) -> SavedCounters:
        """What is saved, and these as well."""
        saved = self.saved.copy()
        for kind, source, keys, stats in entries:
            saved.add(kind, source, keys, stats)
        return saved

    def live(self, entries: Iterable[tuple[Kind, int, Column]]) -> list[Entries]:
        """What entries have counted in the generation in force, those of them that have records there."""
        if self.generation is None:
            return []
        return [(kind, source, *self.generation.stats_of(kind.version, source, keys)) for kind, source, keys in entries]


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
    rows = order(keys)
    return keys[rows], since[rows]


def since_of(version: int, records: Records, readable: list[Readable], now_s: int) -> Column:
    """For each record: since when it, or the range or selection that it is a piece of, was there before, else now."""
    made = np.full(len(records.keys), now_s, np.uint32)
    own = np.flatnonzero(~are_pieces(version, records))
    named = [(Kind(version, is_range=False), own, records.keys[own])] if len(own) else []
    for kind, which, keys in (*named, *wholes_of(version, records)):
        known, since = since_in(kind, readable)
        rows, found = find(known, keys)
        made[which[found]] = since[rows[found]]
    return made
