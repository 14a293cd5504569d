"""The far end of a card's cable: frames of any source go in there, and answers are read where they come out.

A datagram is a frame. Whoever a guest asks for, by ARP or neighbour solicitation, answers with one hardware address: so
every source exists, and what the guest says to it arrives. Nothing here is taken from the guest's own counters.
"""

import contextlib
import ctypes
import fcntl
import itertools
import os
import random
import socket
import struct
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

HOST_MAC = bytes.fromhex("02000000fe01")

VILLAINS = frozenset({"198.51.100.66", "2001:db8:bad::66"})
INNOCENTS = frozenset({"198.51.100.67", "2001:db8:bad::67"})
EVERYBODY = VILLAINS | INNOCENTS

IPV4, ARP, VLAN, QINQ, IPV6, SESSION = 0x0800, 0x0806, 0x8100, 0x88A8, 0x86DD, 0x8864
BARE = 0x88B5
"""An IP packet of its own, for devices that have no cable (IEEE 802: local experimental Ethertype)."""

_PPP_PROTOCOL = {4: 0x0021, 6: 0x0057}
_PPP_ETHERTYPE = {0x0021: IPV4, 0x0057: IPV6}
_ETHERTYPE = {4: IPV4, 6: IPV6}
_IPIP, _SIT, _GRE, _ICMP, _ICMPV6 = 4, 41, 47, 1, 58
_ECHO, _ECHO_REPLY = {4: 8, 6: 128}, {4: 0, 6: 129}
_SOLICITATION, _ADVERTISEMENT = 135, 136
_SOLICITED_OVERRIDE = 0x60000000

_CLONE_NEWNET = 0x40000000
_TUNSETIFF, _IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR, _IFF_MULTI_QUEUE = 0x400454CA, 0x2, 0x1000, 0x4000, 0x100
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1
_SOL_PACKET, _PACKET_IGNORE_OUTGOING, _ETH_P_ALL = 263, 23, 3

_QUEUE_BYTES = 1 << 22
_LOOK_UP_EVERY_S = 0.2
_ROUND_SECONDS = 0.15
_LATECOMERS_SECONDS = 0.6
_PAYLOAD = b"knock, knock"


@dataclass(frozen=True, slots=True)
class Way:
    """How to get to the guest: to which hardware address and addresses, and behind which headers.

    `before` comes in front of the Ethertype (tags), `session` is a PPPoE session's number. `outer` is the source and
    the destination of an IPv4 or IPv6 packet around each; in it is the packet itself, or GRE's header before it with
    `is_gre`. `bare`: see BARE.
    """

    mac: str
    addresses: Mapping[int, str]
    before: bytes = b""
    session: int | None = None
    outer: tuple[str, str] | None = None
    is_gre: bool = False
    bare: bool = False

    def frame(self, packet: bytes) -> bytes:
        """With an IP packet in it."""
        version = packet[0] >> 4
        ethertype = _ETHERTYPE[version]
        if self.outer:
            protocol = _GRE if self.is_gre else {4: _IPIP, 6: _SIT}[version]
            header = struct.pack("!HH", 0, ethertype) if self.is_gre else b""
            around = ip_address(self.outer[0]).version
            packet = {4: _ipv4, 6: _ipv6}[around](*self.outer, protocol, header + packet)
            ethertype = _ETHERTYPE[around]
        if self.session is not None:
            packet = struct.pack("!BBHHH", 0x11, 0, self.session, len(packet) + 2, _PPP_PROTOCOL[version]) + packet
            ethertype = SESSION
        if self.bare:
            ethertype = BARE
        macs = bytes.fromhex(self.mac.replace(":", "")) + HOST_MAC
        return macs + self.before + struct.pack("!H", ethertype) + packet


def tag(number: int, ethertype: int = VLAN) -> bytes:
    """A VLAN tag, for `Way.before`."""
    return struct.pack("!HH", ethertype, number)


class Cable:
    """One. qemu is given `descriptors`, and `netdev` says what they are."""

    def __init__(self) -> None:
        self.descriptors: list[int] = []
        self._near_end = self._laid()
        self._near_end.settimeout(_LOOK_UP_EVERY_S)
        self._identifier = random.getrandbits(16)
        self._sequence = itertools.count(1)
        self._asked: dict[int, str] = {}  # sources by sequence number
        self._answered: set[int] = set()
        self._is_closing = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _laid(self) -> socket.socket:
        """This end; the other one is in `descriptors`. A pair of sockets, which is all that one queue takes."""
        near_end, far_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        for end in (near_end, far_end):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _QUEUE_BYTES)
        self.descriptors = [far_end.detach()]
        return near_end

    @property
    def netdev(self) -> str:
        """The kind and the options of qemu's network back end."""
        return f"dgram,local.type=fd,local.str={self.descriptors[0]}"

    def close(self) -> None:
        """Pull it out."""
        self._is_closing = True
        self._reader.join()
        self._near_end.close()
        for descriptor in self.descriptors:
            os.close(descriptor)

    def send(self, frame: bytes) -> None:
        """Put a frame on it."""
        self._near_end.send(frame)

    def answered(
        self, way: Way, surely: Collection[str] = INNOCENTS, within_s: float = 15.0, payload: bytes = _PAYLOAD
    ) -> frozenset[str]:
        """Which sources of EVERYBODY get an answer to a ping, of those that have an address there.

        Everybody pings until those have been answered who `surely` are, or time is up; then there is a moment for
        answers that take longer. A single one counts.
        """
        sources = {source for source in EVERYBODY if ip_address(source).version in way.addresses}
        surely = sources & frozenset(surely)
        numbers: dict[int, str] = {}
        deadline = time.monotonic() + within_s
        while True:
            for source in sources:
                number = next(self._sequence) & 0xFFFF
                numbers[number] = source
                self.send(way.frame(self.echo(source, way.addresses[ip_address(source).version], number, payload)))
            due = time.monotonic() + _ROUND_SECONDS
            while not self._has_answered(numbers, sources) and time.monotonic() < due:
                time.sleep(0.01)
            if surely <= self._answers(numbers) or time.monotonic() > deadline:
                break
        due = time.monotonic() + _LATECOMERS_SECONDS
        while not self._has_answered(numbers, sources) and time.monotonic() < due:
            time.sleep(0.01)
        return self._answers(numbers)

    def _answers(self, numbers: Mapping[int, str]) -> frozenset[str]:
        return frozenset(source for number, source in numbers.items() if number in self._answered)

    def _has_answered(self, numbers: Mapping[int, str], sources: Collection[str]) -> bool:
        return self._answers(numbers) >= set(sources)

    def flood(self, way: Way, source: str, packets: int, rate: int = 200) -> None:
        """That many pings of one source, so many a second, whether or not they are answered."""
        destination = way.addresses[ip_address(source).version]
        for _ in range(packets):
            self.send(way.frame(self.echo(source, destination, next(self._sequence) & 0xFFFF)))
            time.sleep(1 / rate)

    def echo(self, source: str, destination: str, number: int, payload: bytes = _PAYLOAD) -> bytes:
        """A ping, as an IP packet."""
        version = ip_address(source).version
        body = struct.pack("!BBHHH", _ECHO[version], 0, 0, self._identifier, number) + payload
        if version == 4:
            return _ipv4(source, destination, _ICMP, _with_checksum(body, b""))
        return _icmpv6(source, destination, body)

    # ---- what comes out ----

    def _read(self) -> None:
        while not self._is_closing:
            try:
                frame = self._near_end.recv(1 << 16)
            except TimeoutError:
                continue
            except OSError:  # qemu has gone
                return
            if len(frame) >= 14:
                self._look_at(frame)

    def _look_at(self, frame: bytes) -> None:
        at, ethertype = 14, int.from_bytes(frame[12:14], "big")
        while ethertype in (VLAN, QINQ):
            at, ethertype = at + 4, int.from_bytes(frame[at + 2 : at + 4], "big")
        if ethertype == ARP:
            self._answer_arp(frame, at)
            return
        for version, source, protocol, payload in _packets(ethertype, frame[at:]):
            if protocol not in (_ICMP, _ICMPV6) or len(payload) < 8:
                continue
            kind, _, _, identifier, number = struct.unpack("!BBHHH", payload[:8])
            if kind == _ECHO_REPLY[version] and identifier == self._identifier:
                self._answered.add(number)
            elif version == 6 and kind == _SOLICITATION and any(source):
                self._answer_solicitation(frame, at, source, payload)

    def _answer_arp(self, frame: bytes, at: int) -> None:
        operation, mac, sender, target = struct.unpack("!6xH6s4s6x4s", frame[at : at + 28])
        if operation == 1 and sender not in (target, bytes(4)):  # nobody asks whether an address is taken
            answer = struct.pack("!HHBBH6s4s6s4s", 1, IPV4, 6, 4, 2, HOST_MAC, target, mac, sender)
            self._put(mac + HOST_MAC + frame[12:at] + answer)

    def _answer_solicitation(self, frame: bytes, at: int, source: bytes, payload: bytes) -> None:
        target = payload[8:24]
        body = struct.pack("!BBHI", _ADVERTISEMENT, 0, 0, _SOLICITED_OVERRIDE) + target + b"\x02\x01" + HOST_MAC
        packet = _icmpv6(ip_address(target), ip_address(source), body, hops=255)
        self._put(frame[6:12] + HOST_MAC + frame[12:at] + packet)

    def _put(self, frame: bytes) -> None:
        with contextlib.suppress(OSError):  # it is being pulled out
            self.send(frame)


class QueuesCable(Cable):
    """One to a card with several queues and the offloads that a hypervisor has: a tap device.

    It is alone in a network namespace, which is there as long as its descriptors are. From uapi/linux/if_tun.h.
    """

    QUEUES = 2

    def _laid(self) -> socket.socket:
        found: list[socket.socket] = []
        apart = threading.Thread(target=lambda: found.append(self._laid_in_a_namespace()))
        apart.start()
        apart.join()
        (near_end,) = found
        return near_end

    def _laid_in_a_namespace(self) -> socket.socket:
        """In a thread of its own, for a thread is in a namespace."""
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare")
        request = struct.pack("16sH22x", b"tap0", _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR | _IFF_MULTI_QUEUE)
        for _ in range(self.QUEUES):
            descriptor = os.open("/dev/net/tun", os.O_RDWR)
            self.descriptors.append(descriptor)
            fcntl.ioctl(descriptor, _TUNSETIFF, request)
        Path("/proc/sys/net/ipv6/conf/tap0/disable_ipv6").write_text("1")  # it has nothing to say itself
        near_end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        fcntl.ioctl(near_end, _SIOCSIFFLAGS, struct.pack("16sH22x", b"tap0", _IFF_UP))
        near_end.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        near_end.bind(("tap0", _ETH_P_ALL))
        return near_end

    @property
    def netdev(self) -> str:
        """As above."""
        return f"tap,fds={':'.join(map(str, self.descriptors))},vhost=off"


def _packets(ethertype: int, packet: bytes) -> Iterator[tuple[int, bytes, int, bytes]]:
    """The IP packets in a frame, from the outside to the inside: version, source, protocol, what follows the header."""
    if ethertype == SESSION and len(packet) > 8:
        ethertype, packet = _PPP_ETHERTYPE.get(int.from_bytes(packet[6:8], "big"), 0), packet[8:]
    if ethertype == BARE and packet:
        ethertype = _ETHERTYPE.get(packet[0] >> 4, 0)
    while True:
        if ethertype == IPV4 and len(packet) >= 20:
            version, source, protocol = 4, packet[12:16], packet[9]
            packet = packet[(packet[0] & 15) * 4 : int.from_bytes(packet[2:4], "big")]
        elif ethertype == IPV6 and len(packet) >= 40:
            version, source, protocol, packet = 6, packet[8:24], packet[6], packet[40:]
        else:
            return
        yield version, source, protocol, packet
        if protocol == _GRE:
            ethertype, packet = int.from_bytes(packet[2:4], "big"), packet[4:]
        else:
            ethertype = {_IPIP: IPV4, _SIT: IPV6}.get(protocol, 0)


def _ipv4(source: str, destination: str, protocol: int, payload: bytes) -> bytes:
    addresses = ip_address(source).packed + ip_address(destination).packed
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0, 64, protocol, 0) + addresses
    return header[:10] + _sum(header) + header[12:] + payload


def _ipv6(source: object, destination: object, protocol: int, payload: bytes, hops: int = 64) -> bytes:
    addresses = ip_address(source).packed + ip_address(destination).packed
    return struct.pack("!IHBB", 6 << 28, len(payload), protocol, hops) + addresses + payload


def _icmpv6(source: object, destination: object, body: bytes, hops: int = 64) -> bytes:
    pseudo = ip_address(source).packed + ip_address(destination).packed + struct.pack("!II", len(body), _ICMPV6)
    return _ipv6(source, destination, _ICMPV6, _with_checksum(body, pseudo), hops)


def _with_checksum(body: bytes, pseudo: bytes) -> bytes:
    """ICMP's is in its third and fourth byte."""
    return body[:2] + _sum(pseudo + body) + body[4:]


def _sum(data: bytes) -> bytes:
    """RFC 1071."""
    padded = data + b"\0" * (len(data) & 1)
    total = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF)
