"""Interfaces come, go, change their names and their namespaces, and the filter is where it should be.

What this kernel cannot build (bonds, VLAN devices, VRFs, WireGuard) is in tests/unit/test_interfaces.py and
test_stacked.py.
"""

import contextlib
import fcntl
import json
import os
import select
import struct
import time
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest
from foreground import Daemon

from netns import Net, inside
from waiting import wait_until
from xdropd.kernel import libbpf

VILLAIN = "198.51.100.66"
LISTED = f"block:\n  - {VILLAIN}\n"
WITHIN_S = 2.0
_RETRIES_WITHIN_S = 8.0  # the daemon tries again after five seconds
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 1, 0x1000
_PASS = bytes.fromhex("b700000002000000 9500000000000000")  # r0 = XDP_PASS; exit


@pytest.fixture
def net() -> Iterator[Net]:
    with Net() as made:
        made.address(made.peer, f"{VILLAIN}/{made.length}")
        yield made


def daemon_on(net: Net, folder: Path, interfaces: str, more: str = "") -> Daemon:
    """A daemon with these interfaces in its settings."""
    settings = folder / "etc" / "xdropd.yaml"
    settings.parent.mkdir(exist_ok=True)
    settings.write_text(f"interfaces: {interfaces}\n{more}")
    return Daemon(net, folder, LISTED, "--settings", str(settings))


def programs(net: Net, namespace: str) -> dict[str, tuple[str, int]]:
    """Mode and program id of each interface that has one, as ip(8) tells."""
    modes = {1: "native", 2: "generic"}
    links = json.loads(net.run(namespace, "ip", "-json", "link", "show"))
    return {
        link["ifname"]: (modes.get(link["xdp"]["mode"], "?"), link["xdp"]["prog"]["id"])
        for link in links
        if "xdp" in link
    }


def filtered(net: Net, namespace: str | None = None) -> set[str]:
    return set(programs(net, namespace or net.host))


def become(net: Net, *interfaces: str) -> None:
    wait_until(
        lambda: filtered(net) == set(interfaces), within_s=WITHIN_S, what=f"filtered: {interfaces} {filtered(net)}"
    )


@contextlib.contextmanager
def tunnel(net: Net, name: str, address: str) -> Iterator[int]:
    """A tun device on the host with an address of a /24, up: its descriptor (uapi/linux/if_tun.h)."""
    with inside(net.host):
        descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI))
        net.batch(net.host, f"address add {address}/24 dev {name}", f"link set {name} up")
        net.run(net.host, "ip", "route", "add", "198.51.100.64/28", "dev", name)
        yield descriptor
    finally:
        os.close(descriptor)


def echo_request(source: str) -> bytes:
    """From this source to 10.9.0.1."""
    request = b"\x08\0\xf7\xfd\0\1\0\1"  # with its checksum
    addresses = ip_address(source).packed + ip_address("10.9.0.1").packed
    header = struct.pack(">BBHHHBBH", 0x45, 0, 28, 7, 0, 64, 1, 0) + addresses
    words = sum(struct.unpack(">10H", header))
    checksum = ~(words + (words >> 16)) & 0xFFFF
    return header[:10] + struct.pack(">H", checksum) + header[12:] + request


def replies(packets: int, source: str) -> int:
    """How many answers an echo request from this source to 10.9.0.1 gets."""
    os.write(packets, echo_request(source))
    found, due_s = 0, time.monotonic() + 0.3
    while (left_s := due_s - time.monotonic()) > 0:
        if select.select([packets], [], [], left_s)[0]:
            found += is_echo_reply(os.read(packets, 2048), source)
    return found


def is_echo_reply(packet: bytes, target: str) -> bool:
    """Whether a packet that a device without Ethernet sends is an answer to this address."""
    return packet[0] >> 4 == 4 and packet[16:20] == ip_address(target).packed and packet[20] == 0


@contextlib.contextmanager
def occupant(net: Net, device: str, flags: int) -> Iterator[int]:
    """Somebody else's XDP program, which passes everything: its id."""
    program = libbpf.load_xdp_program("somebody_else", _PASS)
    with inside(net.host):
        index = json.loads(net.run(net.host, "ip", "-json", "link", "show", device))[0]["ifindex"]
        link = libbpf.attach_xdp(program, index, flags)
    try:
        yield libbpf.program_shape(program).id
    finally:
        os.close(link)
        os.close(program)


def test_one_that_appears_vanishes_and_is_made_anew(net: Net, tmp_path: Path) -> None:
    net.run(net.host, "ip", "link", "del", net.device)
    with daemon_on(net, tmp_path, "[eth0]") as daemon:
        assert "warning: eth0: no such interface yet, it is filtered as soon as it appears" in daemon.log
        assert not daemon.status()["degraded"]
        for round_ in (1, 2):
            net.cable(net.host, "eth0", net.peer, "eth0")
            become(net, "eth0")
            net.address(net.host, f"{net.host_address}/24")
            net.address(net.peer, f"{net.peer_address}/24", f"{VILLAIN}/24")
            assert net.answers(net.peer_address)
            assert not net.answers(VILLAIN)
            net.run(net.host, "ip", "link", "del", "eth0")
            wait_until(lambda: daemon.log.count("eth0: let go") == round_, within_s=WITHIN_S, what="let go")  # noqa: B023
            assert daemon.status()["interfaces"] == []
        assert daemon.log.count("eth0: attached in native mode") == 2


def test_one_that_is_renamed(net: Net, tmp_path: Path) -> None:
    def rename(old: str, new: str) -> None:
        net.batch(net.host, f"link set {old} down", f"link set {old} name {new}", f"link set {new} up")

    with daemon_on(net, tmp_path, '[eth0, "wan*"]') as daemon:
        become(net, "eth0")
        rename("eth0", "wan7")
        wait_until(
            lambda: "wan7" in str(daemon.status()["interfaces"]), within_s=WITHIN_S, what="known by its new name"
        )
        assert daemon.log.count("attached") == 1, "it was filtered all the time"
        rename("wan7", "lan0")
        become(net)
        rename("lan0", "eth0")
        become(net, "eth0")
        assert not net.answers(VILLAIN)


def test_one_that_moves_to_another_namespace_and_leaves_its_index_to_another(net: Net, tmp_path: Path) -> None:
    away = net.more()
    with daemon_on(net, tmp_path, "[eth0]"):
        become(net, "eth0")
        net.run(net.host, "ip", "link", "set", "eth0", "netns", away)
        become(net)
        wait_until(lambda: not filtered(net, away), within_s=WITHIN_S, what="no filter where it went")
        net.run(away, "ip", "link", "set", "eth0", "netns", net.host)
        become(net, "eth0")
        (link,) = json.loads(net.run(net.host, "ip", "-json", "link", "show", "eth0"))
        net.batch(
            net.host,
            f"link set eth0 netns {away}",
            f"link add eth0 index {link['ifindex']} type veth peer name other",
        )
        become(net, "eth0")
        wait_until(lambda: not filtered(net, away), within_s=WITHIN_S, what="no filter where it went")


def test_several_share_one_list_and_count_apart(net: Net, tmp_path: Path) -> None:
    net.cable(net.host, "eth1", net.peer, "eth1")
    net.address(net.host, "203.0.113.1/24", device="eth1")
    net.address(net.peer, "203.0.113.2/24", "203.0.113.66/24", device="eth1")
    with daemon_on(net, tmp_path, '["eth*"]') as daemon:
        become(net, "eth0", "eth1")
        assert daemon.ctl("block", "203.0.113.66").returncode == 0
        net.run(net.peer, "ip", "address", "add", f"{VILLAIN}/32", "dev", "eth1")
        for device, source, target in (("eth0", VILLAIN, net.host_address), ("eth1", "203.0.113.66", "203.0.113.1")):
            assert net.start(net.peer, "ping", "-qc2", "-i0.1", "-W0.3", "-I", source, target).wait() == 1, device
        for target in (net.host_address, "203.0.113.1"):
            assert net.start(net.peer, "ping", "-qc1", "-W1", target).wait() == 0
        told = daemon.status()
        assert told["packets"]["dropped"] == 4
        assert [row["name"] for row in told["interfaces"]] == ["eth0", "eth1"]
        # The same source through the other interface: the same entry counts on.
        net.run(net.peer, "ip", "route", "add", "203.0.113.1/32", "dev", "eth1", "src", VILLAIN, "table", "7")
        net.run(net.peer, "ip", "rule", "add", "from", VILLAIN, "to", "203.0.113.1", "table", "7")
        assert net.start(net.peer, "ping", "-qc1", "-W0.3", "-I", VILLAIN, "203.0.113.1").wait() == 1
        assert daemon.lookup(VILLAIN)["packets"] == 3
        interfaces = daemon.ask("metrics")[-1]["result"]["interfaces"]
        assert {row["name"]: row["totals"]["dropped"][0] for row in interfaces} == {"eth0": 2, "eth1": 3}


def test_auto_follows_the_default_route_and_does_not_let_go_when_it_flaps(net: Net, tmp_path: Path) -> None:
    net.cable(net.host, "eth1", net.peer, "eth1")
    net.address(net.host, "203.0.113.1/24", device="eth1")
    with daemon_on(net, tmp_path, "auto") as daemon:
        assert "no interface has a default route yet" in daemon.log
        become(net)
        net.run(net.host, "ip", "route", "add", "default", "via", net.peer_address)
        become(net, "eth0")
        program = programs(net, net.host)["eth0"]
        for _ in range(3):
            net.run(net.host, "ip", "route", "del", "default")
            net.run(net.host, "ip", "route", "add", "default", "via", net.peer_address)
        net.run(net.host, "ip", "route", "replace", "default", "via", "203.0.113.2")
        become(net, "eth0", "eth1")
        assert programs(net, net.host)["eth0"] == program, "it was filtered all the time"
        # What only other settings asked for goes with them.
        daemon.settings.write_text("interfaces: [eth0]\n")
        become(net, "eth0")
        daemon.settings.write_text("interfaces: auto\n")
        become(net, "eth1")


def test_why_a_mode_is_refused_is_said_in_the_words_of_the_kernel(net: Net, tmp_path: Path) -> None:
    """What a bpf link tells is an error number; over netlink the kernel says a sentence."""
    net.run(net.host, "ip", "link", "add", "macvlan0", "link", "eth0", "up", "type", "macvlan")
    net.run(net.host, "ip", "link", "add", "br0", "up", "type", "bridge")
    refused = "the kernel refuses native mode: Underlying driver does not support XDP in native mode"
    with daemon_on(net, tmp_path, "[macvlan0, br0, eth0]\nxdp_mode: native") as daemon:
        become(net, "eth0")
        assert f"error: macvlan0: {refused}: eth0 below it may be able to be filtered natively" in daemon.log
        assert f"error: br0: {refused}\n" in daemon.log
    with daemon_on(net, tmp_path, "[macvlan0]") as daemon:
        become(net, "macvlan0")
        said = "Underlying driver does not support XDP in native mode"
        why = f"the driver refuses native mode ({said}): eth0 below it may be able to be filtered natively"
        assert f"warning: macvlan0: generic mode, which is slower: {why}\n" in daemon.log


def test_globs_take_a_bridge_and_its_ports(net: Net, tmp_path: Path) -> None:
    net.cable(net.host, "eth1", net.peer, "eth1")
    net.run(net.host, "ip", "link", "add", "br0", "up", "type", "bridge")
    with daemon_on(net, tmp_path, '["*"]') as daemon:
        become(net, "br0", "eth0", "eth1")
        assert "br0: generic mode, which is slower: the driver refuses native mode" in daemon.log
        program = programs(net, net.host)["br0"]
        net.run(net.host, "ip", "link", "set", "eth1", "master", "br0")
        net.run(net.host, "ip", "link", "set", "eth1", "nomaster")
        assert daemon.ctl("reload").returncode == 0
        assert programs(net, net.host)["br0"] == program, "it was filtered all the time"
    with daemon_on(net, tmp_path, '["br*", eth1]') as daemon:
        net.run(net.host, "ip", "link", "set", "eth1", "master", "br0")
        become(net, "br0", "eth1")
        for mode in ("generic", "native", "auto"):
            daemon.settings.write_text(f'interfaces: ["br*", eth1]\nxdp_mode: {mode}\n')
            wanted = "generic" if mode == "generic" else "native"
            wait_until(lambda: programs(net, net.host).get("eth1", ("",))[0] == wanted, within_s=WITHIN_S)  # noqa: B023
            become(net, "br0", "eth1")


def test_the_same_settings_come_to_the_same_whatever_was_filtered_before(net: Net, tmp_path: Path) -> None:
    """The kernel takes no program below one that is there, so what is there has to make way."""
    net.cable(net.host, "eth1", net.peer, "eth1")
    net.batch(
        net.host,
        "link add br0 up type bridge",
        "link set eth1 master br0",
        "link add mac0 link eth0 up type macvlan",
        "address add 203.0.113.1/24 dev br0",
        "route add default via 203.0.113.2",
    )
    outcomes = {
        "auto": {"br0"},
        '["eth*"]': {"eth0", "eth1"},
        '["*0"]': {"br0", "mac0", "eth0"},
        "[br0, eth1]": {"br0", "eth1"},
        "[mac0]": {"mac0"},
        '["*"]': {"br0", "mac0", "eth0", "eth1"},
        "[eth0]": {"eth0"},
    }
    with daemon_on(net, tmp_path, "auto") as daemon:
        become(net, "br0")
        for settings in _each_after_each_other(list(outcomes)):
            daemon.settings.write_text(f"interfaces: {settings}\n")
            assert daemon.ctl("reload").returncode == 0
            assert filtered(net) == outcomes[settings], settings
            assert daemon.status()["troubles"] == [], settings
        assert "error" not in daemon.log


def _each_after_each_other(things: list[str]) -> Iterator[str]:
    """A walk from the first one that takes every step between two of them."""
    for at, one in enumerate(things):
        for other in things[at + 1 :]:
            yield from (other, one)
        yield from things[at + 1 : at + 2]


def test_what_is_let_go_in_vain_is_let_go_once(net: Net, tmp_path: Path) -> None:
    net.run(net.host, "ip", "link", "add", "br0", "type", "bridge")  # a driver without native mode
    net.run(net.host, "ip", "link", "add", "mac0", "link", "br0", "up", "type", "macvlan")
    with daemon_on(net, tmp_path, "[mac0, eth0]") as daemon:
        become(net, "mac0", "eth0")
        daemon.settings.write_text("interfaces: [mac0, eth0, br0]\nxdp_mode: native\n")
        sentence = "error: br0: the kernel refuses native mode"
        wait_until(lambda: sentence in daemon.log, within_s=WITHIN_S, what="told")
        become(net, "mac0", "eth0")
        program = programs(net, net.host)["mac0"]
        assert daemon.ctl("reload").returncode == 0
        assert programs(net, net.host)["mac0"] == program
        assert any("br0" in sentence for sentence in daemon.status()["troubles"])
        daemon.settings.write_text("interfaces: [mac0, eth0, br0]\nxdp_mode: generic\n")
        become(net, "mac0", "eth0", "br0")
        assert not daemon.status()["degraded"]


def test_auto_goes_below_a_bridge_so_that_guests_are_protected_as_well(net: Net, tmp_path: Path) -> None:
    """What leads outside is, here, a device that stands on one of another namespace."""
    guest, between = net.more(), net.more()
    net.cable(net.peer, "lan0", between, "lan0")
    net.run(between, "ip", "link", "add", "wan0", "link", "lan0", "type", "macvlan", "mode", "passthru")
    net.run(between, "ip", "link", "set", "wan0", "netns", net.host)
    net.cable(net.host, "guest0", guest, "eth0")
    net.batch(
        net.host,
        "link add br0 up type bridge",
        "link set wan0 up master br0",
        "link set guest0 master br0",
        "address add 203.0.113.1/24 dev br0",
        "route add default via 203.0.113.2",
    )
    net.address(guest, "203.0.113.7/24")
    net.address(net.peer, "203.0.113.2/24", "203.0.113.66/24", device="lan0")

    def reaches(source: str, target: str) -> bool:
        return net.start(net.peer, "ping", "-qc1", "-W0.3", "-I", source, target).wait() == 0

    with daemon_on(net, tmp_path, "auto") as daemon:
        assert daemon.ctl("block", "203.0.113.66").returncode == 0
        become(net, "wan0")
        (told,) = daemon.status()["interfaces"]
        assert (told["name"], told["why"]) == ("wan0", "carries br0, which has a default route")
        assert ": carries br0, which has a default route" in daemon.ctl("status").stdout
        for target in ("203.0.113.1", "203.0.113.7"):
            assert reaches("203.0.113.2", target)
            assert not reaches("203.0.113.66", target)
        assert daemon.lookup("203.0.113.66")["packets"] == 2
        net.run(net.host, "ip", "link", "set", "wan0", "nomaster")
        become(net, "br0")
        net.run(net.host, "ip", "link", "set", "wan0", "master", "br0")
        become(net, "wan0")
        # The same below a device that stands on the bridge.
        net.batch(
            net.host,
            "link add link br0 name mac0 up type macvlan",
            "address add 192.0.2.1/24 dev mac0",
            "route replace default via 192.0.2.2",
        )
        wait_until(lambda: "mac0" in str(daemon.status()["interfaces"]), within_s=WITHIN_S, what="why")
        assert filtered(net) == {"wan0"}
        assert daemon.status()["troubles"] == []
        assert "error" not in daemon.log


def test_auto_filters_one_that_is_made_anew_before_its_route_is_back(net: Net, tmp_path: Path) -> None:
    net.run(net.host, "ip", "route", "add", "default", "via", net.peer_address)
    with daemon_on(net, tmp_path, "auto") as daemon:
        become(net, "eth0")
        net.run(net.host, "ip", "link", "del", "eth0")
        become(net)
        wait_until(lambda: daemon.status()["state"] == "waiting", within_s=WITHIN_S)
        net.cable(net.host, "eth0", net.peer, "eth0")
        become(net, "eth0")
        assert daemon.status()["interfaces"][0]["why"] == "had a default route"


def test_one_that_is_made_anew_among_many_is_filtered_soon(net: Net, tmp_path: Path) -> None:
    net.batch(net.host, *(f"link add many{number} type veth peer name other{number}" for number in range(20)))
    with daemon_on(net, tmp_path, '["eth*", "many*"]') as daemon:
        become(net, "eth0", *(f"many{number}" for number in range(20)))
        net.batch(
            net.host,
            *(f"link del many{number}" for number in range(20)),
            *(f"link add many{number} type veth peer name other{number}" for number in range(20)),
            "link del eth0",
            f"link add eth0 type veth peer name eth0 netns {net.peer}",
        )
        become(net, "eth0", *(f"many{number}" for number in range(20)))
        assert daemon.status()["troubles"] == []


def test_further_names_are_as_good_as_the_first(net: Net, tmp_path: Path) -> None:
    long = "a-name-too-long-for-any-device"
    net.cable(net.host, "eth1", net.peer, "eth1")
    net.run(net.host, "ip", "link", "property", "add", "dev", "eth0", "altname", long)
    with daemon_on(net, tmp_path, f"[{long}, uplink0]") as daemon:
        become(net, "eth0")
        assert daemon.status()["waiting"] == ["uplink0: no such interface yet, it is filtered as soon as it appears"]
        net.run(net.host, "ip", "link", "property", "add", "dev", "eth1", "altname", "uplink0")
        become(net, "eth0", "eth1")
        assert daemon.status()["waiting"] == []
        net.run(net.host, "ip", "link", "property", "del", "dev", "eth1", "altname", "uplink0")
        become(net, "eth0")


def test_enforcing_is_not_said_of_nothing(net: Net, tmp_path: Path) -> None:
    net.run(net.host, "ip", "tuntap", "add", "tun0", "mode", "tun")
    net.batch(net.host, "link set tun0 up", "address add 192.0.2.1/24 dev tun0")
    unfollowed = (
        "tun0: has a default route and is left alone: it has no native mode, for its packets start with IP: "
        "'xdp_mode: auto' filters it"
    )
    no_route = "no interface has a default route yet, the first one that gets one is filtered"
    with daemon_on(net, tmp_path, "auto", "xdp_mode: native\n") as daemon:

        def state() -> tuple[str, bool, list[str]]:
            told = daemon.status()
            return told["state"], told["degraded"], [*told["troubles"], *told["waiting"]]

        def becomes(name: str, *, degraded: bool, sentences: list[str]) -> None:
            wait_until(lambda: state() == (name, degraded, sentences), within_s=WITHIN_S, what=f"{name} {state()}")

        assert "notice: waiting: no interface is filtered, 1 entries" in daemon.log
        for round_ in (1, 2):
            becomes("waiting", degraded=False, sentences=[no_route])
            assert daemon.log.count(f"warning: {no_route}") == round_
            net.run(net.host, "ip", "route", "add", "default", "dev", "tun0")
            becomes("waiting", degraded=True, sentences=[unfollowed])
            wait_until(lambda: daemon.log.count(f"error: {unfollowed}") == round_, within_s=WITHIN_S)  # noqa: B023
            net.run(net.host, "ip", "route", "del", "default")
        becomes("waiting", degraded=False, sentences=[no_route])
        assert daemon.log.count("notice: tun0: need not be filtered any more") == 2
        assert "no longer a problem" not in daemon.log
        text = daemon.ctl("status").stdout
        assert "is waiting: no interface is filtered" in text
        assert no_route in text
        net.run(net.host, "ip", "route", "add", "default", "via", net.peer_address)
        becomes("enforcing", degraded=False, sentences=[])


def test_a_device_without_ethernet_is_filtered_by_what_its_packets_start_with(net: Net, tmp_path: Path) -> None:
    """A tunnel: whatever is written to its descriptor has come in."""
    with tunnel(net, "tun0", "10.9.0.1") as packets, daemon_on(net, tmp_path, '["t*"]') as daemon:
        become(net, "tun0")
        assert programs(net, net.host)["tun0"][0] == "generic"
        assert "notice: tun0: attached in generic mode" in daemon.log
        assert "refuses native mode" not in daemon.log
        before = daemon.status()["packets"]
        assert [replies(packets, source) for source in ("198.51.100.67", VILLAIN, "198.51.100.67")] == [1, 0, 1]
        after = daemon.status()["packets"]
        assert (after["dropped"] - before["dropped"], after["malformed"]) == (1, before["malformed"])
        daemon.settings.write_text('interfaces: ["t*"]\nxdp_mode: generic\n')
        daemon.ctl("reload")
        assert replies(packets, VILLAIN) == 0
        assert daemon.log.count("attached in generic mode") == 1, "it was in that mode already"


def test_a_device_without_ethernet_is_refused_in_native_mode_with_the_reason(net: Net, tmp_path: Path) -> None:
    net.run(net.host, "ip", "tuntap", "add", "tun0", "mode", "tun")
    reason = "tun0: it has no native mode, for its packets start with IP: 'xdp_mode: auto' filters it"
    with daemon_on(net, tmp_path, "[eth0, tun0]", "xdp_mode: native\n") as daemon:
        become(net, "eth0")
        assert f"error: {reason}" in daemon.log
        told = daemon.status()
        assert (told["degraded"], told["troubles"]) == (True, [reason])
        net.run(net.host, "ip", "link", "del", "tun0")
        wait_until(lambda: not daemon.status()["degraded"], within_s=WITHIN_S)
        assert "notice: tun0: there is no such interface any more" in daemon.log
        assert "no longer a problem" not in daemon.log
    net.run(net.host, "ip", "tuntap", "add", "tun0", "mode", "tun")
    alone = daemon_on(net, tmp_path, "[tun0]", "xdp_mode: native\n")
    assert alone.start().wait(20) == 69
    assert reason in alone.log


@pytest.mark.parametrize("mode", ["auto", "native", "generic"])
@pytest.mark.parametrize("theirs", [libbpf.XDP_FLAGS_DRV_MODE, libbpf.XDP_FLAGS_SKB_MODE], ids=["native", "generic"])
def test_somebody_elses_program_is_left_alone(net: Net, tmp_path: Path, mode: str, theirs: int) -> None:
    with occupant(net, "eth0", theirs) as program:
        daemon = daemon_on(net, tmp_path, "[eth0]", f"xdp_mode: {mode}\n")
        assert daemon.start().wait(20) == 69
        assert f"another XDP program is attached, id {program}" in daemon.log
        assert programs(net, net.host)["eth0"][1] == program


def test_somebody_elses_program_on_one_of_several(net: Net, tmp_path: Path) -> None:
    net.cable(net.host, "eth1", net.peer, "eth1")
    with contextlib.ExitStack() as stack:
        program = stack.enter_context(occupant(net, "eth1", libbpf.XDP_FLAGS_SKB_MODE))
        with daemon_on(net, tmp_path, "[eth0, eth1]") as daemon:
            sentence = f"eth1: another XDP program is attached, id {program} (somebody_else); it is left alone"
            assert f"error: {sentence}" in daemon.log
            assert daemon.status()["troubles"] == [sentence]
            assert daemon.ctl("reload").returncode == 0
            assert programs(net, net.host)["eth1"][1] == program
            assert not net.answers(VILLAIN)
            stack.close()
            wait_until(lambda: "eth1" in filtered(net), within_s=_RETRIES_WITHIN_S, what="tried again")
            assert not daemon.status()["degraded"]
            assert "notice: eth1: no longer a problem" in daemon.log
            # And nobody takes ours away by mistake.
            for way in ("xdp", "xdpdrv"):
                assert net.start(net.host, "ip", "link", "set", "dev", "eth1", way, "off").wait() != 0
            assert filtered(net) == {"eth0", "eth1"}


def test_jumbo_frames_are_filtered_natively(net: Net, tmp_path: Path) -> None:
    for namespace in (net.host, net.peer):
        net.run(namespace, "ip", "link", "set", "eth0", "mtu", "9000")
    with daemon_on(net, tmp_path, "[eth0]", "xdp_mode: native\n") as daemon:
        assert programs(net, net.host)["eth0"][0] == "native"
        ping = ("ping", "-q", "-c3", "-i0.1", "-W0.5", "-M", "do", "-s", "8900")
        assert "3 received" in net.run(net.peer, *ping, net.host_address)
        assert "0 received" in net.run(net.peer, *ping, "-I", VILLAIN, net.host_address, check=False)
        row = daemon.lookup(VILLAIN)
        assert (row["packets"], row["bytes"]) == (3, 3 * (14 + 20 + 8 + 8900)), "with the fragments"


def test_a_change_of_mode_takes_effect_and_one_that_is_refused_is_tried_once(net: Net, tmp_path: Path) -> None:
    net.run(net.host, "ip", "link", "add", "br0", "up", "type", "bridge")

    def mode(name: str) -> str:
        return programs(net, net.host).get(name, ("none", 0))[0]

    def choose(text: str) -> None:
        daemon.settings.write_text(f'interfaces: [eth0, "br0"]\nxdp_mode: {text}\n')
        wait_until(lambda: f"is {text}\n" in daemon.log[seen:], within_s=WITHIN_S)
        assert daemon.ctl("reload").returncode == 0

    with daemon_on(net, tmp_path, "[eth0, br0]") as daemon:
        seen = len(daemon.log)
        assert (mode("eth0"), mode("br0")) == ("native", "generic")
        choose("generic")
        assert (mode("eth0"), mode("br0")) == ("generic", "generic")
        assert not net.answers(VILLAIN)
        bridge = programs(net, net.host)["br0"]
        seen = len(daemon.log)
        choose("native")
        assert (mode("eth0"), mode("br0")) == ("native", "generic")
        assert "error: br0: stays in generic mode: the kernel refuses native mode" in daemon.log
        assert daemon.status()["degraded"]
        stayed = programs(net, net.host)["br0"]
        assert stayed != bridge
        net.run(net.host, "ip", "address", "add", "203.0.113.9/32", "dev", "br0")
        assert daemon.ctl("reload").returncode == 0
        assert programs(net, net.host)["br0"] == stayed, "each further try would be a gap"
        seen = len(daemon.log)
        choose("generic")
        assert not daemon.status()["degraded"]
        seen = len(daemon.log)
        choose("auto")
        assert (mode("eth0"), mode("br0")) == ("native", "generic")
        assert not net.answers(VILLAIN)
