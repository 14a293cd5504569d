"""Looks at routes: one at a time, beside everything else, and none is taken that nobody wants any more."""

import threading
import time

import pytest

from waiting import wait_until
from xdropd.daemon.reactor import Reactor
from xdropd.daemon.routing import Routing
from xdropd.host.log import Log
from xdropd.host.netlink import Routes
from xdropd.host.telling import Telling

FIRST, SECOND = Routes({254: frozenset({2})}), Routes({254: frozenset({3})})


class Kernel:
    """What answers is `routes`, once it may."""

    def __init__(self):
        self.routes_now = FIRST
        self.asked = 0
        self.may_answer = threading.Event()
        self.may_answer.set()

    def routes(self):
        self.asked += 1
        found = self.routes_now
        assert self.may_answer.wait(10)
        return found


@pytest.fixture
def kernel():
    return Kernel()


@pytest.fixture
def routing(kernel):
    made = Routing(kernel, Reactor(Telling(Log())))
    made.choose(is_needed=True)
    return made


def learn(routing):
    deadline = time.monotonic() + 5
    for _ in routing.learn():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def look(routing, kernel):
    """Begin one that is not answered yet."""
    kernel.may_answer.clear()
    asked = kernel.asked
    routing.doubt()
    assert not routing.look_after(routing.due_at)
    wait_until(lambda: kernel.asked > asked, within_s=5)


def test_what_a_look_finds_is_news_once(routing, kernel):
    learn(routing)
    assert routing.known == FIRST
    assert not routing.look_after(time.monotonic()), "nothing has changed"
    kernel.routes_now = SECOND
    look(routing, kernel)
    assert not routing.look_after(time.monotonic() + 100)
    assert (routing.known, routing.due_at) == (FIRST, float("inf")), "one at a time"
    kernel.may_answer.set()
    wait_until(lambda: routing.look_after(time.monotonic()), within_s=5)
    assert routing.known == SECOND
    assert not routing.look_after(time.monotonic())
    assert kernel.asked == 2


def test_what_comes_while_it_looks_is_looked_at_later(routing, kernel):
    learn(routing)
    look(routing, kernel)
    routing.doubt()
    kernel.routes_now = SECOND
    kernel.may_answer.set()
    wait_until(lambda: routing.look_after(time.monotonic()), within_s=5)
    assert routing.known == SECOND
    assert kernel.asked == 3


def test_a_job_waits_for_no_look_that_is_under_way_where_something_is_known(routing, kernel):
    learn(routing)
    look(routing, kernel)
    assert list(routing.learn()) == []
    kernel.may_answer.set()


def test_what_nobody_wants_any_more_is_not_taken(routing, kernel):
    learn(routing)
    look(routing, kernel)
    routing.choose(is_needed=False)
    kernel.may_answer.set()
    time.sleep(0.05)
    assert not routing.look_after(time.monotonic() + 100)
    assert routing.known == Routes()
    assert list(routing.learn()) == []
    kernel.routes_now = SECOND
    routing.choose(is_needed=True)
    learn(routing)
    assert routing.known == SECOND
