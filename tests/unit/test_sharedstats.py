"""What is known of all entries: who waits for the same reading, and how long one is held."""

import gc
import threading
import weakref
from collections.abc import Iterator

import pytest

from waiting import wait_until
from xdropd.control.sharedstats import AllStats, SharedStats
from xdropd.host.fileworker import FileWorker


class Known(dict):  # type: ignore[type-arg]  # which can be referred to weakly
    """What a reading found."""


class Reader:
    """Reads when it is let."""

    def __init__(self) -> None:
        self.readings: list[AllStats] = []
        self.begun = threading.Semaphore(0)
        self.let = threading.Semaphore(0)

    def __call__(self) -> AllStats:
        self.begun.release()
        assert self.let.acquire(timeout=10)
        known = Known()
        self.readings.append(known)
        return known


@pytest.fixture
def reader() -> Reader:
    return Reader()


@pytest.fixture
def shared(reader: Reader) -> Iterator[SharedStats]:
    yield SharedStats(FileWorker(lambda: None), reader)
    reader.let.release(100)


def take_one(shared: SharedStats) -> None:
    reading = shared.asked()
    wait_until(lambda: reading.is_done, within_s=10, what="the reading")
    shared.take(reading)


def test_who_asks_while_one_is_read_shares_the_next(shared: SharedStats, reader: Reader) -> None:
    with shared.used():
        first = shared.asked()
        assert reader.begun.acquire(timeout=10)
        others = [shared.asked() for _ in range(100)]
        assert first not in others
        assert set(others) == {others[0]}
        reader.let.release(2)
        wait_until(lambda: others[0].is_done, within_s=10, what="the second reading")
        assert len(reader.readings) == 2
        assert shared.asked() not in (first, others[0]), "what is done is not read anew"


def test_the_latest_stays_the_latest(shared: SharedStats, reader: Reader) -> None:
    reader.let.release(2)
    with shared.used():
        first = shared.asked()
        wait_until(lambda: first.is_done, within_s=10, what="the first reading")
        second = shared.asked()
        wait_until(lambda: second.is_done, within_s=10, what="the second reading")
        shared.take(second)
        shared.take(first)
        assert shared.latest() is reader.readings[1]


def test_what_was_known_goes_with_the_last_who_uses_it(shared: SharedStats, reader: Reader) -> None:
    reader.let.release()
    with shared.used():
        take_one(shared)
        with shared.used():
            pass
        held = weakref.ref(reader.readings.pop())
        assert shared.latest() is held()
    gc.collect()
    assert held() is None
    assert shared.latest() == {}
