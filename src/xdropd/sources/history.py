"""What callers did, from a place on: the records of the log, followed as they are written.

A place is how many records there have been before, and a cursor is its name: that of the history and the number. The
log keeps what was done lately when it is written anew, so a place is good for a while, also over a restart.
Nothing is kept for whoever follows but its place.
"""

from __future__ import annotations

from collections.abc import Iterator

from xdropd.errors import BadRequest, Lost
from xdropd.host import blocklog
from xdropd.host.blocklog import Record
from xdropd.sources.blocks import Blocks

_PIECE_BYTES = 1 << 16  # no record is longer
_USUAL_BYTES = 1 << 11
_LOST = "its place is not in the history of blocks any more"


class Follower:
    """One who follows. Raises BadRequest where a cursor is none, Lost where it leads nowhere."""

    def __init__(self, blocks: Blocks, cursor: str | None) -> None:
        self._blocks = blocks
        self._name = blocks.history.name
        self.place = blocks.last_place
        """That of the last record that was read."""
        self._log: tuple[int, int] | None = None  # which log a place in bytes is in, and that place
        if cursor is not None:
            name, _, number = cursor.partition(".")
            if not (number.isascii() and number.isdecimal() and len(number) < 16):
                raise BadRequest('"cursor" is one that was told with an event')
            # Where nothing has ever been done, the name is not on disk yet, and another one after each restart.
            is_at_nothing = int(number) == self.place == 0 and len(name) == len(self._name)
            if not is_at_nothing and (name != self._name or int(number) > self.place):
                raise Lost(_LOST)
            self.place = int(number)
            self._see_that_it_is_there()

    @property
    def cursor(self) -> str:
        """The place behind all that was read."""
        return f"{self._name}.{self.place}"

    @property
    def has_news(self) -> bool:
        """Whether there is something to read."""
        return self.place != self._blocks.last_place or self._name != self._blocks.history.name

    def read(self) -> Iterator[tuple[str, Record]]:
        """The next records, each with the cursor behind it; not all of them at once. Raises Lost."""
        self._see_that_it_is_there()
        log, end = self._blocks.log_place
        number = self.place - self._blocks.history.shift
        at = self._log[1] if self._log and self._log[0] == log else self._find(number + 1, end)
        piece = self._blocks.log_piece(at, min(_PIECE_BYTES, end - at))
        piece = piece[: piece.rfind(b"\n") + 1]
        if not piece:
            raise Lost(_LOST)
        self._log = log, at + len(piece)
        for body in blocklog.bodies_in(piece):
            self.place = blocklog.number_in(body) + self._blocks.history.shift
            if record := blocklog.record_in(body):
                yield self.cursor, record

    def _see_that_it_is_there(self) -> None:
        history = self._blocks.history
        if self._name != history.name or self.place < min(history.begins + history.shift, self._blocks.last_place):
            raise Lost(_LOST)

    def _find(self, number: int, end: int) -> int:
        """From where on the log has nothing but records with at least this number."""
        low, high = 0, end
        while low < high:
            middle = (low + high) // 2
            if self._number_behind(middle) < number:
                low = middle + 1
            else:
                high = middle
        return low

    def _number_behind(self, at: int) -> float:
        """Of the first record that begins there or later."""
        for size in (_USUAL_BYTES, _PIECE_BYTES):
            for body in blocklog.bodies_in(self._blocks.log_piece(at, size)):
                return blocklog.number_in(body)
        return float("inf")
