"""Programs against each other in BPF_PROG_TEST_RUN: one driver writes the next source address and calls a contender.

The contenders hold the same list. xdropd takes part as the driver of a card would meet it: by its root program, which
calls the one in force. No interface is involved.
"""

import os
import struct
import time
from array import array
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import numpy as np

from bench.figures import XDROPD
from xdropd.columns.listing import Builder, Listing, Row
from xdropd.columns.prefixes import FAMILIES
from xdropd.errors import KernelError
from xdropd.kernel import abi, libbpf
from xdropd.kernel.compiler import Blueprint, compile_blueprint, source_folder
from xdropd.kernel.generation import Generation, Sizes, counts_of, create, load
from xdropd.kernel.hooks.xdp import NATIVE
from xdropd.kernel.tables.volumes import InterfaceSlots
from xdropd.rules.winners import Source, State
from xdropd.text.addresses import Span

EMPTY = "empty program"
PLAIN = "plain hash"
TRIE = "LPM trie"

POOL_ADDRESSES = 1 << 20  # POOL in peers.bpf.c

_PEERS = Path(__file__).with_name("peers.bpf.c")
_COUNTERS_BYTES = 32  # struct counters
_CHUNK = 4096
_ADDRESS_BYTES = {4: 4, 6: 16}
_TEST_RUN_IFINDEX = 1  # the loopback device (bpf_prog_test_run_xdp, net/bpf/test_run.c)
_REPEATS_AT_MOST = 1 << 18

_MACS = bytes.fromhex("020000000002020000000001")
_IPV4 = bytes.fromhex("0800 45000030000040004011 0000 c0000201 c6336401 00090009001c0000").ljust(50, b"\0")
_IPV6 = (bytes.fromhex("86dd 6000000000081140") + bytes(32) + bytes.fromhex("0009000900080000")).ljust(50, b"\0")
FRAMES = {4: _MACS + _IPV4, 6: _MACS + _IPV6}  # UDP in 62 bytes; only the source address matters


TARGET4 = "198.51.100.1"
"""Where the IPv4 frame goes."""


def syn_to(port: int) -> bytes:
    """The first packet of a TCP connection in place of the datagram, from port 9."""
    frame = bytearray(FRAMES[4])
    frame[23] = 6  # the protocol; behind the IP header of 20 bytes: ports, two numbers, 5 words, SYN
    frame[34:] = struct.pack(">HHIIBBHHH", 9, port, 1, 0, 5 << 4, 1 << 1, 64240, 0, 0).ljust(len(frame) - 34, b"\0")
    return bytes(frame)


def compiled() -> tuple[Blueprint, Blueprint]:
    """xdropd's programs and the peers'. Raises CompileError."""
    folder = source_folder()
    return compile_blueprint(folder), compile_blueprint(folder, source=_PEERS)


class Owned:
    """Descriptors that are closed on the way out."""

    def __init__(self) -> None:
        self._exit = ExitStack()

    def own(self, descriptor: int) -> int:
        """Close it in the end."""
        self._exit.callback(os.close, descriptor)
        return descriptor

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()


class Xdropd(Owned):
    """A list in force on an interface that is only made believe. `root` is what its driver would call."""

    def __init__(
        self,
        blueprint: Blueprint,
        keys: dict[int, Collection[int]],
        networks: Collection[Span] = (),
        *,
        pass_replies: bool = False,
    ) -> None:
        super().__init__()
        shared = {name: self.own(create(blueprint, name)) for name in abi.SHARED_MAPS}
        interface = {abi.INTERFACE_MAP: self.own(create(blueprint, abi.INTERFACE_MAP))}
        InterfaceSlots(shared["interfaces"], shared["more_interfaces"]).give(_TEST_RUN_IFINDEX)
        state = State([Source("bench", 1, _listing(keys, networks))])
        records = {version: state.records(version) for version in FAMILIES}
        sizes = Sizes.to_hold(counts_of(records), 1)
        generation = Generation.build(blueprint, 1, sizes, shared, pass_replies=pass_replies)
        self._exit.callback(generation.close)
        for version, each in records.items():
            for _ in generation.fill(version, each, since_s=1):
                pass
        chosen = abi.settings(1_000_000_000, monitor=False, pass_malformed=False)
        libbpf.update(shared["settings"], abi.number(0), chosen)
        self.root = self.own(load(blueprint, NATIVE.root_program, interface))
        libbpf.set_program(interface[abi.INTERFACE_MAP], 0, generation.program)


def _listing(keys: dict[int, Collection[int]], networks: Collection[Span]) -> Listing:
    builder = Builder()
    for version, some in keys.items():
        family, size = FAMILIES[version], FAMILIES[version].width // 8
        column = family.addresses(b"".join(key.to_bytes(size, "big") for key in some))
        builder.prefixes(version, family.keys(column, family.width), np.zeros(len(some), np.uint32))
    for span in networks:
        builder.add(Row(*span))
    return builder.listing()


class Peers(Owned):
    """The driver, and the simple programs with the same list. IPv4 networks go into the trie only."""

    def __init__(
        self, blueprint: Blueprint, version: int, keys: Collection[int], networks: Collection[Span] = ()
    ) -> None:
        super().__init__()
        self._version = version
        sizes = {
            f"plain{version}": max(1024, len(keys)),
            f"trie{version}": max(1024, len(keys) + len(networks)),
        }
        maps = {name: self.own(create(blueprint, name, sizes.get(name))) for name in blueprint.maps}
        self._contender, self._pool, self._position = maps["contender"], maps[f"pool{version}"], maps["position"]
        programs = {
            XDROPD: "",
            EMPTY: "contend_pass",
            PLAIN: "contend_plain" if version == 4 else "contend_plain6",
            TRIE: "contend_trie" if version == 4 else "contend_trie6",
        }
        self.programs = {name: self.own(load(blueprint, found, maps)) for name, found in programs.items() if found}
        self._driver = self.own(load(blueprint, f"drive{version}", maps))
        packed = _packed(version, keys)
        _fill(maps[f"plain{version}"], packed, len(keys))
        bits = 8 * _ADDRESS_BYTES[version]
        _fill(maps[f"trie{version}"], _trie_keys(packed, bits), len(keys))
        if networks:
            prefixes = b"".join(
                abi.number(33 - span.size.bit_length()) + span.first.to_bytes(4, "big") for span in networks
            )
            _fill(maps[f"trie{version}"], prefixes, len(networks))

    def sources(self, keys: Sequence[int]) -> None:
        """What the driver writes from now on, in this order and over and over."""
        fill_pool(self._pool, self._version, keys)

    def runner(self, program: int, answer: int, frame: bytes = b"") -> Callable[[], float]:
        """Something that gives the mean nanoseconds of a packet in driver and program, which must answer so.

        It is the usual datagram, or another frame.
        """

        def measure() -> float:
            libbpf.set_program(self._contender, 0, program)
            begun = time.thread_time_ns()
            found = libbpf.test_run(self._driver, frame or FRAMES[self._version], _REPEATS_AT_MOST)
            taken = time.thread_time_ns() - begun
            if found != answer:
                raise KernelError("run a contender", 0, f"it answered {found} and not {answer}")
            return taken / _REPEATS_AT_MOST

        return measure


def fill_pool(pool: int, version: int, keys: Sequence[int]) -> None:
    """Have these source addresses in the pool of a driver, in this order and over and over."""
    whole = [keys[at % len(keys)] for at in range(POOL_ADDRESSES)] if len(keys) != POOL_ADDRESSES else keys
    packed, size = _packed(version, whole), _ADDRESS_BYTES[version]
    for at in range(0, POOL_ADDRESSES, _CHUNK):
        numbers = array("I", range(at, at + _CHUNK)).tobytes()
        libbpf.update_batch(pool, numbers, packed[at * size : (at + _CHUNK) * size], _CHUNK)


def _packed(version: int, keys: Iterable[int]) -> bytes:
    """Addresses in network byte order."""
    size = _ADDRESS_BYTES[version]
    return b"".join(key.to_bytes(size, "big") for key in keys)


def _fill(map_fd: int, keys: bytes, count: int) -> None:
    """Chunk by chunk; what the kernel refuses as a batch (it does, for a trie), key by key."""
    if not count:
        return
    size = len(keys) // count
    for at in range(0, count, _CHUNK):
        chunk = keys[at * size : (at + _CHUNK) * size]
        number = len(chunk) // size
        try:
            libbpf.update_batch(map_fd, chunk, bytes(_COUNTERS_BYTES * number), number)
        except KernelError:
            for start in range(0, len(chunk), size):
                libbpf.update(map_fd, chunk[start : start + size], bytes(_COUNTERS_BYTES))


def _trie_keys(packed: bytes, bits: int) -> bytes:
    size, length = bits // 8, abi.number(bits)
    return b"".join(length + packed[at : at + size] for at in range(0, len(packed), size))
