"""To this version from the first one, whose maps are others, and back, as packages under a flood: nothing passes.

The first version is in the history. On the way here, counts go on where they were. It does not know what later ones
count, nor how: on the way back its entries begin at nothing, and are in force all the same.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import installation
import pytest
import service
import wire
from flood import AT_LEAST_A_SECOND, Flood, prepare
from machine import Machine
from service import BLOCKLIST, SETTINGS, UNIT
from wire import NEIGHBOUR, VILLAIN

from waiting import wait_until

_ADDRESS6 = "2001:db8:5::1"
_INNOCENT = "203.0.113.9"  # allowed, in a blocked network

# An entry of each kind, and whom it keeps out; `xdropctl block` adds another one.
_KEPT_OUT = {
    VILLAIN: VILLAIN,
    "192.0.2.7": "192.0.2.7",
    "203.0.113.0/24": "203.0.113.7",
    "192.0.2.100-192.0.2.110": "192.0.2.103",
    "2001:db8:bad::7": "2001:db8:bad::7",
    "2001:db8:bad:1::/64": "2001:db8:bad:1::7",
    "2001:db8:bad:2::7-2001:db8:bad:2::9": "2001:db8:bad:2::8",
}
_BLOCKED = {"192.0.2.9": "192.0.2.9"}
_BY_HAND = ("--reason", "by hand", "--for", "3h")

Row = dict[str, Any]


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first version's package."""
    return installation.build_first(tmp_path_factory.mktemp("first"))


@pytest.fixture
def running(machine: Machine, package: Path, first: Path) -> Iterator[Machine]:
    """The first version, running, with both packages in /root; afterwards nothing of any is in the kernel."""
    prepare(machine)
    machine.copy_in(package, "/root/current.deb")
    machine.copy_in(first, "/root/first.deb")
    machine.run("ip", "address", "replace", f"{_ADDRESS6}/64", "dev", wire.DEVICE, "nodad")
    ours, theirs = wire.hardware_address(machine), wire.hardware_address(machine, "-n", wire.PEER)
    peer = ("ip", "-n", wire.PEER)
    machine.run(*peer, "route", "replace", f"{_ADDRESS6}/128", "dev", "eth0")
    machine.run(*peer, "neighbour", "replace", _ADDRESS6, "lladdr", ours, "dev", "eth0")
    for source in (*_KEPT_OUT.values(), *_BLOCKED.values(), _INNOCENT):
        if source != VILLAIN:
            machine.run(*peer, "address", "replace", source, "dev", "eth0", *(["nodad"] if ":" in source else []))
            machine.run("ip", "route", "replace", source, "dev", wire.DEVICE)
            machine.run("ip", "neighbour", "replace", source, "lladdr", theirs, "dev", wire.DEVICE)
    before = service.in_kernel(machine)
    machine.write(SETTINGS, f"interfaces: [{wire.DEVICE}]\nlog_drops: 0\n")
    machine.write(BLOCKLIST, f"{service.blocklist(*_KEPT_OUT)}allow:\n  - {_INNOCENT}\n")
    _install(machine, "first")
    machine.run("systemctl", "enable", "--now", "--quiet", UNIT)
    machine.run("xdropctl", "block", *_BLOCKED, *_BY_HAND)
    yield machine
    machine.run("systemctl", "disable", "--now", "--quiet", UNIT)
    machine.run("rm", "--recursive", "--force", service.STATE)
    service.wait_until_nothing_is_left(machine, before)


def _install(machine: Machine, which: str) -> None:
    machine.run("dpkg", "--force-confold", "--install", f"/root/{which}.deb", within_s=120)


def _goes_over(machine: Machine, which: str) -> None:
    """Nothing that is listed passes meanwhile, and nobody else is kept out."""
    before = service.main_pid(machine)
    with Flood(machine) as flood:
        _install(machine, which)
        service.wait_for_another(machine, before)
    print(f"\nto the {which} version: {flood.outcome}")
    assert flood.outcome.rate >= AT_LEAST_A_SECOND, flood.outcome
    assert flood.outcome.met >= 0.95 * flood.outcome.sent, flood.outcome
    assert (flood.outcome.passed, flood.outcome.lost) == (0, 0), flood.outcome
    assert not service.status(machine)["degraded"], service.status(machine)["troubles"]


def _answers(machine: Machine, source: str) -> bool:
    ping = ("ping", "-q", "-c1", "-W0.3", "-I", source, _ADDRESS6 if ":" in source else wire.ADDRESS)
    return machine.run("ip", "netns", "exec", wire.PEER, *ping, check=False).returncode == 0


def _knock(machine: Machine) -> None:
    """All that are listed, and those that are not."""
    for source in (*_KEPT_OUT.values(), *_BLOCKED.values()):
        assert not _answers(machine, source), source
    for source in (NEIGHBOUR, _INNOCENT):
        assert _answers(machine, source), source


def _rows(machine: Machine) -> dict[str, Row]:
    """What `list` tells in both versions, by entry."""
    rows = map(json.loads, machine.run("xdropctl", "--json", "list").stdout.splitlines())
    return {row["entry"]: {key: value for key, value in row.items() if key != "action"} for row in rows}


def _without_counts(rows: dict[str, Row]) -> dict[str, Row]:
    counts = ("packets", "bytes", "last_seen", "since")
    return {entry: {key: value for key, value in row.items() if key not in counts} for entry, row in rows.items()}


def _metrics(machine: Machine) -> dict[str, int]:
    """What is dropped on behalf of each source, and what the interface has seen."""
    ask = "import json, socket\nasking = socket.socket(socket.AF_UNIX)\nasking.connect('/run/xdropd/control.sock')\n"
    ask += 'asking.sendall(b\'{"version": 1, "verb": "metrics"}\\n\')\nprint(asking.makefile().read())'
    lines = [json.loads(line) for line in machine.run("python3", "-c", ask).stdout.splitlines() if line]
    seen = {row["name"]: int(row["packets"]) for row in (line["row"] for line in lines if "row" in line)}
    (told,) = (line["result"] for line in lines if "result" in line)
    (interface,) = told["interfaces"]
    return {**seen, **{verdict: packets for verdict, (packets, _) in interface["totals"].items()}}


def test_an_upgrade_goes_on_counting(running: Machine) -> None:
    machine = running
    _knock(machine)
    with Flood(machine):
        wait_until(lambda: _rows(machine)[VILLAIN]["packets"] > 1000, within_s=5)
    before, seen = _rows(machine), _metrics(machine)
    assert all(row["packets"] for row in before.values()), before

    _goes_over(machine, "current")
    after, seen_after = _rows(machine), _metrics(machine)
    quiet = before.keys() - {VILLAIN}
    assert {entry: after[entry] for entry in quiet} == {entry: before[entry] for entry in quiet}
    assert after.keys() == before.keys()
    assert after[VILLAIN]["since"] == before[VILLAIN]["since"]
    assert after[VILLAIN]["packets"] > before[VILLAIN]["packets"] + 1000
    assert seen_after.keys() == {*seen, "replies"}
    assert all(seen_after[name] >= count for name, count in seen.items()), (seen, seen_after)
    more = after[VILLAIN]["packets"] - before[VILLAIN]["packets"]
    assert seen_after["dropped"] == seen["dropped"] + more
    assert seen_after[BLOCKLIST] == seen[BLOCKLIST] + more

    _knock(machine)
    assert all(row["packets"] > after[entry]["packets"] for entry, row in _rows(machine).items())
    machine.run("systemctl", "restart", UNIT)
    assert not service.status(machine)["degraded"]
    assert all(row["packets"] > after[entry]["packets"] for entry, row in _rows(machine).items())
    _knock(machine)


def test_a_downgrade_and_another_upgrade(running: Machine) -> None:
    machine = running
    listed = _without_counts(_rows(machine))
    for which in ("current", "first", "current"):
        _goes_over(machine, which)
        assert _without_counts(_rows(machine)) == listed
        _knock(machine)
        assert all(row["packets"] for row in _rows(machine).values())
    stored = service.settled(machine)
    machine.run("systemctl", "stop", UNIT)
    machine.run("systemctl", "start", UNIT)
    _knock(machine)
    # All that the first version left is gone; what a swap saves of its counts is what a fresh start has not.
    assert service.settled(machine) == stored - 1
