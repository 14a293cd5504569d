"""The daemon is killed before each system call that changes anything, while it takes over and while it swaps.

What is outside of the process changes by three calls only: bpf(2), sendmsg(2) to systemd, which keeps descriptors or
lets them go, and close(2). strace kills the daemon as it enters the n-th of a kind; between two of them it does not
matter when. All under the flood, behind which nothing may arrive. CI takes a few of each kind, XDROPD_FULL=1 all.
"""

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import service
import wire
from flood import Flood, prepare
from installation import PROGRAM_TEXT
from machine import Machine
from service import BLOCKLIST, SETTINGS, UNIT
from wire import NEIGHBOUR, VILLAIN

from waiting import wait_until

_CALLS = ("bpf", "sendmsg", "close")
_EACH_IN_CI = 3
_SECONDS_A_FLOOD = 600

# Each start waits to be traced from its first call on; it is the same process that becomes the daemon.
_STARTS_STOPPED = "/usr/bin/sh -c 'kill -STOP $$$$; exec /usr/bin/xdropd'"


@pytest.fixture
def running(machine: Machine) -> Iterator[Machine]:
    """The service, running, with starts that wait to be continued; afterwards nothing of it is in the kernel."""
    prepare(machine)
    before = service.in_kernel(machine)
    machine.write(SETTINGS, f"interfaces: [{wire.DEVICE}]\nlog_drops: 0\n")
    machine.write(BLOCKLIST, service.blocklist(VILLAIN, "203.0.113.0/24", "2001:db8::/32"))
    machine.run("systemctl", "start", UNIT)
    service.drop_in(machine, "sudden", "RestartSec=20ms", "ExecStart=", f"ExecStart={_STARTS_STOPPED}")
    original = machine.read(PROGRAM_TEXT)
    yield machine
    machine.write(PROGRAM_TEXT, original)
    machine.run("systemctl", "stop", UNIT)
    service.undo_drop_ins(machine)
    service.wait_until_nothing_is_left(machine, before)


def _state(machine: Machine, pid: int) -> str:
    """As in /proc/PID/stat: T for stopped; "" if it is gone, whether anybody has noticed yet or not."""
    with contextlib.suppress(OSError):
        state = Path(f"/proc/{machine.pid_outside(pid)}/stat").read_text().rpartition(") ")[2][:1]
        return state if state not in "XZ" else ""
    return ""


def _stopped_start(machine: Machine, before: int) -> int:
    """Wait for the process that follows, which waits to be continued."""

    def waits() -> int:
        pid = service.main_pid(machine)
        return pid if pid not in (0, before) and _state(machine, pid) == "T" else 0

    return wait_until(waits, within_s=10, what="another process has begun")


@contextlib.contextmanager
def _traced(machine: Machine, pid: int, trace: Path, *tampering: str) -> Iterator[None]:
    outside = machine.pid_outside(pid)
    which = f"trace={','.join(_CALLS)}"
    command = ["strace", "-qq", "-e", which, *tampering, "-o", str(trace), "-p", str(outside)]
    tracer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        status = Path(f"/proc/{outside}/status")
        wait_until(lambda: "TracerPid:\t0\n" not in status.read_text(), within_s=10, what="strace is at work")
        yield
    finally:
        tracer.terminate()
        tracer.wait(10)


def _calls_of_a_start(machine: Machine, trace: Path) -> dict[str, range]:
    """By kind, the numbers of the calls from the first thing that is done to the filter until all is done."""
    before = service.main_pid(machine)
    machine.run("kill", "-KILL", str(before))
    pid = _stopped_start(machine, before)
    with _traced(machine, pid, trace):
        machine.run("kill", "-CONT", str(pid))
        service.wait_for_another(machine, before)
        time.sleep(0.5)  # what comes after READY: counts are carried over
    made = [line.partition("(")[0] for line in trace.read_text().splitlines()]
    first = made.index("bpf")
    return {kind: range(made[:first].count(kind) + 1, made.count(kind) + 1) for kind in _CALLS}


def _other_text(machine: Machine, number: int) -> None:
    """As an upgrade does it: the next start finds a program text that the filter in force was not made from."""
    text = machine.read(PROGRAM_TEXT).partition("/* build ")[0]
    machine.write(PROGRAM_TEXT, f"{text}/* build {number} */\n")


@pytest.mark.parametrize("is_upgrade", [False, True], ids=["taking over", "taking over and swapping"])
@pytest.mark.threat_model
def test_killed_before_any_call(running: Machine, tmp_path: Path, full: bool, is_upgrade: bool) -> None:
    machine, trace = running, tmp_path / "trace"
    stored = service.settled(machine)
    if is_upgrade:
        stored += 1  # a swap saves the counts of what it replaces
        _other_text(machine, 0)
    calls = _calls_of_a_start(machine, trace)
    points = [
        (kind, number)
        for kind, numbers in calls.items()
        for number in (numbers if full else numbers[:: max(1, len(numbers) // _EACH_IN_CI)])
    ]
    assert all(len(numbers) > _EACH_IN_CI for numbers in calls.values()), calls
    killed = 0
    while points:
        with Flood(machine) as flood:
            until = time.monotonic() + _SECONDS_A_FLOOD
            while points and time.monotonic() < until:
                kind, number = points.pop()
                if is_upgrade:
                    _other_text(machine, 1 + len(points))
                killed += _dies_before(machine, trace, kind, number)
        assert flood.outcome.passed == 0, flood.outcome
        print(f"\n{len(points)} to go, {flood.outcome}")
    print(f"killed {killed} times, of {({kind: len(numbers) for kind, numbers in calls.items()})} calls")
    assert killed >= (0.9 * sum(map(len, calls.values())) if full else _EACH_IN_CI * len(_CALLS) - 1)
    assert not wire.answers(machine, VILLAIN)
    assert wire.answers(machine, NEIGHBOUR)
    wait_until(lambda: service.stored(machine) == stored, within_s=5, what=f"{stored} descriptors are stored")


def _dies_before(machine: Machine, trace: Path, kind: str, number: int) -> bool:
    """A start that is killed as it enters its `number`-th call, and one that is not. False if it never came to that."""
    first = service.main_pid(machine)
    packets = service.lookup(machine, VILLAIN)["packets"]
    machine.run("kill", "-KILL", str(first))
    second = _stopped_start(machine, first)
    with _traced(machine, second, trace, "-e", f"inject={kind}:signal=KILL:when={number}"):
        machine.run("kill", "-CONT", str(second))
        deadline = time.monotonic() + 5
        while _state(machine, second) and time.monotonic() < deadline:
            if service.is_active(machine) and service.main_pid(machine) == second and time.monotonic() > deadline - 4:
                break  # it is ready and past everything
            time.sleep(0.02)
    was_killed = not _state(machine, second)
    if was_killed:
        third = _stopped_start(machine, second)
        machine.run("kill", "-CONT", str(third))
        service.wait_for_another(machine, second)
    told = service.lookup(machine, VILLAIN)
    assert told["blocked"], (kind, number, told)
    assert told["packets"] >= packets, (kind, number)
    return was_killed
