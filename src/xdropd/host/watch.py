"""Which of the followed files have changed and may be read now.

Lives here: hearing of changes (inotify, through watchdog) and seeing them (stat). Events are hints that save waiting;
`stat` is the authority and finds within a second what no event told, or told late: bind mounts, network file systems,
folders that were renamed away, an inotify that is exhausted or has gone deaf, events that watchdog keeps back to pair
the two ends of a move. Whether a writer is done is judged in `followed.py`.
A file system may hang: then a FileWorker looks, and whatever it touches may be where a look ends, to be begun anew.
What a look has learned by then is kept for the next one.
Not here: what is in the files. The only file that imports watchdog (2.2 and 6.0 alike).
"""

# mypy: allow-untyped-calls
# ruff: noqa: PTH116
# watchdog 2.2 has no annotations, 6.0 has. Paths are plain strings below the interface: they are taken apart, compared
# and looked up at every event.

import contextlib
import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from errno import EMFILE, ENOSPC
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

from xdropd import memory
from xdropd.host.files import Signature, signature_of
from xdropd.host.fileworker import NoAnswer, touch
from xdropd.host.followed import FollowedFile, FollowedPattern, Hint, Step, is_another, trail_of
from xdropd.host.globs import fits

# How often everything is looked at, whatever is heard.
_LOOK_S = 0.5
_WRITING_LOOK_S = 0.1  # how often to look while a writer is at work, for its single writes do not wake anybody

_DOUBT_S = 10.0  # a watch that said nothing about a change is taken anew, but not more often than this
# After inotify was exhausted, the first time and at most: with each failure watchdog (up to 6.0) loses descriptors.
_RETRY_S = 60.0
_RETRY_S_AT_MOST = 86_400.0
_MOVES_AT_MOST = 1000  # then a watch is taken anew, for watchdog remembers every move that it ever heard of

_EXHAUSTED = {
    ENOSPC: "inotify watches are used up: changes are noticed within a second; raise fs.inotify.max_user_watches",
    EMFILE: "inotify instances are used up: changes are noticed within a second; raise fs.inotify.max_user_instances",
}


@dataclass(slots=True)
class _Wanted:
    """What matters in one folder."""

    names: set[str] = field(default_factory=set)
    components: set[str] = field(default_factory=set)  # of glob patterns

    def holds(self, name: str) -> bool:
        """True for a name to hear of."""
        return name in self.names or any(fits(name, component) for component in self.components)


_MEANING: dict[type[FileSystemEvent], Hint] = {
    FileClosedEvent: Hint.DONE,
    FileCreatedEvent: Hint.TOUCHED,
    FileModifiedEvent: Hint.TOUCHED,
    FileDeletedEvent: Hint.TOUCHED,
    DirCreatedEvent: Hint.TOUCHED,
    DirDeletedEvent: Hint.TOUCHED,
}


class _Ear(FileSystemEventHandler):
    """Listens to one folder for names that matter. Runs in watchdog's thread."""

    def __init__(
        self,
        folder: str,
        identity: tuple[int, int],
        wanted: _Wanted,
        heard: Callable[[Step, Hint], None],
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
            self._hear(event.src_path, Hint.TOUCHED)
            self._hear(event.dest_path, Hint.DONE)
        elif type(event) in _MEANING:
            self._hear(event.src_path, _MEANING[type(event)])

    def _hear(self, path: bytes | str | None, hint: Hint) -> None:
        if path:  # a move from or to elsewhere has one end only
            folder, name = os.path.split(os.fsdecode(path))
            if folder == self.folder and self.wanted.holds(name):
                self._heard((folder, name), hint)


class Watcher:
    """Follows files by their paths, whatever these paths lead to from one moment to the next.

    `follow`, `mark_read` and `look` are for one thread at a time. `wake` is called from another one when there is
    something to look at; it must not block, wait for the thread that looks, or raise. Times are seconds of one clock
    that never goes back (time.monotonic), the caller's.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._files: dict[Path, FollowedFile] = {}
        self._patterns: dict[str, FollowedPattern] = {}
        self._ears: dict[str, _Ear] = {}
        self._wanted: dict[str, _Wanted] = {}
        self._is_rewired = False  # what is wanted of which folder has to be worked out again
        self._problem = ""
        self._retry_s, self._pause_s = float("-inf"), _RETRY_S
        self._next_look_s = 0.0
        # Of the look under way, or of one that was given up:
        self._is_upset = False
        self._is_arming = False
        self._taken: dict[Step, Hint] = {}
        self._told: set[Path | str] = set()
        self._lock = threading.Lock()  # guards the two that follow
        self._hints: dict[Step, Hint] = {}
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
        self._files = {path: self._files.get(path) or _followed(str(path)) for path in paths}
        followed = {}
        for text in patterns:
            pattern = self._patterns.get(text)
            if pattern is None:
                pattern = FollowedPattern(text)
                with contextlib.suppress(NoAnswer):
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
        self._is_upset |= self._drop_lost_ears()
        self._listen(now_s)  # before looking: what happens from here on is either seen below or heard
        with self._lock:
            for step, hint in self._hints.items():
                self._taken[step] = max(hint, self._taken.get(step, hint))
            self._hints = {}
        self._told.update(path for path, file in self._files.items() if self._judge(file, now_s))
        self._told.update(text for text, item in self._patterns.items() if self._judge_pattern(item, now_s))
        was_rewired = self._is_rewired
        self._listen(now_s)
        self._plan_next_look(now_s, was_rewired)
        told = frozenset(self._told)
        self._is_upset, self._taken, self._told = False, {}, set()
        return told

    def _judge(self, file: FollowedFile, now_s: float) -> bool:
        try:
            signature = signature_of(file.path)
            is_relinked = False
            if self._is_upset or is_another(signature, file.seen) or any(step in self._taken for step in file.trail):
                trail = trail_of(file.path)
                if trail != file.trail:
                    # A link was swapped: no writer to wait for. (A trail of one step has no link in it.)
                    is_relinked = len(trail) > 1
                    file.trail = trail
                    self._is_rewired = True
                signature = signature_of(file.path)
        except NoAnswer:
            return False  # nothing is known of it
        is_ready = file.judge(signature, self._taken.get(file.trail[-1]) if file.trail else None, is_relinked, now_s)
        if is_ready and not file.is_heard and signature is not None:
            self._doubt(file.trail, now_s)
        return is_ready

    def _judge_pattern(self, pattern: FollowedPattern, now_s: float) -> bool:
        if self._is_upset or pattern.is_stale(self._taken):
            before = pattern.steps, pattern.folders
            try:
                pattern.scan()
            except NoAnswer:
                return False
            fresh = pattern.matches - pattern.told
            self._is_rewired |= before != (pattern.steps, pattern.folders) or fresh != pattern.fresh.keys()
            pattern.fresh = {path: pattern.fresh.get(path) or _followed(path) for path in fresh}
        ready = [path for path, file in pattern.fresh.items() if self._judge(file, now_s)]
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

    def _all_files(self) -> list[FollowedFile]:
        return [*self._files.values(), *(file for item in self._patterns.values() for file in item.fresh.values())]

    # Listening

    def _heard(self, step: Step, hint: Hint) -> None:
        with self._lock:
            before = self._hints.get(step)
            if before is not None and before >= hint:
                return
            self._hints[step] = hint
            is_news = hint is Hint.DONE or step not in self._being_written
        if is_news:
            self._wake()

    def _start(self) -> InotifyObserver:
        observer = InotifyObserver(generate_full_events=True)  # or else "moved to" from elsewhere reads "created"
        with contextlib.suppress(MemoryError):  # the next look tries again
            memory.start(observer)
        return observer

    def _drop_lost_ears(self) -> bool:
        """Forget watches that lost their folder or their thread, or are worn. True if there were any."""
        if self._is_arming or not self._observer.is_alive():
            if not self._is_arming:  # or it is locked by a look that was given up
                self._observer.unschedule_all()
            self._observer, self._is_arming = self._start(), False
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
        if identity is None or self._problem or not touch(folder, os.access, folder, os.R_OK):
            return
        ear = _Ear(folder, identity, self._wanted[folder], self._heard, now_s)
        self._is_arming = True
        try:
            memory.see_room_for_threads(2)  # which watchdog starts
            ear.watch = touch(folder, self._observer.schedule, ear, folder)
        except (OSError, RuntimeError, MemoryError) as error:  # RuntimeError: no more threads
            if _identity(folder) == identity:
                number = error.errno if isinstance(error, OSError) else None
                otherwise = f"inotify does not watch {folder} ({error}): changes are noticed within a second"
                self._problem = _EXHAUSTED.get(number or 0, otherwise)
                self._retry_s, self._pause_s = now_s + self._pause_s, min(2 * self._pause_s, _RETRY_S_AT_MOST)
        else:
            self._ears[folder] = ear
            self._pause_s = _RETRY_S
        self._is_arming = False


def _followed(path: str) -> FollowedFile:
    try:
        return FollowedFile(path, trail_of(path))
    except NoAnswer:
        return FollowedFile(path)  # the first look that gets an answer finds its way


def _identity(folder: str) -> tuple[int, int] | None:
    try:
        status = touch(folder, os.stat, folder)
    except OSError:
        return None
    return status.st_dev, status.st_ino
