"""A name, a colon and a range a line, as PeerGuardian has it: "name:1.2.3.4-5.6.7.8", of IPv6 as well.

A name may hold colons and dashes.
"""

import re

from xdropd.text import bulk, wording
from xdropd.text.addresses import parse_address
from xdropd.text.formats.lines import (
    DECIMALS,
    PADDED,
    Entry,
    Format,
    InBulk,
    decimal_range,
    entry,
    texts,
    without_padding,
)

_LINE = re.compile(rf".*:\s*{DECIMALS}\s*-\s*{DECIMALS}\s*")
_PADDED_NUMBER = re.compile(rb"(?<![0-9])0[0-9]")
_IPV6_CHARACTERS_AT_MOST = 64  # with spaces around it; eight groups are 39


def _parse(text: str) -> Entry:
    if match := _LINE.fullmatch(text):
        return decimal_range(match[1], match[2])
    if word := _ipv6_range(text):
        return entry(word)
    raise ValueError(f"not a name, a colon and a range: {wording.quoted(text.strip())}")


def _ipv6_range(text: str) -> str:
    """The smallest range that a name leaves, for it may end in what looks like a part of an address; "" without one."""
    head, _, last = text.rpartition("-")
    head, last = head.rstrip(), last.strip()
    end = parse_address(last)
    best, size = "", float("inf")
    at = max(-1, len(head) - _IPV6_CHARACTERS_AT_MOST)
    while (at := head.find(":", at + 1)) >= 0:
        first = head[at + 1 :].lstrip()
        start = parse_address(first) if ":" in first else None
        if start is None:
            continue
        distance = end[1] - start[1] if end is not None and start[1] <= end[1] else float("inf")
        if not best or distance < size:
            best, size = f"{first}-{last}", distance
    return best


def _in_bulk(text: bytes) -> InBulk:
    lines = texts(text)
    found = list(map(_LINE.fullmatch, lines))
    words = [f"{match[1]}-{match[2]}" if match else _ipv6_range(line) for match, line in zip(found, lines, strict=True)]
    padded: list[int] = []
    if _PADDED_NUMBER.search(text):
        plain = [without_padding(word) if match else word for match, word in zip(found, words, strict=True)]
        padded = [at for at, (one, other) in enumerate(zip(words, plain, strict=True)) if one != other]
        words = plain
    read = bulk.read(words)
    return InBulk(read, [lines[at] for at in read.left], {PADDED: padded})


FORMAT = Format(_parse, _in_bulk)
