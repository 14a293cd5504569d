"""How wide an entry of somebody else's list may be: a slip there (/1 for /17) would cut off half of the Internet.

Given as `widest`: the shortest prefix length that is taken, of IPv4 and of IPv6; 0 takes everything. A range is as wide
as the network that it would fill.
"""

from __future__ import annotations

from itertools import repeat

from xdropd.columns.prefixes import FAMILIES, Column, Family
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
    for kind in (words.prefixes, words.ranges):
        fine = dict(kind)
        for version, (rows, keys) in kind.items():
            family, length = FAMILIES[version], length_of(version, widest)
            if kind is words.prefixes:
                is_wide = family.lengths(keys) < length
            else:
                is_wide = family.behind(*family.ends_of_ranges(keys)) > family.address((1 << family.width - length) - 1)
            if is_wide.any():
                ends = _ends(family, keys[is_wide], is_range=kind is words.ranges)
                spans = map(Span, repeat(version), *map(family.ints, ends))
                wide += zip(rows[is_wide].tolist(), spans, strict=True)
                fine[version] = Read(rows[~is_wide], keys[~is_wide])
        kept.append(fine)
    return (Words(kept[0], kept[1], words.left, words.masked), wide) if wide else (words, [])


def _ends(family: Family, keys: Column, *, is_range: bool) -> tuple[Column, Column]:
    return family.ends_of_ranges(keys) if is_range else (family.firsts(keys), family.lasts(keys))
