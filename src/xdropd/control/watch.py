"""The verb that never ends: what callers block and take back, as it happens, from a place on.

Whoever watches has a place in the history and nothing else, so one that does not read costs nothing but its connection;
where its place is gone when it reads again, it is told so.
"""

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from fnmatch import translate
from typing import Any

from xdropd.control import fields
from xdropd.control.moments import moment
from xdropd.control.waiting import Waiting
from xdropd.daemon.parts import Parts
from xdropd.daemon.watching import End, Ends
from xdropd.errors import Lost
from xdropd.host.blocklog import Record
from xdropd.host.control import MORE, Line, Rest
from xdropd.sources.history import Follower

_WORD_EVERY_SECONDS = 10.0
_PATTERN_CHARACTERS_AT_MOST = 200
_REMEDY = "watch anew without a cursor, and list what there is"


class Watch:
    """Of one daemon."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._waiting = Waiting(parts.progress, parts.reactor)

    def watch(self, request: Mapping[str, Any]) -> Iterator[Line]:
        """Events of the sources that a pattern names, all of them without one; from a cursor on, or from now on."""
        pattern = fields.optional(request, "source", _PATTERN_CHARACTERS_AT_MOST)
        cursor = fields.optional(request, "cursor")
        tells_ends = fields.flag(request, "ends")
        matches = re.compile(translate("*" if pattern is None else pattern)).fullmatch
        yield from self._waiting.until_ready()
        with self._parts.watching.ends(matches if tells_ends else _nothing) as ends:
            try:
                yield from self._events(Follower(self._parts.blocks, cursor), matches, ends)
            except Lost as lost:
                raise Lost(lost.message, _REMEDY) from None

    def _events(self, follower: Follower, matches: Callable[[str], object], ends: Ends) -> Iterator[Line]:
        yield _line("cursor", follower.cursor)
        said_at = time.monotonic()

        def has_happened() -> bool:
            return follower.has_news or bool(ends)

        while True:
            lines: list[bytes] = []
            behind = follower.cursor
            if follower.has_news:
                for cursor, record in follower.read():
                    lines += _over(ends.up_to(follower.place - 1), behind)
                    if record.entry and matches(record.source):
                        lines.append(_told(cursor, record))
                    behind = cursor
            lines += _over(ends.up_to(follower.place), behind)
            if not lines and time.monotonic() >= said_at + _WORD_EVERY_SECONDS:
                lines.append(_line("cursor", follower.cursor))  # what others did may push its place out of the history
            if lines:
                said_at = time.monotonic()
                yield b"".join(lines)
            if has_happened():
                yield MORE
            else:
                yield Rest(has_happened, said_at + _WORD_EVERY_SECONDS - time.monotonic())


def _nothing(_source: str) -> bool:
    return False


def _over(ends: Iterable[End], cursor: str) -> Iterator[bytes]:
    """Events of what has ended."""
    for end in ends:
        yield _line("end", cursor, source=end.source, entry=end.entry)


def _told(cursor: str, record: Record) -> bytes:
    """An event."""
    said = {"source": record.source, "entry": record.entry, "at": moment(record.since)}
    if record.operation == "block":
        said |= {"until": moment(record.until), "reason": record.reason or None}
    return _line(record.operation, cursor, **said)


def _line(event: str, cursor: str, **said: object) -> bytes:
    return json.dumps({"row": {"event": event, "cursor": cursor, **said}}, separators=(",", ":")).encode() + b"\n"
