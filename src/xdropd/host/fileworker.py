"""The thread that touches files: a file system may hang, and a long text takes a while to read.

Whoever must not wait hands over one piece of work after the other. A call into a file system that has not returned for
ten seconds is given up: its thread is left behind, and another one begins the same work anew, for which that path is
out of reach (NoAnswer) until the call has returned after all. So work must bear to be begun anew at any `touch`.
The threads are daemon threads: the process ends without them, whatever they wait for.
Not here: what the work is.
"""

import contextlib
import threading
import time
import traceback
from collections.abc import Callable
from errno import ETIMEDOUT
from queue import SimpleQueue
from typing import Any, Generic, ParamSpec, TypeVar

from xdropd import memory

_T = TypeVar("_T")
_P = ParamSpec("_P")

SILENCE_S = 10.0  # of one call, a read of a piece for instance; a disk that spins up takes less
_SILENCE_BESIDE_S = 0.2  # beside a path that hangs already, or in it: there may be hundreds


class NoAnswer(OSError):
    """The file system of a path does not answer. Nothing is known of the file, not even whether it is there."""


class _GivenUp(BaseException):
    """Ends a thread that was left behind. Nothing on its way may take it for a failure of the work."""


class Work(Generic[_T]):
    """A piece of work that was handed over."""

    def __init__(self, call: Callable[[], _T]) -> None:
        self.is_begun = False
        self.is_done = False
        self._call = call
        self._result: _T
        self._problem: Exception | None = None

    def result(self) -> _T:
        """What it returned, once it `is_done`. Raises what it raised."""
        if self._problem is not None:
            raise self._problem
        return self._result

    def do(self) -> None:
        """Do it here and now."""
        self.is_begun = True
        try:
            self._result = self._call()
        except MemoryError as problem:
            self._problem = problem
            with contextlib.suppress(MemoryError):  # what they hold is what there was no room for
                traceback.clear_frames(problem.__traceback__)
        except Exception as problem:  # noqa: BLE001  # it is raised where somebody waits for it
            self._problem = problem
        self.is_done = True


class FileWorker:
    """Does work in another thread, in the order in which it is handed over.

    `wake` is called from that thread when work is done, and when `hung` has changed by itself; it must not block.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self.wake = wake
        self.queue: SimpleQueue[Work[Any]] = SimpleQueue()
        self.lock = threading.Lock()
        self.hung: dict[str, None] = {}
        """Paths with a call that was given up and has not returned yet, in the order in which that happened."""
        self._thread = _Thread(self, None)
        memory.start(self._thread)

    def submit(self, call: Callable[[], _T]) -> Work[_T]:
        """Have it called."""
        work = Work(call)
        self.queue.put(work)
        return work

    def supervise(self, now_s: float) -> None:
        """Give up a call that takes too long. Call it a few times a second, with time.monotonic()."""
        with self.lock:
            stuck = self._thread
            path = stuck.path
            if path is None or now_s - stuck.since_s < self._silence_s(path):
                return
            self.hung[path] = None  # before anybody goes there again
            successor = _Thread(self, stuck.work)
            try:
                memory.start(successor)
            except MemoryError:  # tried again
                del self.hung[path]
                return
            self._thread = successor
            stuck.is_given_up = True

    def _silence_s(self, path: str) -> float:
        is_beside = any(_with_folder(path) & _with_folder(other) for other in self.hung)
        return _SILENCE_BESIDE_S if is_beside else SILENCE_S


def _with_folder(path: str) -> set[str]:
    return {path, path.rpartition("/")[0]}


class _Thread(threading.Thread):
    """One of the threads of a worker; all but one are left behind."""

    def __init__(self, worker: FileWorker, work: Work[Any] | None) -> None:
        super().__init__(name="files", daemon=True)
        self.work = work
        self.path: str | None = None
        self.since_s = 0.0
        self.is_given_up = False
        self._worker = worker

    def run(self) -> None:
        try:
            while True:
                self.work = self.work or self._worker.queue.get()
                self.work.do()
                self.work = None
                with contextlib.suppress(MemoryError):  # whoever waits looks now and then as well
                    self._worker.wake()
        except _GivenUp:
            self._worker.wake()

    def touch(self, path: str, call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        worker = self._worker
        if self.is_given_up:  # on its way out, to close what it has opened
            return call(*args, **kwargs)
        if path in worker.hung:
            raise NoAnswer(ETIMEDOUT, "its file system does not answer", path)
        self.since_s = time.monotonic()
        self.path = path
        try:
            return call(*args, **kwargs)
        finally:
            with worker.lock:
                self.path = None
                if self.is_given_up:
                    worker.hung.pop(path, None)
                    raise _GivenUp


def touch(path: str, call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Call what may hang if the file system of `path` does. Raises NoAnswer in a worker that knows that it does."""
    thread = threading.current_thread()
    return thread.touch(path, call, *args, **kwargs) if isinstance(thread, _Thread) else call(*args, **kwargs)
