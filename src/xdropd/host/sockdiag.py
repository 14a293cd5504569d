"""The kernel's own table of sockets: with whom this network namespace has TCP and UDP connections open, sock_diag(7).

Lives here: as much of the protocol as that takes. Needs no privileges. As columns, for there may be a hundred thousand.
Not here: who of them is listed.

Messages are laid out as in uapi/linux/{netlink,inet_diag}.h, addresses and ports in network byte order.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from xdropd.columns.prefixes import FAMILIES, Column
from xdropd.text.addresses import WIDTH, Span, pack

# uapi/linux/netlink.h, uapi/linux/sock_diag.h
_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST_DUMP = 0x301
_NLMSG_ERROR, _NLMSG_DONE = 2, 3

# uapi/linux/inet_diag.h
_INET_DIAG_REQ_BYTECODE = 1
_INET_DIAG_BC_D_COND = 8

# include/net/tcp_states.h; of UDP, what is connected is established, and whatever else has a port is closed.
_ESTABLISHED, _CLOSE, _LISTEN = 1, 7, 10

_NLMSGHDR = struct.Struct("=IHHII")  # length, type, flags, sequence number, port
# struct inet_diag_req_v2: family, protocol, extensions, bits of states; then an empty struct inet_diag_sockid
_REQUEST = struct.Struct("=BBBxI48x")
_RTATTR = struct.Struct("=HH")  # length, type
_OPERATION = struct.Struct("=BBH")  # struct inet_diag_bc_op: code, where to go on if so, and if not
_HOST_CONDITION = struct.Struct("=BBxxi")  # family, prefix length, port; then the address
_ANY_PORT = -1
# struct inet_diag_msg as far as it matters: struct inet_diag_sockid begins behind family, state, timer and retries.
_MESSAGE = np.dtype(
    [
        ("netlink", "V16"),
        ("family", "u1"),
        ("state", "u1"),
        ("timer", "V2"),
        ("local_port", ">u2"),
        ("remote_port", ">u2"),
        ("local", "V16"),
        ("remote", "u1", 16),
    ]
)
_MAPPED = np.frombuffer(b"\0" * 10 + b"\xff\xff", np.uint8)

_BUFFER_BYTES = 1 << 18
_ANSWER_SECONDS = 5.0


@dataclass(frozen=True, slots=True, eq=False)
class Connections:
    """Open connections of one kind, a row each."""

    version: int
    remote: Column
    """An address column of columns/prefixes.py."""
    protocol: str
    """As in /etc/services."""
    service: Column
    """The port that says what is spoken: where this host listens on it, its own, else the other one's."""
    is_inbound: Column
    """Whether this host listens on the local port."""

    def __len__(self) -> int:
        return len(self.remote)

    def taken(self, rows: Column) -> Connections:
        """Some of them."""
        return replace(self, remote=self.remote[rows], service=self.service[rows], is_inbound=self.is_inbound[rows])


def connections(within: Span | None = None) -> list[Connections]:
    """All that are established now, or those with somebody in the least network that holds `within`, which is quick.

    None of a kind that the kernel does not tell about. A hundred thousand take some tenths of a second.
    """
    found: list[Connections] = []
    for protocol, number, listening in (
        ("tcp", socket.IPPROTO_TCP, _LISTEN),
        ("udp", socket.IPPROTO_UDP, _CLOSE),
    ):
        established = _in_state(number, _ESTABLISHED, within)
        if len(established):
            found += _sorted_out(protocol, established, np.unique(_in_state(number, listening)["local_port"]))
    return found


def _in_state(protocol: int, state: int, within: Span | None = None) -> Column:
    families = [socket.AF_INET6] if within is not None and within.version == 6 else [socket.AF_INET, socket.AF_INET6]
    found = [np.zeros(0, _MESSAGE)]
    for family in families:
        with contextlib.suppress(OSError):  # such as one that this kernel does not have
            found.append(_dump(family, protocol, 1 << state, b"" if within is None else _only(within)))
    return np.concatenate(found)


def _only(within: Span) -> bytes:
    """The attribute that asks for connections with somebody in a network. The kernel knows of mapped addresses."""
    version, first, last = within
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    length = WIDTH[version] - (first ^ last).bit_length()
    condition = _HOST_CONDITION.pack(family, length, _ANY_PORT) + pack(version, first)
    size = _OPERATION.size + len(condition)
    # To go on at the end is yes, beyond it no (inet_diag_bc_run).
    code = _OPERATION.pack(_INET_DIAG_BC_D_COND, size, size + _OPERATION.size) + condition
    return _RTATTR.pack(_RTATTR.size + len(code), _INET_DIAG_REQ_BYTECODE) + code


def _sorted_out(protocol: str, established: Column, ports: Column) -> Iterator[Connections]:
    """By version. A socket of IPv6 may have an IPv4 connection, to a mapped address."""
    is_inbound = np.isin(established["local_port"], ports)
    service = np.where(is_inbound, established["local_port"], established["remote_port"])
    remote = established["remote"]
    is_ipv6 = established["family"] == socket.AF_INET6
    is_mapped = is_ipv6 & (remote[:, :12] == _MAPPED).all(axis=1)
    last_four = np.where(is_mapped[:, np.newaxis], remote[:, 12:], remote[:, :4])
    for version, rows, octets in ((4, ~is_ipv6 | is_mapped, last_four), (6, is_ipv6 & ~is_mapped, remote)):
        addresses = FAMILIES[version].addresses(np.ascontiguousarray(octets[rows]).tobytes())
        yield Connections(version, addresses, protocol, service[rows].astype(np.uint16), is_inbound[rows])


def _dump(family: int, protocol: int, states: int, attributes: bytes) -> Column:
    """All sockets of a family and protocol in one of these states. Raises OSError."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as asking:
        asking.settimeout(_ANSWER_SECONDS)
        body = _REQUEST.pack(family, protocol, 0, states) + attributes
        asking.send(_NLMSGHDR.pack(_NLMSGHDR.size + len(body), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST_DUMP, 1, 0) + body)
        parts = []
        is_done = False
        while not is_done:
            data = asking.recv(_BUFFER_BYTES)
            places, is_done = _places(data)
            octets = np.frombuffer(data, np.uint8)
            parts.append(octets[np.array(places, np.intp)[:, np.newaxis] + np.arange(_MESSAGE.itemsize)])
    return np.ascontiguousarray(np.concatenate(parts)).view(_MESSAGE).ravel()


def _places(data: bytes) -> tuple[list[int], bool]:
    """Where the messages begin, and whether nothing comes behind them. Raises OSError."""
    places: list[int] = []
    at = 0
    while at + _NLMSGHDR.size <= len(data):
        length, kind, _, _, _ = _NLMSGHDR.unpack_from(data, at)
        if kind in (_NLMSG_DONE, _NLMSG_ERROR):
            number = struct.unpack_from("=i", data, at + _NLMSGHDR.size)[0]
            if number < 0:
                raise OSError(-number, "sock_diag refuses")
            return places, True
        if length < _MESSAGE.itemsize or at + length > len(data):
            raise OSError("a message of sock_diag is cut off")
        if kind == _SOCK_DIAG_BY_FAMILY:
            places.append(at)
        at += (length + 3) & ~3
    return places, False
