"""Where packets arrive: how devices stand on each other, and which of them receive for one that a route goes through.

Below a bridge its ports that lead outside, below a VRF its ports, below a VLAN, macvlan or ipvlan device its parent,
below PPPoE the device of the session, and so on down. A bond receives for its ports, whichever they are. Pure: a table
of links and the devices of PPPoE sessions, nothing else. Not here: which devices are wanted, and which can be filtered.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping

from xdropd.host.netlink import Interface

BONDS = frozenset({"bond", "team"})
"""Kinds whose ports have no life of their own: their frames are the bond's."""

STACKED = frozenset({"vlan", "macvlan", "macvtap", "ipvlan", "ipvtap"})
"""Kinds that stand on another device, from which they have what they receive, and have no driver."""

_BRIDGE, _VRF, _PPP = "bridge", "vrf", "ppp"
# They name a device and are not above it: their peer, or the one by which a tunnel's packets go out (ip_tunnel.c).
_BESIDE = frozenset({"veth", "netkit", "ipip", "sit", "gre", "gretap", "erspan", "vti", "xfrm"})
_BESIDE |= {"ip6tnl", "ip6gre", "ip6gretap", "ip6erspan", "vti6"}
# What they hold cannot be read below them, so they are not stepped down from.
_SECURED = frozenset({"macsec"})
_TUNNELS = frozenset({"vxlan", "geneve", "gretap", "ip6gretap", "erspan", "ip6erspan"})
_TO_GUESTS = frozenset({"xen-backend"})  # buses whose devices have a guest at the other end


class Surroundings:
    """All devices there are, and the names of those that PPPoE sessions go over."""

    def __init__(self, links: Mapping[int, Interface], sessions: Collection[str] = ()) -> None:
        self.links = links
        self._sessions = frozenset(sessions)
        self._ports: defaultdict[int, list[int]] = defaultdict(list)
        self._stacked_on: defaultdict[int, list[int]] = defaultdict(list)
        for link in links.values():
            if link.master:
                self._ports[link.master].append(link.index)
            if link.link and link.kind not in _BESIDE:
                self._stacked_on[link.link].append(link.index)

    def ports(self, index: int) -> list[int]:
        """Those of a bond, a bridge or a VRF."""
        return sorted(self._ports.get(index, ()))

    def carriers(self, index: int) -> frozenset[int]:
        """The devices on which what a device receives arrives; itself, if there is nothing below it."""
        found: set[int] = set()
        seen: set[int] = set()
        waiting = [index]
        while waiting:
            at = waiting.pop()
            if at not in seen and at in self.links:
                seen.add(at)
                below = [each for each in self._received_by(self.links[at]) if each in self.links]
                waiting += below
                if not below:
                    found.add(at)
        return frozenset(found)

    def above(self, index: int) -> Iterator[int]:
        """Devices that stand directly on this one. While one of them has a program, the kernel takes none below."""
        yield from self._stacked_on.get(index, ())
        if self.links[index].master in self.links:
            yield self.links[index].master

    def lowest_first(self, indexes: Iterable[int]) -> list[int]:
        """In an order in which nobody comes before one that it stands on."""
        heights: dict[int, int] = {}
        return sorted(indexes, key=lambda index: (self._height(index, heights), index))

    def _received_by(self, link: Interface) -> Iterable[int]:
        """What is to be looked at in place of a device; nothing, if it is the one."""
        master = self.links.get(link.master)
        if master is not None and master.kind in BONDS:
            return (master.index,)
        if link.kind == _BRIDGE:
            return [port for port in self.ports(link.index) if self._leads_outside(self.links[port])]
        if link.kind == _VRF:
            return self.ports(link.index)
        if link.kind in STACKED and link.link:
            return (link.link,)
        if link.kind == _PPP:
            found = self.links.values()  # by the name that it was dialled with
            return [each.index for each in found if not self._sessions.isdisjoint((each.name, *each.altnames))]
        return ()

    def _leads_outside(self, link: Interface, above: frozenset[int] = frozenset()) -> bool:
        """Whether other machines are behind a port, rather than guests and containers of this one."""
        seen = set(above)
        while link.kind in STACKED | _SECURED and link.link in self.links and link.index not in seen:
            seen.add(link.index)
            link = self.links[link.link]
        if link.kind == _BRIDGE and link.index not in seen:  # as of a VLAN device that stands on another bridge
            around = frozenset(seen | {link.index})
            return any(self._leads_outside(self.links[port], around) for port in self.ports(link.index))
        bus, device = link.parent
        is_hardware = bool(device) and bus not in _TO_GUESTS
        # What stands on a device of another namespace is the way out of this one.
        is_way_out = link.kind in STACKED | _SECURED and not link.link
        return is_hardware or is_way_out or link.kind in BONDS or link.kind in _TUNNELS

    def _height(self, index: int, known: dict[int, int]) -> int:
        if index not in known:
            known[index] = 0  # for whoever comes around to it again
            link = self.links[index]
            below = self.ports(index)
            if link.link in self.links and link.kind not in _BESIDE:
                below.append(link.link)
            known[index] = 1 + max((self._height(each, known) for each in below), default=0)
        return known[index]
