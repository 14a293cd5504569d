"""The daemon: the order of events, and nothing else.

Text becomes entries (catalogue), entries a wanted state (ruleset), two states a plan (plan), and a plan is carried out
(filter). Long work is a generator that is taken a step further between other events, one at a time, so that the socket
answers and the watchdog is fed while a million entries load. Everything that can wait for something waits here.
"""

import contextlib
import os
import selectors
import signal
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from xdropd.daemon import interfaces
from xdropd.daemon.blocks import Blocks
from xdropd.daemon.catalogue import Catalogue, Reading
from xdropd.daemon.filter import Filter
from xdropd.errors import KernelError, NotAttachable, Problem, RefusedFile
from xdropd.host import libc
from xdropd.host.blocklog import BlockLog
from xdropd.host.control import ControlServer
from xdropd.host.netlink import Interface, Netlink
from xdropd.host.statefolder import StateFolder
from xdropd.host.systemd import Log, Systemd
from xdropd.host.watch import Signature, Watcher, read_file
from xdropd.kernel import compiler
from xdropd.kernel.compiler import Blueprint, Compilation
from xdropd.rules.plan import difference
from xdropd.rules.ruleset import (
    Change,
    Exemption,
    Exemptions,
    Region,
    Ruleset,
    Source,
    nothing,
    source_of,
    successor,
    whole,
)
from xdropd.text import settings as settings_text
from xdropd.text.addresses import Span, parse_span
from xdropd.text.settings import Settings

_TICK_SECONDS = 0.5
_RETRY_SECONDS = 5.0
_RECONCILE_SECONDS = 600.0
_SETTLE_SECONDS = 0.25
_PATIENCE_SECONDS = 60
_NARROWED_AT_MOST = 100
_GOOD_SETTINGS = "last-good/xdropd.yaml"

_LOOPBACK = (
    Exemption(parse_span("127.0.0.0/8"), "guard", "loopback", 0),
    Exemption(parse_span("::1"), "guard", "loopback", 0),
)


@dataclass(frozen=True, slots=True)
class Places:
    """Where everything is. `state` None: nothing outlives the process. `interfaces` overrides the settings."""

    settings: str
    blocklist: str
    socket: Path
    state: Path | None
    interfaces: tuple[str, ...] | None = None


@dataclass(slots=True)
class ReloadResult:
    """How the last reload went."""

    at_s: float
    is_ok: bool
    problems: tuple[Problem, ...] = ()


@dataclass(slots=True)
class Tally:
    """Numbers for metrics."""

    reloads_ok: int = 0
    reloads_refused: int = 0
    reload_seconds: list[float] = field(default_factory=list)
    last_success_s: float = 0.0


class Daemon:
    """One run of the daemon. `requests` (set by the caller) answers the control socket; see requests.py."""

    def __init__(self, places: Places, systemd: Systemd, log: Log) -> None:
        self.places = places
        self.log = log
        self._systemd = systemd
        self.settings = Settings()
        self.ruleset: Ruleset | None = None
        self.narrowed: list[str] = []
        self.troubles: dict[str, tuple[str, ...]] = {}
        self.last_reload = ReloadResult(0.0, is_ok=False)
        self.tally = Tally()
        self.progress = "starting"
        self.is_ready = False
        self.started_s = time.time()
        state = StateFolder(places.state) if places.state else None
        self._state = state
        self._settings_path = Path(places.settings).absolute()
        self._settings_signature: Signature | None = None
        self.catalogue = Catalogue(places.blocklist, state)
        self.blocks = Blocks(BlockLog(state) if state else None)
        self._folder = compiler.source_folder()
        self._compilation: Compilation | None = None
        self._blueprint: Blueprint | None = None
        stamp = compiler.stamp(self._folder)
        self._blueprint_name = f"program/{stamp}.json"
        self.filter = Filter(systemd, log, stamp, self._get_blueprint)
        self.netlink = Netlink()
        self.interface_names: dict[int, str] = {}
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._watcher = Watcher(self._wake)
        self._followed: tuple[frozenset[Path], frozenset[str]] = (frozenset(), frozenset())
        self._job: Iterator[None] | None = None
        self._wanted_jobs: list[tuple[str, str | None]] = []
        self._finished_reloads = 0
        self._stop = False
        self._said: dict[str, str] = {}
        self._retry_at = self._reconcile_at = self._alive_at = 0.0
        self._settle_at = float("inf")
        self._samples_due_ns = 0
        self._clock_s = time.time()
        self._next_end_s = float("inf")

    # ---- life ----

    def run(self, server: ControlServer) -> None:
        """Until SIGTERM or SIGINT. Raises XdropdError where a fresh start is impossible."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        self._selector.register(self._wake_read, selectors.EVENT_READ, self._drain_wake)
        self._selector.register(self.netlink, selectors.EVENT_READ, self._on_netlink)
        server.register(self._selector)
        self._job = self._start()
        while not self._stop:
            self._turn(server)
        self.log.info("stop", "stopping")
        self._systemd.stopping()
        self._watcher.close()
        server.close()

    def request_reload(self, accept: str | None = None) -> int:
        """Have a reload done; `reloads_done` reaches the number returned when it is."""
        self._wanted_jobs.append(("reload", accept))
        return self._finished_reloads + len(self._wanted_jobs) + (self._job is not None and self.is_ready)

    @property
    def is_busy(self) -> bool:
        """Whether long work is under way, so that the list must not be changed from elsewhere."""
        return self._job is not None

    @property
    def reloads_done(self) -> int:
        """How many reloads have come to an end."""
        return self._finished_reloads

    def _turn(self, server: ControlServer) -> None:
        idle = self._job is None and not self._wanted_jobs and not server.wants_a_turn()
        for key, _ in self._selector.select(self._patience_s() if idle else 0 if self._job else 0.01):
            key.data()
        self._work()
        server.turn()
        self._tick()

    def _patience_s(self) -> float:
        until = [_TICK_SECONDS, self._watcher.next_look_s()]
        return max(0.0, min(until))

    def _work(self) -> None:
        if self._job is None:
            if not self._wanted_jobs:
                return
            kind, argument = self._wanted_jobs.pop(0)
            self._job = self._reload(argument) if kind == "reload" else self._reconcile()
        try:
            next(self._job)
        except StopIteration:
            self._job = None
        except KernelError as refusal:
            if not self.is_ready:
                raise
            self._job = None
            self._finished_reloads += 1
            self._kernel_refused(refusal)

    def _kernel_refused(self, refusal: KernelError) -> None:
        self.troubles["kernel"] = (str(refusal),)
        self.log.error("kernel", f"the kernel refuses a change, it will be tried again: {refusal}")
        self.last_reload = ReloadResult(time.time(), False, (Problem(self.places.blocklist, 0, 0, str(refusal)),))
        self._retry_at = time.monotonic() + _RETRY_SECONDS
        self._say_ready()

    def _tick(self) -> None:
        if not self.is_ready:
            self._feed_watchdog(time.monotonic())
            return
        now = time.monotonic()
        clock = time.time()
        if self._watcher.look(now) and not any(kind == "reload" for kind, _ in self._wanted_jobs):
            self._wanted_jobs.append(("reload", None))
        if self._job is None:
            self._end_what_is_over(clock)
            if now >= self._settle_at:
                self._settle_at = float("inf")
                self._settle()
            if now >= self._retry_at and self.troubles.keys() & {"kernel", "interfaces"}:
                self._retry_at = now + _RETRY_SECONDS
                if "kernel" in self.troubles:
                    self._wanted_jobs.append(("reconcile", None))
                self._sync_interfaces()
            if now >= self._reconcile_at and self.ruleset is not None:
                self._reconcile_at = now + _RECONCILE_SECONDS
                self._wanted_jobs.append(("reconcile", None))
        self._log_samples()
        self._feed_watchdog(now)

    def _feed_watchdog(self, now: float) -> None:
        interval = self._systemd.watchdog_interval_s
        if not interval or now < self._alive_at:
            return
        self._alive_at = now + interval / 4
        problems = self.filter.problems() if self.is_ready else []
        for problem in problems:
            self._say_once(f"health {problem}", "error", "health", problem)
        if self._watcher.is_alive():
            self._systemd.alive()
        if self.is_ready:
            self._systemd.status(self.status_line())
        else:
            self._systemd.status(self.progress)

    def _on_signal(self, number: int, _frame: object) -> None:
        if number == signal.SIGHUP:
            self.request_reload()
        else:
            self._stop = True

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # full: it is awake already
            os.write(self._wake_write, b"\0")

    def _drain_wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 1 << 16)

    # ---- starting ----

    def _get_blueprint(self) -> Blueprint:
        """The BPF program, compiled if no compiled form of exactly this text is in the state folder."""
        if self._blueprint is None:
            self._start_compiling()
        if self._blueprint is None:
            assert self._compilation
            self._blueprint = self._compilation.result()
            self._compilation = None
            self._keep_blueprint(self._blueprint)
        return self._blueprint

    def _start_compiling(self) -> None:
        kept = self._saved(self._blueprint_name)
        if kept is not None:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                self._blueprint = Blueprint.from_json(kept)
        if self._blueprint is None and self._compilation is None:
            self._compilation = Compilation(self._folder)

    def _keep_blueprint(self, blueprint: Blueprint) -> None:
        if self._state is None:
            return
        with contextlib.suppress(OSError):  # told when the lists are kept; compiling again costs half a second
            self._state.keep_only("program", set())
            self._state.save(self._blueprint_name, blueprint.to_json())

    def _start(self) -> Iterator[None]:
        adopted = self.filter.adopt(self._systemd.inherited())
        if adopted:
            self.filter.agree()
            self.log.notice("adopt", "took over the running filter")
        if not adopted or not self.filter.is_current:
            self._start_compiling()
        yield
        self._load_settings_at_start(adopted)
        reading = self._read_lists_at_start(adopted)
        for sentence in self._load_blocks():
            self.log.error("blocks", sentence)
        now_s = time.time()
        yield
        if reading is not None:
            ruleset, change = self._compose(reading, now_s, fresh=True)
            self._set_progress(f"putting {sum(source.count for source in ruleset.sources)} entries in force")
            yield
            if adopted:
                generation = self.filter.generation
                assert generation
                plan = difference(generation.layout(), ruleset.whole_layout())
                yield from self._patiently(self.filter.change(plan, _never, now_s))
            else:
                yield from self._patiently(self.filter.start(ruleset, now_s))
            self.ruleset = ruleset
        self._choose()
        self._sync_interfaces(at_start=not adopted)
        self.is_ready = True
        self.progress = ""
        self._say_ready()
        if reading is not None:
            self._report(reading, change)
        if not self.last_reload.problems:
            self.last_reload = ReloadResult(time.time(), is_ok=reading is not None)
        self._after_reload()
        self._say_ready()
        self.log.notice("ready", self.status_line())

    def _patiently(self, work: Iterator[None]) -> Iterator[None]:
        asked = time.monotonic()
        for _ in work:
            if time.monotonic() - asked > 1:
                asked = time.monotonic()
                self._systemd.patience(_PATIENCE_SECONDS)
            yield

    def _set_progress(self, text: str) -> None:
        self.progress = text
        if not self.is_ready:
            self._systemd.status(text)

    def _load_settings_at_start(self, adopted: bool) -> None:
        try:
            self.settings = self._read_settings()
        except RefusedFile as refusal:
            self._refused(refusal)
            saved = self._saved(_GOOD_SETTINGS)
            if saved is not None:
                self.settings = settings_text.read(saved, self.places.settings)
            elif not adopted:
                raise
            self.troubles["settings"] = ("the settings file is refused, the last good one is in force",)

    def _read_lists_at_start(self, adopted: bool) -> Reading | None:
        try:
            return self.catalogue.read()
        except RefusedFile as refusal:
            self._refused(refusal)
            reading = self.catalogue.read_last_good()
            if reading is None and not adopted:
                raise
            what = "the last good one" if reading else "what was"
            self.troubles["blocklist"] = (f"the blocklist is refused, {what} is in force",)
            return reading

    def _load_blocks(self) -> list[str]:
        try:
            return self.blocks.load(time.time())
        except OSError as problem:
            return [f"the log of blocks cannot be read: {problem}"]

    def _saved(self, name: str) -> bytes | None:
        try:
            return self._state.load(name) if self._state else None
        except OSError:
            return None

    # ---- reloading ----

    def _read_settings(self) -> Settings:
        try:
            data, self._settings_signature = read_file(self._settings_path)
        except FileNotFoundError:
            self._settings_signature = None
            return Settings()
        except OSError as problem:
            self._settings_signature = None
            raise RefusedFile([Problem(self.places.settings, 0, 0, f"cannot be read: {problem.strerror}")]) from problem
        return settings_text.read(data, self.places.settings)

    def _reload(self, accept: str | None) -> Iterator[None]:
        begun = time.monotonic()
        now_s = time.time()
        self._systemd.reloading()
        refusals: list[Problem] = []
        try:
            self.settings = self._read_settings()
            self.troubles.pop("settings", None)
        except RefusedFile as refusal:
            refusals += self._refused(refusal)
            self.troubles["settings"] = ("the settings file is refused, the ones before stay in force",)
        reading = None
        try:
            reading = self.catalogue.read(accept)
            self.troubles.pop("blocklist", None)
        except RefusedFile as refusal:
            refusals += self._refused(refusal)
            self.troubles["blocklist"] = ("the blocklist is refused, the list before stays in force",)
        yield
        self._choose()
        if reading is not None:
            change = yield from self._put_in_force(reading, now_s)
            self._report(reading, change)
        else:
            yield from self._guard_anew(now_s)
        self._sync_interfaces()
        self.last_reload = ReloadResult(time.time(), not refusals, tuple(refusals))
        self.tally.reload_seconds.append(time.monotonic() - begun)
        del self.tally.reload_seconds[:-1]
        if refusals:
            self.tally.reloads_refused += 1
        else:
            self.tally.reloads_ok += 1
            self.tally.last_success_s = time.time()
        self._after_reload()
        self._finished_reloads += 1
        self._say_ready()

    def _put_in_force(self, reading: Reading, now_s: float) -> Generator[None, None, Change]:
        ruleset, change = self._compose(reading, now_s, fresh=self.ruleset is None)
        yield
        if self.ruleset is None:
            generation = self.filter.generation
            assert generation
            before, after = generation.layout(), ruleset.whole_layout()
        else:
            change.region.update(self.ruleset.exempt_changes(ruleset))
            before, after = self.ruleset.layout(change.region), ruleset.layout(change.region)
        plan = difference(before, after)
        yield
        yield from self._patiently(self.filter.change(plan, _lister(ruleset), now_s))
        self.ruleset = ruleset
        self.troubles.pop("kernel", None)
        return change

    def _guard_anew(self, now_s: float) -> Iterator[None]:
        """The guard or the settings changed, the lists did not."""
        if self.ruleset is None:
            return
        ruleset = Ruleset(self.ruleset.sources, self._exemptions(self._allowed()))
        region = self.ruleset.exempt_changes(ruleset)
        if region:
            plan = difference(self.ruleset.layout(region), ruleset.layout(region))
            yield from self.filter.change(plan, _lister(ruleset), now_s)
            self.ruleset = ruleset
            self._settle_at = time.monotonic() + _SETTLE_SECONDS

    def _allowed(self) -> list[Exemption]:
        assert self.ruleset
        return [item for item in self.ruleset.exemptions.items if item.kind == "allow"]

    def _compose(self, reading: Reading, now_s: float, *, fresh: bool) -> tuple[Ruleset, Change]:
        """The wanted state, and what it touches of the present one (nothing is said of that for a fresh start)."""
        known = {} if fresh or self.ruleset is None else {source.name: source for source in self.ruleset.sources}
        change = Change()
        sources: list[Source] = []
        texts = [(self.catalogue.absolute, reading.blocklist.block, "")]
        texts += [(path, content.listing, reason) for path, content, reason in reading.lists]
        for name, listing, reason in texts:
            before = known.pop(name, None)
            if before is not None:
                source, touched = successor(before, listing, now_s, reason)
                change.update(touched)
            else:
                source = source_of(name, self.filter.sources.number_of(name), listing, now_s, reason)
                change.added += source.count
                if not fresh:
                    change.region.update(whole(source))
            sources.append(source)
        for gone in known.values():
            if gone.is_file:
                change.removed += gone.count
                change.region.update(whole(gone))
        sources += [self._block_source(name) for name in self.blocks.by_source]
        allow = [
            Exemption(entry.span, "allow", self.catalogue.absolute, entry.line)
            for entry in reading.blocklist.allow
            if entry.until is None or entry.until > now_s
        ]
        return Ruleset(sources, self._exemptions(allow)), change

    def _block_source(self, name: str) -> Source:
        sources = self.ruleset.sources if self.ruleset else ()
        known = next((source for source in sources if source.name == name and not source.is_file), None)
        return known or Source(
            name, self.filter.sources.number_of(name), nothing(), self.blocks.by_source[name], is_file=False
        )

    def _exemptions(self, allow: list[Exemption]) -> Exemptions:
        if not self.settings.guard:
            return Exemptions(allow)
        guard = [*_LOOPBACK]
        guard += (Exemption(span, "guard", "address of this host", 0) for span in sorted(self.netlink.own_addresses()))
        guard += (Exemption(span, "guard", "gateway", 0) for span in sorted(self.netlink.gateways()))
        return Exemptions(allow + guard)

    def know_block_source(self, name: str) -> None:
        """Make a source of a caller's blocks known to the ruleset, once."""
        assert self.ruleset
        if all(source.is_file or source.name != name for source in self.ruleset.sources):
            self.ruleset = Ruleset((*self.ruleset.sources, self._block_source(name)), self.ruleset.exemptions)

    def change_blocks(self, region: Region) -> "_BlockChange":
        """Bracket a change of `blocks`: use as a context manager. Raises KernelError if the kernel refuses."""
        return _BlockChange(self, region)

    def _report(self, reading: Reading, change: Change) -> None:
        assert self.ruleset
        in_force = sum(source.count for source in self.ruleset.sources)
        self.log.info(
            "reload",
            f"blocklist: {change.added} added, {change.removed} removed, {in_force} in force",
            file=self.catalogue.absolute,
        )
        for warning in reading.warnings:
            self._say_once(f"warning {warning}", "warning", "list", str(warning), file=warning.file, line=warning.line)
        for trouble in reading.troubles:
            self._say_once(f"trouble {trouble}", "error", "list", str(trouble), file=trouble.file)
        self._set_trouble("lists", tuple(map(str, reading.troubles)))
        self.note_ends()

    def _name_narrowed(self) -> None:
        assert self.ruleset
        found = []
        for source, span, guard in self.ruleset.narrowed_by_guard():
            found.append(f"{span} of {source.name} is narrowed by the guard: {guard.span} is {_article(guard.source)}")
            if len(found) >= _NARROWED_AT_MOST:
                break
        for sentence in found:
            self._say_once(f"guard {sentence}", "warning", "guard", sentence)
        self.narrowed = found

    def _refused(self, refusal: RefusedFile) -> list[Problem]:
        for problem in refusal.problems:
            self.log.error("reload", str(problem), file=problem.file, line=problem.line)
        self.last_reload = ReloadResult(time.time(), False, tuple(refusal.problems))
        return refusal.problems

    def _after_reload(self) -> None:
        reading = self.catalogue.followed()
        files = reading[0] | {self._settings_path}
        if (files, reading[1]) != self._followed:
            self._followed = (files, reading[1])
            self._watcher.follow(files, reading[1])
        for path, signature in self.catalogue.signatures().items():
            self._watcher.mark_read(path, signature)
        self._watcher.mark_read(self._settings_path, self._settings_signature)
        self._settle_at = time.monotonic() + _SETTLE_SECONDS

    def _settle(self) -> None:
        """What can wait until packets are dropped: keep the good versions, sort, give memory back."""
        try:
            self.catalogue.save()
            if self._state and "settings" not in self.troubles:
                self._save_settings()
            self._set_trouble("state", ())
        except OSError as problem:
            self._set_trouble("state", (f"the last good lists cannot be kept: {problem}",))
        if self.ruleset:
            for source in self.ruleset.sources:
                for members in source.members.values():
                    _ = members.sorted
            self._name_narrowed()
        libc.give_back_memory()

    def _save_settings(self) -> None:
        assert self._state
        try:
            data, _ = read_file(self._settings_path)
        except FileNotFoundError:
            return
        if data != self._saved(_GOOD_SETTINGS):
            self._state.save(_GOOD_SETTINGS, data)

    def _reconcile(self) -> Iterator[None]:
        if self.ruleset is None:
            return
        wanted = self.ruleset.whole_layout()
        yield
        plan = self.filter.repair(wanted, time.time())
        yield
        if plan:
            self.log.warning("reconcile", f"the maps differed from the list in {plan.steps} places and were repaired")
        if "kernel" in self.troubles:
            self.troubles.pop("kernel")
            self.request_reload()
        del wanted
        libc.give_back_memory()

    # ---- time ----

    def _end_what_is_over(self, now_s: float) -> None:
        jumped_back = now_s < self._clock_s - 1
        self._clock_s = now_s
        if self.ruleset is None or (now_s < self._next_end_s and not jumped_back):
            return
        if jumped_back:
            self.log.notice("clock", "the clock was set back, entries are looked at again")
            self._load_blocks()
            self.request_reload()
            return
        region = Region()
        over: list[tuple[Source, Span]] = []
        for source in self.ruleset.sources:
            for span, entry in source.entries.items():
                if entry.until is not None and entry.until <= now_s:
                    over.append((source, span))
        region.add(span for _, span in over)
        with self.change_blocks(region):
            for source, span in over:
                source.entries.pop(span)
        self.note_ends()
        for source, span in over[:_NARROWED_AT_MOST]:
            self.log.info("expire", f"{span} of {source.name} has ended", entry=str(span), source=source.name)

    def note_ends(self) -> None:
        """Find out when the next entry ends."""
        assert self.ruleset
        ends = (
            entry.until
            for source in self.ruleset.sources
            for entry in source.entries.values()
            if entry.until is not None
        )
        self._next_end_s = min(ends, default=float("inf"))

    # ---- interfaces ----

    def _on_netlink(self) -> None:
        changes = self.netlink.changes()
        if not self.is_ready or self.is_busy:
            if changes and self.is_busy and self.is_ready:
                self._wanted_jobs.append(("reload", None))
            return
        if changes & {"links", "routes"}:
            self._sync_interfaces()
        if changes & {"addresses", "routes", "links"}:
            for _ in self._guard_anew(time.time()):
                pass

    def _sync_interfaces(self, *, at_start: bool = False) -> None:
        names = self.places.interfaces or self.settings.interfaces
        there = self.netlink.interfaces()
        routes = self.netlink.default_route_interfaces() if names is None else set()
        choice = interfaces.choose(names, there, routes, self.filter.attachments.keys())
        self.interface_names = {index: interface.name for index, interface in there.items()}
        for ifindex, kept in list(self.filter.attachments.items()):
            mode_changed = self.settings.xdp_mode not in ("auto", kept.mode)
            if ifindex not in choice.wanted or not kept.is_attached or mode_changed:
                self.filter.release(ifindex)
                name = self.interface_names.get(ifindex, f"index {ifindex}")
                self.log.notice("detach", f"{name}: let go", interface=name)
        failures = {f"{name}: {reason}": name for name, reason in choice.refused.items()}
        for name in choice.absent:
            self._say_once(f"absent {name}", "warning", "interface", f"{name}: no such interface yet", interface=name)
        for ifindex in sorted(choice.wanted - self.filter.attachments.keys()):
            failure = self._attach(there[ifindex])
            if failure:
                failures[f"{there[ifindex].name}: {failure}"] = there[ifindex].name
        if failures and at_start and not self.filter.attachments and not choice.absent:
            raise NotAttachable("\n".join(failures))
        for sentence, name in failures.items():
            self._say_once(f"interface {name}", "error", "interface", sentence, interface=name)
        for name in set(self.interface_names.values()) - set(failures.values()):
            self._said.pop(f"interface {name}", None)
            self._said.pop(f"absent {name}", None)
        self._set_trouble("interfaces", tuple(failures))

    def _attach(self, interface: Interface) -> str:
        """Why it failed; "" if it did not."""
        if interface.xdp_program:
            occupant: dict[str, object] = {"id": interface.xdp_program}
        else:
            occupant = {}
        try:
            reason = self.filter.attach(interface.index, self.settings.xdp_mode, occupant)
        except NotAttachable as refusal:
            return refusal.message
        except KernelError as refusal:
            return str(refusal)
        mode = self.filter.attachments[interface.index].mode
        self.log.notice("attach", f"{interface.name}: attached in {mode} mode", interface=interface.name)
        if reason:
            self.log.warning(
                "attach",
                f"{interface.name}: generic mode, which is slower: the driver refuses native mode ({reason})",
                interface=interface.name,
            )
        return ""

    # ---- telling ----

    def _choose(self) -> None:
        per_minute = self.settings.log_drops_per_minute
        self.filter.choose(
            log_interval_ns=60_000_000_000 // per_minute if per_minute else 0,
            monitor=self.settings.action == "monitor",
            pass_malformed=self.settings.malformed == "pass",
        )

    def _log_samples(self) -> None:
        for sample in self.filter.samples():
            now_ns = time.monotonic_ns()
            per_minute = self.settings.log_drops_per_minute
            if not per_minute or now_ns < self._samples_due_ns:
                continue
            self._samples_due_ns = (
                now_ns + 50_000_000_000 // per_minute
            )  # the kernel keeps the rate; this only trims races
            source = Span(sample.version, int.from_bytes(sample.source, "big"), int.from_bytes(sample.source, "big"))
            listed = self.filter.generation and self.filter.generation.listed_in(sample.cell) if sample.cell else None
            entry = str(listed.span if listed else source)
            name = self.interface_names.get(sample.ifindex, f"index {sample.ifindex}")
            verb = "would drop" if self.settings.action == "monitor" else "dropped"
            self.log.info(
                "drop",
                f"{verb} {sample.length_bytes} bytes from {source} on {name}, listed as {entry}",
                interface=name,
                entry=entry,
            )

    @property
    def is_degraded(self) -> bool:
        """Whether something that was asked for is not in force."""
        return any(self.troubles.values())

    def status_line(self) -> str:
        """One line for an operator."""
        count = sum(source.count for source in self.ruleset.sources) if self.ruleset else 0
        names = [
            f"{self.interface_names.get(ifindex, ifindex)} ({kept.mode})"
            for ifindex, kept in sorted(self.filter.attachments.items())
        ]
        doing = "monitoring" if self.settings.action == "monitor" else "enforcing"
        degraded = ", degraded" if self.is_degraded else ""
        return f"{doing}{degraded}: {count} entries on {', '.join(names) or 'no interface yet'}"

    def _say_ready(self) -> None:
        self._systemd.ready(self.status_line())

    def _set_trouble(self, name: str, sentences: tuple[str, ...]) -> None:
        if sentences:
            if name == "state":
                self._say_once(name, "error", "state", sentences[0])
            self.troubles[name] = sentences
        else:
            self.troubles.pop(name, None)
            self._said.pop(name, None)

    def _say_once(self, key: str, level: str, event: str, message: str, **fields: str | int) -> None:
        if self._said.get(key) != message:
            self._said[key] = message
            getattr(self.log, level)(event, message, **fields)


class _BlockChange:
    """What `Daemon.change_blocks` returns: the state before is taken on entry, the plan carried out on leaving."""

    def __init__(self, daemon: Daemon, region: Region) -> None:
        self._daemon = daemon
        self._region = region

    def __enter__(self) -> None:
        assert self._daemon.ruleset
        self._before = self._daemon.ruleset.layout(self._region)

    def __exit__(self, kind: type[BaseException] | None, problem: BaseException | None, trace: object) -> None:
        if problem is not None:
            return
        ruleset = self._daemon.ruleset
        assert ruleset
        plan = difference(self._before, ruleset.layout(self._region))
        for _ in self._daemon.filter.change(plan, _lister(ruleset), time.time()):
            pass


def _lister(ruleset: Ruleset) -> Callable[[int, int, int], bool]:
    by_number = {source.number: source for source in ruleset.sources}

    def lists(version: int, key: int, number: int) -> bool:
        source = by_number.get(number)
        return source is not None and source.has_address(version, key)

    return lists


def _never(_version: int, _key: int, _number: int) -> bool:
    return False


def _article(what: str) -> str:
    return "the loopback network" if what == "loopback" else f"an {what}" if what[0] in "aeiou" else f"a {what}"
