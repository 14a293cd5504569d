"""What a caller lists: lines of entries as the control socket takes them, many at a time.

A line is ENTRY, and where they apply, behind a tab each, UNTIL and REASON (docs/protocol.md). UNTIL is in seconds since
the epoch or as RFC 3339 has it, "none" for good, nothing for the end of all that say nothing. "-" in front of an entry
takes it back.
Entries are read leniently: what is taken otherwise than it was written is remarked on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import repeat

import numpy as np

from xdropd.columns.listing import NEVER, Builder, Listing, Row
from xdropd.columns.prefixes import Column
from xdropd.text import bulk, moments, wording
from xdropd.text.addresses import parse_leniently

REMARKS_AT_MOST = 100
PROBLEMS_AT_MOST = 100
CHARACTERS_AT_MOST = 1000  # of a reason
FOR_GOOD = "none"
"""As UNTIL, for nothing there means the end of all."""

_PIECE_BYTES = 1 << 18
_LATEST_END_S = 253_402_300_799.0  # with the year 9999, RFC 3339 ends
_SECONDS = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,9})?", re.ASCII)


@dataclass(slots=True)
class Lines:
    """What lines say. An entry is in a listing as often as there are lines of it with another end."""

    put: Listing = field(default_factory=Listing.empty)
    gone: Listing = field(default_factory=Listing.empty)
    remarks: list[str] = field(default_factory=list)
    more_remarks: int = 0
    problems: list[tuple[int, int, str]] = field(default_factory=list)
    """The first ones, each with its line and its column, from 1."""
    more_problems: int = 0


class Reader:
    """`until` and `reason` are of all lines that say none; `takes_back`: whether "-" may stand before an entry."""

    def __init__(self, until: float | None, reason: str, *, takes_back: bool) -> None:
        self._until = NEVER if until is None else until
        self._takes_back = takes_back
        self._put, self._gone = Builder(), Builder()
        self._numbers = {"": self._put.reason(reason)}
        self._reasons = {0: "", self._numbers[""]: reason}
        self._line = 1
        self._found = Lines()

    def read(self, pieces: Iterable[bytes]) -> Lines:
        """Pieces of whole lines."""
        for piece in pieces:
            for some in _smaller(piece):
                count = some.count(b"\n")
                self._take(some, count)
                self._line += count
        found = self._found
        found.put, found.gone = self._put.listing(), self._gone.listing()
        return found

    def _take(self, text: bytes, count: int) -> None:
        takes_back = self._takes_back and (text.startswith(b"-") or b"\n-" in text)
        if b"\t" not in text and not takes_back:
            ends = np.full(count, self._until) if self._until < NEVER else None
            numbers = np.full(count, self._numbers[""], np.uint32) if self._numbers[""] else None
            self._add(self._put, text, np.arange(count), ends, numbers)
            return
        lines = text.decode(errors="replace").split("\n")[:-1]
        tabs = list(map(str.count, lines, repeat("\t")))
        if set(tabs) != {2}:
            lines = [self._whole(at, line, count) for at, (line, count) in enumerate(zip(lines, tabs, strict=True))]
        fields = "\t".join(lines).split("\t")
        entries, untils, reasons = fields[::3], fields[1::3], fields[2::3]
        ends, numbers = self._ends(entries, untils), self._numbers_of(entries, untils, reasons)
        if not takes_back:
            self._add(self._put, _text_of(entries), np.arange(count), ends, numbers)
            return
        goes = np.fromiter((entry.startswith("-") for entry in entries), bool, count)
        stay, go = np.flatnonzero(~goes), np.flatnonzero(goes)
        self._add(self._put, _text_of([entries[at] for at in stay.tolist()]), stay, ends[stay], numbers[stay])
        self._add(self._gone, _text_of([entries[at][1:] for at in go.tolist()]), go, None, None)

    def _whole(self, at: int, line: str, tabs: int) -> str:
        """A line with both its tabs."""
        if tabs > 2:
            column = [place for place, sign in enumerate(line, start=1) if sign == "\t"][2]
            self._problem(at, column, "there is a third tab, write ENTRY, UNTIL and REASON with a tab between two")
            return line[: column - 1]
        return line + "\t" * (2 - tabs)

    def _add(self, builder: Builder, text: bytes, rows: Column, ends: Column | None, numbers: Column | None) -> None:
        """Entries, one a line, with what belongs to each. `rows`: which lines of the piece they are."""
        if not text:
            return
        words, left = bulk.read_lines(text)
        words.into(builder, (rows + self._line).astype(np.uint32), numbers, ends)
        for at, word in zip(words.left, left, strict=True):
            try:
                span, remark = parse_leniently(word)
            except ValueError as problem:
                self._problem(int(rows[at]), 1, str(problem))
                continue
            if remark:
                self._remark(remark)
            end = None if ends is None or ends[at] == NEVER else float(ends[at])
            line = self._line + int(rows[at])
            builder.add(Row(*span, line, "" if numbers is None else self._reasons[int(numbers[at])], end))

    def _ends(self, entries: list[str], untils: list[str]) -> Column:
        if all(untils) and (joined := "".join(untils)).isascii() and joined.isdecimal():
            with suppress(ValueError, OverflowError):  # of numbers that are far too long
                ends = np.array(list(map(int, untils)), np.float64)
                if (ends <= _LATEST_END_S).all():
                    return ends
        known: dict[str, float] = {"": self._until}
        for text in set(untils) - known.keys():
            try:
                known[text] = end_of(text)
            except ValueError as problem:
                at = untils.index(text)
                self._problem(at, len(entries[at]) + 2, str(problem))
                known[text] = NEVER
        return np.fromiter(map(known.__getitem__, untils), np.float64, len(untils))

    def _numbers_of(self, entries: list[str], untils: list[str], reasons: list[str]) -> Column:
        for text in set(reasons) - self._numbers.keys():
            if len(text) <= CHARACTERS_AT_MOST and text.isprintable():
                number = self._numbers[text] = self._put.reason(text)
                self._reasons[number] = text
                continue
            at = reasons.index(text)
            column = len(entries[at]) + len(untils[at]) + 3
            self._problem(at, column, f"a reason is a text of at most {CHARACTERS_AT_MOST} printable characters")
            self._numbers[text] = 0
        return np.fromiter(map(self._numbers.__getitem__, reasons), np.uint32, len(reasons))

    def _problem(self, at: int, column: int, sentence: str) -> None:
        if len(self._found.problems) < PROBLEMS_AT_MOST:
            self._found.problems.append((self._line + at, column, sentence))
        else:
            self._found.more_problems += 1

    def _remark(self, sentence: str) -> None:
        if len(self._found.remarks) < REMARKS_AT_MOST:
            self._found.remarks.append(sentence)
        else:
            self._found.more_remarks += 1


def end_of(text: str) -> float:
    """Seconds since the epoch. Raises ValueError with a sentence."""
    if text == FOR_GOOD:
        return NEVER
    end_s = float(text) if _SECONDS.fullmatch(text) else moments.seconds(text)
    if not 0 <= end_s <= _LATEST_END_S:
        raise ValueError(f"{wording.quoted(text)} is not between the years 1970 and 9999")
    return end_s


def _smaller(text: bytes) -> Iterator[bytes]:
    """Whole lines, of a size that arithmetic over their bytes has memory for."""
    at = 0
    while len(text) - at > _PIECE_BYTES:
        end = text.find(b"\n", at + _PIECE_BYTES) + 1
        yield text[at:end]
        at = end
    if at < len(text):
        yield text[at:] if at else text


def _text_of(lines: list[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode(errors="replace") if lines else b""
