"""Ends: entries leave when their time has come, and come back where the clock was set back."""

import time
from collections.abc import Callable, Iterator
from itertools import islice

from xdropd.daemon.blocking import Blocking
from xdropd.daemon.changes import Changes
from xdropd.daemon.failures import FAILURES
from xdropd.daemon.trust import Trust
from xdropd.daemon.watching import Watching
from xdropd.filter.lists import Lists
from xdropd.host.log import Log
from xdropd.sources import blocks
from xdropd.sources.blocks import Blocks
from xdropd.text.addresses import Span

_TOLD_AT_MOST = 100


class Expiry:
    """One daemon's. `reload` has the files read again."""

    def __init__(
        self,
        listed: Blocks,
        blocking: Blocking,
        lists: Lists,
        changes: Changes,
        trust: Trust,
        reload: Callable[[], object],
        watching: Watching,
        log: Log,
    ) -> None:
        self._blocks = listed
        self._blocking = blocking
        self._lists = lists
        self._changes = changes
        self._trust = trust
        self._reload = reload
        self._watching = watching
        self._log = log
        self._clock_s = time.time()
        self._is_ending = False

    @property
    def due_s(self) -> float:
        """In how many seconds the next entry ends."""
        return self._lists.next_end_s - time.time()

    def look_at_clock(self) -> None:
        """Have done what the time of day brings."""
        now_s = time.time()
        was_set_back = now_s < self._clock_s - 1
        self._clock_s = now_s
        if was_set_back:
            self._log.notice("clock", "the clock was set back, entries are looked at again")
            self._changes.ask(self._blocking.take_anew())  # what has ended by one clock may not have by another
            self._reload()
        elif self._lists.state is not None and now_s >= self._lists.next_end_s and not self._is_ending:
            self._is_ending = True
            self._changes.ask(self._end_what_is_over())

    def _end_what_is_over(self) -> Iterator[None]:
        self._is_ending = False
        now_s = time.time()
        assert self._lists.state
        over = [
            (source, row)
            for source in self._lists.state.sources
            for row in islice(source.listing.ended(now_s), _TOLD_AT_MOST)
        ]
        try:
            after = self._blocks.without_ended(now_s)
            yield from self._lists.change_to(self._lists.desired.having("callers", blocks.written(after)), now_s)
            before = self._blocks.let_end(after, now_s)
        except FAILURES:
            self._lists.next_end_s = now_s + self._trust.seconds  # not at every turn
            raise
        place = self._blocks.last_place
        for name, listing in before.items():
            self._watching.note(place, name, (str(Span(*row[:3])) for row in listing.ended(now_s)))
        for source, row in over[:_TOLD_AT_MOST]:
            span = str(Span(*row[:3]))
            self._log.info("expire", f"{span} of {source.name} has ended", entry=span, source=source.name)
