"""What a new process finds in the store, and what it makes of it: taken over if it fits, else built anew beside it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import service
import wire
from machine import Machine
from service import BLOCKLIST, SETTINGS, UNIT
from wire import NEIGHBOUR, VILLAIN

from waiting import wait_until

_HEIR = "/usr/lib/heir.py"
_RESTARTS_WITHIN_S = 10


@pytest.fixture
def running(machine: Machine) -> Iterator[Machine]:
    """The service, running; afterwards it is stopped, and nothing of it is left in the kernel."""
    if machine.run("ip", "link", "show", wire.DEVICE, check=False).returncode:
        wire.lay(machine)
    before = service.in_kernel(machine)
    machine.copy_in(Path(__file__).with_name("heir.py"), _HEIR)
    machine.write(SETTINGS, f"interfaces: [{wire.DEVICE}]\n")
    machine.write(BLOCKLIST, service.blocklist(VILLAIN, "203.0.113.0/24"))
    service.drop_in(machine, "adoption", "RestartSec=50ms")
    machine.run("systemctl", "start", UNIT)
    yield machine
    machine.run("systemctl", "stop", UNIT)
    service.undo_drop_ins(machine)
    service.wait_until_nothing_is_left(machine, before)


def _dies_and_returns(machine: Machine) -> None:
    before = service.main_pid(machine)
    machine.run("kill", "-KILL", str(before))
    service.wait_for_another(machine, before, _RESTARTS_WITHIN_S)


def _succeeds_with(machine: Machine, *damage: str) -> None:
    service.drop_in(machine, "heir", "ExecStart=", f"ExecStart=/usr/bin/python3 -I {_HEIR} {' '.join(damage)}")
    _dies_and_returns(machine)
    service.undo_drop_ins(machine, "heir")


def _is_well(machine: Machine, stored: int) -> None:
    """As if nothing had happened: the list, the counts, and the store without anything that is not needed."""
    assert not wire.answers(machine, VILLAIN)
    assert wire.answers(machine, NEIGHBOUR)
    assert service.lookup(machine, VILLAIN)["blocked"]
    assert not service.status(machine)["degraded"]
    wait_until(lambda: service.stored(machine) == stored, within_s=2, what=f"{stored} descriptors are stored")


_PIECES = {
    "a map of the list": ("gen.*.addresses4",),
    "the networks and the ranges": ("gen.*.networks4", "gen.*.ranges"),
    "the program in force": ("gen.*.xdrop_verdict",),
    "the list as a whole": ("gen.*",),
    "the settings": ("shared.settings",),
    "all that interfaces share": ("shared.*",),
    "the names of sources": ("sources",),
    "the proof": ("proof",),
    "the copy of the log of blocks": ("blocks.*",),
}


@pytest.mark.parametrize("pieces", _PIECES.values(), ids=list(_PIECES))
def test_pieces_that_are_missing_or_something_else(running: Machine, pieces: tuple[str, ...]) -> None:
    machine = running
    stored = service.settled(machine)
    with wire.Silence(machine, VILLAIN):
        for how in ("lose", "ruin", "double"):
            _succeeds_with(machine, how, *pieces)
            _is_well(machine, stored)
        _dies_and_returns(machine)  # and the next one finds nothing amiss
    _is_well(machine, stored)


@pytest.mark.parametrize(
    "two",
    [
        ("gen.*.addresses4", "gen.*.ranges"),
        ("gen.*.networks4", "gen.*.networks6"),
        ("shared.settings", "shared.samples"),
    ],
    ids=" and ".join,
)
def test_maps_of_another_type_or_size(running: Machine, two: tuple[str, str]) -> None:
    machine = running
    stored = service.settled(machine)
    with wire.Silence(machine, VILLAIN):
        _succeeds_with(machine, "swap", *two)
        _is_well(machine, stored)


@pytest.mark.parametrize("how", ["lose", "ruin"])
@pytest.mark.parametrize("piece", ["if.*.link.*", "if.*.in_force", "if.*.tallies", "*"])
def test_an_attachment_that_is_incomplete_is_made_anew(running: Machine, piece: str, how: str) -> None:
    """Without its link nothing is attached, without the others nothing can be looked after: the one gap there is."""
    machine = running
    stored = service.settled(machine)
    _succeeds_with(machine, how, piece)
    _is_well(machine, stored)


def test_an_interface_that_went_while_nobody_looked(running: Machine) -> None:
    machine = running
    stored = service.settled(machine)
    service.drop_in(machine, "adoption", "RestartSec=2s")
    before = service.main_pid(machine)
    machine.run("kill", "-KILL", str(before))
    machine.run("ip", "link", "delete", wire.DEVICE)
    machine.run("ip", "netns", "delete", wire.PEER)
    service.wait_for_another(machine, before, _RESTARTS_WITHIN_S)
    assert service.status(machine)["interfaces"] == []
    assert service.lookup(machine, VILLAIN)["blocked"]
    assert service.stored(machine) < stored

    wire.lay(machine)
    wait_until(lambda: service.status(machine)["interfaces"], within_s=5)
    _is_well(machine, stored)


def test_an_unchanged_filter_is_taken_over_as_it_is(running: Machine) -> None:
    """The same objects in the kernel, no compiler, and the counts go on."""
    machine = running
    stored, held = service.settled(machine), service.held(machine)
    assert not wire.answers(machine, VILLAIN)
    seen = service.lookup(machine, VILLAIN)["packets"]
    assert seen > 0
    machine.run("rm", "--recursive", "--force", f"{service.STATE}/program")  # what a compilation leaves
    _dies_and_returns(machine)
    assert service.held(machine) == held
    assert service.lookup(machine, VILLAIN)["packets"] == seen
    assert machine.run("ls", f"{service.STATE}/program", check=False).returncode != 0
    _is_well(machine, stored)


@pytest.mark.threat_model
def test_blocks_whose_log_cannot_be_read_stay_in_force(running: Machine) -> None:
    machine = running
    machine.write(BLOCKLIST, service.blocklist("203.0.113.0/24"))
    machine.run("systemctl", "reload", UNIT)
    machine.run("xdropctl", "block", VILLAIN, "--reason", "night shift", "--for", "1h")
    told = service.lookup(machine, VILLAIN)
    log = f"{service.STATE}/blocks.log"
    with wire.Silence(machine, VILLAIN):
        machine.run("chown", "root:root", log)
        for _ in range(2):
            machine.run("systemctl", "restart", UNIT)
        after = service.lookup(machine, VILLAIN)
        assert {**after, "packets": 0, "bytes": 0, "last_seen": 0} == {**told, "packets": 0, "bytes": 0, "last_seen": 0}
        (trouble,) = service.status(machine)["troubles"]
        assert trouble.startswith(f"the log of blocks cannot be used: {log}: Permission denied, mend it with: ")
        assert "1 of its entries that were in force stay so" in trouble
        refused = machine.run("xdropctl", "unblock", VILLAIN, check=False)
        assert refused.returncode == 69
        assert "nothing was changed, the log of blocks cannot be used" in refused.stderr

        remedy = trouble.partition("mend it with: ")[2].partition(";")[0]
        machine.run("sh", "-c", remedy)
        wait_until(lambda: not service.status(machine)["degraded"], within_s=_RESTARTS_WITHIN_S)
        machine.run("systemctl", "restart", UNIT)
    assert not service.status(machine)["degraded"]
    machine.run("xdropctl", "unblock", VILLAIN)
    assert wire.answers(machine, VILLAIN)


@pytest.mark.threat_model
def test_a_damaged_log_of_blocks_costs_nothing_that_is_in_force(running: Machine) -> None:
    machine = running
    machine.write(BLOCKLIST, service.blocklist("203.0.113.0/24"))
    machine.run("systemctl", "reload", UNIT)
    machine.run("xdropctl", "block", VILLAIN, "192.0.2.7")
    log = f"{service.STATE}/blocks.log"
    with wire.Silence(machine, VILLAIN):
        machine.run("sed", "--in-place", "--follow-symlinks", f"s/{VILLAIN}/{NEIGHBOUR}/", log)
        machine.run("chown", "_xdropd:", log)
        machine.run("systemctl", "restart", UNIT)
        assert service.lookup(machine, VILLAIN)["source"] == "xdropctl"
        (trouble,) = service.status(machine)["troubles"]
        assert f"kept as {log}.damaged-1" in trouble
    machine.run("rm", f"{log}.damaged-1")
    machine.run("systemctl", "stop", UNIT)
    machine.run("systemctl", "start", UNIT)
    assert not service.status(machine)["degraded"]
    assert service.lookup(machine, VILLAIN)["source"] == "xdropctl", "it was written anew"
    machine.run("xdropctl", "flush", "--source", "xdropctl")
