"""Each port of a bond that is filtered natively has to run the program, whatever the others do."""

from types import SimpleNamespace

import pytest
from test_stacked import Host, attaching_of

from xdropd.daemon import proving
from xdropd.daemon.proving import Proving
from xdropd.host.netlink import Received
from xdropd.kernel.abi import Volume

BOND, LOSES, KEEPS = 10, 1, 2


class Wire(Host):
    """A bond of two ports on which packets come in."""

    can_count = True

    def __init__(self):
        super().__init__()
        self.add(BOND, "bond0", "bond")
        self.add(LOSES, "eth0", master=BOND)
        self.add(KEEPS, "eth1", master=BOND)
        self.came, self.seen = {LOSES: 0, KEEPS: 0}, {LOSES: 0, KEEPS: 0}
        self.for_nobody = 0
        self.blind = set()
        self.is_cured_by = ""

    def arrive(self, port, packets):
        self.came[port] += packets
        if port not in self.blind or self.attachments[BOND].mode == "generic":
            self.seen[port] += packets

    def attach(self, index, mode, occupant, **more):
        self.seen = dict.fromkeys(self.seen, 0)
        if self.is_cured_by in ("native", mode):
            self.blind.clear()
        return super().attach(index, mode, occupant, **more)

    def received(self):
        return {
            **{port: Received(came, self.for_nobody) for port, came in self.came.items()},
            BOND: Received(sum(self.came.values()), 0),
        }

    def totals(self, _index):
        return {"passed": Volume(sum(self.seen.values()), 60 * sum(self.seen.values()))}

    def seen_on_port(self, port):
        return {"passed": Volume(self.seen[port], 60 * self.seen[port])}


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=1000.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(proving, "time", clock)
    return clock


@pytest.mark.parametrize("kind", ["wireguard", "bridge", "bond"])
def test_what_counts_more_than_it_hands_on_is_no_trouble(clock, kind):
    """Keepalives; frames of other VLANs; LACP: seen with Linux 6.12."""
    wire = Wire()
    wire.add(20, "lag0", kind, native=False)
    wire.add(21, "eth2", native=False, master=20)
    wire.came[20] = wire.seen[20] = 0
    attaching = attaching_of(wire)
    attaching.sync(("lag0",), "auto", wire.routes())
    assert wire.filtered() == {"lag0": "generic"}
    under_test = Proving(wire, attaching, wire, SimpleNamespace(in_force=SimpleNamespace(xdp_mode="auto")))
    for _ in range(200):
        wire.came[20] += 2
        under_test.look_after(clock.now)
        clock.now += 1.0
    assert not attaching._telling.is_degraded
    assert wire.let_go == []


def test_a_team_counts_apart_what_it_hands_to_nobody(clock):
    """So what its idle port receives says nothing of the rest (team_get_stats64 in drivers/net/team)."""
    wire = Wire()
    wire.add(20, "lag0", "team", native=False)
    wire.add(21, "eth2", native=False, master=20)
    wire.came[20] = wire.seen[20] = 0
    attaching = attaching_of(wire)
    attaching.sync(("lag0",), "auto", wire.routes())
    under_test = Proving(wire, attaching, wire, SimpleNamespace(in_force=SimpleNamespace(xdp_mode="auto")))

    def seconds(number):
        for _ in range(number):
            wire.for_nobody += 200
            wire.came[20] += 100
            under_test.look_after(clock.now)
            clock.now += 1.0

    seconds(10)
    assert attaching._telling.is_degraded


@pytest.mark.parametrize("cure", ["native", "generic"])
def test_a_port_that_has_lost_the_program_is_found_out_beside_one_that_has_it(clock, cure):
    """Such as the active one, whose link went down and up; the other one sees what is sent to all."""
    wire = Wire()
    attaching = attaching_of(wire)
    attaching.sync(("bond0",), "auto", wire.routes())
    under_test = Proving(wire, attaching, wire, SimpleNamespace(in_force=SimpleNamespace(xdp_mode="auto")))
    told = {}

    def seconds(number, packets=100):
        for _ in range(number):
            wire.arrive(LOSES, packets)
            wire.arrive(KEEPS, 1)
            under_test.look_after(clock.now)
            told.update(attaching._telling.troubles.get("evidence", {}))
            clock.now += 1.0

    seconds(30)
    assert not told
    wire.blind, wire.is_cured_by = {LOSES}, cure
    seconds(10)
    assert told["bond0"].startswith("bond0: port eth0: ")
    assert told["bond0"].endswith(" packets came in and the filter saw none of them, it is attached anew")
    seconds(30)
    assert wire.filtered() == {"bond0": cure}
    assert not attaching._telling.is_degraded


def test_what_was_put_into_generic_mode_is_native_again_as_is_said(clock):
    wire = Wire()
    attaching = attaching_of(wire)
    attaching.sync(("bond0",), "auto", wire.routes())
    under_test = Proving(wire, attaching, wire, SimpleNamespace(in_force=SimpleNamespace(xdp_mode="auto")))
    wire.blind, told = {LOSES, KEEPS}, set()
    for _ in range(40):
        wire.arrive(LOSES, 100)
        under_test.look_after(clock.now)
        told.update(attaching._telling.troubles.get("evidence", {}).values())
        clock.now += 1.0
    assert wire.filtered() == {"bond0": "generic"}
    assert any(each.endswith("in generic mode; 'xdp_mode: native' asks for native mode again") for each in told)
    wire.blind.clear()  # another kernel, or the link went down and up
    for mode in ("auto", "native", "auto"):
        before = wire.filtered()
        attaching.sync(("bond0",), mode, wire.routes())
        assert wire.filtered() == ({"bond0": "native"} if mode == "native" else before)


def test_a_port_on_which_nothing_comes_in_is_no_trouble(clock):
    wire = Wire()
    attaching = attaching_of(wire)
    attaching.sync(("bond0",), "auto", wire.routes())
    under_test = Proving(wire, attaching, wire, SimpleNamespace(in_force=SimpleNamespace(xdp_mode="auto")))
    for _ in range(60):
        wire.arrive(LOSES, 1_000_000)
        under_test.look_after(clock.now)
        clock.now += 1.0
    wire.free(KEEPS)
    attaching.sync(("bond0",), "auto", wire.routes())
    for _ in range(60):
        wire.came[KEEPS] += 1000  # what a port has that has left is not the bond's
        under_test.look_after(clock.now)
        clock.now += 1.0
    assert not attaching._telling.is_degraded
    assert wire.let_go == []
