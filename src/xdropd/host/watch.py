"""Which of the followed files have changed and may be read now, and reading one in one piece.

Lives here: hearing of changes (inotify, through watchdog), seeing them (stat), and judging when a writer is done.
Events are hints that save waiting; `stat` is the authority and finds within a second what no event told: bind mounts,
network file systems, folders that were renamed away, an inotify that is exhausted or has gone deaf.
Not here: what is in the files. The only file that imports watchdog (2.2 and 6.0 alike).
"""

# mypy: allow-untyped-calls
# ruff: noqa: PTH115, PTH116, PTH118, PTH120, PTH123, PTH207
# watchdog 2.2 has no annotations, 6.0 has. Paths are plain strings below the interface: they are taken apart, compared
# and looked up at every event.

import contextlib
import enum
import fnmatch
import glob
import os
import stat
import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from errno import EAGAIN, EFBIG, EINVAL, EISDIR, EMFILE, ENOSPC
from pathlib import Path

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
    FileSystemMovedEvent,
)
from watchdog.observers.api import ObservedWatch
from watchdog.observers.inotify import InotifyObserver
from watchdog.observers.inotify_buffer import InotifyBuffer
from watchdog.observers.inotify_c import Inotify

# How often everything is looked at, whatever is heard.
_LOOK_S = 0.5
# How long a file has to stay as it is before it may be read:
_PAUSE_S = 1.0  # it was written to, as events told, and not closed
_STEADY_S = 0.4  # it was written to, as only stat told
_SWAPPED_S = 0.05  # another file is in its place, as only stat told; its events may be on their way
_GONE_S = 0.4  # it is not there: many editors take the old one away before they write the new one
# How long it may change without pause before it is read all the same; one that only grows is being downloaded.
_PATIENCE_S = 2.0
_PATIENCE_GROWING_S = 30.0
_WRITING_LOOK_S = 0.1  # how often to look while a writer is at work, for its single writes do not wake anybody

_DOUBT_S = 10.0  # a watch that said nothing about a change is taken anew, but not more often than this
_RETRY_S = 60.0  # after inotify was exhausted
_MOVES_AT_MOST = 1000  # then a watch is taken anew, for watchdog remembers every move that it ever heard of
_RACY_S = 0.05  # two changes within one tick of the kernel's clock (4 ms, 10 ms at most) leave the same times
_LINKS_AT_MOST = 40  # as in the kernel (MAXSYMLINKS)
_READS_AT_MOST = 5

# A path with a NUL or a lone surrogate in it names no file; Python says so with a ValueError.
_NO_SUCH_FILE = (OSError, ValueError)

# watchdog keeps a "moved from" back for half a second to pair it with a "moved to", everything behind it waits as
# well, and it measures that by the wall clock. The pairs are of no use here.
InotifyBuffer.delay = 0.0

_EXHAUSTED = {
    ENOSPC: "inotify watches are used up: changes are noticed within a second; raise fs.inotify.max_user_watches",
    EMFILE: "inotify instances are used up: changes are noticed within a second; raise fs.inotify.max_user_instances",
}

Step = tuple[str, str]  # (real folder, name in it)


class StillBeingWritten(OSError):
    """A file changed each time it was read."""


@dataclass(frozen=True, slots=True)
class Signature:
    """What stat(2) tells of a file's identity and content; equal signatures, equal content, one tick's grace apart."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> "Signature":
        """From stat(2) or fstat(2)."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def read_file(path: Path, limit_bytes: int = 1 << 30) -> tuple[bytes, Signature]:
    """The whole of a regular file as it was at one moment, and what it looked like then.

    Raises OSError: IsADirectoryError, FileNotFoundError and their like; EINVAL for what is no regular file (it is not
    even opened: a device could act on that); EFBIG above the limit; StillBeingWritten if it changed at every attempt.
    """
    for _ in range(_READS_AT_MOST):
        try:
            _refuse_irregular(os.stat(path), path)
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        except ValueError as error:
            raise OSError(EINVAL, f"Not a path ({error})", str(path)) from error
        with open(descriptor, "rb", buffering=0) as file:
            before = os.fstat(descriptor)
            _refuse_irregular(before, path)
            parts: list[bytes] = []
            left = limit_bytes + 1
            # The size is no more than a good guess: files in /proc have none, and others grow.
            while left > 0 and (part := file.read(min(left, max(before.st_size + 1, 1 << 16)))):
                parts.append(part)
                left -= len(part)
            if left <= 0:
                raise OSError(EFBIG, f"Larger than {limit_bytes} bytes", str(path))
            signature = Signature.of(before)
            if Signature.of(os.fstat(descriptor)) == signature:
                return parts[0] if len(parts) == 1 else b"".join(parts), signature
    raise StillBeingWritten(EAGAIN, "Still being written", str(path))


def _refuse_irregular(status: os.stat_result, path: Path) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(EISDIR, os.strerror(EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(EINVAL, "Not a regular file", str(path))


def matching(pattern: str) -> frozenset[str]:
    """The paths that a glob pattern stands for now: `*`, `?` and `[...]`, never across a slash, dot files excluded."""
    try:
        return frozenset(glob.glob(pattern))
    except _NO_SUCH_FILE:
        return frozenset()


class _Hint(enum.IntEnum):
    """What an event says about a file."""

    TOUCHED = 1  # somebody is at it, or it is gone
    DONE = 2  # closed after writing, or renamed to this name


@dataclass(slots=True)
class _File:
    """One followed file, and what is known of its writer."""

    path: str
    trail: tuple[Step, ...] = ()
    read: Signature | None = None  # what the reader read; None: nothing
    told: Signature | None = None  # what it was told to read
    seen: Signature | None = None
    since_s: float | None = None  # when it was first seen to differ; None: it does not
    changed_s: float = 0.0
    quiet_s: float = 0.0
    grows: bool = True
    is_heard: bool = False

    def judge(self, signature: Signature | None, hint: _Hint | None, is_relinked: bool, now_s: float) -> bool:
        """True if the file may be read now and holds, or may hold, something else than was read.

        A close or a rename counts even if the signature is the same: kernels before 6.13 keep times by the tick.
        """
        if hint is _Hint.DONE and signature is not None:
            self.is_heard = True
            return self._tell(signature)
        if signature in {self.read, self.told}:
            self.seen, self.since_s = signature, None
            return False
        is_first = self.since_s is None
        if self.since_s is None:
            self.since_s, self.grows, self.is_heard = now_s, True, False
        self.is_heard = self.is_heard or hint is not None
        if is_first or signature != self.seen:
            is_swapped = _is_another(signature, self.seen)
            if not is_first and signature and self.seen:
                self.grows = self.grows and not is_swapped and signature.size > self.seen.size
            self.quiet_s = 0.0 if is_relinked else _SWAPPED_S if is_swapped else _STEADY_S
            self.seen, self.changed_s = signature, now_s
        if signature is None:
            self.quiet_s = _GONE_S
        elif self.is_heard and not is_relinked:
            self.quiet_s = _PAUSE_S
        return self.due_s() <= now_s and self._tell(signature)

    def due_s(self) -> float:
        """When it may be read, if nothing happens before."""
        if self.since_s is None:
            return float("inf")
        due_s = self.changed_s + self.quiet_s
        if self.seen is None:
            return due_s
        return min(due_s, self.since_s + (_PATIENCE_GROWING_S if self.grows else _PATIENCE_S))

    def is_being_written(self) -> bool:
        """A writer was heard and did not say that it is done."""
        return self.since_s is not None and self.is_heard

    def _tell(self, signature: Signature | None) -> bool:
        self.seen = self.told = signature
        self.since_s = None
        return True


@dataclass(slots=True)
class _Pattern:
    """One followed glob pattern: the folders that decide what it stands for, and what was told of it."""

    text: str
    told: frozenset[str] = frozenset()
    matches: frozenset[str] = frozenset()
    fresh: dict[str, _File] = field(default_factory=dict)  # matches not told of yet
    gone_since_s: float | None = None
    stamps: dict[str, tuple[int, ...]] = field(default_factory=dict)
    steps: frozenset[Step] = frozenset()  # on the way to those folders
    folders: dict[str, set[str]] = field(default_factory=dict)  # real folder: what names in it are matched with
    is_racy: bool = True

    def scan(self) -> None:
        """Look through the folders anew. Their stamps are taken first, so that a change meanwhile is not lost."""
        parts = self.text.split("/")
        first = next((number for number, part in enumerate(parts) if glob.has_magic(part)), len(parts) - 1)
        self.stamps.clear()
        steps: set[Step] = set()
        self.folders = {}
        for number in range(first, len(parts)):
            prefix = "/".join(parts[:number]) or "/"
            for folder in matching(prefix) if number > first else (prefix,):
                self.stamps[folder] = _stamp(folder)
                steps.update(_trail(folder))
                self.folders.setdefault(os.path.realpath(folder), set()).add(parts[number])
        self.steps = frozenset(steps)
        self.is_racy = any(stamp and stamp[2] / 1e9 > time.time() - _RACY_S for stamp in self.stamps.values())
        self.matches = matching(self.text)

    def is_stale(self, hints: Mapping[Step, _Hint]) -> bool:
        """True if the folders may hold other matches than at the last scan."""
        return (
            self.is_racy
            or any(_stamp(folder) != stamp for folder, stamp in self.stamps.items())
            or any(step in self.steps or step[0] in self.folders for step in hints)
        )

    def judge(self, is_some_ready: bool, now_s: float) -> bool:
        """True if the set of matching files is another one and should be told."""
        if self.told <= self.matches:
            self.gone_since_s = None
        elif self.gone_since_s is None:
            self.gone_since_s = now_s
        if not is_some_ready and self.due_s() > now_s:
            return False
        self.told, self.gone_since_s = self.matches, None
        self.fresh.clear()
        return True

    def due_s(self) -> float:
        """When a vanished match counts as gone."""
        return float("inf") if self.gone_since_s is None else self.gone_since_s + _GONE_S


@dataclass(slots=True)
class _Wanted:
    """What matters in one folder."""

    names: set[str] = field(default_factory=set)
    components: set[str] = field(default_factory=set)  # of glob patterns

    def holds(self, name: str) -> bool:
        """True for a name to hear of."""
        return name in self.names or any(_fits(name, component) for component in self.components)


_MEANING: dict[type[FileSystemEvent], _Hint] = {
    FileClosedEvent: _Hint.DONE,
    FileCreatedEvent: _Hint.TOUCHED,
    FileModifiedEvent: _Hint.TOUCHED,
    FileDeletedEvent: _Hint.TOUCHED,
    DirCreatedEvent: _Hint.TOUCHED,
    DirDeletedEvent: _Hint.TOUCHED,
}


class _Ear(FileSystemEventHandler):
    """Listens to one folder for names that matter. Runs in watchdog's thread."""

    def __init__(
        self,
        folder: str,
        identity: tuple[int, int],
        wanted: _Wanted,
        heard: Callable[[Step, _Hint], None],
        now_s: float,
    ) -> None:
        self.folder = folder
        self.identity = identity
        self.wanted = wanted
        self.armed_s = now_s
        self.moves = 0
        self.watch: ObservedWatch | None = None
        self._heard = heard

    def dispatch(self, event: FileSystemEvent) -> None:
        """Take one event. Kinds are listed: watchdog 6.0 also reports that files, by us too, are opened and read."""
        if isinstance(event, FileSystemMovedEvent):
            self.moves += 1
            self._hear(event.src_path, _Hint.TOUCHED)
            self._hear(event.dest_path, _Hint.DONE)
        elif type(event) in _MEANING:
            self._hear(event.src_path, _MEANING[type(event)])

    def _hear(self, path: bytes | str | None, hint: _Hint) -> None:
        if path:  # a move from or to elsewhere has one end only
            folder, name = os.path.split(os.fsdecode(path))
            if folder == self.folder and self.wanted.holds(name):
                self._heard((folder, name), hint)


class Watcher:
    """Follows files by their paths, whatever these paths lead to from one moment to the next.

    `wake` is called from another thread when there is something to look at; it must not block, wait for the thread
    that looks, or raise. Times are seconds of one clock that never goes back (time.monotonic), the caller's.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._files: dict[Path, _File] = {}
        self._patterns: dict[str, _Pattern] = {}
        self._ears: dict[str, _Ear] = {}
        self._wanted: dict[str, _Wanted] = {}
        self._is_rewired = False  # what is wanted of which folder has to be worked out again
        self._problem = ""
        self._retry_s = float("-inf")
        self._next_look_s = 0.0
        self._lock = threading.Lock()  # guards the two that follow
        self._hints: dict[Step, _Hint] = {}
        self._being_written: frozenset[Step] = frozenset()
        self._observer = self._start()

    @property
    def problem(self) -> str:
        """Why changes are noticed late, and the remedy; empty if they are not."""
        return self._problem

    def is_alive(self) -> bool:
        """True if events are listened to. `look` works without, and starts anew what died."""
        return self._observer.is_alive()

    def next_look_s(self) -> float:
        """Seconds until `look` should be called again at the latest, counted from its last call."""
        return self._next_look_s

    def close(self) -> None:
        """Stop listening."""
        self._ears.clear()
        if self._observer.is_alive():
            self._observer.stop()
            self._observer.join()

    def follow(self, files: Iterable[Path], patterns: Iterable[str] = ()) -> None:
        """Follow these absolute paths and glob patterns from now on, and nothing else.

        What was followed before keeps its state. Of a new pattern, those matches count as known that are among `files`;
        a new file counts as not read. Call `look` soon, it takes the watches.
        """
        paths = set(files)
        known = {str(path) for path in paths}
        self._files = {path: self._files.get(path) or _File(str(path), _trail(str(path))) for path in paths}
        followed = {}
        for text in patterns:
            pattern = self._patterns.get(text)
            if pattern is None:
                pattern = _Pattern(text)
                pattern.scan()
                pattern.told = pattern.matches & known
            followed[text] = pattern
        self._patterns = followed
        self._is_rewired = True
        self._next_look_s = 0.0

    def mark_read(self, path: Path, signature: Signature | None) -> None:
        """Say what was read of a followed file; None: nothing, for it is not there or not readable.

        A file that could not be read is told again when it changes, not before.
        """
        file = self._files.get(path)
        if file is not None:
            file.read = signature
            if signature is not None:
                file.told = signature

    def look(self, now_s: float) -> frozenset[Path | str]:
        """The files that may be read now and hold, or may hold, something else than was read, or are gone; and the
        patterns that stand for other files than before. Each is told once, until it changes again.
        """
        is_upset = self._drop_lost_ears()
        self._listen(now_s)  # before looking: what happens from here on is either seen below or heard
        with self._lock:
            hints, self._hints = self._hints, {}
        told: set[Path | str] = set()
        told.update(path for path, file in self._files.items() if self._judge(file, hints, is_upset, now_s))
        told.update(text for text, item in self._patterns.items() if self._judge_pattern(item, hints, is_upset, now_s))
        was_rewired = self._is_rewired
        self._listen(now_s)
        self._plan_next_look(now_s, was_rewired)
        return frozenset(told)

    def _judge(self, file: _File, hints: Mapping[Step, _Hint], is_upset: bool, now_s: float) -> bool:
        signature = _signature(file.path)
        is_relinked = False
        if is_upset or _is_another(signature, file.seen) or any(step in hints for step in file.trail):
            trail = _trail(file.path)
            if trail != file.trail:
                # A link was swapped: no writer to wait for. (A trail of one step has no link in it.)
                is_relinked = len(trail) > 1
                file.trail = trail
                self._is_rewired = True
            signature = _signature(file.path)
        is_ready = file.judge(signature, hints.get(file.trail[-1]) if file.trail else None, is_relinked, now_s)
        if is_ready and not file.is_heard and signature is not None:
            self._doubt(file.trail, now_s)
        return is_ready

    def _judge_pattern(self, pattern: _Pattern, hints: Mapping[Step, _Hint], is_upset: bool, now_s: float) -> bool:
        if is_upset or pattern.is_stale(hints):
            before = pattern.steps, pattern.folders
            pattern.scan()
            fresh = pattern.matches - pattern.told
            self._is_rewired |= before != (pattern.steps, pattern.folders) or fresh != pattern.fresh.keys()
            pattern.fresh = {path: pattern.fresh.get(path) or _File(path, _trail(path)) for path in fresh}
        ready = [path for path, file in pattern.fresh.items() if self._judge(file, hints, is_upset, now_s)]
        return pattern.judge(bool(ready), now_s)

    def _plan_next_look(self, now_s: float, was_rewired: bool) -> None:
        files = self._all_files()
        writing = [file for file in files if file.is_being_written()]
        with self._lock:
            self._being_written = frozenset(file.trail[-1] for file in writing if file.trail)
        dues_s = [file.due_s() for file in files] + [pattern.due_s() for pattern in self._patterns.values()]
        due_s = min(dues_s, default=float("inf"))
        at_most_s = 0.0 if was_rewired else _WRITING_LOOK_S if writing else _LOOK_S
        self._next_look_s = max(0.0, min(at_most_s, due_s - now_s))

    def _all_files(self) -> list[_File]:
        return [*self._files.values(), *(file for item in self._patterns.values() for file in item.fresh.values())]

    # Listening

    def _heard(self, step: Step, hint: _Hint) -> None:
        with self._lock:
            before = self._hints.get(step)
            if before is not None and before >= hint:
                return
            self._hints[step] = hint
            is_news = hint is _Hint.DONE or step not in self._being_written
        if is_news:
            self._wake()

    def _start(self) -> InotifyObserver:
        observer = InotifyObserver(generate_full_events=True)  # or else "moved to" from elsewhere reads "created"
        with contextlib.suppress(RuntimeError):  # no more threads; the next look tries again
            observer.start()
        return observer

    def _drop_lost_ears(self) -> bool:
        """Forget watches that lost their folder or their thread, or are worn. True if there were any."""
        if not self._observer.is_alive():
            self._observer.unschedule_all()
            self._observer = self._start()
            self._ears.clear()
            return True
        dead = {emitter.watch.path for emitter in self._observer.emitters if not emitter.is_alive()}
        lost = [
            ear
            for ear in self._ears.values()
            if ear.folder in dead or _identity(ear.folder) != ear.identity or ear.moves > _MOVES_AT_MOST
        ]
        for ear in lost:
            self._drop(ear)
        return bool(lost)

    def _doubt(self, trail: tuple[Step, ...], now_s: float) -> None:
        """Nothing was heard of a change: the watches of its folders may be deaf, after an overflow for one."""
        for folder, _ in trail:
            ear = self._ears.get(folder)
            if ear is not None and now_s - ear.armed_s >= _DOUBT_S:
                self._drop(ear)
                self._is_rewired = True

    def _drop(self, ear: _Ear) -> None:
        del self._ears[ear.folder]
        if ear.watch is not None:
            self._observer.unschedule(ear.watch)

    def _listen(self, now_s: float) -> None:
        """Watch every folder that matters and no other, as far as inotify goes."""
        if self._is_rewired:
            self._is_rewired = False
            self._wanted = self._what_matters()
            for ear in list(self._ears.values()):
                if ear.folder in self._wanted:
                    ear.wanted = self._wanted[ear.folder]
                else:
                    self._drop(ear)
        if now_s >= self._retry_s:
            self._problem = ""
            for folder in self._wanted.keys() - self._ears.keys():
                self._arm(folder, now_s)

    def _what_matters(self) -> dict[str, _Wanted]:
        wanted: defaultdict[str, _Wanted] = defaultdict(_Wanted)
        for folder, name in (step for file in self._all_files() for step in file.trail):
            wanted[folder].names.add(name)
        for pattern in self._patterns.values():
            for folder, name in pattern.steps:
                wanted[folder].names.add(name)
            for folder, components in pattern.folders.items():
                wanted[folder].components.update(components)
        return dict(wanted)

    def _arm(self, folder: str, now_s: float) -> None:
        """Take a watch, unless there is nothing to watch or inotify is exhausted."""
        identity = _identity(folder)
        # watchdog 2.2 takes EACCES for success, and its thread then never ends.
        if identity is None or not os.access(folder, os.R_OK) or self._problem:
            return
        ear = _Ear(folder, identity, self._wanted[folder], self._heard, now_s)
        try:
            ear.watch = self._observer.schedule(ear, folder)
        except (OSError, RuntimeError) as error:  # RuntimeError: no more threads
            _close_what_watchdog_lost(error)
            if _identity(folder) == identity:
                number = error.errno if isinstance(error, OSError) else None
                otherwise = f"inotify does not watch {folder} ({error}): changes are noticed within a second"
                self._problem = _EXHAUSTED.get(number or 0, otherwise)
                self._retry_s = now_s + _RETRY_S
        else:
            self._ears[folder] = ear


def _close_what_watchdog_lost(error: BaseException) -> None:
    """When inotify_add_watch(2) fails, watchdog (up to 6.0) drops an object that holds open descriptors."""
    selves = (frame.f_locals.get("self") for frame, _ in traceback.walk_tb(error.__traceback__))
    lost = next((found for found in selves if isinstance(found, Inotify)), None)
    for name in ("_inotify_fd", "_kill_r", "_kill_w"):
        descriptor = getattr(lost, name, None)
        if descriptor is not None:
            os.close(descriptor)


def _signature(path: str) -> Signature | None:
    try:
        return Signature.of(os.stat(path))
    except _NO_SUCH_FILE:
        return None


def _is_another(one: Signature | None, other: Signature | None) -> bool:
    """True unless both are the same file, whatever is in it, or both none."""
    if one is None or other is None:
        return one is not other
    return (one.device, one.inode) != (other.device, other.inode)


def _identity(folder: str) -> tuple[int, int] | None:
    try:
        status = os.stat(folder)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _stamp(folder: str) -> tuple[int, ...]:
    """Changes whenever a name in the folder does; empty if there is no folder."""
    try:
        status = os.stat(folder)
    except _NO_SUCH_FILE:
        return ()
    return status.st_dev, status.st_ino, status.st_mtime_ns


def _fits(name: str, component: str) -> bool:
    """True if a name matches one component of a glob pattern, as glob.glob has it."""
    is_hidden = name.startswith(".") and not component.startswith(".")
    return not is_hidden and fnmatch.fnmatchcase(name, component)


def _trail(path: str) -> tuple[Step, ...]:
    """Where the kernel passes a symbolic link on its way to an absolute path, and where it arrives: the file itself
    or the first name that is missing.
    """
    steps: list[Step] = []
    folder = "/"
    names = path.split("/")[::-1]
    while names:
        name = names.pop()
        if name in {"", "."}:
            continue
        if name == "..":
            folder = os.path.dirname(folder)
            continue
        here = os.path.join(folder, name)
        try:
            target = os.readlink(here)
        except _NO_SUCH_FILE as error:
            is_no_link = isinstance(error, OSError) and error.errno == EINVAL
            if is_no_link and any(rest not in {"", "."} for rest in names):
                folder = here
                continue
            steps.append((folder, name))
            break
        steps.append((folder, name))
        if len(steps) > _LINKS_AT_MOST:
            break
        if target.startswith("/"):
            folder = "/"
        names += target.split("/")[::-1]
    return tuple(steps)
