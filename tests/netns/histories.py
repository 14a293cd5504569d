"""Random histories of a daemon: made from a seed, lived through, and, where one goes wrong, made as short as can be."""

import errno
import random
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any, TypeVar

from model import Blocklist, Include, Item
from steps import (
    Alter,
    Block,
    Change,
    Compare,
    Content,
    Files,
    Flush,
    Gateway,
    Killed,
    Own,
    Pass,
    Refused,
    Replace,
    Reset,
    Restart,
    Settings,
    Step,
    Unblock,
    Write,
    filler_line,
)
from world import IPV4, IPV6, World, Wrong


def _networks(*texts: str) -> tuple[str, ...]:
    return tuple(str(ip_network(text, strict=False)) for text in texts)


T = TypeVar("T")

_NETWORKS4 = _networks(
    *(f"198.18.0.0/{length}" for length in (12, 15, 16, 19, 20, 22, 23, 24, 25, 27, 28, 29, 30, 31, 32)),
    *("198.18.0.8/29", "198.18.0.8/30", "198.18.0.10/31", "198.18.0.16/28", "198.18.0.128/25", "198.18.1.0/24"),
    *("198.19.0.0/16", "10.0.0.0/8", "127.0.0.0/8", "198.51.100.0/24", "198.51.100.0/30"),
)
_WIDE4 = ("0.0.0.0/0", "128.0.0.0/1", "192.0.0.0/4", "224.0.0.0/3")  # a list file may not say so
_NETWORKS6 = _networks(
    *(f"2001:db8::/{length}" for length in (19, 20, 21, 31, 32, 33, 47, 48)),
    *(f"2001:db8:0:1::/{length}" for length in (63, 64, 65, 96, 120, 124, 125, 126, 127, 128)),
    *("2001:db8:0:1::8/126", "2001:db8:51::/64", "2001:db8:0:2::/64"),
)
_WIDE6 = ("::/0", "2000::/3", "::/1")
_LISTS = ("lists.d/a.netset", "lists.d/b.netset", "lists.d/c.txt", "d.txt")
_INCLUDES = (
    Include("lists.d/*.netset"),
    Include("lists.d/c.txt", "of c"),
    Include("d.txt"),
    Include("lists.d/b.netset", "of b"),
)
_SOURCES = ("xdropctl", "fail2ban", "night")
_REASONS = ("", "", "scan", "flood")
_ENDS_S = (None, None, None, 50, 250, 2050)  # and time passes by hundreds: an end is never a matter of a second
_OWN = ("198.18.0.3", "198.18.0.64", "2001:db8:0:1::4")
_GATEWAYS = ("198.18.0.9", "198.51.100.2", "2001:db8:0:1::6")
_FEW, _MANY = 120, 2600  # as many as a shrunken list is judged by, and more than the maps of a short list hold

_COMPARED = 0.1  # of the histories, for a fresh daemon takes most of a second

RESET = Reset(_SOURCES, _LISTS, _OWN, _GATEWAYS)


class Author:
    """Makes up steps. What it wrote last is what it goes on from; what the daemon does of it is not known here."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)
        self._palette = [self._entry() for _ in range(self._random.choice((4, 8, 16)))]
        self._files: dict[str, Content] = {"blocklist.yaml": Blocklist()}
        self._monitor, self._guard = False, True

    def history(self) -> list[Step]:
        """A short life."""
        steps = [self._written(), *(self._step() for _ in range(self._random.randint(3, 15)))]
        return [*steps, Compare()] if self._random.random() < _COMPARED else steps

    def _step(self) -> Step:
        kinds: dict[Callable[[], Step], int] = {
            self._written: 30,
            self._rewritten: 12,
            self._blocked: 12,
            self._taken_back: 8,
            self._replaced: 8,
            self._altered: 8,
            lambda: Flush(self._pick(_SOURCES)): 2,
            lambda: Own(self._pick(_OWN), self._flip()): 6,
            lambda: Gateway(self._pick(_GATEWAYS), self._flip()): 4,
            lambda: Pass(self._pick((100, 300, 2000))): 6,
            self._set: 3,
            self._restarted: 3,
            self._refused: 6,
            self._killed: 4,
        }
        return self._random.choices(list(kinds), list(kinds.values()))[0]()

    def _pick(self, these: Sequence[T]) -> T:
        return self._random.choice(these)

    def _flip(self) -> bool:
        return self._random.random() < 0.5

    # ---- entries ----

    def _entry(self) -> str:
        ipv4 = self._random.random() < 0.6
        match self._random.randrange(10):
            case 0 | 1 | 2 | 3:
                return self._pick(IPV4 if ipv4 else IPV6)
            case 4 | 5 | 6:
                return self._pick(_NETWORKS4 if ipv4 else _NETWORKS6)
            case _:
                near = IPV4[:28] if ipv4 else IPV6[:14]
                first, last = sorted(self._random.sample(range(len(near)), 2))
                return f"{near[first]}-{near[last]}"

    def _from_palette(self) -> str:
        return self._pick(self._palette) if self._random.random() < 0.9 else self._entry()

    def _item(self) -> Item:
        entry = self._from_palette() if self._random.random() < 0.95 else self._pick(_WIDE4 + _WIDE6)
        return Item(entry, self._pick(_REASONS), self._pick(_ENDS_S)) if self._random.random() < 0.4 else Item(entry)

    def _line(self) -> str:
        match self._random.randrange(24):
            case 0:
                return "# a comment"
            case 1:
                return ""
            case 2:
                return f"{self._from_palette()}\t# seen"
        return self._from_palette()

    # ---- files ----

    def _edited(self, before: tuple[T, ...], new: Callable[[], T]) -> tuple[T, ...]:
        """What editors, scripts and feeds do to a list."""
        items = list(before)
        for _ in range(self._random.choice((1, 1, 2, 4))):
            at, to = (self._random.randrange(len(items)) for _ in range(2)) if items else (0, 0)
            match self._random.randrange(9) if items else 0:
                case 0 | 1:
                    items.insert(at, new())
                case 2:
                    items.append(new())
                case 3:
                    del items[at]
                case 4:
                    items[at], items[to] = items[to], items[at]
                case 5:
                    items.insert(to, items.pop(at))
                case 6:
                    items[at] = items[to]
                case 7:
                    items.insert(at, items[to])
                case 8:
                    items = items[: len(items) // 2]
        return tuple(items)

    def _new_version(self, path: str) -> Content:
        before = self._files.get(path)
        if path == "blocklist.yaml":
            assert isinstance(before, Blocklist)
            blocklist = replace(before, is_broken=self._random.random() < 0.06)
            match self._random.randrange(8):
                case 0 | 1:
                    includes = self._random.sample(_INCLUDES, self._random.randint(0, 4))
                    monitors = (replace(each, monitors=self._random.random() < 0.3) for each in includes)
                    return replace(blocklist, include=tuple(monitors))
                case 2 | 3:
                    return replace(blocklist, allow=self._edited(blocklist.allow, self._item))
                case 4:
                    return replace(blocklist, block=self._edited((), self._item))
            return replace(blocklist, block=self._edited(blocklist.block, self._item))
        lines = before if isinstance(before, tuple) else ()
        match self._random.randrange(40):
            case 0:
                return None
            case 1:
                return ()
            case 2:
                return (*lines, "what is this")
            case 3 | 4:
                return self._filled(_FEW)
            case 5:
                return self._filled(_MANY)
            case 6:
                return lines[: len(lines) // 3]
        return self._edited(tuple(line for line in lines if not line.startswith("10.9.")), self._line)

    def _filled(self, count: int) -> tuple[str, ...]:
        return (*map(filler_line, range(count)), *(self._line() for _ in range(4)))

    def _change_of(self, paths: Sequence[str]) -> Files:
        changed = tuple((path, self._new_version(path)) for path in paths)
        self._files.update(changed)
        return changed

    def _path(self) -> str:
        return "blocklist.yaml" if self._random.random() < 0.4 else self._pick(_LISTS)

    # ---- steps ----

    def _written(self) -> Write:
        """Some of the files, at once."""
        paths = self._random.sample(("blocklist.yaml", *_LISTS), self._random.randint(1, 5))
        return Write(self._change_of(paths), self._pick(("reload", "reload", "hup")))

    def _rewritten(self) -> Write:
        """One file."""
        return Write(self._change_of([self._path()]), self._pick(("watch", "reload")))

    def _blocked(self) -> Block:
        count = self._pick((1, 1, 2, 8))
        entries = tuple(self._from_palette() for _ in range(count))
        return Block(self._pick(_SOURCES), entries, self._pick(_ENDS_S), self._pick(_REASONS))

    def _taken_back(self) -> Unblock:
        return Unblock(self._pick(_SOURCES), tuple(self._from_palette() for _ in range(self._pick((1, 1, 2)))))

    def _items(self) -> tuple[Item, ...]:
        count = self._pick((0, 1, 2, 8))
        return tuple(Item(self._from_palette(), self._pick(_REASONS), self._pick(_ENDS_S)) for _ in range(count))

    def _replaced(self) -> Replace:
        return Replace(self._pick(_SOURCES), self._items())

    def _altered(self) -> Alter:
        gone = tuple(self._from_palette() for _ in range(self._pick((0, 1, 2))))
        items = self._items()
        return Alter(self._pick(_SOURCES), items or (Item(self._from_palette()),) * (not gone), gone)

    def _set(self) -> Settings:
        self._monitor, self._guard = self._random.random() < 0.3, self._random.random() < 0.7
        return Settings(self._guard, self._monitor)

    def _restarted(self) -> Restart:
        meanwhile = self._change_of([self._path()]) if self._flip() else ()
        how = self._pick((signal.SIGTERM, signal.SIGKILL))
        return Restart(how, other_text=self._random.random() < 0.3, meanwhile=meanwhile)

    def _change(self) -> Change:
        kinds: tuple[Callable[[], Change], ...] = (
            *(self._written, self._rewritten, self._blocked, self._taken_back),
            *(self._replaced, self._altered),
        )
        return self._pick(kinds)()

    def _refused(self) -> Refused:
        first = self._random.choice((1, 2, 3, 5, 8, 13, 21, 34))
        last = first if self._flip() else self._pick((first + 2, 1 << 40))
        return Refused(self._change(), first, last, self._pick((errno.ENOMEM, errno.EPERM, errno.E2BIG, errno.ENOENT)))

    def _killed(self) -> Killed:
        return Killed(self._change(), self._random.randint(1, 40), other_text=self._random.random() < 0.2)


# ---- living, and shrinking ----


class Failure(Exception):
    """A history that goes wrong, and how."""

    def __init__(self, steps: list[Step], why: str) -> None:
        super().__init__(why)
        self.steps = steps


def live(world: World, steps: Sequence[Step]) -> None:
    """Take steps in this world, and judge after each. Raises Failure with those taken."""
    for at, step in enumerate(steps):
        try:
            step.act(world)
            world.judge()
        except (Wrong, AssertionError, OSError, ValueError) as wrong:
            raise Failure(list(steps[: at + 1]), f"{type(wrong).__name__}: {wrong}") from wrong


class Shrinker:
    """Lives through ever shorter histories, each in a world of its own, as long as they go wrong."""

    def __init__(self, folder: Path, texts: tuple[Path, Path], within_s: float = 300.0) -> None:
        self._folder, self._texts = folder, texts
        self._deadline = time.monotonic() + within_s

    def fails(self, steps: Sequence[Step]) -> Failure | None:
        """How it goes wrong in a new world, if it does and there is time left."""
        if time.monotonic() > self._deadline:
            return None
        with tempfile.TemporaryDirectory(dir=self._folder) as folder, World(Path(folder), self._texts) as world:
            try:
                live(world, steps)
            except Failure as failure:
                return failure
        return None

    def shortest(self, failure: Failure) -> Failure:
        """Without steps, files, lines and entries that do not matter. What went wrong may become something else."""
        failure = self.fails([part for step in failure.steps for part in step.parts()]) or failure
        size = len(failure.steps) // 2
        while size:
            failure = self._without(failure, size)
            size //= 2
        at = 0
        while at < len(failure.steps):
            steps = failure.steps
            for simpler in _simpler(steps[at]):
                if found := self.fails([*steps[:at], simpler, *steps[at + 1 :]]):
                    failure = found
                    break
            else:
                at += 1
        return self._without(failure, 1)

    def _without(self, failure: Failure, size: int) -> Failure:
        """So many steps less, again and again; the last ones first, for those before may be another story."""
        at = len(failure.steps) - size
        while at > -size:
            shorter = failure.steps[: max(at, 0)] + failure.steps[max(at, 0) + size :]
            failure = self.fails(shorter) or failure
            at = min(at, len(failure.steps)) - size
        return failure


def _simpler(step: Step) -> list[Step]:
    """The same step with less in it."""
    match step:
        case Write(files, how):
            return [Write(fewer, how) for fewer in _fewer_files(files)]
        case Restart(how, other_text, meanwhile) if meanwhile or other_text:
            return [Restart(how, False, meanwhile)] * other_text + [
                Restart(how, other_text, fewer) for fewer in [(), *_fewer_files(meanwhile)] if fewer != meanwhile
            ]
        case Block() | Unblock() if len(step.entries) > 1:
            return [replace(step, entries=fewer) for fewer in _fewer(step.entries)]
        case Replace() | Alter() if len(step.items) > 1:
            return [replace(step, items=fewer) for fewer in _fewer(step.items)]
        case Refused() | Killed():
            return [step.change, *(replace(step, change=simpler) for simpler in _simpler(step.change))]
    return []


def _fewer(items: tuple[T, ...]) -> list[tuple[T, ...]]:
    half = len(items) // 2
    halves = [items[half:], items[:half]] if half else []
    return halves[::-1] + [items[:at] + items[at + 1 :] for at in range(len(items) if len(items) <= 20 else 0)]


def _fewer_files(files: Files) -> list[Files]:
    found: list[Files] = [files[:at] + files[at + 1 :] for at in range(len(files))] if len(files) > 1 else []
    for at, (path, content) in enumerate(files):
        contents: list[Content] = []
        if isinstance(content, Blocklist):
            for name in ("block", "allow", "include"):
                pieces: tuple[Any, ...] = getattr(content, name)
                contents += [replace(content, **{name: fewer}) for fewer in _fewer(pieces)]
        elif content:
            contents += _fewer(content)
        found += [(*files[:at], (path, shorter), *files[at + 1 :]) for shorter in contents]
    return found


def typed(failure: Failure) -> str:
    """What went wrong, and how to see it."""
    lines = [line for step in failure.steps for line in step.told()]
    return "\n".join([str(failure), "", *lines])
