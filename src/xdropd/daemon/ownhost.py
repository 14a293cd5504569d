"""This host: its interfaces, which carry the filter, and what the guard protects: its addresses, gateways, name
servers, and more where that is chosen.
"""

import time
from collections.abc import Generator, Iterator
from dataclasses import replace

from xdropd.columns.listing import Listing
from xdropd.daemon.changes import Changes
from xdropd.daemon.routing import Routing
from xdropd.daemon.settling import Settling
from xdropd.filter.attaching import Attaching, Undone
from xdropd.filter.lists import Lists
from xdropd.host.nameservers import NameServers
from xdropd.host.netlink import Netlink
from xdropd.rules.desired import PRIVATE, guard_of
from xdropd.sources.settingsfile import SettingsFile

_LOOKS_APART = 10  # times what the last one took
_LINKS_WITHIN_SECONDS = 0.2


class OwnHost:
    """`named` are interfaces of the command line, which override those of the settings."""

    def __init__(
        self,
        named: tuple[str, ...] | None,
        netlink: Netlink,
        name_servers: NameServers,
        routing: Routing,
        attaching: Attaching,
        settings: SettingsFile,
        lists: Lists,
        changes: Changes,
        settling: Settling,
    ) -> None:
        self._named = named
        self._netlink = netlink
        self._name_servers = name_servers
        self._routing = routing
        self._attaching = attaching
        self._settings = settings
        self._lists = lists
        self._changes = changes
        self._settling = settling
        self._guard: Listing | None = None
        self._changed: frozenset[str] = frozenset()
        self._links_at = self._addresses_at = 0.0

    # ---- interfaces ----

    @property
    def _names(self) -> tuple[str, ...] | None:
        return self._named or self._settings.in_force.interfaces

    def sync_interfaces(self) -> None:
        """Have the filter on those that are wanted, and tell what failed."""
        self.tell_interfaces(self.attach_interfaces())

    def attach_interfaces(self) -> Undone:
        """Have the filter on those that are wanted, by what is known of routes; what failed."""
        return self._attaching.sync(self._names, self._settings.in_force.xdp_mode, self._routing.known)

    def tell_interfaces(self, undone: Undone) -> None:
        """What failed, or nothing; and of what failed before, whether it has come about or need not any more."""
        self._attaching.tell("interfaces", undone.attaching)
        self._attaching.tell("routes", undone.following)

    # ---- routes ----

    def learn_routes(self) -> Generator[None, None, None]:
        """Know the routes, as a part of a job, if the settings need them. Raises KernelError."""
        self._routing.choose(is_needed=self._names is None or bool(self._settings.in_force.guard))
        yield from self._routing.learn()

    # ---- the guard ----

    def guard(self) -> Listing | None:
        """What the guard protects now; the same object as before where that is the same."""
        chosen = self._settings.in_force.guard
        if not chosen:
            return None
        guard = guard_of(
            self._netlink.own_addresses(),
            self._routing.known.gateways,
            self._name_servers.known,
            self._netlink.connected_networks() if "connected" in chosen else (),
            PRIVATE if "private" in chosen else (),
        )
        if self._guard is None or list(guard.rows()) != list(self._guard.rows()):
            self._guard = guard
        return self._guard

    def renew_guard(self) -> Iterator[None]:
        """The guard changed, or whether there is one; the lists did not."""
        guard = self.guard()
        if self._lists.state is not None and guard is not self._lists.desired.guard:
            yield from self._lists.change_to(replace(self._lists.desired, guard=guard), time.time())
            self._settling.ask()

    def _follow_guard(self) -> None:
        if self._lists.state is not None and self.guard() is not self._lists.desired.guard:
            self._changes.ask(self.renew_guard())

    # ---- changes ----

    def hear(self) -> None:
        """Netlink has something to say."""
        changed = self._netlink.changes()
        self._changed |= changed
        if "routes" in changed:
            self._routing.doubt()

    def hear_name_servers(self) -> None:
        """Their files have been read anew."""
        self._changed |= {"addresses"}

    @property
    def due_s(self) -> float:
        """In how many seconds `follow` has something to do."""
        links_at = self._links_at if "links" in self._changed else max(self._links_at, self._attaching.again_at)
        addresses_at = self._addresses_at if "addresses" in self._changed else float("inf")
        return min(links_at, addresses_at, self._routing.due_at) - time.monotonic()

    def follow(self, now: float) -> None:
        """Interfaces, addresses or routes may have changed: nobody waits for anybody else.

        To look at any of them takes a tenth of the time at most, and an interface that appears does not wait for long.
        """
        if now >= self._links_at and ("links" in self._changed or now >= self._attaching.again_at):
            begun = time.monotonic()
            self._changed -= {"links"}
            self.sync_interfaces()
            took_s = time.monotonic() - begun
            self._links_at = begun + took_s + min(_LOOKS_APART * took_s, _LINKS_WITHIN_SECONDS)
        if now >= self._addresses_at and "addresses" in self._changed:
            begun = time.monotonic()
            self._changed -= {"addresses"}
            self._follow_guard()
            took_s = time.monotonic() - begun
            self._addresses_at = begun + took_s + _LOOKS_APART * took_s
        if self._routing.look_after(now):
            self.sync_interfaces()
            self._follow_guard()
