"""Listings for tests, and what lies in small worlds."""

from ipaddress import ip_address
from random import Random

import numpy as np

from xdropd.columns.listing import Builder, Listing, Row
from xdropd.columns.prefixes import FAMILIES, Column
from xdropd.text.addresses import parse_span


def listing(*rows: Row) -> Listing:
    builder = Builder()
    for row in rows:
        builder.add(row)
    return builder.listing()


def texts(*entries: str) -> Listing:
    """One entry a line."""
    return listing(*(Row(*parse_span(entry), line) for line, entry in enumerate(entries, start=1)))


def spans(version: int, rng: Random, count: int, base: int, size: int = 16) -> list[tuple[int, int]]:
    """First and last addresses of entries of every kind, within `size` addresses from `base`."""
    found = []
    for _ in range(count):
        first, last = sorted((rng.randrange(size), rng.randrange(size)))
        match rng.randrange(3):
            case 0:
                last = first
            case 1:
                height = rng.randrange(size.bit_length())
                first = first >> height << height
                last = first + (1 << height) - 1
        found.append((base + first, base + last))
    return found


def bases(version: int, size: int = 16) -> tuple[int, ...]:
    """Where a small world may lie: at both ends of all addresses, and across the words of an IPv6 address."""
    middle = int(ip_address("10.0.0.0" if version == 4 else "2001:db8:0:1::")) - size // 2 * (version == 6)
    return 0, middle // size * size, (1 << FAMILIES[version].width) - size


def column(version: int, prefixes: list[tuple[int, int]]) -> Column:
    """Ascending unique keys of prefixes, each by its first address and length."""
    family = FAMILIES[version]
    found = sorted(set(prefixes))
    packed = b"".join(first.to_bytes(family.width // 8, "big") for first, _ in found)
    lengths = bytes(length for _, length in found)
    return family.keys(family.addresses(packed), np.frombuffer(lengths, "u1"))


def prefixes_in(version: int, keys: Column) -> list[tuple[int, int]]:
    """The inverse, in the order of the column."""
    family = FAMILIES[version]
    return list(zip(family.ints(family.firsts(keys)), family.lengths(keys).tolist(), strict=True))
