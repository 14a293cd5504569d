"""Packets within others, and devices without Ethernet: which headers packets start with where they meet the filter.

Every test is one story. Without xdropd everybody is answered; with it, all but those that are listed.
"""

import time
from collections.abc import Collection
from pathlib import Path

import pytest
from cable import EVERYBODY, INNOCENTS, VILLAINS, Way, tag
from guests import Guest
from installed import (
    ADDRESSES,
    BLOCKLIST,
    GATEWAYS,
    SOON_S,
    address,
    becomes,
    configure,
    filtered,
    mac,
    start,
    status,
    told,
    way,
)

from waiting import wait_until

_KEEPALIVES = 200
_SPEAKS_WITHIN_S = 20.0  # an alarm, if there were one, in an emulated, busy machine
_INSIDE = Path(__file__).parent / "inside"
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


_FAR = (
    "ip netns add far",
    "ip link add outer0 type veth peer name eth0 netns far",
    "ip address add 10.0.0.1/24 dev outer0",
    "ip link set outer0 up",
    "ip -n far address add 10.0.0.2/24 dev eth0",
    "ip -n far link set eth0 up",
)
"""A network namespace of the guest for the other end of a tunnel, where it takes a kernel to speak to one."""


def _everybody_on(device: str) -> list[str]:
    """There, on a device of that name: the gateway and EVERYBODY."""
    hosts = [f"{each}/{128 if ':' in each else 32}" for each in sorted(EVERYBODY)]
    gateways = [f"{GATEWAYS[4]}/24", f"{GATEWAYS[6]}/64"]
    return [f"ip -n far address add {each} dev {device}" for each in (*hosts, *gateways)]


def test_wireguard(guest: Guest) -> None:
    far = "ip netns exec far"
    guest.do(
        "modprobe wireguard",
        *_FAR,
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
    wait_until(lambda: _answered_far(guest) == EVERYBODY, within_s=SOON_S)  # they shake hands first
    start(guest)
    assert filtered(guest) == {"wg0": "generic"}
    assert _answered_far(guest) == INNOCENTS

    # A keepalive goes out when it is chosen. It is counted there, and no packet of anybody's.
    until, before = time.monotonic() + _SPEAKS_WITHIN_S, _received(guest, "wg0")
    keep_alive = "ip netns exec far wg set wg1 peer $(wg pubkey </run/near) persistent-keepalive"
    while time.monotonic() < until or _received(guest, "wg0") < before + _KEEPALIVES:
        assert time.monotonic() < until + 10 * _SPEAKS_WITHIN_S
        guest.do(*(f"{keep_alive} 0", f"{keep_alive} 25") * 10)
    assert not any("saw none of them" in each for each in told(guest))
    assert status(guest)["degraded"] is False


def _received(guest: Guest, device: str) -> int:
    return int(guest.do(f"cat /sys/class/net/{device}/statistics/rx_packets"))


def test_a_device_of_ipsec_is_left_alone_and_told(guest: Guest) -> None:
    guest.do(*address("nic0"), "ip link add xfrm0 type xfrm dev nic0 if_id 7", "ip link set xfrm0 up")
    configure(guest, "[nic0, xfrm0]")
    start(guest)
    assert filtered(guest) == {"nic0": "native"}
    (trouble,) = status(guest)["troubles"]
    assert trouble.startswith("xfrm0: packets meet a filter there with or without the Ethernet header")
    assert guest.cables[0].answered(way()) == INNOCENTS


def test_macsec(guest: Guest) -> None:
    """On the device itself, behind the decryption."""
    keys = {"near": "0f" * 16, "far": "f0" * 16}
    macs = {"near": "02:00:00:00:02:01", "far": "02:00:00:00:02:02"}

    def secured(ip: str, device: str, here: str, there: str) -> list[str]:
        return [
            f"{ip} link add link {device} name {here}0 type macsec encrypt on",
            f"{ip} macsec add {here}0 tx sa 0 pn 1 on key 00 {keys[here]}",
            f"{ip} macsec add {here}0 rx port 1 address {macs[there]}",
            f"{ip} macsec add {here}0 rx port 1 address {macs[there]} sa 0 pn 1 on key 01 {keys[there]}",
            f"{ip} link set {here}0 up",
        ]

    guest.do(
        "ip netns add far",
        f"ip link add outer0 address {macs['near']} type veth peer name eth0 address {macs['far']} netns far",
        "ip link set outer0 up",
        "ip -n far link set eth0 up",
        *secured("ip", "outer0", "near", "far"),
        *secured("ip -n far", "eth0", "far", "near"),
        *address("near0"),
        *_everybody_on("far0"),
    )
    wait_until(lambda: _answered_far(guest) == EVERYBODY, within_s=SOON_S)
    start(guest)
    assert filtered(guest) == {"near0": "generic"}
    assert _answered_far(guest) == INNOCENTS


@pytest.mark.parametrize(
    "tunnel",
    [
        pytest.param("vxlan id 7 dstport 4789 dev {}", id="vxlan"),
        pytest.param("geneve id 7", id="geneve"),
        pytest.param("gretap dev {}", id="gretap"),
    ],
)
def test_ethernet_in_a_tunnel(guest: Guest, tunnel: str) -> None:
    """On the device itself the inner addresses decide, and below it the outer ones.

    Of these only a VXLAN device is above the other one, by the kernel's book, and makes way for its program.
    """
    guest.do(
        *_FAR,
        f"ip link add inner0 type {tunnel.format('outer0')} remote 10.0.0.2",
        f"ip -n far link add inner0 type {tunnel.format('eth0')} remote 10.0.0.1",
        "ip -n far link set inner0 up",
        *address("inner0"),
        *_everybody_on("inner0"),
    )
    wait_until(lambda: _answered_far(guest) == EVERYBODY, within_s=SOON_S)
    start(guest)
    assert filtered(guest) == {"inner0": "generic"}
    assert status(guest)["degraded"] is False
    assert _answered_far(guest) == INNOCENTS

    configure(guest, "[outer0, inner0]")
    becomes(guest, outer0="native", inner0="generic")
    assert ("inner0: let go" in told(guest)) == tunnel.startswith("vxlan")
    assert _answered_far(guest) == INNOCENTS
    guest.run("sh", "-c", f"echo '  - 10.0.0.2' >>{BLOCKLIST}")
    wait_until(lambda: not _answered_far(guest), within_s=SOON_S)


def _answered_far(guest: Guest) -> frozenset[str]:
    """Who is answered of those who ask from the namespace `far`.

    Every ping is a question of its own: the listed are asked first, so nobody is late.
    """
    found = set()
    for source in [*sorted(VILLAINS), *sorted(INNOCENTS)]:
        ping = ("ping", "-q", "-c2", "-i0.3", "-W2", "-I", source, ADDRESSES[6 if ":" in source else 4])
        if guest.run("ip", "netns", "exec", "far", *ping, check=False).returncode == 0:
            found.add(source)
    return frozenset(found)


_OUTER = {4: ("198.51.100.1", "203.0.113.1"), 6: ("2001:db8:5::1", "2001:db8:6::1")}
"""The other end of a tunnel and this one, of a tunnel over IPv4 or IPv6."""

# The kind of device, what it is told besides its ends, over which version of IP, and which versions go through.
_OVER_IPV4 = [
    pytest.param("ipip", "", 4, {4}, id="ipip"),
    pytest.param("sit", "", 4, {6}, id="sit"),
    pytest.param("gre", "", 4, {4, 6}, id="gre"),
]
_OVER_IPV6 = [
    pytest.param("ip6tnl", "mode any encaplimit none", 6, {4, 6}, id="ip6tnl"),
    pytest.param("ip6gre", "encaplimit none", 6, {4, 6}, id="ip6gre"),
]


def _tunnel(guest: Guest, kind: str, options: str, outer: int, versions: Collection[int], *, to_one: bool) -> None:
    """A tunnel device over nic0, by which the default routes go: to one other end, or to many."""
    remote, local = _OUTER[outer]
    gateway, length = {4: ("203.0.113.254", 24), 6: ("2001:db8:6::fe", 64)}[outer]
    guest.do(
        "ip link set nic0 up",
        f"ip address add {local}/{length} dev nic0",
        f"ip route add {remote} via {gateway} dev nic0",
        f"ip link add tunnel0 type {kind} {options} local {local} {'remote ' + remote if to_one else ''}",
        "ip link set tunnel0 up",
    )
    for version in versions:
        guest.do(f"ip address add {ADDRESSES[version]}/{64 if version == 6 else 24} dev tunnel0")
        if to_one:
            way_back = "dev tunnel0"
        elif kind == "gre":  # its neighbours have the addresses of other ends
            guest.do(f"ip neigh add {GATEWAYS[version]} lladdr {remote} dev tunnel0")
            way_back = f"via {GATEWAYS[version]} dev tunnel0"
        else:
            way_back = f"via {'::' if version == 6 else ''}{remote} dev tunnel0 {'' if version == 6 else 'onlink'}"
        guest.do(f"ip -{version} route add default {way_back}")


def _through(kind: str, outer: int, versions: Collection[int]) -> tuple[Way, frozenset[str]]:
    """The way through a tunnel, and who may take it."""
    addresses = {version: ADDRESSES[version] for version in versions}
    way_in = Way(mac(0), addresses, outer=_OUTER[outer], is_gre=kind in ("gre", "ip6gre"))
    return way_in, frozenset(source for source in EVERYBODY if (6 if ":" in source else 4) in versions)


@pytest.mark.parametrize(("kind", "options", "outer", "versions"), [*_OVER_IPV4, *_OVER_IPV6])
def test_a_tunnel_to_one_other_end_shows_inner_headers(
    guest: Guest, kind: str, options: str, outer: int, versions: set[int]
) -> None:
    """And nothing else: that the outer source is listed makes no difference there."""
    _tunnel(guest, kind, options, outer, versions, to_one=True)
    guest.run("sh", "-c", f"echo '  - {_OUTER[outer][0]}' >>{BLOCKLIST}")
    wire = guest.cables[0]
    there, sources = _through(kind, outer, versions)
    assert wire.answered(there, EVERYBODY) == sources
    start(guest)
    assert filtered(guest) == {"tunnel0": "generic"}
    assert status(guest)["degraded"] is False
    assert wire.answered(there) == sources & INNOCENTS


@pytest.mark.parametrize(("kind", "options", "outer", "versions"), _OVER_IPV4)
def test_a_tunnel_to_many_other_ends(guest: Guest, kind: str, options: str, outer: int, versions: set[int]) -> None:
    """The same, but for gre: there the outer header comes first, which is told."""
    _tunnel(guest, kind, options, outer, versions, to_one=False)
    wire = guest.cables[0]
    there, sources = _through(kind, outer, versions)
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
