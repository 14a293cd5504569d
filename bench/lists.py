"""Lists to measure with: the same ones in every run, from a fixed seed.

Addresses and networks lie at random all over the unicast space. That is harder than any real list, whose entries crowd
together: nothing that is near another entry profits from it.
"""

import random
from array import array
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator

from xdropd.columns.listing import Listing
from xdropd.text.addresses import Span, format_address

_FIRST, _LAST = 0x0100_0000, 0xDFFF_FFFF  # 1.0.0.0 to 223.255.255.255
_LOOPBACK = 0x7F
_IPV6_UNICAST = 0x2 << 124  # 2000::/3

# How often each prefix length occurs in a thousand networks of FireHOL's level 1 (June 2018), the wider ones left out.
_LENGTHS = {
    16: 41, 17: 4, 18: 14, 19: 29, 20: 48, 21: 95, 22: 77, 23: 243, 24: 427, 25: 6, 26: 3, 27: 3, 28: 2, 29: 2, 31: 6,
}  # fmt: skip


def _unicast(rng: random.Random) -> Iterator[int]:
    while True:
        for address in array("I", rng.randbytes(1 << 18)):
            if _FIRST <= address <= _LAST and address >> 24 != _LOOPBACK:
                yield address


def addresses(count: int, seed: int, besides: Collection[int] = (), networks: Iterable[Span] = ()) -> "array[int]":
    """So many different IPv4 addresses, none of those in `besides` and none in the networks."""
    taken, bounds = frozenset(besides), _bounds(networks)
    chosen: dict[int, None] = {}
    for address in _unicast(random.Random(seed)):
        if len(chosen) >= count:
            break
        if address not in taken and not bisect_right(bounds, address) & 1:
            chosen[address] = None
    return array("I", chosen)


def addresses6(count: int, seed: int, besides: Collection[int] = ()) -> list[int]:
    """So many different IPv6 addresses of 2000::/3, none of those in `besides`."""
    rng, taken = random.Random(seed), frozenset(besides)
    chosen: dict[int, None] = {}
    while len(chosen) < count:
        address = _IPV6_UNICAST | rng.getrandbits(125)
        if address not in taken:
            chosen[address] = None
    return list(chosen)


def networks(count: int, seed: int) -> list[Span]:
    """So many different IPv4 networks, of the lengths that occur in practice."""
    rng = random.Random(seed)
    places = _unicast(rng)
    chosen: dict[Span, None] = {}
    while len(chosen) < count:
        (length_bits,) = rng.choices(list(_LENGTHS), list(_LENGTHS.values()))
        host_mask = (1 << 32 - length_bits) - 1
        first = next(places) & ~host_mask
        chosen[Span(4, first, first | host_mask)] = None
    return list(chosen)


def within(spans: list[Span], count: int, seed: int) -> "array[int]":
    """So many addresses, each at random within a network at random."""
    rng = random.Random(seed)
    return array("I", (rng.randint(span.first, span.last) for span in rng.choices(spans, k=count)))


def shuffled(keys: Iterable[int], seed: int) -> list[int]:
    """In another order: maps that were filled in one order should not be asked in the same."""
    order = list(keys)
    random.Random(seed).shuffle(order)
    return order


def text(keys: Iterable[int]) -> str:
    """A blocklist of IPv4 addresses, one a line."""
    return "block:\n" + "".join(f"  - {format_address(4, key)}\n" for key in keys)


def text_of(listing: Listing) -> str:
    """A blocklist of the same entries."""
    return "block:\n" + "".join(f'  - "{Span(*row[:3])}"\n' for row in listing.rows())


def _bounds(spans: Iterable[Span]) -> list[int]:
    bounds: list[int] = []
    for span in sorted(spans):
        if bounds and span.first <= bounds[-1]:
            bounds[-1] = max(bounds[-1], span.last + 1)
        else:
            bounds += (span.first, span.last + 1)
    return bounds
