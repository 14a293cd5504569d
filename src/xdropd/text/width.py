"""How wide an entry of somebody else's list may be: a slip there (/1 for /17) would cut off half of the Internet.

Given as `widest`: the shortest prefix length that is taken, of IPv4 and of IPv6; 0 takes everything. A range is as wide
as the network that it would fill.
"""

from __future__ import annotations

from itertools import repeat

from xdropd.columns.listing import Kind
from xdropd.columns.prefixes import FAMILIES
from xdropd.text.addresses import WIDTH, Span
from xdropd.text.bulk import Read, Words

Widest = tuple[int, int]


def length_of(version: int, widest: Widest) -> int:
    """The shortest prefix length of this version that is taken."""
    return widest[version == 6]


def is_too_wide(span: Span, widest: Widest) -> bool:
    """Whether it holds more addresses than may be."""
    return span.size > 1 << WIDTH[span.version] - length_of(span.version, widest)


def why_too_wide(span: Span, widest: Widest) -> str:
    """What is wrong with it, and what would have it taken."""
    length = WIDTH[span.version] - (span.size - 1).bit_length()
    remedy = f"write 'widest: {{ipv{span.version}: {length}}}' in the include to have it taken"
    return f"{span} is wider than /{length_of(span.version, widest)}, {remedy}"


def without_wide(words: Words, widest: Widest) -> tuple[Words, list[tuple[int, Span]]]:
    """The words that are not too wide; and those that are, by their index."""
    wide: list[tuple[int, Span]] = []
    kept = []
    for is_range, some in ((False, words.prefixes), (True, words.ranges)):
        fine = dict(some)
        for version, (rows, keys) in some.items():
            kind = Kind(version, is_range)
            is_wide = kind.are_wider(keys, length_of(version, widest))
            if is_wide.any():
                ends = map(FAMILIES[version].ints, kind.ends(keys[is_wide]))
                wide += zip(rows[is_wide].tolist(), map(Span, repeat(version), *ends), strict=True)
                fine[version] = Read(rows[~is_wide], keys[~is_wide])
        kept.append(fine)
    return (Words(kept[0], kept[1], words.left, words.masked), wide) if wide else (words, [])
