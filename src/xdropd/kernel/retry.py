"""Trying again: one refused call must not leave a list half in force."""

import errno
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from xdropd.errors import KernelError

TRIES = 4

_P = ParamSpec("_P")
_T = TypeVar("_T")


def retried(step: Callable[_P, _T], *arguments: _P.args, **named: _P.kwargs) -> _T:
    """The result of a step, tried a few times. A full map (E2BIG) is tried once more only, for it stays full."""
    for left in reversed(range(TRIES)):
        try:
            return step(*arguments, **named)
        except KernelError as refusal:
            if not left or (refusal.errno == errno.E2BIG and left < TRIES - 1):
                raise
    raise AssertionError("unreachable")
