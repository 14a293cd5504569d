"""Waiting for something that is about to be so: with a deadline, never a bare sleep."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_LOOK_EVERY_S = 0.02


def wait_until(condition: Callable[[], T], *, within_s: float, what: str = "") -> T:
    """Call `condition` until it returns something true, and return that.

    Fails with `what` and the last answer if that does not happen in time. Exceptions are not caught.
    """
    deadline = time.monotonic() + within_s
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s} s: {what or condition.__name__} (last answer: {answer!r})")
        time.sleep(_LOOK_EVERY_S)
