"""What a request lists: its entries, read in another thread where they are many, and what is to be said of them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from xdropd.columns.differing import lasting_longest, split_by_end, split_by_width
from xdropd.columns.listing import Listing
from xdropd.control import fields
from xdropd.control.sentences import NAMED_AT_MOST, and_more
from xdropd.errors import BadRequest, Problem, RefusedFile
from xdropd.host.spool import Spool
from xdropd.text import entrylines
from xdropd.text.addresses import Span

LINES = "entries"
"""Where the problems of lines are said to be."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request lists and what it takes back, an entry once; lines are those of the request."""

    put: Listing
    gone: Listing
    ended: Listing
    """What it lists although it has ended."""
    too_wide: int
    remarks: list[str]

    @property
    def skipped(self) -> dict[str, int]:
        """How many entries are not taken, and why, for the answer."""
        return {"ended": self.ended.count, "too_wide": self.too_wide}


class Asking:
    """A request to block, unblock, replace or change. `ends`: whether more counts of it than its entries and source.

    `is_exact`: it says what all of a source is, or changes, so that it has to name one.
    Raises BadRequest where a field makes no sense.
    """

    def __init__(
        self, request: Mapping[str, Any], *, takes_back: bool = False, ends: bool = True, is_exact: bool = False
    ) -> None:
        if not ends:
            request = {key: request[key] for key in ("entries", "source") if key in request}
        self.source = fields.source_name(request, is_needed=is_exact)
        self.tag = fields.optional(request, "tag", fields.TAG_CHARACTERS_AT_MOST)
        self._reason = fields.optional(request, "reason") or ""
        self._seconds = fields.seconds(request)
        self._widest = fields.widest(request)
        self._takes_back = takes_back
        self._ends = ends
        self._entries = fields.entries(request)

    @property
    def size(self) -> int:
        """About how many entries there are, to say how they are handled."""
        return self._entries.size >> 4 if isinstance(self._entries, Spool) else len(self._entries)

    def read(self) -> Asked:
        """Read the entries: long for many. Raises BadRequest or RefusedFile, with all problems of the lines."""
        now_s = time.time()
        until = None if self._seconds is None else now_s + self._seconds
        reader = entrylines.Reader(until, self._reason, takes_back=self._takes_back)
        if isinstance(self._entries, Spool):
            with self._entries as spool:
                try:
                    lines = reader.read(spool.pieces())
                except ValueError as problem:
                    raise BadRequest(str(problem)) from None
        else:
            lines = reader.read(_as_lines(self._entries))
        if lines.problems:
            if not isinstance(self._entries, Spool):
                raise BadRequest(lines.problems[0][2])
            raise RefusedFile([Problem(LINES, *problem) for problem in lines.problems])
        remarks = and_more(lines.remarks, lines.more_remarks, "are taken otherwise than they were written")
        put, ended = split_by_end(lasting_longest(lines.put), now_s if self._ends else 0.0)
        put, wide = split_by_width(put, self._widest)
        named = [
            f"{Span(*row[:3])} is wider than what is taken here, it is skipped"
            for row in wide.first_rows(NAMED_AT_MOST)
        ]
        remarks += and_more(named, wide.count - len(named), "are skipped as well, for they are too wide")
        if ended.count:
            remarks.append(f"{ended.count} of the entries have ended already, they are skipped")
        return Asked(put, lasting_longest(lines.gone), ended, wide.count, remarks)


def _as_lines(words: list[str]) -> Iterator[bytes]:
    text = "\n".join(words)
    if "\t" in text or text.count("\n") != len(words) - 1:
        odd = next(word for word in words if "\t" in word or "\n" in word)
        fields.span(odd)  # which says what is wrong with it
        raise AssertionError(odd)
    yield f"{text}\n".encode(errors="replace")
