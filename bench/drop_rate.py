"""How many packets a second are dropped on one CPU: live frames from one listed source, redirected into a veth pair.

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
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench import lists, peers
from bench.contest import PLAIN, Owned, Peers, compiled
from bench.daemon import Daemon
from bench.figures import XDROPD, Demand, Effort, Figure, Report, in_turns
from netns import Net, inside
from xdropd.errors import Unavailable
from xdropd.kernel import abi, libbpf
from xdropd.kernel.compiler import Blueprint
from xdropd.kernel.generation import create, load

_LISTED = 1_000
_ROUNDS = 9
_BATCH = 64
_FRAMES = _BATCH << 13  # half a million
_PORT = 9  # discard
_SETTLED_WITHIN_S = 2.0


def measure(report: Report, effort: Effort) -> None:
    """Every way to drop, each on a cable of its own."""
    keys = lists.addresses(_LISTED, seed=1)
    _, blueprint = compiled()
    with ExitStack() as stack:
        contenders: dict[str, Callable[[], float]] = {}
        for name, set_up in _CONTENDERS.items():
            net = stack.enter_context(set_up(list(keys)))
            flood = stack.enter_context(Flood(net, blueprint, keys[0]))
            flood.insist_on_dropping(name != _NONE)
            contenders[name] = flood.millions_a_second
        rates = in_turns(contenders, effort.rounds(_ROUNDS))
        demands = (Demand(1.1, "xdp-filter", is_floor=True), Demand(2, "nft ingress", is_floor=True))
        report.add(Figure("drop rate", "one CPU sends and drops", _LISTED, "Mpps", rates, demands))


# ---- the ways to drop ----

_NONE = "none"


@contextmanager
def _nothing(_: list[int]) -> Iterator[Net]:
    with peers.host() as net:
        yield net


@contextmanager
def _nft(keys: list[int]) -> Iterator[Net]:
    peers.require("nft")
    with peers.host() as net:
        net.run(net.host, "nft", "-f", "-", stdin=peers.nft_script(keys, net.device))
        yield net


@contextmanager
def _ipset(keys: list[int]) -> Iterator[Net]:
    peers.require("ipset", "iptables")
    with peers.host() as net:
        net.run(net.host, "ipset", "restore", stdin=peers.ipset_script(keys))
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
    _NONE: _nothing,
    "nft ingress": _nft,
    "ipset raw": _ipset,
    "xdp-filter": _xdp_filter,
    PLAIN: _plain,
}


# ---- the flood ----


class Flood(Owned):
    """Frames of one source, from a net's peer to its host."""

    def __init__(self, net: Net, blueprint: Blueprint, source: int) -> None:
        super().__init__()
        self._net = net
        self._frame = frame(net, source)
        with inside(net.peer):
            outlet, loopback = socket.if_nametoindex(net.device), socket.if_nametoindex("lo")
            maps = {"outlet": self.own(create(blueprint, "outlet"))}
            libbpf.update(maps["outlet"], abi.number(0), abi.number(outlet))
            self._program = self.own(load(blueprint, "generate", maps))
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
