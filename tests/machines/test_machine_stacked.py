"""Devices that stand on others: below each, `auto` finds where packets arrive, and filters there.

Every test is one story. Without xdropd everybody is answered; with it, all but those that are listed.
"""

import pytest
from cable import EVERYBODY, INNOCENTS, QINQ, Way, tag
from guests import Guest
from installed import (
    ADDRESSES,
    SOON_S,
    address,
    becomes,
    configure,
    filtered,
    mac,
    messages,
    namespace,
    start,
    status,
    told,
    way,
)

from waiting import wait_until

_INNER = {4: "192.0.2.2", 6: "2001:db8::2"}
_INNER_MAC = "02:00:00:00:01:02"
_OWN_MAC = "02:00:00:00:01:01"


@pytest.mark.always("bookworm")
def test_below_a_bridge_the_host_and_the_guests_behind_it(guest: Guest) -> None:
    guest.do(
        f"ip link add br0 address {_OWN_MAC} type bridge",
        "ip link set nic0 master br0 up",
        *address("br0"),
        *namespace("inner", _INNER, _INNER_MAC, "tap0"),
        "ip link set tap0 master br0",
    )
    wire = guest.cables[0]
    host, behind = Way(_OWN_MAC, ADDRESSES), Way(_INNER_MAC, _INNER)
    assert wire.answered(host, EVERYBODY) == wire.answered(behind, EVERYBODY) == EVERYBODY
    start(guest)
    assert filtered(guest) == {"nic0": "native"}
    assert wire.answered(host) == wire.answered(behind) == INNOCENTS
    (carrier,) = status(guest)["interfaces"]
    assert carrier["why"] == "carries br0, which has a default route"
    for named in ("[nic0]", '["nic*"]', "[br0, nic0]", '["*"]'):  # in any order of settings
        configure(guest, named)
        wait_until(
            lambda: wire.answered(host) == wire.answered(behind) == INNOCENTS and not status(guest)["degraded"],
            within_s=SOON_S,
        )
        wait_until(lambda: "nic0" in filtered(guest), within_s=SOON_S)
    configure(guest, "[br0]")
    wait_until(lambda: filtered(guest) == {"br0": "generic"}, within_s=SOON_S)
    assert wire.answered(host) == INNOCENTS
    assert wire.answered(behind, EVERYBODY) == EVERYBODY, "what it forwards never meets its own hook"


@pytest.mark.always("bookworm")
def test_below_a_vrf_its_ports(guest: Guest) -> None:
    """The default route is in the VRF's table alone."""
    guest.do(
        "ip link add red type vrf table 10",
        "ip link set red up",
        "ip link set nic0 master red",
        *address("nic0", table=10),
    )
    wire = guest.cables[0]
    assert wire.answered(way(), EVERYBODY) == EVERYBODY
    start(guest)
    assert filtered(guest) == {"nic0": "native"}
    assert status(guest)["degraded"] is False
    assert wire.answered(way()) == INNOCENTS

    configure(guest, "[red]")
    wait_until(lambda: status(guest)["degraded"], within_s=SOON_S)
    assert status(guest)["state"] == "waiting"
    assert any("name its ports instead: nic0" in each for each in status(guest)["troubles"])
    assert wire.answered(way(), EVERYBODY) == EVERYBODY

    guest.do("ip route add default dev red")  # as of a host that leaks routes between its tables
    configure(guest, "auto")
    wait_until(lambda: filtered(guest) == {"nic0": "native"}, within_s=SOON_S)
    assert wire.answered(way()) == INNOCENTS


def test_below_a_vlan_device_its_parent(guest: Guest) -> None:
    """All VLANs of the card, and what has no tag; one tag, or two."""
    guest.do(
        "ip link set nic0 up",
        "ip link add link nic0 name nic0.7 type vlan id 7",
        "ip link add link nic0 name nic0.8 type vlan proto 802.1ad id 8",
        "ip link set nic0.8 up",
        "ip link add link nic0.8 name nic0.8.9 type vlan id 9",
        *address("nic0.7"),
        *address("nic0.8.9", addresses=_INNER, routed=False),
    )
    wire = guest.cables[0]
    one = way(before=tag(7))
    two = Way(mac(0), _INNER, before=tag(8, QINQ) + tag(9))
    assert wire.answered(one, EVERYBODY) == wire.answered(two, EVERYBODY) == EVERYBODY
    start(guest)
    assert filtered(guest) == {"nic0": "native"}
    assert wire.answered(one) == wire.answered(two) == INNOCENTS


def test_below_a_macvlan_device_its_parent(guest: Guest) -> None:
    guest.do(
        "ip link set nic0 up",
        f"ip link add link nic0 name mac0 address {_OWN_MAC} type macvlan mode bridge",
        *address("mac0"),
    )
    wire, there = guest.cables[0], Way(_OWN_MAC, ADDRESSES)
    assert wire.answered(there, EVERYBODY) == EVERYBODY
    start(guest)
    assert filtered(guest) == {"nic0": "native"}
    assert wire.answered(there) == INNOCENTS


@pytest.mark.parametrize("mode", ["l2", "l3", "l3s"])
def test_below_an_ipvlan_device_its_parent(guest: Guest, mode: str) -> None:
    guest.do(
        "ip link set nic0 up",
        f"ip link add link nic0 name ipv0 type ipvlan mode {mode}",
        *address("ipv0", routed=False),
        "ip route add default dev ipv0",
        "ip -6 route add default dev ipv0",
        # In l3 mode what goes out takes its way by the parent's routes.
        *(f"ip neigh replace {each} lladdr 02:00:00:00:fe:01 dev nic0" for each in ("192.0.2.254", "fe80::fe")),
        "ip route add 198.51.100.0/24 via 192.0.2.254 dev nic0 onlink",
        "ip route add 2001:db8:bad::/64 via fe80::fe dev nic0",
    )
    wire = guest.cables[0]
    assert wire.answered(way(), EVERYBODY) == EVERYBODY
    start(guest)
    assert filtered(guest) == {"nic0": "native"}
    assert wire.answered(way()) == INNOCENTS


@pytest.mark.parametrize("mode", ["active-backup", "802.3ad", "balance-rr", "balance-xor"])
def test_a_bond_is_filtered_once_it_has_its_ports(guest: Guest, mode: str) -> None:
    """Both can native mode, and so can the bond: samples name the port at which a packet came in."""
    configure(guest, "[bond0]", "log_drops: 60/s")
    # Linux 6.12 aggregates no port of unknown speed, which that of a virtual card is unless it is told.
    guest.do("ethtool -s nic0 speed 1000 duplex full", "ethtool -s nic1 speed 1000 duplex full")
    guest.do(f"ip link add bond0 address {_OWN_MAC} type bond mode {mode} miimon 100")
    start(guest)
    assert status(guest)["state"] == "waiting"
    assert any("bond0 has no port yet: waits for the first one" in each for each in told(guest))
    guest.do("ip link set nic0 master bond0", *address("bond0"))
    there = Way(_OWN_MAC, ADDRESSES)
    becomes(guest, bond0="native")
    assert guest.cables[0].answered(there) == INNOCENTS
    guest.do("ip link set nic1 master bond0")
    assert _ports(guest) == {"nic0", "nic1"}
    if mode == "active-backup":
        guest.do("ip link set bond0 type bond active_slave nic1")
        assert guest.cables[1].answered(there) == INNOCENTS
        dropped = [(each["XDROPD_INTERFACE"], each["XDROPD_PORT"]) for each in messages(guest, "drop")]
        assert {*dropped} == {("bond0", "nic0"), ("bond0", "nic1")}


def test_a_bond_of_mixed_ports_is_filtered_in_generic_mode_and_keeps_them_all(guest: Guest) -> None:
    configure(guest, "[bond0]")
    guest.do(f"ip link add bond0 address {_OWN_MAC} type bond mode active-backup miimon 100")
    start(guest)
    guest.run("ip", "-batch", "-", stdin="link set nic0 master bond0\nlink set nic2 master bond0\n")
    guest.do(*address("bond0"), "ip link set bond0 type bond active_slave nic0")
    becomes(guest, bond0="generic")
    assert _ports(guest) == {"nic0", "nic2"}
    there = Way(_OWN_MAC, ADDRESSES)
    assert guest.cables[0].answered(there) == INNOCENTS
    wait_until(lambda: "up" in guest.do("cat /sys/class/net/nic2/operstate"), within_s=SOON_S)  # it takes its time
    # What comes in on a port that is not the active one is counted, and handed to nobody.
    guest.cables[2].flood(there, min(INNOCENTS), 240, rate=20)
    assert not any("saw none of them" in each for each in told(guest))
    guest.do("ip link set bond0 type bond active_slave nic2")
    assert guest.cables[2].answered(there) == INNOCENTS

    guest.do("ip link set nic0 nomaster")  # and takes another one that has a program of its own
    configure(guest, "[bond0, nic1]")
    becomes(guest, bond0="generic", nic1="native")
    guest.do("ip link set nic1 down", "ip link set nic1 master bond0", "ip link set bond0 type bond active_slave nic1")
    assert _ports(guest) == {"nic1", "nic2"}
    assert guest.cables[1].answered(there) == INNOCENTS


def test_a_team_is_filtered_in_generic_mode(guest: Guest) -> None:
    """The driver of this kind has no native mode. In this mode of its own, what it says goes out by every port."""
    guest.do(
        f"ip link add team0 address {_OWN_MAC} type team",
        "teamnl team0 setoption mode broadcast",
        "ip link set nic0 master team0",
        "ip link set nic2 master team0",
        *address("team0"),
    )
    there = Way(_OWN_MAC, ADDRESSES)
    wait_until(lambda: "up" in guest.do("cat /sys/class/net/nic2/operstate"), within_s=SOON_S)
    for number in (0, 2):
        assert guest.cables[number].answered(there, EVERYBODY) == EVERYBODY
    start(guest)
    assert filtered(guest) == {"team0": "generic"}
    for number in (0, 2):
        assert guest.cables[number].answered(there) == INNOCENTS
    assert status(guest)["degraded"] is False


def _ports(guest: Guest) -> set[str]:
    return set(guest.do("cat /sys/class/net/bond0/bonding/slaves").split())
