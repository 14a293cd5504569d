"""What callers block: logged and put in force as one, and what is to be done while the log cannot be used."""

import contextlib
import time
from collections.abc import Iterator

from xdropd.daemon.backoff import Backoff
from xdropd.daemon.changes import Changes
from xdropd.daemon.reactor import Reactor
from xdropd.filter.counting import Aside, directly
from xdropd.filter.lists import Lists
from xdropd.host.blocklog import Record
from xdropd.host.telling import Telling
from xdropd.sources import blocks
from xdropd.sources.blocks import Blocks

_ENTRIES_AT_ONCE = 1000


class Blocking:
    """One daemon's."""

    def __init__(self, listed: Blocks, lists: Lists, changes: Changes, reactor: Reactor, telling: Telling) -> None:
        self._blocks = listed
        self._lists = lists
        self._changes = changes
        self._reactor = reactor
        self._telling = telling
        self._retry = Backoff()

    def change(self, records: list[Record], now_s: float) -> Iterator[None]:
        """Log a batch and put it in force, or do neither: one of the `changes`.

        Raises XdropdError where the log cannot be written, else as Lists.change_to.
        """
        aside = self.aside_for(len(records))
        batch = yield from aside(lambda: self._blocks.batch(records))
        with self._blocks.logged(batch):
            yield from self._lists.change_to(
                self._lists.desired.having("callers", blocks.written(batch.after)), now_s, aside
            )

    def aside_for(self, count: int) -> Aside:
        """How what is done with so many entries is done: a few at once, for to hand them over takes longer."""
        weight = count + len(self._blocks.by_source)  # each source is looked at
        return directly if weight <= _ENTRIES_AT_ONCE else self._reactor.aside

    def load(self) -> None:
        """Read the log, and tell what is wrong with it."""
        for sentence in self._blocks.load(time.time()):
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
        self.load()
        if self._lists.state is not None:
            desired = self._lists.desired.having("callers", blocks.written(self._blocks.by_source))
            yield from self._lists.change_to(desired, time.time())

    def look_after(self, now: float) -> None:
        """What is due: a log that could not be used, or one that is too long."""
        if self._retry.is_due(now):
            self.try_again()
        if self._blocks.wants_compaction and not self._changes:
            self._changes.ask(self._compact())

    def _tell_troubles(self) -> None:
        self._telling.trouble("blocks", self._blocks.troubles(), "blocks")
        self._retry.failed(time.monotonic())

    def _compact(self) -> Iterator[None]:
        with contextlib.suppress(OSError):  # a shorter log can wait
            yield from self._blocks.compact(time.time())
