"""How many packets a second are dropped on one CPU: live frames, redirected into a veth pair.

They are from one listed source, or from a million of them in turn. A program that only drops is the limit.

A program that returns bpf_redirect is run on live frames in the peer's namespace, which transmits them as XDP does.
Sending and dropping share a CPU, so the rate is that of both together. Counted is what the receiving end took off its
queue.
"""

import json
import re
import socket
import struct
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from bench import lists, peers
from bench.contest import PLAIN, Owned, Peers, compiled, fill_pool
from bench.daemon import Daemon
from bench.figures import XDROPD, Demand, Effort, Figure, Report, in_turns
from netns import Net, inside
from xdropd.errors import Unavailable
from xdropd.kernel import abi, libbpf
from xdropd.kernel.compiler import Blueprint
from xdropd.kernel.generation import create, load

_NONE = "none"
_LIMIT = "only drops"
_Way = Callable[[list[int]], AbstractContextManager[Net]]

_LISTED = 1_000
_MILLION = 1_000_000
_ROUNDS = 9
_BATCH = 64
_FRAMES = _BATCH << 13  # half a million
_PORT = 9  # discard
_SETTLED_WITHIN_S = 2.0


def measure(report: Report, effort: Effort) -> None:
    """Every way to drop, each on a cable of its own."""
    keys = lists.addresses(_LISTED, seed=1)
    demands: tuple[Demand, ...] = (
        Demand(1.1, "xdp-filter", is_floor=True),
        Demand(2, "nft ingress", is_floor=True),
        Demand(0.85, _LIMIT, is_floor=True),
    )
    _measure(report, "from one source", keys, keys[:1], _CONTENDERS, demands, effort)
    count = 10_000 if effort.is_quick else _MILLION
    keys = lists.addresses(count, seed=1)
    few = {name: _CONTENDERS[name] for name in (XDROPD, _LIMIT, PLAIN, "nft ingress")}
    demands = (Demand(1.25, PLAIN, is_floor=True),)
    _measure(report, "from all of them in turn", keys, lists.shuffled(keys, 7), few, demands, effort)


def _measure(
    report: Report,
    what: str,
    keys: Sequence[int],
    sources: Sequence[int],
    ways: Mapping[str, _Way],
    demands: tuple[Demand, ...],
    effort: Effort,
) -> None:
    _, blueprint = compiled()
    with ExitStack() as stack:
        contenders: dict[str, Callable[[], float]] = {}
        for name, set_up in ways.items():
            net = stack.enter_context(set_up(list(keys)))
            flood = stack.enter_context(Flood(net, blueprint, sources))
            flood.insist_on_dropping(name != _NONE)
            contenders[name] = flood.millions_a_second
        rates = in_turns(contenders, effort.rounds(_ROUNDS))
        report.add(Figure("drop rate", f"one CPU sends and drops, {what}", len(keys), "Mpps", rates, demands))


# ---- the ways to drop ----


@contextmanager
def _only_drops(_keys: list[int]) -> Iterator[Net]:
    _, blueprint = compiled()
    with peers.host() as net, Owned() as attached:
        program = attached.own(load(blueprint, "contend_drop", {}))
        with inside(net.host):
            device = socket.if_nametoindex(net.device)
            attached.own(libbpf.attach_xdp(program, device, libbpf.XDP_FLAGS_DRV_MODE))
        yield net


@contextmanager
def _nothing(_: list[int]) -> Iterator[Net]:
    with peers.host() as net:
        yield net


@contextmanager
def _nft(keys: list[int]) -> Iterator[Net]:
    peers.require("nft")
    with peers.host() as net:
        net.run(net.host, "nft", "-f", "-", stdin=peers.nft_script(peers.texts(keys), net.device))
        yield net


@contextmanager
def _ipset(keys: list[int]) -> Iterator[Net]:
    peers.require("ipset", "iptables")
    with peers.host() as net:
        net.run(net.host, "ipset", "restore", stdin=peers.ipset_script(peers.texts(keys)))
        net.run(net.host, *peers.IPSET_RULE)
        yield net


@contextmanager
def _xdp_filter(keys: list[int]) -> Iterator[Net]:
    with peers.host() as net, peers.XdpFilter(net.host, net.device) as xdp_filter:
        xdp_filter.list_addresses(keys)
        yield net


@contextmanager
def _plain(keys: list[int]) -> Iterator[Net]:
    _, blueprint = compiled()
    with peers.host() as net, Peers(blueprint, 4, keys) as simple, Owned() as attached:
        with inside(net.host):
            device = socket.if_nametoindex(net.device)
            attached.own(libbpf.attach_xdp(simple.programs[PLAIN], device, libbpf.XDP_FLAGS_DRV_MODE))
        yield net


@contextmanager
def _xdropd(keys: list[int]) -> Iterator[Net]:
    with peers.host() as net, tempfile.TemporaryDirectory() as folder, Daemon(net.host, Path(folder)) as daemon:
        daemon.blocklist.write_text(lists.text(keys), encoding="utf-8")
        daemon.start()
        yield net


_CONTENDERS = {
    XDROPD: _xdropd,
    _LIMIT: _only_drops,
    _NONE: _nothing,
    "nft ingress": _nft,
    "ipset raw": _ipset,
    "xdp-filter": _xdp_filter,
    PLAIN: _plain,
}


# ---- the flood ----


class Flood(Owned):
    """Frames of one source, or of some in turn, from a net's peer to its host."""

    def __init__(self, net: Net, blueprint: Blueprint, sources: Sequence[int]) -> None:
        super().__init__()
        self._net = net
        self._frame = frame(net, sources[0])
        with inside(net.peer):
            outlet, loopback = socket.if_nametoindex(net.device), socket.if_nametoindex("lo")
            maps = {name: self.own(create(blueprint, name)) for name in ("outlet", "pool4", "position")}
            libbpf.update(maps["outlet"], abi.number(0), abi.number(outlet))
            if len(sources) > 1:
                fill_pool(maps["pool4"], 4, sources)
            self._program = self.own(load(blueprint, "generate_many" if len(sources) > 1 else "generate", maps))
            # A test run registers its program with the XDP dispatcher and waits for RCU, 30 ms each time, unless the
            # program is registered already, as one that is attached somewhere is (kernel/bpf/dispatcher.c).
            self.own(libbpf.attach_xdp(self._program, loopback, libbpf.XDP_FLAGS_SKB_MODE))

    def send(self, frames: int) -> None:
        """Transmit so many frames, whole batches."""
        with inside(self._net.peer):
            libbpf.test_run(self._program, self._frame, frames, libbpf.F_TEST_XDP_LIVE_FRAMES, _BATCH)

    def taken(self) -> int:
        """How many frames the host's end has taken off its queue so far."""
        said = self._net.run(self._net.host, "ethtool", "--statistics", self._net.device)
        return sum(map(int, re.findall(r"rx_queue_\d+_xdp_packets: (\d+)", said)))

    def millions_a_second(self) -> float:
        """Frames that were taken off the queue, and so were dropped, or went on their way."""
        before = self.taken()
        begun = time.monotonic()
        self.send(_FRAMES)
        seconds = time.monotonic() - begun
        return (self.taken() - before) / seconds / 1e6

    def insist_on_dropping(self, wanted: bool) -> None:
        """See that a socket of the host gets nothing of it, or, without any filter, something."""
        with inside(self._net.host), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
            receiver.bind((self._net.host_address, _PORT))
            before = self.taken()
            self.send(_BATCH)
            deadline = time.monotonic() + _SETTLED_WITHIN_S
            while self.taken() < before + _BATCH and time.monotonic() < deadline:
                time.sleep(0.01)
            receiver.setblocking(False)
            try:
                arrived = bool(receiver.recv(2048))
            except BlockingIOError:
                arrived = False
        if arrived == wanted or self.taken() < before + _BATCH:
            raise Unavailable(f"frames {'arrived' if arrived else 'did not arrive'} at {self._net.host}")


def frame(net: Net, source: int) -> bytes:
    """A UDP datagram from an address to the host's discard port, in 60 bytes."""
    udp = struct.pack("!HHHH", _PORT, _PORT, 8 + 18, 0) + bytes(18)
    target = socket.inet_aton(net.host_address)
    header = struct.pack("!BBHHHBBHI", 0x45, 0, 20 + len(udp), 0, 0, 64, socket.IPPROTO_UDP, 0, source) + target
    total = sum(struct.unpack("!10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    checksum = ~(total + (total >> 16)) & 0xFFFF
    header = header[:10] + struct.pack("!H", checksum) + header[12:]
    macs = _hardware_address(net, net.host) + _hardware_address(net, net.peer)
    return macs + b"\x08\x00" + header + udp


def _hardware_address(net: Net, namespace: str) -> bytes:
    (link,) = json.loads(net.run(namespace, "ip", "-json", "link", "show", net.device))
    return bytes.fromhex(str(link["address"]).replace(":", ""))
