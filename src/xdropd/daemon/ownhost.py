"""This host: its interfaces, which carry the filter, and its addresses and gateways, which the guard protects."""

import time
from collections.abc import Iterator
from dataclasses import replace

from xdropd.columns.listing import Listing
from xdropd.daemon.changes import Changes
from xdropd.daemon.settling import Settling
from xdropd.filter.attaching import Attaching, Undone
from xdropd.filter.lists import Lists
from xdropd.host.netlink import Netlink
from xdropd.rules.desired import guard_of
from xdropd.sources.settingsfile import SettingsFile

_LOOKS_APART = 10  # times what the last one took
_LINKS_WITHIN_SECONDS = 0.2


class OwnHost:
    """`named` are interfaces of the command line, which override those of the settings."""

    def __init__(
        self,
        named: tuple[str, ...] | None,
        netlink: Netlink,
        attaching: Attaching,
        settings: SettingsFile,
        lists: Lists,
        changes: Changes,
        settling: Settling,
    ) -> None:
        self._named = named
        self._netlink = netlink
        self._attaching = attaching
        self._settings = settings
        self._lists = lists
        self._changes = changes
        self._settling = settling
        self._guard: Listing | None = None
        self._changed: frozenset[str] = frozenset()
        self._links_at = self._routes_at = 0.0

    # ---- interfaces ----

    def sync_interfaces(self) -> None:
        """Have the filter on those that are wanted, and tell what failed."""
        self.tell_interfaces(self.attach_interfaces())

    def attach_interfaces(self, *, are_routes_new: bool = True) -> Undone:
        """Have the filter on those that are wanted; what failed."""
        settings = self._settings.in_force
        names = self._named or settings.interfaces
        return self._attaching.sync(names, settings.xdp_mode, are_routes_new=are_routes_new)

    def tell_interfaces(self, undone: Undone) -> None:
        """What failed, or nothing; and of what failed before, whether it has come about or need not any more."""
        self._attaching.tell("interfaces", undone.attaching)
        self._attaching.tell("routes", undone.following)

    # ---- the guard ----

    def guard(self) -> Listing | None:
        """What the guard protects now; the same object as before where that is the same."""
        if not self._settings.in_force.guard:
            return None
        guard = guard_of(self._netlink.own_addresses(), self._netlink.gateways())
        if self._guard is None or list(guard.rows()) != list(self._guard.rows()):
            self._guard = guard
        return self._guard

    def renew_guard(self) -> Iterator[None]:
        """The guard changed, or whether there is one; the lists did not."""
        guard = self.guard()
        if self._lists.state is not None and guard is not self._lists.desired.guard:
            yield from self._lists.change_to(replace(self._lists.desired, guard=guard), time.time())
            self._settling.ask()

    # ---- changes ----

    def hear(self) -> None:
        """Netlink has something to say."""
        self._changed |= self._netlink.changes()

    @property
    def due_s(self) -> float:
        """In how many seconds `follow` has something to do."""
        links_at = self._links_at if "links" in self._changed else max(self._links_at, self._attaching.again_at)
        routes_at = self._routes_at if self._changed - {"links"} else float("inf")
        return min(links_at, routes_at) - time.monotonic()

    def follow(self, now: float) -> None:
        """Interfaces, addresses or routes may have changed.

        To look at a full routing table takes a while: a tenth of the time at most. An interface that appears does not
        wait for that, and not long for whatever was done before.
        """
        if now >= self._links_at and ("links" in self._changed or now >= self._attaching.again_at):
            begun = time.monotonic()
            self._changed -= {"links"}
            self.tell_interfaces(self.attach_interfaces(are_routes_new=False))
            took_s = time.monotonic() - begun
            self._links_at = time.monotonic() + min(_LOOKS_APART * took_s, _LINKS_WITHIN_SECONDS)
        if self._changed - {"links"} and now >= self._routes_at:
            self._changed &= {"links"}
            self.sync_interfaces()
            begun = time.monotonic()
            if self._lists.state is not None and self.guard() is not self._lists.desired.guard:
                self._changes.ask(self.renew_guard())
            took_s = self._attaching.routes_took_s + time.monotonic() - begun
            self._routes_at = time.monotonic() + _LOOKS_APART * took_s
