"""What outlives a daemon, on the disk: whose it is, and what happens where it cannot be had."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from foreground import Daemon

from netns import Net
from waiting import wait_until

VILLAIN = "198.51.100.66"
WITHIN_S = 2.0


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
