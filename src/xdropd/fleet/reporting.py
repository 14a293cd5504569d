"""The story of a report: hear from xdropd what callers do, keep it, and tell the server when it listens.

A thread hears; everything else happens in the turns of whoever owns this.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Protocol

from xdropd import memory
from xdropd.errors import ErrorAnswer, LocalApiError, XdropdError
from xdropd.fleet.decisions import TAG
from xdropd.fleet.localapi import LocalApi
from xdropd.fleet.reports import Reports
from xdropd.host.log import Log
from xdropd.host.statefolder import StateFolder
from xdropd.text.crowdsec import Machine

FILE = "reports.json"

_PASSED_OVER_AT_MOST = 1000  # events of other sources, until the place behind them is noted
_HEARD_AT_MOST = 10_000  # between two turns; what comes beyond it waits in xdropd
_RETRY_S = 2.0
_DELETIONS_AT_ONCE = 200
_UNAUTHORIZED, _FORBIDDEN = 401, 403
_WATCH = {"verb": "watch", "ends": False}  # the server ends decisions by itself


class Daemon(Protocol):
    """xdropd, over its control socket. Raises XdropdError."""

    def ask(self, request: Mapping[str, object]) -> dict[str, Any]:
        """The result of a request."""

    def rows(self, request: Mapping[str, object]) -> Iterator[dict[str, Any]]:
        """Those of an answer, as they come."""


class Reporting:
    """Of one daemon, to one server, in the name of one machine."""

    def __init__(
        self, reports: Reports, machine: Machine, api: LocalApi, daemon: Daemon, folder: StateFolder | None, log: Log
    ) -> None:
        self._reports = reports
        self._machine = machine
        self._api = api
        self._daemon = daemon
        self._folder = folder
        self._log = log
        self._token = ""
        self._heard: queue.Queue[dict[str, Any]] = queue.Queue(_HEARD_AT_MOST)
        self._kept = b""
        self._trouble = ""
        self._is_over = False
        self._is_of_a_companion: dict[str, bool] = {}  # by source
        self._load()
        memory.start(threading.Thread(target=self._hear, args=(reports.cursor,), daemon=True, name="watch"))

    def close(self) -> None:
        """Hear no more."""
        self._is_over = True

    def turn(self) -> None:
        """Keep what was heard, and tell the server what waits."""
        while not self._heard.empty():
            self._reports.take(self._heard.get_nowait())
        if self._reports.lost:
            self._log.error("report", f"{self._reports.lost} reports are given up, for too many wait")
            self._reports.lost = 0
        self._keep()
        if not self._reports:
            return
        try:
            self._tell_with_a_token()
        except LocalApiError as problem:
            if str(problem) != self._trouble:
                self._trouble = str(problem)
                self._log.error("report", f"{problem}; {len(self._reports)} reports wait")
        else:
            if self._trouble:
                self._log.notice("report", "the server takes reports again")
            self._trouble = ""
        self._keep()

    def _tell_with_a_token(self) -> None:
        """Tokens last an hour, and until the server restarts: one that is refused is had anew, once."""
        if self._token:
            try:
                return self._tell()
            except LocalApiError as problem:
                if problem.status != _UNAUTHORIZED:
                    raise
        self._token = ""
        self._token = self._api.login(self._machine.login, self._machine.password)
        return self._tell()

    def _tell(self) -> None:
        """One that is refused holds up nothing that waits behind it. Raises the first refusal, when all is told."""
        refusals: list[LocalApiError] = []
        gone = self._take_back(refusals, blocked_anew=True)
        told = self._tell_blocks(refusals)
        gone += self._take_back(refusals, blocked_anew=False)
        if told or gone:
            self._log.info("report", f"the server is told: {told} blocked, {gone} taken back")
        if refusals:
            raise refusals[0]

    def _tell_blocks(self, refusals: list[LocalApiError]) -> int:
        now_s = time.time()
        now = datetime.fromtimestamp(now_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        told = 0
        for blocks, alert in self._reports.alerts(now_s, now):
            with _noted(refusals):
                self._api.alerts(self._token, [alert])
                self._reports.told(blocks)
                told += len(blocks)
        return told

    def _take_back(self, refusals: list[LocalApiError], *, blocked_anew: bool) -> int:
        gone = 0
        for key, values in list(islice(self._reports.deletions(blocked_anew=blocked_anew), _DELETIONS_AT_ONCE)):
            self._reports.later(key)  # unless it is gone in a moment
            with _noted(refusals):
                for which in values:
                    self._api.delete(self._token, **which)
                self._reports.taken_back(key)
                gone += 1
        return gone

    # ---- what outlives the process ----

    def _load(self) -> None:
        try:
            data = self._folder.load(FILE) if self._folder else None
            if data is not None:
                self._reports.read(data)
        except (OSError, ValueError) as problem:
            self._log.warning("report", f"{FILE}: {problem}; what is blocked now is reported anew")

    def _keep(self) -> None:
        data = self._reports.as_bytes()
        if self._folder is None or data == self._kept:
            return
        try:
            self._folder.save(FILE, data)
            self._kept = data
        except OSError as problem:
            self._log.error("report", f"{FILE}: {problem.strerror or problem}; reports do not outlive this process")

    # ---- the thread that hears ----

    def _hear(self, cursor: str | None) -> None:
        is_told = False
        while not self._is_over:
            try:
                passed_over = 0
                for row in self._events(cursor):
                    if self._is_over:
                        return
                    cursor, is_told = row.get("cursor", cursor), False
                    if "source" not in row or self._is_ours_to_report(row["source"]):
                        self._heard.put(row)
                        continue
                    # What the companion itself has had put in force, many thousands at once, must hold up nothing.
                    passed_over += 1
                    if passed_over % _PASSED_OVER_AT_MOST == 0:
                        self._heard.put({"event": "cursor", "cursor": cursor})
            except ErrorAnswer as answer:
                if answer.kind == "Lost":
                    self._log.warning("report", f"{answer}; what is blocked now is reported anew")
                    cursor = None
                elif not is_told:
                    self._log.error("report", str(answer))
                    is_told = True
            except XdropdError as problem:
                if not is_told:
                    self._log.error("report", str(problem))
                    is_told = True
            time.sleep(_RETRY_S if is_told else 0.1)

    def _events(self, cursor: str | None) -> Iterator[dict[str, Any]]:
        """From a cursor on; without one, what is there first, and then what has happened since the look began."""
        if cursor is not None:
            yield from self._daemon.rows({**_WATCH, "cursor": cursor})
            return
        events = self._daemon.rows(_WATCH)
        first = next(events)
        for row in self._daemon.rows({"verb": "list"}):
            if row["line"] is None and self._is_ours_to_report(row["source"]):
                yield {key: row[key] for key in ("source", "entry", "until", "reason")}
        yield first
        yield from events

    def _is_ours_to_report(self, source: str) -> bool:
        """Whether it is meant, and of no companion: one beside this one, or this one when it was called otherwise."""
        if not self._reports.is_meant(source):
            return False
        if source not in self._is_of_a_companion:
            sources = self._daemon.ask({"verb": "status"}).get("sources", ())
            self._is_of_a_companion |= {each["name"]: (each["tag"] or "").startswith(TAG) for each in sources}
        return not self._is_of_a_companion.get(source, False)  # one that is gone has nothing left to be taken back


@contextmanager
def _noted(refusals: list[LocalApiError]) -> Iterator[None]:
    """A refusal of one report is noted. Raises what is none, or is one of whoever reports."""
    try:
        yield
    except LocalApiError as problem:
        if problem.status in (0, _UNAUTHORIZED, _FORBIDDEN):
            raise
        refusals.append(problem)
