"""`xdropctl top`: the busiest entries, once as a table or live on the terminal.

`Board` is what is known of the entries from one answer to the next, and how that looks; it knows neither terminal nor
socket.
"""

import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from xdropd.commands import client, exits, reports, tables
from xdropd.commands.replies import Columns
from xdropd.commands.tables import Column, Rows, Screen
from xdropd.commands.terminal import Terminal
from xdropd.errors import XdropdError
from xdropd.text.names import printable

_FIRST_WAIT_SECONDS = 5.0
_REFRESH_SECONDS = 1.0
_REST_SHARE = 4  # of the time that an answer took: the daemon reads through its maps for it
_SAMPLES = 16
_CANDIDATES = 1000
_KEYS = {b"p": "packets", b"b": "bytes", b"r": "rate"}
_MOVES = {b"\x1b[A": -1, b"k": -1, b"\x1bOA": -1, b"\x1b[B": 1, b"j": 1, b"\x1bOB": 1}
_ENTER, _BACK, _QUIT = (b"\r", b"\n"), (b"\x1b", b"\x7f", b"\x08", b"\x1b[D"), (b"q", b"Q")
_HELP = "p packets  b bytes  r rate  arrows and enter look closer  q quit"
_HELP_CLOSER = "esc back  q quit"

_COLUMNS = (
    Column("ENTRY"),
    Column("PACKETS/S", is_number=True),
    Column("PACKETS", is_number=True),
    Column("BYTES", is_number=True, goes=4),
    Column("LAST SEEN", is_number=True, goes=2),
    Column("HISTORY", goes=3),
    Column("SOURCE", cut="start"),
    Column("REASON", cut="end", goes=1),
)

Identity = tuple[str, str]  # entry and source


def once(path: str, by: str, count: int) -> Iterator[Columns]:
    """The busiest entries now, as the daemon describes them. For "rate", with that, from two looks a second apart."""
    if by != "rate":
        yield from client.columns(path, {"verb": "top", "by": by, "count": count})
        return
    board = Board()
    for wait in (_REFRESH_SECONDS, 0.0):
        board.learn(list(client.rows(path, _request(by))), time.monotonic())
        time.sleep(wait)
    for tracked in board.ordered(by)[:count]:
        request = {"verb": "list", "entry": tracked.row["entry"], "source": tracked.row["source"]}
        for row in client.columns(path, request):
            yield {**row, "rate": [round(tracked.rate, 1)]}


def _request(by: str) -> dict[str, object]:
    """What to ask for. The highest rates are among those that were seen last."""
    return {"verb": "top", "by": "recent" if by == "rate" else by, "count": _CANDIDATES, "lines": False}


@dataclass(slots=True)
class Tracked:
    """One entry, and how fast it was hit between the last answers, in packets a second, the latest last."""

    row: Mapping[str, Any]
    rates: deque[float] = field(default_factory=lambda: deque(maxlen=_SAMPLES))

    @property
    def rate(self) -> float:
        """Packets a second, as of the last two answers."""
        return self.rates[-1] if self.rates else 0.0


class Board:
    """Every entry that the last answer spoke of, with what earlier ones said."""

    def __init__(self) -> None:
        self.tracked: dict[Identity, Tracked] = {}
        self._learned_at = 0.0

    def learn(self, rows: Sequence[Mapping[str, Any]], at: float) -> None:
        """Take in an answer that came at this moment (in seconds, of any clock that runs evenly)."""
        passed = at - self._learned_at
        before, self.tracked, self._learned_at = self.tracked, {}, at
        for row in rows:
            identity = row["entry"], row["source"]
            known = before.get(identity)
            if known is not None and passed > 0:
                hits = row["packets"] - known.row["packets"]
                known.rates.append(max(0.0, hits / passed))  # counts start anew with another daemon
                known.row = row
            self.tracked[identity] = known or Tracked(row)

    def ordered(self, by: str) -> list[Tracked]:
        """The busiest first."""
        if by == "rate":
            return sorted(self.tracked.values(), key=lambda one: (one.rate, one.row["packets"]), reverse=True)
        return sorted(self.tracked.values(), key=lambda one: one.row[by], reverse=True)

    def lines(self, by: str, height: int, chosen: Identity | None, screen: Screen, now: datetime) -> Iterator[str]:
        """A table of at most `height` lines."""
        shown = self.ordered(by)[: height - 1]
        are_chosen = [(one.row["entry"], one.row["source"]) == chosen for one in shown]
        rows = [_cells(one, screen, now, is_chosen=each) for one, each in zip(shown, are_chosen, strict=True)]
        styles = ["strong" if each else "" for each in are_chosen]
        return tables.table(_COLUMNS, [Rows(list(zip(*rows, strict=True)), styles)] if rows else [], screen)


def _cells(one: Tracked, screen: Screen, now: datetime, *, is_chosen: bool) -> tuple[str, ...]:
    row = one.row
    return (
        ("> " if is_chosen else "  ") + row["entry"],
        tables.count(one.rate) if one.rates else "",
        tables.count(row["packets"]),
        tables.size(row["bytes"]),
        tables.ago(row["last_seen"], now),
        tables.sparkline(one.rates, screen).rjust(_SAMPLES),
        printable(row["source"]),
        printable(row["reason"] or ""),
    )


def live(path: str, by: str, count: int | None, screen: Screen) -> int:
    """Show it until somebody quits; the exit status."""
    with Terminal() as terminal:
        return _Live(path, by, count, screen.has_colours, terminal).run()


class _Live:
    """One run on a terminal."""

    def __init__(self, path: str, by: str, count: int | None, has_colours: bool, terminal: Terminal) -> None:
        self._path = path
        self._by = by
        self._count = count
        self._has_colours = has_colours
        self._terminal = terminal
        self._board = Board()
        self._totals: dict[str, Any] | None = None
        self._totals_at = 0.0
        self._dropped_rate: float | None = None
        self._answer_took_s = 0.0
        self._trouble = ""
        self._chosen: Identity | None = None
        self._closer: Mapping[str, Any] | None = None

    def run(self) -> int:
        """Look, show, listen, until somebody quits."""
        self._look(_FIRST_WAIT_SECONDS)
        while True:
            due = time.monotonic() + max(_REFRESH_SECONDS, _REST_SHARE * self._answer_took_s)
            while True:
                self._show()
                key = self._terminal.key(due - time.monotonic())
                if key in _QUIT:
                    return exits.DONE
                if key is None or self._press(key):
                    break
            try:
                self._look(0)
                self._trouble = ""
            except XdropdError as problem:
                self._trouble = str(problem)

    def _look(self, wait_s: float) -> None:
        begun = time.monotonic()
        rows = list(client.rows(self._path, _request(self._by), wait_s=wait_s))
        self._answer_took_s = time.monotonic() - begun
        self._board.learn(rows, time.monotonic())
        totals, at = client.ask(self._path, {"verb": "status"}, wait_s=wait_s), time.monotonic()
        if self._totals:
            dropped = totals["packets"]["dropped"] - self._totals["packets"]["dropped"]
            self._dropped_rate = max(0.0, dropped / (at - self._totals_at))
        self._totals, self._totals_at = totals, at
        if self._closer:
            self._look_closer()

    def _look_closer(self) -> None:
        assert self._chosen
        entry, source = self._chosen
        found = list(client.rows(self._path, {"verb": "list", "entry": entry, "source": source}, wait_s=0))
        self._closer = found[0] if found else None

    def _try_to_look_closer(self) -> None:
        try:
            self._look_closer()
        except XdropdError as problem:
            self._trouble = str(problem)

    def _press(self, key: bytes) -> bool:
        """Act on a key. True if the daemon is to be asked anew for it."""
        if key in _KEYS:
            self._by = _KEYS[key]
            return True
        if key in _MOVES:
            self._move(_MOVES[key])
        elif key in _ENTER and self._chosen:
            self._try_to_look_closer()
        elif key in _BACK:
            self._closer = None
        return False

    def _move(self, step: int) -> None:
        identities = [(one.row["entry"], one.row["source"]) for one in self._board.ordered(self._by)[: self._rows()]]
        if not identities:
            self._chosen = None
        elif self._chosen in identities:
            at = identities.index(self._chosen) + step
            self._chosen = identities[max(0, min(len(identities) - 1, at))]
        else:
            self._chosen = identities[0 if step > 0 else -1]
        if self._closer:
            self._try_to_look_closer()

    def _rows(self) -> int:
        most = max(1, self._terminal.size()[1] - 4)
        return min(most, self._count or most)

    def _show(self) -> None:
        width, height = self._terminal.size()
        screen = Screen(width, self._has_colours, Screen.of(sys.stdout, {}).has_unicode)
        lines = [*self._heading(screen), ""]
        now = tables.now()
        if self._closer:
            known = self._board.tracked.get(self._chosen) if self._chosen else None
            lines += reports.story(self._closer, screen, now)
            if known:
                lines += ["", f"  {tables.sparkline(known.rates, screen)}  {tables.count(known.rate)} packets/s"]
        else:
            lines += self._board.lines(self._by, self._rows() + 1, self._chosen, screen, now)
        help_line = screen.styled(tables.cut(_HELP_CLOSER if self._closer else _HELP, width - 1, "end"), "head")
        self._terminal.draw([*lines[: height - 1], *[""] * (height - 1 - len(lines)), help_line])

    def _heading(self, screen: Screen) -> Iterator[str]:
        if self._trouble:
            yield screen.styled(tables.cut(printable(self._trouble), screen.width or 80, "end"), "bad")
            return
        assert self._totals
        totals = self._totals
        state = totals["state"] + (", degraded" if totals["degraded"] else "")
        rate = "" if self._dropped_rate is None else f", {tables.count(self._dropped_rate)}/s"
        dropped = f"{tables.count(totals['packets']['dropped'])} packets dropped{rate}"
        said = f"xdropd {state}; {dropped}; sorted by {self._by}"
        yield screen.styled(tables.cut(said, screen.width or 80, "end"), "warn" if totals["degraded"] else "strong")
