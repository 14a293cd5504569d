"""A restart with a proof of what is in force: nothing is compared, and only files that changed meanwhile are read."""

import shutil
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from foreground import READY_WITHIN_S, Daemon
from othertime import OtherTime
from servicemanager import ServiceManager

from netns import Net
from waiting import wait_until

VILLAIN, NEWCOMER, LISTED = "198.51.100.66", "198.51.100.67", "203.0.113.9"
_LIST = f"block: [{VILLAIN}]\nallow: [192.0.2.0/24]\ninclude: [lists/*.txt]\n"
_GIVEN_WITHIN_S = 10.0


@pytest.fixture
def service(tmp_path: Path) -> Iterator[tuple[Daemon, ServiceManager, Path]]:
    """One that is in force and has proven it; its list files are in the folder."""
    lists = tmp_path / "etc" / "lists"
    lists.mkdir(parents=True)
    (lists / "one.txt").write_text(f"{LISTED}\n")
    (lists / "two.txt").write_text("203.0.113.16/28\n")
    with Net() as net, ServiceManager(tmp_path) as manager:
        daemon = Daemon(net, tmp_path, _LIST, manager=manager)
        with daemon:
            manager.wait_for("FDNAME=proof", within_s=_GIVEN_WITHIN_S)
            yield daemon, manager, lists


def next_process(daemon: Daemon) -> str:
    """What it says of the list once it is ready."""
    daemon.__enter__()
    (said,) = (line for line in daemon.log.splitlines() if line.endswith(" in force"))
    return said.removeprefix("xdropd: info: blocklist: ")


def test_with_a_proof_nothing_is_compared_and_without_one_everything(
    service: tuple[Daemon, ServiceManager, Path],
) -> None:
    daemon, manager, _ = service
    daemon.stop(signal.SIGKILL)
    assert next_process(daemon) == "0 added, 0 removed, 3 in force"
    assert daemon.lookup(LISTED)["source"].endswith("one.txt")
    daemon.stop(signal.SIGKILL)
    manager.lose("proof")
    assert next_process(daemon) == "3 added, 0 removed, 3 in force"


def test_a_file_that_changed_meanwhile_is_a_change_as_any(service: tuple[Daemon, ServiceManager, Path]) -> None:
    daemon, _, lists = service
    daemon.stop(signal.SIGKILL)
    (lists / "two.txt").write_text(f"203.0.113.16/28\n{NEWCOMER}\n")
    (lists / "one.txt").unlink()
    assert next_process(daemon) == "1 added, 1 removed, 3 in force"
    answers = [daemon.lookup(address)["blocked"] for address in (VILLAIN, NEWCOMER, LISTED, "203.0.113.17")]
    assert answers == [True, True, False, True]


def test_an_end_right_behind_a_change_has_everything_compared(service: tuple[Daemon, ServiceManager, Path]) -> None:
    daemon, _, _ = service
    assert daemon.ctl("block", NEWCOMER).returncode == 0
    daemon.stop(signal.SIGKILL)
    assert next_process(daemon) == "4 added, 0 removed, 4 in force"
    assert daemon.lookup(NEWCOMER)["blocked"]


def test_a_list_that_is_broken_meanwhile_is_known_all_the_same(service: tuple[Daemon, ServiceManager, Path]) -> None:
    daemon, _, _ = service
    daemon.stop(signal.SIGKILL)
    daemon.blocklist.write_text("block: [this is no address]\n")
    daemon.start()
    wait_until(lambda: daemon.is_ready, within_s=READY_WITHIN_S, what="the daemon is ready")
    assert daemon.lookup(VILLAIN)["blocked"]
    assert daemon.status()["degraded"]


def test_what_the_proof_alone_tells_ends_in_its_time(tmp_path: Path) -> None:
    clock = OtherTime(tmp_path)
    until = datetime.fromtimestamp(time.time() + 3600, UTC).isoformat(timespec="seconds")
    text = f"block: [{VILLAIN}, {{address: {NEWCOMER}, until: '{until}'}}]\n"
    with (
        Net() as net,
        ServiceManager(tmp_path) as manager,
        Daemon(net, tmp_path, text, manager=manager, environment=clock.environment) as daemon,
    ):
        manager.wait_for("FDNAME=proof", within_s=_GIVEN_WITHIN_S)
        daemon.stop(signal.SIGKILL)
        shutil.rmtree(tmp_path / "state" / "last-good")
        daemon.blocklist.write_text("block: [this is no address]\n")
        daemon.start()
        wait_until(lambda: daemon.is_ready, within_s=READY_WITHIN_S, what="the daemon is ready")
        assert daemon.lookup(NEWCOMER)["blocked"]
        clock.shift(2 * 3600)
        wait_until(lambda: not daemon.lookup(NEWCOMER)["blocked"], within_s=5.0, what=daemon.log)
        assert daemon.lookup(VILLAIN)["blocked"]
