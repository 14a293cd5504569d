"""The fetcher: what is due is fetched, several hosts at a time and one URL of each; what came takes its place.

An attempt's content is renamed over the last one only when all of it is there and looks like a list, and how the URL
fares is written after it: killed between the two, the fetcher finds the URL due again. The journal hears of changes:
that a URL came for the first time, that it fails, that it is back.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from xdropd.fetch import due
from xdropd.fetch.turns import Turns
from xdropd.host import fetched
from xdropd.host.fetched import State, Wanted
from xdropd.host.log import Log
from xdropd.text import names

if TYPE_CHECKING:
    from xdropd.fetch.attempt import Attempt, Limits, Outcome
    from xdropd.fetch.download import Answer

_AT_ONCE = 4
_FORGOTTEN_AFTER_S = 7 * 86_400  # a blocklist that lost its includes by mistake has so long to get them back
_FOLDER_MODE = 0o755
_CHARACTERS_OF_A_FAILURE = 500
ATTEMPT_PREFIX = ".attempt-"
"""What the folders of attempts are called."""


class Fetcher:
    """Fetches into a folder, which it has for itself while it is entered: another one waits for its turn."""

    def __init__(self, folder: Path, log: Log, limits: Limits | None = None) -> None:
        self._folder = folder
        self._log = log
        self._limits = limits

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the folder, made if need be, and without what a killed fetcher left. Raises OSError."""
        self._make_folder(self._folder)
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            for left in fetched.left_behind(self._folder):
                left.unlink(missing_ok=True)
            for left in self._folder.glob(f"{ATTEMPT_PREFIX}*"):
                shutil.rmtree(left, ignore_errors=True)  # which follows no link
            yield
        finally:
            os.close(descriptor)

    def _make_folder(self, folder: Path) -> None:
        """And those above it, whatever the umask: the daemon is another user. What is there stays as it is."""
        if folder.is_dir():
            return
        if folder.parent != folder:
            self._make_folder(folder.parent)
        with contextlib.suppress(FileExistsError):  # by another fetcher, or no folder, which is found out next
            folder.mkdir(mode=_FOLDER_MODE)
            folder.chmod(_FOLDER_MODE)

    def due(self, wanted: Iterable[Wanted]) -> list[Wanted]:
        """Those that are to be fetched now."""
        now_s = time.time()
        return [
            each
            for each in wanted
            if due.is_due(each, fetched.read_state(self._folder, each.url), self._has_come(each.url), now_s)
        ]

    def fetch(self, wanted: Iterable[Wanted]) -> dict[str, str]:
        """Fetch these, due or not. By URL what went wrong, "" if it went well. Raises OSError: the folder's trouble."""
        # What speaks HTTP takes a tenth of a second to load, and most times that somebody looks, nothing is due.
        from multiprocessing.connection import wait

        waiting = list(dict.fromkeys(wanted))
        running: dict[str, Attempt] = {}  # by host
        results: dict[str, str] = {}
        with Turns() as turns:
            try:
                while waiting or running:
                    for each in list(waiting):
                        host = _host_of(each.url)
                        if host not in running and len(running) < _AT_ONCE:
                            waiting.remove(each)
                            running[host] = self._begun(each, turns)
                    first_end_s = min(attempt.ends_at_s for attempt in running.values())
                    ready = wait([each.receiver for each in running.values()], max(0.0, first_end_s - time.monotonic()))
                    for host, attempt in list(running.items()):
                        if attempt.receiver in ready or attempt.ends_at_s <= time.monotonic():
                            results[attempt.wanted.url] = self._settle(attempt.wanted, attempt.outcome())
                            attempt.close()
                            del running[host]
            finally:
                for attempt in running.values():
                    attempt.close()
        return results

    def forget(self, wanted: Iterable[Wanted]) -> None:
        """Remove what belongs to URLs that nobody has wanted for a week. Raises OSError."""
        kept = {each.url for each in wanted}
        now_s = time.time()
        for state in fetched.read_states(self._folder):
            if state.url in kept:
                if state.unwanted_since is not None:
                    state.unwanted_since = None
                    fetched.write_state(self._folder, state)
            elif state.unwanted_since is None or state.unwanted_since > now_s:
                state.unwanted_since = now_s
                fetched.write_state(self._folder, state)
            elif now_s - state.unwanted_since > _FORGOTTEN_AFTER_S:
                fetched.list_path(self._folder, state.url).unlink(missing_ok=True)
                fetched.state_path(self._folder, state.url).unlink(missing_ok=True)
                self._log.info("forgotten", f"{state.url}: nobody wants it any more, its files are removed")

    def _has_come(self, url: str) -> bool:
        return fetched.list_path(self._folder, url).is_file()

    def _begun(self, wanted: Wanted, turns: Turns) -> Attempt:
        from xdropd.fetch.attempt import USUAL, Attempt
        from xdropd.fetch.download import NOTHING_BEFORE, Before

        state = fetched.read_state(self._folder, wanted.url)
        before = NOTHING_BEFORE
        # What is not there, or is not what is wanted now, is fetched whatever the server thinks that we have.
        is_what_is_wanted = state is not None and (not wanted.sha256 or state.has_sum(wanted.sha256))
        if state is not None and is_what_is_wanted and self._has_come(wanted.url):
            before = Before(state.etag, state.last_modified)
        folder = Path(tempfile.mkdtemp(prefix=ATTEMPT_PREFIX, dir=self._folder))
        return Attempt(wanted, before, folder, self._limits or USUAL, turns)

    def _settle(self, wanted: Wanted, outcome: Outcome) -> str:
        """Have what came take its place, and tell how it went."""
        now_s = time.time()
        state = fetched.read_state(self._folder, wanted.url) or State(wanted.url)
        setting = due.setting_of(wanted)
        if state.setting != setting:
            state.interval_s = wanted.every_s  # until the server asks for more once again
        state.tried_at, state.setting, state.asked = now_s, setting, wanted.asked
        chance = random.random()  # noqa: S311  # jitter
        if outcome.answer is None:
            pause_s = self._failed(wanted, state, outcome, chance)
        else:
            pause_s = self._succeeded(wanted, state, outcome.answer, outcome.content, chance)
            state.fetched_at, state.failure, state.failures = now_s, None, 0
        state.next_at = now_s + pause_s
        state.unwanted_since = None
        fetched.write_state(self._folder, state)
        return state.failure or ""

    def _succeeded(self, wanted: Wanted, state: State, answer: Answer, content: Path | None, chance: float) -> float:
        """The content takes its place, if it is another one. The seconds until the URL is due again."""
        what = "not modified"
        if content is not None:
            if state.sha256 != answer.sha256 or not self._has_come(wanted.url):
                self._disown(wanted.url)
                fetched.publish(content, fetched.list_path(self._folder, wanted.url))
                state.changed_at = time.time()
                what = "has come"
            state.sha256, state.sha256_coded = answer.sha256, answer.sha256_coded
        state.etag, state.last_modified = answer.etag, answer.last_modified
        state.interval_s = due.interval_s(wanted.every_s, answer.least_s)
        if state.failures:
            self._log.notice("fetch", f"{wanted.url}: {what}, after it had failed", source=wanted.url)
        elif state.fetched_at is None:
            self._log.notice("fetch", f"{wanted.url}: {what}", source=wanted.url)
        return due.pause_after_success_s(state.interval_s, chance)

    def _disown(self, url: str) -> None:
        """Say nothing of the content any more: another one takes its place before it is told what that is."""
        state = fetched.read_state(self._folder, url)
        if state is not None and state.sha256 is not None:
            state.sha256 = state.sha256_coded = state.etag = state.last_modified = None
            fetched.write_state(self._folder, state)

    def _failed(self, wanted: Wanted, state: State, outcome: Outcome, chance: float) -> float:
        """What came before stays. The seconds until the next attempt."""
        kept = "what came last stays" if self._has_come(wanted.url) else "it has never come yet"
        if not state.failures:
            self._log.warning("fetch", f"{wanted.url}: {outcome.failure}; {kept}", source=wanted.url)
        state.failures += 1
        state.failures_total += 1
        state.failure = names.printable(outcome.failure)[:_CHARACTERS_OF_A_FAILURE]
        first_s = due.first_pause_s(outcome.was_answered, outcome.was_sent_away)
        return due.pause_after_failure_s(wanted.every_s, state.failures, first_s, outcome.retry_after_s, chance)


def _host_of(url: str) -> str:
    """Whom it is asked of. What is no URL, which whoever fetches it tells, has nobody to share."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return url
