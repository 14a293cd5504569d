"""What Netlink says about a namespace, beside what ip(8) was told to make there or says about it."""

import errno
import json
import os
import select
import socket
import subprocess
import sys
import time

import pytest

from netns import Net, inside
from xdropd.errors import KernelError
from xdropd.host.netlink import Netlink
from xdropd.kernel import libbpf
from xdropd.text.addresses import Span, parse_span


@pytest.fixture
def net():
    with Net() as made:
        yield made


@pytest.fixture
def netlink(net):
    with inside(net.host):
        opened = Netlink()
    yield opened
    opened.close()


def spans(*texts: str) -> frozenset[Span]:
    return frozenset(map(parse_span, texts))


def index(net: Net, device: str) -> int:
    return json.loads(net.run(net.host, "ip", "-j", "link", "show", device))[0]["ifindex"]


def news(netlink: Netlink, wanted: str) -> frozenset[str]:
    """All that changed until `wanted` was among it; at most two seconds."""
    found: frozenset[str] = frozenset()
    deadline = time.monotonic() + 2
    while wanted not in found and time.monotonic() < deadline:
        select.select([netlink], [], [], deadline - time.monotonic())
        found |= netlink.changes()
    assert wanted in found
    return found


def quiet(netlink: Netlink) -> None:
    """Wait until no more news come: the kernel sends some a little later, of a link's carrier for one."""
    deadline = time.monotonic() + 5
    while select.select([netlink], [], [], 0.1)[0]:
        netlink.changes()
        assert time.monotonic() < deadline


# Interfaces


def test_interfaces_are_those_that_ip_lists(net, netlink):
    for number, kind in enumerate(("bridge", "veth", "tuntap", "ifb")):
        if kind == "tuntap":
            net.run(net.host, "ip", "tuntap", "add", f"if{number}", "mode", "tun")
        else:
            net.run(net.host, "ip", "link", "add", f"if{number}", "type", kind)
    net.run(net.host, "ip", "link", "set", "if1", "master", "if0", "mtu", "9000", "up")

    listed = json.loads(net.run(net.host, "ip", "-j", "-d", "link"))
    found = netlink.interfaces()
    assert {"lo", "eth0", "if0", "if1", "if2", "if3"} <= {device["ifname"] for device in listed}
    assert set(found) == {device["ifindex"] for device in listed}
    by_name = {device["ifname"]: device["ifindex"] for device in listed}
    arp_types = {"loopback": 772, "ether": 1, "none": 0xFFFE}
    for device in listed:
        interface = found[device["ifindex"]]
        assert interface.index == device["ifindex"]
        assert interface.name == device["ifname"]
        assert interface.kind == device.get("linkinfo", {}).get("info_kind", "")
        assert interface.arp_type == arp_types[device["link_type"]]
        assert interface.is_up == ("UP" in device["flags"])
        assert interface.is_loopback == ("LOOPBACK" in device["flags"])
        assert interface.is_point_to_point == ("POINTOPOINT" in device["flags"])
        assert interface.master == by_name.get(device.get("master"), 0)
        assert interface.mtu == device["mtu"]
        assert interface.xdp_program == 0


def test_what_an_interface_stands_on_and_what_else_it_is_called(net, netlink):
    net.batch(
        net.host,
        "link add pair0 type veth peer name pair1",
        "link add mac0 link pair0 type macvlan",
        "link add vxlan0 type vxlan id 7 dstport 4789 remote 198.51.100.2 dev pair0",
        "link add vxlan1 type vxlan id 8 dstport 4789 remote 198.51.100.2",
        "link property add dev eth0 altname enp0s4 altname a-name-too-long-for-any-device",
    )
    found = {interface.name: interface for interface in netlink.interfaces().values()}
    assert found["eth0"].altnames == ("enp0s4", "a-name-too-long-for-any-device")
    assert found["pair0"].altnames == ()
    assert {name: interface.link for name, interface in found.items()} == {
        "lo": 0,
        "eth0": 0,  # its peer is in another namespace, whose indexes are its own
        "pair0": found["pair1"].index,
        "pair1": found["pair0"].index,
        "mac0": found["pair0"].index,
        "vxlan0": found["pair0"].index,
        "vxlan1": 0,
    }
    assert {(interface.parent, interface.table) for interface in found.values()} == {(("", ""), 0)}


@pytest.mark.parametrize("flags", [libbpf.XDP_FLAGS_SKB_MODE, libbpf.XDP_FLAGS_DRV_MODE])
def test_the_program_of_an_interface(net, netlink, flags):
    # r0 = XDP_PASS; exit
    program = libbpf.load_xdp_program("pass", bytes.fromhex("b700000002000000 9500000000000000"))
    device = index(net, net.device)
    with inside(net.host):
        link = libbpf.attach_xdp(program, device, flags)
    found = netlink.interfaces()
    assert found[device].xdp_program == libbpf.program_shape(program).id
    assert {other.xdp_program for other in found.values() if other.index != device} == {0}
    os.close(link)
    assert netlink.interfaces()[device].xdp_program == 0
    os.close(program)


def test_more_interfaces_than_fit_into_one_message(net, netlink):
    net.batch(net.host, *(f"link add dev many{number} type bridge" for number in range(150)))
    names = {interface.name for interface in netlink.interfaces().values()}
    assert names >= {f"many{number}" for number in range(150)}
    assert len(names) == 152


def test_a_name_that_is_no_utf8(net, netlink):
    with inside(net.host):
        subprocess.run([b"ip", b"link", b"add", b"w\xe4n", b"type", b"bridge"], check=True)
    assert r"w\xe4n" in {interface.name for interface in netlink.interfaces().values()}


def test_it_stays_in_the_namespace_where_it_was_made(net, netlink):
    with inside(net.peer):
        here = Netlink()
    net.run(net.peer, "ip", "link", "add", "only-peer", "type", "bridge")
    assert "only-peer" in {interface.name for interface in here.interfaces().values()}
    assert "only-peer" not in {interface.name for interface in netlink.interfaces().values()}
    here.close()


# Default routes


def test_no_default_route(netlink):
    assert netlink.routes().interfaces() == set()


@pytest.mark.parametrize(
    "route", ["default via 198.51.100.2", "default dev eth0", "-6 default via 2001:db8:51::2", "-6 default dev eth0"]
)
def test_the_interface_of_a_default_route(net, netlink, route):
    family = ["-6"] if route.startswith("-6") else []
    net.run(net.host, "ip", *family, "route", "add", *route.removeprefix("-6 ").split())
    assert netlink.routes().interfaces() == {index(net, "eth0")}
    net.run(net.host, "ip", *family, "route", "del", "default")
    assert netlink.routes().interfaces() == set()


@pytest.mark.parametrize(
    "route",
    [
        "default via 198.51.100.2 table 100",
        "default via 198.51.100.2 table 70000",
        "0.0.0.0/1 via 198.51.100.2",
        "unreachable default",
        "blackhole default",
        "prohibit default",
        "-6 default via 2001:db8:51::2 table 70000",
        "-6 unreachable default",
        "-6 2000::/3 via 2001:db8:51::2",
    ],
)
def test_what_is_no_default_route_of_the_main_table(net, netlink, route):
    family, words = (["-6"], route.split()[1:]) if route.startswith("-6") else ([], route.split())
    kinds = ("unreachable", "blackhole", "prohibit")
    command = ["add", words[0], *words[1:]] if words[0] in kinds else ["add", *words]
    net.run(net.host, "ip", *family, "route", *command)
    assert netlink.routes().interfaces() == set()


def test_default_routes_of_further_tables(net, netlink):
    net.run(net.host, "ip", "route", "add", "default", "via", "198.51.100.2", "table", "70000")
    net.run(net.host, "ip", "-6", "route", "add", "default", "via", "2001:db8:51::2", "table", "100")
    for tables, found in (((), set()), ((101,), set()), ((70000,), {"eth0"}), ((7, 100), {"eth0"})):
        assert netlink.routes().interfaces(tables) == {index(net, name) for name in found}


@pytest.fixture
def two_ways(net):
    """A second device in the host namespace, so that a route has two to go through."""
    net.run(net.host, "ip", "link", "add", "wan1", "type", "bridge")
    net.run(net.host, "ip", "link", "set", "wan1", "up")
    net.address(net.host, "203.0.113.1/24", "2001:db8:71::1/64", device="wan1")
    return {index(net, "eth0"), index(net, "wan1")}


@pytest.mark.parametrize(
    ("family", "ways"), [("-4", ("198.51.100.2", "203.0.113.2")), ("-6", ("2001:db8:51::2", "2001:db8:71::2"))]
)
def test_every_path_of_a_multipath_route(net, netlink, two_ways, family, ways):
    hops = [word for way in ways for word in ("nexthop", "via", way)]
    net.run(net.host, "ip", family, "route", "add", "default", *hops)
    assert netlink.routes().interfaces() == two_ways
    assert netlink.routes().gateways == spans(*ways)


@pytest.mark.parametrize("compat_mode", ["0", "1"])
@pytest.mark.parametrize(
    ("family", "ways"), [("-4", ("198.51.100.2", "203.0.113.2")), ("-6", ("2001:db8:51::2", "2001:db8:71::2"))]
)
def test_next_hop_objects_and_groups(net, netlink, two_ways, compat_mode, family, ways):
    net.run(net.host, "sysctl", "-qw", f"net.ipv4.nexthop_compat_mode={compat_mode}")
    for number, (way, device) in enumerate(zip(ways, ("eth0", "wan1"), strict=True), 1):
        net.run(net.host, "ip", "nexthop", "add", "id", str(number), "via", way, "dev", device)
    net.run(net.host, "ip", "nexthop", "add", "id", "10", "group", "1/2")
    assert netlink.routes().interfaces() == set()
    assert netlink.routes().gateways == spans(*ways)

    net.run(net.host, "ip", family, "route", "add", "default", "nhid", "1")
    assert netlink.routes().interfaces() == {index(net, "eth0")}
    net.run(net.host, "ip", family, "route", "replace", "default", "nhid", "10")
    assert netlink.routes().interfaces() == two_ways
    assert netlink.routes().gateways == spans(*ways)


def test_a_blackhole_object_leads_nowhere(net, netlink):
    net.run(net.host, "sysctl", "-qw", "net.ipv4.nexthop_compat_mode=0")
    net.run(net.host, "ip", "nexthop", "add", "id", "1", "blackhole")
    net.run(net.host, "ip", "route", "add", "default", "nhid", "1")
    assert netlink.routes().interfaces() == set()
    assert netlink.routes().gateways == frozenset()


# Addresses and gateways


def test_own_addresses(net, netlink):
    net.address(net.host, "192.0.2.1/32", "192.0.2.255/24")
    net.run(net.host, "ip", "address", "add", "10.9.0.1", "peer", "10.9.0.2", "dev", "eth0")
    net.run(net.host, "ip", "address", "add", "2001:db8:9::1", "peer", "2001:db8:9::2", "dev", "eth0", "nodad")
    assert netlink.own_addresses() == spans(
        *("127.0.0.1", "::1", "198.51.100.1", "2001:db8:51::1", "192.0.2.1", "192.0.2.255", "10.9.0.1", "2001:db8:9::1")
    )


def test_connected_networks(net, netlink):
    net.run(net.host, "ip", "address", "add", "203.0.113.9/32", "dev", "lo")
    net.run(net.host, "ip", "address", "add", "192.0.2.1", "peer", "192.0.2.129/26", "dev", net.device)
    net.run(net.host, "ip", "address", "add", "10.1.2.3/0", "dev", net.device)
    assert netlink.connected_networks() == spans(
        "127.0.0.0/8", "::1", "198.51.100.0/24", "2001:db8:51::/64", "203.0.113.9", "192.0.2.128/26"
    )


def test_gateways_of_every_table_and_family(net, netlink):
    net.run(net.host, "ip", "route", "add", "default", "via", "198.51.100.2")
    net.run(net.host, "ip", "route", "add", "10.0.0.0/8", "via", "198.51.100.3", "table", "70000")
    net.run(net.host, "ip", "route", "add", "10.1.0.0/16", "via", "inet6", "2001:db8:51::4", "dev", "eth0")
    net.run(net.host, "ip", "-6", "route", "add", "2001:db8:a::/48", "via", "2001:db8:51::5", "table", "100")
    net.run(net.host, "ip", "-6", "route", "add", "default", "via", "fe80::6", "dev", "eth0")
    net.run(net.host, "ip", "route", "add", "10.2.0.0/16", "dev", "eth0")
    net.run(net.host, "ip", "route", "add", "blackhole", "10.3.0.0/16")
    hops = ["nexthop", "via", "198.51.100.7", "nexthop", "via", "inet6", "2001:db8:51::8", "dev", "eth0"]
    net.run(net.host, "ip", "route", "add", "10.4.0.0/16", *hops)
    net.run(net.host, "ip", "nexthop", "add", "id", "9", "via", "198.51.100.9", "dev", "eth0")
    net.run(net.host, "ip", "nexthop", "add", "id", "10", "via", "198.51.100.10", "fdb")
    assert netlink.routes().gateways == spans(
        *("198.51.100.2", "198.51.100.3", "2001:db8:51::4", "2001:db8:51::5", "fe80::6"),
        *("198.51.100.7", "2001:db8:51::8", "198.51.100.9"),
    )


def test_a_large_table(net, netlink):
    lines = [
        f"route add 10.{n >> 8}.{n & 255}.0/24 via 198.51.100.{2 + n % 250} table {1 + n % 7}" for n in range(20000)
    ]
    net.batch(net.host, *lines)
    net.run(net.host, "ip", "route", "add", "default", "via", "198.51.100.2")
    assert netlink.routes().gateways == spans(*(f"198.51.100.{2 + n}" for n in range(250)))
    assert netlink.routes().interfaces() == {index(net, "eth0")}


def test_answers_while_everything_moves(net, netlink):
    """Dumps that the kernel marks as interrupted are asked for again: what stays is in every answer."""
    net.batch(net.host, *(f"address add 10.7.{n >> 8}.{n & 255}/32 dev eth0" for n in range(2000)))
    stay = spans(*(f"10.7.{n >> 8}.{n & 255}" for n in range(2000)))
    flap = "while :; do ip link add flap type bridge; ip address add 10.8.0.1/32 dev flap; ip link del flap; done"
    flapping = net.start(net.host, "sh", "-c", flap)
    news(netlink, "addresses")
    for _ in range(30):
        assert stay <= netlink.own_addresses()
        assert {"lo", "eth0"} <= {interface.name for interface in netlink.interfaces().values()}
    assert flapping.poll() is None


# News


def test_no_news(netlink):
    quiet(netlink)
    assert netlink.changes() == frozenset()


@pytest.mark.parametrize(
    ("command", "what"),
    [
        ("link add br0 type bridge", "links"),
        ("link set eth0 name uplink0", "links"),
        ("link set eth0 down", "links"),
        ("address add 192.0.2.1/24 dev eth0", "addresses"),
        ("address del 198.51.100.1/24 dev eth0", "addresses"),
        ("address add 2001:db8:8::1/64 dev eth0", "addresses"),
        ("route add default via 198.51.100.2", "routes"),
        ("-6 route add default via 2001:db8:51::2", "routes"),
        ("nexthop add id 3 via 198.51.100.2 dev eth0", "routes"),
    ],
)
def test_news(net, netlink, command, what):
    quiet(netlink)
    net.run(net.host, "ip", *command.split())
    assert news(netlink, what) <= {"links", "addresses", "routes"}


def test_routes_that_go_silently_are_news_as_well(net, netlink):
    """The kernel says nothing of IPv4 routes that it removes with their device's state: the link's news stands in."""
    net.run(net.host, "ip", "route", "add", "default", "via", "198.51.100.2")
    assert netlink.routes().interfaces()
    quiet(netlink)
    net.run(net.host, "ip", "link", "set", "eth0", "down")
    assert "routes" in news(netlink, "links")
    assert netlink.routes().interfaces() == set()


def test_a_device_that_vanishes(net, netlink):
    device = index(net, "eth0")
    quiet(netlink)
    net.run(net.peer, "ip", "link", "del", "eth0")
    news(netlink, "links")
    assert device not in netlink.interfaces()


def test_an_overflow_means_look_at_everything(net, netlink):
    quiet(netlink)
    lines = (f"route add 10.{n >> 8}.{n & 255}.0/24 via 198.51.100.2" for n in range(5000))
    net.batch(net.host, *lines)  # far more than a socket's buffer holds; nothing else than routes
    assert netlink.changes() == {"links", "addresses", "routes"}
    net.run(net.host, "ip", "address", "add", "192.0.2.1/24", "dev", "eth0")
    assert "links" not in news(netlink, "addresses")


# Refusals


def test_without_privileges(net):
    """Nothing here needs a capability."""
    program = (
        "import os; os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "from xdropd.host.netlink import Netlink\n"
        "n = Netlink()\n"
        "print(len(n.interfaces()), len(n.own_addresses()), n.routes().interfaces(), len(n.routes().gateways))"
    )
    net.run(net.host, "ip", "route", "add", "default", "via", "198.51.100.2")
    assert net.run(net.host, sys.executable, "-c", program).split() == ["2", "4", "{2}", "1"]


def test_a_refusal_is_a_sentence(netlink):
    """A closed descriptor is the one refusal that needs nothing else to go wrong."""
    netlink.close()
    with pytest.raises(KernelError, match="ask rtnetlink for interfaces: Bad file descriptor") as refusal:
        netlink.interfaces()
    assert refusal.value.errno == errno.EBADF


def test_a_dump_that_the_kernel_refuses(net, netlink, monkeypatch):
    """An error inside the answer, as opposed to one of the call: a request that no kernel knows."""
    monkeypatch.setattr("xdropd.host.netlink._RTM_GETLINK", 0x3FFE)
    with pytest.raises(KernelError) as refusal:
        netlink.interfaces()
    assert refusal.value.errno == errno.EOPNOTSUPP


def test_no_descriptor_is_left(net):
    with inside(net.host):
        Netlink().close()
        before = len(os.listdir("/proc/self/fd"))
        made = Netlink()
        assert len(os.listdir("/proc/self/fd")) == before + 2
        made.interfaces()
        made.close()
        assert len(os.listdir("/proc/self/fd")) == before


def test_sockets_are_not_inherited(netlink):
    assert not os.get_inheritable(netlink.fileno())
    assert socket.socket(fileno=os.dup(netlink.fileno())).family == socket.AF_NETLINK


def test_packets_that_came_in_are_counted_as_ip_counts_them(net, netlink):
    net.run(net.peer, "ping", "-q", "-c7", "-i0.01", net.host_address)
    told = json.loads(net.run(net.host, "ip", "-j", "-s", "link", "show"))
    found = netlink.received()
    assert found == {link["ifindex"]: (link["stats64"]["rx"]["packets"], 0) for link in told}
    assert found[index(net, net.device)].all >= 7
