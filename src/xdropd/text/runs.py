"""Runs of regular items in a blocklist, read in bulk: entries alone, and mappings as scripts write them.

Large blocklists are made of such lines. A run is items of one form and one indentation, one after the other:

    - 203.0.113.0/24            - address: 192.0.2.7
    - 2001:db8::7                 reason: ssh brute force
                                  until: 2026-12-01T00:00:00Z

Lives here: finding and reading them. Not here: what stands around them, and whether YAML takes them for entries, which
the reader of the blocklist proves by the events of the first and the last item of each run. What stands at the
indentation of two items of one list, between them, and is closed on its own line, is an item of the same list.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from xdropd.columns.listing import NEVER, Builder
from xdropd.columns.prefixes import Column
from xdropd.text import bulk, moments

CHUNK_BYTES = 1 << 17  # some 8,000 lines: large enough to be quick, small enough to be no weight in memory


# No word of this form is anything but a plain text for YAML, unless a colon ends it.
_WORD = rb"[0-9A-Fa-f:][0-9A-Fa-f.:/-]*"
# Texts without anything that means something to YAML, or in quotes without any quote or escape in them.
_TEXT = rb"(?:[A-Za-z0-9](?:[A-Za-z0-9_.,;/()+=@ -]*[A-Za-z0-9_.,;/()+=@-])?|'[ -&(-~]*'|\"[ !#-\[\]-~]*\")"
_TIME = rb"(?:\d[0-9TZtz:+. -]*[0-9Zz]|'\d[0-9TZtz:+. -]*[0-9Zz]'|\"\d[0-9TZtz:+. -]*[0-9Zz]\")"
_ADDRESS = rb"(?:" + _WORD + rb"|'" + _WORD + rb"'|\"" + _WORD + rb"\")"
_PAIR = rb"(?:address: " + _ADDRESS + rb"|reason: " + _TEXT + rb"|until: " + _TIME + rb")\n"
_MORE = rb"(?:\1  " + _PAIR + rb"){0,2}"
_RUN = re.compile(
    rb"^( *)- (?:"
    rb"(?P<entries>" + _WORD + rb"\n(?:\1- " + _WORD + rb"\n){7,})"
    rb"|" + _PAIR + _MORE + rb"(?:\1- " + _PAIR + _MORE + rb"){7,})",
    re.MULTILINE,
)
_NEWLINE, _DASH = b"\n-"


class Run(NamedTuple):
    """Consecutive items of one list, all of which but the first and the last are read."""

    line: int
    """Of the first one, counted from 1."""
    last_line: int
    """Where the last one starts."""
    column: int
    """Where the content of each of them starts, counted from 1."""
    words: bulk.Words
    lines: Column
    reasons: tuple[list[str], Column] | None
    """Distinct ones, and which of them each item has."""
    untils: Column | None

    def into(self, builder: Builder) -> None:
        """Add the inner items."""
        reasons = None
        if self.reasons is not None:
            texts, which = self.reasons
            reasons = np.array([builder.reason(text) for text in texts], np.uint32)[which]
        self.words.into(builder, self.lines, reasons, self.untils)


class _Found(NamedTuple):
    """A run within a chunk, and where its inner items stand there."""

    inner_start: int
    inner_end: int
    inner_lines: int
    run: Run


def chunks(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(offset, whole lines of about CHUNK_BYTES), together the whole text."""
    start = 0
    while start < len(data):
        end = data.rfind(b"\n", start, start + CHUNK_BYTES) + 1
        if not end:
            end = data.find(b"\n", start) + 1 or len(data)
        yield start, data[start:end]
        start = end


def find(data: bytes) -> tuple[bytes, list[Run]]:
    """The text without the inner items of runs, and the runs.

    Of each inner line its newline stays, so that everything else keeps its place. A run need not be one for YAML: it
    may stand inside a literal or a quoted text. `data` holds plain newlines and no control characters.
    """
    runs: list[Run] = []
    kept: list[bytes] = []
    kept_to = 0
    line = 1
    for start, chunk in chunks(data):
        for found in _found(chunk, line):
            runs.append(found.run)
            kept.append(data[kept_to : start + found.inner_start])
            kept.append(b"\n" * found.inner_lines)
            kept_to = start + found.inner_end
        line += chunk.count(b"\n")
    kept.append(data[kept_to:])
    return b"".join(kept), runs


def _found(chunk: bytes, line: int) -> Iterator[_Found]:
    """Each run in a chunk, of which `line` is the first line."""
    counted = 0
    for match in _RUN.finditer(chunk):
        line += chunk.count(b"\n", counted, match.start())
        counted = match.start()
        indent = len(match[1])
        second, last = _item_starts(match[0], indent)
        inner = match[0][second:last]
        first_line = line + match[0].count(b"\n", 0, second)
        inner_lines = inner.count(b"\n")
        read = (_entries if match["entries"] else _mappings)(inner, first_line, indent)
        if read is not None:
            run = Run(line, first_line + inner_lines, indent + 3, *read)
            yield _Found(match.start() + second, match.start() + last, inner_lines, run)


def _item_starts(text: bytes, indent: int) -> tuple[int, int]:
    """Where the second and the last item of a run start."""
    dash = b"\n" + b" " * indent + b"- "
    return text.index(dash) + 1, text.rindex(dash) + 1


_Read = tuple[bulk.Words, Column, tuple[list[str], Column] | None, Column | None]


def _entries(text: bytes, line: int, indent: int) -> _Read | None:
    """Items that are an entry each; None if one is not, or is something else for YAML."""
    if b":\n" in text:
        return None
    dash = b" " * indent + b"- "
    words, left = bulk.read_lines(text[len(dash) :].replace(b"\n" + dash, b"\n"))
    return None if left else (words, np.arange(line, line + text.count(b"\n"), dtype=np.uint32), None, None)


def _mappings(text: bytes, line: int, indent: int) -> _Read | None:
    """Items that are mappings; None if one has no address, or a key twice, or something in it is wrong."""
    if b":\n" in text:
        return None
    pairs = _Pairs(text, indent)
    try:
        lines, addresses = pairs.of(b"address")
        words, left = bulk.read_lines(b"\n".join(addresses) + b"\n")
        if len(addresses) < pairs.count or left:
            return None
        reasons = _reasons(pairs)
        untils = _untils(pairs)
    except ValueError:
        return None
    return words, (line + lines).astype(np.uint32), reasons, untils


def _reasons(pairs: _Pairs) -> tuple[list[str], Column] | None:
    lines, texts = pairs.of(b"reason")
    if not texts:
        return None
    numbers = {text: number for number, text in enumerate(dict.fromkeys([b"", *texts]))}
    which = np.zeros(pairs.count, np.uint32)
    which[pairs.item_of[lines]] = np.fromiter(map(numbers.__getitem__, texts), np.uint32, len(texts))
    return [" ".join(text.decode().split()) for text in numbers], which


def _untils(pairs: _Pairs) -> Column | None:
    lines, texts = pairs.of(b"until")
    if not texts:
        return None
    untils = np.full(pairs.count, NEVER)
    untils[pairs.item_of[lines]] = moments.column(texts)
    return untils


class _Pairs:
    """The lines of regular mappings, each a key and a value."""

    def __init__(self, text: bytes, indent: int) -> None:
        octets = np.frombuffer(text, np.uint8)
        self._text = text
        self._has_quotes = b"'" in text or b'"' in text
        self._ends = np.flatnonzero(octets == _NEWLINE)
        starts = np.concatenate(([0], self._ends[:-1] + 1)) + indent
        self._keys = starts + 2  # behind a dash and a space, or two spaces
        self._initials = octets[self._keys]
        self.item_of = np.cumsum(octets[starts] == _DASH) - 1
        """The item of each line."""
        self.count = int(self.item_of[-1]) + 1
        """How many items there are."""

    def of(self, key: bytes) -> tuple[Column, list[bytes]]:
        """The lines with this key, and what they say. Raises ValueError if an item has it twice."""
        lines = np.flatnonzero(self._initials == key[0])  # the keys that there are differ in their first letter
        items = self.item_of[lines]
        if (items[1:] == items[:-1]).any():
            raise ValueError
        starts, ends = self._keys[lines] + len(key + b": "), self._ends[lines]
        values = [self._text[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
        return lines, list(map(_unquoted, values)) if self._has_quotes else values


def _unquoted(text: bytes) -> bytes:
    return text[1:-1] if text[:1] in (b"'", b'"') else text
