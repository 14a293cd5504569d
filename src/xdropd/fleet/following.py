"""The story of one turn: ask the server, understand, have it in force, tell. Then wait for the next one.

Complete answers are asked for at the start, after any failure, soon after one that lacked something, some time after a
gap in the numbers, where this host's clock is set, and from time to time; in between, what has changed. Whatever fails,
everything stays in force that is, with its end.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from xdropd.errors import LocalApiError, Unavailable, XdropdError
from xdropd.fleet import decisions
from xdropd.fleet.bans import Bans
from xdropd.fleet.localapi import LocalApi
from xdropd.fleet.skipped import Skipped
from xdropd.host.log import Log
from xdropd.text.crowdsec import Configuration

_RETRY_AT_MOST_S = 30.0  # unless polls are rarer than that
_REFUSED_S = 60.0  # a key that is not known becomes known when somebody adds it
_TELLING_AT_MOST = 20  # warnings of xdropd, at once

_CLOCK_S = 5.0  # that this host's clock is set by more makes ends wrong that were told before
_FEW = 100  # decisions: what is missing of so many is missing for a reason

_REFUSED = (401, 403)


class Daemon(Protocol):
    """xdropd, over its control socket. Raises XdropdError."""

    def ask(self, request: Mapping[str, object], follow: Iterable[bytes] | None = None) -> dict[str, Any]:
        """The result of a request, with lines that follow it."""


class Following:
    """Of one server, by one daemon."""

    def __init__(self, configuration: Configuration, api: LocalApi, daemon: Daemon, log: Log) -> None:
        self._every_s = configuration.update_frequency
        self._resync_s = configuration.resync
        self._prefix = configuration.source
        self._widest = dict(zip(("ipv4", "ipv6"), configuration.widest, strict=True))
        self._tag = f"{decisions.TAG}{configuration.source}"
        self._reader = decisions.Reader(configuration)
        self._api = api
        self._daemon = daemon
        self._log = log
        self._bans = Bans()
        self._skipped = Skipped()
        self._is_whole_due = True
        self._resync_at_s = 0.0
        self._clock_began_s = _clock_began_s()
        self._is_suspicious = False  # the last complete answer, which only the one at that time can agree with
        self._failures = 0
        self._behind = True  # xdropd may have something else than was told last
        self._known_before = 0  # entries that xdropd had when this process began
        self._has_looked = False
        self._troubles: dict[str, str] = {}
        self._warned: dict[str, frozenset[str]] = {}
        self.status = "starting"

    @property
    def bans(self) -> Bans:
        """What the server has said so far."""
        return self._bans

    @property
    def is_answered(self) -> bool:
        """Whether the server has answered the last request."""
        return self._failures == 0

    def source_of(self, origin: str) -> str:
        """What xdropd calls it."""
        return f"{self._prefix}:{origin}"

    def turn(self) -> float:
        """Take one; seconds until the next one is due."""
        began_s = time.monotonic()
        wait_s = self._every_s
        if not self._has_looked:  # before the first answer: what is there stays until two of them lack it
            self._with_xdropd(self._look_back)
        try:
            self._hear(began_s)
        except LocalApiError as problem:
            self._is_whole_due = True
            self._failures += 1
            self._trouble("server", f"{problem}; all that is blocked stays blocked")
            if problem.status in _REFUSED:
                wait_s = max(wait_s, _REFUSED_S)
            else:
                wait_s = max(wait_s, min(_RETRY_AT_MOST_S, wait_s * 2.0 ** min(self._failures - 1, 10)))
            wait_s *= random.uniform(0.75, 1.0)  # noqa: S311  # so that a fleet does not come back as one
        else:
            self._failures = 0
            self._well("server", "the server answers again")
        if self._has_looked:
            self._with_xdropd(self._tell)
        self.status = "; ".join(self._troubles.values()) or f"{self._bans.count().total()} decisions in force"
        return max(0.0, began_s + wait_s - time.monotonic())

    def _with_xdropd(self, work: Callable[[], None]) -> None:
        try:
            work()
        except XdropdError as problem:
            self._behind = True
            self._trouble("daemon", str(problem))
        else:
            self._well("daemon", "xdropd takes what it is told again")

    def _look_back(self) -> None:
        """What an earlier process has had put in force here. Only answers from now on are held against it."""
        self._known_before = sum(source["entries"] for source in self._ours())
        self._has_looked = True
        self._bans = Bans()
        self._is_whole_due, self._is_suspicious = True, False

    def _ours(self) -> list[dict[str, Any]]:
        """Sources of xdropd that carry our tag. Raises Unavailable where it has not read its blocks yet."""
        status = self._daemon.ask({"verb": "status"})
        if not status["ready"]:
            raise Unavailable("xdropd is starting, it does not know yet what it blocks")
        return [source for source in status["sources"] if source["tag"] == self._tag]

    def again(self) -> None:
        """Somebody asks for all there is, with the next turn."""
        self._is_whole_due = self._behind = True

    # ---- the server ----

    def _hear(self, now_s: float) -> None:
        self._look_at_clock()
        whole = self._is_whole_due or now_s >= min(self._resync_at_s, self._skipped.look_at_s)
        self._is_whole_due = True  # unless all of the answer is understood
        senseless = self._reader.senseless
        if whole:
            self._bans.ask()
        self._skipped.begin(whole=whole)
        with self._api.decisions(whole=whole) as pieces:
            clock_s = time.time()
            for key, item in decisions.items(pieces):
                self._skipped.hear(item.get("id"))
                decision = self._reader.read(item, clock_s)
                if decision is None:
                    continue
                if key == decisions.DELETED:
                    self._bans.drop(decision)
                elif decision.until_s > clock_s and self._bans.take(decision):
                    self._skipped.take(decision.number)
        if self._reader.senseless > senseless:
            count = self._reader.senseless - senseless
            self._log.warning("decisions", f"{count} decisions name no address and no network, they are skipped")
        self._is_whole_due = False
        if self._skipped.end(now_s, time.monotonic()) and self._skipped.look_at_s < self._resync_at_s:
            wait_s = self._skipped.look_at_s - now_s
            self._log.info("complete", f"numbers of decisions are skipped: all there is is asked for in {wait_s:.0f} s")
        if whole:
            self._understand_whole(now_s, clock_s)

    def _look_at_clock(self) -> None:
        """Ends are told by this host's clock: where that is set, forward above all, they are told anew."""
        before, self._clock_began_s = self._clock_began_s, _clock_began_s()
        if abs(self._clock_began_s - before) > _CLOCK_S:
            self._is_whole_due = True
            self._log.notice("complete", "the clock of this host was set: all there is is asked for")

    def _understand_whole(self, now_s: float, clock_s: float) -> None:
        """A complete answer is there. The next one comes soon where something is missing, unless far too much is."""
        is_early = self._is_suspicious and now_s < self._resync_at_s  # asked for because something failed meanwhile
        doubtful = self._bans.whole(clock_s, is_early=is_early)
        counts = self._bans.count()
        count = counts.total()
        if not self._bans.is_confirmed:  # xdropd may know more
            doubtful += max(0, self._known_before - count)
        is_suspicious = doubtful >= _FEW and doubtful * 2 > max(count, self._known_before)
        self._is_suspicious = is_suspicious
        self._is_whole_due = not is_suspicious and (doubtful > 0 or not self._bans.is_confirmed)
        if not (is_suspicious and is_early):
            self._resync_at_s = now_s + self._resync_s * random.uniform(0.8, 1.2)  # noqa: S311  # no secret
        self._behind = True
        if self._bans.is_confirmed or not is_suspicious:
            self._known_before = 0
        origins = ", ".join(f"{number} of {origin}" for origin, number in sorted(counts.items()))
        told = f"all there is: {count} {'entry' if count == 1 else 'entries'}" + (f", {origins}" if origins else "")
        if is_suspicious:
            told += (
                f"; {doubtful} others, most of what was there, stay for now: they go if the answer in an hour or so "
            )
            self._log.error("complete", told + "('resync') lacks them as well, or when they end")
        elif doubtful:
            self._log.notice("complete", f"{told}; {doubtful} others go if the next answer lacks them as well")
        elif self._skipped.found:
            self._log.notice("complete", f"{told}; {self._skipped.found} of them the server had not told before")
        else:
            self._log.info("complete", told)

    # ---- xdropd ----

    def _tell(self) -> None:
        """Nothing where nothing has changed."""
        if not self._behind:
            for origin in self._bans.differing:
                self._change(origin, self._bans.changes(origin), is_news=True)
            return
        if not self._bans.is_confirmed:
            for origin in {*self._bans.origins, *self._bans.differing}:
                self._change(origin, self._bans.everything_and_changes(origin), is_news=False)
        else:
            for origin in self._bans.origins:
                self._replace(origin)
            self._empty_others({self.source_of(origin) for origin in self._bans.origins})
        self._behind = False

    def _empty_others(self, ours: set[str]) -> None:
        """Sources of which there is nothing any more, an earlier process' as well."""
        for source in self._ours():
            if source["entries"] and source["name"] not in ours:
                self._daemon.ask({"verb": "replace", "source": source["name"], "tag": self._tag}, ())
                self._log.info("change", f"{source['name']}: the server has nothing of it any more")
        for origin in self._bans.differing:
            self._bans.told(origin)

    def _change(self, origin: str, lines: Iterable[bytes], *, is_news: bool) -> None:
        result = self._ask("change", origin, lines)
        if is_news or result["added"] or result["changed"] or result["removed"]:
            self._say(origin, result)

    def _replace(self, origin: str) -> None:
        result = self._ask("replace", origin, self._bans.everything(origin))
        if result["added"] or result["changed"] or result["removed"]:
            self._say(origin, result)

    def _ask(self, verb: str, origin: str, lines: Iterable[bytes]) -> dict[str, Any]:
        source = self.source_of(origin)
        request = {"verb": verb, "source": source, "tag": self._tag, "widest": self._widest}
        result = self._daemon.ask(request, lines)
        self._bans.told(origin)
        warnings = frozenset(result["warnings"])
        for warning in sorted(warnings - self._warned.get(source, frozenset()))[:_TELLING_AT_MOST]:
            self._log.warning("warning", f"{source}: {warning}", source=source)
        self._warned[source] = warnings if verb == "replace" else self._warned.get(source, frozenset()) | warnings
        return result

    def _say(self, origin: str, result: Mapping[str, Any]) -> None:
        source = self.source_of(origin)
        counts = Counter({key: result[key] for key in ("added", "removed", "changed")})
        told = ", ".join(f"{count} {what}" for what, count in counts.items() if count) or "nothing new"
        self._log.info("change", f"{source}: {told}", source=source)

    # ---- troubles ----

    def _trouble(self, what: str, sentence: str) -> None:
        """Told once, as long as it is the same."""
        if self._troubles.get(what) != sentence:
            self._troubles[what] = sentence
            self._log.error(what, sentence)

    def _well(self, what: str, sentence: str) -> None:
        if self._troubles.pop(what, None):
            self._log.notice(what, sentence)


def _clock_began_s() -> float:
    """What the clock would have said when the one began that nobody sets and that goes on in sleep."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
