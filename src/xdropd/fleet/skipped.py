"""Skipped: whether the server keeps decisions to itself, as the gaps in their numbers tell, and when to ask for all.

Crowdsec numbers decisions one after the other. Version 1.4.6 never tells a key of those that are stored while it
answers that key: its cursor moves to the end of the answer. A key that two hosts use and a clock set back leave gaps
as well. So do decisions that are none of ours: of other scopes, or of origins and scenarios that are not asked for.
Knows no socket and no clock.
"""

from __future__ import annotations

import math
import random

_SHARE = 100  # of the time, one part may go to answers that a gap has caused
_LEAST_S = 5.0
# Many hosts of a fleet see the same gap, and each complete answer of 50,000 decisions takes the server 60 MB.
_SPREAD = (1.0, 3.0)


class Skipped:
    """See the module. A look that finds nothing has the next one come after twice the time."""

    def __init__(self) -> None:
        self._highest = 0
        self._of_all = 0  # the highest number of a complete answer
        self._news: set[int] = set()
        self._in_vain = 0
        self._takes_s = 0.0
        self._is_whole = False
        self.look_at_s = math.inf
        """When all there is should be asked for."""
        self.found = 0
        """Decisions of a complete answer that had been skipped."""

    def begin(self, *, whole: bool) -> None:
        """An answer: with all there is, or with what has changed."""
        self._is_whole = whole
        self._news, self._of_all, self.found = set(), 0, 0

    def hear(self, number: object) -> None:
        """A decision is in it, whatever becomes of it."""
        if isinstance(number, int):
            if self._is_whole:
                self._of_all = max(self._of_all, number)
            elif number > self._highest:
                self._news.add(number)

    def take(self, number: int) -> None:
        """One that was not known before is in it, and counts here."""
        self.found += self._is_whole and number <= self._highest

    def end(self, began_s: float, now_s: float) -> bool:
        """It is complete; whether there is a gap that nobody looks into yet."""
        if self._is_whole:
            if self.look_at_s < math.inf or self.found:
                self._in_vain = 0 if self.found else self._in_vain + 1
            self._highest, self._takes_s, self.look_at_s = self._of_all, now_s - began_s, math.inf
            return False
        before, self._highest = self._highest, max(self._news, default=self._highest)
        if self._highest - before == len(self._news) or self.look_at_s < math.inf:
            return False
        wait_s = max(_LEAST_S, _SHARE * self._takes_s) * 2.0 ** min(self._in_vain, 20)
        self.look_at_s = now_s + wait_s * random.uniform(*_SPREAD)  # noqa: S311  # no secret
        return True
