"""A mistake of ours that some packet brings out: what is in force stays, and the service does not run in circles."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from foreground import Daemon
from release import Release
from servicemanager import ServiceManager
from test_faults import never_passes

from netns import Net

VILLAIN = "198.51.100.66"
_LIST = f"block:\n  - {VILLAIN}\n"
_WATCHDOG_S = 1.0
_BUG = 70


@pytest.fixture
def net() -> Iterator[Net]:
    """Two hosts, the peer with a source that is listed."""
    with Net() as made:
        made.address(made.peer, f"{VILLAIN}/{made.length}")
        made.run(made.peer, "ping", "-c1", "-W1", made.host_address)  # neighbours are resolved from here on
        yield made


def test_a_crash_soon_after_the_start_and_again_is_waited_out(net: Net, tmp_path: Path) -> None:
    release = Release(tmp_path, other_text=False)
    with ServiceManager(tmp_path, watchdog_s=_WATCHDOG_S) as manager:
        with Daemon(net, tmp_path, _LIST, manager=manager) as first:
            first.stop(signal.SIGKILL)
        release.has_a_bug("filter/samples.py", "address = int.from_bytes")  # at the first packet that is dropped
        stored, ready = manager.stored(), manager.times("READY=1")
        with never_passes(net, VILLAIN):
            daemon = Daemon(net, tmp_path, _LIST, manager=manager)
            daemon.sources = release.folder
            process = daemon.start()
            assert process.wait(20) == _BUG
            assert manager.times("READY=1") > ready
            assert "a mistake of ours" in daemon.log
            assert not any("tried again" in each for each in manager.said), "the first one ends at once"

            process = daemon.start()
            manager.wait_for("STATUS=Failed, tried again in 2 s: a bug, ZeroDivisionError")
            begun, fed = time.monotonic(), manager.times("WATCHDOG=1")
            assert process.wait(20) == _BUG
            assert time.monotonic() - begun > 1
            assert manager.times("WATCHDOG=1") - fed > 2

            process = daemon.start()
            manager.wait_for("STATUS=Failed, tried again in 4 s: *")
            process.terminate()  # systemctl restart
            begun = time.monotonic()
            assert process.wait(20) == _BUG
            assert time.monotonic() - begun < 2
            assert manager.stored() == stored

            with Daemon(net, tmp_path, _LIST, manager=manager) as last:
                assert not last.status()["degraded"]


_FAILURES = """
import sys
from pathlib import Path
from xdropd.daemon.restart_backoff import RestartBackoff
from xdropd.host.systemd import Systemd
failures = [("KeyError", 61.0), ("KeyError", 61.0), ("TypeError", 1.0), ("TypeError", 61.0), ("TypeError", 0.0)]
for why, ready_for_s in failures:
    RestartBackoff(Systemd(), Path(sys.argv[1])).failed(why, ready_for_s)
"""


def test_a_minute_in_good_health_makes_it_the_first_failure(tmp_path: Path) -> None:
    with ServiceManager(tmp_path) as manager, (tmp_path / "said").open("wb") as said:
        process = manager.start([sys.executable, "-c", _FAILURES, str(tmp_path)], os.environ, said)
        manager.wait_for("STATUS=Failed*")
        process.terminate()
        assert process.wait(20) == 0
        assert [each for each in manager.said if each.startswith("STATUS")] == [
            "STATUS=Failed, tried again in 2 s: TypeError"
        ]
