"""Waiting, in an answer: for the daemon to be ready, for a change to be done, for a calculation."""

import time
from collections.abc import Callable, Generator, Iterator
from typing import TypeVar

from xdropd.daemon.progress import Progress
from xdropd.daemon.reactor import Reactor
from xdropd.host.control import Line

_WORD_EVERY_SECONDS = 1.0

_T = TypeVar("_T")


class Waiting:
    """With a word of how far the daemon is now and then, so that the caller knows it is alive."""

    def __init__(self, progress: Progress, reactor: Reactor) -> None:
        self._progress = progress
        self._reactor = reactor

    def until_ready(self) -> Iterator[Line]:
        """For the end of the start."""
        yield from self.until(lambda: self._progress.is_ready)

    def until(self, condition: Callable[[], bool]) -> Iterator[Line]:
        """For anything."""
        due_s = time.monotonic() + _WORD_EVERY_SECONDS
        while not condition():
            if time.monotonic() < due_s:
                yield None
            else:
                due_s = time.monotonic() + _WORD_EVERY_SECONDS
                yield {"progress": self._progress.text or "working"}

    def aside(self, step: Callable[[], _T]) -> Generator[Line, None, _T]:
        """For a long reading, done by the daemon's calculator."""
        work = self._reactor.calculator.submit(step)
        yield from self.until(lambda: work.is_done)
        return work.result()
