"""What is known of routes: looked at by a thread of its own, for a full routing table has a million."""

import time
from collections.abc import Generator

from xdropd.daemon.reactor import Reactor
from xdropd.host.fileworker import Work
from xdropd.host.netlink import Questions, Routes

_LOOKS_APART = 10  # times what the last one took
_SHORT_SECONDS = 0.05


class Routing:
    """One daemon's. `known` is what the last look found; nothing where nobody needs it.

    `questions` are asked by the thread that looks, and by nobody else.
    """

    def __init__(self, questions: Questions, reactor: Reactor) -> None:
        self.known = Routes()
        self._questions = questions
        self._reactor = reactor
        self._is_needed = self._is_known = False
        self._is_doubtful = False
        self._look: Work[tuple[Routes, float]] | None = None
        self._took_s = 0.0
        self._next_at = 0.0

    def choose(self, *, is_needed: bool) -> None:
        """Whether anybody wants to know."""
        if not is_needed:
            self.known, self._is_known, self._look = Routes(), False, None
        self._is_needed = is_needed

    def doubt(self) -> None:
        """They may have changed."""
        self._is_doubtful = True

    def learn(self) -> Generator[None, None, None]:
        """Look, as a part of a job, if anybody wants to know. Raises KernelError.

        Where something is known, no job waits for a long look, or one that is under way: what that finds is news.
        """
        if not self._is_needed:
            return
        if self._is_known and (self._look is not None or self._took_s > _SHORT_SECONDS):
            self.doubt()
        else:
            self._is_doubtful, self._look = False, None
            self._take(*(yield from self._reactor.read(self._routes, self._reactor.router)))

    @property
    def due_at(self) -> float:
        """When a look is to be begun; one that is over wakes the loop."""
        is_due = self._is_needed and self._is_doubtful and self._look is None
        return self._next_at if is_due else float("inf")

    def look_after(self, now: float) -> bool:
        """Begin a look if one is due, and take one that is over; whether `known` is another. Raises KernelError."""
        before, look = self.known, self._look
        if look is not None and look.is_done:
            self._look = None
            self._take(*look.result())
        if now >= self.due_at:
            self._is_doubtful = False
            self._look = self._reactor.router.submit(self._routes)
        return self.known != before

    def _routes(self) -> tuple[Routes, float]:
        """With how long that took."""
        begun = time.monotonic()
        return self._questions.routes(), time.monotonic() - begun

    def _take(self, routes: Routes, took_s: float) -> None:
        self.known, self._is_known, self._took_s = routes, True, took_s
        self._next_at = time.monotonic() + _LOOKS_APART * took_s
