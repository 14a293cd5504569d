"""Which interfaces are filtered, and why.

What ip(8) can build on a test machine is tested in tests/netns/test_attaching.py, and here the rest as well: tables of
links as netlink tells them of a host that has everything.
"""

from itertools import permutations

import pytest

from xdropd.filter.carriers import Surroundings
from xdropd.filter.interfaces import choose, starts_with_ip, why_not
from xdropd.host import pppoe
from xdropd.host.netlink import Interface

ETHER, NONE, PPP, LOOPBACK = 1, 0xFFFE, 512, 772  # uapi/linux/if_arp.h
TUNNEL, TUNNEL6, SIT, IPGRE, IP6GRE = 768, 769, 776, 778, 823
HARDWARE = ("pci", "0000:00:03.0")


def interface(
    index, name, *, kind="", arp_type=ETHER, master=0, altnames=(), link=0, parent=("", ""), is_point_to_point=False
):
    is_loopback = arp_type == LOOPBACK
    return Interface(
        *(index, name, kind, arp_type, True, is_loopback, master, 1500, 0, altnames, link, parent),
        is_point_to_point=is_point_to_point,
    )


def card(index, name, **more):
    return interface(index, name, parent=HARDWARE, **more)


HOST = {
    link.index: link
    for link in (
        interface(1, "lo", arp_type=LOOPBACK),
        card(2, "eth0", master=10),
        card(3, "eth1", master=10),
        card(4, "eth2", master=11, altnames=("enp0s4", "uplink0")),
        card(5, "eth3", master=12),
        card(6, "eth4"),
        interface(7, "eth4.100", kind="vlan", link=6),
        interface(8, "eth4.7", kind="vlan", link=6),
        interface(10, "bond0", kind="bond"),
        interface(11, "br0", kind="bridge"),
        interface(12, "red", kind="vrf"),
        interface(13, "bond1", kind="bond"),
        interface(14, "team0", kind="team"),
        interface(15, "br1", kind="bridge"),
        interface(16, "bond0.5", kind="vlan", link=10, master=15),
        interface(17, "br1.9", kind="vlan", link=15),
        interface(18, "blue", kind="vrf"),
        interface(19, "br2", kind="bridge"),
        interface(20, "wg0", kind="wireguard", arp_type=NONE),
        interface(21, "ppp0", kind="ppp", arp_type=PPP),
        interface(22, "tun0", kind="tun", arp_type=NONE),
        interface(23, "tap0", kind="tun", master=11),
        interface(24, "veth0", kind="veth", master=11, link=25),
        interface(25, "veth1", kind="veth", link=24),
        interface(26, "veth2", kind="veth", master=19),  # its peer is in another namespace
        interface(27, "mac0", kind="macvlan", link=4),
        interface(28, "ipv0", kind="ipvlan", link=16),
        interface(29, "mac1", kind="macvlan"),  # of a parent in another namespace
        interface(30, "br3", kind="bridge"),
        interface(31, "vxlan7", kind="vxlan", link=6, master=30),
        interface(32, "vif1.0", master=11, parent=("xen-backend", "vif-1-0")),
        interface(33, "sec0", kind="macsec", link=6),
        interface(34, "br4", kind="bridge", master=35),
        interface(35, "green", kind="vrf"),
        interface(36, "mac2", kind="macvlan", link=24, master=34),
        interface(37, "wg1", kind="wireguard", arp_type=NONE, master=35),
        interface(38, "gre7", kind="gretap", link=6),
        interface(39, "six0", kind="sit", arp_type=SIT, link=6),
        interface(40, "br5", kind="bridge"),
        interface(41, "br0.9", kind="vlan", link=11, master=40),
        interface(42, "ifb0", kind="ifb"),
    )
}
AROUND = Surroundings(HOST)
INDEXES = {link.name: link.index for link in HOST.values()}


def names(choice):
    return {HOST[index].name for index in choice.wanted}


def why(choice):
    return {HOST[index].name: why for index, why in choice.wanted.items()}


def auto(*routed, held=(), sessions=(), mode="auto"):
    indexes = [INDEXES.get(name, 99) for name in routed]
    return choose(None, Surroundings(HOST, sessions), indexes, [INDEXES.get(name, 98) for name in held], mode)


# By name


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (("eth4",), {"eth4"}),
        (("eth4", "eth4"), {"eth4"}),
        (("eth?",), {"eth0", "eth1", "eth2", "eth3", "eth4"}),
        (("eth[01]", "eth4*"), {"eth0", "eth1", "eth4", "eth4.100", "eth4.7"}),
        # Ports of a bond are left alone where it is filtered, unless they are named themselves.
        (("bond0", "eth?"), {"bond0", "eth2", "eth3", "eth4"}),
        (("bond0", "eth0", "eth1*"), {"bond0", "eth0"}),
        # Those of a bridge are not: what it forwards never meets its own hook.
        (("br0", "eth2"), {"br0", "eth2"}),
        (
            ("br*", "e*2", "t*"),
            {"br0", "br1", "br1.9", "br2", "br3", "br4", "br5", "br0.9", "eth2", "tap0", "team0", "tun0"},
        ),
        # A VRF meets no packets: nor does a glob mean it.
        (("r*", "eth3*"), {"eth3"}),
        (("lo",), {"lo"}),
        (("l*",), set()),
        # Further names are as good as the first.
        (("enp0s4",), {"eth2"}),
        (("enp*", "uplink0", "eth2"), {"eth2"}),
        (("uplink?",), {"eth2"}),
    ],
)
def test_names_and_globs(wanted, found):
    for order in permutations(wanted):
        choice = choose(order, AROUND)
        assert names(choice) == found
        assert choice.refused == choice.waiting == choice.unfollowed == {}
        assert set(choice.wanted.values()) <= {""}


def test_a_glob_takes_what_there_is_to_take():
    """Neither loopback, VRFs, ifb devices, nor the ports of a bond."""
    left_alone = {"lo", "red", "blue", "green", "ifb0", "eth0", "eth1", "bond1"}
    choice = choose(("*",), AROUND)
    assert names(choice) == {link.name for link in HOST.values()} - left_alone
    assert list(choice.waiting) == ["bond1"]


def test_what_is_named_and_cannot_be_is_refused_with_the_reason():
    wanted = ("eth4", "wg0", "ppp0", "tun0", "tun*", "wan0", "wan*", "red", "blue")
    choice = choose(wanted, AROUND, mode="native")
    assert names(choice) == {"eth4"}
    no_native = "it has no native mode, for its packets start with IP: 'xdp_mode: auto' filters it"
    assert choice.refused == {
        "wg0": f"wg0: {no_native}",
        "ppp0": f"ppp0: {no_native}",
        "tun0": f"tun0: {no_native}",
        "red": "red: packets never meet a filter on a VRF device, name its ports instead: eth3",
        "blue": "blue: packets never meet a filter on a VRF device, name its ports instead, of which it has none yet",
    }
    assert choice.waiting == {
        "wan0": "wan0: no such interface yet, it is filtered as soon as it appears",
        "wan*": "wan*: no such interface yet, it is filtered as soon as it appears",
    }
    for mode in ("auto", "generic"):
        choice = choose(wanted, AROUND, mode=mode)
        assert names(choice) == {"eth4", "wg0", "ppp0", "tun0"}
        assert set(choice.refused) == {"red", "blue"}
    assert choose(("ifb0", "eth4"), AROUND).refused == {
        "ifb0": "ifb0: packets never meet a filter on an ifb device, name the one that they are redirected from"
    }
    assert why_not(interface(40, "ib0", arp_type=32), AROUND) == (
        "what its packets begin with is not known: neither an Ethernet header nor IP"
    )


@pytest.mark.parametrize("wanted", [("bond1",), ("bond[1]",), None])
def test_a_bond_without_ports_is_waited_for_unless_it_can_do_no_harm(wanted):
    for mode in ("auto", "native"):
        choice = choose(wanted, AROUND, [13], [], mode)
        assert names(choice) == set()
        assert choice.waiting == {"bond1": "bond1 has no port yet: waits for the first one"}
    assert names(choose(wanted, AROUND, [13], [], "generic")) == {"bond1"}


# auto


@pytest.mark.parametrize(
    ("routed", "found"),
    [
        (("eth4",), {"eth4": "has a default route"}),
        (("eth4", "bond0"), {"eth4": "has a default route", "bond0": "has a default route"}),
        # A bridge: the ports that lead outside, not those to guests.
        (("br0",), {"eth2": "carries br0, which has a default route"}),
        (("br2",), {"br2": "has a default route"}),
        (("br3",), {"vxlan7": "carries br3, which has a default route"}),
        (("br5",), {"eth2": "carries br5, which has a default route"}),  # by a VLAN of br0's
        # VLAN, macvlan and ipvlan: their parent, one on top of the other.
        (("eth4.100",), {"eth4": "carries eth4.100, which has a default route"}),
        (("eth4.100", "eth4.7"), {"eth4": "carries eth4.100 and eth4.7, which have a default route"}),
        (("eth4.100", "eth4"), {"eth4": "has a default route"}),
        (("mac0",), {"eth2": "carries mac0, which has a default route"}),
        (("br1.9",), {"bond0": "carries br1.9, which has a default route"}),
        (("ipv0",), {"bond0": "carries ipv0, which has a default route"}),
        (("mac1",), {"mac1": "has a default route"}),
        (("sec0",), {"sec0": "has a default route"}),
        # A VRF: its ports; a route of its table names one of them itself.
        (("red",), {"eth3": "carries red, which has a default route"}),
        (("eth3",), {"eth3": "has a default route"}),
        # A bond, for its ports have no packets of their own.
        (("eth1",), {"bond0": "has the port eth1, which has a default route"}),
        (("team0",), {"team0": "has a default route"}),
    ],
)
def test_auto_goes_from_default_routes_to_where_packets_arrive(routed, found):
    for order in permutations(routed):
        choice = auto(*order)
        assert why(choice) == found
        assert choice.refused == choice.waiting == choice.unfollowed == {}


@pytest.mark.parametrize("routed", [(), ("lo",), ("gone meanwhile",)])
def test_auto_without_a_route(routed):
    choice = auto(*routed)
    assert choice.wanted == choice.unfollowed == {}
    assert list(choice.waiting) == [""]


def test_auto_does_not_let_go_of_what_had_a_route():
    assert why(auto(held=["eth4"])) == {"eth4": "had a default route"}
    assert why(auto("br0", held=["eth4"])) == {
        "eth4": "had a default route",
        "eth2": "carries br0, which has a default route",
    }
    assert why(auto("eth4", held=["eth4.7"])) == {"eth4": "has a default route"}
    assert why(auto(held=["br0", "mac0"])) == {"eth2": "carries br0 and mac0, which had a default route"}
    assert names(auto("bond0", held=["eth0", "eth1"])) == {"bond0"}  # they became its ports
    assert names(auto(held=["gone"])) == set()
    choice = auto("eth4", held=["wg0"])
    assert choice.unfollowed == {}, "it is not asked for any more"


def test_default_routes_that_cannot_be_followed():
    assert names(auto("wg0", "green")) == {"wg0", "wg1", "br4"}  # green's bridge has guests only
    choice = choose(None, AROUND, [INDEXES[name] for name in ("wg0", "blue", "green", "eth4")], [], "native")
    assert names(choice) == {"eth4", "br4"}
    wg = "it has no native mode, for its packets start with IP: 'xdp_mode: auto' filters it"
    assert choice.unfollowed == {
        "wg0": f"wg0: has a default route and is left alone: {wg}",
        "wg1": f"wg1: carries green, which has a default route, and is left alone: {wg}",
        "blue": "blue: has a default route and is left alone: packets never meet a filter on a VRF device, "
        "name its ports instead, of which it has none yet",
    }


@pytest.mark.parametrize("arp_type", [NONE, PPP, TUNNEL, TUNNEL6, SIT, IPGRE, IP6GRE])
def test_devices_whose_packets_start_with_ip(arp_type):
    tunnel = interface(40, "tunnel0", arp_type=arp_type, is_point_to_point=True)
    for mode in ("auto", "generic"):
        assert choose(None, Surroundings({40: tunnel}), [40], (), mode).wanted == {40: "has a default route"}
    assert starts_with_ip(tunnel)


def test_a_gre_tunnel_to_nobody_in_particular_shows_its_outer_headers():
    tunnel = interface(40, "gre0", kind="gre", arp_type=IPGRE)
    assert not starts_with_ip(tunnel)
    choice = choose(None, Surroundings({40: tunnel}), [40])
    assert choice.wanted == {}
    assert choice.unfollowed == {
        "gre0": "gre0: has a default route and is left alone: packets meet a filter there with their outer header, "
        "for this tunnel has no remote address"
    }


@pytest.mark.parametrize(("kind", "arp_type"), [("xfrm", NONE), ("vti", TUNNEL), ("vti6", TUNNEL6)])
def test_ipsec_devices_are_told_and_left_alone(kind, arp_type):
    """Filtered as what starts with IP, they let through whoever is listed: seen with Linux 6.12."""
    tunnel = interface(40, "sec7", kind=kind, arp_type=arp_type, is_point_to_point=True)
    for mode in ("auto", "native", "generic"):
        choice = choose(None, Surroundings({40: tunnel}), [40], (), mode)
        assert choice.wanted == {}
        assert choice.unfollowed["sec7"].startswith(
            "sec7: has a default route and is left alone: packets meet a filter"
        )
        assert choose(("sec7",), Surroundings({40: tunnel}), mode=mode).refused.keys() == {"sec7"}


def test_below_pppoe_is_the_device_of_its_session():
    assert why(auto("ppp0", sessions=["eth4"])) == {"eth4": "carries ppp0, which has a default route"}
    assert names(auto("ppp0", sessions=["eth4.7"])) == {"eth4"}
    assert names(auto("ppp0", sessions=["eth4.7", "br0"])) == {"eth4", "eth2"}, "which one it is nobody tells"
    assert names(auto("ppp0", sessions=["gone"])) == {"ppp0"}
    assert names(auto("ppp0", sessions=["enp0s4"])) == {"eth2"}, "a further name is as good as the first"


def test_sessions_are_read_as_the_kernel_writes_them():
    table = (
        b"Id       Address              Device\n"
        b"00000001 52:54:00:12:34:56     eth0\n"
        b"0000BEEF 52:54:00:12:34:57 a-long-name.123\n"
        b"00000002 52:54:00:12:34:58  wan\xff7\n"
    )
    assert pppoe.read(table) == {"eth0", "a-long-name.123", r"wan\xff7"}
    assert pppoe.read(b"Id       Address              Device\n") == pppoe.read(b"") == frozenset()


# How devices stand on each other


def test_from_below():
    ordered = [HOST[index].name for index in AROUND.lowest_first(HOST)]
    assert sorted(ordered) == sorted(INDEXES)
    for lower, upper in (
        ("eth0", "bond0"), ("bond0", "bond0.5"), ("bond0.5", "br1"), ("br1", "br1.9"), ("eth4", "vxlan7"),
        ("vxlan7", "br3"), ("eth2", "mac0"), ("bond0.5", "ipv0"), ("tap0", "br0"), ("mac2", "br4"), ("br4", "green"),
    ):  # fmt: skip
        assert ordered.index(lower) < ordered.index(upper), (lower, upper)


def test_what_stands_directly_on_a_device():
    above = {name: {HOST[at].name for at in AROUND.above(index)} for name, index in INDEXES.items()}
    assert above["eth4"] == {"eth4.100", "eth4.7", "vxlan7", "sec0"}, "and no tunnels that are merely bound to it"
    assert above["bond0.5"] == {"br1", "ipv0"}
    assert above["veth0"] == {"br0", "mac2"}, "and not its peer"
    assert above["br1.9"] == set()


def test_a_table_that_makes_no_sense_ends_all_the_same():
    """Two dumps may have gone into one: devices that stand on each other, or on what is not there."""
    links = {
        1: interface(1, "a", kind="vlan", link=2, master=3),
        2: interface(2, "b", kind="macvlan", link=1, master=3),
        3: interface(3, "c", kind="bridge", master=3),
        4: interface(4, "d", kind="vlan", link=9, master=9),
    }
    around = Surroundings(links)
    assert sorted(around.lowest_first(links)) == [1, 2, 3, 4]
    assert names_of(around, 4) == {"d"}
    for index in (1, 2, 3):
        names_of(around, index)
    assert list(around.above(4)) == []


def names_of(around, index):
    return {around.links[each].name for each in around.carriers(index)}
