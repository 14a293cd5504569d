"""What callers do, told as it happens: from a cursor on, over restarts, and to readers that do not read."""

import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from foreground import Daemon

from netns import Net
from waiting import wait_until

NOTHING: list[tuple[str, str, str]] = []


@pytest.fixture(scope="module")
def net() -> Iterator[Net]:
    with Net(addresses=False) as made:
        yield made


@pytest.fixture
def daemon(net: Net, tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(net, tmp_path) as running:
        yield running
        assert running.process
        assert "bug" not in running.log
        assert "error" not in running.log


class Watcher:
    """One who watches. `cursor` is that of the last event that was read."""

    def __init__(self, daemon: Daemon, **fields: object) -> None:
        self._peer = socket.socket(socket.AF_UNIX)
        self._peer.settimeout(10)
        self._peer.connect(str(daemon.socket))
        self._peer.sendall(json.dumps({"version": 1, "verb": "watch", **fields}).encode() + b"\n")
        self._lines = self._peer.makefile("rb")
        self.cursor = ""

    def __enter__(self) -> "Watcher":
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self._peer.close()

    def line(self) -> dict[str, Any]:
        line = json.loads(self._lines.readline())
        assert isinstance(line, dict)
        return line

    def begin(self) -> str:
        row = self.line()["row"]
        assert row["event"] == "cursor"
        self.cursor = row["cursor"]
        return self.cursor

    def event(self) -> tuple[str, str, str]:
        line = self.line()
        row = line.get("row")
        assert row, line
        self.cursor = row["cursor"]
        return row["event"], row["source"], row["entry"]

    def events(self, count: int) -> list[tuple[str, str, str]]:
        return [self.event() for _ in range(count)]


def block(daemon: Daemon, source: str, *entries: str, **fields: object) -> None:
    assert "result" in daemon.ask("block", source=source, entries=entries, **fields)[-1]


def test_as_it_happens(daemon: Daemon) -> None:
    with Watcher(daemon, source="fail2ban-*") as watcher:
        watcher.begin()
        block(daemon, "fail2ban-sshd", "192.0.2.1", reason="ssh", seconds=3600)
        block(daemon, "xdropctl", "192.0.2.2")
        row = watcher.line()["row"]
        assert row.keys() == {"event", "cursor", "source", "entry", "at", "until", "reason"}
        assert (row["event"], row["source"], row["entry"], row["reason"]) == (
            *("block", "fail2ban-sshd", "192.0.2.1", "ssh"),
        )
        daemon.ask("unblock", source="fail2ban-sshd", entries=["192.0.2.1"])
        row = watcher.line()["row"]
        assert row.keys() == {"event", "cursor", "source", "entry", "at"}
        block(daemon, "fail2ban-http", "2001:db8::/64", seconds=0.2)
        assert watcher.event() == ("block", "fail2ban-http", "2001:db8::/64")
        assert watcher.event() == ("end", "fail2ban-http", "2001:db8::/64")
        daemon.ask("replace", source="fail2ban-x", entries=["192.0.2.1", "192.0.2.2"])
        assert watcher.events(2) == [("block", "fail2ban-x", f"192.0.2.{at}") for at in (1, 2)]
        daemon.ask("change", source="fail2ban-x", entries=["192.0.2.3", "-192.0.2.1"])
        assert watcher.events(2) == [("block", "fail2ban-x", "192.0.2.3"), ("unblock", "fail2ban-x", "192.0.2.1")]
        daemon.ask("flush", source="fail2ban-x")
        assert {entry for _, _, entry in watcher.events(2)} == {"192.0.2.2", "192.0.2.3"}


@pytest.mark.parametrize("how", [None, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_missed_over_a_reconnect(daemon: Daemon, how: signal.Signals | None) -> None:
    with Watcher(daemon) as watcher:
        watcher.begin()
        block(daemon, "a", "192.0.2.1")
        assert watcher.event() == ("block", "a", "192.0.2.1")
        cursor = watcher.cursor
    block(daemon, "a", "192.0.2.2")
    daemon.ask("unblock", source="a", entries=["192.0.2.1"])
    if how:
        daemon.stop(how)
        daemon.__enter__()
    block(daemon, "b", "192.0.2.3")
    for _ in range(2):
        with Watcher(daemon, cursor=cursor) as watcher:
            watcher.begin()
            assert watcher.events(3) == [
                ("block", "a", "192.0.2.2"),
                ("unblock", "a", "192.0.2.1"),
                ("block", "b", "192.0.2.3"),
            ]
            last = watcher.cursor
    with Watcher(daemon, cursor=last) as watcher:
        assert watcher.begin() == last
        block(daemon, "b", "192.0.2.4")
        assert watcher.event() == ("block", "b", "192.0.2.4")


def test_a_log_that_is_written_anew_keeps_what_was_done_lately(daemon: Daemon) -> None:
    """And who has not come back for long is told so."""
    log = daemon.socket.with_name("state") / "blocks.log"
    with Watcher(daemon) as watcher:
        first = watcher.begin()
    block(daemon, "a", "192.0.2.1")
    many = [f"10.0.{at >> 8}.{at & 255}" for at in range(4000)]
    with Watcher(daemon, source="a") as watcher:
        watcher.begin()
        before, size = log.stat().st_ino, 0
        while log.stat().st_ino == before:
            assert size <= log.stat().st_size or log.stat().st_ino != before
            size = log.stat().st_size
            assert size < 1 << 23
            daemon.ask("replace", source="many", entries=many)
            daemon.ask("flush", source="many")
        block(daemon, "a", "192.0.2.2")
        assert watcher.event() == ("block", "a", "192.0.2.2"), "one who has read all goes on"
        last = watcher.cursor
    for _ in range(2):
        with Watcher(daemon, cursor=last) as watcher:
            watcher.begin()
            block(daemon, "a", "192.0.2.3")
            assert watcher.event() == ("block", "a", "192.0.2.3")
            last = watcher.cursor
        daemon.stop(signal.SIGKILL)
        daemon.__enter__()
        daemon.ask("unblock", source="a", entries=["192.0.2.3"])
        with Watcher(daemon, cursor=last) as watcher:
            watcher.begin()
            assert watcher.event() == ("unblock", "a", "192.0.2.3")
            last = watcher.cursor
    with Watcher(daemon, cursor=first) as watcher:
        lost = watcher.line()
        assert lost["kind"] == "Lost"
        assert "list what there is" in lost["error"]
    done = daemon.ctl("watch", "--cursor", first)
    assert done.returncode == 1


@pytest.mark.parametrize("cursor", ["", "x", "0.0", "deadbeef.5", ".", "a.b", "\u0661.\u0661", "x" * 999])
def test_a_cursor_that_is_none(daemon: Daemon, cursor: str) -> None:
    assert daemon.ask("watch", cursor=cursor)[-1]["kind"] in ("Lost", "BadRequest")


def test_a_cursor_of_the_future(daemon: Daemon) -> None:
    with Watcher(daemon) as watcher:
        name = watcher.begin().partition(".")[0]
    assert daemon.ask("watch", cursor=f"{name}.{10**12}")[-1]["kind"] == "Lost"


@pytest.mark.threat_model
def test_a_reader_that_does_not_read_holds_nobody_and_loses_its_place(daemon: Daemon) -> None:
    assert daemon.process
    resident = Path(f"/proc/{daemon.process.pid}/status")

    def memory_kb() -> int:
        return int(resident.read_text().partition("VmRSS:")[2].split()[0])

    many = [f"10.{at >> 16}.{at >> 8 & 255}.{at & 255}" for at in range(20_000)]
    readers = [Watcher(daemon) for _ in range(20)]
    try:
        for reader in readers:
            reader.begin()
        before_kb = memory_kb()
        for _ in range(6):
            daemon.ask("replace", source="many", entries=many)
            daemon.ask("flush", source="many")
        assert memory_kb() - before_kb < 20 << 10
        for reader in readers[:3]:
            line = reader.line()
            while "row" in line:
                line = reader.line()
            assert line["kind"] == "Lost"
    finally:
        for reader in readers:
            reader.__exit__()
    wait_until(lambda: daemon.status()["ready"], within_s=5)


def test_many_that_end_at_once_are_nothing_to_who_watches_something_else(daemon: Daemon) -> None:
    """Such as a feed's while fail2ban is watched, or while ends are not asked for."""
    many = [f"10.{at >> 16}.{at >> 8 & 255}.{at & 255}" for at in range(12_000)]
    with Watcher(daemon, source="fail2ban-*") as some, Watcher(daemon, ends=False) as blocks:
        some.begin()
        blocks.begin()
        daemon.ask("block", source="many", entries=many, seconds=0.5)
        assert {event for event, _, _ in blocks.events(12_000)} == {"block"}
        wait_until(lambda: daemon.rows() == [], within_s=10)
        daemon.ask("block", source="fail2ban-x", entries=["192.0.2.1"])
        assert some.event() == blocks.event() == ("block", "fail2ban-x", "192.0.2.1")


def test_whether_ends_are_told_is_true_or_false(daemon: Daemon) -> None:
    assert daemon.ask("watch", ends="no")[-1]["error"] == '"ends" is true or false'


def test_many_that_end_at_once_are_not_kept_for_anybody(daemon: Daemon) -> None:
    many = [f"10.{at >> 16}.{at >> 8 & 255}.{at & 255}" for at in range(12_000)]
    with Watcher(daemon) as watcher:
        watcher.begin()
        daemon.ask("block", source="many", entries=many, seconds=0.5)
        line = watcher.line()
        while "row" in line:
            assert line["row"]["event"] == "block"
            line = watcher.line()
        assert line["kind"] == "Lost"
    with Watcher(daemon) as watcher:
        watcher.begin()
        daemon.ask("block", source="many", entries=many[:2000], seconds=0.01)  # before they are in force, perhaps
        assert {event for event, _, _ in watcher.events(2000)} == {"block"}
        assert {event for event, _, _ in watcher.events(2000)} == {"end"}
    assert daemon.rows() == []
