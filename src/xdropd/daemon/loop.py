"""The daemon: the order of events, and nothing else.

Text becomes columns (catalogue), columns a desired state, two states a plan, and a plan is carried out (lists). A job
is a generator that is taken a step further between other events, one at a time, so that the socket answers and the
watchdog is fed while a million entries load. Everything that can wait for something waits here, but for the file systems
and for long calculations: those are done by two workers, for which a job waits without holding anybody else.
"""

import contextlib
import errno
import gc
import os
import select
import selectors
import signal
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from xdropd.columns.listing import Listing
from xdropd.daemon.attaching import Attaching
from xdropd.daemon.backoff import Backoff
from xdropd.daemon.blocks import Blocks
from xdropd.daemon.catalogue import Catalogue, Reading
from xdropd.daemon.changes import Changes
from xdropd.daemon.desired import Desired, Written, article, guard_of
from xdropd.daemon.filter import Filter
from xdropd.daemon.lists import Aside, directly
from xdropd.daemon.logcopy import LogCopy
from xdropd.daemon.program import Program
from xdropd.daemon.samples import SampleLog
from xdropd.daemon.settingsfile import SettingsFile
from xdropd.daemon.telling import Fields, Telling
from xdropd.errors import (
    AlreadyRunning,
    CompileError,
    KernelError,
    NotAttachable,
    NotKept,
    Problem,
    RefusedFile,
    XdropdError,
    sentence_of,
)
from xdropd.host import libc
from xdropd.host.blocklog import BlockLog, Record
from xdropd.host.control import ControlServer
from xdropd.host.fileworker import FileWorker, Work
from xdropd.host.log import ERROR, WARNING, Log
from xdropd.host.netlink import Netlink
from xdropd.host.statefolder import StateFolder
from xdropd.host.systemd import Systemd
from xdropd.host.watch import Watcher
from xdropd.rules.narrowed import narrowed
from xdropd.rules.plan import Counted, Plan, plan, touched
from xdropd.rules.winners import State
from xdropd.text import names
from xdropd.text.addresses import Span
from xdropd.text.settings import Settings

_T = TypeVar("_T")

_TICK_SECONDS = 0.5
_RETRY_SECONDS = 5.0
_RETRY_SECONDS_AT_MOST = 60.0
_RECONCILE_SECONDS = 600.0
_SETTLE_SECONDS = 0.25
_KEEP_SECONDS = 5.0  # at the end, half of the unit's TimeoutStopSec
_PATIENCE_SECONDS = 60
_PATIENCE_EVERY_SECONDS = 1.0
_TOLD_AT_MOST = 100
_SILENCE = (
    "the service manager does not read or answer what it is told, so the filter may end when this process does; "
    "see what became of systemd, or start xdropd without NOTIFY_SOCKET"
)
_STEP_SECONDS = 0.01  # of a job, between looks at what else there is to do
_RECORDS_AT_ONCE = 1000

NO_LIST_YET = "no list could be put in force since xdropd started, what was in force before stays in force"

# What any work may meet that is no mistake of ours. What was in force stays, and the next try may succeed.
_Failure = KernelError | CompileError | MemoryError | OSError
FAILURES = (KernelError, CompileError, MemoryError, OSError)


@dataclass(frozen=True, slots=True)
class Places:
    """Where everything is. `state` None: nothing outlives the process. `interfaces` overrides the settings."""

    settings: str
    blocklist: str
    socket: Path
    state: Path | None
    interfaces: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class ReloadResult:
    """How a reload went."""

    at_s: float
    is_ok: bool
    problems: tuple[Problem, ...] = ()


@dataclass(slots=True)
class ReloadRequest:
    """A reload that somebody wants. `accept` is the path of a list file to be taken as it is; `result` comes last."""

    accept: str | None = None
    result: ReloadResult | None = None


@dataclass(slots=True)
class Tally:
    """Numbers for metrics."""

    reloads_ok: int = 0
    reloads_refused: int = 0
    reloads_failed: int = 0
    last_reload_s: float | None = None
    last_success_s: float = 0.0


class Daemon:
    """One run of the daemon. requests.py, which answers the control socket, reads and changes what is public here."""

    def __init__(self, places: Places, systemd: Systemd, log: Log) -> None:
        self.places = places
        self.telling = Telling(log)
        self.settings = Settings()
        self.narrowed: list[str] = []
        self.last_reload = ReloadResult(0.0, is_ok=False)
        self.tally = Tally()
        self.progress = "starting"
        self.is_ready = False  # once it is, a filter is looked after, and nothing outside is a reason to end
        self._ready_at = float("inf")
        self._log = log
        self._systemd = systemd
        self._state = StateFolder(places.state) if places.state else None
        self._settings_file = SettingsFile(places.settings, self._state)
        self.catalogue = Catalogue(places.blocklist, self._state)
        self._log_copy = LogCopy(systemd)
        self.blocks = Blocks(BlockLog(self._state) if self._state else None, self._log_copy)
        self._program = Program(self._state)
        self.filter = Filter(systemd, log, self._program.stamp, self._program.blueprint, self._aside)
        self._netlink = Netlink()
        self.attaching = Attaching(self.filter, self._netlink, self.telling)
        self.desired = Desired()
        self.state: State | None = None
        """What is in force; None before there was any list that this process put there."""
        self._next_end_s = float("inf")
        self._guard: Listing | None = None
        self._samples = SampleLog(log, self.attaching.name_of)
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._files = FileWorker(self._wake)
        self.calculator = FileWorker(self._wake)
        self._reading: Work[Any] | None = None
        self._calculating: Work[Any] | None = None
        self.changes = Changes(lambda: self._calculating is not None)
        self._is_jobs_turn = self._is_ending = False
        self._hung: frozenset[str] = frozenset()
        self._watcher = Watcher(self._on_file_heard)
        self._is_file_heard = False
        self._later_done: list[tuple[Work[Any], Callable[[Work[Any]], None]]] = []
        self._is_looking = False
        self._look_at = 0.0
        self._followed: tuple[frozenset[Path], frozenset[str]] = (frozenset(), frozenset())
        self._job: Iterator[None] | None = None
        self._wanted_reloads: list[ReloadRequest] = []
        self._reloading: ReloadRequest | None = None
        self._wants_reconciliation = False
        self._stop = False
        self._retry_at = self._alive_at = self._follow_host_at = self._patience_at = 0.0
        self._host_changed = False
        self._retry_seconds = _RETRY_SECONDS
        self._keeping, self._blocks_retry = Backoff(), Backoff()
        self._reconcile_at = self._settle_at = float("inf")
        self._clock_s = time.time()

    # ---- life ----

    def run(self, server: ControlServer) -> None:
        """Until SIGTERM or SIGINT. Raises XdropdError where a fresh start is impossible."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        self._selector.register(self._wake_read, selectors.EVENT_READ, self._drain_wake)
        self._selector.register(self._netlink, selectors.EVENT_READ, self._on_netlink)
        server.register(self._selector)
        self._job = self._start()
        try:
            while not self._stop:
                self._turn_or_recover(server)
            self._log.info("stop", "stopping")
            self._systemd.stopping()
            if self.is_ready and self._settle_at < float("inf") and not self._files.hung:
                self._keep_what_is_new()
        finally:
            server.close()

    def _turn_or_recover(self, server: ControlServer) -> None:
        try:
            self._turn(server)
        except FAILURES as failure:
            if self.is_ready:
                self.distrust_kernel(failure)
            elif isinstance(failure, MemoryError):
                raise XdropdError(reason_of(failure)) from failure
            else:
                raise

    def ask_for_reload(self, accept: str | None = None) -> ReloadRequest:
        """Have a reload done for somebody who asks for one, who may have a doubt: reconcile as well, behind it."""
        self._wants_reconciliation = True
        return self.request_reload(accept)

    def request_reload(self, accept: str | None = None) -> ReloadRequest:
        """Have a reload done, or wait for one that is not begun; what is returned has its result once it is."""
        waiting = next((request for request in self._wanted_reloads if request.accept == accept), None)
        if waiting is None:
            waiting = ReloadRequest(accept)
            self._wanted_reloads.append(waiting)
        return waiting

    @property
    def reloads_waiting(self) -> int:
        """How many reloads are wanted and not begun."""
        return len(self._wanted_reloads)

    @property
    def ready_for_s(self) -> float:
        """For how long it has been ready; 0 before that."""
        return max(0.0, time.monotonic() - self._ready_at)

    @property
    def is_busy(self) -> bool:
        """Whether a job is under way that looks at the list, so that it must not be changed from elsewhere.

        While a job waits for files it has not looked at the list yet, and will find whatever it is by then.
        """
        return self._job is not None and self._reading is None

    def _turn(self, server: ControlServer) -> None:
        if self._has_work:
            patience_s = 0.0
        else:
            look_s = _TICK_SECONDS if self._is_looking else self._look_at - time.monotonic()
            due_s = min(look_s, self._next_end_s - time.time(), server.idle_s())
            patience_s = max(0.0, min(_TICK_SECONDS, due_s))
        for key, _ in self._selector.select(patience_s):
            try:
                key.data()
            except OSError as problem:  # of one event, which is no reason to end
                self.telling.once("event", ERROR, "trouble", sentence_of(problem))
        self._work()
        server.turn()
        self._tick()

    @property
    def _has_work(self) -> bool:
        if self._calculating is not None:
            return self._calculating.is_done
        return self._has_job or self.changes.is_under_way or self._may_begin_change

    @property
    def _has_job(self) -> bool:
        """Whether the job at hand could go on, or another begin."""
        if self._reading is not None:
            return self._reading.is_done
        return bool(self._job or self._wanted_reloads or self._wants_reconciliation)

    @property
    def _may_begin_change(self) -> bool:
        return self.is_ready and not self.is_busy and bool(self.changes) and not (self._is_jobs_turn and self._has_job)

    def _work(self) -> None:
        """Take the change or the job at hand a step further, or begin the next one: in turns where both wait."""
        if not self._has_work:
            return
        if self.changes.is_under_way or self._may_begin_change:
            try:
                self.changes.go_on()
            finally:
                self._is_jobs_turn = not self.changes.is_under_way
            return
        self._is_jobs_turn = False
        if self._job is None:
            if self._wanted_reloads:
                self._reloading = self._wanted_reloads.pop(0)
                self._job = self._reload(self._reloading)
            else:
                self._wants_reconciliation = False
                self._job = self._reconcile()
        due_s = time.monotonic() + _STEP_SECONDS
        try:
            for _ in self._job:
                if self._reading is not None or self._calculating is not None or time.monotonic() >= due_s:
                    return
            self._job = self._reloading = None
        except FAILURES as failure:
            self._job = None
            self.tally.reloads_failed += 1
            if self._reloading is not None:
                self._reloading.result = self._failed(failure)
                self._reloading = None
            raise

    def _failed(self, failure: _Failure) -> ReloadResult:
        blocklist = names.shown(self.places.blocklist)
        return ReloadResult(time.time(), False, (Problem(blocklist, 0, 0, reason_of(failure)),))

    def _in_worker(self, call: Callable[[], _T]) -> Generator[None, None, _T]:
        """Have something called that touches files, and wait for it as a part of a job. Raises what it raises."""
        self._reading = work = self._files.submit(call)
        while not work.is_done:
            yield
        self._reading = None
        return work.result()

    def _aside(self, step: Callable[[], _T]) -> Generator[None, None, _T]:
        """Have a long calculation done, and wait for it as a part of a job or change. Raises what it raises."""
        self._calculating = work = self.calculator.submit(step)
        while not work.is_done:
            yield
        self._calculating = None
        return work.result()

    def _later(self, call: Callable[[], _T], then: Callable[[Work[_T]], None]) -> None:
        """Have something called that touches files, and `then` what is to be done about it here. Nobody waits."""
        self._later_done.append((self._files.submit(call), then))

    def distrust_kernel(self, failure: _Failure) -> None:
        """A change failed half-way: what the kernel holds is compared with the list before the next one, soon."""
        who = "the kernel refuses a change" if isinstance(failure, KernelError) else "a change fails"
        if isinstance(failure, NotKept):
            who = "a change has to wait"
        self.telling.trouble("kernel", f"{who}, it will be tried again: {reason_of(failure)}", "kernel")
        self.last_reload = self._failed(failure)
        if self._retry_at <= time.monotonic():  # else it is due already, and further refusals do not put it off
            self._retry_at = time.monotonic() + self._retry_seconds
        self.progress = ""
        self._systemd.ready(self.status_line())

    def _tick(self) -> None:
        now = time.monotonic()
        self._log.flush()
        self._systemd.flush()
        self._tell_silence()
        self._files.supervise(now)
        if self._job is not None and now >= self._patience_at:
            self._patience_at = now + _PATIENCE_EVERY_SECONDS
            self._ask_for_patience()
        while self._later_done and self._later_done[0][0].is_done:
            work, then = self._later_done.pop(0)
            then(work)
        if self.is_ready:
            self._follow_files(now)
            if not self.is_busy and not self.changes.is_under_way:
                self._do_what_is_due(now)
            self._samples.log(self.filter, self.settings, self.state)
        self._feed_watchdog(now)

    def _ask_for_patience(self) -> None:
        """A start or reload takes as long as it takes; what must not happen is that this loop stands still."""
        self._systemd.patience(_PATIENCE_SECONDS)
        if self.progress:
            self._systemd.status(self.progress)

    def _follow_files(self, now: float) -> None:
        """Have the followed files looked at now and then.

        One that got out of reach, or is back, is as good as changed: the next reading tells which.
        """
        if not self._is_looking and (self._is_file_heard or now >= self._look_at):
            self._is_looking, self._is_file_heard = True, False
            self._later(lambda: self._watcher.look(time.monotonic()), self._take_look)
        before, self._hung = self._hung, frozenset(self._files.hung)
        files, patterns = self._followed
        if (before ^ self._hung) & {*map(str, files), *patterns} and not self._wanted_reloads:
            self.request_reload()

    def _take_look(self, look: Work[frozenset[Path | str]]) -> None:
        self._is_looking = False
        self._look_at = time.monotonic() + self._watcher.next_look_s()
        if look.result() and not self._wanted_reloads:
            self.request_reload()

    def _do_what_is_due(self, now: float) -> None:
        self._look_at_clock(time.time())
        if self._host_changed and now >= self._follow_host_at:
            self._follow_host()
        if now >= self._settle_at:
            self._settle_at = float("inf")
            self._settle()
        if "state" in self.telling.troubles and self._keeping.is_due(now):
            self._keep_good_versions()
        if "blocks" in self.telling.troubles and self._blocks_retry.is_due(now):
            self._retry_blocks()
        if self.blocks.wants_compaction and not self.changes:
            self.changes.ask(self._compact_blocks())
        if now >= self._retry_at and self.telling.troubles.keys() & {"kernel", "interfaces"}:
            self._retry_at = now + self._retry_seconds
            if "kernel" in self.telling.troubles:
                self._retry_seconds = min(2 * self._retry_seconds, _RETRY_SECONDS_AT_MOST)
                if not self._wanted_reloads:
                    self.request_reload()
            self._sync_interfaces()
        if now >= self._reconcile_at:
            self._reconcile_at = now + _RECONCILE_SECONDS
            self._wants_reconciliation = True

    def _tell_silence(self) -> None:
        """Who does not answer may not keep anything either."""
        is_silent = self._systemd.is_silent
        if "store" in self.telling.troubles and not is_silent:
            self._retry_at = 0.0  # for what had to wait
        self.telling.trouble("store", _SILENCE if is_silent else "")

    def _feed_watchdog(self, now: float) -> None:
        """Only after looking: the program attached, the maps readable, the watcher alive."""
        interval = self._systemd.watchdog_interval_s
        if not interval or now < self._alive_at:
            return
        self._alive_at = now + interval / 4
        problems: list[str] = []
        if self.is_ready and self.filter.problems():
            self._sync_interfaces()  # an interface that vanished a moment ago is no reason to be restarted
            self.filter.agree()
            problems = self.filter.problems()
        if not self._watcher.is_alive():
            problems.append("the watcher of files has died")
        for problem in problems:
            self.telling.once(f"health {problem}", ERROR, "health", problem)
        if not problems:
            self._systemd.alive()
        self._systemd.status(self.progress or self.status_line())

    def _on_signal(self, number: int, _frame: object) -> None:
        if number == signal.SIGHUP:
            self.ask_for_reload()
        else:
            self._stop = True

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # full: it is awake already
            os.write(self._wake_write, b"\0")

    def _on_file_heard(self) -> None:
        self._is_file_heard = True
        self._wake()

    def _drain_wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 1 << 16)

    def _on_netlink(self) -> None:
        self._host_changed |= bool(self._netlink.changes())

    def _follow_host(self) -> None:
        """Interfaces, addresses or routes changed. A full routing table takes a while: a tenth of the time at most."""
        begun = time.monotonic()
        self._host_changed = False
        self._sync_interfaces()
        if self.state is not None and self._renewed_guard() is not self.desired.guard:
            self.changes.ask(self._renew_guard())
        self._follow_host_at = time.monotonic() + 10 * (time.monotonic() - begun)

    # ---- starting ----

    def _start(self) -> Iterator[None]:
        """Put the list in force. What fails is the end of a fresh start, never of one that has taken over a filter.

        There, what is in force is looked after, whatever becomes of what should be.
        """
        self._hold_state_folder()
        inherited = self._systemd.inherited()
        self._log_copy.adopt(inherited)
        adopted = self.filter.adopt(inherited)
        if adopted:
            self._log.notice("adopt", "took over the running filter")
        with contextlib.suppress(*FAILURES if adopted else ()):  # it fails again below, where it is told
            self._prepare_program()
        self._show_progress("reading the lists")
        refusals = yield from self._load_settings_at_start(adopted)
        self._load_blocks()
        reading: Reading | None = None
        counted = Counted()
        failed: list[_Failure] = []
        with _noting(failed if adopted else None):
            self.filter.agree()
            reading, refused = yield from self._read_lists_at_start(adopted)
            refusals += refused
            yield
            if reading is not None:
                counted = yield from self._change_to(self._desire(reading), time.time())
            else:
                yield from self._renew_filter()
        with _noting(failed if adopted else None):
            self._choose()
            failures = self._attach_interfaces()
            if failures and not adopted and not self.filter.attachments and len(failures) == 1:
                raise NotAttachable(*failures.values())
            self._tell_interfaces(failures)
        if self.state is None:
            self.telling.trouble("takeover", NO_LIST_YET)
        self.is_ready = True
        self._ready_at = time.monotonic()
        self.progress = ""
        self._reconcile_at = time.monotonic() + _RECONCILE_SECONDS
        self._systemd.ready(self.status_line())
        if reading is not None and self.state is not None:
            self._report(reading, counted)
        yield from self._conclude(refusals)
        if failed:
            self.distrust_kernel(failed[0])
        self._log.notice("ready", self.status_line())

    def _hold_state_folder(self) -> None:
        if self._state is None:
            return
        try:
            self._state.hold()
        except BlockingIOError:
            raise AlreadyRunning(
                f"another xdropd keeps its state in {self._state.path}", "stop it, or choose another --state"
            ) from None
        except OSError:
            pass  # told once something is to be kept there

    def _prepare_program(self) -> None:
        """Have it compiled meanwhile, where something must be made of it."""
        if not self.filter.is_current:
            self._program.prepare()

    def _await_program(self) -> Iterator[None]:
        self._prepare_program()
        while self._program.waits(0.05):
            self._show_progress("compiling the BPF program")
            yield

    def _renew_filter(self) -> Iterator[None]:
        """There is no list that can be used: what is in force goes on under this version's programs."""
        yield from self._await_program()
        yield from self.filter.lists.renew(time.time())

    def _show_progress(self, text: str) -> None:
        self.progress = text
        self._systemd.status(text)

    def _load_settings_at_start(self, adopted: bool) -> Generator[None, None, list[Problem]]:
        try:
            self.settings = yield from self._in_worker(self._settings_file.read)
        except RefusedFile as refusal:
            self._tell_refusal(refusal)
            saved = yield from self._in_worker(self._settings_file.last_good)
            if saved is None and not adopted:
                raise
            self.settings = saved or Settings()
            what = "the last good ones" if saved else "the defaults"
            self.telling.trouble("settings", f"the settings file is refused, {what} are in force")
            return refusal.problems
        return []

    def _read_lists_at_start(self, adopted: bool) -> Generator[None, None, tuple[Reading | None, list[Problem]]]:
        try:
            read = yield from self._in_worker(self.catalogue.read)
            reading = self._fit_to_be_used(read)
            return reading, [] if reading else list(read.troubles)
        except RefusedFile as refusal:
            self._tell_refusal(refusal)
            saved = yield from self._in_worker(self.catalogue.read_last_good)
            if saved is None and not adopted:
                raise
            what = "the last good one" if saved else "what was in force before"
            self.telling.trouble("blocklist", f"the blocklist is refused, {what} is in force")
            return saved and self._fit_to_be_used(saved), refusal.problems

    def _fit_to_be_used(self, reading: Reading) -> Reading | None:
        """None where lists could not be found and the kernel alone knows what is in force, them included."""
        if not reading.is_partial or self.state is not None or not self.filter.attachments:
            return reading
        self._tell_lists(reading)
        self.telling.trouble("blocklist", "not all lists can be found, what was in force before is in force")
        return None

    def _load_blocks(self) -> None:
        for sentence in self.blocks.load(time.time()):
            self._log.warning("blocks", sentence)
        self._tell_blocks()

    def _tell_blocks(self) -> None:
        self.telling.trouble("blocks", self.blocks.troubles(), "blocks")
        self._blocks_retry.failed(time.monotonic())

    def _retry_blocks(self) -> None:
        """What is wrong with the log of blocks may be over."""
        if self.blocks.try_again():
            self.changes.ask(self._take_blocks_anew())
        else:
            self._tell_blocks()

    def _take_blocks_anew(self) -> Iterator[None]:
        """Put in force what callers have blocked by the log."""
        self._load_blocks()
        if self.state is not None:
            yield from self._change_to(self._with_blocks(self.blocks.by_source), time.time())

    # ---- reloading ----

    def _reload(self, request: ReloadRequest) -> Iterator[None]:
        begun = time.monotonic()
        self._systemd.reloading()
        if "blocks" in self.telling.troubles:
            self._retry_blocks()
        self._show_progress("reading the lists")
        settings = self.settings
        refusals = yield from self._reload_settings()
        reading = None
        try:
            read = yield from self._in_worker(lambda: self.catalogue.read(request.accept))
            reading = self._fit_to_be_used(read)
            if reading is None:
                refusals += read.troubles
            else:
                self.telling.trouble("blocklist")
        except RefusedFile as refusal:
            refusals += self._tell_refusal(refusal)
            self.telling.trouble("blocklist", "the blocklist is refused, the list before stays in force")
        now_s = time.time()
        yield
        if self._choose() and self.settings == settings:
            self._tell_repaired(1)
        if reading is not None:
            counted = yield from self._change_to(self._desire(reading), now_s)
            self.telling.trouble("takeover")
            self._trust_kernel()
            self._report(reading, counted)
        else:
            yield from self._keep_in_force(now_s)
        self._sync_interfaces()
        self.tally.last_reload_s = time.monotonic() - begun
        request.result = yield from self._conclude(refusals)
        self._systemd.ready(self.status_line())

    def _reload_settings(self) -> Generator[None, None, list[Problem]]:
        try:
            settings = yield from self._in_worker(self._settings_file.read)
        except RefusedFile as refusal:
            told = self._tell_refusal(refusal)
            self.telling.trouble("settings", "the settings file is refused, those before stay in force")
            return told
        self.telling.trouble("settings")
        before = self.settings.as_written()
        for key, value in settings.as_written().items():
            if before[key] != value:
                self._log.notice("settings", f"settings: {key} was {before[key]}, is {value}")
        self.settings = settings
        return []

    def _change_to(self, desired: Desired, now_s: float, aside: Aside | None = None) -> Generator[None, None, Counted]:
        """Put in force what is desired, whatever was before; how many entries came and went.

        Raises KernelError, CompileError, MemoryError or OSError where that fails; nothing here has changed then.
        """
        aside = aside or self._aside
        before, lists = self.state, self.filter.lists
        self.progress = "comparing the lists with those in force"

        def compare() -> tuple[State, Plan | None, Counted]:
            after = desired.state(now_s, self.filter.sources.number_of, before)
            if before is None or "kernel" in self.telling.troubles:
                return after, None, touched(before or State(), after)[1]
            change = plan(before, after)
            return after, change, change.counted

        after, change, counted = yield from aside(compare)
        if change is None:
            yield from self._await_program()
            work, what = lists.begin(after, now_s, aside), f"{after.count} entries"
        else:
            work, what = lists.change(change, now_s, aside), f"{change.count} changes"
        for _ in work:
            self.progress = f"putting {what} in force: {lists.percent} %"
            yield
        self.progress = ""
        self.desired, self.state = desired, after
        self._next_end_s = after.next_end_s
        return counted

    def _desire(self, reading: Reading) -> Desired:
        """What the files say, with what callers have blocked, under the guard that is chosen."""
        file, blocklist = self.catalogue.name, reading.blocklist
        lists = (Written(path, content.listing, reason) for path, content, reason in reading.lists)
        desired = Desired((Written(file, blocklist.block), *lists), (Written(file, blocklist.allow),))
        return replace(desired.with_blocks(self.blocks.by_source), guard=self._renewed_guard())

    def _renewed_guard(self) -> Listing | None:
        """What the guard protects now; the same object as before where that is the same."""
        if not self.settings.guard:
            return None
        guard = guard_of(self._netlink.own_addresses(), self._netlink.gateways())
        if self._guard is None or list(guard.rows()) != list(self._guard.rows()):
            self._guard = guard
        return self._guard

    def _renew_guard(self) -> Iterator[None]:
        """The guard changed, or whether there is one; the lists did not."""
        guard = self._renewed_guard()
        if self.state is not None and guard is not self.desired.guard:
            yield from self._change_to(replace(self.desired, guard=guard), time.time())
            self._settle_at = time.monotonic() + _SETTLE_SECONDS

    def _keep_in_force(self, now_s: float) -> Iterator[None]:
        """The blocklist is refused: the list before it stays, and what failed of that one is tried again."""
        if self.state is None:
            yield from self._renew_filter()
        elif "kernel" in self.telling.troubles:
            yield from self._change_to(replace(self.desired, guard=self._renewed_guard()), now_s)
        else:
            yield from self._renew_guard()
        self._trust_kernel()

    def _trust_kernel(self) -> None:
        self._retry_seconds = _RETRY_SECONDS
        self.telling.trouble("kernel")

    def _report(self, reading: Reading, counted: Counted) -> None:
        self._log.info(
            "reload",
            f"blocklist: {counted.added} added, {counted.removed} removed, {self.count} in force",
            file=self.catalogue.name,
        )
        self._tell_lists(reading)
        self.filter.sources.note_listed(self._source_names, time.time())

    @property
    def _source_names(self) -> set[str]:
        """Of all that lists something."""
        return {source.name for source in self.state.sources} if self.state else set()

    def _tell_lists(self, reading: Reading) -> None:
        places: dict[str, Fields] = {str(each): {"file": each.file, "line": each.line} for each in reading.warnings}
        self.telling.each_once("warnings", WARNING, "list", places)
        self.telling.trouble("lists", {each.file: str(each) for each in reading.troubles}, "list", "file")

    def _tell_refusal(self, refusal: RefusedFile) -> list[Problem]:
        told = refusal.problems[:_TOLD_AT_MOST]
        for problem in told:
            self._log.error("reload", str(problem), file=problem.file, line=problem.line)
        if len(told) < len(refusal.problems):
            more = len(refusal.problems) - len(told)
            self._log.error("reload", f"and {more} more problems, see: xdropctl check", file=told[0].file)
        return told

    def _conclude(self, refusals: list[Problem]) -> Generator[None, None, ReloadResult]:
        """What every reload ends with, whether it was refused or not."""
        self.progress = ""
        self.last_reload = result = ReloadResult(time.time(), not refusals, tuple(refusals))
        if refusals:
            self.tally.reloads_refused += 1
        else:
            self.tally.reloads_ok += 1
            self.tally.last_success_s = time.time()
        files, patterns = self.catalogue.followed()
        self._settle_at = time.monotonic() + _SETTLE_SECONDS
        followed = (files | {self._settings_file.path}, patterns)
        yield from self._in_worker(lambda: self._follow(followed))
        return result

    def _follow(self, followed: tuple[frozenset[Path], frozenset[str]]) -> None:
        """Tell the watcher what matters now, and what was read of it. Called in the worker."""
        if followed != self._followed:
            self._watcher.follow(*followed)
            self._followed = followed
        for path, signature in self.catalogue.signatures().items():
            self._watcher.mark_read(path, signature)
        self._watcher.mark_read(self._settings_file.path, self._settings_file.signature)

    def _settle(self) -> None:
        """What can wait until packets are dropped: keep the good versions, name what the guard narrowed."""
        self._keep_good_versions()
        state = self.state
        if state is not None:
            self._later(lambda: _narrowed(state), self._tell_narrowed)
        if self._watcher.problem:
            self.telling.once("watch", WARNING, "watch", self._watcher.problem)
        _rest()

    def _tell_narrowed(self, work: Work[dict[str, Fields]]) -> None:
        found = work.result()
        self.telling.each_once("narrowed", WARNING, "guard", found)
        self.narrowed = list(found)

    def _keep_good_versions(self) -> None:
        """In the state folder. Without space there it is tried again until there is some, whatever else happens."""
        self._keeping.failed(time.monotonic())  # unless it is told otherwise
        self._later(self._save, self._tell_kept)

    def _keep_what_is_new(self) -> None:
        """For the next process, which may find the files broken. A disk that hangs is not waited for."""
        saving = self._files.submit(self._save)
        until = time.monotonic() + _KEEP_SECONDS
        while not saving.is_done and (left := until - time.monotonic()) > 0:
            select.select([self._wake_read], [], [], left)
            self._drain_wake()

    def _save(self) -> None:
        self.catalogue.save()
        self._settings_file.save()

    def _tell_kept(self, saving: Work[None]) -> None:
        try:
            saving.result()
        except OSError as problem:
            self.telling.trouble("state", f"the last good lists cannot be kept: {problem}")
        else:
            self._keeping.succeeded()
            self.telling.trouble("state")

    def _reconcile(self) -> Iterator[None]:
        """Now and then, and when somebody asks for a reload: what packets meet must be what they should meet."""
        if self.state is None:
            return
        self.filter.agree()
        differing = int(self._choose()) + (yield from self.filter.lists.repair(self.state, time.time(), self._aside))
        self._tell_repaired(differing)
        yield from self.filter.forget_sources(self._source_names, time.time())
        _rest()

    def _tell_repaired(self, places: int) -> None:
        if places:
            what = "1 place, which was" if places == 1 else f"{places} places, which were"
            self._log.warning("reconcile", f"the kernel differed from the list and the settings in {what} repaired")

    # ---- blocks, and what ends ----

    def _compact_blocks(self) -> Iterator[None]:
        with contextlib.suppress(OSError):  # a shorter log can wait
            yield from self.blocks.compact(time.time())

    def change_blocks(self, records: list[Record], now_s: float) -> Iterator[None]:
        """Log a batch and put it in force, or do neither: one of the `changes`.

        Raises XdropdError where the log cannot be written, else as `_change_to`.
        """
        aside = directly if len(records) <= _RECORDS_AT_ONCE else self._aside
        batch = yield from aside(lambda: self.blocks.batch(records))
        with self.blocks.logged(batch):
            yield from self._change_to(self._with_blocks(batch.after), now_s, aside)

    def _with_blocks(self, by_source: Mapping[str, Listing]) -> Desired:
        return self.desired.with_blocks(by_source)

    def _look_at_clock(self, now_s: float) -> None:
        """Entries end, or come back where the clock was set back."""
        jumped_back = now_s < self._clock_s - 1
        self._clock_s = now_s
        if jumped_back:
            self._log.notice("clock", "the clock was set back, entries are looked at again")
            self.changes.ask(self._take_blocks_anew())  # what has ended by one clock may not have by another
            self.request_reload()
        elif self.state is not None and now_s >= self._next_end_s and not self._is_ending:
            self._is_ending = True
            self.changes.ask(self._end_what_is_over())

    def _end_what_is_over(self) -> Iterator[None]:
        self._is_ending = False
        now_s = time.time()
        assert self.state
        over = [
            (source, row) for source in self.state.sources for row in islice(source.listing.ended(now_s), _TOLD_AT_MOST)
        ]
        try:
            after = self.blocks.without_ended(now_s)
            yield from self._change_to(self._with_blocks(after), now_s)
            self.blocks.by_source = after
        except FAILURES:
            self._next_end_s = now_s + self._retry_seconds  # not at every turn
            raise
        for source, row in over[:_TOLD_AT_MOST]:
            span = str(Span(*row[:3]))
            self._log.info("expire", f"{span} of {source.name} has ended", entry=span, source=source.name)

    # ---- interfaces ----

    def _sync_interfaces(self) -> None:
        self._tell_interfaces(self._attach_interfaces())

    def _attach_interfaces(self) -> dict[str, str]:
        return self.attaching.sync(self.places.interfaces or self.settings.interfaces, self.settings.xdp_mode)

    def _tell_interfaces(self, failures: dict[str, str]) -> None:
        self.telling.trouble("interfaces", failures, "interface", "interface")

    # ---- telling ----

    def _choose(self) -> bool:
        """Put settings in force; whether that made a difference."""
        per_minute = self.settings.log_drops_per_minute
        return self.filter.choose(
            log_interval_ns=60_000_000_000 // per_minute if per_minute else 0,
            monitor=self.settings.action == "monitor",
            pass_malformed=self.settings.malformed == "pass",
        )

    @property
    def count(self) -> int:
        """How many entries are in force."""
        return self.state.count if self.state else 0

    def status_line(self) -> str:
        """One line for an operator."""
        names = [
            f"{self.attaching.name_of(ifindex)} ({kept.mode})"
            for ifindex, kept in sorted(self.filter.attachments.items())
        ]
        doing = "monitoring" if self.settings.action == "monitor" else "enforcing"
        degraded = ", degraded" if self.telling.is_degraded else ""
        entries = f"{self.count} entries" if self.state else "what was in force before"
        return f"{doing}{degraded}: {entries} on {', '.join(names) or 'no interface yet'}"


@contextlib.contextmanager
def _noting(failed: list[_Failure] | None) -> Iterator[None]:
    """Go on behind the block if something in it fails, and note what; None: do not go on."""
    try:
        yield
    except FAILURES as failure:
        if failed is None:
            raise
        failed.append(failure)


def reason_of(failure: _Failure) -> str:
    """Why work failed, as a sentence."""
    if isinstance(failure, MemoryError):
        return f"hold the lists in memory: {os.strerror(errno.ENOMEM)}"
    if isinstance(failure, OSError):
        return sentence_of(failure)
    return str(failure)


def _narrowed(state: State) -> dict[str, Fields]:
    """A sentence on each entry that the guard narrows, with the entry and its source; and on those beyond."""
    found: dict[str, Fields] = {}
    for guard in (each for each in state.exempt.sources if each.kind == "guard"):
        cut = narrowed(state, guard, _TOLD_AT_MOST + 1)
        for source, row, keeper in cut[:_TOLD_AT_MOST]:
            entry, kept = str(Span(*row[:3])), Span(*keeper.row[:3])
            sentence = f"{entry} of {source.name} is narrowed by the guard: {kept} is {article(keeper.source)}"
            found[sentence] = {"entry": entry, "source": source.name}
        if len(cut) > _TOLD_AT_MOST:
            found[f"the guard narrows more entries than the {_TOLD_AT_MOST} that are named"] = {}
    return found


def _rest() -> None:
    """After large work: return what it used, and have the garbage collector pass over what has stayed."""
    gc.freeze()
    libc.give_back_memory()
