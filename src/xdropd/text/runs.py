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
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import count
from typing import NamedTuple, Protocol

import numpy as np

from xdropd.columns.listing import NEVER, Builder
from xdropd.columns.prefixes import Column
from xdropd.text import bulk, chunks, moments

_WORTH_BYTES = 20 << 20  # of a text, for half of it to be scanned by somebody else, who has to be called first
_HEAD_START_BYTES = 4 << 20  # what is scanned here until he has begun

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


class Place(NamedTuple):
    """Where a run stands: offsets in the text, and lines and a column counted from 1."""

    start: int
    second: int
    """The second item's."""
    last: int
    """The last item's."""
    end: int
    line: int
    second_line: int
    last_line: int
    column: int
    """Where the content of each item starts."""

    def moved(self, octets: int, lines: int) -> Place:
        """Where it stands if so much came, or went, before it."""
        start, second, last, end = (at + octets for at in self[:4])
        line, second_line, last_line = (at + lines for at in self[4:7])
        return Place(start, second, last, end, line, second_line, last_line, self.column)


class Reasons:
    """The reasons in all runs of a text, by number: many items have few reasons, and each is looked at once."""

    def __init__(self, texts: Sequence[bytes] = ()) -> None:
        self._numbers: defaultdict[bytes, int] = defaultdict(count(len(texts)).__next__, zip(texts, count()))
        self._in: dict[Builder, Column] = {}

    def numbers(self, texts: Sequence[bytes]) -> Column:
        """Of reasons as they are written."""
        return np.fromiter(map(self._numbers.__getitem__, texts), np.uint32, len(texts))

    @property
    def texts(self) -> list[bytes]:
        """All of them, as they are written, by number."""
        return list(self._numbers)

    def within(self, builder: Builder) -> Column:
        """What the builder calls each of them, once all are known."""
        if builder not in self._in:
            texts = (" ".join(text.decode().split()) for text in self._numbers)
            self._in[builder] = np.fromiter(map(builder.reason, texts), np.uint32, len(self._numbers))
        return self._in[builder]


class Items(NamedTuple):
    """The inner items of a run: all but the first and the last one."""

    words: bulk.Words
    lines: Column
    reasons: tuple[Reasons, Column] | None = None
    """Which of them each item has."""
    untils: Column | None = None

    def into(self, builder: Builder) -> None:
        """Add them."""
        reasons = None
        if self.reasons is not None:
            known, numbers = self.reasons
            reasons = known.within(builder)[numbers]
        self.words.into(builder, self.lines, reasons, self.untils)

    def moved(self, lines: int) -> Items:
        """The same, so much further down."""
        return self._replace(lines=self.lines + np.uint32(lines))


class Unchanged(NamedTuple):
    """Inner items that an earlier version of the text had as well."""

    section: str
    """The list in which they were."""
    lines: int
    """How much further down they stand now."""


class Run(NamedTuple):
    """Consecutive items of one list."""

    place: Place
    inner: Items | Unchanged


class Beside(Protocol):
    """Somebody who scans a part of a text while another part is scanned here."""

    def scanning(self, part: bytes) -> AbstractContextManager[Callable[[], Sequence[Run] | None]]:
        """Begin with it. The callable waits for what `scan` says of the part; None if that could not be done."""


def find(
    data: bytes, before: Sequence[Run] = (), after: Sequence[Run] = (), beside: Beside | None = None
) -> tuple[bytes, list[Run]]:
    """The text without the inner items of runs, and the runs.

    Of each inner line its newline stays, so that everything else keeps its place. A run need not be one for YAML: it
    may stand inside a literal or a quoted text. `data` holds plain newlines and no control characters.
    `before` and `after` are runs that are known; what is between them is looked at, some of it by `beside`.
    """
    start, line, end = 0, 1, after[0].place.start if after else len(data)
    if before:
        place = before[-1].place
        start, line = place.end, place.last_line + data.count(b"\n", place.last, place.end)
    runs = [*before, *_between(data, start, end, line, beside), *after]
    kept: list[bytes] = []
    kept_to = 0
    for place, _ in runs:
        kept += (data[kept_to : place.second], b"\n" * (place.last_line - place.second_line))
        kept_to = place.last
    kept.append(data[kept_to:])
    return b"".join(kept), runs


def _between(data: bytes, start: int, end: int, line: int, beside: Beside | None) -> Iterator[Run]:
    """Each run in a part of the text, of which `beside` takes the end where that is worth it."""
    cut = data.rfind(b"\n", start, start + (end - start) // 2 + _HEAD_START_BYTES) + 1
    if beside is None or end - start < _WORTH_BYTES or cut <= start:
        yield from scan(data, start, end, line)
        return
    with beside.scanning(data[cut:end]) as theirs:
        line = yield from scan(data, start, cut, line)
        found = theirs()
    if found is None:
        yield from scan(data, cut, end, line)
    else:
        for place, inner in found:
            yield Run(place.moved(cut, line - 1), inner.moved(line - 1) if isinstance(inner, Items) else inner)


def scan(data: bytes, start: int, end: int, line: int = 1) -> Generator[Run, None, int]:
    """Each run in a part of the text, which starts with this line; the line behind it. None is longer than a chunk."""
    counted = start
    reasons = Reasons()
    for span in chunks.spans(data, start, end):
        for match in _RUN.finditer(data, *span):
            line += data.count(b"\n", counted, match.start())
            counted = match.start()
            run = _run(match, line, reasons)
            if run is not None:
                yield run
                line, counted = run.place.last_line, run.place.last
    return line + data.count(b"\n", counted, end)


def _run(match: re.Match[bytes], line: int, reasons: Reasons) -> Run | None:
    """What looks like a run and starts in this line, if each of its inner items is one."""
    text, indent, start = match[0], len(match[1]), match.start()
    second, last = _item_starts(text, indent)
    inner = text[second:last]
    second_line = line + text.count(b"\n", 0, second)
    last_line = second_line + inner.count(b"\n")
    lines = range(second_line, last_line)
    items = _entries(inner, lines, indent) if match["entries"] else _mappings(inner, lines, indent, reasons)
    place = Place(start, start + second, start + last, match.end(), line, second_line, last_line, indent + 3)
    return Run(place, items) if items is not None else None


def _item_starts(text: bytes, indent: int) -> tuple[int, int]:
    """Where the second and the last item of a run start."""
    dash = b"\n" + b" " * indent + b"- "
    return text.index(dash) + 1, text.rindex(dash) + 1


def _entries(text: bytes, lines: range, indent: int) -> Items | None:
    """Items that are an entry each; None if one is not, or is something else for YAML."""
    if b":\n" in text:
        return None
    dash = b" " * indent + b"- "
    words, left = bulk.read_lines(text[len(dash) :].replace(b"\n" + dash, b"\n"))
    return None if left else Items(words, np.arange(lines.start, lines.stop, dtype=np.uint32))


def _mappings(text: bytes, lines: range, indent: int, reasons: Reasons) -> Items | None:
    """Items that are mappings; None if one has no address, or a key twice, or something in it is wrong."""
    if b":\n" in text:
        return None
    pairs = _Pairs(text, indent)
    try:
        rows, addresses = pairs.of(b"address")
        words, left = bulk.read_lines(b"\n".join(addresses) + b"\n")
        if len(addresses) < pairs.count or left:
            return None
        which = _reasons(pairs, reasons)
        untils = _untils(pairs)
    except ValueError:
        return None
    return Items(words, (lines.start + rows).astype(np.uint32), None if which is None else (reasons, which), untils)


def _reasons(pairs: _Pairs, reasons: Reasons) -> Column | None:
    lines, texts = pairs.of(b"reason")
    if not texts:
        return None
    which = np.full(pairs.count, reasons.numbers([b""])[0])
    which[pairs.item_of[lines]] = reasons.numbers(texts)
    return which


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
