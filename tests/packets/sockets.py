"""Real sockets on the loopback device, and the packets that they get.

A test run looks sockets up in the namespace of whoever asks for it, as for a packet on its loopback device.
"""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address
from typing import NamedTuple, Self

from frames import IPV4, IPV6, TCP, UDP, ethernet, ipv4_header, ipv6_header
from verdict_reference import Sockets

KINDS = {TCP: socket.SOCK_STREAM, UDP: socket.SOCK_DGRAM}


class Flow(NamedTuple):
    """Packets from one end to the other."""

    protocol: int
    source: str
    source_port: int
    target: str
    target_port: int

    @property
    def back(self) -> "Flow":
        """The other direction."""
        return Flow(self.protocol, self.target, self.target_port, self.source, self.source_port)

    @property
    def version(self) -> int:
        return ip_address(self.source).version

    @property
    def ethertype(self) -> int:
        return {4: IPV4, 6: IPV6}[self.version]

    @property
    def ports(self) -> bytes:
        return self.source_port.to_bytes(2, "big") + self.target_port.to_bytes(2, "big")

    @property
    def packet(self) -> bytes:
        """With as many bytes behind the ports as the longer of the two headers has."""
        if self.version == 4:
            header = ipv4_header(self.source, self.target, protocol=self.protocol, total=40)
        else:
            header = ipv6_header(self.source, self.target, next_header=self.protocol, payload=20)
        return header + self.ports + bytes(16)

    @property
    def frame(self) -> bytes:
        return ethernet(self.ethertype, self.packet)

    @property
    def here(self) -> tuple[int, bytes, int]:
        """The end that gets them, as the reference has it."""
        return self.protocol, ip_address(self.target).packed, self.target_port

    @property
    def there(self) -> tuple[bytes, int]:
        """The end that sends them."""
        return ip_address(self.source).packed, self.source_port


class Ends(ExitStack):
    """Sockets that are closed on the way out, and what the reference knows of them."""

    def __init__(self) -> None:
        super().__init__()
        self.flows: list[Flow] = []
        """What the connected ones get."""
        self._waiting: set[tuple[int, bytes, int]] = set()

    def __enter__(self) -> Self:
        super().__enter__()
        return self

    @property
    def known(self) -> Sockets:
        return Sockets(frozenset((*flow.here, *flow.there) for flow in self.flows), frozenset(self._waiting))

    def make(self, protocol: int, address: str, port: int = 0, *, v6only: bool | None = None) -> socket.socket:
        """A socket with a local address of its own, which others may share."""
        made = self.enter_context(socket.socket(_family(address), KINDS[protocol]))
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if v6only is not None:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
        made.bind((address, port))
        return made

    def wait(self, protocol: int, address: str, port: int = 0, *, v6only: bool | None = None) -> socket.socket:
        """One that takes packets of anybody: it listens, or it is not connected."""
        made = self.make(protocol, address, port, v6only=v6only)
        if protocol == TCP:
            made.listen()
        local = ip_address(address)
        packed = b"" if local.is_unspecified else local.packed
        self._waiting.add((protocol, packed, made.getsockname()[1]))
        return made

    def connect(self, made: socket.socket, protocol: int, to: socket.socket, address: str | None = None) -> Flow:
        """Connect it to where another one waits; what it gets from there from now on."""
        made.connect((address or to.getsockname()[0], to.getsockname()[1]))
        return self.told(made, protocol)

    def told(self, made: socket.socket, protocol: int) -> Flow:
        """What a connected socket gets."""
        (target, target_port, *_), (source, source_port, *_) = made.getsockname(), made.getpeername()
        flow = Flow(protocol, _plain(source), source_port, _plain(target), target_port)
        self.flows.append(flow)
        return flow


def _plain(address: str) -> str:
    return address.removeprefix("::ffff:")


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


@contextmanager
def connection(protocol: int, server: str, client: str) -> Iterator[tuple[Ends, Flow, socket.socket]]:
    """One from a client's address to a server's: all sockets, what the client gets, and the server's socket."""
    with Ends() as ends:
        waiting = ends.wait(protocol, server)
        flow = ends.connect(ends.make(protocol, client), protocol, waiting)
        yield ends, flow, waiting
