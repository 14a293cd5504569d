"""What the world can do to a reload: a kernel that refuses calls, files in the making, a disk without space.

The real daemon, real packets. Three sources tell which list is in force: OLD and NEW are each on one list, BOTH on both
of them, and no packet of BOTH may ever pass. CI takes every k-th call of a reload to fail, XDROPD_FULL=1 each.
"""

import contextlib
import itertools
import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from foreground import Daemon

from netns import Net
from waiting import wait_until

OLD, NEW, BOTH = "198.51.100.66", "198.51.100.67", "198.51.100.68"
ERRORS = ("EPERM", "ENOMEM", "E2BIG", "ENOENT")

# More than the maps of a short list hold: the change to it needs other maps.
_MANY = 3000

_CHANGE_WITHIN_S = 2.0
_RECOVERS_WITHIN_S = 15.0  # the daemon tries again after five seconds


def _list(*entries: str) -> str:
    return "block:\n" + "".join(f"  - {entry}\n" for entry in entries)


OLD_LIST = _list(OLD, BOTH, "203.0.113.0/24", "192.0.2.7-192.0.2.99", "2001:db8:bad::1")
NEW_LIST = _list(NEW, BOTH, "203.0.113.0/25", "192.0.2.9-192.0.2.99", "2001:db8:bad::2")
NEW_LIST_THAT_IS_LONG = NEW_LIST + "".join(f"  - 10.0.{number >> 8}.{number & 255}\n" for number in range(_MANY))


@pytest.fixture
def net() -> Iterator[Net]:
    """Two hosts, the peer with the three sources."""
    with Net() as made:
        made.address(made.peer, *(f"{address}/{made.length}" for address in (OLD, NEW, BOTH)))
        made.run(made.peer, "ping", "-c1", "-W1", made.host_address)  # neighbours are resolved from here on
        yield made


def answers(net: Net, *sources: str) -> set[str]:
    """Those of the sources whose ping comes back."""
    pings = {
        source: net.start(net.peer, "ping", "-q", "-c1", "-W0.3", "-I", source, net.host_address) for source in sources
    }
    return {source for source, ping in pings.items() if ping.wait(5) == 0}


@contextlib.contextmanager
def never_passes(net: Net, source: str) -> Iterator[None]:
    """A ping every few milliseconds, none of which may come back."""
    ping = net.start(net.peer, "ping", "-q", "-n", "-i0.004", "-w120", "-I", source, net.host_address)
    try:
        yield
    finally:
        ping.send_signal(2)  # SIGINT: it sums up
        said, _ = ping.communicate(timeout=10)
    (sent, received) = re.findall(r"(\d+) packets transmitted, (\d+) received", said)[0]
    assert int(sent) > 0, said
    assert int(received) == 0, f"{received} of {sent} packets of {source} passed"


def replace(file: Path, text: str) -> None:
    """Rename over."""
    new = file.with_name(".new")
    new.write_text(text)
    new.replace(file)


def status(daemon: Daemon) -> dict[str, object]:
    told: dict[str, object] = json.loads(daemon.ctl("--json", "status").stdout)
    return told


@contextlib.contextmanager
def strace(daemon: Daemon, *arguments: str) -> Iterator[Path]:
    """The daemon's bpf(2) calls traced, and perhaps tampered with; yields the file with one line a call."""
    assert daemon.process is not None
    trace = daemon.blocklist.with_name("trace")
    command = ["strace", "-f", "-qq", "-e", "trace=bpf", *arguments, "-o", str(trace), "-p", str(daemon.process.pid)]
    tracer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: _is_traced(daemon), within_s=10, what="strace is at work")
        yield trace
    finally:
        tracer.terminate()  # it lets the daemon go and leaves
        tracer.communicate(timeout=10)
    wait_until(lambda: not _is_traced(daemon), within_s=5)


def _is_traced(daemon: Daemon) -> bool:
    assert daemon.process is not None
    tasks = Path(f"/proc/{daemon.process.pid}/task").glob("*/status")
    return all("TracerPid:\t0\n" not in task.read_text() for task in tasks)


def _outcomes(daemon: Daemon) -> int:
    """How many reloads have come to an end, one way or the other."""
    return len(re.findall(r"blocklist: \d+ added|the kernel refuses", daemon.log))


def _reload_traced(daemon: Daemon, text: str, *arguments: str) -> str:
    before = _outcomes(daemon)
    with strace(daemon, *arguments) as trace:
        replace(daemon.blocklist, text)
        wait_until(lambda: _outcomes(daemon) > before, within_s=10, what="the reload came to an end")
        time.sleep(0.1)  # what comes after it: counts are carried over
    return trace.read_text()


def _list_in_force(net: Net, daemon: Daemon) -> str:
    """Which list packets meet; the socket must tell the same. Fails where it is neither."""
    passing, afterwards = answers(net, OLD, NEW, BOTH, net.peer_address), set[str]()
    blocked = set[str]()
    while passing != afterwards:  # a change that happened meanwhile is looked at again
        passing = afterwards or passing
        blocked = {source for source in (OLD, NEW, BOTH) if daemon.ctl("lookup", source).returncode == 0}
        afterwards = answers(net, OLD, NEW, BOTH, net.peer_address)
    assert passing in ({OLD, net.peer_address}, {NEW, net.peer_address}), f"{passing} pass\n{daemon.log}"
    assert blocked == {OLD, NEW, BOTH} - passing, f"{passing} pass, {blocked} are said to be blocked\n{daemon.log}"
    return "new" if OLD in passing else "old"


def _calls_of_a_reload(net: Net, folder: Path, text: str) -> int:
    folder.mkdir()
    with Daemon(net, folder, OLD_LIST) as daemon:
        trace = _reload_traced(daemon, text)
        assert _list_in_force(net, daemon) == "new"
    return trace.count("bpf(")


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("text", [NEW_LIST, NEW_LIST_THAT_IS_LONG], ids=["in place", "with other maps"])
def test_one_call_of_a_reload_fails(net: Net, tmp_path: Path, full: bool, text: str, error: str) -> None:
    calls = _calls_of_a_reload(net, tmp_path / "count", text)
    step = 1 if full else max(1, calls // 3)
    begun = 1 + ERRORS.index(error) * step // len(ERRORS)  # another set of calls for each error
    outcomes = []
    for number in range(begun, calls + 1, step):
        folder = tmp_path / str(number)
        folder.mkdir()
        with Daemon(net, folder, OLD_LIST) as daemon, never_passes(net, BOTH):
            trace = _reload_traced(daemon, text, "-e", f"inject=bpf:error={error}:when={number}")
            outcomes.append((number, "INJECTED" in trace, _list_in_force(net, daemon)))
            assert daemon.ctl("reload").returncode == 0, daemon.log
            assert _list_in_force(net, daemon) == "new"
    print(f"\n{error}: {calls} calls, failed {[number for number, *_ in outcomes]}")
    assert sum(injected for _, injected, _ in outcomes) >= 0.8 * len(outcomes), outcomes


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("text", [NEW_LIST, NEW_LIST_THAT_IS_LONG], ids=["in place", "with other maps"])
def test_every_call_fails_from_one_on(net: Net, tmp_path: Path, full: bool, text: str, error: str) -> None:
    calls = _calls_of_a_reload(net, tmp_path / "count", text)
    step = max(1, calls // 10) if full else calls
    for number in range(1 + ERRORS.index(error) * step // len(ERRORS), calls + 1, step):
        folder = tmp_path / str(number)
        folder.mkdir()
        with Daemon(net, folder, OLD_LIST) as daemon, never_passes(net, BOTH):
            _reload_traced(daemon, text, "-e", f"inject=bpf:error={error}:when={number}+")
            assert net.peer_address in answers(net, net.peer_address)
            if "the kernel refuses" in daemon.log:
                assert status(daemon)["degraded"], daemon.log
            wait_until(lambda: not status(daemon)["degraded"], within_s=_RECOVERS_WITHIN_S, what=daemon.log)
            assert _list_in_force(net, daemon) == "new"


def test_a_file_that_is_rewritten_all_the_time(net: Net, tmp_path: Path) -> None:
    with Daemon(net, tmp_path, OLD_LIST) as daemon:
        with never_passes(net, BOTH):
            until = time.monotonic() + 3
            for text in itertools.cycle((NEW_LIST, OLD_LIST)):
                replace(daemon.blocklist, text)
                if time.monotonic() > until:
                    break
                time.sleep(0.01)
            replace(daemon.blocklist, NEW_LIST)
            wait_until(lambda: answers(net, OLD) == {OLD}, within_s=_CHANGE_WITHIN_S)
            assert _list_in_force(net, daemon) == "new"
        assert not status(daemon)["degraded"]


def test_a_writer_that_stops_half_way(net: Net, tmp_path: Path) -> None:
    with Daemon(net, tmp_path, OLD_LIST) as daemon, never_passes(net, BOTH):
        at = NEW_LIST.index(NEW) + len("198.51.")
        with daemon.blocklist.open("w") as file:
            file.write(NEW_LIST[:at])
            file.flush()
            wait_until(lambda: f"{daemon.blocklist}:2:5: error: " in daemon.log, within_s=3)
            assert _list_in_force(net, daemon) == "old"
            assert status(daemon)["degraded"]
            file.write(NEW_LIST[at:])
        wait_until(lambda: answers(net, OLD) == {OLD}, within_s=_CHANGE_WITHIN_S)
        assert _list_in_force(net, daemon) == "new"
        assert not status(daemon)["degraded"]


@pytest.mark.parametrize("text", ["", "\n", "---\n", "block:\n", "# block: []\n", "allow: []\n"])
def test_an_empty_document_does_not_unblock(net: Net, tmp_path: Path, text: str) -> None:
    with Daemon(net, tmp_path, OLD_LIST) as daemon, never_passes(net, BOTH):
        replace(daemon.blocklist, text)
        wait_until(lambda: f"error: {daemon.blocklist}:" in daemon.log, within_s=_CHANGE_WITHIN_S)
        assert daemon.ctl("reload").returncode == 78
        assert _list_in_force(net, daemon) == "old"


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A state folder on a file system of its own, filled to the last byte."""
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "state", folder], check=True)
    try:
        with contextlib.suppress(OSError), (folder / "filler").open("wb", buffering=0) as filler:
            while filler.write(bytes(4096)):
                pass
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_disk_without_space(net: Net, tmp_path: Path, full_disk: Path) -> None:
    with Daemon(net, tmp_path, OLD_LIST) as daemon:
        assert _list_in_force(net, daemon) == "old"
        wait_until(lambda: status(daemon)["degraded"], within_s=5)
        replace(daemon.blocklist, NEW_LIST)
        wait_until(lambda: answers(net, OLD) == {OLD}, within_s=_CHANGE_WITHIN_S)

        # `block` promises that it is on disk when it returns: refused, and not in force.
        refused = daemon.ctl("block", OLD)
        assert refused.returncode == 69, refused
        assert "No space left" in refused.stderr
        assert answers(net, OLD) == {OLD}

        (full_disk / "filler").unlink()
        assert daemon.ctl("block", OLD).returncode == 0
        assert answers(net, OLD) == set()
        assert daemon.ctl("reload").returncode == 0
        wait_until(lambda: not status(daemon)["degraded"], within_s=5)
