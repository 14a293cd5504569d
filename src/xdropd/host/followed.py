"""What is known of a followed file or glob pattern, and whether its writer is done, so that it may be read now.

Judged by what stat(2) shows, by the hints that events give, and by the time that has passed since; `watch.py` brings
all three. Lives here as well: the symbolic links on the way to a file, for a swapped link is a change that no stat of
the file's old place shows. Not here: events, threads, and what is in the files.
"""

# ruff: noqa: PTH115, PTH116, PTH118, PTH120
# Paths are plain strings: they are taken apart, compared and looked up at every event.

import enum
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from errno import EINVAL

from xdropd.host import globs
from xdropd.host.files import NO_SUCH_FILE, Signature
from xdropd.host.fileworker import NoAnswer, touch

# How long a file has to stay as it is before it may be read:
_PAUSE_S = 1.0  # it was written to, as events told, and not closed
_STEADY_S = 0.4  # it was written to, as only stat told
_SWAPPED_S = 0.05  # another file is in its place, as only stat told; its events may be on their way
_GONE_S = 0.4  # it is not there: many editors take the old one away before they write the new one
# How long it may change without pause before it is read all the same; one that only grows is being downloaded.
_PATIENCE_S = 2.0
_PATIENCE_GROWING_S = 30.0

_RACY_S = 0.05  # two changes within one tick of the kernel's clock (4 ms, 10 ms at most) leave the same times
_LINKS_AT_MOST = 40  # as in the kernel (MAXSYMLINKS)

Step = tuple[str, str]  # (real folder, name in it)


class Hint(enum.IntEnum):
    """What an event says about a file."""

    TOUCHED = 1  # somebody is at it, or it is gone
    DONE = 2  # closed after writing, or renamed to this name


@dataclass(slots=True)
class FollowedFile:
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

    def judge(self, signature: Signature | None, hint: Hint | None, is_relinked: bool, now_s: float) -> bool:
        """True if the file may be read now and holds, or may hold, something else than was read.

        A close or a rename counts even if the signature is the same: kernels before 6.13 keep times by the tick.
        """
        if hint is Hint.DONE and signature is not None:
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
            is_swapped = is_another(signature, self.seen)
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
class FollowedPattern:
    """One followed glob pattern: the folders that decide what it stands for, and what was told of it."""

    text: str
    told: frozenset[str] = frozenset()
    matches: frozenset[str] = frozenset()
    fresh: dict[str, FollowedFile] = field(default_factory=dict)  # matches not told of yet
    gone_since_s: float | None = None
    stamps: dict[str, globs.Stamp] = field(default_factory=dict)
    steps: frozenset[Step] = frozenset()  # on the way to those folders
    folders: dict[str, set[str]] = field(default_factory=dict)  # real folder: what names in it are matched with
    is_racy: bool = True

    def scan(self) -> None:
        """Look through the folders anew. Their stamps are taken first, so that a change meanwhile is not lost.

        Raises NoAnswer, and what was known stays.
        """
        found = globs.look(self.text)
        steps: set[Step] = set()
        folders: dict[str, set[str]] = {}
        for folder, components in found.components.items():
            steps.update(trail_of(folder))
            folders.setdefault(touch(folder, os.path.realpath, folder), set()).update(components)
        self.is_racy = any(stamp and stamp[2] / 1e9 > time.time() - _RACY_S for stamp in found.stamps.values())
        self.matches, self.stamps, self.steps, self.folders = found.files, found.stamps, frozenset(steps), folders

    def is_stale(self, hints: Mapping[Step, Hint]) -> bool:
        """True if the folders may hold other matches than at the last scan."""
        return (
            self.is_racy
            or any(globs.stamp_of(folder) != stamp for folder, stamp in self.stamps.items())
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


def is_another(one: Signature | None, other: Signature | None) -> bool:
    """True unless both are the same file, whatever is in it, or both none."""
    if one is None or other is None:
        return one is not other
    return (one.device, one.inode) != (other.device, other.inode)


def trail_of(path: str) -> tuple[Step, ...]:
    """Where the kernel passes a symbolic link on its way to an absolute path, and where it arrives: the file itself
    or the first name that is missing. Raises NoAnswer.
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
            target = touch(path, os.readlink, here)
        except NoAnswer:
            raise
        except NO_SUCH_FILE as error:
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
