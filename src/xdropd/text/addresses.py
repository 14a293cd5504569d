"""Addresses, networks and ranges, as text, as numbers and as bytes.

Lives here: what one entry of a list may name, and its canonical form. IPv4 and IPv6 texts are what inet_pton(3) takes,
so nothing is octal, abbreviated or looked up. Not here: files, places, reasons, and what is done with an address.

An IPv4-mapped IPv6 address (RFC 4291, section 2.5.5.2) means the IPv4 address in it, for that is how programs that
listen on an IPv6 socket log an IPv4 client, whose packets are IPv4. So do networks and ranges of them. The mapped space
as a whole, ::ffff:0:0/96, is what it says: lists of bogons name it for IPv6 packets that come from there, and nobody
means the whole IPv4 Internet by it.
"""

from __future__ import annotations

from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import NamedTuple

from xdropd.columns.versions import SELECTED
from xdropd.text import selecting, wording

WIDTH = {4: 32, 6: 128}  # bits in an address

_MAPPED_PREFIX = 0xFFFF  # what stands before the last 32 bits of an IPv4-mapped address
_OCTETS = tuple(map(str, range(256)))
_NOT_OF_A_LENGTH = frozenset(" -/,;")  # there is more than a network in the text


class NoEntry(ValueError):
    """A text is neither address nor network nor range. Its sentence is made when it is asked for: most are not."""

    def __str__(self) -> str:
        return wording.why_no_entry(self.args[0])


class HostBits(ValueError):
    """A network has bits set behind its prefix. `network` is the one that it lies in."""

    def __init__(self, sentence: str, network: Span) -> None:
        super().__init__(sentence)
        self.network = network


class Span(NamedTuple):
    """All addresses of one version from `first` to `last`, both included, as host-order integers."""

    version: int
    first: int
    last: int

    @property
    def is_address(self) -> bool:
        """True for one single address, however it was written."""
        return self.first == self.last

    @property
    def size(self) -> int:
        """How many addresses there are in it."""
        return self.last - self.first + 1

    def __str__(self) -> str:
        """The canonical form: "10.0.0.1", "10.0.0.0/24" if it is exactly a prefix, else "10.0.0.1-10.0.0.9".

        Of a selection, which has a version of its own and its code as both ends: "country=KP".
        """
        version, first, last = self
        if version == SELECTED:
            return selecting.text_of(first)
        if first == last:
            return format_address(version, first)
        differing = first ^ last
        if differing & (differing + 1) == 0 and first & differing == 0:
            return f"{format_address(version, first)}/{WIDTH[version] - differing.bit_length()}"
        return f"{format_address(version, first)}-{format_address(version, last)}"


def pack(version: int, address: int) -> bytes:
    """The address in network byte order: 4 or 16 bytes."""
    return address.to_bytes(4 if version == 4 else 16, "big")


def format_packed(version: int, packed: bytes) -> list[str]:
    """Many addresses in network byte order in their canonical form."""
    if version == 4:  # octet by octet, in a third of the time that a call for each takes
        return list(map(".".join, zip(*(map(_OCTETS.__getitem__, packed[at::4]) for at in range(4)), strict=True)))
    return [inet_ntop(AF_INET6, packed[at : at + 16]) for at in range(0, len(packed), 16)]


def format_address(version: int, address: int) -> str:
    """As inet_ntop(3) writes it: dotted decimals, or IPv6 shortened as RFC 5952 asks."""
    return inet_ntop(AF_INET if version == 4 else AF_INET6, pack(version, address))


def parse_address(text: str) -> tuple[int, int] | None:
    """(version, host-order integer) of a single address; None if the text is not one."""
    try:
        if ":" in text:
            return 6, int.from_bytes(inet_pton(AF_INET6, text), "big")
        return 4, int.from_bytes(inet_pton(AF_INET, text), "big")
    except (OSError, ValueError):  # ValueError: a NUL in the text, or a lone surrogate
        return None


def parse_span(text: str) -> Span:
    """Read an address, a network ("10.0.0.0/8") or a range ("10.0.0.1-10.0.0.9"), as what it means.

    Without any space: in YAML, two entries that are indented differently melt into "10.0.0.1 - 10.0.0.9", which must
    not become a range.

    Raises ValueError with a sentence that says what is wrong, and what would be right; it is HostBits for a network
    that is one but for the bits behind its prefix.
    """
    return meant(parse_as_written(text))


def parse_leniently(text: str) -> tuple[Span, str]:
    """The same for what a caller asks for, where a network may have bits set behind its prefix.

    With a remark on what is taken otherwise than it was written, or "". Raises ValueError as `parse_span`.
    """
    try:
        written = parse_as_written(text)
    except HostBits as bits:
        return bits.network, f"{wording.quoted(text)} has bits set behind its prefix, it is taken as {bits.network}"
    span = meant(written)
    return span, "" if span is written else f"{wording.quoted(text)} is IPv4-mapped, it is taken as {span}"


def parse_as_written(text: str) -> Span:
    """As `parse_span`, before anything is taken for what it means."""
    head, slash, length = text.partition("/")
    start, dash, end = head.partition("-")
    first = parse_address(start)
    if first is not None:
        if not slash and not dash:
            return Span(first[0], first[1], first[1])
        if not dash:
            return _network(text, head, first, length)
        last = parse_address(end)
        if last is not None and not slash:
            return _range(text, first, last)
    raise NoEntry(text)


def meant(span: Span) -> Span:
    """The span of IPv4 that a span of IPv4-mapped addresses means; any other is itself."""
    version, first, last = span
    if version == 4 or first >> 32 != _MAPPED_PREFIX or last >> 32 != _MAPPED_PREFIX or span.size == 1 << 32:
        return span
    return Span(4, first & 0xFFFFFFFF, last & 0xFFFFFFFF)


def _network(text: str, head: str, address: tuple[int, int], length: str) -> Span:
    version, first = address
    width = WIDTH[version]
    if set(length) & _NOT_OF_A_LENGTH:
        raise NoEntry(text)
    if not (length.isascii() and length.isdecimal()) or len(length) > 3 or (length[0] == "0" and length != "0"):
        raise ValueError(wording.why_no_prefix_length(text, head, length, version))
    bits = int(length)
    if bits > width:
        raise ValueError(
            f"{wording.quoted(text)} has a prefix length over {width}, "
            f"an IPv{version} network has 0 to {width} and a single address has none"
        )
    host_mask = (1 << (width - bits)) - 1
    if first & host_mask:
        network = meant(Span(version, first & ~host_mask, first | host_mask))
        raise HostBits(
            f"{wording.quoted(text)} has bits set behind its prefix, "
            f"write {network} for the network or {head} for the address",
            network,
        )
    return Span(version, first, first | host_mask)


def _range(text: str, first: tuple[int, int], last: tuple[int, int]) -> Span:
    if first[0] != last[0]:
        raise ValueError(f"{wording.quoted(text)} mixes IPv4 and IPv6, write a range for each")
    if first[1] > last[1]:
        raise ValueError(
            f"{wording.quoted(text)} runs backwards, write {format_address(*last)}-{format_address(*first)}"
        )
    return Span(first[0], first[1], last[1])
