"""A generation: the maps of one list and the programs that read them.

Complete beside the one in force, it takes over by one write to each interface's program array. Small changes go into
the maps in force, in the order that plan.py lays down; a list that outgrows its maps, or a new program text, means
another generation: cloned from the maps in force, changed, swapped in, and given what the old one counted meanwhile.

Knows the maps of xdrop.bpf.c by name. Does not know files, interfaces' names, or systemd.
"""

import errno
import os
from array import array
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain, islice
from types import MappingProxyType
from typing import ParamSpec, TypeVar

from xdropd.errors import KernelError
from xdropd.kernel import libbpf, shapes
from xdropd.kernel.compiler import Blueprint
from xdropd.kernel.libbpf import MapShape
from xdropd.kernel.shapes import History, Volume
from xdropd.rules.plan import Plan
from xdropd.rules.ruleset import VERSIONS, Layout, Listed, Prefix, at_once
from xdropd.text.addresses import WIDTH, Span, ntohl

VERDICT_PROGRAM = "xdrop_verdict"
ROOT_PROGRAM = "xdrop_root"

INTERFACE_MAPS = frozenset({"in_force", "tallies"})
SHARED_MAPS = frozenset({"settings", "next_sample_ns", "samples"})
ORDER_PROGRAMS = frozenset({"xdrop_mark", "xdrop_carry"})

_ADDRESSES = {4: "addresses4", 6: "addresses6"}
_NETWORKS = {4: "networks4", 6: "networks6"}

# Type, key and value bytes of every map that is read or written here or in filter.py, as xdrop.bpf.c declares them.
MAP_KINDS = {
    "in_force": (libbpf.MAP_PROG_ARRAY, shapes.NUMBER_BYTES, shapes.NUMBER_BYTES),
    "tallies": (libbpf.MAP_PERCPU_ARRAY, shapes.NUMBER_BYTES, shapes.TALLY_BYTES),
    "settings": (libbpf.MAP_ARRAY, shapes.NUMBER_BYTES, shapes.SETTINGS_BYTES),
    "next_sample_ns": (libbpf.MAP_ARRAY, shapes.NUMBER_BYTES, 8),
    "samples": (libbpf.MAP_QUEUE, 0, shapes.SAMPLE_BYTES),
    "addresses4": (libbpf.MAP_HASH, shapes.KEY_BYTES[4], shapes.HISTORY_BYTES),
    "addresses6": (libbpf.MAP_HASH, shapes.KEY_BYTES[6], shapes.HISTORY_BYTES),
    "networks4": (libbpf.MAP_HASH, shapes.PREFIX_BYTES[4], shapes.NUMBER_BYTES),
    "networks6": (libbpf.MAP_HASH, shapes.PREFIX_BYTES[6], shapes.NUMBER_BYTES),
    "cells": (libbpf.MAP_ARRAY, shapes.NUMBER_BYTES, shapes.CELL_BYTES),
    "sources": (libbpf.MAP_PERCPU_ARRAY, shapes.NUMBER_BYTES, shapes.VOLUME_BYTES),
}

_KEYS_A_BATCH = 1 << 16
_PIECE = 1 << 11
_WORDS_AT_LEAST = 1 << 8
_WORDS_AT_MOST = 1 << 24  # what the program's hash can tell apart
_ADDRESSES_A_WORD = 8  # at most, and at least half of it: few false alarms, in 1 MB for a million
_PREFIXES_A_WORD = 4
_TRIES = 4

_P = ParamSpec("_P")
_T = TypeVar("_T")


def insist(step: Callable[_P, _T], *arguments: _P.args, **named: _P.kwargs) -> _T:
    """The result of a step, tried a few times: one refused call must not leave a list half in force.

    A full map (E2BIG) is not tried again, for it stays full.
    """
    for left in reversed(range(_TRIES)):
        try:
            return step(*arguments, **named)
        except KernelError as refusal:
            if not left or (refusal.errno == errno.E2BIG and left < _TRIES - 1):
                raise
    raise AssertionError("unreachable")


def roomy(count: int) -> int:
    """How many entries a map for `count` gets: a quarter more. The kernel rounds its buckets up to a power of two."""
    return max(1024, count + count // 4)


def _words(keys: int, keys_a_word: int) -> int:
    """How many words a filter for so many keys gets: a power of two."""
    return min(max(1 << (keys // keys_a_word).bit_length(), _WORDS_AT_LEAST), _WORDS_AT_MOST)


def is_map(descriptor: int, name: str) -> bool:
    """Whether a descriptor, wherever it comes from, is a map that can be used as the one of this name."""
    try:
        shape = libbpf.map_shape(descriptor)
    except KernelError:
        return False
    found = (shape.type, shape.key_bytes, shape.value_bytes)
    return shape.name == name[:15] and found == MAP_KINDS.get(name, found)


def is_program(descriptor: int, name: str) -> bool:
    """Whether a descriptor, wherever it comes from, is a program of this name."""
    try:
        return libbpf.program_shape(descriptor).name == name[:15]
    except KernelError:
        return False


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many entries the FITTED maps hold."""

    addresses4: int = 1024
    addresses6: int = 1024
    networks4: int = 1024
    networks6: int = 1024
    cells: int = 1024
    sources: int = 64
    address_filter: int = _WORDS_AT_LEAST
    prefix_filter: int = _WORDS_AT_LEAST

    @classmethod
    def to_hold(cls, layout_counts: Mapping[str, int], source_number: int) -> "Sizes":
        """Sizes with room to grow for so many keys a map, and for source numbers up to `source_number`."""
        return cls(
            addresses4=roomy(layout_counts["addresses4"]),
            addresses6=roomy(layout_counts["addresses6"]),
            networks4=roomy(layout_counts["networks4"]),
            networks6=roomy(layout_counts["networks6"]),
            cells=roomy(layout_counts["cells"] + 1),
            sources=max(64, 2 * source_number),
            address_filter=_words(layout_counts["addresses4"] + layout_counts["addresses6"], _ADDRESSES_A_WORD),
            prefix_filter=_words(layout_counts["networks4"] + layout_counts["networks6"], _PREFIXES_A_WORD),
        )


def make_room(addresses: int) -> int:
    """The map of IPv4 addresses alone, for about so many: the kernel takes half a second over a million."""
    return libbpf.create_map(MapShape(_ADDRESSES[4], *MAP_KINDS[_ADDRESSES[4]], roomy(addresses), 0))


def load(
    blueprint: Blueprint,
    program: str,
    maps: Mapping[str, int],
    numbers: Mapping[str, int] = MappingProxyType({}),
) -> int:
    """Load a program of a blueprint against maps by name and with fitted numbers by name, fit for jumbo frames.

    The caller closes the descriptor.
    """
    body = bytearray(blueprint.programs[program])
    for at, name in blueprint.references[program]:
        libbpf.set_reference(body, at, maps[name])
    for at, name in blueprint.numbers[program]:
        libbpf.set_constant(body, at, numbers[name])
    return libbpf.load_xdp_program(program, bytes(body), libbpf.F_XDP_HAS_FRAGS)


def _numbers(address_words: int, prefix_words: int) -> dict[str, int]:
    """The fitted numbers of filters that have so many words, powers of two."""
    return {"last_address_word": address_words - 1, "last_prefix_word": prefix_words - 1}


def create(blueprint: Blueprint, name: str, max_entries: int | None = None) -> int:
    """Create a map of a blueprint. The caller closes the descriptor."""
    shape = blueprint.maps[name]
    return libbpf.create_map(
        MapShape(name, shape.type, shape.key_bytes, shape.value_bytes, max_entries or shape.max_entries, shape.flags)
    )


class Generation:
    """See the module. `maps` and `programs` are descriptors by name, owned by the generation until `close`.

    When the process dies, what the store does not hold goes; what is in force stays as long as its link does.
    """

    def __init__(
        self, blueprint: Blueprint | None, number: int, stamp: str, maps: dict[str, int], programs: dict[str, int]
    ) -> None:
        self._blueprint = blueprint
        self.number = number
        self.stamp = stamp
        self.maps = maps
        self.programs = programs
        self._sizes = {name: libbpf.map_shape(descriptor).max_entries for name, descriptor in maps.items()}
        self.cells: dict[Listed, int] = {}
        self._free_cells: list[int] = []
        self._next_cell = 1
        self.used = dict.fromkeys((*_ADDRESSES.values(), *_NETWORKS.values()), 0)
        self.removed_since_built = 0
        self._cpus = libbpf.possible_cpus()

    @classmethod
    def build(
        cls,
        blueprint: Blueprint,
        number: int,
        sizes: Sizes,
        shared: Mapping[str, int],
        stamp: str = "",
        ready_made: Mapping[str, int] = MappingProxyType({}),
    ) -> "Generation":
        """Create empty maps of these sizes (but for what is `ready_made`) and the programs the daemon runs itself.

        Raises KernelError, E2BIG or ENOMEM where memory does not suffice; nothing is left then.
        """
        maps: dict[str, int] = dict(ready_made)
        programs: dict[str, int] = {}
        try:
            for name in blueprint.maps.keys() - INTERFACE_MAPS - SHARED_MAPS - ready_made.keys():
                maps[name] = insist(create, blueprint, name, getattr(sizes, name, None))
            everything = {**maps, **shared}
            numbers = _numbers(sizes.address_filter, sizes.prefix_filter)
            for name in sorted(ORDER_PROGRAMS):
                programs[name] = insist(load, blueprint, name, everything, numbers)
        except KernelError:
            for descriptor in (*maps.values(), *programs.values()):
                os.close(descriptor)
            raise
        return cls(blueprint, number, stamp, maps, programs)

    def close(self) -> None:
        """Let go of every descriptor."""
        for descriptor in (*self.maps.values(), *self.programs.values()):
            os.close(descriptor)
        self.maps, self.programs = {}, {}

    def verdict_program(self, interface: str, shared: Mapping[str, int], interface_maps: Mapping[str, int]) -> int:
        """The program for one interface, which counts in that interface's totals. Loaded once an interface."""
        name = f"{VERDICT_PROGRAM}.{interface}"
        if name not in self.programs:
            assert self._blueprint, "an adopted generation has the programs it was found with"
            maps = {**self.maps, **shared, **interface_maps}
            numbers = _numbers(self._sizes["address_filter"], self._sizes["prefix_filter"])
            self.programs[name] = insist(load, self._blueprint, VERDICT_PROGRAM, maps, numbers)
        return self.programs[name]

    def forget_interface(self, interface: str) -> None:
        """Close the program of an interface that is gone."""
        descriptor = self.programs.pop(f"{VERDICT_PROGRAM}.{interface}", None)
        if descriptor is not None:
            os.close(descriptor)

    def give_blueprint(self, blueprint: Blueprint) -> None:
        """What further interfaces' programs are made from, for a generation that was adopted."""
        self._blueprint = blueprint

    # ---- what is in the maps ----

    def size_of(self, name: str) -> int:
        """How many entries a map can hold."""
        return self._sizes[name]

    def fits(self, plan: Plan) -> bool:
        """Whether a plan can be carried out in these maps: additions come before removals."""
        for version in VERSIONS:
            set_here = plan.addresses_set[version]
            if self.used[_ADDRESSES[version]] + plan.new_addresses[version] > self._sizes[_ADDRESSES[version]]:
                return False
            if self.used[_NETWORKS[version]] + plan.new_prefixes[version] > self._sizes[_NETWORKS[version]]:
                return False
            if set_here and max(set_here.values()) >= self._sizes["sources"]:
                return False
        numbers = [listed.source for listed in plan.cells_added]
        if numbers and max(numbers) >= self._sizes["sources"]:
            return False
        return self._next_cell + len(plan.cells_added) - len(self._free_cells) <= self._sizes["cells"]

    def counts_after(self, plan: Plan) -> dict[str, int]:
        """How many keys each map would hold in the middle of a plan, when all is added and nothing removed."""
        counts = {"cells": len(self.cells) + len(plan.cells_added)}
        for version in VERSIONS:
            counts[_ADDRESSES[version]] = self.used[_ADDRESSES[version]] + plan.new_addresses[version]
            counts[_NETWORKS[version]] = self.used[_NETWORKS[version]] + plan.new_prefixes[version]
        return counts

    def fill(self, version: int, source: int, keys: Collection[int], since_s: int) -> Iterator[int]:
        """Put addresses into maps that are not in force yet, yielding how many each time. The last written counts."""
        size = shapes.KEY_BYTES[version]
        blob = pack_keys(version, keys)
        values = History(0, 0, 0, since_s, source).pack() * min(len(keys), _KEYS_A_BATCH)

        def put(at: int) -> int:
            chunk = blob[at : at + size * _KEYS_A_BATCH]
            count = len(chunk) // size
            packed = values[: count * shapes.HISTORY_BYTES]
            insist(libbpf.update_batch, self.maps[_ADDRESSES[version]], chunk, packed, count)
            return count

        with ThreadPoolExecutor(max_workers=2) as pool:  # the kernel works while Python's lock is released
            steps = [pool.submit(put, at) for at in range(0, len(blob), size * _KEYS_A_BATCH)]
            self._mark(shapes.MARK_ADDRESSES[version], size, blob)  # one thread only: bits are set without a lock
            for step in steps:
                yield step.result()
        self.used[_ADDRESSES[version]] += len(keys)

    def apply(self, plan: Plan, since_s: int, known: Mapping[tuple[int, int, int], History] | None = None) -> None:
        """All of `carry_out` at once, for a plan that is not large."""
        for _ in self.carry_out(plan, since_s, known):
            pass

    def carry_out(
        self, plan: Plan, since_s: int, known: Mapping[tuple[int, int, int], History] | None = None
    ) -> Iterator[int]:
        """Carry out a plan in the maps, in force or not, yielding how many steps are done each time. `fits` must hold.

        `known` gives the history of addresses that come back, by (version, key, source number); the rest start now.
        Raises KernelError where the kernel goes on refusing a step; everything that is listed both before and after
        is in force all the same, and the same plan can be applied again.
        """
        for _ in self.mark(plan.addresses_set, chain(plan.exempt_set, (prefix for prefix, _ in plan.listed_set))):
            yield 0
        for cells in _pieces(plan.cells_added):
            self._add_cells(dict.fromkeys(cells, since_s))
            yield len(cells)
        for exempt in _pieces(plan.exempt_set):
            self._set_prefixes(dict.fromkeys(exempt, 0))
            yield len(exempt)
        for winners in _pieces(plan.listed_set):
            self._set_prefixes({prefix: self.cells[listed] for prefix, listed in winners})
            yield len(winners)
        for version in VERSIONS:
            yield from self._set_addresses(version, plan.addresses_set[version], since_s, known or {})
        for version in VERSIONS:
            yield from self._remove_addresses(version, plan.addresses_removed[version])
        for gone in _pieces(chain(plan.listed_removed, plan.exempt_removed)):
            for prefix in gone:
                self._remove_prefix(prefix)
            yield len(gone)
        for over in _pieces(plan.cells_removed):
            for listed in over:
                self._remove_cell(listed)
            yield len(over)
        self._count(plan)

    def hand_over(self, plan: Plan, since_s: int, known: Mapping[tuple[int, int, int], History]) -> Plan:
        """Carry out what needs no room, addresses that change their source; the plan that remains.

        So that what a swap carries over from here is added to the same entry and no other of that address.
        """
        left: dict[int, dict[int, int]] = {}
        for version in VERSIONS:
            changing, wanted = plan.addresses_reowned[version], plan.addresses_set[version]
            for _ in self._set_addresses(version, {key: wanted[key] for key in changing}, since_s, known):
                pass
            left[version] = {key: source for key, source in wanted.items() if key not in changing}
        return replace(plan, addresses_set=left, addresses_reowned={4: {}, 6: {}})

    def _count(self, plan: Plan) -> None:
        for version in VERSIONS:
            removed = len(plan.addresses_removed[version])
            gone = sum(prefix.version == version for prefix in (*plan.listed_removed, *plan.exempt_removed))
            self.used[_ADDRESSES[version]] += plan.new_addresses[version] - removed
            self.used[_NETWORKS[version]] += plan.new_prefixes[version] - gone
            self.removed_since_built += removed + gone

    def _set_addresses(
        self, version: int, wanted: Mapping[int, int], since_s: int, known: Mapping[tuple[int, int, int], History]
    ) -> Iterator[int]:
        fresh = {source: History(0, 0, 0, since_s, source).pack() for source in set(wanted.values())}
        for chunk in _chunks(wanted):
            values = b"".join(
                history.pack() if known and (history := known.get((version, key, source))) else fresh[source]
                for key, source in chunk.items()
            )
            insist(libbpf.update_batch, self.maps[_ADDRESSES[version]], pack_keys(version, chunk), values, len(chunk))
            yield len(chunk)

    def _remove_addresses(self, version: int, gone: Mapping[int, int]) -> Iterator[int]:
        for chunk in _chunks(gone):
            insist(libbpf.delete_batch, self.maps[_ADDRESSES[version]], pack_keys(version, chunk), len(chunk))
            yield len(chunk)

    def _set_prefixes(self, numbers: Mapping[Prefix, int]) -> None:
        for version in VERSIONS:
            keys = b"".join(shapes.prefix(*prefix) for prefix in numbers if prefix.version == version)
            values = b"".join(shapes.number(cell) for prefix, cell in numbers.items() if prefix.version == version)
            if keys:
                count = len(values) // shapes.NUMBER_BYTES
                insist(libbpf.update_batch, self.maps[_NETWORKS[version]], keys, values, count)

    def _remove_prefix(self, prefix: Prefix) -> None:
        name = _NETWORKS[prefix.version]
        key = shapes.prefix(*prefix)
        insist(lambda: libbpf.delete(self.maps[name], key) or libbpf.delete(self.maps[name], key))  # "not there"? Sure?

    def _add_cells(self, since_s: Mapping[Listed, int]) -> None:
        """Networks and ranges that nobody hit yet, each with the moment since when it is listed."""
        added = [listed for listed in since_s if listed not in self.cells]
        reused = self._free_cells[max(0, len(self._free_cells) - len(added)) :]
        numbers = [*reused, *range(self._next_cell, self._next_cell + len(added) - len(reused))]
        values = b"".join(
            shapes.cell(History(0, 0, 0, since_s[listed], listed.source), *listed.span) for listed in added
        )
        if added:
            keys = b"".join(map(shapes.number, numbers))
            insist(libbpf.update_batch, self.maps["cells"], keys, values, len(added))
        del self._free_cells[len(self._free_cells) - len(reused) :]
        self._next_cell += len(added) - len(reused)
        self.cells.update(zip(added, numbers, strict=True))

    def _remove_cell(self, listed: Listed) -> None:
        number = self.cells.pop(listed, None)
        if number is not None:
            insist(libbpf.update, self.maps["cells"], shapes.number(number), bytes(shapes.CELL_BYTES))
            self._free_cells.append(number)

    def _mark(self, kind: int, item_bytes: int, items: bytes) -> None:
        step = item_bytes * shapes.MARKS_AT_MOST[kind]
        for at in range(0, len(items), step):
            self._order("xdrop_mark", shapes.order(kind, items[at : at + step]))

    def _mark_prefixes(self, prefixes: Iterable[Prefix]) -> None:
        items: dict[int, list[bytes]] = {4: [], 6: []}
        for prefix in prefixes:
            items[prefix.version] += places_of(prefix)
        for version in VERSIONS:
            self._mark(shapes.MARK_NETWORKS[version], shapes.PREFIX_BYTES[version], b"".join(items[version]))

    def _order(self, program: str, order: bytes) -> None:
        answer = insist(libbpf.test_run, self.programs[program], order)
        if answer != shapes.ORDER_DONE:
            raise KernelError(f"run {program}", errno.EINVAL, f"the program answered {answer}")

    # ---- reading back ----

    def layout(self) -> Layout:
        """Everything that is in the maps, for comparing with what should be. Learns the cells of an adopted one."""
        addresses: dict[int, dict[int, int]] = {}
        for version in VERSIONS:
            addresses[version] = {}
            for keys, sources in self.address_batches(version):
                addresses[version].update(zip(keys, sources, strict=True))
            self.used[_ADDRESSES[version]] = len(addresses[version])
        return replace(at_once(self.networks()), addresses=addresses)

    def address_batches(self, version: int) -> Iterator[tuple[list[int], list[int]]]:
        """Every address in the maps and the number of its source, as two lists a batch."""
        for keys, values, _ in self._batches(_ADDRESSES[version], shapes.HISTORY_BYTES):
            sources = memoryview(values).cast("I")[shapes.SOURCE_AT :: shapes.HISTORY_BYTES // 4]
            yield unpack_keys(version, keys), sources.tolist()

    def networks(self) -> Generator[None, None, Layout]:
        """The prefixes and cells that are in the maps, as `layout`. Yields now and then."""
        yield from self._learn_cells()
        by_number = {number: listed for listed, number in self.cells.items()}
        prefixes: dict[Prefix, Listed | None] = {}
        for version in VERSIONS:
            for keys, values, _ in self._batches(_NETWORKS[version], shapes.NUMBER_BYTES):
                for (first, length_bits), number in zip(
                    shapes.read_prefixes(version, keys), shapes.read_numbers(values), strict=True
                ):
                    lost = Listed(Span(version, first, first), -1)  # a cell that is gone: differs from anything wanted
                    prefixes[Prefix(version, first, length_bits)] = by_number.get(number, lost) if number else None
                yield
            self.used[_NETWORKS[version]] = sum(prefix.version == version for prefix in prefixes)
        return Layout(prefixes=prefixes, cells=frozenset(self.cells))

    def mark(self, addresses: Mapping[int, Collection[int]], prefixes: Iterable[Prefix]) -> Iterator[None]:
        """Set every hint that leads to these, by version. Yields now and then."""
        for version, keys in addresses.items():
            for some in _pieces(keys):
                self._mark(shapes.MARK_ADDRESSES[version], shapes.KEY_BYTES[version], pack_keys(version, some))
                yield
        for places in _pieces(prefixes):
            self._mark_prefixes(places)
            yield

    def hint_bits(self) -> int:
        """How many bits of all hints are set: only ever more of them, unless somebody else writes there."""
        overview = libbpf.lookup(self.maps["hints"], shapes.number(0), shapes.HINTS_BYTES) or b""
        return int.from_bytes(overview, "little").bit_count() + sum(
            int.from_bytes(values, "little").bit_count()
            for name, value_bytes in shapes.HINT_MAPS.items()
            for _, values, _ in libbpf.batches(self.maps[name], shapes.NUMBER_BYTES, value_bytes)
        )

    def count_addresses(self, version: int, count: int) -> None:
        """How many addresses there turned out to be."""
        self.used[_ADDRESSES[version]] = count

    def _learn_cells(self) -> Iterator[None]:
        self.cells, self._free_cells, self._next_cell = {}, [], 1
        free = []
        for keys, values, _ in self._batches("cells", shapes.CELL_BYTES):
            for number, (history, version, first, last) in zip(
                shapes.read_numbers(keys), shapes.read_cells(values), strict=True
            ):
                if version in VERSIONS and number:
                    self.cells[Listed(Span(version, first, last), history.source)] = number
                    self._next_cell = max(self._next_cell, number + 1)
                elif number:
                    free.append(number)
            yield
        self._free_cells = [number for number in reversed(free) if number < self._next_cell]

    def _batches(self, name: str, value_bytes: int) -> Iterator[tuple[bytes, bytes, int]]:
        key_bytes = {
            **{_ADDRESSES[version]: shapes.KEY_BYTES[version] for version in VERSIONS},
            **{_NETWORKS[version]: shapes.PREFIX_BYTES[version] for version in VERSIONS},
        }.get(name, shapes.NUMBER_BYTES)
        return libbpf.batches(self.maps[name], key_bytes, value_bytes)

    def address_history(self, version: int, key: int) -> History | None:
        """What is known of a listed address; None where it is not in the maps."""
        packed = key.to_bytes(shapes.KEY_BYTES[version], "big")
        found = libbpf.lookup(self.maps[_ADDRESSES[version]], packed, shapes.HISTORY_BYTES)
        return shapes.read_history(found) if found else None

    def cell_history(self, listed: Listed) -> History | None:
        """What is known of a network or range."""
        number = self.cells.get(listed)
        if number is None:
            return None
        found = libbpf.lookup(self.maps["cells"], shapes.number(number), shapes.CELL_BYTES)
        return shapes.read_history(found) if found else None

    def listed_in(self, cell: int) -> Listed | None:
        """The network or range that a sample names by its cell."""
        return next((listed for listed, number in self.cells.items() if number == cell), None)

    def seen_addresses(self) -> Iterator[list[tuple[int, int, History]]]:
        """Every address that has a packet to its name, as (version, key, history), batch by batch."""
        for version in VERSIONS:
            size = shapes.KEY_BYTES[version]
            for keys, values, count in self._batches(_ADDRESSES[version], shapes.HISTORY_BYTES):
                packets = memoryview(values).cast("Q")[:: shapes.HISTORY_BYTES // 8].tolist()
                yield (
                    [
                        (
                            version,
                            int.from_bytes(keys[at * size : at * size + size], "big"),
                            shapes.read_history(values[at * shapes.HISTORY_BYTES :][: shapes.HISTORY_BYTES]),
                        )
                        for at in range(count)
                        if packets[at]
                    ]
                    if any(packets)
                    else []
                )

    def source_volume(self, number: int) -> Volume:
        """What was dropped on behalf of a source, whether its entries are still listed or not."""
        if number >= self._sizes["sources"]:
            return Volume(0, 0)
        found = libbpf.lookup(self.maps["sources"], shapes.number(number), shapes.VOLUME_BYTES * self._cpus)
        return shapes.sum_of_volumes(found or b"")

    def clear_source(self, number: int) -> None:
        """Nothing was dropped on behalf of the source that has this number from now on."""
        if number < self._sizes["sources"]:
            nothing = bytes(shapes.VOLUME_BYTES * self._cpus)
            insist(libbpf.update, self.maps["sources"], shapes.number(number), nothing)

    # ---- from one generation to the next ----

    def clone_from(self, old: "Generation") -> Iterator[int]:
        """Copy every entry of another generation, without its counts, yielding how many addresses each time."""
        for version in VERSIONS:
            name = _ADDRESSES[version]
            for keys, values, count in old._batches(name, shapes.HISTORY_BYTES):
                blank = without_counts(values)
                insist(libbpf.update_batch, self.maps[name], keys, blank, count)
                self._mark(shapes.MARK_ADDRESSES[version], shapes.KEY_BYTES[version], keys)
                self.used[name] += count
                yield count
        new_number = {0: 0}  # numbers in a larger map may be above what a smaller one holds
        for keys, values, _ in old._batches("cells", shapes.CELL_BYTES):
            found = {
                number: (Listed(Span(version, first, last), history.source), history.since_s)
                for number, (history, version, first, last) in zip(
                    shapes.read_numbers(keys), shapes.read_cells(values), strict=True
                )
                if number and version
            }
            self._add_cells(dict(found.values()))
            new_number.update((number, self.cells[listed]) for number, (listed, _) in found.items())
            yield 0
        for version in VERSIONS:
            name = _NETWORKS[version]
            for keys, values, _ in old._batches(name, shapes.NUMBER_BYTES):
                copied = {
                    Prefix(version, first, length_bits): new_number[number]
                    for (first, length_bits), number in zip(
                        shapes.read_prefixes(version, keys), shapes.read_numbers(values), strict=True
                    )
                    if number in new_number
                }
                self._mark_prefixes(copied)
                self._set_prefixes(copied)
                self.used[name] += len(copied)
                yield 0

    def carry_from(self, old: "Generation") -> Iterator[None]:
        """Move here what the other generation counted, now that no packet meets it any more. Yields between batches.

        A step adds here what it then clears there. Begun again after an end in the middle, it goes on where that was.
        """
        for generation in (self, old):
            if not generation.cells:
                yield from generation._learn_cells()
        for batch in old.seen_addresses():
            for at in range(0, len(batch), shapes.CARRIES_AT_MOST):
                self._carry_addresses(old, batch[at : at + shapes.CARRIES_AT_MOST])
            yield
        for at, (listed, number) in enumerate(old.cells.items()):
            if at % _PIECE == 0:
                yield
            history = old.cell_history(listed)
            if history and history.packets:
                if listed in self.cells:
                    self._carry(shapes.CARRY_CELLS, [shapes.carry(shapes.number(self.cells[listed]), *history[:3])])
                cleared = shapes.cell(history.cleared(), listed.span.version, listed.span.first, listed.span.last)
                insist(libbpf.update, old.maps["cells"], shapes.number(number), cleared)
        for number in range(min(old.size_of("sources"), self.size_of("sources"))):
            if number % _PIECE == 0:
                yield
            volume = old.source_volume(number)
            if volume.packets:
                self._carry(shapes.CARRY_SOURCES, [shapes.carry(shapes.number(number), *volume, 0)])
                old.clear_source(number)

    def _carry_addresses(self, old: "Generation", seen: list[tuple[int, int, History]]) -> None:
        version = seen[0][0]
        keys = [key.to_bytes(shapes.KEY_BYTES[version], "big") for _, key, _ in seen]
        self._carry(
            shapes.CARRY_ADDRESSES[version],
            [shapes.carry(key, *history[:3]) for key, (_, _, history) in zip(keys, seen, strict=True)],
        )
        cleared = b"".join(history.cleared().pack() for _, _, history in seen)
        insist(libbpf.update_batch, old.maps[_ADDRESSES[version]], b"".join(keys), cleared, len(seen))

    def _carry(self, kind: int, items: list[bytes]) -> None:
        self._order("xdrop_carry", shapes.order(kind, b"".join(items)))


def _pieces(items: Iterable[_T]) -> Iterator[list[_T]]:
    """Parts that take some milliseconds each, whatever is done with them."""
    left = iter(items)
    while piece := list(islice(left, _PIECE)):
        yield piece


def _chunks(items: Mapping[int, int]) -> Iterator[dict[int, int]]:
    """Parts that the kernel takes at once, while other events wait."""
    left = iter(items.items())
    while chunk := dict(islice(left, _KEYS_A_BATCH)):
        yield chunk


def pack_keys(version: int, keys: Iterable[int]) -> bytes:
    """Addresses as keys of the address maps, packed."""
    if version == 4:
        packed = ntohl(array("I", keys))
        wide = array("I", bytes(shapes.KEY_BYTES[4] * len(packed)))
        wide[1::2] = packed
        return wide.tobytes()
    return b"".join(key.to_bytes(16, "big") for key in keys)


def unpack_keys(version: int, blob: bytes) -> list[int]:
    """The inverse of `pack_keys`."""
    if version == 4:
        return ntohl(array("I", blob)[1::2]).tolist()
    return [int.from_bytes(blob[at : at + 16], "big") for at in range(0, len(blob), 16)]


def without_counts(histories: bytes) -> bytes:
    """Packed histories with packets, bytes and last seen set to zero; since and source stay."""
    values = array("Q", histories)
    step = shapes.HISTORY_BYTES // 8
    zeros = array("Q", bytes(len(histories) // step))
    for at in range(3):
        values[at::step] = zeros
    return values.tobytes()


def places_of(prefix: Prefix) -> list[bytes]:
    """What xdrop_mark is told of a prefix: itself at each granule that it touches; at each /12 if it is wide."""
    version, first, length_bits = prefix
    granule_bits = 12 if length_bits < shapes.NARROW_BITS[version] else shapes.GRANULE_BITS[version]
    if length_bits >= granule_bits:
        return [shapes.prefix(version, first, length_bits)]
    step = 1 << WIDTH[version] - granule_bits
    end = first + (1 << WIDTH[version] - length_bits)
    return [shapes.prefix(version, place, length_bits) for place in range(first, end, step)]
