"""What callers block: logged and put in force as one, and what is to be done while the log cannot be used."""

import contextlib
import time
from collections.abc import Iterator

from xdropd.columns.listing import Listing
from xdropd.daemon.backoff import Backoff
from xdropd.daemon.changes import Changes
from xdropd.daemon.reactor import Reactor
from xdropd.filter.counting import Aside, directly
from xdropd.filter.lists import Lists
from xdropd.host import libc
from xdropd.host.telling import Telling
from xdropd.sources import blocks
from xdropd.sources.blocks import Blocks, Change

_ENTRIES_AT_ONCE = 1000
_LISTED_AN_ENTRY = 64  # of columns that are gone through, in the time that an entry takes which is handled by itself
_MANY_RECORDS = 10_000
_REST_SECONDS = 0.25


class Blocking:
    """One daemon's."""

    def __init__(self, listed: Blocks, lists: Lists, changes: Changes, reactor: Reactor, telling: Telling) -> None:
        self._blocks = listed
        self._lists = lists
        self._changes = changes
        self._reactor = reactor
        self._telling = telling
        self._retry = Backoff()
        self._rest_at = float("inf")

    def change(self, change: Change, now_s: float) -> Iterator[None]:
        """Log a change and put it in force, or do neither: one of the `changes`.

        Raises XdropdError where the log cannot be written, else as Lists.change_to.
        """
        aside = self.aside_for(change.difference.count, change.after)
        batch = yield from aside(lambda: self._blocks.batch(change, now_s))
        if not batch.records:
            return
        yield from aside(lambda: self._blocks.append(batch))
        is_done = False
        try:
            yield from self._lists.change_to(
                self._lists.desired.having("callers", blocks.written(batch.by_source)), now_s, aside
            )
            is_done = True
        finally:
            if is_done:
                self._blocks.take(batch)
                # Some may have ended since they were asked for: then they were never in force, and leave like others.
                self._lists.next_end_s = min(self._lists.next_end_s, change.after.next_end_s)
            else:
                self._blocks.take_back()
        if batch.records > _MANY_RECORDS:
            self._rest_at = time.monotonic() + _REST_SECONDS  # when nobody holds anything of it any more

    def aside_for(self, count: int, listing: Listing) -> Aside:
        """How what is done with so many entries of a listing is done: a few at once, to hand them over takes longer."""
        weight = count + listing.count // _LISTED_AN_ENTRY + len(self._blocks.by_source)  # each source is looked at
        return directly if weight <= _ENTRIES_AT_ONCE else self._reactor.aside

    def load(self) -> Iterator[None]:
        """Read the log, and tell what is wrong with it."""
        reading = yield from self._reactor.aside(self._blocks.read)
        for sentence in self._blocks.load(reading, time.time()):
            self._telling.log.warning("blocks", sentence)
        self._tell_troubles()

    def try_again(self) -> None:
        """What is wrong with the log, if anything is, may be over."""
        if "blocks" not in self._telling.troubles:
            return
        if self._blocks.try_again():
            self._changes.ask(self.take_anew())
        else:
            self._tell_troubles()

    def take_anew(self) -> Iterator[None]:
        """Put in force what callers have blocked by the log."""
        yield from self.load()
        if self._lists.state is not None:
            desired = self._lists.desired.having("callers", blocks.written(self._blocks.by_source))
            yield from self._lists.change_to(desired, time.time())

    def look_after(self, now: float) -> None:
        """What is due: a log that could not be used, one that is too long, memory of what was large."""
        if self._retry.is_due(now):
            self.try_again()
        if now >= self._rest_at:
            self._rest_at = float("inf")
            libc.give_back_memory()
        if self._blocks.wants_compaction and not self._changes:
            self._changes.ask(self._compact())

    def _tell_troubles(self) -> None:
        self._telling.trouble("blocks", self._blocks.troubles(), "blocks")
        self._retry.failed(time.monotonic())

    def _compact(self) -> Iterator[None]:
        with contextlib.suppress(OSError):  # a shorter log can wait
            yield from self._blocks.compact(time.time())
