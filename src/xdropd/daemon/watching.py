"""Those who watch what callers block: what has ended is told to them as it happens, for the log does not say it.

Knows nobody: who watches has a place here. For each as many ends are kept as somebody may be behind.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import NamedTuple

from xdropd.errors import Lost

_KEPT = 10_000


class End(NamedTuple):
    """An entry of a source that has ended, and the place in the history after which that was."""

    place: int
    source: str
    entry: str


class Ends:
    """Those that one who watches is not told yet, of the sources for which `matches` says something true."""

    def __init__(self, matches: Callable[[str], object]) -> None:
        self._matches = matches
        self._ends: deque[End] = deque()
        self._is_lost = False

    def __bool__(self) -> bool:
        return self._is_lost or bool(self._ends)

    def is_of(self, source: str) -> bool:
        """Whether its ends are told."""
        return bool(self._matches(source))

    def note(self, ends: list[End]) -> None:
        """These have ended."""
        if len(self._ends) + len(ends) > _KEPT:
            self._is_lost = True
            self._ends.clear()
        else:
            self._ends += ends

    def up_to(self, place: int) -> Iterator[End]:
        """The next ones, up to a place; they are told then. Raises Lost where there were too many."""
        if self._is_lost:
            raise Lost("more has ended at once than is told")
        while self._ends and self._ends[0].place <= place:
            yield self._ends.popleft()


class Watching:
    """One daemon's."""

    def __init__(self) -> None:
        self._watchers: list[Ends] = []

    @contextmanager
    def ends(self, matches: Callable[[str], object]) -> Iterator[Ends]:
        """Of these sources, from now on, as long as the context lasts."""
        ends = Ends(matches)
        self._watchers.append(ends)
        try:
            yield ends
        finally:
            self._watchers = [each for each in self._watchers if each is not ends]

    def note(self, place: int, source: str, entries: Iterable[str]) -> None:
        """These have ended after a place. Where nobody watches, they are not even looked at."""
        watchers = [each for each in self._watchers if each.is_of(source)]
        if watchers:
            ends = [End(place, source, entry) for entry in islice(entries, _KEPT + 1)]
            for watcher in watchers:
                watcher.note(ends)
