"""The structures and maps that xdrop.bpf.c shares with the daemon. Host byte order but for addresses.

Each name and order here is that of the C file; nothing else in Python knows their layout.
"""

import struct
from typing import Any, NamedTuple

import numpy as np

from xdropd.columns.prefixes import Column
from xdropd.kernel import libbpf

FITTED_NUMBERS = ("last_address_word", "last_prefix_word", "pass_replies")  # enum fitted_number
VERDICTS = ("passed", "dropped", "malformed", "replies")  # enum verdict

VOLUME = np.dtype([("packets", "u8"), ("bytes", "u8")])
STATS = np.dtype([("packets", "u8"), ("bytes", "u8"), ("last_seen_ns", "u8"), ("since_s", "u4"), ("source", "u4")])
NETWORK = np.dtype([("stats", STATS), ("range", "u4"), ("unused", "u4")])
RANGE = np.dtype([("stats", STATS), ("first", "S16"), ("last", "S16"), ("version", "u4"), ("unused", "u4")])
SEEN = np.dtype(
    [("volumes", VOLUME, len(VERDICTS)), ("tick", "u8"), ("now_ns", "u8"), ("ifindex", "u4"), ("starts_with_ip", "u4")]
)
TALLIES = np.dtype([("volumes", VOLUME, 3), ("unused", "u8", 2)])  # the first version's, which knew no replies
SETTINGS = np.dtype([("log_interval_ns", "u8"), ("monitor", "u4"), ("pass_malformed", "u4")])
SAMPLE = np.dtype(
    [("source", "u1", 16), ("version", "u4"), ("ifindex", "u4"), ("length_bytes", "u4"), ("unused", "u4")]
)

SLOTS = 1024
LENGTHS4 = np.dtype("u8")
LENGTHS6 = np.dtype([("words", "u4", 4)])
OVERVIEW = np.dtype([("wide_lengths", "u8"), ("slash12s", "u8", 64), ("granules", "u8", 1024)])
HINTS = np.dtype([("ipv4", OVERVIEW), ("ipv6", OVERVIEW)])

KEY_BYTES = {4: 8, 6: 16}  # an address
PREFIX_BYTES = {4: 8, 6: 32}
NUMBER_BYTES = 4

# Type, key and value bytes of every map, as xdrop.bpf.c declares them.
MAP_KINDS = {
    "in_force": (libbpf.MAP_PROG_ARRAY, NUMBER_BYTES, NUMBER_BYTES),
    "interfaces": (libbpf.MAP_PERCPU_ARRAY, NUMBER_BYTES, SEEN.itemsize),
    "more_interfaces": (libbpf.MAP_PERCPU_HASH, NUMBER_BYTES, SEEN.itemsize),
    "settings": (libbpf.MAP_ARRAY, NUMBER_BYTES, SETTINGS.itemsize),
    "next_program": (libbpf.MAP_PROG_ARRAY, NUMBER_BYTES, NUMBER_BYTES),
    "next_sample_ns": (libbpf.MAP_ARRAY, NUMBER_BYTES, 8),
    "samples": (libbpf.MAP_QUEUE, 0, SAMPLE.itemsize),
    "addresses4": (libbpf.MAP_HASH, KEY_BYTES[4], STATS.itemsize),
    "addresses6": (libbpf.MAP_HASH, KEY_BYTES[6], STATS.itemsize),
    "networks4": (libbpf.MAP_HASH, PREFIX_BYTES[4], NETWORK.itemsize),
    "networks6": (libbpf.MAP_HASH, PREFIX_BYTES[6], NETWORK.itemsize),
    "ranges": (libbpf.MAP_ARRAY, NUMBER_BYTES, RANGE.itemsize),
    "sources": (libbpf.MAP_PERCPU_ARRAY, NUMBER_BYTES, VOLUME.itemsize),
    "hints": (libbpf.MAP_ARRAY, NUMBER_BYTES, HINTS.itemsize),
    "address_filter": (libbpf.MAP_ARRAY, NUMBER_BYTES, 8),
    "prefix_filter": (libbpf.MAP_ARRAY, NUMBER_BYTES, 8),
    "lengths4": (libbpf.MAP_ARRAY, NUMBER_BYTES, LENGTHS4.itemsize),
    "lengths6": (libbpf.MAP_ARRAY, NUMBER_BYTES, LENGTHS6.itemsize),
}
INTERFACE_MAP = "in_force"
"""The map of one interface."""
SHARED_MAPS = frozenset({"interfaces", "more_interfaces", "settings", "next_program", "next_sample_ns", "samples"})
"""Those that outlive generations and interfaces."""
LIST_MAPS = frozenset(MAP_KINDS) - SHARED_MAPS - {INTERFACE_MAP}
"""The maps of a generation."""


class Stats(NamedTuple):
    """What is known of one entry: `last_seen_ns` in CLOCK_MONOTONIC (0: never), `since_s` in CLOCK_REALTIME."""

    packets: int
    bytes: int
    last_seen_ns: int
    since_s: int

    def plus(self, other: "Stats") -> "Stats":
        """Both together; listed since the first of them, which is this one's."""
        last = max(self.last_seen_ns, other.last_seen_ns)
        return Stats(self.packets + other.packets, self.bytes + other.bytes, last, self.since_s)


def stats_of(value: np.void) -> Stats:
    """One struct stats."""
    return Stats(*(int(value[name]) for name in Stats._fields))


class Volume(NamedTuple):
    """Frames and bytes."""

    packets: int
    bytes: int

    def plus(self, other: "Volume") -> "Volume":
        """Both together."""
        return Volume(self.packets + other.packets, self.bytes + other.bytes)


class Sample(NamedTuple):
    """One dropped packet."""

    version: int
    source: bytes
    ifindex: int
    length_bytes: int


def number(value: int) -> bytes:
    """A __u32."""
    return struct.pack("=I", value)


def settings(log_interval_ns: int, *, monitor: bool, pass_malformed: bool) -> bytes:
    """struct settings."""
    return np.array((log_interval_ns, monitor, pass_malformed), SETTINGS).tobytes()


def read_sample(data: bytes) -> Sample:
    """struct sample."""
    found = np.frombuffer(data, SAMPLE)[0]
    version = int(found["version"])
    source = found["source"].tobytes()[: 4 if version == 4 else 16]
    return Sample(version, source, int(found["ifindex"]), int(found["length_bytes"]))


def volumes_seen(data: bytes, layout: np.dtype[Any] = SEEN) -> dict[str, Volume]:
    """struct seen of each CPU, or what begins as it does, added up, by verdict."""
    volumes = np.frombuffer(data, layout)["volumes"]
    seen = dict.fromkeys(VERDICTS, Volume(0, 0))
    for name, packets, octets in zip(VERDICTS, volumes["packets"].T, volumes["bytes"].T, strict=False):
        seen[name] = Volume(int(packets.sum()), int(octets.sum()))
    return seen


def sum_of_volumes(data: bytes) -> Volume:
    """struct volume of each CPU, added up."""
    volumes = np.frombuffer(data, VOLUME)
    return Volume(int(volumes["packets"].sum()), int(volumes["bytes"].sum()))


def fresh_stats(sources: Column, since_s: Column | int) -> Column:
    """struct stats of entries that nobody hit yet."""
    made = np.zeros(len(sources), STATS)
    made["source"], made["since_s"] = sources, since_s
    return made
