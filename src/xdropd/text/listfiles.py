"""List files that others publish: text to entries, leniently. The formats are in formats/.

A line that does not parse is skipped and counted. So is one that may mean something else than "block this", a network
with host bits set among them. An IPv4-mapped IPv6 address is the IPv4 address that it means.
Not here: files, globs, and which version is in force.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from xdropd.columns.listing import Builder, Listing, Row
from xdropd.errors import Problem
from xdropd.text import runs, wording
from xdropd.text.addresses import NoEntry, meant
from xdropd.text.formats import format_of
from xdropd.text.formats.lines import Format, is_comment, tidied

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
    reason: str = ""
    """Holds for every entry of the file."""

    @property
    def tally(self) -> Tally:
        """How much there is in it."""
        return Tally(self.listing.count, self.lines, self.unparsed)


def read(data: bytes, file: str, reason: str = "") -> ListFile:
    """Read a list file of any format. Never refuses; sources/trust.py says whether the result is fit to be used.

    `file` is only the name for warnings.
    """
    data = data.removeprefix(_BOM)
    reader = _Reader(file, format_of(data))
    for chunk in runs.chunks(data):
        reader.take(chunk)
    return reader.result(reason)


class _Reader:
    """Takes a text chunk by chunk."""

    def __init__(self, file: str, how: Format) -> None:
        self._file = file
        self._format = how
        self._builder = Builder()
        self._next_line = 1
        self._lines = self._unparsed = self._last_unparsed = 0
        self._mapped = self._first_mapped = 0
        self._warnings: list[Problem] = []

    def take(self, chunk: bytes) -> None:
        """Read the next lines."""
        text = tidied(chunk)
        line, count = self._next_line, text.count(b"\n")
        words, left = self._format.in_bulk(text)
        words.into(self._builder, np.arange(line, line + count, dtype=np.uint32))
        self._lines += count - len(left)
        for at, content in zip(words.left, left, strict=True):
            self._line(content, line + at)
        self._next_line += count

    def _line(self, text: str, line: int) -> None:
        if is_comment(text):
            return
        try:
            span = self._format.read(text)
        except ValueError as error:
            self._lines += 1
            self._unparsed += 1
            if len(self._warnings) < _WARNINGS_AT_MOST:
                what = f"no entry: {wording.quoted(text.strip())}" if isinstance(error, NoEntry) else str(error)
                self._warnings.append(Problem(self._file, line, 1, f"this line is skipped, {what}", "warning"))
            self._last_unparsed = line
            return
        if span is None:
            return
        self._lines += 1
        written, span = span, meant(span)
        if span is not written:
            self._mapped += 1
            self._first_mapped = self._first_mapped or line
        self._builder.add(Row(*span, line))

    def result(self, reason: str) -> ListFile:
        listing = self._builder.listing()
        if self._unparsed > len(self._warnings):
            what = f"this line is the last of {self._unparsed} that are skipped, of {self._lines}"
            self._warnings.append(Problem(self._file, self._last_unparsed, 1, what, "warning"))
        if self._mapped:
            what = f"this line is the first of {self._mapped}" if self._mapped > 1 else "this is the only line"
            what += " with an IPv4-mapped IPv6 address, which is taken as the IPv4 address that it means"
            self._warnings.append(Problem(self._file, self._first_mapped, 1, what, "warning"))
        return ListFile(listing, self._lines, self._unparsed, tuple(self._warnings), reason)
