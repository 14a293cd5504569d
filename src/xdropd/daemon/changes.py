"""Changes to the list that callers ask for, or that the clock brings: one after the other, each in steps and alone.

While one is under way neither a reload nor another change looks at the list, so what it found out at its beginning is
so at its end. Knows nothing of what a change does.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator

_STEP_SECONDS = 0.01  # of work, between looks at what else there is to do


class Changes:
    """See the module. A change is an iterator: each step of it takes a moment.

    `is_waiting` says whether it waits for something, so that another step would be in vain.
    """

    def __init__(self, is_waiting: Callable[[], bool]) -> None:
        self._is_waiting = is_waiting
        self._waiting: deque[Iterator[None]] = deque()
        self._at_hand: Iterator[None] | None = None

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return self.is_under_way or bool(self._waiting)

    @property
    def is_under_way(self) -> bool:
        """Whether a change has been begun, so that nobody else may look at the list."""
        return self._at_hand is not None

    def ask(self, change: Iterator[None]) -> None:
        """Have it done behind those that wait."""
        self._waiting.append(change)

    def withdraw(self, change: Iterator[None]) -> None:
        """Nobody wants it any more. What has been begun is done to its end."""
        if change in self._waiting:
            self._waiting.remove(change)

    def go_on(self) -> None:
        """Take steps for a moment. Raises whatever the change raises, which is over then."""
        if self._at_hand is None:
            self._at_hand = self._waiting.popleft()
        due_s = time.monotonic() + _STEP_SECONDS
        try:
            for _ in self._at_hand:
                if self._is_waiting() or time.monotonic() >= due_s:
                    return
        except BaseException:
            self._at_hand = None
            raise
        self._at_hand = None
