"""Which interfaces are to be filtered. Pure: the settings and what netlink told, nothing else."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from xdropd.host.netlink import Interface

ARPHRD_ETHER = 1  # uapi/linux/if_arp.h

# Frames of these masters' ports pass through the master as Ethernet frames. A VRF's do not: it is no place to filter.
_KINDS_WITH_PORTS = frozenset({"bond", "bridge", "team"})


@dataclass(frozen=True, slots=True)
class Choice:
    """`wanted` by index; `refused` says why a named one cannot be; `absent` are names that no interface has."""

    wanted: frozenset[int]
    refused: dict[str, str]
    absent: tuple[str, ...]


def choose(
    names: tuple[str, ...] | None,
    interfaces: Mapping[int, Interface],
    default_routes: Collection[int],
    filtered: Collection[int],
) -> Choice:
    """Pick interfaces by `names` (None: auto), of those there are. `filtered` are the ones that carry the filter now.

    auto follows the default route but does not let go of an interface because its route went; loopback and the ports
    of a bond or bridge that is picked are left alone by auto and by globs.
    """
    if names is None:
        return _without_ports(_automatic(interfaces, default_routes, filtered), frozenset(), interfaces, {}, ())
    named: set[int] = set()
    globbed: set[int] = set()
    refused: dict[str, str] = {}
    absent = []
    for name in names:
        found = [index for index, interface in interfaces.items() if fnmatchcase(interface.name, name)]
        if not found:
            absent.append(name)
        for index in found:
            interface = interfaces[index]
            is_glob = interface.name != name
            if is_glob and interface.is_loopback:
                continue
            reason = why_not(interface)
            if not reason:
                (globbed if is_glob else named).add(index)
            elif not is_glob:
                refused[name] = reason
    return _without_ports(named | globbed, frozenset(named), interfaces, refused, tuple(absent))


def why_not(interface: Interface) -> str:
    """Why an interface cannot carry the filter; "" if it can."""
    if interface.arp_type != ARPHRD_ETHER and not interface.is_loopback:  # loopback has Ethernet headers
        kind = f" ({interface.kind})" if interface.kind else ""
        return f"not an Ethernet device{kind}: its packets carry no Ethernet header to read"
    return ""


def _automatic(
    interfaces: Mapping[int, Interface], default_routes: Collection[int], filtered: Collection[int]
) -> set[int]:
    candidates = {*default_routes, *filtered} & interfaces.keys()
    return {index for index in candidates if not (interfaces[index].is_loopback or why_not(interfaces[index]))}


def _without_ports(
    picked: set[int],
    named: frozenset[int],
    interfaces: Mapping[int, Interface],
    refused: dict[str, str],
    absent: tuple[str, ...],
) -> Choice:
    covering = {index for index in picked if interfaces[index].kind in _KINDS_WITH_PORTS}
    wanted = {index for index in picked if index in named or interfaces[index].master not in covering}
    return Choice(frozenset(wanted), refused, absent)
