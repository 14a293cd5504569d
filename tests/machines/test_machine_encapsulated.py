"""Packets within others, and devices without Ethernet: which headers packets start with where they meet the filter.

Every test is one story. Without xdropd everybody is answered; with it, all but those that are listed.
"""

from collections.abc import Collection
from pathlib import Path

import pytest
from cable import EVERYBODY, INNOCENTS, VILLAINS, Way, tag
from guests import Guest
from installed import ADDRESSES, BLOCKLIST, GATEWAYS, SOON_S, address, configure, filtered, mac, start, status, way

from waiting import wait_until

_INSIDE = Path(__file__).parent / "inside"
_REMOTE = "198.51.100.1"
_LOCAL = "203.0.113.1"
_HOST_MAC = "02:00:00:00:fe:01"


def _run_inside(guest: Guest, program: str, *arguments: str) -> None:
    """Run one of the programs for guests until `clear` stops it."""
    path = f"/run/{program}.py"
    guest.write(path, (_INSIDE / f"{program}.py").read_text())
    guest.run("systemd-run", "--quiet", "--collect", f"--unit=told-{program}", "python3", path, *arguments)


def _dialled(guest: Guest, session: int, device: str) -> None:
    """A PPPoE session over a device, and all goes over ppp0."""
    _run_inside(guest, "session", str(session), _HOST_MAC, device)
    wait_until(lambda: "ppp0" in guest.do("ls /sys/class/net"), within_s=SOON_S)
    guest.do(
        "ip link set ppp0 up",
        f"ip address add {ADDRESSES[4]}/32 dev ppp0",
        f"ip address add {ADDRESSES[6]}/128 dev ppp0 nodad",
        "ip route add default dev ppp0",
        "ip -6 route add default dev ppp0",
    )


@pytest.mark.always("bookworm")
def test_below_pppoe_the_card_of_the_session(guest: Guest) -> None:
    guest.do("ip link set nic0 up")
    _dialled(guest, 77, "nic0")
    wire, there = guest.cables[0], way(session=77)
    assert wire.answered(there, EVERYBODY) == EVERYBODY
    start(guest)
    assert filtered(guest) == {"nic0": "native"}
    assert status(guest)["degraded"] is False
    assert wire.answered(there) == INNOCENTS

    guest.run("systemctl", "stop", "told-session")  # it hangs up; the next session has another number
    wait_until(lambda: "ppp0" not in guest.do("ls /sys/class/net"), within_s=SOON_S)
    _dialled(guest, 78, "nic0")
    assert wire.answered(way(session=78)) == INNOCENTS

    configure(guest, "[ppp0]")
    wait_until(lambda: filtered(guest) == {"ppp0": "generic"}, within_s=SOON_S)
    assert wire.answered(way(session=78)) == INNOCENTS


def test_below_pppoe_in_a_vlan_the_card_of_all(guest: Guest) -> None:
    guest.do("ip link set nic0 up", "ip link add link nic0 name nic0.7 type vlan id 7", "ip link set nic0.7 up")
    _dialled(guest, 77, "nic0.7")
    wire, there = guest.cables[0], way(session=77, before=tag(7))
    assert wire.answered(there, EVERYBODY) == EVERYBODY
    start(guest)
    assert filtered(guest) == {"nic0": "native"}
    assert wire.answered(there) == INNOCENTS


def test_tun(guest: Guest) -> None:
    guest.do("ip link set nic0 up")
    _run_inside(guest, "tunnel", "tun0", "nic0")
    wait_until(lambda: "tun0" in guest.do("ls /sys/class/net"), within_s=SOON_S)
    guest.do(*address("tun0"))
    wire, there = guest.cables[0], way(bare=True)
    assert wire.answered(there, EVERYBODY) == EVERYBODY
    start(guest)
    assert filtered(guest) == {"tun0": "generic"}
    assert wire.answered(there) == INNOCENTS


def test_wireguard(guest: Guest) -> None:
    """Its other end is in a network namespace of the guest, for it takes a kernel to speak to one."""
    far = "ip netns exec far"
    guest.do(
        "modprobe wireguard",
        "ip netns add far",
        "ip link add outer0 type veth peer name eth0 netns far",
        "ip address add 10.0.0.1/24 dev outer0",
        "ip link set outer0 up",
        "ip -n far address add 10.0.0.2/24 dev eth0",
        "ip -n far link set eth0 up",
        "ip link add wg0 type wireguard",
        "ip -n far link add wg1 type wireguard",
        "umask 077; wg genkey >/run/near; wg genkey >/run/far",
        "wg set wg0 listen-port 1000 private-key /run/near peer $(wg pubkey </run/far) allowed-ips 0.0.0.0/0,::/0",
        f"{far} wg set wg1 listen-port 1000 private-key /run/far peer $(wg pubkey </run/near) "
        "endpoint 10.0.0.1:1000 allowed-ips 0.0.0.0/0,::/0",
        *address("wg0", routed=False),
        "ip route add default dev wg0",
        "ip -6 route add default dev wg0",
        *(f"ip -n far address add {each} dev wg1" for each in sorted(EVERYBODY)),
        "ip -n far link set wg1 up",
        "ip -n far route add default dev wg1",
        "ip -n far -6 route add default dev wg1",
    )

    def answered() -> frozenset[str]:
        """Every ping is a question of its own: the listed are asked first, so nobody is late."""
        found = set()
        for source in [*sorted(VILLAINS), *sorted(INNOCENTS)]:
            ping = ("ping", "-q", "-c2", "-i0.3", "-W2", "-I", source, ADDRESSES[6 if ":" in source else 4])
            if guest.run("ip", "netns", "exec", "far", *ping, check=False).returncode == 0:
                found.add(source)
        return frozenset(found)

    wait_until(lambda: answered() == EVERYBODY, within_s=SOON_S)  # they shake hands first
    start(guest)
    assert filtered(guest) == {"wg0": "generic"}
    assert answered() == INNOCENTS


def _tunnel(guest: Guest, kind: str, remote: str, versions: Collection[int]) -> None:
    """A tunnel device over nic0, by which the default routes go; without `remote` it has many other ends."""
    guest.do(
        "ip link set nic0 up",
        f"ip address add {_LOCAL}/24 dev nic0",
        f"ip route add {_REMOTE}/32 via 203.0.113.254 dev nic0",
        f"ip link add tunnel0 type {kind} local {_LOCAL} {remote and 'remote ' + remote}",
        "ip link set tunnel0 up",
    )
    for version in versions:
        guest.do(f"ip address add {ADDRESSES[version]}/{64 if version == 6 else 24} dev tunnel0")
        if remote:
            way_back = "dev tunnel0"
        elif kind == "gre":  # its neighbours have the addresses of other ends
            gateway = GATEWAYS[version]
            guest.do(f"ip neigh add {gateway} lladdr {_REMOTE} dev tunnel0")
            way_back = f"via {gateway} dev tunnel0"
        else:
            way_back = f"via {'::' if version == 6 else ''}{_REMOTE} dev tunnel0 {'' if version == 6 else 'onlink'}"
        guest.do(f"ip -{version} route add default {way_back}")


_TUNNELS = [
    pytest.param("ipip", {4}, id="ipip"),
    pytest.param("sit", {6}, id="sit"),
    pytest.param("gre", {4, 6}, id="gre"),
]


def _through(kind: str, versions: Collection[int]) -> tuple[Way, frozenset[str]]:
    """The way through a tunnel, and who may take it."""
    way_in = Way(mac(0), {version: ADDRESSES[version] for version in versions}, outer=(_REMOTE, _LOCAL), tunnel=kind)
    return way_in, frozenset(source for source in EVERYBODY if (6 if ":" in source else 4) in versions)


@pytest.mark.parametrize(("kind", "versions"), _TUNNELS)
def test_a_tunnel_to_one_other_end_shows_inner_headers(guest: Guest, kind: str, versions: set[int]) -> None:
    """And nothing else: that the outer source is listed makes no difference there."""
    _tunnel(guest, kind, _REMOTE, versions)
    guest.run("sh", "-c", f"echo '  - {_REMOTE}' >>{BLOCKLIST}")
    wire = guest.cables[0]
    there, sources = _through(kind, versions)
    assert wire.answered(there, EVERYBODY) == sources
    start(guest)
    assert filtered(guest) == {"tunnel0": "generic"}
    assert status(guest)["degraded"] is False
    assert wire.answered(there) == sources & INNOCENTS


@pytest.mark.parametrize(("kind", "versions"), _TUNNELS)
def test_a_tunnel_to_many_other_ends(guest: Guest, kind: str, versions: set[int]) -> None:
    """The same, but for gre: there the outer header comes first, which is told."""
    _tunnel(guest, kind, "", versions)
    wire = guest.cables[0]
    there, sources = _through(kind, versions)
    assert wire.answered(there, EVERYBODY) == sources
    start(guest)
    if kind != "gre":
        assert filtered(guest) == {"tunnel0": "generic"}
        assert wire.answered(there) == sources & INNOCENTS
        return
    assert filtered(guest) == {}
    (trouble,) = status(guest)["troubles"]
    assert trouble.startswith(
        "tunnel0: has a default route and is left alone: packets meet a filter there with their outer"
    )
    assert wire.answered(there, EVERYBODY) == sources
