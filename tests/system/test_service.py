"""The service under a real systemd: the story an operator lives through, and what the unit promises."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import installation
import pytest
import service
import wire
from machine import Machine
from service import BLOCKLIST, SETTINGS, UNIT
from wire import NEIGHBOUR, VILLAIN

from roots import SUITES
from waiting import wait_until

EXPOSURE_AT_MOST = 1.3
FETCHING = ("xdropd-fetch.service", "xdropd-fetch.timer", "xdropd-fetch.path")

# The contract's second for a change to be in force, and one for the ping that finds out.
_CHANGE_WITHIN_S = 2.0

# The kernel frees a map some time after its last user is gone.


@pytest.fixture(scope="module", params=SUITES)
def machine(request: pytest.FixtureRequest, cache: Path, package: Path) -> Iterator[Machine]:
    """Each Debian, with xdropd installed and not started."""
    with installation.machine_with(package, cache, request.param) as made:
        yield made


@pytest.fixture
def stopped(machine: Machine) -> Iterator[Machine]:
    """A machine with a cable, the settings naming it, and the service not running before and after."""
    if machine.run("ip", "link", "show", wire.DEVICE, check=False).returncode:
        wire.lay(machine)
    machine.write(SETTINGS, f"interfaces: [{wire.DEVICE}]\n")
    yield machine
    machine.run("systemctl", "stop", UNIT)
    machine.run("systemctl", "disable", "--quiet", UNIT)
    machine.run("systemctl", "reset-failed", check=False)


def _messages(machine: Machine) -> list[str]:
    return [str(line["MESSAGE"]) for line in machine.journal(UNIT)]


def test_the_story_of_a_service(stopped: Machine) -> None:
    machine = stopped
    machine.write(BLOCKLIST, service.blocklist(VILLAIN))
    assert wire.answers(machine, VILLAIN)
    before = service.in_kernel(machine)

    # Returns only when ready: the first ping after it is blocked already.
    machine.run("systemctl", "start", UNIT)
    assert not wire.answers(machine, VILLAIN)
    assert wire.answers(machine, NEIGHBOUR)
    assert "xdp" in machine.run("ip", "link", "show", wire.DEVICE).stdout
    assert all(service.left_over(machine, before).values())

    machine.write(BLOCKLIST, service.blocklist())  # in place
    wait_until(lambda: wire.answers(machine, VILLAIN), within_s=_CHANGE_WITHIN_S)

    machine.run("sed", "--in-place", f"s/.*/block: [{VILLAIN}]/", BLOCKLIST)  # renamed over
    wait_until(lambda: not wire.answers(machine, VILLAIN), within_s=_CHANGE_WITHIN_S)
    assert wire.answers(machine, NEIGHBOUR)

    told = [line for line in machine.journal(UNIT) if line.get("XDROPD_EVENT") == "reload"]
    assert [line["MESSAGE"] for line in told][-2:] == [
        "blocklist: 0 added, 1 removed, 0 in force",
        "blocklist: 1 added, 0 removed, 1 in force",
    ]
    assert all(line["_SYSTEMD_UNIT"] == UNIT for line in told)
    alone = machine.run("journalctl", "--output=cat", "--lines=2", "XDROPD_EVENT=reload").stdout.splitlines()
    assert alone == [line["MESSAGE"] for line in told][-2:]

    machine.run("systemctl", "stop", UNIT)
    assert wire.answers(machine, VILLAIN)
    service.wait_until_nothing_is_left(machine, before)
    assert machine.run("ls", "/run/xdropd", check=False).returncode != 0


def test_the_count_of_an_entry_that_is_exempt_outlives_a_restart(stopped: Machine) -> None:
    machine = stopped
    machine.write(BLOCKLIST, service.blocklist(VILLAIN))
    machine.run("systemctl", "start", UNIT)
    assert not wire.answers(machine, VILLAIN)
    counted = service.lookup(machine, VILLAIN)["packets"]
    assert counted
    for how in ("restart", "kill"):
        machine.write(BLOCKLIST, service.blocklist(VILLAIN) + f"allow: [{VILLAIN}]\n")
        machine.run("systemctl", "reload", UNIT)
        assert wire.answers(machine, VILLAIN)
        before = service.main_pid(machine)
        machine.run(*(("systemctl", "restart", UNIT) if how == "restart" else ("kill", "-KILL", str(before))))
        service.wait_for_another(machine, before)
        assert service.lookup(machine, VILLAIN)["packets"] == counted
        machine.write(BLOCKLIST, service.blocklist(VILLAIN))
        machine.run("systemctl", "reload", UNIT)
        assert service.lookup(machine, VILLAIN)["packets"] == counted
    assert not wire.answers(machine, VILLAIN)
    assert service.lookup(machine, VILLAIN)["packets"] > counted


def test_memory_is_the_c_librarys(stopped: Machine) -> None:
    """PYTHONMALLOC= counts only for a Python that is not told to ignore its environment."""
    machine = stopped
    machine.write(BLOCKLIST, service.blocklist())
    machine.run("systemctl", "start", UNIT)
    process = f"/proc/{service.main_pid(machine)}"
    environment = machine.run("cat", f"{process}/environ").stdout.split("\0")
    assert "PYTHONMALLOC=malloc" in environment
    _, *options, program, _ = machine.run("cat", f"{process}/cmdline").stdout.split("\0")
    assert program == "/usr/bin/xdropd"
    assert not set("IE") & set("".join(options))


def test_a_list_that_does_not_fit_does_not_end_what_took_over_a_running_filter(stopped: Machine) -> None:
    machine = stopped
    machine.write(BLOCKLIST, service.blocklist(VILLAIN))
    machine.run("systemctl", "start", UNIT)
    machine.run("mkdir", "-p", f"/run/systemd/system/{UNIT}.d")
    machine.write(f"/run/systemd/system/{UNIT}.d/memory.conf", "[Service]\nLimitAS=200M\n")
    machine.run("systemctl", "daemon-reload")
    try:
        machine.run("systemctl", "restart", UNIT)
        assert not service.status(machine)["degraded"], "it runs within this limit"
        machine.write(BLOCKLIST, service.blocklist(*service.addresses(3_000_000)))
        machine.run("systemctl", "restart", UNIT)
        told = service.status(machine)
        assert told["degraded"]
        assert "hold the lists in memory: Cannot allocate memory" in str(told["troubles"])
        assert not wire.answers(machine, VILLAIN)
        machine.write(BLOCKLIST, service.blocklist())
        machine.run("systemctl", "reload", UNIT)
        assert wire.answers(machine, VILLAIN)
        assert service.status(machine)["troubles"] == []
    finally:
        machine.run("rm", "-r", f"/run/systemd/system/{UNIT}.d")
        machine.run("systemctl", "daemon-reload")


def test_reload_waits_and_tells_of_a_refused_list(stopped: Machine) -> None:
    machine = stopped
    machine.write(BLOCKLIST, service.blocklist(VILLAIN))
    machine.run("systemctl", "start", UNIT)
    before = service.main_pid(machine)

    machine.write(BLOCKLIST, service.blocklist(NEIGHBOUR, "10.0.0.1/8"))
    assert machine.run("systemctl", "reload", UNIT, check=False).returncode != 0
    assert any(f"{BLOCKLIST}:3:5: error: " in line for line in _messages(machine))
    assert not wire.answers(machine, VILLAIN)
    assert wire.answers(machine, NEIGHBOUR)

    machine.write(BLOCKLIST, service.blocklist("203.0.113.7"))
    machine.run("systemctl", "reload", UNIT)
    assert wire.answers(machine, VILLAIN)
    assert service.main_pid(machine) == before


def test_a_broken_list_at_a_fresh_start_is_final(stopped: Machine) -> None:
    machine = stopped
    machine.run("rm", "--recursive", "--force", "/var/lib/xdropd")
    machine.write(BLOCKLIST, service.blocklist("10.0.0.300"))
    assert machine.run("systemctl", "start", UNIT, check=False).returncode != 0
    shown = machine.run("systemctl", "show", "--property=ExecMainStatus,SubState", UNIT).stdout
    assert set(shown.split()) == {"ExecMainStatus=78", "SubState=failed"}
    assert any(f"{BLOCKLIST}:2:5: error: " in line for line in _messages(machine))


@pytest.mark.threat_model
def test_only_root_and_the_group_get_in(stopped: Machine) -> None:
    machine = stopped
    machine.write(BLOCKLIST, service.blocklist(VILLAIN))
    machine.run("systemctl", "start", UNIT)
    modes = machine.run("stat", "--format=%n %U %G %a", "/run/xdropd", "/run/xdropd/control.sock", "/var/lib/xdropd")
    assert modes.stdout.splitlines() == [
        "/run/xdropd _xdropd _xdropd 711",
        "/run/xdropd/control.sock _xdropd _xdropd 660",
        "/var/lib/xdropd _xdropd _xdropd 700",
    ]
    status = ("xdropctl", "--json", "status")
    assert json.loads(machine.run(*status).stdout)["state"] == "enforcing"
    as_member = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--groups=_xdropd", *status)
    assert json.loads(machine.run(*as_member).stdout)["state"] == "enforcing"
    as_stranger = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", *status)
    assert machine.run(*as_stranger, check=False).returncode == 77


@pytest.mark.threat_model
def test_the_daemon_has_three_powers_and_the_bounds_to_match(stopped: Machine) -> None:
    machine = stopped
    machine.write(BLOCKLIST, service.blocklist(VILLAIN))
    machine.run("systemctl", "start", UNIT)
    status = machine.read(f"/proc/{service.main_pid(machine)}/status")
    powers = 1 << 12 | 1 << 38 | 1 << 39  # CAP_NET_ADMIN, CAP_PERFMON, CAP_BPF in uapi/linux/capability.h
    for kind in ("Prm", "Eff", "Bnd", "Amb"):
        (held,) = re.findall(rf"^Cap{kind}:\s+([0-9a-f]+)$", status, re.MULTILINE)
        assert int(held, 16) == powers, kind
    assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)
    assert re.search(r"^Seccomp:\s+2$", status, re.MULTILINE)


def test_what_is_in_the_way_of_another_interface_makes_way(stopped: Machine) -> None:
    """The kernel takes no filter below one that is there, and systemd closes what it kept in its own time."""
    machine = stopped
    machine.write(BLOCKLIST, service.blocklist(VILLAIN))
    machine.run("ip", "link", "add", "above0", "link", wire.DEVICE, "up", "type", "macvlan")
    try:
        machine.write(SETTINGS, "interfaces: [above0]\n")
        machine.run("systemctl", "start", UNIT)
        since = machine.now()
        for _ in range(10):
            for names in (["above0", wire.DEVICE], ["above0"], [wire.DEVICE], ["above0"]):
                machine.write(SETTINGS, f"interfaces: [{', '.join(names)}]\n")
                machine.run("systemctl", "reload", UNIT)
                told = service.status(machine)
                assert (sorted(each["name"] for each in told["interfaces"]), told["troubles"]) == (sorted(names), [])
        assert [line["MESSAGE"] for line in machine.journal(UNIT, since) if int(line["PRIORITY"]) <= 3] == []
        assert wire.answers(machine, VILLAIN)
    finally:
        machine.run("ip", "link", "del", "above0")


@pytest.mark.threat_model
def test_interfaces_named_are_filtered_from_the_boot_on(stopped: Machine) -> None:
    machine = stopped
    machine.write(BLOCKLIST, service.blocklist(VILLAIN))
    machine.run("systemctl", "enable", "--quiet", UNIT)
    machine.reboot()

    # The cable is gone with the machine's network: the service waits for it and does not fail.
    assert machine.run("systemctl", "is-active", UNIT, check=False).stdout == "active\n"
    assert machine.run("systemctl", "is-system-running", "--wait", check=False).stdout == "running\n"
    order = ("systemctl", "show", "--property=ActiveEnterTimestampMonotonic", "--value")
    ready, network = (int(machine.run(*order, unit).stdout) for unit in (UNIT, "network-pre.target"))
    assert 0 < ready <= network

    wire.lay(machine)
    wait_until(lambda: "xdp" in machine.run("ip", "link", "show", wire.DEVICE).stdout, within_s=5)
    assert not wire.answers(machine, VILLAIN)
    assert wire.answers(machine, NEIGHBOUR)


@pytest.mark.parametrize(
    "lines",
    [
        "[Unit]\nJobRunningTimeoutSec=2\n[Service]\nExecStart=\nExecStart=/usr/bin/sleep infinity\n",
        "[Service]\nExecStart=\nExecStart=/usr/bin/false\n",
    ],
    ids=["hangs", "fails"],
)
def test_a_start_that_goes_wrong_does_not_keep_the_machine_from_its_network(stopped: Machine, lines: str) -> None:
    machine = stopped
    drop_in = f"/etc/systemd/system/{UNIT}.d/test.conf"
    machine.run("mkdir", "--parents", drop_in.rpartition("/")[0])
    machine.write(drop_in, lines)
    machine.run("systemctl", "enable", "--quiet", UNIT)
    try:
        machine.reboot()
        assert machine.run("systemctl", "is-active", "network-pre.target", "multi-user.target").returncode == 0
        assert machine.run("systemctl", "is-active", UNIT, check=False).stdout == "activating\n"  # it does not give up
    finally:
        machine.run("rm", drop_in)
        machine.run("systemctl", "daemon-reload")


@pytest.mark.parametrize("unit", [UNIT, "xdropd-exporter.service", "xdropd-crowdsec.service", *FETCHING])
def test_systemd_knows_every_line_of_the_unit(machine: Machine, unit: str) -> None:
    verdict = machine.run("systemd-analyze", "verify", "--man=no", f"/usr/lib/systemd/system/{unit}", check=False)
    assert (verdict.returncode, verdict.stdout, verdict.stderr) == (0, "", "")


@pytest.mark.parametrize("unit", [UNIT, "xdropd-exporter.service", "xdropd-crowdsec.service", FETCHING[0]])
@pytest.mark.threat_model
def test_exposure(machine: Machine, unit: str) -> None:
    """The overall level as `systemd-analyze security` of the machine's own systemd computes it."""
    said = machine.run("systemd-analyze", "security", "--no-pager", unit).stdout
    (level,) = re.findall(r"Overall exposure level for \S+: ([0-9.]+) ", said)
    assert float(level) <= EXPOSURE_AT_MOST, said
