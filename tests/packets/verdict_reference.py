"""The verdict on a frame, written down a second time from the contract alone.

Nothing of xdropd is imported here, and nothing is done the way that xdrop.bpf.c does it: the list is a set of
intervals, merged and searched, without prefixes, hashes or hints.
"""

from bisect import bisect_right
from collections.abc import Iterable
from ipaddress import ip_network
from typing import NamedTuple

PASSED, DROPPED, MALFORMED, REPLIES = "passed", "dropped", "malformed", "replies"

_ETHERNET_BYTES, _TAG_BYTES = 14, 4
_TAGS_AT_MOST = 4
_TAG_TYPES = (0x8100, 0x88A8)
_PPPOE_TYPE, _PPPOE_BYTES = 0x8864, 8
_IN_PPP = {b"\x00\x21": 0x0800, b"\x00\x57": 0x86DD}


class Interval(NamedTuple):
    """Addresses from `first` to `last`, both included, as integers."""

    version: int
    first: int
    last: int


def interval(text: str) -> Interval:
    """An address, network or range, by the standard library."""
    first, dash, last = text.partition("-")
    start, end = ip_network(first), ip_network(last or first)
    return Interval(start.version, int(start[0]), int(end[0] if dash else end[-1]))


class Intervals:
    """A set of addresses."""

    def __init__(self, intervals: Iterable[Interval]) -> None:
        self._starts: dict[int, list[int]] = {4: [], 6: []}
        self._ends: dict[int, list[int]] = {4: [], 6: []}
        for version, first, last in sorted(intervals):
            ends = self._ends[version]
            if ends and first <= ends[-1]:
                ends[-1] = max(ends[-1], last)
            else:
                self._starts[version].append(first)
                ends.append(last)

    def hold(self, version: int, address: int) -> bool:
        at = bisect_right(self._starts[version], address)
        return at > 0 and address <= self._ends[version][at - 1]


class Lists(NamedTuple):
    """What is blocked, and what is allowed all the same."""

    blocked: Intervals
    allowed: Intervals

    @classmethod
    def of(cls, blocked: Iterable[Interval], allowed: Iterable[Interval] = ()) -> "Lists":
        return cls(Intervals(blocked), Intervals(allowed))

    def block(self, version: int, address: int) -> bool:
        return self.blocked.hold(version, address) and not self.allowed.hold(version, address)


class Sockets(NamedTuple):
    """This host's sockets: (protocol, local address, local port), and of connected ones the remote end as well.

    Addresses are packed. Those that wait for anybody may have any local address: b"".
    """

    connected: frozenset[tuple[int, bytes, int, bytes, int]] = frozenset()
    waiting: frozenset[tuple[int, bytes, int]] = frozenset()

    def get_replies(self, version: int, packet: bytes) -> bool:
        """Whether a packet is for one that is connected to where it comes from, on a port where none waits."""
        if version == 4:
            words, protocol = packet[0] & 15, packet[9]
            if words < 5 or int.from_bytes(packet[6:8], "big") & 0x3FFF:
                return False
            ends, ports = (packet[12:16], packet[16:20]), packet[4 * words :][:4]
        else:
            protocol, ends, ports = packet[6], (packet[8:24], packet[24:40]), packet[40:44]
        if protocol not in (6, 17) or len(ports) < 4:
            return False
        here = protocol, ends[1], int.from_bytes(ports[2:], "big")
        there = ends[0], int.from_bytes(ports[:2], "big")
        return (*here, *there) in self.connected and not {here, (protocol, b"", here[2])} & self.waiting


NO_SOCKETS = Sockets()


def source_of(frame: bytes) -> tuple[int, int] | str:
    """(version, source address) of a frame, or the verdict that needs no source: passed or malformed."""
    found = packet_in(frame)
    return found if isinstance(found, str) else _source_in(*found)


def packet_in(frame: bytes) -> tuple[int | None, bytes] | str:
    """(IP version or None, what follows the headers of Ethernet) of a frame, or malformed."""
    if len(frame) < _ETHERNET_BYTES:
        return MALFORMED
    at = 12
    for _ in range(_TAGS_AT_MOST):
        if int.from_bytes(frame[at : at + 2], "big") not in _TAG_TYPES:
            break
        at += _TAG_BYTES
        if len(frame) < at + 2:
            return MALFORMED
    ethertype, packet = int.from_bytes(frame[at : at + 2], "big"), frame[at + 2 :]
    if ethertype == _PPPOE_TYPE:
        if len(packet) < _PPPOE_BYTES:
            return MALFORMED
        ethertype, packet = _IN_PPP.get(packet[6:_PPPOE_BYTES]), packet[_PPPOE_BYTES:]
    return {0x0800: 4, 0x86DD: 6}.get(ethertype), packet


def _source_in(version: int | None, packet: bytes) -> tuple[int, int] | str:
    if version == 4:
        return (4, int.from_bytes(packet[12:16], "big")) if len(packet) >= 20 else MALFORMED
    if version == 6:
        return (6, int.from_bytes(packet[8:24], "big")) if len(packet) >= 40 else MALFORMED
    return PASSED


def verdict(frame: bytes, lists: Lists, sockets: Sockets = NO_SOCKETS, *, starts_with_ip: bool = False) -> str:
    """The contract's "Verdict on a frame"; `sockets` are those whose replies pass.

    On a device without Ethernet, it starts with its IP header.
    """
    packet = (frame[0] >> 4 if frame else None, frame) if starts_with_ip else packet_in(frame)
    if isinstance(packet, str) or not frame:
        return MALFORMED
    found = _source_in(*packet)
    if isinstance(found, str):
        return found
    if not lists.block(*found):
        return PASSED
    return REPLIES if sockets.get_replies(found[0], packet[1]) else DROPPED
