"""The structures that xdrop.bpf.c shares with the daemon, as bytes. Host byte order but for addresses.

Each name and order here is that of the C file; nothing else in Python knows their layout.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

FITTED_NUMBERS = ("last_address_word", "last_prefix_word")  # enum fitted_number
VERDICTS = ("passed", "dropped", "malformed")  # enum verdict

MARK_ADDRESSES = {4: 0, 6: 1}
MARK_NETWORKS = {4: 2, 6: 3}
MARKS_AT_MOST = {0: 64, 1: 64, 2: 16, 3: 16}  # by kind: ADDRESSES_AT_MOST, NETWORKS_AT_MOST
NARROW_BITS = {4: 13, 6: 20}  # NARROW4, NARROW6
GRANULE_BITS = {4: 16, 6: 20}  # the widest granules that are not /12s
CARRY_ADDRESSES = {4: 0, 6: 1}
CARRY_CELLS = 2
CARRY_SOURCES = 3
CARRIES_AT_MOST = 80
ORDER_DONE = 2  # XDP_PASS

ADDRESS_BYTES = {4: 4, 6: 16}
KEY_BYTES = {4: 8, 6: 16}  # a number in network byte order
PREFIX_BYTES = {4: 8, 6: 32}
NUMBER_BYTES = 4

_HISTORY = struct.Struct("=QQQII")
_CELL = struct.Struct("=QQQII16s16sII")
_VOLUME = struct.Struct("=QQ")
_SETTINGS = struct.Struct("=QII")
_SAMPLE = struct.Struct("=16sIIII")
_CARRY = struct.Struct("=16sQQQ")
_ORDER = struct.Struct("=IIII")
HINTS_BYTES = 2 * (8 + (1 << 12) // 8 + (1 << 16) // 8)  # two of struct overview

HISTORY_BYTES = _HISTORY.size
CELL_BYTES = _CELL.size
SOURCE_AT = HISTORY_BYTES // 4 - 1  # the index of `source` in a struct history, in __u32
VOLUME_BYTES = _VOLUME.size
TALLY_BYTES = len(VERDICTS) * _VOLUME.size + 16  # the rest is the program's own clock
HINT_MAPS = {"address_filter": 8, "prefix_filter": 8, "lengths4": 8, "lengths6": 16}  # as user space sees a value
SAMPLE_BYTES = _SAMPLE.size
SETTINGS_BYTES = _SETTINGS.size


class History(NamedTuple):
    """What is known of one entry: `last_seen_ns` in CLOCK_MONOTONIC (0: never), `since_s` in CLOCK_REALTIME."""

    packets: int
    total_bytes: int
    last_seen_ns: int
    since_s: int
    source: int

    def pack(self) -> bytes:
        """struct history."""
        return _HISTORY.pack(*self)

    def cleared(self) -> "History":
        """The same entry, never seen."""
        return self._replace(packets=0, total_bytes=0, last_seen_ns=0)


class Volume(NamedTuple):
    """Frames and bytes."""

    packets: int
    bytes: int


class Sample(NamedTuple):
    """One dropped packet; `cell` is 0 where an address was hit."""

    version: int
    source: bytes
    ifindex: int
    length_bytes: int
    cell: int


def number(value: int) -> bytes:
    """A __u32."""
    return struct.pack("=I", value)


def read_numbers(data: bytes) -> list[int]:
    """An array of __u32."""
    return memoryview(data).cast("I").tolist()


def read_history(data: bytes) -> History:
    """struct history, at the start of `data`."""
    return History(*_HISTORY.unpack_from(data))


def cell(history: History, version: int, first: int, last: int) -> bytes:
    """struct cell."""
    width = ADDRESS_BYTES[version]
    return _CELL.pack(*history, first.to_bytes(width, "big"), last.to_bytes(width, "big"), version, 0)


def read_cells(data: bytes) -> Iterator[tuple[History, int, int, int]]:
    """An array of struct cell, each as (history, version, first, last); version 0 for a free cell."""
    for *history, first, last, version, _ in _CELL.iter_unpack(data):
        width = ADDRESS_BYTES.get(version, 0)
        yield History(*history), version, int.from_bytes(first[:width], "big"), int.from_bytes(last[:width], "big")


def prefix(version: int, first: int, length_bits: int) -> bytes:
    """struct prefix4 or prefix6."""
    width = ADDRESS_BYTES[version]
    mask = (1 << 8 * width) - (1 << 8 * width - length_bits)
    return first.to_bytes(width, "big") + mask.to_bytes(width, "big")


def read_prefixes(version: int, data: bytes) -> Iterator[tuple[int, int]]:
    """An array of struct prefix4 or prefix6, each as (first, length_bits)."""
    width = ADDRESS_BYTES[version]
    for first, mask in struct.iter_unpack(f"={width}s{width}s", data):
        yield int.from_bytes(first, "big"), int.from_bytes(mask, "big").bit_count()


def settings(log_interval_ns: int, monitor: bool, pass_malformed: bool) -> bytes:
    """struct settings."""
    return _SETTINGS.pack(log_interval_ns, monitor, pass_malformed)


def order(kind: int, items: bytes) -> bytes:
    """A packet of orders for xdrop_mark or xdrop_carry."""
    return _ORDER.pack(kind, 0, 0, 0) + items


def carry(key: bytes, packets: int, bytes_: int, last_seen_ns: int) -> bytes:
    """struct carry."""
    return _CARRY.pack(key.ljust(16, b"\0"), packets, bytes_, last_seen_ns)


def read_sample(data: bytes) -> Sample:
    """struct sample."""
    source, version, ifindex, length_bytes, cell_number = _SAMPLE.unpack(data)
    return Sample(version, source[: ADDRESS_BYTES[version]], ifindex, length_bytes, cell_number)


def sum_of_tallies(data: bytes) -> dict[str, Volume]:
    """struct tally of each CPU, added up, by verdict."""
    tallies = [data[at : at + TALLY_BYTES] for at in range(0, len(data), TALLY_BYTES)]
    columns = {name: slice(at * VOLUME_BYTES, (at + 1) * VOLUME_BYTES) for at, name in enumerate(VERDICTS)}
    return {name: sum_of_volumes(b"".join(tally[column] for tally in tallies)) for name, column in columns.items()}


def sum_of_volumes(data: bytes) -> Volume:
    """struct volume of each CPU, added up."""
    values = list(_VOLUME.iter_unpack(data))
    return Volume(sum(packets for packets, _ in values), sum(total for _, total in values))
