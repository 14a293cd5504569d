"""Which interfaces are filtered: what ip(8) can build on a test machine is tested there, and here the rest as well."""

import pytest

from xdropd.filter.interfaces import choose, why_not
from xdropd.host.netlink import Interface

ETHER, NONE, PPP, LOOPBACK = 1, 0xFFFE, 512, 772  # uapi/linux/if_arp.h


def interface(index, name, *, kind="", arp_type=ETHER, master=0):
    return Interface(index, name, kind, arp_type, True, arp_type == LOOPBACK, master, 1500, 0)


HOST = {
    link.index: link
    for link in (
        interface(1, "lo", arp_type=LOOPBACK),
        interface(2, "eth0", master=10),
        interface(3, "eth1", master=10),
        interface(4, "eth2", master=11),
        interface(5, "eth3", master=12),
        interface(6, "eth4"),
        interface(7, "eth4.100", kind="vlan"),
        interface(10, "bond0", kind="bond"),
        interface(11, "br0", kind="bridge"),
        interface(12, "red", kind="vrf"),
        interface(20, "wg0", kind="wireguard", arp_type=NONE),
        interface(21, "ppp0", kind="ppp", arp_type=PPP),
        interface(22, "tun0", kind="tun", arp_type=NONE),
        interface(23, "tap0", kind="tun"),
    )
}


def names(choice):
    return {HOST[index].name for index in choice.wanted}


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (("eth4",), {"eth4"}),
        (("eth4", "eth4"), {"eth4"}),
        (("eth?",), {"eth0", "eth1", "eth2", "eth3", "eth4"}),
        (("eth[01]", "eth4*"), {"eth0", "eth1", "eth4", "eth4.100"}),
        # Ports are left alone where their master is filtered, unless they are named themselves.
        (("bond*", "eth*"), {"bond0", "eth2", "eth3", "eth4", "eth4.100"}),
        (("bond0", "eth0", "eth1*"), {"bond0", "eth0"}),
        (("br0", "eth2"), {"br0", "eth2"}),
        # A VRF has no frames of its own: the filter belongs on its ports.
        (("red", "eth3*"), {"red", "eth3"}),
        # A glob takes what there is to take, and neither loopback nor what has no Ethernet header.
        (("*",), {"bond0", "br0", "red", "eth3", "eth4", "eth4.100", "tap0"}),
        (("lo",), {"lo"}),
        (("l*",), set()),
    ],
)
def test_names_and_globs(wanted, found):
    choice = choose(wanted, HOST, (), ())
    assert names(choice) == found
    assert choice.refused == {}


def test_what_is_named_and_cannot_be_is_refused_with_the_reason():
    choice = choose(("eth4", "wg0", "ppp0", "tun0", "tun*", "wan0", "wan*"), HOST, (), ())
    assert names(choice) == {"eth4"}
    assert choice.refused == {
        "wg0": "not an Ethernet device (wireguard): its packets carry no Ethernet header to read",
        "ppp0": "not an Ethernet device (ppp): its packets carry no Ethernet header to read",
        "tun0": "not an Ethernet device (tun): its packets carry no Ethernet header to read",
    }
    assert choice.absent == ("wan0", "wan*")
    assert why_not(interface(30, "ib0", arp_type=32)).startswith("not an Ethernet device:")


@pytest.mark.parametrize(
    ("routes", "filtered", "found"),
    [
        ((), (), set()),
        ((6,), (), {"eth4"}),
        ((6, 10), (), {"eth4", "bond0"}),
        ((), (6,), {"eth4"}),  # its route went, and will be back
        ((10,), (6,), {"eth4", "bond0"}),
        ((20,), (), set()),  # a tunnel for everything: nothing to read there
        ((1,), (), set()),
        ((10,), (2, 3), {"bond0"}),  # eth0 and eth1 were filtered before they became its ports
        ((12, 5), (), {"red", "eth3"}),
        ((99,), (98,), set()),  # gone meanwhile
    ],
)
def test_auto_follows_the_default_route_and_does_not_let_go(routes, filtered, found):
    choice = choose(None, HOST, routes, filtered)
    assert names(choice) == found
    assert (choice.refused, choice.absent) == ({}, ())
