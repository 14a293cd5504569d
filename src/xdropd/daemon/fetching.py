"""URLs of the blocklist: the wish that xdropd-fetch reads, and what it tells of them. The daemon opens no socket.

A URL that has not come for ten minutes is a reason for being degraded; one that was not renewed for three times its
interval keeps what it has, and is worth a warning.
"""

import os
import time
from pathlib import Path

from xdropd.daemon.backoff import Backoff
from xdropd.daemon.reactor import Reactor
from xdropd.host import fetched
from xdropd.host.fetched import State, Wanted
from xdropd.host.fileworker import Work
from xdropd.host.log import WARNING
from xdropd.host.telling import Telling
from xdropd.sources.catalogue import Reading
from xdropd.text.includes import Include

_LOOK_EVERY_S = 10.0
_LOOK_SOON_S = 0.5  # while somebody waits for what was asked for
_MISSED_AFTER_S = 600.0
_STALE_AFTER_INTERVALS = 3


class Fetching:
    """One daemon's. `wish` is the file that says what is wanted, `folder` where what has come is."""

    def __init__(self, wish: Path, folder: Path, blocklist: str, reactor: Reactor, telling: Telling) -> None:
        self.wanted: tuple[Wanted, ...] = ()
        """In the order of the blocklist."""
        self.states: dict[str, State] = {}
        """How each URL fared at the last look; none: not known."""
        self.is_at_work = False
        """Whether somebody was fetching at the last look."""
        self._wish = wish
        self._folder = folder
        self._beside = os.path.dirname(blocklist)  # noqa: PTH120  # a path as the user wrote it
        self._reactor = reactor
        self._telling = telling
        self._asked: dict[str, str | None] = {}
        self._awaited: dict[str, float] = {}  # since when
        self._written: tuple[Wanted, ...] | None = None
        self._is_writing = self._is_looking = False
        self._retry = Backoff()
        self._look_at = 0.0

    def want(self, reading: Reading) -> None:
        """What the blocklist in force names is wanted from now on."""
        urls = reading.urls()
        self._asked = {url: asked for url, asked in self._asked.items() if url in urls}
        self.wanted = tuple(self._wanted(url, include) for url, include in urls.items())
        self._awaited = {url: self._awaited.get(url, time.monotonic()) for url in reading.awaited}
        self._look_at = 0.0
        self._write()

    def ask(self, urls: list[str]) -> None:
        """Have these fetched now, due or not; `is_done` tells when they were. Who asks meanwhile waits for the same."""
        self._asked |= {url: fetched.moment(time.time()) for url in urls if self.is_done(url)}
        self.wanted = tuple(each._replace(asked=self._asked.get(each.url)) for each in self.wanted)
        self._look_at = 0.0
        self._write()

    def is_done(self, url: str) -> bool:
        """Whether what was asked for last has been done, or is not wanted any more."""
        asked = self._asked.get(url)
        return asked is None or (url in self.states and self.states[url].asked == asked)

    def look_after(self, now: float) -> None:
        """Look how the URLs fare, and write again what could not be written."""
        if self._written != self.wanted and self._retry.is_due(now):
            self._write()
        if self.wanted and not self._is_looking and now >= self._look_at:
            self._is_looking = True
            urls = [each.url for each in self.wanted]
            self._reactor.later(lambda: self._looked(urls), self._take)
        if not self.wanted and self.states:
            self.states = {}
        self._tell(now)

    def _wanted(self, url: str, include: Include) -> Wanted:
        assert include.fetch is not None
        every_s, headers, sha256 = include.fetch
        path = os.path.normpath(os.path.join(self._beside, headers)) if headers else None  # noqa: PTH118
        return Wanted(url, every_s, path, sha256 or None, self._asked.get(url))

    def _write(self) -> None:
        """One after the other: what changes meanwhile is written next."""
        if self._is_writing or self._written == self.wanted:
            return
        self._is_writing = True
        wanted = self.wanted

        def take(writing: Work[None]) -> None:
            self._is_writing = False
            try:
                writing.result()
            except OSError as problem:
                self._retry.failed(time.monotonic())
                self._telling.trouble("fetch.json", f"nothing can be fetched: {problem}", "fetch")
            else:
                self._written = wanted
                self._retry.succeeded()
                self._telling.clear("fetch.json")
                self._write()

        self._reactor.later(lambda: fetched.write_wanted(self._wish, wanted), take)

    def _looked(self, urls: list[str]) -> tuple[bool, dict[str, State]]:
        """Whether somebody is at work, and how these URLs fare. Called where file systems may hang."""
        try:
            found = ((url, fetched.read_state(self._folder, url)) for url in urls)
            return fetched.is_at_work(self._folder), {url: state for url, state in found if state is not None}
        except OSError:  # there is no folder yet
            return False, {}

    def _take(self, look: Work[tuple[bool, dict[str, State]]]) -> None:
        self._is_looking = False
        self.is_at_work, self.states = look.result()
        is_waited_for = any(not self.is_done(url) for url in self._asked)
        self._look_at = time.monotonic() + (_LOOK_SOON_S if is_waited_for else _LOOK_EVERY_S)

    def _tell(self, now: float) -> None:
        """What never came, and what is stale."""
        missing = {url: self._why_missing(url) for url, since in self._awaited.items() if now - since > _MISSED_AFTER_S}
        self._telling.trouble("fetch", missing, "fetch", "source")
        stale = {self._why_stale(url): {"source": url} for url in self.stale(time.time())}
        self._telling.each_once("stale", WARNING, "fetch", stale)

    def stale(self, now_s: float) -> list[str]:
        """The URLs that were not renewed for three times their interval."""
        known = ((each, self.states.get(each.url)) for each in self.wanted)
        return [
            each.url
            for each, state in known
            if state is not None
            and state.fetched_at is not None
            and now_s - state.fetched_at > _STALE_AFTER_INTERVALS * max(each.every_s, state.interval_s)
        ]

    def _why_missing(self, url: str) -> str:
        state = self.states.get(url)
        if state is None:
            why = "nobody has fetched it, see: systemctl status xdropd-fetch.timer xdropd-fetch.service"
        else:
            why = state.failure or "what came is not there any more"
        return f"{url}: has not come yet: {why}"

    def _why_stale(self, url: str) -> str:
        state = self.states[url]
        why = state.failure or "nobody fetches it"
        return f"{url}: not renewed since {fetched.moment(state.fetched_at)}, what came then stays: {why}"
