"""Databases in MaxMind's format, made by tests: good ones and bad ones."""

from collections.abc import Mapping
from ipaddress import ip_network

MARKER = b"\xab\xcd\xefMaxMind.com"

Value = str | int | Mapping[str, "Value"] | list["Value"] | bytes
"""Bytes are put there as they are."""


def encoded(value: Value) -> bytes:
    """A value of the data section."""
    match value:
        case bytes():
            return value
        case str():
            return _control(2, len(value.encode())) + value.encode()
        case int():
            packed = value.to_bytes((value.bit_length() + 7) // 8, "big")
            return _control(6, len(packed)) + packed
        case list():
            return _control(11, len(value)) + b"".join(map(encoded, value))
    return _control(7, len(value)) + b"".join(encoded(key) + encoded(each) for key, each in value.items())


def pointer(to: int) -> bytes:
    """To a place in the data section, of the largest kind."""
    return bytes([0b00111000]) + to.to_bytes(4, "big")


def _control(kind: int, size: int) -> bytes:
    extended = bytes([kind - 7]) if kind > 7 else b""
    first = kind << 5 if kind < 8 else 0
    if size < 29:
        return bytes([first | size]) + extended
    if size < 285:
        return bytes([first | 29]) + extended + bytes([size - 29])
    if size < 65821:
        return bytes([first | 30]) + extended + (size - 285).to_bytes(2, "big")
    return bytes([first | 31]) + extended + (size - 65821).to_bytes(3, "big")


class Writer:
    """A tree that can be made wrong: `nodes` are pairs of ("node", number), ("data", place) or None."""

    def __init__(self, version: int = 6) -> None:
        self.version = version
        self.nodes: list[list[tuple[str, int] | None]] = [[None, None]]
        self.data = b""
        self._places: dict[bytes, int] = {}

    def place(self, value: Value) -> int:
        """Where a record stands in the data."""
        packed = encoded(value)
        if packed not in self._places:
            self._places[packed] = len(self.data)
            self.data += packed
        return self._places[packed]

    def put(self, network: str, value: Value) -> None:
        """A record for a network that lies in no other, and holds none."""
        self.lead(network, ("data", self.place(value)))

    def lead(self, network: str, record: tuple[str, int]) -> None:
        """Any record at a network."""
        parsed = ip_network(network)
        first, length = int(parsed.network_address), parsed.prefixlen
        if parsed.version < self.version:
            length += 96
        width = 32 if self.version == 4 else 128
        node = 0
        for bit in range(length - 1):
            side = first >> width - 1 - bit & 1
            if self.nodes[node][side] is None:
                self.nodes.append([None, None])
                self.nodes[node][side] = ("node", len(self.nodes) - 1)
            node = self.nodes[node][side][1]  # type: ignore[index]
        self.nodes[node][first >> width - length & 1] = record

    def node_at(self, network: str) -> int:
        """The node of all that lies in a network."""
        parsed, node = ip_network(network), 0
        first, length = int(parsed.network_address), parsed.prefixlen + 96 * (parsed.version < self.version)
        for bit in range(length):
            node = self.nodes[node][first >> (32 if self.version == 4 else 128) - 1 - bit & 1][1]  # type: ignore[index]
        return node

    def written(self, bits: int = 24, **metadata: Value) -> bytes:
        """The file."""
        count = len(self.nodes)

        def number(record: tuple[str, int] | None) -> int:
            if record is None:
                return count
            return record[1] if record[0] == "node" else count + 16 + record[1]

        tree = b"".join(_node(number(left), number(right), bits) for left, right in self.nodes)
        said: dict[str, Value] = {
            "node_count": count,
            "record_size": bits,
            "ip_version": self.version,
            "database_type": "Test",
            "binary_format_major_version": 2,
            "binary_format_minor_version": 0,
            "build_epoch": 1,
            "languages": ["en"],
            "description": {"en": "made by a test"},
            **metadata,
        }
        return tree + bytes(16) + self.data + MARKER + encoded(said)


def _node(left: int, right: int, bits: int) -> bytes:
    if bits == 28:
        middle = left >> 24 << 4 | right >> 24
        return (left & 0xFFFFFF).to_bytes(3, "big") + bytes([middle]) + (right & 0xFFFFFF).to_bytes(3, "big")
    return left.to_bytes(bits // 8, "big") + right.to_bytes(bits // 8, "big")


def database(records: Mapping[str, Value], version: int = 6, bits: int = 24) -> bytes:
    """A database with these networks."""
    writer = Writer(version)
    for network, value in records.items():
        writer.put(network, value)
    return writer.written(bits)
