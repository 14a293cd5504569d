"""Tables of addresses and of networks: hashes with the stats of an entry behind each prefix."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np

from xdropd.columns.prefixes import FAMILIES, Column
from xdropd.kernel import abi, libbpf
from xdropd.kernel.beside import beside
from xdropd.kernel.retry import retried

KEYS_A_BATCH = 1 << 15  # some 20 ms


class RecordTable:
    """One map. Prefixes come as keys of columns; how the kernel has them is known here alone."""

    def __init__(self, name: str, descriptor: int, version: int) -> None:
        self.name = name
        self.descriptor = descriptor
        self.version = version
        self.room = libbpf.map_shape(descriptor).max_entries
        self.used = 0
        self.has_networks = name.startswith("networks")
        self.value_type = abi.NETWORK if self.has_networks else abi.STATS
        self._key_bytes = (abi.PREFIX_BYTES if self.has_networks else abi.KEY_BYTES)[version]

    def fill(self, keys: Column, values: Column) -> Iterator[int]:
        """Put many records into a map that no packet meets yet, on two CPUs. Yields how many each time.

        Raises KernelError or MemoryError.
        """
        if len(keys) <= KEYS_A_BATCH:
            yield from self.put(keys, values, len(keys))
            return
        batches = iter(range(0, len(keys), KEYS_A_BATCH))  # whoever is free takes the next

        def put_rest() -> None:
            for at in batches:
                self._put_some(keys, values, at)

        told = 0
        with beside(put_rest):  # the kernel works while Python's lock is released
            try:
                for at in batches:
                    self._put_some(keys, values, at)
                    yield at - told  # what comes before has been taken
                    told = at
            finally:
                deque(batches, maxlen=0)  # of what fails the rest is not put either
        yield len(keys) - told
        self.used += len(keys)

    def put(self, keys: Column, values: Column, new: int) -> Iterator[int]:
        """Write records, `new` of them beside those that are there. Yields how many each time."""
        for at in range(0, len(keys), KEYS_A_BATCH):
            yield self._put_some(keys, values, at)
        self.used += new

    def _put_some(self, keys: Column, values: Column, at: int) -> int:
        """One batch, from this row on; how many records it has."""
        part = keys[at : at + KEYS_A_BATCH]
        values_blob = values[at : at + KEYS_A_BATCH].tobytes()
        retried(libbpf.update_batch, self.descriptor, self._pack(part), values_blob, len(part))
        return len(part)

    def remove(self, keys: Column) -> Iterator[int]:
        """Take records out; those that are not there are passed over. Yields how many each time."""
        for at in range(0, len(keys), KEYS_A_BATCH):
            part = keys[at : at + KEYS_A_BATCH]
            retried(libbpf.delete_batch, self.descriptor, self._pack(part), len(part))
            yield len(part)
        self.used -= len(keys)

    def get(self, key: Column) -> Column | None:
        """The value of one prefix, as a column of one."""
        packed, size = self._pack(key), self.value_type.itemsize
        found = libbpf.lookup(self.descriptor, packed, size)
        if found is None:  # a refusal may look like that (ENOENT), and would cost an entry its counts
            found = libbpf.lookup(self.descriptor, packed, size)
        return None if found is None else np.frombuffer(found, self.value_type)

    def read(self) -> Iterator[tuple[Column, Column]]:
        """Everything in the map as (keys, values), in no order, batch by batch."""
        for keys, values, _ in libbpf.batches(self.descriptor, self._key_bytes, self.value_type.itemsize):
            yield self._unpack(keys), np.frombuffer(values, self.value_type)

    def _pack(self, keys: Column) -> bytes:
        family = FAMILIES[self.version]
        firsts = family.firsts(keys)
        if self.version == 4:
            if not self.has_networks:
                return firsts.astype(">u8").tobytes()
            masks = np.frombuffer(family.masks(keys), ">u4").astype(np.uint64)
            return (firsts << np.uint64(32) | masks).astype(">u8").tobytes()
        if not self.has_networks:
            return family.packed(firsts)
        packed = np.empty((len(keys), 32), np.uint8)
        packed[:, :16] = np.frombuffer(family.packed(firsts), np.uint8).reshape(-1, 16)
        packed[:, 16:] = np.frombuffer(family.masks(keys), np.uint8).reshape(-1, 16)
        return packed.tobytes()

    def _unpack(self, blob: bytes) -> Column:
        family = FAMILIES[self.version]
        if self.version == 4:
            numbers = np.frombuffer(blob, ">u8").astype(np.uint64)
            if not self.has_networks:
                return family.keys(numbers, 32)
            return family.keys(numbers >> np.uint64(32), _bits_set(np.frombuffer(blob, np.uint8).reshape(-1, 8)[:, 4:]))
        if not self.has_networks:
            return family.keys(family.addresses(blob), 128)
        octets = np.frombuffer(blob, np.uint8).reshape(-1, 32)
        return family.keys(family.addresses(octets[:, :16].tobytes()), _bits_set(octets[:, 16:]))


def _bits_set(masks: Column) -> Column:
    """Lengths of netmasks, a row of octets each."""
    lengths: Column = np.unpackbits(masks, axis=1).sum(axis=1, dtype=np.uint8)
    return lengths
