"""What outlives a daemon, on the disk: whose it is, and what happens where it cannot be had."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from foreground import Daemon
from test_faults import strace

from netns import Net
from waiting import wait_until

VILLAIN = "198.51.100.66"
WITHIN_S = 2.0
_RECOVERS_WITHIN_S = 15.0  # what is wrong is looked at again after five seconds, or ten


@pytest.fixture
def net() -> Iterator[Net]:
    with Net() as made:
        made.address(made.peer, f"{VILLAIN}/{made.length}")
        yield made


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


# ---- the folder ----


def test_a_second_daemon_in_the_same_folder_is_turned_away(net: Net, tmp_path: Path) -> None:
    state, other = tmp_path / "state", tmp_path / "other"
    other.mkdir()
    with Daemon(net, tmp_path, f"block:\n  - {VILLAIN}\n") as daemon:
        assert daemon.ctl("block", "192.0.2.7").returncode == 0
        wait_until((state / "last-good" / "xdropd.yaml").exists, within_s=WITHIN_S)
        before = contents(state)
        second = Daemon(net, other, "block: []\n", "--interface", net.device, "--state", str(state))
        assert second.start().wait(20) == 69
        assert f"another xdropd keeps its state in {state} (stop it, or choose another --state)" in second.log
        assert contents(state) == before
        assert daemon.stop() == 0
    with Daemon(net, tmp_path, f"block:\n  - {VILLAIN}\n") as daemon:  # and another one after it is not
        assert daemon.lookup("192.0.2.7")["blocked"]


def test_in_a_container_that_is_read_only_it_keeps_nothing_and_misses_nothing(net: Net, tmp_path: Path) -> None:
    """As in a trial beside the service: no state folder unless somebody says so."""
    read_only = f'mount --bind {tmp_path} {tmp_path} && mount -o remount,bind,ro / && exec "$@"'  # where ip(8) puts it
    block = f"block:\n  - {VILLAIN}\n  - {net.host_address}\n"
    within = ["sh", "-c", read_only, "sh"]
    with Daemon(net, tmp_path, block, environment={"STATE_DIRECTORY": ""}, within=within) as daemon:
        assert daemon.ctl("block", "192.0.2.7").returncode == 0
        wait_until(lambda: "is narrowed by the guard" in daemon.log, within_s=WITHIN_S)  # files are kept before that
        assert daemon.status()["troubles"] == []
        assert daemon.lookup(VILLAIN)["blocked"]
        assert daemon.lookup("192.0.2.7")["blocked"]


# ---- the log of blocks ----


def test_a_log_that_cannot_be_read_is_told_and_read_once_it_can_be(net: Net, tmp_path: Path) -> None:
    log, aside = tmp_path / "state" / "blocks.log", tmp_path / "aside"
    with Daemon(net, tmp_path) as daemon:
        assert daemon.ctl("block", VILLAIN, "--reason", "night shift").returncode == 0
        assert daemon.stop() == 0
    log.rename(aside)
    log.mkdir()  # root, who runs this daemon, may read every file
    with Daemon(net, tmp_path) as daemon:
        assert net.answers(VILLAIN), "there is no store that had it"
        (trouble,) = daemon.status()["troubles"]
        assert trouble.startswith(f"the log of blocks cannot be used: {log}: Is a directory; ")
        refused = daemon.ctl("block", "192.0.2.7")
        assert refused.returncode == 69
        assert "nothing was changed" in refused.stderr
        assert [row["entry"] for row in daemon.rows()] == []
        log.rmdir()
        aside.rename(log)
        wait_until(lambda: not daemon.status()["degraded"], within_s=_RECOVERS_WITHIN_S, what=daemon.log)
        assert not net.answers(VILLAIN)
        assert daemon.lookup(VILLAIN)["reason"] == "night shift"
        assert daemon.ctl("block", "192.0.2.7").returncode == 0


def test_a_damaged_log_costs_what_is_damaged(net: Net, tmp_path: Path) -> None:
    log, kept = tmp_path / "state" / "blocks.log", tmp_path / "state" / "blocks.log.damaged-1"
    with Daemon(net, tmp_path) as daemon:
        assert daemon.ctl("block", "192.0.2.7", VILLAIN, "192.0.2.8").returncode == 0
        assert daemon.stop() == 0
    damaged = log.read_bytes().replace(b"192.0.2.7", b"192.0.3.7")
    log.write_bytes(damaged)
    with Daemon(net, tmp_path) as daemon:
        assert not net.answers(VILLAIN)
        assert {row["entry"] for row in daemon.rows()} == {VILLAIN, "192.0.2.8"}
        (trouble,) = daemon.status()["troubles"]
        assert "1 of its entries could not be read, and those of them that were not in force are lost; " in trouble
        assert str(kept) in trouble
        assert f"error: {trouble}" in daemon.log
        assert kept.read_bytes() == damaged
        assert daemon.ctl("block", "192.0.2.7").returncode == 0
        kept.unlink()
        assert daemon.ctl("reload").returncode == 0
        assert not daemon.status()["degraded"]


@pytest.mark.parametrize("number", [1, 2])
def test_a_block_that_the_kernel_refuses_is_listed_nowhere(net: Net, tmp_path: Path, number: int) -> None:
    with Daemon(net, tmp_path) as daemon:
        assert daemon.ctl("block", "192.0.2.7", "--for", "1h").returncode == 0
        log, rows = (tmp_path / "state" / "blocks.log").read_bytes(), daemon.rows()
        with strace(daemon, "-e", f"inject=bpf:error=ENOMEM:when={number}+"):
            refused = daemon.ctl("block", VILLAIN, "192.0.2.7")
        assert refused.returncode == 69, refused
        assert "Cannot allocate memory" in refused.stderr
        assert [row["entry"] for row in daemon.rows()] == ["192.0.2.7"]
        assert [row["until"] for row in daemon.rows()] == [row["until"] for row in rows]
        assert (tmp_path / "state" / "blocks.log").read_bytes() == log
        assert daemon.status()["degraded"]
        wait_until(lambda: not daemon.status()["degraded"], within_s=_RECOVERS_WITHIN_S, what=daemon.log)
        assert net.answers(VILLAIN)
        assert daemon.ctl("block", VILLAIN).returncode == 0
        assert not net.answers(VILLAIN)
