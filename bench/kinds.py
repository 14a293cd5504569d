"""The kinds of lists beside plain IPv4 addresses, the same ones in every run, and how peers take them."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xdropd.columns.prefixes import FAMILIES
from xdropd.text.addresses import format_packed

_SEED = 1
_FIRST, _LAST = 0x0B00_0000, 0xDF00_0000  # 11.0.0.0 to 222.255.255.255
_LOOPBACK = 0x7F
_UNTIL = (datetime.now(UTC) + timedelta(days=300)).strftime("%Y-%m-%dT%H:%M:%SZ")
_REASONS = [f"ssh brute force, report {number}" for number in range(100)]

Numbers = NDArray[np.uint64]


class Kind(NamedTuple):
    """One of them: so many entries, as texts. `ipset` and `nft` are the types of sets that take them; "": none does."""

    name: str
    entries: Callable[[int], list[str]]
    ipset: str = ""
    nft: str = ""
    is_annotated: bool = False

    def blocklist(self, entries: Iterable[str]) -> str:
        """A blocklist of entries."""
        if self.is_annotated:
            return "block:\n" + "".join(
                f"  - address: {entry}\n    reason: {_REASONS[at % 100]}\n    until: {_UNTIL}\n"
                for at, entry in enumerate(entries)
            )
        return "block:\n" + "".join(f"  - {entry}\n" for entry in entries)


def _distinct(count: int, draw: Callable[[np.random.Generator, int], Numbers]) -> Numbers:
    """So many different numbers, in random order."""
    rng, found = np.random.default_rng(_SEED), np.zeros(0, np.uint64)
    while len(found) < count:
        found = np.unique(np.concatenate((found, draw(rng, count + count // 4))))
    shuffled: Numbers = rng.permutation(found)
    return shuffled[:count]


def _distinct_texts(count: int, draw: Callable[[np.random.Generator], Iterable[str]]) -> list[str]:
    """So many different texts."""
    rng = np.random.default_rng(_SEED)
    found: dict[str, None] = {}
    while len(found) < count:
        found.update(dict.fromkeys(draw(rng)))
    return list(found)[:count]


def _unicast(rng: np.random.Generator, count: int) -> Numbers:
    drawn = rng.integers(_FIRST, _LAST, count, np.uint64)
    public: Numbers = drawn[drawn >> np.uint64(24) != _LOOPBACK]
    return public


def _texts4(firsts: Numbers) -> list[str]:
    return format_packed(4, FAMILIES[4].packed(firsts))


def addresses(count: int) -> list[str]:
    """IPv4."""
    return _texts4(_distinct(count, _unicast))


def networks(count: int) -> list[str]:
    """IPv4, of /17 to /28."""

    def draw(rng: np.random.Generator) -> Iterable[str]:
        firsts = _unicast(rng, count)
        lengths = rng.integers(17, 29, len(firsts), np.uint64)
        spare = np.uint64(32) - lengths
        return map("{}/{}".format, _texts4(firsts >> spare << spare), lengths.tolist())

    return _distinct_texts(count, draw)


def ranges(count: int) -> list[str]:
    """IPv4, disjoint, up to a few hundred addresses each, at odd places."""
    rng = np.random.default_rng(_SEED)
    firsts = np.sort(_distinct(count, _unicast))
    room = np.minimum(np.diff(firsts, append=np.uint64(_LAST)) - np.uint64(1), np.uint64(300))
    lasts = firsts + rng.integers(0, np.maximum(room, np.uint64(1)), len(firsts), np.uint64)
    return [f"{first}-{last}" for first, last in zip(_texts4(firsts), _texts4(lasts), strict=True)]


def _texts6(words: Numbers, rest: Numbers) -> list[str]:
    return format_packed(6, FAMILIES[6].packed(FAMILIES[6].of_words(np.stack((words, rest)))))


def addresses6(count: int) -> list[str]:
    """IPv6, in 2000::/3."""
    words = _distinct(count, _global)
    return _texts6(words, words * np.uint64(0x9E3779B97F4A7C15))


def networks6(count: int) -> list[str]:
    """IPv6, of /32 to /64."""

    def draw(rng: np.random.Generator) -> Iterable[str]:
        lengths = rng.integers(32, 65, count, np.uint64)
        spare = np.uint64(64) - lengths
        words = _global(rng, count) >> spare << spare
        return map("{}/{}".format, _texts6(words, np.zeros_like(words)), lengths.tolist())

    return _distinct_texts(count, draw)


def _global(rng: np.random.Generator, count: int) -> Numbers:
    return rng.integers(0x2 << 60, 0x4 << 60, count, np.uint64)


ADDRESSES = Kind("IPv4 addresses", addresses, "hash:ip", "ipv4_addr")
NETWORKS = Kind("IPv4 networks", networks, "hash:net", "ipv4_addr")
RANGES = Kind("IPv4 ranges", ranges, "", "ipv4_addr")
ADDRESSES6 = Kind("IPv6 addresses", addresses6, "hash:ip family inet6", "ipv6_addr")
NETWORKS6 = Kind("IPv6 networks", networks6, "hash:net family inet6", "ipv6_addr")
ANNOTATED = Kind("IPv4 addresses with reason and end", addresses, is_annotated=True)
KINDS = (ADDRESSES, NETWORKS, RANGES, ADDRESSES6, NETWORKS6, ANNOTATED)
