"""What one process leaves to the next: what is in force and of which files it was made, proven (proof.py).

So a restart compares nothing, and reads no file again that is still the same.
"""

import contextlib
from collections.abc import Callable
from weakref import ref

from xdropd.daemon.reactor import Reactor
from xdropd.filter.filter import Filter
from xdropd.filter.lists import Lists
from xdropd.host.fileworker import Work
from xdropd.rules.desired import Desired, Written
from xdropd.rules.winners import State
from xdropd.sources.catalogue import Catalogue

_QUIET_SECONDS = 1.0  # so that a row of changes is told once


class Handover:
    """One daemon's."""

    def __init__(self, kernel: Filter, catalogue: Catalogue, lists: Lists, reactor: Reactor) -> None:
        self._filter = kernel
        self._catalogue = catalogue
        self._lists = lists
        self._reactor = reactor
        self._seen: ref[State] | None = None
        self._due_at = 0.0
        self._is_preparing = False

    def take_over(self) -> None:
        """What the process before has left, where it proves anything."""
        proven, self._filter.proven = self._filter.proven, None
        if proven is None:
            return
        self._catalogue.recall(proven.others, proven.listings)
        state = proven.state
        self._lists.state = state
        written = [
            Written(each.name, each.written or each.listing, each.reason, each.is_file, each.action)
            for each in state.sources
        ]
        desired = Desired(
            allow=tuple(Written(each.source, each.listing) for each in state.exempt.sources if each.kind == "allow"),
            guard=next((each.listing for each in state.exempt.sources if each.kind == "guard"), None),
        )
        desired = desired.having("files", (each for each in written if each.is_file))
        self._lists.desired = desired.having("callers", (each for each in written if not each.is_file))

    def look_after(self, now: float) -> None:
        """Leave what is in force now, once it has been so for a moment. While it is, nobody may change it."""
        state, generation, proof = self._lists.state, self._filter.generation, self._filter.proof
        if state is None or generation is None or self._lists.is_doubtful or proof.is_given_for(generation, state):
            return
        if self._seen is None or self._seen() is not state:
            self._seen, self._due_at = ref(state), now + _QUIET_SECONDS
        elif now >= self._due_at and not self._is_preparing:
            self._is_preparing = True
            told, withdrawals = self._catalogue.told, proof.withdrawals  # as it is now, however late it is written down
            self._reactor.later(lambda: proof.prepare(generation, state, withdrawals, told), self._give)

    def _give(self, prepared: Work[Callable[[], bool]]) -> None:
        self._is_preparing = False
        self._seen = None
        with contextlib.suppress(OSError):  # no memory: the next process has more to do
            prepared.result()()
