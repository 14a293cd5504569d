"""Lists of every kind of entry: as blocklists, and as a line each for the peers. The same ones in every run.

Drawn with numpy: a million entries of a kind take a second or two to write down.
"""

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.lists import LENGTHS

_Column = NDArray[Any]

_FIRST4, _END4 = 0x0100_0000, 0xE000_0000  # 1.0.0.0 to 223.255.255.255
_LOOPBACK = 0x7F
_CABLE = 198 << 8 | 51  # 198.51.0.0/16: the bench's own hosts must not be listed by chance
_IPV6_UNICAST = 0x2 << 60  # the upper half of 2000::
_LENGTHS6 = {
    32: 100,
    36: 50,
    40: 100,
    44: 100,
    48: 350,
    56: 150,
    64: 150,
}  # a thousand networks, as providers give them
_LONGEST_RANGE = 1 << 10
_REASONS = 1_000
_FIRST_END_S = 2_000_000_000  # 2033-05-18
_ENDS_WITHIN_S = 365 * 86_400


@dataclass(frozen=True, slots=True)
class Kind:
    """`draw` gives so many different entries in no order; `says_more` puts a reason and an end beside each."""

    name: str
    version: int
    draw: Callable[[np.random.Generator, int], Iterator[str]]
    says_more: bool = False

    def entries(self, count: int) -> list[str]:
        """As they are written."""
        return list(self.draw(np.random.default_rng(1), count))

    def block(self, entries: list[str]) -> str:
        """The same as items of a blocklist, unquoted: no address here ends with a colon, which YAML would mind."""
        if not self.says_more:
            return "".join(f"  - {entry}\n" for entry in entries)
        ends = np.random.default_rng(2).integers(_ENDS_WITHIN_S, size=len(entries)) + _FIRST_END_S
        moments = ends.astype("M8[s]").astype(str).tolist()
        return "".join(
            f"  - address: {entry}\n    reason: sensor {at % _REASONS} saw ssh\n    until: {moment}Z\n"
            for at, (entry, moment) in enumerate(zip(entries, moments, strict=True))
        )


def _drawn(count: int, draw: Callable[[int], _Column], rng: np.random.Generator) -> _Column:
    """So many different rows, in no order."""
    wanted = count + count // 8 + 16
    while len(found := np.unique(draw(wanted), axis=0)) < count:
        wanted *= 2
    chosen: _Column = found[rng.permutation(len(found))[:count]]
    return chosen


def _unicast4(rng: np.random.Generator, count: int) -> _Column:
    firsts = rng.integers(_FIRST4, _END4, count, np.uint32)
    firsts = np.where(firsts >> 24 == _LOOPBACK, firsts ^ np.uint32(1 << 24), firsts)
    return np.where(firsts >> 16 == _CABLE, firsts ^ np.uint32(1 << 16), firsts)


def _texts4(addresses: _Column) -> Iterator[str]:
    packed = addresses.astype(">u4").tobytes()
    return (socket.inet_ntop(socket.AF_INET, packed[at : at + 4]) for at in range(0, len(packed), 4))


def _texts6(halves: _Column) -> Iterator[str]:
    packed = halves.astype(">u8").tobytes()
    return (socket.inet_ntop(socket.AF_INET6, packed[at : at + 16]) for at in range(0, len(packed), 16))


def _addresses(rng: np.random.Generator, count: int) -> Iterator[str]:
    return _texts4(_drawn(count, lambda wanted: _unicast4(rng, wanted), rng))


def _lengths(rng: np.random.Generator, weights: dict[int, int], count: int) -> _Column:
    shares = np.array(list(weights.values()), float)
    return rng.choice(np.array(list(weights), np.uint32), count, p=shares / shares.sum())


def _networks(rng: np.random.Generator, count: int) -> Iterator[str]:
    def draw(wanted: int) -> _Column:
        lengths = _lengths(rng, LENGTHS, wanted)
        shifts = np.uint32(32) - lengths
        return np.column_stack((_unicast4(rng, wanted) >> shifts << shifts, lengths))

    rows = _drawn(count, draw, rng)
    return (f"{text}/{length}" for text, length in zip(_texts4(rows[:, 0]), rows[:, 1].tolist(), strict=True))


def _ranges(rng: np.random.Generator, count: int) -> Iterator[str]:
    def draw(wanted: int) -> _Column:
        firsts = _unicast4(rng, wanted) & ~np.uint32(1) | np.uint32(1)  # an odd first address: never a network
        return np.column_stack((firsts, firsts + rng.integers(1, _LONGEST_RANGE, wanted, np.uint32)))

    rows = _drawn(count, draw, rng)
    return (f"{first}-{last}" for first, last in zip(_texts4(rows[:, 0]), _texts4(rows[:, 1]), strict=True))


def _unicast6(rng: np.random.Generator, count: int) -> _Column:
    upper = rng.integers(1 << 61, size=count, dtype=np.uint64) | np.uint64(_IPV6_UNICAST)
    return np.column_stack((upper, rng.integers(1, 1 << 63, size=count, dtype=np.uint64)))


def _addresses6(rng: np.random.Generator, count: int) -> Iterator[str]:
    return _texts6(_drawn(count, lambda wanted: _unicast6(rng, wanted), rng))


def _networks6(rng: np.random.Generator, count: int) -> Iterator[str]:
    def draw(wanted: int) -> _Column:
        lengths = _lengths(rng, _LENGTHS6, wanted).astype(np.uint64)
        shifts = np.uint64(64) - lengths
        upper = _unicast6(rng, wanted)[:, 0]
        return np.column_stack((upper >> shifts << shifts, lengths))

    rows = _drawn(count, draw, rng)
    firsts = np.column_stack((rows[:, 0], np.zeros(len(rows), np.uint64)))
    return (f"{text}/{length}" for text, length in zip(_texts6(firsts), rows[:, 1].tolist(), strict=True))


ADDRESSES = Kind("addresses", 4, _addresses)
NETWORKS = Kind("networks", 4, _networks)
RANGES = Kind("ranges", 4, _ranges)
ADDRESSES6 = Kind("IPv6 addresses", 6, _addresses6)
NETWORKS6 = Kind("IPv6 networks", 6, _networks6)
ANNOTATED = Kind("addresses with reason and end", 4, _addresses, says_more=True)
KINDS = (ADDRESSES, NETWORKS, RANGES, ADDRESSES6, NETWORKS6, ANNOTATED)
