"""This host: its interfaces, which carry the filter, and its addresses and gateways, which the guard protects."""

import time
from collections.abc import Iterator
from dataclasses import replace

from xdropd.columns.listing import Listing
from xdropd.daemon.changes import Changes
from xdropd.daemon.settling import Settling
from xdropd.filter.attaching import Attaching
from xdropd.filter.lists import Lists
from xdropd.host.netlink import Netlink
from xdropd.host.telling import Telling
from xdropd.rules.desired import guard_of
from xdropd.sources.settingsfile import SettingsFile


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
        telling: Telling,
    ) -> None:
        self._named = named
        self._netlink = netlink
        self._attaching = attaching
        self._settings = settings
        self._lists = lists
        self._changes = changes
        self._settling = settling
        self._telling = telling
        self._guard: Listing | None = None
        self._has_changed = False
        self._follow_at = 0.0

    # ---- interfaces ----

    def sync_interfaces(self) -> None:
        """Have the filter on those that are wanted, and tell what failed."""
        self.tell_interfaces(self.attach_interfaces())

    def attach_interfaces(self) -> dict[str, str]:
        """Have the filter on those that are wanted. Sentences on the ones that failed, by name."""
        settings = self._settings.in_force
        return self._attaching.sync(self._named or settings.interfaces, settings.xdp_mode)

    def tell_interfaces(self, failures: dict[str, str]) -> None:
        """What failed, or nothing."""
        self._telling.trouble("interfaces", failures, "interface", "interface")

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
        self._has_changed |= bool(self._netlink.changes())

    def follow(self, now: float) -> None:
        """Interfaces, addresses or routes may have changed.

        To look at a full routing table takes a while: a tenth of the time at most.
        """
        if not self._has_changed or now < self._follow_at:
            return
        begun = time.monotonic()
        self._has_changed = False
        self.sync_interfaces()
        if self._lists.state is not None and self.guard() is not self._lists.desired.guard:
            self._changes.ask(self.renew_guard())
        self._follow_at = time.monotonic() + 10 * (time.monotonic() - begun)
