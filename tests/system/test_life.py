"""Beginnings and ends of the service: what it leaves, what it survives, and whom it leaves alone."""

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import service
import wire
from installation import MODULES, PROGRAM_TEXT, SHARE
from machine import Machine
from service import BLOCKLIST, SETTINGS, STATE, UNIT
from wire import NEIGHBOUR, VILLAIN

from waiting import wait_until

_BROKEN = "block:\n  - 10.0.0.1/8\n"
_CAP_BPF = 1 << 39  # uapi/linux/capability.h

# Longer than the unit's RestartSec: what is going to be started again has been.
_RESTARTS_WITHIN_S = 10
_SIX_TRIES_S = 13

_HUGE = 4_000_000
_TOO_SHORT_S = 1

_BLOCKED = 200
_BLOCK_ONE_AFTER_THE_OTHER = (
    f"for n in $(seq {_BLOCKED}); do xdropctl block 10.9.8.$n >/dev/null || exit; sleep 0.03; done"
)


# In the place of the daemon's main loop, once there is a file that says so: what a mistake of ours would do.
_HANG = "        while __import__('os').path.exists('/run/xdropd/hang'):\n            pass\n"
_LOOP = f"{MODULES}/daemon/loop.py"


@pytest.fixture
def stopped(machine: Machine) -> Iterator[Machine]:
    """A machine with a cable and without state, the service not running; afterwards nothing of it is in the kernel."""
    if machine.run("ip", "link", "show", wire.DEVICE, check=False).returncode:
        wire.lay(machine)
    before = service.in_kernel(machine)
    machine.run("rm", "--recursive", "--force", STATE)
    machine.write(SETTINGS, f"interfaces: [{wire.DEVICE}]\n")
    machine.write(BLOCKLIST, service.blocklist(VILLAIN))
    yield machine
    machine.run("systemctl", "stop", UNIT)
    machine.run("systemctl", "reset-failed", check=False)
    _is_gone(machine, before)


def _is_gone(machine: Machine, before: dict[str, dict[int, dict[str, object]]]) -> None:
    wait_until(lambda: service.nothing_left(machine, before), within_s=15, what=f"{service.left_over(machine, before)}")
    assert "xdp" not in machine.run("ip", "link", "show", wire.DEVICE).stdout
    assert wire.answers(machine, VILLAIN)


def _start(machine: Machine) -> int:
    machine.run("systemctl", "start", UNIT)
    assert not wire.answers(machine, VILLAIN)
    assert wire.answers(machine, NEIGHBOUR)
    return service.main_pid(machine)


def _stop_in_order(machine: Machine, _pid: int) -> None:
    machine.run("systemctl", "stop", UNIT)


def _stop_what_hangs(machine: Machine, pid: int) -> None:
    machine.run("kill", "-STOP", str(pid))
    machine.run("systemctl", "stop", UNIT, within_s=60)


def _stop_what_is_dead(machine: Machine, pid: int) -> None:
    machine.run("kill", "-KILL", str(pid))
    wait_until(lambda: service.prop(machine, "SubState") == "auto-restart", within_s=5)
    assert not wire.answers(machine, VILLAIN), "systemd keeps the filter attached"
    machine.run("systemctl", "stop", UNIT)


@pytest.mark.parametrize("stop", [_stop_in_order, _stop_what_hangs, _stop_what_is_dead])
def test_stop_leaves_nothing(stopped: Machine, stop: Callable[[Machine, int], None]) -> None:
    machine = stopped
    before = service.in_kernel(machine)
    pid = _start(machine)
    stop(machine, pid)
    assert service.prop(machine, "NFileDescriptorStore") == "0"
    _is_gone(machine, before)


def test_a_fresh_start_on_a_broken_list_is_not_tried_again(stopped: Machine) -> None:
    machine = stopped
    machine.write(BLOCKLIST, _BROKEN)
    assert machine.run("systemctl", "start", UNIT, check=False).returncode != 0
    assert service.prop(machine, "ExecMainStatus") == "78"
    assert service.prop(machine, "SubState") == "failed"  # and not "auto-restart"


def test_a_fresh_start_on_a_broken_list_takes_the_last_good_one(stopped: Machine) -> None:
    machine = stopped
    _start(machine)
    wait_until(lambda: machine.run("ls", f"{STATE}/last-good", check=False).stdout, within_s=5)
    machine.run("systemctl", "stop", UNIT)
    machine.write(BLOCKLIST, _BROKEN)
    _start(machine)
    status = service.status(machine)
    assert status["degraded"]
    assert [problem["line"] for problem in status["reload"]["problems"]] == [2]


@pytest.mark.parametrize("broken", [BLOCKLIST, SETTINGS])
@pytest.mark.threat_model
def test_a_broken_file_never_ends_what_took_over_a_running_filter(stopped: Machine, broken: str) -> None:
    """Not even where no last good version is left."""
    machine = stopped
    pid = _start(machine)
    good = tuple(f"{STATE}/last-good/{name}.yaml" for name in ("blocklist", "xdropd"))
    wait_until(lambda: machine.run("ls", *good, check=False).returncode == 0, within_s=5, what="both are kept")
    machine.run("sh", "-c", f"rm -r {STATE}/*")
    machine.write(broken, _BROKEN)
    machine.run("kill", "-KILL", str(pid))
    service.wait_for_another(machine, pid, _RESTARTS_WITHIN_S)
    assert not wire.answers(machine, VILLAIN)
    assert wire.answers(machine, NEIGHBOUR)
    assert service.status(machine)["degraded"]

    machine.write(broken, service.blocklist() if broken == BLOCKLIST else f"interfaces: [{wire.DEVICE}]\n")
    wait_until(lambda: not service.status(machine)["degraded"], within_s=5)
    assert wire.answers(machine, VILLAIN) == (broken == BLOCKLIST)
    assert wire.answers(machine, NEIGHBOUR)


@pytest.mark.threat_model
def test_a_second_daemon_is_turned_away(stopped: Machine) -> None:
    machine = stopped
    pid = _start(machine)
    second = machine.run("env", "RUNTIME_DIRECTORY=/run/xdropd", "STATE_DIRECTORY=/tmp", "xdropd", check=False)
    assert second.returncode == 69, second.stderr
    assert "control.sock" in second.stderr
    assert service.main_pid(machine) == pid
    assert service.lookup(machine, VILLAIN)["blocked"]
    assert not wire.answers(machine, VILLAIN)


@pytest.mark.threat_model
def test_somebody_elses_program_stays(stopped: Machine) -> None:
    machine = stopped
    machine.copy_in(Path(__file__).with_name("occupant.py"), "/root/occupant.py")
    program = f"PYTHONPATH={SHARE} python3 /root/occupant.py {wire.DEVICE}"
    occupant = machine.start("sh", "-c", f"echo $$; exec env {program}")
    assert occupant.stdout is not None
    pid, number = occupant.stdout.readline().strip(), int(occupant.stdout.readline())
    try:
        assert machine.run("systemctl", "start", UNIT, check=False).returncode != 0
        assert service.prop(machine, "ExecMainStatus") == "69"
        assert any(f"id {number}" in str(line["MESSAGE"]) for line in machine.journal(UNIT))
        wait_until(
            lambda: int(service.prop(machine, "NRestarts")) > 0,
            within_s=_RESTARTS_WITHIN_S,
            what="a filter does not give up: it is tried again",
        )
        (link,) = json.loads(machine.run("ip", "-json", "link", "show", wire.DEVICE).stdout)
        assert link["xdp"]["prog"]["id"] == number
    finally:
        machine.run("kill", pid)
        occupant.communicate(timeout=10)
    wait_until(lambda: service.is_active(machine), within_s=_RESTARTS_WITHIN_S)
    assert not wire.answers(machine, VILLAIN)


def test_a_kernel_that_refuses_the_program_is_told_once_and_tried_more_and_more_rarely(stopped: Machine) -> None:
    machine = stopped
    since = machine.now()
    original = machine.read(PROGRAM_TEXT)
    machine.write(PROGRAM_TEXT, _without_a_bounds_check(original))
    try:
        assert machine.run("systemctl", "start", UNIT, check=False).returncode != 0
        assert service.prop(machine, "ExecMainStatus") == "69"
        told = [line for line in machine.journal(UNIT, since) if line.get("SYSLOG_IDENTIFIER") == "xdropd"]
        assert {line["PRIORITY"] for line in told} == {"3"}
        refusal = f"{wire.DEVICE}: load program xdrop_root: the verifier of this kernel refuses it"
        assert [line["MESSAGE"] for line in told].count(refusal) == 1
        assert any("invalid access to packet" in str(line["MESSAGE"]) for line in told), told

        time.sleep(_SIX_TRIES_S)
        tries = int(service.prop(machine, "NRestarts"))
        assert 1 <= tries <= 3, "a filter does not give up, and this one has reason to be slow"

        def is_told() -> bool:  # systemd forgets the text when the next try begins, until that has failed as well
            return service.prop(machine, "StatusText").startswith("Failed, tried again in")

        wait_until(is_told, within_s=_RESTARTS_WITHIN_S, what="the service tells when it is tried again")

        machine.write(PROGRAM_TEXT, original)
        machine.run("systemctl", "restart", UNIT)  # need not wait for the next try
        assert not wire.answers(machine, VILLAIN)
    finally:
        machine.write(PROGRAM_TEXT, original)


def test_a_compiler_that_fails_after_an_upgrade_leaves_the_filter_as_it_is(stopped: Machine) -> None:
    machine = stopped
    pid = _start(machine)
    original = machine.read(PROGRAM_TEXT)
    machine.write(PROGRAM_TEXT, original + "int no_program(\n")
    try:
        with wire.Silence(machine, VILLAIN):
            machine.run("kill", "-KILL", str(pid))
            pid = service.wait_for_another(machine, pid, _RESTARTS_WITHIN_S)
            assert service.status(machine)["degraded"]
            assert machine.run("xdropctl", "reload", check=False).returncode == 78
            assert service.main_pid(machine) == pid
            machine.write(PROGRAM_TEXT, original)
            machine.run("systemctl", "restart", UNIT)
            assert not service.status(machine)["degraded"]
        assert wire.answers(machine, NEIGHBOUR)
    finally:
        machine.write(PROGRAM_TEXT, original)


def test_a_block_for_which_no_program_can_be_made_is_listed_nowhere(stopped: Machine) -> None:
    """So many entries want other maps, and other programs with them, which the process that took over never needed."""
    machine = stopped
    pid = _start(machine)
    machine.run("kill", "-KILL", str(pid))
    pid = service.wait_for_another(machine, pid, _RESTARTS_WITHIN_S)
    machine.run("xdropctl", "block", "10.9.8.7", "--for", "1h")
    log, told = machine.read(f"{STATE}/blocks.log"), service.lookup(machine, "10.9.8.7")
    original = machine.read(PROGRAM_TEXT)
    machine.write(PROGRAM_TEXT, original + "int no_program(\n")
    try:
        machine.run("rm", "--recursive", f"{STATE}/program")
        many = "(echo 10.9.8.7; for n in $(seq 3000); do echo 10.8.$((n / 250)).$((n % 250)); done)"
        refused = machine.run("sh", "-c", f"{many} | xdropctl block -", check=False)
        assert refused.returncode == 69, refused
        assert "does not compile" in refused.stderr
        assert service.lookup(machine, "10.9.8.7") == told
        assert not service.lookup(machine, "10.8.0.7")["blocked"]
        assert machine.read(f"{STATE}/blocks.log") == log
        assert service.status(machine)["entries"]["ipv4"] == 2
        assert service.status(machine)["degraded"]
    finally:
        machine.write(PROGRAM_TEXT, original)
    wait_until(lambda: not service.status(machine)["degraded"], within_s=15)
    assert service.main_pid(machine) == pid
    machine.run("sh", "-c", f"{many} | xdropctl block -")
    assert service.lookup(machine, "10.8.0.7")["blocked"]


def _without_a_bounds_check(text: str) -> str:
    """A program that compiles, and reads a packet without having looked at its end."""
    changed = re.sub(
        r"(int xdrop_root\(struct xdp_md \*context\)\n\{\n)",
        r"\1\tif (*(volatile __u8 *)(long)context->data == 1)\n\t\treturn XDP_DROP;\n",
        text,
    )
    assert changed != text
    return changed


def test_a_hanging_loop_ends_with_a_traceback_and_the_filter_stays(stopped: Machine) -> None:
    machine = stopped
    since = machine.now()
    original = machine.read(_LOOP)
    turn = "    def _turn(self, server: ControlServer) -> None:\n"
    assert turn in original
    machine.write(_LOOP, original.replace(turn, turn + _HANG))
    service.drop_in(machine, "watchdog", "WatchdogSec=2")
    try:
        pid = _start(machine)
        with wire.Silence(machine, VILLAIN):
            machine.run("touch", "/run/xdropd/hang")
            wait_until(lambda: service.main_pid(machine) != pid, within_s=10, what="the watchdog has fired")
            machine.run("rm", "/run/xdropd/hang")
            service.wait_for_another(machine, pid, _RESTARTS_WITHIN_S)
        said = [str(line["MESSAGE"]) for line in machine.journal(UNIT, since)]
        assert any("Watchdog timeout" in line for line in said), said
        assert any(re.search(r'File ".*/daemon/loop.py", line \d+ in _turn$', line) for line in said), said
    finally:
        service.undo_drop_ins(machine)
        machine.write(_LOOP, original)


def test_a_frozen_unit_goes_on_dropping_and_thaws_where_it_was(stopped: Machine) -> None:
    """The cgroup freezer: what containers are paused with, and user slices before the machine sleeps."""
    machine = stopped
    pid = _start(machine)
    machine.run("systemctl", "freeze", UNIT)
    try:
        assert service.prop(machine, "FreezerState") == "frozen"
        assert not wire.answers(machine, VILLAIN)
        assert wire.answers(machine, NEIGHBOUR)
        machine.write(BLOCKLIST, service.blocklist("203.0.113.7"))
    finally:
        machine.run("systemctl", "thaw", UNIT)
    wait_until(lambda: wire.answers(machine, VILLAIN), within_s=2)
    assert service.lookup(machine, "203.0.113.7")["blocked"]
    assert service.main_pid(machine) == pid
    assert not service.status(machine)["degraded"]


def test_a_list_that_takes_longer_than_a_start_may(stopped: Machine) -> None:
    """The daemon asks for more time while it works, and says what it does; nothing is ready before all is in force."""
    machine = stopped
    service.drop_in(machine, "patience", f"TimeoutStartSec={_TOO_SHORT_S}")
    machine.write(BLOCKLIST, service.blocklist(VILLAIN, *service.addresses(_HUGE)))
    try:
        machine.run("systemctl", "start", "--no-block", UNIT)
        seen = set()
        while not service.is_active(machine):
            seen.add(service.prop(machine, "StatusText"))
            assert service.prop(machine, "NRestarts") == "0"
        assert any(re.match(r"putting \d+ entries in force", line) for line in seen), seen
        began, ready = (
            int(service.prop(machine, f"{moment}Monotonic"))
            for moment in ("ExecMainStartTimestamp", "ActiveEnterTimestamp")
        )
        assert ready - began > _TOO_SHORT_S * 1_000_000, "this list was no trial"
        assert not wire.answers(machine, VILLAIN)
        assert service.prop(machine, "StatusText") == f"enforcing: {_HUGE + 1} entries on {wire.DEVICE} (native)"
    finally:
        service.undo_drop_ins(machine)


def test_no_request_is_lost_over_restarts(stopped: Machine) -> None:
    """Somebody blocks one address after the other, whatever happens to the daemon meanwhile."""
    machine = stopped
    _start(machine)
    blocking = machine.start("sh", "-c", _BLOCK_ONE_AFTER_THE_OTHER)
    for how in (("systemctl", "restart", UNIT), ("systemctl", "kill", "--kill-whom=main", "--signal=KILL", UNIT)) * 2:
        before = service.main_pid(machine)
        machine.run(*how)
        service.wait_for_another(machine, before, _RESTARTS_WITHIN_S)
    said, _ = blocking.communicate(timeout=60)
    assert (blocking.returncode, said) == (0, "")
    listed = machine.run("xdropctl", "--json", "list", "--source", "xdropctl").stdout.splitlines()
    assert {json.loads(line)["entry"] for line in listed} == {f"10.9.8.{number}" for number in range(1, _BLOCKED + 1)}


@pytest.mark.parametrize(
    ("spoil", "remedy"),
    [
        (f"chmod 600 {BLOCKLIST}", f"chgrp _xdropd {BLOCKLIST} && chmod 640 {BLOCKLIST}"),
        ("chmod 700 /etc/xdrop", "chmod o+x /etc/xdrop"),
        (f"chmod 666 {BLOCKLIST}", f"chmod o-w {BLOCKLIST}"),
    ],
    ids=["not readable", "in a closed folder", "open to all"],
)
@pytest.mark.threat_model
def test_wrong_permissions_are_told_with_their_remedy(stopped: Machine, spoil: str, remedy: str) -> None:
    machine = stopped
    _start(machine)
    since = machine.now()
    machine.run("sh", "-c", spoil)
    try:
        reloaded = machine.run("systemctl", "reload", UNIT, check=False).returncode
        assert (reloaded == 0) == ("o-w" in remedy)
        said = [str(line["MESSAGE"]) for line in machine.journal(UNIT, since)]
        assert any(line.endswith(f"mend it with: {remedy}") for line in said), said
        assert not wire.answers(machine, VILLAIN)
        machine.run("sh", "-c", remedy)  # which is all it takes
        since = machine.now()
        machine.run("systemctl", "reload", UNIT)
        assert not any("mend it" in str(line["MESSAGE"]) for line in machine.journal(UNIT, since))
        assert not service.status(machine)["degraded"]
    finally:
        machine.run("sh", "-c", f"chmod 755 /etc/xdrop; chmod 644 {BLOCKLIST}; chgrp root {BLOCKLIST}")


@pytest.mark.threat_model
def test_it_runs_as_its_own_user(stopped: Machine) -> None:
    machine = stopped
    pid = _start(machine)
    owner = machine.run("ps", "-o", "user=,group=,supgrp=", "-p", str(pid)).stdout.split()
    assert set(owner) == {"_xdropd"}


@pytest.mark.parametrize("round_", range(3))
@pytest.mark.threat_model
def test_what_block_has_confirmed_outlives_a_sudden_death(stopped: Machine, round_: int) -> None:
    machine = stopped
    machine.write(BLOCKLIST, service.blocklist())
    machine.run("systemctl", "start", UNIT)
    pid = service.main_pid(machine)
    assert wire.answers(machine, VILLAIN)
    machine.run("sh", "-c", f"xdropctl block {VILLAIN} --reason test && kill -KILL {pid}")
    assert not wire.answers(machine, VILLAIN)
    machine.run("xdropctl", "status")  # waits for the next process
    assert service.main_pid(machine) != pid
    service.wait_for_another(machine, pid, _RESTARTS_WITHIN_S)
    assert not wire.answers(machine, VILLAIN)
    told = service.lookup(machine, VILLAIN)
    assert (told["blocked"], told["source"], told["reason"]) == (True, "xdropctl", "test")


_COMPILERS = """
import os, re, sys, time
deadline = time.monotonic() + 20
while time.monotonic() < deadline:
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if b"compile_child" not in open(f"/proc/{pid}/cmdline", "rb").read():
                continue
            status = open(f"/proc/{pid}/status").read()
            if not re.search(r"^CapEff:\\s+0000008000000000$", status, re.MULTILINE):
                continue  # it has not come to that yet, or never will
            os.kill(int(pid), 19)
            print(pid)
            sys.exit()
        except (FileNotFoundError, ProcessLookupError):
            pass
sys.exit("no compiler with CAP_BPF alone was seen")
"""


# A thousand lines wait in the daemon, five hundred in journald's queue (net.unix.max_dgram_qlen).
_MORE_LINES_THAN_WAIT = """
import json, socket
for number in range(2000):
    with socket.socket(socket.AF_UNIX) as asking:
        asking.connect("/run/xdropd/control.sock")
        asking.sendall(json.dumps({"version": 1, "verb": "block", "entries": ["192.0.2.1"]}).encode() + b"\\n")
        assert b"result" in asking.makefile("rb").readline()
"""


def test_a_journal_that_stands_still_holds_nobody(stopped: Machine) -> None:
    machine = stopped
    machine.run("systemctl", "start", UNIT)
    pid, since = service.main_pid(machine), machine.now()
    machine.run("systemctl", "kill", "--signal=STOP", "systemd-journald.service")
    try:
        machine.run("python3", "-c", _MORE_LINES_THAN_WAIT)
        assert service.status(machine)["state"] == "enforcing"
        assert not wire.answers(machine, VILLAIN)
        machine.run("systemctl", "kill", "--signal=CONT", "systemd-journald.service")
        wait_until(lambda: _has_said(machine, since, "lines of this log were not written"), within_s=10)
        machine.run("systemctl", "kill", "--signal=STOP", "systemd-journald.service")
        machine.run("python3", "-c", _MORE_LINES_THAN_WAIT)
        machine.run("systemctl", "restart", UNIT)
        service.wait_for_another(machine, pid)
        assert service.status(machine)["state"] == "enforcing"
        assert not wire.answers(machine, VILLAIN)
    finally:
        machine.run("systemctl", "kill", "--signal=CONT", "systemd-journald.service")
    wait_until(lambda: _has_said(machine, since, "took over the running filter"), within_s=10)


def _has_said(machine: Machine, since: str, what: str) -> bool:
    return any(what in str(line["MESSAGE"]) for line in machine.journal(UNIT, since))


def test_a_list_file_whose_name_is_no_utf8(stopped: Machine) -> None:
    machine = stopped
    machine.write(BLOCKLIST, "block: []\ninclude:\n  - lists.d/*.netset\n")
    lists = "/etc/xdrop/lists.d"
    write = f"(echo no entry; echo {VILLAIN}; seq -f 10.0.0.%g 20) >{lists}/$(printf 'caf\\351').netset"
    machine.run("sh", "-c", write)
    try:
        since = machine.now()
        machine.run("systemctl", "start", UNIT)
        machine.run("systemctl", "restart", UNIT)
        assert not wire.answers(machine, VILLAIN)
        told = [line for line in machine.journal(UNIT, since) if line.get("XDROPD_EVENT") == "list"]
        assert {line["XDROPD_FILE"] for line in told} == {rf"{lists}/caf\xe9.netset"}
        assert all(str(line["MESSAGE"]).startswith(rf"{lists}/caf\xe9.netset:1:1: warning: ") for line in told)
        assert [line["XDROPD_LINE"] for line in told] == ["1", "1"]
    finally:
        machine.run("sh", "-c", f"rm {lists}/caf*")


@pytest.mark.threat_model
def test_the_compiler_has_one_power_inherits_nothing_and_dies_with_the_daemon(stopped: Machine) -> None:
    machine = stopped
    pid = _start(machine)
    original = machine.read(PROGRAM_TEXT)
    machine.write("/root/compilers.py", _COMPILERS)
    watcher = machine.start("python3", "/root/compilers.py")
    try:
        machine.write(PROGRAM_TEXT, original + "/* another build */\n")
        machine.run("kill", "-KILL", str(pid))  # the next process takes over the link, and compiles
        said, _ = watcher.communicate(timeout=30)
        assert watcher.returncode == 0, said
        compiler = said.strip()
        status = machine.read(f"/proc/{compiler}/status")
        for kind, powers in (("Eff", _CAP_BPF), ("Prm", _CAP_BPF), ("Inh", 0), ("Amb", 0)):
            (held,) = re.findall(rf"^Cap{kind}:\s+([0-9a-f]+)$", status, re.MULTILINE)
            assert int(held, 16) == powers, (kind, held)
        assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)
        look = f"cat /proc/{compiler}/fdinfo/*; readlink /proc/{compiler}/fd/*"
        held_open = machine.run("sh", "-c", look, check=False).stdout
        assert held_open, "the compiler still runs"
        assert "link_id" not in held_open, held_open
        assert "prog_id" not in held_open, held_open
        assert not wire.answers(machine, VILLAIN)

        parent = service.main_pid(machine)
        assert parent not in (0, pid)
        machine.run("kill", "-KILL", str(parent))
        wait_until(
            lambda: machine.run("test", "-e", f"/proc/{compiler}", check=False).returncode != 0,
            within_s=2,
            what="the compiler is gone although it was stopped",
        )
        service.wait_for_another(machine, parent, _RESTARTS_WITHIN_S)
        assert not wire.answers(machine, VILLAIN)
    finally:
        machine.write(PROGRAM_TEXT, original)
