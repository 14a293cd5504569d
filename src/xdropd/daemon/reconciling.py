"""Now and then, and when somebody asks for a reload: what packets meet must be what they should meet."""

import time
from collections.abc import Iterator

from xdropd.daemon.announcing import Announcing
from xdropd.daemon.reactor import Reactor
from xdropd.daemon.settling import rest
from xdropd.filter.filter import Filter
from xdropd.filter.lists import Lists
from xdropd.sources.settingsfile import SettingsFile

_EVERY_SECONDS = 600.0


class Reconciling:
    """One daemon's. `is_wanted` while one is to be begun."""

    def __init__(
        self, lists: Lists, kernel: Filter, settings: SettingsFile, reactor: Reactor, announcing: Announcing
    ) -> None:
        self.is_wanted = False
        self._lists = lists
        self._filter = kernel
        self._settings = settings
        self._reactor = reactor
        self._announcing = announcing
        self._due_at = float("inf")

    def begin(self) -> None:
        """From now on, now and then."""
        self._due_at = time.monotonic() + _EVERY_SECONDS

    def look_after(self, now: float) -> None:
        """Whether it is time again."""
        if now >= self._due_at:
            self._due_at = now + _EVERY_SECONDS
            self.is_wanted = True

    def reconcile(self) -> Iterator[None]:
        """Compare, mend and tell; and forget sources that left the list long ago."""
        self.is_wanted = False
        state = self._lists.state
        if state is None:
            return
        self._filter.agree()
        differing = int(self._filter.choose(self._settings.in_force))
        differing += yield from self._filter.lists.repair(state, time.time(), self._reactor.aside)
        self._announcing.tell_repaired(differing)
        yield from self._filter.forget_sources(self._lists.source_names, time.time())
        rest()
