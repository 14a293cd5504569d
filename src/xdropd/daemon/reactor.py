"""Descriptors, and the three workers: everything that can wait for something waits here. Knows no list.

File systems, long calculations and routing tables are no business of the loop's thread: a worker does them, and whoever
wants the result waits for it without holding anybody else.
"""

import contextlib
import os
import select
import selectors
import time
from collections.abc import Callable, Generator
from typing import Any, Protocol, TypeVar

from xdropd.errors import sentence_of
from xdropd.host.fileworker import FileWorker, Work
from xdropd.host.log import ERROR
from xdropd.host.telling import Telling

_T = TypeVar("_T")


class HasFileno(Protocol):
    """What has a descriptor."""

    def fileno(self) -> int:
        """Its number."""


class Reactor:
    """One loop's descriptors and workers."""

    def __init__(self, telling: Telling) -> None:
        self.selector = selectors.DefaultSelector()
        self._telling = telling
        self._wake_read, self.wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.selector.register(self._wake_read, selectors.EVENT_READ, self._drain)
        self.files = FileWorker(self.wake)
        self.calculator = FileWorker(self.wake)
        self.router = FileWorker(self.wake)
        self._reading: Work[Any] | None = None
        self._calculating: Work[Any] | None = None
        self._later: list[tuple[Work[Any], Callable[[Work[Any]], None]]] = []

    # ---- waiting ----

    def hear(self, source: HasFileno, call: Callable[[], None]) -> None:
        """Call it whenever there is something to read."""
        self.selector.register(source, selectors.EVENT_READ, call)

    def wait(self, seconds: float) -> None:
        """For any event, and have it heard."""
        for key, _ in self.selector.select(seconds):
            try:
                key.data()
            except OSError as problem:  # of one event, which is no reason to end
                self._telling.once("event", ERROR, "trouble", sentence_of(problem))

    def wake(self) -> None:
        """End the waiting. From any thread."""
        with contextlib.suppress(BlockingIOError):  # full: it is awake already
            os.write(self.wake_write, b"\0")

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 1 << 16)

    # ---- the workers ----

    @property
    def is_reading(self) -> bool:
        """Whether a job waits for files, or for routes."""
        return self._reading is not None

    @property
    def is_calculating(self) -> bool:
        """Whether a job or a change waits for a calculation."""
        return self._calculating is not None

    @property
    def is_stuck(self) -> bool:
        """Whether whoever waits for files or a calculation would wait in vain now."""
        awaited = self._calculating or self._reading
        return awaited is not None and not awaited.is_done

    def read(self, call: Callable[[], _T], worker: FileWorker | None = None) -> Generator[None, None, _T]:
        """Have something called that touches files, and wait for it as a part of a job. Raises what it raises.

        With a `worker` it is done by that one.
        """
        self._reading = work = (worker or self.files).submit(call)
        while not work.is_done:
            yield
        self._reading = None
        return work.result()

    def aside(self, step: Callable[[], _T]) -> Generator[None, None, _T]:
        """Have a long calculation done, and wait for it as a part of a job or change. Raises what it raises."""
        self._calculating = work = self.calculator.submit(step)
        while not work.is_done:
            yield
        self._calculating = None
        return work.result()

    def later(self, call: Callable[[], _T], then: Callable[[Work[_T]], None]) -> None:
        """Have something called that touches files, and `then` what is to be done about it here. Nobody waits."""
        self._later.append((self.files.submit(call), then))

    def take_done(self) -> None:
        """Do what is to be done about what was asked for `later`, and is done."""
        while self._later and self._later[0][0].is_done:
            work, then = self._later.pop(0)
            then(work)

    def wait_for(self, work: Work[Any], until_s: float) -> None:
        """Stand still until work is done, or until then by time.monotonic(): at the end, when nothing else matters."""
        while not work.is_done and (left := until_s - time.monotonic()) > 0:
            select.select([self._wake_read], [], [], left)
            self._drain()
