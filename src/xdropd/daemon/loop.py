"""The loop: the order of events, and nothing else.

A job (the start, a reload, a reconciliation) and a change (what callers block, what ends) are generators that are taken
a step further between other events, so that the socket answers and the watchdog is fed while a million entries load.
"""

import signal
import time
from collections.abc import Iterator

from xdropd.daemon.failures import FAILURES, reason_of
from xdropd.daemon.parts import Parts
from xdropd.daemon.reloads import reload
from xdropd.daemon.startup import start
from xdropd.daemon.wanted import ReloadRequest
from xdropd.errors import XdropdError
from xdropd.host.control import ControlServer

_TICK_SECONDS = 0.5
_STEP_SECONDS = 0.01  # of a job, between looks at what else there is to do


class Loop:
    """One run of the daemon."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._job: Iterator[None] | None = None
        self._reloading: ReloadRequest | None = None
        self._is_jobs_turn = False
        self._stop = False

    def run(self, server: ControlServer) -> None:
        """Until SIGTERM or SIGINT. Raises XdropdError where a fresh start is impossible."""
        parts = self._parts
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        signal.set_wakeup_fd(parts.reactor.wake_write, warn_on_full_buffer=False)
        parts.reactor.hear(parts.netlink, parts.host.hear)
        server.register(parts.reactor.selector)
        self._job = start(parts)
        try:
            while not self._stop:
                self._turn_or_recover(server)
            parts.log.info("stop", "stopping")
            parts.systemd.stopping()
            if parts.progress.is_ready:
                parts.keeping.keep_before_the_end()
        finally:
            server.close()

    def _on_signal(self, number: int, _frame: object) -> None:
        if number == signal.SIGHUP:
            self._parts.ask_for_reload()
        else:
            self._stop = True

    def _turn_or_recover(self, server: ControlServer) -> None:
        try:
            self._turn(server)
        except FAILURES as failure:
            if self._parts.progress.is_ready:
                self._parts.trust.lose(failure)
            elif self._job is not None:
                pass  # the start goes on: it meets the same, such as no memory, or it does not matter
            elif isinstance(failure, MemoryError):
                raise XdropdError(reason_of(failure)) from failure
            else:
                raise

    def _turn(self, server: ControlServer) -> None:
        patience_s = 0.0
        if not self._has_work:
            parts = self._parts
            due_s = min(parts.following.due_s(_TICK_SECONDS), parts.expiry.due_s, server.idle_s())
            if self._is_free:
                due_s = min(due_s, parts.host.due_s)
            patience_s = max(0.0, min(_TICK_SECONDS, due_s))
        self._parts.reactor.wait(patience_s)
        if self._has_work:
            self._work()
        server.turn()
        self._tick()

    # ---- work ----

    @property
    def _has_work(self) -> bool:
        if self._parts.reactor.is_calculating:
            return not self._parts.reactor.is_stuck
        return self._has_job or self._parts.changes.is_under_way or self._may_begin_change

    @property
    def _has_job(self) -> bool:
        """Whether the job at hand could go on, or another begin."""
        if self._parts.reactor.is_reading:
            return not self._parts.reactor.is_stuck
        return bool(self._job or self._parts.wanted or self._parts.reconciling.is_wanted)

    @property
    def _is_busy(self) -> bool:
        """Whether a job is under way that looks at the list, so that it must not be changed from elsewhere.

        While a job waits for files it has not looked at the list yet, and will find whatever it is by then.
        """
        return self._job is not None and not self._parts.reactor.is_reading

    @property
    def _is_free(self) -> bool:
        """Whether what is due may be done."""
        return self._parts.progress.is_ready and not self._is_busy and not self._parts.changes.is_under_way

    @property
    def _may_begin_change(self) -> bool:
        is_free = self._parts.progress.is_ready and not self._is_busy and not (self._is_jobs_turn and self._has_job)
        return is_free and bool(self._parts.changes)

    def _work(self) -> None:
        """Take the change or the job at hand a step further, or begin the next one: in turns where both wait."""
        changes = self._parts.changes
        if changes.is_under_way or self._may_begin_change:
            try:
                changes.go_on()
            finally:
                self._is_jobs_turn = not changes.is_under_way
            return
        self._is_jobs_turn = False
        if self._job is None:
            self._job = self._next_job()
        try:
            if self._is_over(self._job):
                self._job = self._reloading = None
        except FAILURES as failure:
            self._job = None
            self._parts.results.failed += 1
            if self._reloading is not None:
                self._reloading.result = self._parts.results.of_failure(failure)
                self._reloading = None
            raise

    def _next_job(self) -> Iterator[None]:
        if not self._parts.wanted:
            return self._parts.reconciling.reconcile()
        self._reloading = self._parts.wanted.take()
        return reload(self._parts, self._reloading)

    def _is_over(self, job: Iterator[None]) -> bool:
        """Take steps of a job for a moment; whether that was all."""
        reactor, due_s = self._parts.reactor, time.monotonic() + _STEP_SECONDS
        for _ in job:  # noqa: SIM110  # a loop says that something is done
            if reactor.is_reading or reactor.is_calculating or time.monotonic() >= due_s:
                return False
        return True

    # ---- what is due ----

    def _tick(self) -> None:
        now, parts = time.monotonic(), self._parts
        parts.log.flush()
        parts.systemd.flush()
        parts.health.tell_silence()
        parts.reactor.files.supervise(now)
        if self._job is not None:
            parts.health.ask_for_patience(now)
        parts.reactor.take_done()
        if parts.progress.is_ready:
            parts.following.look(now)
            if self._is_free:
                self._do_what_is_due(now)
            parts.samples.log(parts.filter, parts.settings.in_force, parts.lists.state)
        parts.health.feed_watchdog(now)

    def _do_what_is_due(self, now: float) -> None:
        parts = self._parts
        parts.expiry.look_at_clock()
        parts.host.follow(now)
        parts.proving.look_after(now)
        parts.onwards.look_after(now)
        parts.settling.settle(now)
        parts.keeping.look_after(now)
        parts.fetching.look_after(now)
        parts.handover.look_after(now)
        parts.blocking.look_after(now)
        if parts.trust.is_due(now):
            if parts.lists.is_doubtful:
                parts.wanted.ask_for_any()
            parts.host.sync_interfaces()
        parts.reconciling.look_after(now)
