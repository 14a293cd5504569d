"""Frames of many sources on a Net's cable, and an exact count of what comes through the filter at its other end.

    with Traffic(net, {"innocent": ["192.0.2.1"], "blocked": ["203.0.113.7", "2001:db8::7"]}) as traffic:
        ...
    assert traffic.passed["blocked"] == 0

Frames are live ones (BPF_PROG_TEST_RUN): a program that returns bpf_redirect sends them through the peer's device as a
driver's transmit queue would. They are bounded in rate, number and time, go to nobody's hardware address, and carry the
group that their source belongs to in it, so that a packet socket behind the filter can count by group.
"""

import contextlib
import ctypes
import itertools
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address
from typing import Self

from liveframes import BATCH, redirecting
from netns import Net, inside
from waiting import wait_until
from xdropd.kernel import libbpf

RATE = 250_000  # frames a second, all sources together; a ring of 256 behind the cable does not fill
_FRAMES_AT_MOST = 4_000_000
_SECONDS_AT_MOST = 120.0
_NOBODY = bytes.fromhex("02fedcba98")  # and the number of the group

# Classic BPF (uapi/linux/filter.h): the half word at an offset, compared, decides.
_LOAD_HALF, _JUMP_IF_EQUAL, _RETURN = 0x28, 0x15, 0x06
_ETH_P_ALL = 3
_SO_ATTACH_FILTER = 26  # asm-generic/socket.h
_SOL_PACKET, _PACKET_STATISTICS = 263, 6  # linux/if_packet.h


def frame(source: str | bytes, group: int, payload: bytes) -> bytes:
    """An Ethernet frame for nobody, from an address, or with what follows the hardware addresses given as bytes."""
    macs = _NOBODY + bytes([group]) + b"\x02\0\0\0\0\x02"
    if isinstance(source, bytes):
        return macs + source
    address = ip_address(source)
    if address.version == 6:
        header = struct.pack("!IHBB", 6 << 28, len(payload), socket.IPPROTO_UDP, 64)
        return macs + b"\x86\xdd" + header + address.packed + address.packed + payload
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0, 64, socket.IPPROTO_UDP, 0)
    return macs + b"\x08\x00" + header + address.packed + address.packed + payload


class _FilterProgram(ctypes.Structure):
    """struct sock_fprog (uapi/linux/filter.h)."""

    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_void_p))


class _Counter:
    """Counts the frames of one group that a device of this namespace lets through, before anything else sees them."""

    def __init__(self, device: str, group: int) -> None:
        wanted = int.from_bytes(_NOBODY[-1:] + bytes([group]), "big")
        rules = [(_LOAD_HALF, 0, 0, 4), (_JUMP_IF_EQUAL, 0, 1, wanted), (_RETURN, 0, 0, 64), (_RETURN, 0, 0, 0)]
        code = b"".join(struct.pack("=HBBI", *rule) for rule in rules)
        program = ctypes.create_string_buffer(code)
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        described = bytes(_FilterProgram(len(rules), ctypes.addressof(program)))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, described)
        self._socket.bind((device, _ETH_P_ALL))

    def take(self) -> int:
        """How many since the last call; those that did not fit into the socket's queue are counted as well."""
        packets, _ = struct.unpack("=II", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
        return int(packets)

    def close(self) -> None:
        self._socket.close()


class Traffic:
    """See the module. `groups` are sources by name (bytes: frames, see `frame`).

    `sent` and `passed` are frames by group, complete after the context. Each turn sends a batch of one source of each
    group. `met` is how many frames the driver gave to an XDP program, and `dropped` how many of them that made it drop,
    by the driver's own counters.
    """

    def __init__(
        self, net: Net, groups: Mapping[str, Sequence[str | bytes]], rate: int = RATE, payload: int = 26
    ) -> None:
        self._net = net
        self._groups = groups
        self._pause_s = BATCH * len(groups) / rate
        self._payload = bytes(payload)
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._send_all)
        self.sent = dict.fromkeys(groups, 0)
        self.passed = dict.fromkeys(groups, 0)
        self.met = self.dropped = 0

    def __enter__(self) -> Self:
        with inside(self._net.host):
            self._counters = {group: _Counter(self._net.device, number) for number, group in enumerate(self._groups)}
        self._before = self._driver_counts()
        self._thread.start()
        wait_until(lambda: all(self.sent.values()) or self._failure, within_s=10, what="frames on the way")
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._failure:
            raise self._failure
        total = sum(self.sent.values())
        with contextlib.suppress(AssertionError):  # the caller compares, and sees more than we do
            wait_until(lambda: self._driver_counts()[0] - self._before[0] >= total, within_s=2)
        met, dropped = self._driver_counts()
        self.met, self.dropped = met - self._before[0], dropped - self._before[1]
        for group, counter in self._counters.items():
            self.passed[group] += counter.take()
            counter.close()

    def _driver_counts(self) -> tuple[int, int]:
        told = self._net.run(self._net.host, "ethtool", "--statistics", self._net.device)
        return tuple(
            sum(map(int, re.findall(rf"rx_queue_\d+_{what}: (\d+)", told))) for what in ("xdp_packets", "xdp_drops")
        )

    def wait_for(self, frames: int) -> None:
        """Go on when every group has sent that many more."""
        before = dict(self.sent)
        wait_until(
            lambda: self._failure or all(self.sent[group] - before[group] >= frames for group in self.sent), within_s=30
        )

    def _send_all(self) -> None:
        try:
            with inside(self._net.peer), redirecting(self._net.device) as program:
                for turn in self._turns():
                    for group, packet in turn:
                        libbpf.test_run(program, packet, BATCH, libbpf.F_TEST_XDP_LIVE_FRAMES, BATCH)
                        self.sent[group] += BATCH
        except BaseException as failure:  # noqa: BLE001  # it belongs to the thread that waits
            self._failure = failure

    def _turns(self) -> Iterator[list[tuple[str, bytes]]]:
        each = [
            itertools.cycle([(group, frame(source, number, self._payload)) for source in sources])
            for number, (group, sources) in enumerate(self._groups.items())
        ]
        begun = due = time.monotonic()
        turns = _FRAMES_AT_MOST // (BATCH * len(each))
        while not self._stop.is_set() and turns > 0 and due < begun + _SECONDS_AT_MOST:
            yield [next(group) for group in each]
            turns -= 1
            due = max(due + self._pause_s, time.monotonic() - 0.1)
            time.sleep(max(0.0, due - time.monotonic()))
