"""Interfaces, addresses and routes of this network namespace, over rtnetlink(7).

Lives here: as much of the protocol as a few questions need, and no more. One socket hears that something changed,
others ask what there is now; what a notification says is never used, so that a lost one costs nothing but time.
Not here: which interfaces are wanted and which addresses are guarded.

Messages are laid out as in uapi/linux/{netlink,rtnetlink,if_link,if_addr,nexthop}.h, in host byte order except for
addresses. Needs no privileges.
"""

import contextlib
import os
import socket
import struct
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from errno import EACCES, EPERM, ETIMEDOUT
from typing import NamedTuple, TypeVar

from xdropd.errors import KernelError, NotPermitted
from xdropd.text import names
from xdropd.text.addresses import WIDTH, Span

# uapi/linux/socket.h, uapi/linux/netlink.h
_SOL_NETLINK = 270
_NETLINK_ADD_MEMBERSHIP = 1
_NLM_F_REQUEST = 0x01
_NLM_F_DUMP_INTR = 0x10
_NLM_F_DUMP = 0x300
_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_NLA_TYPE_MASK = 0x3FFF  # the rest: NLA_F_NESTED, NLA_F_NET_BYTEORDER

# uapi/linux/rtnetlink.h
_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK = 16, 17, 18
_RTM_NEWADDR, _RTM_DELADDR, _RTM_GETADDR = 20, 21, 22
_RTM_NEWROUTE, _RTM_DELROUTE, _RTM_GETROUTE = 24, 25, 26
_RTM_NEWSTATS, _RTM_GETSTATS = 92, 94
_RTM_NEWNEXTHOP, _RTM_DELNEXTHOP, _RTM_GETNEXTHOP = 104, 105, 106
_RTNLGRP_LINK = 1
_RTNLGRP_IPV4_IFADDR = 5
_RTNLGRP_IPV4_ROUTE = 7
_RTNLGRP_IPV6_IFADDR = 9
_RTNLGRP_IPV6_ROUTE = 11
_RTNLGRP_NEXTHOP = 32
_RTN_UNICAST = 1
_RT_TABLE_MAIN = 254
_RTM_F_CLONED = 0x200
_RTA_OIF = 4
_RTA_GATEWAY = 5
_RTA_MULTIPATH = 9
_RTA_TABLE = 15
_RTA_VIA = 18
_RTA_NH_ID = 30
_RTEXT_FILTER_SKIP_STATS = 1 << 3

# uapi/linux/if_link.h, uapi/linux/if.h
_IFLA_IFNAME = 3
_IFLA_MTU = 4
_IFLA_LINK = 5
_IFLA_MASTER = 10
_IFLA_LINKINFO = 18
_IFLA_EXT_MASK = 29
_IFLA_LINK_NETNSID = 37  # there where the IFLA_LINK is an index of another network namespace
_IFLA_XDP = 43
_IFLA_MAX_MTU = 51
_IFLA_PROP_LIST = 52
_IFLA_ALT_IFNAME = 53  # any number, inside of IFLA_PROP_LIST
_IFLA_PARENT_DEV_NAME = 56  # from Linux 5.14
_IFLA_PARENT_DEV_BUS_NAME = 57
_IFLA_INFO_KIND = 1
_IFLA_INFO_DATA = 2
_IFLA_VRF_TABLE = 1
_IFLA_VXLAN_LINK = 3
_IFLA_XDP_PROG_ID = 4  # absent while programs of several modes are attached (XDP_ATTACHED_MULTI)
_IFLA_XDP_DRV_PROG_ID = 5
_IFLA_XDP_SKB_PROG_ID = 6
_IFLA_XDP_HW_PROG_ID = 7
_IFLA_STATS_LINK_64 = 1  # also the bit to ask for it
_RECEIVED = (0, 23)  # in struct rtnl_link_stats64: rx_packets, rx_nohandler
_IFF_UP = 0x1
_IFF_BROADCAST = 0x2
_IFF_LOOPBACK = 0x8
_IFF_POINTOPOINT = 0x10

# uapi/linux/if_addr.h, uapi/linux/nexthop.h
_IFA_ADDRESS = 1
_IFA_LOCAL = 2
_NHA_ID = 1
_NHA_GROUP = 2
_NHA_OIF = 5
_NHA_GATEWAY = 6
_NHA_FDB = 11

ARPHRD_ETHER = 1  # uapi/linux/if_arp.h

_NLMSGHDR = struct.Struct("=IHHII")  # length, type, flags, sequence number, port
_RTATTR = struct.Struct("=HH")  # length, type
_IFINFOMSG = struct.Struct("=BxHiII")  # family, ARPHRD_*, index, IFF_*, changed flags
_IFADDRMSG = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
_RTMSG = struct.Struct("=BBBBBBBBI")  # family, destination and source length, TOS, table, protocol, scope, type, flags
_RTNEXTHOP = struct.Struct("=HBBi")  # length, flags, hops, index
_STATSMSG = struct.Struct("=BxxxII")  # family, index, which to tell
_NHMSG = struct.Struct("=BBBxI")  # family, scope, protocol, flags
_NEXTHOP_GRP = struct.Struct("=IBBH")  # id, weight, high bits of weight, reserved
_U32 = struct.Struct("=I")
_S32 = struct.Struct("=i")
_U64 = struct.Struct("=Q")
_U16 = struct.Struct("=H")

_WHAT_CHANGED = {
    # The kernel takes IPv4 routes away with their link or address without a word (fib_table_flush notifies nobody).
    _RTM_NEWLINK: frozenset({"links", "routes"}),
    _RTM_DELLINK: frozenset({"links", "routes"}),
    _RTM_NEWADDR: frozenset({"addresses", "routes"}),
    _RTM_DELADDR: frozenset({"addresses", "routes"}),
    _RTM_NEWROUTE: frozenset({"routes"}),
    _RTM_DELROUTE: frozenset({"routes"}),
    _RTM_NEWNEXTHOP: frozenset({"routes"}),
    _RTM_DELNEXTHOP: frozenset({"routes"}),
}
_EVERYTHING = frozenset({"links", "addresses", "routes"})

_ASKING_FOR = {
    _RTM_NEWLINK: "interfaces",
    _RTM_NEWADDR: "addresses",
    _RTM_NEWROUTE: "routes",
    _RTM_NEWNEXTHOP: "next-hop objects",
    _RTM_NEWSTATS: "counts of interfaces",
}

_ATTEMPTS = 8
_READS_AT_ONCE = 1000  # a socket's buffer holds some hundreds of messages
# The kernel has an answer ready before the question returns, so that nobody ever waits this long. While somebody else
# holds the lock of rtnetlink the question itself sleeps, and neither a signal nor a timeout ends that: a daemon that
# the watchdog ends for it would only fall asleep again, and what is in force needs no daemon meanwhile.
_ANSWER_SECONDS = 5.0
_BUFFER_BYTES = 1 << 16  # the kernel fills at most 32 KiB at a time, unless a single message is larger

Attributes = dict[int, bytes]
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Interface:
    """A network device as it is now."""

    index: int
    name: str  # as it is told, see text/names.py
    kind: str  # "veth", "bond", "vlan", ...; empty for hardware and loopback
    arp_type: int  # ARPHRD_*
    is_up: bool
    is_loopback: bool
    master: int  # index of the bond, bridge or VRF that it is a port of; 0: none
    mtu: int
    xdp_program: int  # id of the program attached in any mode; 0: none
    altnames: tuple[str, ...] = ()  # its other names, as they are told
    link: int = 0  # index of what it stands on, or of its peer; 0: nothing, or in another network namespace
    parent: tuple[str, str] = ("", "")  # bus and name of the hardware or virtual device behind it; empty: none
    table: int = 0  # of a VRF: its routing table
    mtu_at_most: int = 0  # by its driver; 0: not known
    is_point_to_point: bool = False  # and nothing else: of a gre tunnel, that it has one other end


class _NextHop(NamedTuple):
    """A next-hop object: a gateway behind a device, or a group of others."""

    interface: int
    gateway: tuple[int, bytes]  # AF_* and address, which may be empty
    members: tuple[int, ...]


class Received(NamedTuple):
    """Packets that came in on a device (rtnl_link_stats64)."""

    all: int
    for_nobody: int
    """Of these: on a port of a bond that is not the active one, such as the copies of what the active one has got. A
    team has them beside these.
    """


@dataclass(frozen=True, slots=True)
class Routes:
    """What matters of all routes, of every table and next-hop object, at one moment."""

    default: Mapping[int, frozenset[int]] = field(default_factory=dict)
    """By table: indexes of the devices that a default route goes through, IPv4 or IPv6.

    Every path of a multipath route and of a next-hop group counts; unreachable, blackhole and prohibit do not.
    """
    gateways: frozenset[Span] = frozenset()
    """Of any route, IPv4 and IPv6, and of every next-hop object."""

    def interfaces(self, tables: Iterable[int] = ()) -> set[int]:
        """Indexes of the devices that a default route goes through: of the main table, and of `tables`."""
        return {index for table in {_RT_TABLE_MAIN, *tables} for index in self.default.get(table, ())}


class Questions:
    """Asks in the network namespace in which it was made, whichever the caller is in later. For one thread at a time.

    Raises KernelError where the kernel refuses; so does every method.
    """

    def __init__(self) -> None:
        self._questions = _open()
        self._sequence = 0
        self._buffer_bytes = _BUFFER_BYTES
        self._is_inconsistent = False
        self._questions.settimeout(_ANSWER_SECONDS)

    def close(self) -> None:
        """Its socket."""
        self._questions.close()

    def interfaces(self) -> dict[int, Interface]:
        """Every device by its index."""

        def look() -> dict[int, Interface]:
            links = (_interface(*link) for link in self._dump(_RTM_NEWLINK, _RTM_GETLINK, _LINK_REQUEST))
            return {link.index: link for link in links}

        return self._steadily(look)

    def received(self) -> dict[int, Received]:
        """How many packets each device has received, by its index, as its driver counts them."""
        found = {}
        request = _STATSMSG.pack(0, 0, 1 << _IFLA_STATS_LINK_64 - 1)
        for data, at, end in self._dump(_RTM_NEWSTATS, _RTM_GETSTATS, request):
            _, index, _ = _STATSMSG.unpack_from(data, at)
            counts = _attributes(data, at + _STATSMSG.size, end).get(_IFLA_STATS_LINK_64)
            if counts is not None:
                found[index] = Received(*(_U64.unpack_from(counts, _U64.size * which)[0] for which in _RECEIVED))
        return found

    def routes(self) -> Routes:
        """What matters of them. A full table has a million, which takes seconds."""

        def look() -> Routes:
            default: defaultdict[int, set[int]] = defaultdict(set)
            objects: defaultdict[int, set[int]] = defaultdict(set)
            gateways: set[tuple[int, bytes]] = set()
            for data, at, end in self._dump(_RTM_NEWROUTE, _RTM_GETROUTE, _RTMSG.pack(0, 0, 0, 0, 0, 0, 0, 0, 0)):
                family, length, _, _, table, _, _, kind, flags = _RTMSG.unpack_from(data, at)
                if flags & _RTM_F_CLONED:
                    continue  # what was learned about one destination, not configured
                attributes = _attributes(data, at + _RTMSG.size, end)
                paths = list(_paths(attributes[_RTA_MULTIPATH])) if _RTA_MULTIPATH in attributes else []
                for each in (attributes, *(path for _, path in paths)):
                    _add_gateway(gateways, family, each)
                if length or kind != _RTN_UNICAST or family not in _VERSION:
                    continue
                table = _number(attributes, _RTA_TABLE, table)
                default[table].update({_number(attributes, _RTA_OIF), *(index for index, _ in paths)})
                # With net.ipv4.nexthop_compat_mode=0 the route names its object and nothing else.
                objects[table].add(_number(attributes, _RTA_NH_ID))
            hops = self._next_hops()
            for table, numbers in objects.items():
                default[table].update(hop.interface for number in numbers for hop in _resolve(hops, number))
            gateways.update(hop.gateway for hop in hops.values())
            return Routes(
                {table: frozenset(found - {0}) for table, found in default.items()},
                frozenset(span for gateway in gateways for span in _span(*gateway)),
            )

        return self._steadily(look)

    def own_addresses(self) -> frozenset[Span]:
        """Every address configured on this host; of a point-to-point address the near end."""

        def look() -> frozenset[Span]:
            found: set[Span] = set()
            for data, at, end in self._dump(_RTM_NEWADDR, _RTM_GETADDR, _IFADDRMSG.pack(0, 0, 0, 0, 0)):
                attributes = _attributes(data, at + _IFADDRMSG.size, end)
                # With a peer IFA_LOCAL is this end and IFA_ADDRESS the far one; IPv6 sends IFA_LOCAL only then.
                address = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS, b"")
                found.update(_span(data[at], address))
            return frozenset(found)

        return self._steadily(look)

    def connected_networks(self) -> frozenset[Span]:
        """The network of every address configured on this host; of a point-to-point address that of the far end.

        A prefix of no length is no network, for everything is in it.
        """

        def look() -> frozenset[Span]:
            found: set[Span] = set()
            for data, at, end in self._dump(_RTM_NEWADDR, _RTM_GETADDR, _IFADDRMSG.pack(0, 0, 0, 0, 0)):
                length = _IFADDRMSG.unpack_from(data, at)[1]
                attributes = _attributes(data, at + _IFADDRMSG.size, end)
                for version, first, _ in _span(data[at], attributes.get(_IFA_ADDRESS, b"")) if length else ():
                    host_mask = (1 << WIDTH[version] - length) - 1
                    found.add(Span(version, first & ~host_mask, first | host_mask))
            return frozenset(found)

        return self._steadily(look)

    def _next_hops(self) -> dict[int, _NextHop]:
        found: dict[int, _NextHop] = {}
        for data, at, end in self._dump(_RTM_NEWNEXTHOP, _RTM_GETNEXTHOP, _NHMSG.pack(0, 0, 0, 0)):
            attributes = _attributes(data, at + _NHMSG.size, end)
            if _NHA_FDB in attributes:
                continue  # a tunnel's far end in a bridge; no route can go through it
            gateway = (data[at], attributes.get(_NHA_GATEWAY, b""))
            members = tuple(entry[0] for entry in _NEXTHOP_GRP.iter_unpack(attributes.get(_NHA_GROUP, b"")))
            found[_number(attributes, _NHA_ID)] = _NextHop(_number(attributes, _NHA_OIF), gateway, members)
        return found

    def _steadily(self, look: Callable[[], Answer]) -> Answer:
        """Look until nothing changed meanwhile. Where there is always something, the last answer has to do:
        whoever disturbed it also sent news, so the question will be asked again.
        """
        for _ in range(_ATTEMPTS):
            self._is_inconsistent = False
            answer = look()
            if not self._is_inconsistent:
                break
        return answer

    def _dump(self, answer: int, request: int, body: bytes) -> Iterator[tuple[bytes, int, int]]:
        """All messages of a kind: (data, where the body begins in it, where it ends)."""
        self._sequence += 1  # also marks what is left over of an earlier dump
        header = _NLMSGHDR.pack(_NLMSGHDR.size + len(body), request, _NLM_F_REQUEST | _NLM_F_DUMP, self._sequence, 0)
        try:
            self._questions.send(header + body)
            while True:
                data, _, message_flags, _ = self._questions.recvmsg(self._buffer_bytes)
                if message_flags & socket.MSG_TRUNC:
                    self._buffer_bytes *= 2
                    self._is_inconsistent = True
                for kind, flags, at, end in _messages(data, self._sequence):
                    if flags & _NLM_F_DUMP_INTR:
                        self._is_inconsistent = True
                    if kind == answer:
                        yield data, at, end
                    elif kind in {_NLMSG_DONE, _NLMSG_ERROR}:
                        # Both begin with 0 or a negative errno; before Linux 4.15 NLMSG_DONE could be bare.
                        number = _S32.unpack_from(data, at)[0] if end - at >= _S32.size else 0
                        if number < 0:
                            raise _refused(f"ask rtnetlink for {_ASKING_FOR[answer]}", -number)
                        return
        except OSError as error:
            number = ETIMEDOUT if isinstance(error, TimeoutError) else error.errno
            raise _refused(f"ask rtnetlink for {_ASKING_FOR[answer]}", number) from error


class Netlink(Questions):
    """Asks, and listens as well."""

    def __init__(self) -> None:
        super().__init__()
        try:
            self._news = _open()
        except KernelError:
            super().close()
            raise
        self._has_lost_news = False
        self._news.setblocking(False)
        groups = (_RTNLGRP_LINK, _RTNLGRP_IPV4_IFADDR, _RTNLGRP_IPV6_IFADDR, _RTNLGRP_IPV4_ROUTE, _RTNLGRP_IPV6_ROUTE)
        try:
            for group in groups:
                self._news.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)
        except OSError as error:
            self.close()
            raise _refused("subscribe to rtnetlink", error.errno) from error
        with contextlib.suppress(OSError):  # a kernel without next-hop objects has no news of them
            self._news.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, _RTNLGRP_NEXTHOP)

    def fileno(self) -> int:
        """Readable when something changed."""
        return self._news.fileno()

    def close(self) -> None:
        """Both sockets."""
        self._news.close()
        super().close()

    def changes(self) -> frozenset[str]:
        """What changed since the last call, any of "links", "addresses" and "routes". Never waits.

        All three when the news came faster than they were read, or are lost for another reason: look at everything
        again. Under a flood of them some are left for the next call, so that this one ends.
        """
        changed: frozenset[str] = frozenset()
        for _ in range(_READS_AT_ONCE):
            try:
                data = self._news.recv(_BUFFER_BYTES)
            except BlockingIOError:
                lost, self._has_lost_news = self._has_lost_news, False
                return _EVERYTHING if lost else changed
            except OSError:  # ENOBUFS; the kernel tells of further losses only once all is read (netlink_overrun)
                self._has_lost_news = True
                continue
            for kind, _, _, _ in _messages(data):
                changed |= _WHAT_CHANGED.get(kind, frozenset())
        return _EVERYTHING if self._has_lost_news else changed


_VERSION = {int(socket.AF_INET): 4, int(socket.AF_INET6): 6}
_LINK_REQUEST = (
    _IFINFOMSG.pack(0, 0, 0, 0, 0)
    + _RTATTR.pack(_RTATTR.size + _U32.size, _IFLA_EXT_MASK)
    + _U32.pack(_RTEXT_FILTER_SKIP_STATS)
)


def _open() -> socket.socket:
    try:
        opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    except OSError as error:
        raise _refused("open a netlink socket", error.errno) from error
    try:
        opened.bind((0, 0))
    except OSError as error:
        opened.close()
        raise _refused("bind a netlink socket", error.errno) from error
    return opened


def _refused(call: str, number: int | None) -> KernelError:
    number = number or 0
    if number in {EPERM, EACCES}:
        return NotPermitted(call, number, os.strerror(number))
    return KernelError(call, number, os.strerror(number))


def _messages(data: bytes, sequence: int | None = None) -> Iterator[tuple[int, int, int, int]]:
    """(type, flags, where the body begins, where it ends), up to a message that was cut off."""
    at = 0
    while at + _NLMSGHDR.size <= len(data):
        length, kind, flags, number, _ = _NLMSGHDR.unpack_from(data, at)
        if length < _NLMSGHDR.size or at + length > len(data):
            return
        if sequence is None or number == sequence:
            yield kind, flags, at + _NLMSGHDR.size, at + length
        at += (length + 3) & ~3


def _attributes(data: bytes, at: int, end: int) -> Attributes:
    found: Attributes = {}
    while at + 4 <= end:
        length, kind = _RTATTR.unpack_from(data, at)
        if length < 4 or at + length > end:
            break
        found[kind & _NLA_TYPE_MASK] = data[at + 4 : at + length]
        at += (length + 3) & ~3
    return found


def _nested(attributes: Attributes, kind: int) -> Attributes:
    data = attributes.get(kind, b"")
    return _attributes(data, 0, len(data))


def _number(attributes: Attributes, kind: int, otherwise: int = 0) -> int:
    value = attributes.get(kind)
    return otherwise if value is None else int(_U32.unpack(value)[0])


def _interface(data: bytes, at: int, end: int) -> Interface:
    _, arp_type, index, flags, _ = _IFINFOMSG.unpack_from(data, at)
    attributes = _attributes(data, at + _IFINFOMSG.size, end)
    xdp = _nested(attributes, _IFLA_XDP)
    modes = (_IFLA_XDP_PROG_ID, _IFLA_XDP_DRV_PROG_ID, _IFLA_XDP_SKB_PROG_ID, _IFLA_XDP_HW_PROG_ID)
    about = _nested(attributes, _IFLA_LINKINFO)
    kind = _text(about.get(_IFLA_INFO_KIND, b""))
    own = _nested(about, _IFLA_INFO_DATA)
    # A VXLAN device has no IFLA_LINK, and yet the kernel knows it as one above that other (vxlan_core.c).
    link = _number(own, _IFLA_VXLAN_LINK) if kind == "vxlan" else _number(attributes, _IFLA_LINK)
    return Interface(
        index=index,
        name=_text(attributes.get(_IFLA_IFNAME, b"")),
        kind=kind,
        arp_type=arp_type,
        is_up=bool(flags & _IFF_UP),
        is_loopback=bool(flags & _IFF_LOOPBACK),
        master=_number(attributes, _IFLA_MASTER),
        mtu=_number(attributes, _IFLA_MTU),
        mtu_at_most=_number(attributes, _IFLA_MAX_MTU),
        xdp_program=next(filter(None, (_number(xdp, mode) for mode in modes)), 0),
        altnames=tuple(map(_text, _altnames(attributes.get(_IFLA_PROP_LIST, b"")))),
        link=0 if _IFLA_LINK_NETNSID in attributes else link,
        parent=(
            _text(attributes.get(_IFLA_PARENT_DEV_BUS_NAME, b"")),
            _text(attributes.get(_IFLA_PARENT_DEV_NAME, b"")),
        ),
        table=_number(own, _IFLA_VRF_TABLE) if kind == "vrf" else 0,
        is_point_to_point=flags & (_IFF_POINTOPOINT | _IFF_BROADCAST) == _IFF_POINTOPOINT,
    )


def _altnames(properties: bytes) -> Iterator[bytes]:
    """The one attribute that stands many times beside itself."""
    at = 0
    while at + _RTATTR.size <= len(properties):
        length, kind = _RTATTR.unpack_from(properties, at)
        if length < _RTATTR.size:
            return
        if kind & _NLA_TYPE_MASK == _IFLA_ALT_IFNAME:
            yield properties[at + _RTATTR.size : at + length]
        at += (length + 3) & ~3


def _text(name: bytes) -> str:
    return names.shown(os.fsdecode(name.rstrip(b"\0")))


def _span(family: int, address: bytes) -> Iterator[Span]:
    """The address as a span; nothing for other families, for no address and for the unspecified one."""
    number = int.from_bytes(address, "big")
    if number and family in _VERSION:
        yield Span(_VERSION[family], number, number)


def _add_gateway(found: set[tuple[int, bytes]], family: int, attributes: Attributes) -> None:
    """Of a route or of one of its paths. RTA_VIA (struct rtvia) is a gateway of another family than the route's."""
    if _RTA_GATEWAY in attributes:
        found.add((family, attributes[_RTA_GATEWAY]))
    if _RTA_VIA in attributes:
        via = attributes[_RTA_VIA]
        found.add((_U16.unpack_from(via)[0], via[_U16.size :]))


def _paths(multipath: bytes) -> Iterator[tuple[int, Attributes]]:
    """The struct rtnexthop of RTA_MULTIPATH: (interface index, attributes)."""
    at = 0
    while at + _RTNEXTHOP.size <= len(multipath):
        length, _, _, index = _RTNEXTHOP.unpack_from(multipath, at)
        if length < _RTNEXTHOP.size:
            return
        yield index, _attributes(multipath, at + _RTNEXTHOP.size, at + length)
        at += (length + 3) & ~3


def _resolve(hops: dict[int, _NextHop], number: int) -> Iterator[_NextHop]:
    """A next-hop object, or the members of a group; the kernel allows no group in a group."""
    hop = hops.get(number)
    if hop is not None:
        yield from (hops[member] for member in hop.members if member in hops)
        yield hop
