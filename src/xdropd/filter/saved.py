"""Counters of entries whose records are not in the maps in force, or were in maps that are gone.

What an entry has counted is what is saved here and what its record counts now. So a swap carries nothing over, and an
entry that something exempts, or lists with precedence, keeps its counts for its return. Columns, in a memory file that
outlives the process in the store: a new one for each change, so that none is ever half written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple, Self

import numpy as np

from xdropd.columns.listing import Kind, Listing
from xdropd.columns.prefixes import Column, find, match
from xdropd.kernel.abi import STATS, Stats, Volume, stats_of

_FORMAT = 1


class Counted(NamedTuple):
    """Stats of several entries of one source and kind, by ascending keys."""

    keys: Column
    stats: Column


class SavedCounters:
    """See the module. `merged` is the highest number of a generation whose counts are in here."""

    def __init__(
        self,
        tables: Mapping[tuple[Kind, int], Counted] = MappingProxyType({}),
        volumes: Mapping[int, Volume] = MappingProxyType({}),
        merged: int = 0,
    ) -> None:
        self._tables = dict(tables)
        self._volumes = dict(volumes)
        self.merged = merged
        self.is_stored = True

    # ---- asking ----

    def get(self, kind: Kind, source: int, key: Column) -> Stats | None:
        """Of one entry, its key given as a column of one; None if nothing is saved."""
        known = self._tables.get((kind, source))
        if known is None:
            return None
        rows, found = find(known.keys, key)
        return stats_of(known.stats[rows[0]]) if found[0] else None

    def volume(self, source: int) -> Volume:
        """What a source's entries had dropped under maps that are gone."""
        return self._volumes.get(source, Volume(0, 0))

    def tables(self) -> Iterator[tuple[Kind, int, Counted]]:
        """Everything: kind, number of the source, and what is saved of its entries."""
        for (kind, source), known in list(self._tables.items()):
            yield kind, source, known

    def added_to(self, kind: Kind, source: int, keys: Column, stats: Column) -> Column:
        """Stats of records with what is saved of their entries."""
        known = self._tables.get((kind, source))
        if known is None:
            return stats
        rows, found = find(known.keys, keys)
        total = stats.copy()
        saved = known.stats[rows[found]]
        for name in ("packets", "bytes"):
            total[name][found] += saved[name]
        total["last_seen_ns"][found] = np.maximum(total["last_seen_ns"][found], saved["last_seen_ns"])
        total["since_s"][found] = saved["since_s"]
        return total

    # ---- changing ----

    def copy(self) -> Self:
        """The same, to be changed while this one is read."""
        new = type(self)(self._tables, self._volumes, self.merged)
        new.is_stored = self.is_stored
        return new

    def add(self, kind: Kind, source: int, keys: Column, stats: Column) -> None:
        """Counts of entries whose records leave the maps, or whose maps are gone. Keys ascend."""
        if not len(keys):
            return
        self.is_stored = False
        known = self._tables.get((kind, source))
        if known is None:
            self._tables[kind, source] = Counted(keys, stats.copy())
            return
        merged = self.added_to(kind, source, keys, stats)
        old = np.ones(len(known.keys), bool)
        old[match(known.keys, keys)[0]] = False
        all_keys = np.concatenate((known.keys[old], keys))
        order = np.argsort(all_keys, kind="stable")
        self._tables[kind, source] = Counted(all_keys[order], np.concatenate((known.stats[old], merged))[order])

    def add_volume(self, source: int, volume: Volume) -> None:
        """What a source's entries dropped under maps that are gone now."""
        if volume.packets:
            before = self.volume(source)
            self._volumes[source] = before.plus(volume)
            self.is_stored = False

    def keep_listed(self, listings: dict[int, Listing]) -> None:
        """Forget what is not listed any more, by the numbers of the sources."""
        for (kind, source), known in list(self._tables.items()):
            listing = listings.get(source)
            rows = match(known.keys, listing.table(kind).keys)[0] if listing else np.zeros(0, np.intp)
            if len(rows) < len(known.keys):
                self.is_stored = False
                if len(rows):
                    self._tables[kind, source] = Counted(known.keys[rows], known.stats[rows])
                else:
                    del self._tables[kind, source]

    def forget_sources(self, numbers: Iterable[int]) -> None:
        """Of sources that are forgotten, their totals as well."""
        for number in numbers:
            self.is_stored &= self._volumes.pop(number, None) is None

    # ---- outliving the process ----

    def snapshot(self) -> int:
        """A memory file with all of it: a line of JSON, then the columns. The caller closes the descriptor."""
        descriptor = os.memfd_create("xdropd-saved", os.MFD_CLOEXEC)
        tables = [(kind.version, kind.is_range, source, len(known.keys)) for kind, source, known in self.tables()]
        head = {"format": _FORMAT, "merged": self.merged, "tables": tables, "volumes": list(self._volumes.items())}
        try:
            with open(descriptor, "wb", closefd=False) as file:
                file.write(json.dumps(head).encode() + b"\n")
                for _, _, known in self.tables():
                    file.write(known.keys.tobytes())
                    file.write(known.stats.tobytes())
        except BaseException:  # no memory, for one
            os.close(descriptor)
            raise
        self.is_stored = True
        return descriptor

    @classmethod
    def in_file(cls, descriptor: int) -> Self:
        """What a snapshot holds. Raises ValueError, KeyError or TypeError for anything else."""
        data = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
        line, _, rest = data.partition(b"\n")
        head = json.loads(line)
        if head["format"] != _FORMAT:
            raise ValueError("counters that another version saved")
        volumes = {int(source): Volume(*volume) for source, volume in head["volumes"]}
        tables, at = {}, 0
        for version, is_range, source, count in head["tables"]:
            if count < 1:
                raise ValueError("a table without counters is not written")
            kind = Kind(version, is_range)
            keys = np.frombuffer(rest, kind.key_type, count, at)
            at += keys.nbytes
            stats = np.frombuffer(rest, STATS, count, at)
            at += stats.nbytes
            tables[kind, source] = Counted(keys, stats)
        if at != len(rest):
            raise ValueError("counters of another length than was written")
        return cls(tables, volumes, int(head["merged"]))
