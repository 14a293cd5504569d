"""What becomes of interfaces that this kernel cannot build, beside a model of the kernel's own rules about them.

net/core/dev.c (dev_xdp_attach): no program on a device while one directly above it has one.
drivers/net/bonding/bond_main.c (bond_xdp_set, bond_enslave): a bond is native if all ports are, and have no program of
their own; then it takes no port that is not so.
"""

from dataclasses import dataclass, field, replace
from itertools import permutations
from types import SimpleNamespace

import pytest

from xdropd.errors import NotAttachable
from xdropd.filter import attaching
from xdropd.filter.attaching import Attaching
from xdropd.filter.carriers import Surroundings
from xdropd.host.log import Log
from xdropd.host.netlink import Interface, Routes
from xdropd.host.telling import Telling

CAN_BE_NATIVE = "a driver that can"


@dataclass
class Kept:
    mode: str
    root_id: int
    is_attached: bool = True


@dataclass
class Host:
    """As netlink tells of it, and with a filter that follows the kernel's rules."""

    links: dict[int, Interface] = field(default_factory=dict)
    routed: dict[int, int] = field(default_factory=dict)  # by index, the table
    attachments: dict[int, Kept] = field(default_factory=dict)
    let_go: list[str] = field(default_factory=list)
    programs: int = 0
    counted: dict[int, list[int]] = field(default_factory=dict)
    refuses: bool = False
    has_no_list: bool = False

    def add(self, index, name, kind="", *, master=0, link=0, native=True, table=0, bus="pci"):
        parent = (bus, CAN_BE_NATIVE if native else "another") if not kind else ("", "")
        self.links[index] = Interface(
            index, name, kind, 1, True, False, 0, 1500, 0, link=link, parent=parent, table=table
        )
        if master:
            assert self.enslave(index, master)

    def enslave(self, port, bond):
        """Whether the kernel takes it."""
        kept = self.attachments.get(bond)
        is_native = self.links[bond].kind == "bond" and kept is not None and kept.mode == "native"
        if is_native and (not self._can_be_native(port) or port in self.attachments):
            return False
        self.links[port] = replace(self.links[port], master=bond)
        return True

    def free(self, port):
        self.links[port] = replace(self.links[port], master=0)

    def remove(self, index):
        del self.links[index]
        if index in self.attachments:
            self.attachments[index].is_attached = False

    def filtered(self):
        return {
            self.links[index].name: kept.mode
            for index, kept in self.attachments.items()
            if kept.is_attached and index in self.links
        }

    # ---- netlink ----

    def interfaces(self):
        ids = {index: kept.root_id for index, kept in self.attachments.items() if kept.is_attached}
        return {index: replace(link, xdp_program=ids.get(index, 0)) for index, link in self.links.items()}

    def routes(self):
        tables = {*self.routed.values()}
        return Routes({at: frozenset(each for each, table in self.routed.items() if table == at) for at in tables})

    # ---- the filter ----

    def attachable(self):
        if self.has_no_list:
            raise NotAttachable("there is no list of this version's making in force yet")

    def settle(self):
        pass

    def attach(self, index, mode, _occupant, **_more):
        above = {each for each in Surroundings(self.links).above(index) if each in self.attachments}
        if above:
            raise NotAttachable("a device above it has one")
        if self.refuses:
            raise NotAttachable("the kernel refuses it")
        if mode != "generic" and not self._can_be_native(index):
            if mode == "native":
                raise NotAttachable("the kernel refuses native mode")
            mode, reason = "generic", "Operation not supported"
        else:
            mode, reason = ("native" if mode == "auto" else mode), ""
        self.programs += 1
        self.attachments[index] = Kept(mode, self.programs)
        return reason

    def count_ports(self, index, ports):
        self.counted[index] = sorted(ports)

    def release(self, index):
        self.let_go.append(self.links[index].name if index in self.links else "")
        del self.attachments[index]
        self.counted.pop(index, None)

    def _can_be_native(self, index):
        link = self.links[index]
        if link.kind == "bond":
            ports = [each.index for each in self.links.values() if each.master == index]
            return all(self._can_be_native(port) and port not in self.attachments for port in ports)
        return link.parent[1] == CAN_BE_NATIVE


@pytest.fixture
def host():
    return Host()


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 100.0

        def monotonic(self):
            return self.now

        def sleep(self, _seconds):
            raise AssertionError("there is nothing to wait for")

    clock = Clock()
    monkeypatch.setattr(attaching, "time", clock)
    return clock


def attaching_of(host):
    return Attaching(host, host, Telling(Log()))


def test_a_bond_is_filtered_from_its_first_port_on(host, clock):
    host.add(1, "eth0")
    host.add(2, "eth1", native=False)
    host.add(10, "bond0", "bond")
    under_test = attaching_of(host)

    def sync():
        undone = under_test.sync(("bond0",), "auto", host.routes())
        assert undone.attaching == undone.following == {}
        return host.filtered()

    assert sync() == {}
    assert under_test.waiting == ["bond0 has no port yet: waits for the first one"]
    # One port after the other: it is given its mode once they have all come.
    for port in (1, 2):
        assert host.enslave(port, 10)
        assert sync() == {}
        assert clock.now < under_test.again_at < clock.now + 0.5
        clock.now += 0.1
    clock.now = under_test.again_at
    assert sync() == {"bond0": "generic"}
    assert under_test.again_at == float("inf")
    assert under_test.waiting == []
    # Without ports it is as it was at the beginning.
    host.free(1)
    assert sync() == {"bond0": "generic"}
    host.free(2)
    assert sync() == {}
    assert host.enslave(1, 10)
    assert sync() == {}
    clock.now = under_test.again_at
    assert sync() == {"bond0": "native"}
    assert not host.enslave(2, 10), "which is said in the manual"
    host.free(1)
    sync()
    assert host.enslave(2, 10)


def test_a_bond_that_has_its_ports_is_filtered_at_once(host, clock):
    host.add(10, "bond0", "bond")
    host.add(1, "eth0", master=10)
    attaching_of(host).sync(("bond0",), "auto", host.routes())
    assert host.filtered() == {"bond0": "native"}


def test_in_generic_mode_a_bond_waits_for_nobody(host, clock):
    host.add(10, "bond0", "bond")
    under_test = attaching_of(host)
    under_test.sync(("bond0",), "generic", host.routes())
    assert host.filtered() == {"bond0": "generic"}
    host.add(1, "eth0", native=False, master=10)
    under_test.sync(("bond0",), "generic", host.routes())
    assert (host.filtered(), under_test.again_at) == ({"bond0": "generic"}, float("inf"))


SETTINGS = {
    None: {"bond0": "native", "eth2": "native", "eth3": "native", "eth4": "generic"},
    ("eth*",): {
        "eth0": "native", "eth1": "native", "eth2": "native", "eth3": "native", "eth4": "generic", "eth2.7": "generic",
    },
    ("bond0",): {"bond0": "native"},
    ("bond0", "eth0"): {"bond0": "generic", "eth0": "native"},
    ("bond?", "eth?"): {"bond0": "native", "eth2": "native", "eth3": "native", "eth4": "generic"},
    ("br0", "eth2.7"): {"br0": "generic", "eth2.7": "generic"},
    ("br1", "bond0.5", "eth1"): {"br1": "generic", "bond0.5": "generic", "eth1": "native"},
    ("*",): {
        "bond0": "native", "bond0.5": "generic", "br0": "generic", "br1": "generic", "eth2": "native",
        "eth2.7": "generic", "eth3": "native", "eth4": "generic",
    },
}  # fmt: skip


@pytest.fixture
def stacked(host):
    """bond0.5 over a bond in a bridge, a VLAN in a bridge, and a VRF whose table has a default route."""
    host.add(10, "bond0", "bond")
    host.add(1, "eth0", master=10)
    host.add(2, "eth1", master=10)
    host.add(3, "eth2")
    host.add(4, "eth3")
    host.add(5, "eth4", native=False)
    host.add(11, "br1", "bridge")
    host.add(12, "bond0.5", "vlan", link=10, master=11)
    host.add(13, "br0", "bridge")
    host.add(14, "eth2.7", "vlan", link=3, master=13)
    host.add(15, "red", "vrf", table=100)
    host.enslave(4, 15)
    host.routed = {11: 254, 13: 254, 4: 100, 5: 254, 1: 77}
    return host


def test_the_same_settings_come_to_the_same_whatever_was_filtered_before(stacked, clock):
    for first, second in permutations(SETTINGS, 2):
        stacked.attachments.clear()
        under_test = attaching_of(stacked)
        for settings in (first, second, first):
            undone = under_test.sync(settings, "auto", stacked.routes())
            assert stacked.filtered() == SETTINGS[settings], (first, second)
            assert undone.attaching == undone.following == {}
            stacked.let_go.clear()
            under_test.sync(settings, "auto", stacked.routes())
            assert stacked.let_go == [], "nothing is let go twice"
        attaching_of(stacked).sync(second, "auto", stacked.routes())
        assert stacked.filtered() == SETTINGS[second], "and what another process has taken over"


def test_why_is_what_an_interface_carries(stacked, clock):
    under_test = attaching_of(stacked)
    under_test.sync(None, "auto", stacked.routes())
    assert {stacked.links[index].name: under_test.why(index) for index in stacked.attachments} == {
        "bond0": "carries br1, which has a default route",
        "eth2": "carries br0, which has a default route",
        "eth3": "has a default route",
        "eth4": "has a default route",
    }
    under_test.sync(("bond0",), "auto", stacked.routes())
    assert under_test.why(10) == ""


def test_a_vrf_is_refused_and_its_port_is_filtered(stacked, clock):
    under_test = attaching_of(stacked)
    undone = under_test.sync(("red", "eth3"), "auto", stacked.routes())
    assert undone.attaching == {"red": "red: packets never meet a filter on a VRF device, name its ports instead: eth3"}
    assert stacked.filtered() == {"eth3": "native"}
    under_test.sync(("eth3",), "auto", stacked.routes())
    assert under_test.what_became_of("red") == "red: need not be filtered any more"
    assert under_test.what_became_of("eth3") == ""
    assert under_test.what_became_of("eth9") == "eth9: there is no such interface any more"


def test_auto_keeps_what_carried_something_that_has_gone(stacked, clock):
    """A session that is dialled again, a VLAN device that is made anew: nothing happens to the card below."""
    under_test = attaching_of(stacked)
    under_test.sync(None, "auto", stacked.routes())
    before, routes = stacked.filtered(), stacked.routes()
    for index in (13, 14):
        stacked.remove(index)
        stacked.routed.pop(index, None)
        under_test.sync(None, "auto", routes)
        routes = stacked.routes()
        assert stacked.filtered() == before
    assert under_test.why(3) == "had a default route"
    stacked.add(40, "br0", "bridge")
    stacked.add(41, "eth2.7", "vlan", link=3, master=40)
    under_test.sync(None, "auto", routes)
    assert under_test.why(3) == "carries br0, which had a default route"
    assert stacked.let_go == []
    # While it is there, it says by whom it is carried.
    stacked.free(41)
    under_test.sync(None, "auto", stacked.routes())
    assert stacked.filtered() == {**{name: before[name] for name in ("bond0", "eth3", "eth4")}, "br0": "generic"}


def test_auto_knows_one_that_is_made_anew_by_its_name(stacked, clock):
    under_test = attaching_of(stacked)
    routes = stacked.routes()
    under_test.sync(None, "auto", routes)
    stacked.remove(5)
    stacked.routed.pop(5)
    under_test.sync(None, "auto", routes)
    assert "eth4" not in stacked.filtered()
    stacked.add(55, "eth4")
    under_test.sync(None, "auto", routes)
    assert stacked.filtered()["eth4"] == "native"
    under_test.sync(None, "auto", stacked.routes())
    assert under_test.why(55) == "had a default route"
    under_test.sync(("bond0",), "auto", stacked.routes())
    under_test.sync(None, "auto", stacked.routes())
    assert "eth4" not in stacked.filtered(), "what only those settings asked for went with them"


def test_virtio_that_loses_large_frames_natively_is_generic_unless_it_is_asked_for(host, clock, monkeypatch):
    """Of Linux 6.1: whatever else was in force before, and told at once when the MTU is raised all the same."""
    kernel = "6.1.0-50-amd64"
    monkeypatch.setattr(attaching.quirks.os, "uname", lambda: SimpleNamespace(release=kernel))
    host.add(2, "ens1", bus="virtio")
    host.add(3, "ens2", bus="virtio")
    host.links[3] = replace(host.links[3], mtu_at_most=1500)
    names, under_test = ("ens1", "ens2"), attaching_of(host)
    for mode in ("auto", "native", "auto", "generic", "auto"):
        assert not under_test.sync(names, mode, host.routes()).attaching
        expected = {"auto": "generic", "native": "native", "generic": "generic"}[mode]
        assert host.filtered() == {"ens1": expected, "ens2": "generic" if mode == "generic" else "native"}
    let_go = len(host.let_go)
    under_test.sync(names, "auto", host.routes())
    assert len(host.let_go) == let_go, "the same settings again change nothing"

    under_test.sync(names, "native", host.routes())
    host.links[2] = replace(host.links[2], mtu=9000)
    told = under_test.sync(names, "native", host.routes()).attaching
    assert told.keys() == {"ens1"}
    assert "frames above 3500 bytes are lost" in told["ens1"]
    assert under_test.losing == {2}
    host.links[2] = replace(host.links[2], mtu=1500)
    assert not under_test.sync(names, "native", host.routes()).attaching

    kernel = "6.12.48+deb13-amd64"
    newer = Host({2: replace(host.links[2], mtu=9000)})
    assert not attaching_of(newer).sync(("ens1",), "auto", newer.routes()).attaching
    assert newer.filtered() == {"ens1": "native"}


def test_a_bond_of_such_cards_is_as_they_are(host, clock, monkeypatch):
    """Natively it is their driver that runs the program, and an MTU of the bond is theirs."""
    monkeypatch.setattr(attaching.quirks.os, "uname", lambda: SimpleNamespace(release="6.1.0-50-amd64"))
    host.add(10, "bond0", "bond")
    for port in (2, 3):
        host.add(port, f"ens{port}", bus="virtio", master=10)
    under_test = attaching_of(host)
    under_test.sync(("bond0",), "auto", host.routes())
    assert host.filtered() == {"bond0": "generic"}
    under_test.sync(("bond0",), "native", host.routes())
    assert host.filtered() == {"bond0": "native"}
    for index in host.links:
        host.links[index] = replace(host.links[index], mtu=9000)
    told = under_test.sync(("bond0",), "native", host.routes()).attaching
    assert "frames above 3500 bytes are lost" in told["bond0"]
    assert under_test.losing == {10}


def test_what_is_attached_anew_below_another_has_that_make_way(stacked, clock):
    """The kernel takes no program below one that is there."""
    under_test = attaching_of(stacked)
    names = ("eth2", "eth2.7", "br0")
    under_test.sync(names, "auto", stacked.routes())
    before, programs = stacked.filtered(), {index: kept.root_id for index, kept in stacked.attachments.items()}
    under_test.attach_anew(3, "native")
    assert stacked.filtered() == before == {"eth2": "native", "eth2.7": "generic", "br0": "generic"}
    assert all(kept.root_id != programs[index] for index, kept in stacked.attachments.items())
    under_test.attach_anew(99, "native")
    assert stacked.filtered() == before, "what is gone is the next look's"


def test_what_cannot_be_attached_anew_is_tried_again_at_once_and_told(host, clock):
    host.add(1, "eth0")
    host.add(2, "eth1")
    under_test = attaching_of(host)
    under_test.sync(("eth0", "eth1"), "auto", host.routes())
    host.refuses = True
    under_test.attach_anew(1, "native")
    assert host.filtered() == {"eth1": "native"}
    assert under_test.again_at <= clock.now
    assert under_test.what_became_of("eth0") == "eth0: is not attached any more"
    assert under_test.sync(("eth0", "eth1"), "auto", host.routes()).attaching == {"eth0": "eth0: the kernel refuses it"}
    assert under_test.again_at == float("inf")


def test_a_mode_that_was_refused_is_asked_for_again_once_the_mtu_is_another(host, clock):
    """As a fresh start would; nothing else is a reason to detach it for another try."""
    host.add(1, "eth0", native=False)
    under_test = attaching_of(host)
    under_test.sync(("eth0",), "auto", host.routes())
    assert under_test.sync(("eth0",), "native", host.routes()).attaching.keys() == {"eth0"}
    let_go = len(host.let_go)
    host.links[1] = replace(host.links[1], is_up=False, parent=("pci", CAN_BE_NATIVE))
    assert under_test.sync(("eth0",), "native", host.routes()).attaching.keys() == {"eth0"}
    assert (host.filtered(), len(host.let_go)) == ({"eth0": "generic"}, let_go)
    host.links[1] = replace(host.links[1], mtu=1400)
    assert under_test.sync(("eth0",), "native", host.routes()).attaching == {}
    assert host.filtered() == {"eth0": "native"}


def test_what_could_not_be_attached_again_is_left_as_it_is(host, clock):
    """A filter that was taken over, and no list to put in its place."""
    host.add(1, "eth0")
    under_test = attaching_of(host)
    under_test.sync(("eth0",), "auto", host.routes())
    host.has_no_list = True
    under_test.attach_anew(1, "native")
    assert (host.filtered(), host.let_go) == ({"eth0": "native"}, [])


@pytest.mark.parametrize("kind", ["bond", ""])
def test_what_a_port_sees_natively_is_counted_for_what_is_above_it(host, clock, kind):
    """A bond, or a card of Hyper-V's, which has the driver of its port run the program; also if it is attached anew."""
    host.add(10, "eth0", kind)
    host.add(1, "enP1s1", master=10)
    under_test = attaching_of(host)
    under_test.sync(("eth0",), "auto", host.routes())
    assert (host.filtered(), host.counted) == ({"eth0": "native"}, {10: [1]})
    assert under_test.place_of(1) == ("eth0", "enP1s1")
    under_test.attach_anew(10, "native")
    assert host.counted == {10: [1]}


@pytest.mark.parametrize("name", ["wan-slave", "mtu0"])
def test_a_name_leads_to_no_remedy(host, clock, capfd, name):
    """What the kernel says does, and a device may be called anything."""
    host.add(1, name, native=False)
    attaching_of(host).sync((name,), "auto", host.routes())
    said = f"{name}: generic mode, which is slower: the driver refuses native mode (Operation not supported)"
    assert capfd.readouterr().err.splitlines()[-1] == f"xdropd: warning: {said}"
