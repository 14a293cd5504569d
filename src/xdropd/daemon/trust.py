"""Trust in the kernel: a change that failed half-way is tried again, soon and then more and more rarely."""

import time

from xdropd.daemon.announcing import Announcing
from xdropd.daemon.backoff import FIRST_SECONDS, SECONDS_AT_MOST
from xdropd.daemon.failures import Failure, reason_of
from xdropd.daemon.results import Results
from xdropd.errors import KernelError, NotKept
from xdropd.filter.lists import Lists
from xdropd.host.telling import Telling


class Trust:
    """One daemon's. While there is none, what the kernel holds is compared with the list before the next change."""

    def __init__(self, lists: Lists, telling: Telling, results: Results, announcing: Announcing) -> None:
        self.seconds = FIRST_SECONDS
        """How long the next try is put off."""
        self._lists = lists
        self._telling = telling
        self._results = results
        self._announcing = announcing
        self._retry_at = 0.0

    def lose(self, failure: Failure) -> None:
        """A change failed half-way."""
        who = "the kernel refuses a change" if isinstance(failure, KernelError) else "a change fails"
        if isinstance(failure, NotKept):
            who = "a change has to wait"
        self._telling.trouble("kernel", f"{who}, it will be tried again: {reason_of(failure)}", "kernel")
        self._lists.is_doubtful = True
        self._results.last = self._results.of_failure(failure)
        if self._retry_at <= time.monotonic():  # else it is due already, and further refusals do not put it off
            self._retry_at = time.monotonic() + self.seconds
        self._announcing.say_ready()

    def regain(self) -> None:
        """The list is in force."""
        self.seconds = FIRST_SECONDS
        self._lists.is_doubtful = False
        self._telling.clear("kernel")

    def hurry(self) -> None:
        """What had to wait need not any more."""
        self._retry_at = 0.0

    def is_due(self, now: float) -> bool:
        """Whether what failed, of a list or on an interface, is to be tried again now; then it is put off anew."""
        if now < self._retry_at or not self._telling.troubles.keys() & {"kernel", "interfaces"}:
            return False
        self._retry_at = now + self.seconds
        if "kernel" in self._telling.troubles:
            self.seconds = min(2 * self.seconds, SECONDS_AT_MOST)
        return True
