"""Which interfaces are to be filtered, and why. Pure: the settings and what is there, nothing else.

Decided from what is wanted alone, never from what happens to be filtered, so that the same settings come to the same
whatever was filtered before.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from xdropd.filter.carriers import BONDS, Surroundings
from xdropd.host.netlink import Interface

ARPHRD_ETHER = 1  # uapi/linux/if_arp.h
_STARTS_WITH_IP = {65534, 512, 519, 768, 769, 776, 823}
"""ARPHRD_NONE (tun, WireGuard), ARPHRD_PPP, ARPHRD_RAWIP (modems), ARPHRD_TUNNEL (ipip), ARPHRD_TUNNEL6 (ip6tnl),
ARPHRD_SIT, ARPHRD_IP6GRE: what XDP meets there is an IP packet and no more. Of a tunnel it is the inner one
(skb_reset_mac_header in ipip_tunnel_rcv, ipip6_rcv, __ip6_tnl_rcv).
"""
_GRE = 778
"""ARPHRD_IPGRE. The same where the tunnel has one other end; without, XDP meets the outer header, which __ipgre_rcv
leaves in front for ipgre_header_parse.
"""
_DECRYPTED = {"xfrm", "vti", "vti6"}
"""IPsec's. There XDP meets the inner packet behind the Ethernet header that the encrypted one came with, or behind none
if that came without (skb_mac_header_rebuild in xfrm4_remove_tunnel_encap).
"""


@dataclass(frozen=True, slots=True)
class Choice:
    """What a look comes to. Sentences begin with the name that they are under."""

    wanted: dict[int, str] = field(default_factory=dict)
    """By index; with what it carries, of those that nobody named."""
    refused: dict[str, str] = field(default_factory=dict)
    """Named, and cannot be filtered."""
    waiting: dict[str, str] = field(default_factory=dict)
    """Named or found, and filtered as soon as there is something to filter."""
    unfollowed: dict[str, str] = field(default_factory=dict)
    """Has or carries a default route, and cannot be filtered."""


def choose(
    names: tuple[str, ...] | None,
    around: Surroundings,
    routed: Collection[int] = (),
    held: Collection[int] = (),
    mode: str = "auto",
) -> Choice:
    """Pick interfaces by `names` (None: auto), of those there are, for a mode.

    auto goes from the interfaces that have a default route (`routed`) and those that had one (`held`) down to where
    packets arrive. Loopback and the ports of a bond that is picked are left alone by auto and by globs.
    """
    choice = _automatic(around, routed, held, mode) if names is None else _by_name(names, around, mode)
    if mode != "generic":
        _wait_for_ports(choice, around)
    return choice


def starts_with_ip(interface: Interface) -> bool:
    """Whether packets come without an Ethernet header there. Such a device can be filtered in generic mode only."""
    return interface.arp_type in _STARTS_WITH_IP or (interface.arp_type == _GRE and interface.is_point_to_point)


def why_not(interface: Interface, around: Surroundings, mode: str = "auto") -> str:
    """Why an interface cannot carry the filter in this mode; "" if it can."""
    if interface.kind == "vrf":
        ports = ", ".join(around.links[port].name for port in around.ports(interface.index))
        advice = f"name its ports instead: {ports}" if ports else "name its ports instead, of which it has none yet"
        return f"packets never meet a filter on a VRF device, {advice}"
    if interface.kind == "ifb":  # ifb_ri_tasklet (drivers/net/ifb.c) gives them back to the device they came in on
        return "packets never meet a filter on an ifb device, name the one that they are redirected from"
    if interface.kind in _DECRYPTED:
        return "packets meet a filter there with or without the Ethernet header of the encrypted ones"
    has_ethernet = interface.arp_type == ARPHRD_ETHER or interface.is_loopback
    if interface.arp_type == _GRE and not interface.is_point_to_point:
        return "packets meet a filter there with their outer header, for this tunnel has no remote address"
    if not has_ethernet and not starts_with_ip(interface):
        kind = f" ({interface.kind})" if interface.kind else ""
        return f"what its packets begin with is not known{kind}: neither an Ethernet header nor IP"
    if mode == "native" and not has_ethernet:
        return "it has no native mode, for its packets start with IP: 'xdp_mode: auto' filters it"
    return ""


def _automatic(around: Surroundings, routed: Collection[int], held: Collection[int], mode: str) -> Choice:
    choice = Choice()
    has = _carrying(around, routed)
    had = _carrying(around, set(held) - set(routed))
    for index in has.keys() | had.keys():
        interface = around.links[index]
        why = _why(index, around, has.get(index, ()), "has", "have") or _why(index, around, had[index], "had", "had")
        if not (reason := why_not(interface, around, mode)):
            choice.wanted[index] = why
        elif index in has:
            comma = "," if ", " in why else ""
            choice.unfollowed[interface.name] = f"{interface.name}: {why}{comma} and is left alone: {reason}"
    if not choice.wanted and not choice.unfollowed:
        choice.waiting[""] = "no interface has a default route yet, the first one that gets one is filtered"
    return choice


def _carrying(around: Surroundings, tops: Iterable[int]) -> dict[int, list[int]]:
    """For each interface on which packets for one of `tops` arrive: for which ones."""
    found: dict[int, list[int]] = {}
    for top in sorted(tops):
        if top in around.links and not around.links[top].is_loopback:
            for index in around.carriers(top):
                found.setdefault(index, []).append(top)
    return found


def _why(index: int, around: Surroundings, tops: Collection[int], one: str, several: str) -> str:
    """ "" for no `tops`."""
    if not tops:
        return ""
    if index in tops:
        return f"{one} a default route"
    names = " and ".join(around.links[top].name for top in tops)
    is_their_bond = all(around.links[top].master == index for top in tops)
    how = "has the port" if is_their_bond and around.links[index].kind in BONDS else "carries"
    return f"{how} {names}, which {one if len(tops) == 1 else several} a default route"


def _by_name(names: tuple[str, ...], around: Surroundings, mode: str) -> Choice:
    choice = Choice()
    globbed: set[int] = set()
    for name in names:
        found = [each for each in around.links.values() if any(fnmatchcase(own, name) for own in _names(each))]
        fit = [each for each in found if not why_not(each, around, mode)]
        for interface in found:
            if name not in _names(interface):
                if interface in fit and not interface.is_loopback:
                    globbed.add(interface.index)
            elif interface in fit:
                choice.wanted[interface.index] = ""
            else:
                choice.refused[interface.name] = f"{interface.name}: {why_not(interface, around, mode)}"
        if not found:
            choice.waiting[name] = f"{name}: no such interface yet, it is filtered as soon as it appears"
    bonds = {index for index in globbed | choice.wanted.keys() if around.links[index].kind in BONDS}
    choice.wanted.update(dict.fromkeys((index for index in globbed if around.links[index].master not in bonds), ""))
    return choice


def _names(interface: Interface) -> tuple[str, ...]:
    return interface.name, *interface.altnames


def _wait_for_ports(choice: Choice, around: Surroundings) -> None:
    """A bond that is filtered natively takes no port whose driver cannot, and as long as it is empty nobody knows."""
    for index in list(choice.wanted):
        if around.links[index].kind == "bond" and not around.ports(index):
            name = around.links[index].name
            del choice.wanted[index]
            choice.waiting[name] = f"{name} has no port yet: waits for the first one"
