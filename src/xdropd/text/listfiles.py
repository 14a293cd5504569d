"""List files that others publish: text to entries, leniently. The formats are in formats/.

A line that does not parse is skipped and counted. So is one that may mean something else than "block this". What is
wider than the include says is skipped as well, although it is in order. Whatever else is taken otherwise than it was
written is told, once a file for each of the ways (formats/lines.py).
Not here: files, globs, and which version is in force.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from xdropd.columns.listing import Builder, Listing, Row
from xdropd.errors import Problem
from xdropd.text import chunks, width, wording
from xdropd.text.addresses import NoEntry, Span
from xdropd.text.formats import format_of, mmdb
from xdropd.text.formats.lines import Format, is_comment, tidied
from xdropd.text.widest import WIDEST

_WARNINGS_AT_MOST = 20

_BOM = b"\xef\xbb\xbf"


class Tally(NamedTuple):
    """How much there is in one version of a list file."""

    entries: int
    lines: int
    """Blank and comment lines apart."""
    unparsed: int
    """How many of these were skipped because they do not parse."""


@dataclass(frozen=True, slots=True)
class ListFile:
    """What one version of a list file says."""

    listing: Listing
    lines: int
    """Blank and comment lines apart."""
    unparsed: int
    """How many of these were skipped because they do not parse."""
    warnings: tuple[Problem, ...] = ()
    """The first of the skipped lines, and what was taken otherwise than it was written."""
    unfit: str = ""
    """Why it cannot be used at all; then it lists nothing."""

    @property
    def tally(self) -> Tally:
        """How much there is in it: of what is selected of a database, each prefix counts."""
        return Tally(self.listing.weight, self.lines, self.unparsed)


class How(NamedTuple):
    """What an include asks of the reading."""

    widest: tuple[int, int] = WIDEST
    """The shortest prefix length that is taken, of IPv4 and of IPv6."""
    select: tuple[str, ...] = ()
    """What is taken of a database."""


AS_USUAL = How()


def read(data: bytes, file: str, how: How = AS_USUAL) -> ListFile:
    """Read a list file of any format. Never refuses; sources/trust.py says whether the result is fit to be used.

    `file` is only the name for warnings.
    """
    if mmdb.is_one(data):
        return _database(data, file, how.select)
    if how.select:
        return _unfit("it is no database in MaxMind's format, of which alone 'select:' takes something")
    data = data.removeprefix(_BOM)
    reader = _Reader(file, format_of(data), how)
    for chunk in chunks.chunks(data):
        reader.take(chunk)
    return reader.result()


def _database(data: bytes, file: str, select: tuple[str, ...]) -> ListFile:
    if not select:
        return _unfit("it is a database, say what is blocked of it, such as 'select: [country=KP]' beside its path")
    try:
        found = mmdb.Database(data).select(select)
    except mmdb.Unfit as problem:
        return _unfit(str(problem))
    warnings = (Problem(file, 0, 0, f"there is nothing in it for {text}", "warning") for text in found.missing)
    return ListFile(found.listing, found.listing.count, 0, tuple(warnings))


def _unfit(why: str) -> ListFile:
    return ListFile(Listing.empty(), 0, 0, unfit=why)


class _Reader:
    """Takes a text chunk by chunk."""

    def __init__(self, file: str, written_as: Format, how: How) -> None:
        self._file = file
        self._format = written_as
        self._how = how
        self._builder = Builder()
        self._next_line = 1
        self._lines = self._unparsed = self._last_unparsed = 0
        self._wide: list[tuple[int, Span]] = []  # of a chunk
        self._wide_lines = self._last_wide = 0
        self._ways: dict[str, tuple[int, int]] = {}  # of each: its first line, and how many there are
        self._warnings: list[Problem] = []

    def take(self, chunk: bytes) -> None:
        """Read the next lines."""
        text = tidied(chunk)
        line, count = self._next_line, text.count(b"\n")
        words, left, ways = self._format.in_bulk(text)
        words, wide = width.without_wide(words, self._how.widest)
        words.into(self._builder, np.arange(line, line + count, dtype=np.uint32))
        self._lines += count - len(left)
        self._wide += ((line + at, span) for at, span in wide)
        for way, rows in ways.items():
            taken = np.intersect1d(rows, words.rows).tolist() if rows else []
            if taken:
                self._note(way, line + taken[0], len(taken))
        for at, content in zip(words.left, left, strict=True):
            self._line(content, line + at)
        self._next_line += count
        self._tell_wide()

    def _line(self, text: str, line: int) -> None:
        if is_comment(text):
            return
        try:
            found = self._format.read(text)
        except ValueError as error:
            self._lines += 1
            self._unparsed += 1
            if self._unparsed <= _WARNINGS_AT_MOST:
                what = f"no entry: {wording.quoted(text.strip())}" if isinstance(error, NoEntry) else str(error)
                self._warnings.append(Problem(self._file, line, 1, f"this line is skipped, {what}", "warning"))
            self._last_unparsed = line
            return
        if found is None:
            return
        self._lines += 1
        if width.is_too_wide(found.span, self._how.widest):
            self._wide.append((line, found.span))
            return
        for way in found.ways:
            self._note(way, line, 1)
        self._builder.add(Row(*found.span, line))

    def _note(self, way: str, first: int, count: int) -> None:
        """So many entries, the first of them in that line, are taken otherwise than they were written."""
        before, known = self._ways.get(way, (first, 0))
        self._ways[way] = min(before, first), known + count

    def _tell_wide(self) -> None:
        """A line for each of the first."""
        for line, span in sorted(self._wide):
            self._wide_lines += 1
            self._last_wide = line
            if self._wide_lines <= _WARNINGS_AT_MOST:
                what = f"this line is skipped, {width.why_too_wide(span, self._how.widest)}"
                self._warnings.append(Problem(self._file, line, 1, what, "warning"))
        self._wide.clear()

    def result(self) -> ListFile:
        """All that was taken."""
        listing = self._builder.listing()
        if self._unparsed > _WARNINGS_AT_MOST:
            what = f"this line is the last of {self._unparsed} that are skipped, of {self._lines}"
            self._warnings.append(Problem(self._file, self._last_unparsed, 1, what, "warning"))
        if self._wide_lines > _WARNINGS_AT_MOST:
            what = f"this line is the last of {self._wide_lines} that are skipped because they are too wide"
            self._warnings.append(Problem(self._file, self._last_wide, 1, what, "warning"))
        for way, (first, count) in sorted(self._ways.items()):
            what = f"this line is the first of {count}" if count > 1 else "this is the only line"
            self._warnings.append(Problem(self._file, first, 1, f"{what} with {way}", "warning"))
        warnings = sorted(self._warnings, key=lambda each: each.line)
        return ListFile(listing, self._lines, self._unparsed, tuple(warnings))
