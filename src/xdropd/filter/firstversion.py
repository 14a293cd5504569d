"""What the first version left in the store: its generations, of which the counts are taken over.

Its links and jump tables are as ours. Its program goes on until ours takes its place in them. Of its maps, addresses
have the layout of struct stats, `cells` (networks as well as ranges) that of struct range, and `sources` is the same.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping

import numpy as np

from xdropd.columns.listing import Kind, prefix_length
from xdropd.columns.prefixes import FAMILIES, Column
from xdropd.errors import KernelError
from xdropd.kernel import abi, libbpf
from xdropd.kernel.abi import Stats
from xdropd.kernel.tables.records import RecordTable
from xdropd.kernel.tables.volumes import SourceVolumes

_MAPS = {
    "addresses4": abi.MAP_KINDS["addresses4"],
    "addresses6": abi.MAP_KINDS["addresses6"],
    "cells": abi.MAP_KINDS["ranges"],
    "sources": abi.MAP_KINDS["sources"],
}
_PARKED = struct.Struct("=B16sIQQQI")  # version, address, source; packets, bytes, last seen, since


class FirstVersionsGeneration:
    """Read only. Descriptors belong to it until `close`."""

    def __init__(self, number: int, stamp: str, part_count: int, parts: dict[str, int]) -> None:
        self.number = number
        self.stamp = stamp
        self.part_count = part_count
        self.parts = parts
        self.volumes = SourceVolumes(parts["sources"])

    @staticmethod
    def is_one(parts: Mapping[str, int]) -> bool:
        """Whether all is there that is read here, and such as it was."""
        try:
            shapes = {name: libbpf.map_shape(parts[name]) for name in _MAPS if name in parts}
        except KernelError:
            return False
        found = {name: (shape.type, shape.key_bytes, shape.value_bytes) for name, shape in shapes.items()}
        return found == _MAPS

    def close(self) -> None:
        """Let go of every descriptor."""
        for descriptor in self.parts.values():
            os.close(descriptor)
        self.parts = {}

    def stats(self, kind: Kind, source: int, key: Column) -> Stats | None:  # noqa: ARG002
        """Not asked for before they are saved."""
        return None

    def entries(self, kind: Kind) -> Iterator[tuple[Column, Column]]:
        """Every entry of a kind, as (keys, stats), in no order."""
        if not kind.is_range:
            name = f"addresses{kind.version}"
            yield from RecordTable(name, self.parts[name], kind.version).read()
        yield from ((keys, stats) for each, keys, stats in self._cells() if each == kind)

    def counted(self) -> Iterator[tuple[Kind, int, Column, Column]]:
        """All entries that were hit, as (kind, source, ascending keys, stats)."""
        found = [
            (Kind(version, is_range=False), *each)
            for version in FAMILIES
            for each in RecordTable(f"addresses{version}", self.parts[f"addresses{version}"], version).read()
        ]
        for kind, keys, stats in (*found, *self._cells()):
            hit = stats["packets"] > 0
            for source in np.unique(stats["source"][hit]).tolist():
                rows = np.flatnonzero(hit & (stats["source"] == source))
                rows = rows[np.argsort(keys[rows], kind="stable")]
                yield kind, source, keys[rows], stats[rows]

    def _cells(self) -> Iterator[tuple[Kind, Column, Column]]:
        """Networks and ranges, a kind at a time."""
        for _, blob, _ in libbpf.batches(self.parts["cells"], abi.NUMBER_BYTES, abi.RANGE.itemsize):
            values = np.frombuffer(blob, abi.RANGE)
            for version, family in FAMILIES.items():
                rows = np.flatnonzero(values["version"] == version)
                size = family.width // 8
                ends = (
                    np.ascontiguousarray(values[end][rows]).view(np.uint8).reshape(-1, 16) for end in ("first", "last")
                )
                firsts, lasts = (family.addresses(each[:, :size].tobytes()) for each in ends)
                lengths = [
                    prefix_length(version, first, last)
                    for first, last in zip(family.ints(firsts), family.ints(lasts), strict=True)
                ]
                wide = np.array([length is None for length in lengths], bool)
                if not wide.all():
                    known = np.array([length for length in lengths if length is not None], np.uint8)
                    yield Kind(version, is_range=False), family.keys(firsts[~wide], known), values["stats"][rows[~wide]]
                if wide.any():
                    keys = family.range_keys(firsts[wide], lasts[wide])
                    yield Kind(version, is_range=True), keys, values["stats"][rows[wide]]


def parked_counts(descriptor: int) -> Iterator[tuple[Kind, int, Column, Column]]:
    """Counters of addresses that were not in its maps, from the memory file in which it kept them."""
    size = os.fstat(descriptor).st_size
    for version, address, source, *counts in _PARKED.iter_unpack(os.pread(descriptor, size - size % _PARKED.size, 0)):
        family = FAMILIES.get(version)
        if family is not None:
            stats = np.array([(*counts, source)], abi.STATS)
            yield Kind(version, is_range=False), source, family.key(int.from_bytes(address, "big"), family.width), stats
