"""A generation: the maps of one list, and the one program that reads them for all interfaces.

Complete beside the one in force, it takes over by one write to the jump table. Small changes go into the maps in force,
in the order that plan.py lays down; a list that outgrows its maps, or a new program text, means another generation.

Does not know files, interfaces, or systemd. When the process dies, what the store does not hold goes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from xdropd.columns.listing import KINDS, SELECTIONS, Kind
from xdropd.columns.prefixes import FAMILIES, Column, find, first_of_each, match, order
from xdropd.errors import KernelError
from xdropd.kernel import abi, libbpf, typeinformation
from xdropd.kernel.abi import Stats
from xdropd.kernel.beside import beside
from xdropd.kernel.compiler import Blueprint
from xdropd.kernel.libbpf import MapShape, TypeInformation
from xdropd.kernel.retry import retried
from xdropd.kernel.tables import hints
from xdropd.kernel.tables.hints import Hints
from xdropd.kernel.tables.ranges import Owner, RangeTable
from xdropd.kernel.tables.records import RecordTable
from xdropd.kernel.tables.volumes import SourceVolumes
from xdropd.rules.plan import Changes
from xdropd.rules.winners import EXEMPT, MONITORS, Records

VERDICT_PROGRAM = "xdrop_verdict"

_TABLES = ("addresses", "networks")
_NOBODYS = np.uint32(0xFFFFFFFF)  # a number that no source has
_ONE_BY_ONE_AT_MOST = 1 << 10
_NO_PROGRAM = -1


def roomy(count: int) -> int:
    """How many entries a map for `count` gets: a quarter more. The kernel rounds its buckets up to a power of two."""
    return max(1024, count + count // 4)


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many entries the FITTED maps hold."""

    addresses4: int = 1024
    addresses6: int = 1024
    networks4: int = 1024
    networks6: int = 1024
    ranges: int = 1024
    sources: int = 64
    address_filter: int = hints.WORDS_AT_LEAST
    prefix_filter: int = hints.WORDS_AT_LEAST

    @classmethod
    def to_hold(cls, counts: Mapping[str, int], source_number: int) -> Sizes:
        """Sizes with room to grow for so many records a table, and for source numbers up to `source_number`."""

        def total(table: str) -> int:
            return sum(counts.get(f"{table}{version}", 0) for version in FAMILIES)

        return cls(
            **{name: roomy(counts.get(name, 0)) for name in ("addresses4", "addresses6", "networks4", "networks6")},
            ranges=roomy(counts.get("ranges", 0) + 1),
            sources=max(64, 2 * source_number),
            address_filter=hints.words_for(total("addresses"), of_prefixes=False),
            prefix_filter=hints.words_for(total("networks"), of_prefixes=True),
        )


def is_map(descriptor: int, name: str) -> bool:
    """Whether a descriptor, wherever it comes from, is a map that can be used as the one of this name."""
    try:
        shape = libbpf.map_shape(descriptor)
    except KernelError:
        return False
    found = (shape.type, shape.key_bytes, shape.value_bytes)
    return shape.name == name[:15] and found == abi.MAP_KINDS.get(name)


def is_program(descriptor: int, name: str) -> bool:
    """Whether a descriptor, wherever it comes from, is a program of this name."""
    try:
        return libbpf.program_shape(descriptor).name == name[:15]
    except KernelError:
        return False


def load(
    blueprint: Blueprint,
    program: str,
    maps: Mapping[str, int],
    numbers: Mapping[str, int] = MappingProxyType({}),
) -> int:
    """Load a program of a blueprint against maps by name and with fitted numbers by name, fit for jumbo frames.

    Others may trace it. The caller closes the descriptor.
    """
    body = bytearray(blueprint.programs[program])
    for at, name in blueprint.references[program]:
        libbpf.set_reference(body, at, maps[name])
    for at, name in blueprint.numbers[program]:
        libbpf.set_constant(body, at, numbers[name])
    types = libbpf.load_types(typeinformation.of_xdp_program(program))
    try:
        told = TypeInformation(types, typeinformation.FUNCTION_TYPE)
        return libbpf.load_xdp_program(program, bytes(body), libbpf.F_XDP_HAS_FRAGS, told)
    finally:
        os.close(types)


def create(blueprint: Blueprint, name: str, max_entries: int | None = None) -> int:
    """Create a map of a blueprint. The caller closes the descriptor."""
    shape = blueprint.maps[name]
    return libbpf.create_map(
        MapShape(name, shape.type, shape.key_bytes, shape.value_bytes, max_entries or shape.max_entries, shape.flags)
    )


class Generation:
    """See the module. `maps` are descriptors by name; they and `program` are owned by the generation until `close`."""

    def __init__(self, number: int, stamp: str, maps: dict[str, int], program: int) -> None:
        self.number = number
        self.stamp = stamp
        self.maps = maps
        self.program = program
        self.removed_since_built = 0
        self.records = {
            f"{table}{version}": RecordTable(f"{table}{version}", maps[f"{table}{version}"], version)
            for table in _TABLES
            for version in FAMILIES
        }
        self.ranges = RangeTable(maps["ranges"])
        self.volumes = SourceVolumes(maps["sources"])
        self._hints = Hints(maps)

    @classmethod
    def build(
        cls,
        blueprint: Blueprint,
        number: int,
        sizes: Sizes,
        shared: Mapping[str, int],
        stamp: str = "",
        *,
        pass_replies: bool = False,
        fill: Callable[[Generation], None] = lambda _: None,
    ) -> Generation:
        """Create maps of these sizes, have `fill` fill them, and load the program that reads them beside that, for the
        verifier takes as long. It may let replies pass.

        Raises KernelError, E2BIG or ENOMEM where memory does not suffice, or MemoryError; nothing is left then.
        """
        maps: dict[str, int] = {}
        try:
            for name in sorted(abi.LIST_MAPS):
                maps[name] = retried(create, blueprint, name, getattr(sizes, name, None))
        except KernelError:
            for descriptor in maps.values():
                os.close(descriptor)
            raise
        fitted = {
            "last_address_word": sizes.address_filter - 1,
            "last_prefix_word": sizes.prefix_filter - 1,
            "pass_replies": int(pass_replies),
        }
        made = cls(number, stamp, maps, _NO_PROGRAM)

        def load_program() -> None:
            made.program = retried(load, blueprint, VERDICT_PROGRAM, {**maps, **shared}, fitted)

        try:
            with beside(load_program):
                fill(made)
        except (KernelError, MemoryError):
            made.close()
            raise
        return made

    def close(self) -> None:
        """Let go of every descriptor."""
        self._hints.close()
        for descriptor in self.maps.values():
            os.close(descriptor)
        if self.program != _NO_PROGRAM:
            os.close(self.program)
        self.maps = {}

    @property
    def parts(self) -> dict[str, int]:
        """All descriptors by name."""
        return {**self.maps, VERDICT_PROGRAM: self.program}

    @property
    def part_count(self) -> int:
        """How many descriptors a whole generation has."""
        return len(abi.LIST_MAPS) + 1

    @property
    def program_id(self) -> int:
        """What the kernel calls the program."""
        return libbpf.program_shape(self.program).id

    @property
    def used(self) -> int:
        """How many records there are."""
        return sum(table.used for table in self.records.values())

    def bookkeeping(self) -> dict[str, Any]:
        """What is known of the maps without reading them, for whoever adopts them as they are: fit for JSON."""
        used = {name: table.used for name, table in self.records.items()}
        return {"used": used, "ranges": self.ranges.used, "removed": self.removed_since_built}

    def take_over_bookkeeping(self, told: dict[str, Any]) -> None:
        """The inverse. Numbers of ranges are read, where there are any. Raises KeyError."""
        for name, table in self.records.items():
            table.used = told["used"][name]
        self.removed_since_built = told["removed"]
        if told["ranges"]:
            self.ranges.learn()

    # ---- changing ----

    def fill(self, version: int, records: Records, since_s: Column | int) -> Iterator[int]:
        """Put records into maps that no packet meets yet. Yields how many each time."""
        is_address = _are_addresses(version, records)
        since = np.broadcast_to(np.asarray(since_s, np.uint32), len(records.keys))
        keys, sources = records.keys[is_address], records.sources[is_address]
        self._hints.set_addresses(version, keys)
        yield 0
        yield from self.records[f"addresses{version}"].fill(keys, abi.fresh_stats(sources, since[is_address]))
        if is_address.all():
            return
        wide = records.taken(~is_address)
        self._hints.set_prefixes(version, wide.keys)
        yield 0
        yield from self._add_ranges(version, wide, since[~is_address])
        yield from self.records[f"networks{version}"].fill(wide.keys, self._networks(version, wide, since[~is_address]))

    def fits(self, changes: Mapping[int, Changes]) -> bool:
        """Whether changes can be carried out in these maps: additions come before removals."""
        new_ranges = 0
        for version, change in changes.items():
            is_address = _are_addresses(version, change.written)
            for table, count in (("addresses", is_address.sum()), ("networks", (~is_address).sum())):
                map_ = self.records[f"{table}{version}"]
                if map_.used + int(count) > map_.room:
                    return False
            if len(change.written.sources) and int(change.written.numbers.max()) >= self.volumes.room:
                return False
            new_ranges += sum(len(np.unique(keys)) for _, _, keys in _by_owner(version, change.written))
        return self.ranges.has_room_for(new_ranges)

    def carry_out(self, changes: Mapping[int, Changes], since_s: int) -> Iterator[int]:
        """Carry changes out in maps in force, yielding how many steps are done each time. `fits` must hold.

        Raises KernelError where the kernel goes on refusing a step; everything that is listed both before and after
        is in force all the same, and the same changes can be carried out again.
        """
        are_addresses = {version: _are_addresses(version, change.written) for version, change in changes.items()}
        for version, change in changes.items():
            is_address = are_addresses[version]
            self._hints.set_addresses(version, change.written.keys[is_address])
            self._hints.set_prefixes(version, change.written.keys[~is_address])
            yield from self._add_ranges(version, change.written, np.full(len(change.written.keys), since_s, np.uint32))
        for what in (_exempt, _dropping, _monitoring):
            for table in _TABLES[::-1]:
                for version, change in changes.items():
                    chosen = (are_addresses[version] == (table == "addresses")) & what(change.written)
                    yield from self._write(table, version, change, chosen, since_s)
        for version, change in changes.items():
            # An address that became a piece of a range or an exempt prefix, or was one, changes its table.
            yield from self._remove("addresses", version, _changing_tables(version, change, to_networks=True))
        for what in (_monitoring, _dropping, _exempt):
            for table in _TABLES:
                for version, change in changes.items():
                    gone = _are_addresses(version, change.removed) == (table == "addresses")
                    yield from self._remove(table, version, change.removed.keys[gone & what(change.removed)])
        for version, change in changes.items():
            yield from self._remove("networks", version, _changing_tables(version, change, to_networks=False))

    def _write(self, table: str, version: int, change: Changes, chosen: Column, since_s: int) -> Iterator[int]:
        records = change.written.taken(chosen)
        if not len(records.keys):
            return
        before = change.replaced.taken(_are_addresses(version, change.replaced) == (table == "addresses"))
        new = len(records.keys) - len(match(records.keys, before.keys)[0])
        since = np.full(len(records.keys), since_s, np.uint32)
        values = (
            abi.fresh_stats(records.sources, since) if table == "addresses" else self._networks(version, records, since)
        )
        yield from self.records[f"{table}{version}"].put(records.keys, values, new)

    def _remove(self, table: str, version: int, keys: Column) -> Iterator[int]:
        if not len(keys):
            return
        self.removed_since_built += len(keys)
        yield from self.records[f"{table}{version}"].remove(keys)

    def _networks(self, version: int, records: Records, since_s: Column) -> Column:
        """struct network; ranges must have their numbers."""
        values = np.zeros(len(records.keys), abi.NETWORK)
        values["stats"] = abi.fresh_stats(records.sources, since_s)
        for owner, rows, keys in _by_owner(version, records):
            values["range"][rows] = self.ranges.numbers_of(owner, keys)
        return values

    def _add_ranges(self, version: int, records: Records, since_s: Column) -> Iterator[int]:
        for owner, rows, of_rows in _by_owner(version, records):
            keys, first = np.unique(of_rows, return_index=True)
            yield from self.ranges.add(owner, keys, since_s[rows[first]])

    # ---- reading ----

    def stats(self, kind: Kind, source: int, key: Column) -> Stats | None:
        """What an entry of a source counts here, its key given as a column of one; None where it has no record."""
        found = self.ranges.get((kind.version, source), key) if kind.is_range else self._own(kind.version, source, key)
        return None if found is None else abi.stats_of(found[0])

    def stats_of(self, version: int, source: int, keys: Column) -> tuple[Column, Column]:
        """Of ascending prefixes that are entries of a source here: (keys, stats), ascending."""
        if len(keys) > _ONE_BY_ONE_AT_MOST:
            parts = []
            for some, stats in self.entries(Kind(version, is_range=False)):
                rows, found = find(keys, some)
                found &= stats["source"] == source
                parts.append((some[found], stats[found]))
        else:
            singly = [(keys[at : at + 1], self._own(version, source, keys[at : at + 1])) for at in range(len(keys))]
            parts = [(key, stats) for key, stats in singly if stats is not None]
        return _sorted_together(parts, FAMILIES[version].key_type)

    def entries(self, kind: Kind) -> Iterator[tuple[Column, Column]]:
        """Every entry of a kind that has records, as (keys, stats), in no order, batch by batch."""
        if kind.is_range:
            yield from ((keys, stats) for (version, _), keys, stats in self.ranges.read() if version == kind.version)
            return
        for name in _TABLES:
            table = self.records[f"{name}{kind.version}"]
            for keys, values in table.read():
                own = np.ones(len(keys), bool)
                if table.has_networks:
                    own = (values["range"] == 0) & (values["stats"]["source"] != EXEMPT)
                stats = (values["stats"] if table.has_networks else values)[own]
                stats["source"] &= ~MONITORS
                yield keys[own], stats

    def counted(self) -> Iterator[tuple[Kind, int, Column, Column]]:
        """All entries that were hit, as (kind, source, ascending keys, stats), each kind and source once."""
        if not any(self.volumes.get(number).packets for number in range(1, self.volumes.room)):
            return  # to look at two million records would take a second
        found: dict[tuple[Kind, int], list[tuple[Column, Column]]] = {}
        for kind in KINDS:
            for keys, stats in self.entries(kind):
                hit = stats["packets"] > 0
                for source in np.unique(stats["source"][hit]).tolist():
                    rows = hit & (stats["source"] == source)
                    found.setdefault((kind, source), []).append((keys[rows], stats[rows]))
        for (kind, source), parts in found.items():
            yield kind, source, *_sorted_together(parts, kind.key_type)

    def read(self, version: int) -> tuple[Records, int]:
        """The records of one family that are in the maps, and how many were there that can mean nothing.

        Learns how many there are. A record that stands in the way of one for the same prefix is taken out.
        """
        family = FAMILIES[version]
        parts = []
        for name in _TABLES:
            table = self.records[f"{name}{version}"]
            table.used = 0
            for keys, values in table.read():
                table.used += len(keys)
                stats = values["stats"] if table.has_networks else values
                numbers = values["range"] if table.has_networks else np.zeros(len(keys), np.uint32)
                parts.append((keys, stats["source"].copy(), numbers, np.full(len(keys), table.has_networks)))
        if not parts:
            return Records(family.empty_keys(), np.zeros(0, np.uint32), np.zeros(0, family.range_type)), 0
        keys, sources, numbers, in_networks = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        rows = order(keys)  # of equal keys the address, which packets meet first, stays first
        keys, sources, numbers, in_networks = (each[rows] for each in (keys, sources, numbers, in_networks))
        repeated = ~first_of_each(keys)
        misplaced = ~in_networks & (sources == EXEMPT)
        strays = keys[repeated]
        for _ in self._remove("networks", version, strays):
            pass
        keys, sources, numbers, misplaced = (each[~repeated] for each in (keys, sources, numbers, misplaced))
        sources = np.where(misplaced, _NOBODYS, sources)  # an address of nobody: differs from anything wanted
        ranges, known = self.ranges.keys_by_number(version, numbers)
        return Records(keys, np.where(known | (numbers == 0), sources, _NOBODYS), ranges), len(strays)

    def mend_hints(self, version: int, records: Records) -> int:
        """Set every hint that leads to these records, as it should be already; how many bits were missing."""
        is_address = _are_addresses(version, records)
        return self._hints.set_addresses(version, records.keys[is_address]) + self._hints.set_prefixes(
            version, records.keys[~is_address]
        )

    def _own(self, version: int, source: int, key: Column) -> Column | None:
        """The stats of a prefix that is an entry of a source, as a column of one."""
        is_address = FAMILIES[version].lengths(key)[0] == FAMILIES[version].width
        table = self.records[f"{'addresses' if is_address else 'networks'}{version}"]
        value = table.get(key)
        if value is None or (table.has_networks and value["range"][0]):
            return None
        stats: Column = value["stats"] if table.has_networks else value
        return stats if stats["source"][0] & ~MONITORS == source else None


def counts_of(records: Mapping[int, Records]) -> dict[str, int]:
    """How many records each table would hold."""
    counts = {"ranges": 0}
    for version, each in records.items():
        is_address = _are_addresses(version, each)
        counts[f"addresses{version}"] = int(is_address.sum())
        counts[f"networks{version}"] = int((~is_address).sum())
        counts["ranges"] += sum(len(np.unique(keys)) for _, _, keys in _by_owner(version, each))
    return counts


def _sorted_together(parts: list[tuple[Column, Column]], key_type: np.dtype[Any]) -> tuple[Column, Column]:
    if not parts:
        return np.zeros(0, key_type), np.zeros(0, abi.STATS)
    keys, stats = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    rows = order(keys)
    return keys[rows], stats[rows]


def are_pieces(version: int, records: Records) -> Column:
    """Which of these records are pieces of ranges or selections."""
    found: Column = records.ranges != np.zeros(1, FAMILIES[version].range_type)
    return found


def wholes_of(version: int, records: Records) -> Iterator[tuple[Kind, Column, Column]]:
    """Of records that are pieces: by kind, their rows, and what the whole of each is called among those of its kind."""
    pieces = np.flatnonzero(are_pieces(version, records))
    if len(pieces):
        codes = FAMILIES[version].selections_in(records.ranges[pieces])
        of_ranges, of_selections = np.flatnonzero(codes == 0), np.flatnonzero(codes)
        if len(of_ranges):
            yield Kind(version, is_range=True), pieces[of_ranges], records.ranges[pieces[of_ranges]]
        if len(of_selections):
            yield SELECTIONS, pieces[of_selections], codes[of_selections]


def _by_owner(version: int, records: Records) -> Iterator[tuple[Owner, Column, Column]]:
    """The same by owner, and not by kind."""
    for kind, rows, keys in wholes_of(version, records):
        numbers = records.numbers[rows]
        for number in np.unique(numbers).tolist():
            of_source = np.flatnonzero(numbers == number)
            yield (kind.version, number), rows[of_source], keys[of_source]


def _exempt(records: Records) -> Column:
    found: Column = records.sources == EXEMPT
    return found


def _monitoring(records: Records) -> Column:
    return records.monitor


def _dropping(records: Records) -> Column:
    found: Column = (records.sources != EXEMPT) & ~records.monitor
    return found


def _are_addresses(version: int, records: Records) -> Column:
    """Which of these records stand in the table of addresses: entries that are one address."""
    family = FAMILIES[version]
    found: Column = family.lengths(records.keys) == family.width
    found &= records.sources != EXEMPT
    found &= ~are_pieces(version, records)
    return found


def _changing_tables(version: int, change: Changes, *, to_networks: bool) -> Column:
    """Keys that are replaced by a record in the other table."""
    rows_new, rows_old = match(change.written.keys, change.replaced.keys)
    now = _are_addresses(version, change.written.taken(rows_new))
    then = _are_addresses(version, change.replaced.taken(rows_old))
    moving = (then & ~now) if to_networks else (now & ~then)
    keys: Column = change.written.keys[rows_new[moving]]
    return keys
