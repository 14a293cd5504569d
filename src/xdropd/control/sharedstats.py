"""What was counted of all entries, for the answers that tell of all: read once for whoever asks meanwhile, held once.

Each reading of a million entries takes a second of the calculator, for which changes wait as well, and tens of MB.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping

from xdropd.columns.listing import Kind
from xdropd.columns.prefixes import Column
from xdropd.host.fileworker import FileWorker, Work

AllStats = Mapping[tuple[Kind, int], tuple[Column, Column]]
"""(ascending keys, STATS) by kind and number of the source."""

_Numbered = tuple[int, AllStats]


class SharedStats:
    """Read by `read`, in the thread of `calculator`."""

    def __init__(self, calculator: FileWorker, read: Callable[[], AllStats]) -> None:
        self._calculator = calculator
        self._read = read
        self._readings = 0
        self._next: Work[_Numbered] | None = None
        self._latest: _Numbered = (0, {})
        self._users = 0

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """While an answer is made of them; with the last one they go."""
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            if not self._users:
                self._latest, self._next = (0, {}), None

    def asked(self) -> Work[_Numbered]:
        """A reading that begins after this call, to be taken once it is done: the same one for all who wait for it."""
        if self._next is None or self._next.is_begun:  # which may miss what the caller has seen
            self._next = self._calculator.submit(self._numbered)
        return self._next

    def take(self, reading: Work[_Numbered]) -> None:
        """Have the latest be as late as this one. Raises what the reading raised."""
        self._latest = max(self._latest, reading.result(), key=lambda numbered: numbered[0])

    def latest(self) -> AllStats:
        """Of the readings taken. Whoever waits, for a reader for instance, asks again and does not hold it."""
        return self._latest[1]

    def _numbered(self) -> _Numbered:
        self._readings += 1
        return self._readings, self._read()
