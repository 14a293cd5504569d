"""Addresses, networks and ranges, as text, as numbers and as bytes.

Lives here: what one entry of a list may name, and its canonical form. IPv4 and IPv6 texts are what inet_pton(3) takes,
so nothing is octal, abbreviated or looked up. Not here: files, places, reasons, and what is done with an address.
"""

from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import NamedTuple

from xdropd.text import wording

WIDTH = {4: 32, 6: 128}  # bits in an address


_NOT_OF_A_LENGTH = frozenset(" -/,;")  # there is more than a network in the text


class NoEntry(ValueError):
    """A text is neither address nor network nor range. Its sentence is made when it is asked for: most are not."""

    def __str__(self) -> str:
        return wording.why_no_entry(self.args[0])


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
        """The canonical form: "10.0.0.1", "10.0.0.0/24" if it is exactly a prefix, else "10.0.0.1-10.0.0.9"."""
        version, first, last = self
        if first == last:
            return format_address(version, first)
        differing = first ^ last
        if differing & (differing + 1) == 0 and first & differing == 0:
            return f"{format_address(version, first)}/{WIDTH[version] - differing.bit_length()}"
        return f"{format_address(version, first)}-{format_address(version, last)}"


def pack(version: int, address: int) -> bytes:
    """The address in network byte order: 4 or 16 bytes."""
    return address.to_bytes(4 if version == 4 else 16, "big")


def unpack(data: bytes) -> int:
    """The host-order integer of an address in network byte order."""
    return int.from_bytes(data, "big")


def format_address(version: int, address: int) -> str:
    """As inet_ntop(3) writes it: dotted decimals, or IPv6 shortened as RFC 5952 asks."""
    return inet_ntop(AF_INET if version == 4 else AF_INET6, pack(version, address))


def prefixes(span: Span) -> list[tuple[int, int]]:
    """The fewest prefixes that cover exactly the span, ascending: (first address, length in bits)."""
    width = WIDTH[span.version]
    found = []
    first, left = span.first, span.size
    while left:
        # As large as the alignment of `first` allows and as what is left allows.
        host_bits = left.bit_length() - 1
        if first:
            host_bits = min(host_bits, (first & -first).bit_length() - 1)
        found.append((first, width - host_bits))
        first += 1 << host_bits
        left -= 1 << host_bits
    return found


def parse_address(text: str) -> tuple[int, int] | None:
    """(version, host-order integer) of a single address; None if the text is not one."""
    try:
        if ":" in text:
            return 6, int.from_bytes(inet_pton(AF_INET6, text), "big")
        return 4, int.from_bytes(inet_pton(AF_INET, text), "big")
    except (OSError, ValueError):  # ValueError: a NUL in the text, or a lone surrogate
        return None


def parse_span(text: str) -> Span:
    """Read an address, a network ("10.0.0.0/8") or a range ("10.0.0.1-10.0.0.9").

    Without any space: in YAML, two entries that are indented differently melt into "10.0.0.1 - 10.0.0.9", which must
    not become a range.

    Raises ValueError with a sentence that says what is wrong, and what would be right.
    """
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
        network = Span(version, first & ~host_mask, first | host_mask)
        raise ValueError(
            f"{wording.quoted(text)} has bits set behind its prefix, "
            f"write {network} for the network or {head} for the address"
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
