"""Nobody who is told something has to read it: the filter starts, works, answers and ends as if they did."""

import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from foreground import READY_WITHIN_S, Daemon
from notified import Notified

from netns import Net
from waiting import wait_until

VILLAIN = "198.51.100.66"
ANSWERS_WITHIN_S = 1.0
WITHIN_S = 10.0


@pytest.fixture
def net() -> Iterator[Net]:
    with Net() as made:
        made.address(made.peer, f"{VILLAIN}/{made.length}")
        yield made


def status(daemon: Daemon) -> dict[str, object]:
    """As `daemon.status`, and it must be quick."""
    begun = time.monotonic()
    told = daemon.status()
    assert time.monotonic() - begun < ANSWERS_WITHIN_S
    return told


def is_blocked(net: Net) -> bool:
    pinged = net.start(net.peer, "ping", "-q", "-c1", "-W0.3", "-I", VILLAIN, net.host_address)
    return pinged.wait() != 0


def test_a_service_manager_that_never_reads(net: Net, tmp_path: Path) -> None:
    """As under a supervisor that sets NOTIFY_SOCKET and does no more."""
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "40000"}
    with (
        Notified(tmp_path, is_reading=False),
        Daemon(net, tmp_path, f"block:\n  - {VILLAIN}\n", environment=environment) as daemon,
    ):
        assert is_blocked(net)
        assert any("service manager" in trouble for trouble in status(daemon)["troubles"])
        # Long after the queue of its socket is full, reloads go on, those that want larger maps as well.
        before = daemon.log.count("in force")
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: daemon.log.count("in force") > before, within_s=WITHIN_S)
        daemon.blocklist.write_text("block:\n" + "".join(f"  - 10.0.{n >> 8}.{n & 255}\n" for n in range(5000)))
        assert daemon.ctl("reload").returncode == 0
        assert status(daemon)["entries"]["ipv4"] == 5000
        assert not is_blocked(net)
        assert daemon.stop(signal.SIGTERM) == 0


def test_a_service_manager_that_stops_reading_for_a_while(net: Net, tmp_path: Path) -> None:
    """What relies on its store waits for it; all else goes on."""
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
    large = f"block:\n  - {VILLAIN}\n" + "".join(f"  - 10.0.{n >> 8}.{n & 255}\n" for n in range(5000))
    with Notified(tmp_path) as manager, Daemon(net, tmp_path, environment=environment) as daemon:
        manager.wait_for("READY=1")
        assert not status(daemon)["degraded"]
        manager.stop_reading()
        assert daemon.ctl("block", "192.0.2.1").returncode == 0
        daemon.blocklist.write_text(large)
        done = daemon.ctl("reload")
        assert done.returncode == 78
        assert "the service manager does not answer" in done.stderr
        assert not is_blocked(net)
        assert daemon.lookup("192.0.2.1")["blocked"]
        assert status(daemon)["degraded"]
        manager.read_on()
        wait_until(lambda: not status(daemon)["degraded"], within_s=WITHIN_S, what=daemon.log)
        assert is_blocked(net)
        assert daemon.lookup("192.0.2.1")["blocked"]
        manager.wait_for("READY=1\nSTATUS=enforcing: 5002 entries")


@contextmanager
def writing_to(net: Net, daemon: Daemon, descriptor: int) -> Iterator["subprocess.Popen[bytes]"]:
    """The daemon with this as its standard error."""
    files = ("--settings", daemon.settings, "--blocklist", daemon.blocklist, "--socket", daemon.socket)
    command = (sys.executable, "-m", "xdropd.commands.xdropd", *files, "--interface", net.device)
    process = subprocess.Popen(["ip", "netns", "exec", net.host, *command], stderr=descriptor)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def answers(daemon: Daemon) -> bool:
    try:
        return daemon.status()["ready"]
    except (FileNotFoundError, ConnectionRefusedError):
        return False


def say_much(daemon: Daemon) -> None:
    """More than any pipe or socket holds: the log has the reason of a block that changes something."""
    for number in range(1500):
        daemon.ask("block", entries=["192.0.2.1"], reason=f"{number} {'x' * 200}")


@pytest.mark.parametrize("kind", ["pipe", "socket", "terminal"])
def test_standard_error_that_nobody_reads(net: Net, tmp_path: Path, kind: str) -> None:
    daemon = Daemon(net, tmp_path, f"block:\n  - {VILLAIN}\n")
    reading, writing = {"pipe": os.pipe, "socket": _sockets, "terminal": os.openpty}[kind]()
    if kind == "pipe":
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    with writing_to(net, daemon, writing) as process:
        wait_until(lambda: answers(daemon), within_s=READY_WITHIN_S)
        say_much(daemon)
        assert is_blocked(net)
        begun = time.monotonic()
        status(daemon)
        process.send_signal(signal.SIGTERM)
        assert process.wait(WITHIN_S) == 0
        assert time.monotonic() - begun < WITHIN_S
    for descriptor in (reading, writing):
        os.close(descriptor)


def _sockets() -> tuple[int, int]:
    reading, writing = socket.socketpair()
    return reading.detach(), writing.detach()


def test_what_nobody_read_is_told_of_when_somebody_does(net: Net, tmp_path: Path) -> None:
    daemon = Daemon(net, tmp_path)
    reading, writing = os.pipe()
    with writing_to(net, daemon, writing):
        os.close(writing)
        wait_until(lambda: answers(daemon), within_s=READY_WITHIN_S)
        say_much(daemon)
        with os.fdopen(reading, "r") as lines:
            missed = next(line for line in lines if "not written" in line)
        assert missed.startswith("xdropd: warning: ")


def test_an_error_names_the_file_that_it_is_about(net: Net, tmp_path: Path) -> None:
    long = tmp_path / ("x" * 200)  # a path for a socket has 107 bytes
    done = subprocess.run(
        [sys.executable, "-m", "xdropd.commands.xdropd", "--socket", long, "--blocklist", "/nowhere"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 69
    assert done.stderr == f"xdropd: error: {long}: AF_UNIX path too long\n"
