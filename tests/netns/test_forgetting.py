"""Sources that have left the list are forgotten after a day, and what they have counted with them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from foreground import Daemon
from othertime import OtherTime

from netns import Net
from waiting import wait_until

VILLAIN, OTHER = "198.51.100.66", "198.51.100.130"
HOUR_S = 3600


@pytest.fixture
def net() -> Iterator[Net]:
    with Net() as made:
        made.address(made.peer, *(f"{address}/{made.length}" for address in (VILLAIN, OTHER)))
        yield made


def sources(daemon: Daemon) -> dict[str, tuple[int, int]]:
    """Entries and packets, by the last part of the name."""
    rows = [line["row"] for line in daemon.ask("metrics") if "row" in line]
    return {Path(row["name"]).name: (row["entries"], row["packets"]) for row in rows}


def is_dropped(net: Net, address: str) -> None:
    net.run(net.peer, "ping", "-q", "-c2", "-i0.01", "-W0.2", "-I", address, net.host_address, check=False)


def reconciled(daemon: Daemon) -> None:
    """A reload reconciles behind its answer."""
    for _ in range(2):
        assert daemon.ask("reload")[-1]["result"]["ok"]


@pytest.mark.threat_model
def test_callers_and_files_that_are_gone_are_forgotten_after_a_day(net: Net, tmp_path: Path) -> None:
    clock = OtherTime(tmp_path)
    lists = tmp_path / "etc" / "lists.d"
    lists.mkdir(parents=True)
    (lists / "stays.txt").write_text("203.0.113.1\n")
    (lists / "goes.txt").write_text(f"{OTHER}\n")
    blocklist = "block: []\ninclude:\n  - lists.d/*.txt\n"
    with Daemon(net, tmp_path, blocklist, environment=clock.environment) as daemon:
        daemon.ctl("block", "--source", "ban", VILLAIN)
        daemon.ctl("block", "--source", "one", "203.0.113.2")
        is_dropped(net, VILLAIN)
        is_dropped(net, OTHER)
        known = {"blocklist.yaml": (0, 0), "stays.txt": (1, 0), "goes.txt": (1, 2), "ban": (1, 2), "one": (1, 0)}
        assert sources(daemon) == known
        daemon.ctl("unblock", "--source", "ban", VILLAIN)
        (lists / "goes.txt").unlink()
        reconciled(daemon)
        after = {**known, "ban": (0, 2), "goes.txt": (0, 2)}
        assert sources(daemon) == after, "what was counted does not fall when entries leave"
        clock.shift(23 * HOUR_S)
        reconciled(daemon)
        assert sources(daemon) == after
        daemon.ctl("block", "--source", "ban", VILLAIN)  # comes back, and has its day anew
        daemon.ctl("flush", "--source", "ban")
        reconciled(daemon)
        clock.shift(25 * HOUR_S)
        reconciled(daemon)
        del after["goes.txt"]
        wait_until(lambda: sources(daemon) == after, within_s=5, what="the file's day is over, the caller's is not")
        clock.shift(49 * HOUR_S)
        reconciled(daemon)
        del after["ban"]
        wait_until(lambda: sources(daemon) == after, within_s=5)
        # Others get the numbers, and begin at nothing.
        daemon.ctl("block", "--source", "next", VILLAIN)
        daemon.ctl("block", "--source", "another", OTHER)
        assert sources(daemon) == {**after, "next": (1, 0), "another": (1, 0)}
        is_dropped(net, OTHER)
        assert sources(daemon) == {**after, "next": (1, 0), "another": (1, 2)}
        assert "repaired" not in daemon.log
