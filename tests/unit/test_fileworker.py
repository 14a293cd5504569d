"""Work that others wait for, calls that do not return, and what becomes of both. The clock is given, nobody waits."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from weakref import ref

import pytest

from waiting import wait_until
from xdropd.host.fileworker import SILENCE_S, FileWorker, NoAnswer, Work, touch

_SOON_S = 5.0


class Hung:
    """A file system: calls into it wait while it hangs."""

    def __init__(self) -> None:
        self._answers = threading.Event()
        self._answers.set()
        self.calls = 0
        self.waiting = 0

    def hang(self) -> None:
        self._answers.clear()

    def answer(self) -> None:
        self._answers.set()

    def call(self, what: str = "answer") -> str:
        self.calls += 1
        self.waiting += 1
        self._answers.wait()
        self.waiting -= 1
        return what


@pytest.fixture
def woken() -> threading.Semaphore:
    return threading.Semaphore(0)


@pytest.fixture
def worker(woken: threading.Semaphore) -> FileWorker:
    return FileWorker(woken.release)


@pytest.fixture
def hung() -> Iterator[Hung]:
    made = Hung()
    yield made
    made.answer()


def done(work: Work[object]) -> Work[object]:
    wait_until(lambda: work.is_done, within_s=_SOON_S)
    return work


def given_up(worker: FileWorker, hung: Hung, waiting: int = 1) -> None:
    """Let so much time pass that the call which does not return is given up."""
    wait_until(lambda: hung.waiting == waiting, within_s=_SOON_S)
    worker.supervise(time.monotonic() + SILENCE_S - 1)
    assert len(worker.hung) == waiting - 1
    worker.supervise(time.monotonic() + SILENCE_S + 1)
    assert len(worker.hung) == waiting


def test_results_and_failures_come_in_order(worker: FileWorker, woken: threading.Semaphore) -> None:
    seen: list[int] = []
    works = [worker.submit(lambda number=number: seen.append(number)) for number in range(100)]
    failing = worker.submit(lambda: 1 // 0)
    for work in (*works, failing):
        done(work)
        assert woken.acquire(timeout=_SOON_S)
    assert seen == list(range(100))
    with pytest.raises(ZeroDivisionError):
        failing.result()


def test_work_that_had_no_memory_keeps_none_of_it(worker: FileWorker, woken: threading.Semaphore) -> None:
    """What it had read until then is gone before anybody is told, though the failure itself is kept."""
    read: list[ref[Hung]] = []

    def read_all() -> None:
        piece = Hung()
        read.append(ref(piece))
        raise MemoryError

    work = worker.submit(read_all)
    assert woken.acquire(timeout=_SOON_S)
    assert read[0]() is None
    with pytest.raises(MemoryError):
        work.result()


def test_a_call_that_does_not_return_is_given_up(worker: FileWorker, hung: Hung) -> None:
    """The work goes on from the beginning, without that path; so does what comes after it."""
    begun: list[str] = []

    def work() -> str:
        begun.append(threading.current_thread().name)
        try:
            return touch("/far/list", hung.call)
        except NoAnswer as problem:
            return f"{problem.filename}: as before"

    hung.hang()
    first, second = worker.submit(work), worker.submit(lambda: touch("/near/list", lambda: "near"))
    given_up(worker, hung)
    assert done(first).result() == "/far/list: as before"
    assert done(second).result() == "near"
    assert len(begun) == 2
    assert done(worker.submit(work)).result() == "/far/list: as before"
    assert hung.calls == 1


def test_a_call_that_returns_after_all(worker: FileWorker, hung: Hung, woken: threading.Semaphore) -> None:
    """Its path is in reach again, and what was begun with it ends there and then."""
    beyond: list[str] = []

    def work() -> None:
        beyond.append(touch("/far/list", hung.call))

    hung.hang()
    first = worker.submit(work)
    given_up(worker, hung)
    with pytest.raises(NoAnswer):
        done(first).result()
    while woken.acquire(blocking=False):
        pass
    hung.answer()
    assert woken.acquire(timeout=_SOON_S)
    assert not worker.hung
    assert beyond == []
    done(worker.submit(work)).result()
    assert beyond == ["answer"]


def test_what_a_given_up_thread_closes_on_its_way_out(worker: FileWorker, hung: Hung) -> None:
    closed: list[str] = []

    def work() -> str:
        try:
            return touch("/far/list", hung.call)
        finally:
            touch("/far/list", closed.append, threading.current_thread().name)

    hung.hang()
    first = worker.submit(work)
    given_up(worker, hung)
    with pytest.raises(NoAnswer):
        done(first).result()
    hung.answer()
    wait_until(lambda: closed, within_s=_SOON_S)


@pytest.mark.parametrize("path", ["/far/other", "/far", "/far/list/in-it"])
def test_beside_a_path_that_hangs_patience_is_short(worker: FileWorker, hung: Hung, path: str) -> None:
    hung.hang()
    worker.submit(lambda: touch("/far/list", hung.call))
    given_up(worker, hung)
    worker.submit(lambda: touch(path, hung.call))
    wait_until(lambda: hung.waiting == 2, within_s=_SOON_S)
    worker.supervise(time.monotonic() + 1)
    assert path in worker.hung


def test_others_may_touch_without_a_worker() -> None:
    assert touch("/etc/passwd", Path("/etc/passwd").exists)


def test_nothing_is_given_up_that_returns(worker: FileWorker) -> None:
    for _ in range(100):
        work = worker.submit(lambda: touch("/near/list", lambda: "near"))
        worker.supervise(time.monotonic())
        assert done(work).result() == "near"
    worker.supervise(time.monotonic() + 10 * SILENCE_S)
    assert not worker.hung
