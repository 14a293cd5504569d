"""Pauses in what takes longer than a moment, so that others have their turn."""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

_STRETCH_SECONDS = 0.01  # of work between looks at what else there is to do
_LOOK_EVERY = 64  # entries, which take some microseconds each

_T = TypeVar("_T")


def with_pauses(items: Iterable[_T]) -> Iterator[_T | None]:
    """The items, and None whenever they have taken a moment and others may have their turn."""
    due_s = time.monotonic() + _STRETCH_SECONDS
    for at, item in enumerate(items):
        if at % _LOOK_EVERY == 0 and time.monotonic() >= due_s:
            yield None
            due_s = time.monotonic() + _STRETCH_SECONDS
        yield item
