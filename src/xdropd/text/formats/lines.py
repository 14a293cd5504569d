"""Lines of list files, whatever their format."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from xdropd.text import bulk, chunks
from xdropd.text.addresses import HostBits, Span, meant, parse_as_written

DECIMALS = r"([0-9]{1,3}(?:\.[0-9]{1,3}){3})"
"""Dotted decimals, padded or not, as a group of a regular expression."""

# In which ways an entry is taken otherwise than it was written, as the end of a sentence.
MAPPED = "an IPv4-mapped IPv6 address, which is taken as the IPv4 address that it means"
HOST_BITS = "bits set behind the prefix of a network, which is taken as the network"
PADDED = "numbers padded with zeros, which are read as decimal"
APART = "a space between an address and a prefix length, which are taken as a network"

_PADDING = re.compile(r"(?<![0-9])0+(?=[0-9])")
_CHARACTERS_AT_MOST = 4096
_LONG_BYTES = 4 * (_CHARACTERS_AT_MOST + 1)  # as many characters at least


class InBulk(NamedTuple):
    """What was read of some lines together."""

    words: bulk.Words
    left: list[str]
    """The text of those that are better read singly."""
    ways: Mapping[str, Sequence[int]] = {}
    """In which ways some of those that were read are taken otherwise than they were written, and which."""


def _none_in_bulk(text: bytes) -> InBulk:
    lines = texts(text)
    return InBulk(bulk.Words({}, {}, list(range(len(lines)))), lines)


class Entry(NamedTuple):
    """What a line lists, and in which ways that is taken otherwise than it was written."""

    span: Span
    ways: tuple[str, ...] = ()


def entry(word: str, *ways: str) -> Entry:
    """The entry that a word names, or means. Raises ValueError with a sentence if it is none."""
    try:
        span = meant(parse_as_written(word))
    except HostBits as bits:
        span, ways = bits.network, (*ways, HOST_BITS)
    return Entry(span, (*ways, MAPPED) if span.version == 4 and ":" in word else ways)


def decimal_range(first: str, last: str) -> Entry:
    """A range of two `DECIMALS`, where zeros before a number are padding: nobody means them as octal in such lists."""
    written = f"{first}-{last}"
    plain = without_padding(written)
    return entry(plain, PADDED) if plain != written else entry(plain)


def without_padding(text: str) -> str:
    """The same with no zero before another digit of a number."""
    return _PADDING.sub("", text)


class Format(NamedTuple):
    """How the lines of a file are read."""

    parse: Callable[[str], Entry | None]
    """Of a line that is neither blank nor a comment: what it blocks; None if it is in order and blocks nothing.

    Raises ValueError with a sentence if it does not parse.
    """
    in_bulk: Callable[[bytes], InBulk] = _none_in_bulk
    """Of whole lines."""

    def read(self, text: str) -> Entry | None:
        """As `parse`, of a line of any length."""
        if len(text) > _CHARACTERS_AT_MOST:
            raise ValueError(f"it has more than {_CHARACTERS_AT_MOST} characters")
        return self.parse(text)


def tidied(chunk: bytes) -> bytes:
    """Lines with a plain newline each, and no more of a long one than it takes to see that it is too long."""
    if len(chunk) > chunks.CHUNK_BYTES:  # one line, and whatever it says, too long
        return chunk[:_LONG_BYTES].rstrip(b"\r\n") + b"\n"
    text = chunk.replace(b"\r\n", b"\n")
    return text if text.endswith(b"\n") else text + b"\n"


def texts(text: bytes) -> list[str]:
    """The lines of a tidied text."""
    return text.decode(errors="replace").split("\n")[:-1]


def is_comment(text: str) -> bool:
    """Whether a line says nothing."""
    start = text.lstrip()
    return not start or start[0] in "#;" or start.startswith("//")


def content_lines(data: bytes) -> Iterator[str]:
    """The lines that say something."""
    for chunk in chunks.chunks(data):
        for text in texts(tidied(chunk)):
            if not is_comment(text):
                yield text
