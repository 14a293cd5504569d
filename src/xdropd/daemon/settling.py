"""What can wait until packets are dropped: keep the good versions, name what the guard narrowed, let memory go."""

import gc
import time

from xdropd.daemon.following import Following
from xdropd.daemon.keeping import Keeping
from xdropd.daemon.reactor import Reactor
from xdropd.filter.lists import Lists
from xdropd.host import libc
from xdropd.host.fileworker import Work
from xdropd.host.log import WARNING
from xdropd.host.telling import Fields, Telling
from xdropd.rules.desired import article
from xdropd.rules.narrowed import narrowed
from xdropd.rules.winners import State
from xdropd.text.addresses import Span

_SETTLE_SECONDS = 0.25
_TOLD_AT_MOST = 100


class Settling:
    """One daemon's. `narrowed` has a sentence on each entry that the guard narrows, as far as they are told."""

    def __init__(
        self, lists: Lists, keeping: Keeping, following: Following, reactor: Reactor, telling: Telling
    ) -> None:
        self.narrowed: list[str] = []
        self._lists = lists
        self._keeping = keeping
        self._following = following
        self._reactor = reactor
        self._telling = telling
        self._due_at = float("inf")

    def ask(self) -> None:
        """Have it done in a moment."""
        self._due_at = time.monotonic() + _SETTLE_SECONDS

    def settle(self, now: float) -> None:
        """Do it if it is due."""
        if now < self._due_at:
            return
        self._due_at = float("inf")
        self._keeping.keep()
        state = self._lists.state
        if state is not None:
            self._reactor.later(lambda: _narrowed(state), self._tell_narrowed)
        self._following.tell()
        rest()

    def _tell_narrowed(self, work: Work[dict[str, Fields]]) -> None:
        found = work.result()
        self._telling.each_once("narrowed", WARNING, "guard", found)
        self.narrowed = list(found)


def rest() -> None:
    """After large work: return what it used, and have the garbage collector pass over what has stayed."""
    gc.freeze()
    libc.give_back_memory()


def _narrowed(state: State) -> dict[str, Fields]:
    """A sentence on each entry that the guard narrows, with the entry and its source; and on those beyond."""
    found: dict[str, Fields] = {}
    for guard in (each for each in state.exempt.sources if each.kind == "guard"):
        cut = narrowed(state, guard, _TOLD_AT_MOST + 1)
        for source, row, keeper in cut[:_TOLD_AT_MOST]:
            entry, kept = str(Span(*row[:3])), Span(*keeper.row[:3])
            sentence = f"{entry} of {source.name} is narrowed by the guard: {kept} is {article(keeper.source)}"
            found[sentence] = {"entry": entry, "source": source.name}
        if len(cut) > _TOLD_AT_MOST:
            found[f"the guard narrows more entries than the {_TOLD_AT_MOST} that are named"] = {}
    return found
