"""The table of ranges and selections: what the pieces of each have counted together. Who is listed has a number.

Below, a range is either; the key of a selection is its code.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from xdropd.columns.listing import SELECTIONS, Kind
from xdropd.columns.prefixes import FAMILIES, Column, find, match, without
from xdropd.columns.versions import SELECTED
from xdropd.kernel import abi, libbpf
from xdropd.kernel.retry import retried

_AT_ONCE = 1 << 15

Owner = tuple[int, int]
"""Version, SELECTED of selections, and number of the source."""


class RangeTable:
    """One map, and who has which number in it: by owner, keys of ranges, ascending, and their numbers."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.room = libbpf.map_shape(descriptor).max_entries
        self._numbers: dict[Owner, tuple[Column, Column]] = {}
        self._free = np.zeros(0, np.uint32)
        self._next = 1

    @property
    def used(self) -> int:
        """How many ranges there are."""
        return sum(len(keys) for keys, _ in self._numbers.values())

    def has_room_for(self, more: int) -> bool:
        """Whether so many further ranges fit."""
        return self._next + more - len(self._free) <= self.room

    def numbers_of(self, owner: Owner, keys: Column) -> Column:
        """The numbers of ranges that are there, uint32."""
        known, numbers = self._numbers[owner]
        return numbers[find(known, keys)[0]]

    def add(self, owner: Owner, keys: Column, since_s: Column | int) -> Iterator[int]:
        """Ranges of one source, ascending, that nobody hit yet, each with the moment since when it is listed.

        Those that are there already stay as they are. Yields how many each time.
        """
        known, numbers = self._numbers.get(owner, (keys[:0], self._free[:0]))
        since = np.broadcast_to(np.asarray(since_s, np.uint32), len(keys))
        new = np.ones(len(keys), bool)
        new[match(keys, known)[0]] = False
        keys, since = keys[new], since[new]
        reused = self._free[max(0, len(self._free) - len(keys)) :]
        fresh = np.arange(self._next, self._next + len(keys) - len(reused), dtype=np.uint32)
        given = np.concatenate((reused, fresh))
        for at in range(0, len(keys), _AT_ONCE):
            part = slice(at, at + _AT_ONCE)
            values = _values(owner, keys[part], since[part])
            retried(libbpf.update_batch, self.descriptor, given[part].tobytes(), values.tobytes(), len(values))
            yield len(values)
        self._free = self._free[: len(self._free) - len(reused)]
        self._next += len(fresh)
        all_keys = np.concatenate((known, keys))
        order = np.argsort(all_keys, kind="stable")
        self._numbers[owner] = all_keys[order], np.concatenate((numbers, given))[order]

    def remove(self, owner: Owner, keys: Column) -> None:
        """Free the numbers of ranges, ascending; no piece may point there any more."""
        known, numbers = self._numbers.get(owner, (keys[:0], self._free[:0]))
        rows = match(known, keys)[0]
        gone = numbers[rows]
        for at in range(0, len(gone), _AT_ONCE):
            part = gone[at : at + _AT_ONCE]
            retried(
                libbpf.update_batch, self.descriptor, part.tobytes(), bytes(abi.RANGE.itemsize * len(part)), len(part)
            )
        self._numbers[owner] = without(known, keys), np.delete(numbers, rows)
        self._free = np.concatenate((self._free, gone))

    def keys_of(self, owner: Owner) -> Column:
        """The ranges of one source that are there."""
        if owner in self._numbers:
            return self._numbers[owner][0]
        return np.zeros(0, Kind(owner[0], is_range=True).key_type)

    def keys_by_number(self, version: int, numbers: Column) -> tuple[Column, Column]:
        """The ranges that have these numbers, as records of a family have them, and whether there is one; else zero."""
        family = FAMILIES[version]
        by_number = np.zeros(self._next, family.range_type)
        known = np.zeros(self._next, bool)
        for (version_of, _), (keys, theirs) in self._numbers.items():
            if version_of in (version, SELECTED):
                by_number[theirs] = family.selection_keys(keys) if version_of == SELECTED else keys
                known[theirs] = True
        inside = np.where(numbers < self._next, numbers, 0)
        return by_number[inside], known[inside]

    @property
    def owners(self) -> list[Owner]:
        """Whose ranges there are."""
        return list(self._numbers)

    def get(self, owner: Owner, key: Column) -> Column | None:
        """The stats of one range, given as a column of one."""
        known, numbers = self._numbers.get(owner, (key[:0], self._free))
        rows, found = find(known, key)
        if not found[0]:
            return None
        value = libbpf.lookup(self.descriptor, numbers[rows].tobytes(), abi.RANGE.itemsize)
        return np.frombuffer(value or bytes(abi.RANGE.itemsize), abi.RANGE)["stats"]

    def read(self) -> Iterator[tuple[Owner, Column, Column]]:
        """Every range that is there as (owner, keys, stats), batch by batch."""
        for owner, keys, _, stats in self._read():
            yield owner, keys, stats

    def learn(self) -> None:
        """Take the numbers from the map, of a generation that was adopted."""
        found: dict[Owner, list[tuple[Column, Column]]] = {}
        for owner, keys, numbers, _ in self._read():
            found.setdefault(owner, []).append((keys, numbers))
        self._numbers = {}
        taken = [np.zeros(1, np.uint32)]
        for owner, parts in found.items():
            keys, numbers = (np.concatenate(columns) for columns in zip(*parts, strict=True))
            order = np.argsort(keys, kind="stable")
            self._numbers[owner] = keys[order], numbers[order]
            taken.append(numbers)
        used = np.concatenate(taken)
        self._next = int(used.max()) + 1
        is_free = np.ones(self._next, bool)
        is_free[used] = False
        self._free = np.flatnonzero(is_free)[::-1].astype(np.uint32)

    def _read(self) -> Iterator[tuple[Owner, Column, Column, Column]]:
        for packed, blob, _ in libbpf.batches(self.descriptor, abi.NUMBER_BYTES, abi.RANGE.itemsize):
            values, numbers = np.frombuffer(blob, abi.RANGE), np.frombuffer(packed, np.uint32)
            for version in (*FAMILIES, SELECTED):
                of_version = np.flatnonzero((values["version"] == version) & (numbers > 0))
                for source in np.unique(values["stats"]["source"][of_version]).tolist():
                    rows = of_version[values["stats"]["source"][of_version] == source]
                    yield (version, source), _keys(version, values[rows]), numbers[rows], values["stats"][rows]


def _values(owner: Owner, keys: Column, since_s: Column) -> Column:
    """struct range."""
    version, source = owner
    values = np.zeros(len(keys), abi.RANGE)
    values["stats"]["source"], values["stats"]["since_s"], values["version"] = source, since_s, version
    if version == SELECTED:
        values["first"] = _padded(keys.astype(">u8").tobytes(), len(keys))
        return values
    family = FAMILIES[version]
    for name, ends in zip(("first", "last"), family.ends_of_ranges(keys), strict=True):
        values[name] = _padded(family.packed(ends), len(keys))
    return values


def _keys(version: int, values: Column) -> Column:
    """The inverse."""
    if version == SELECTED:
        return np.frombuffer(_shortened(values["first"], 64), ">u8").astype(SELECTIONS.key_type)
    family = FAMILIES[version]
    return family.range_keys(*(family.addresses(_shortened(values[end], family.width)) for end in ("first", "last")))


def _padded(packed: bytes, count: int) -> Column:
    octets = np.zeros((count, 16), np.uint8)
    octets[:, : len(packed) // max(1, count)] = np.frombuffer(packed, np.uint8).reshape(count, -1)
    column: Column = octets.view("S16").ravel()
    return column


def _shortened(addresses: Column, width: int) -> bytes:
    octets = np.ascontiguousarray(addresses).view(np.uint8).reshape(-1, 16)
    return octets[:, : width // 8].tobytes()
