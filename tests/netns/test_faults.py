"""What the world can do to a reload: a kernel that refuses calls, files in the making, a disk without space.

The real daemon, real packets. Three sources tell which list is in force: OLD and NEW are each on one list, BOTH on both
of them, and no packet of BOTH may ever pass. CI takes every k-th call of a reload to fail, XDROPD_FULL=1 each.
"""

import contextlib
import errno
import itertools
import re
import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from foreground import Daemon
from refusals import Refusals

from netns import Net
from waiting import wait_until
from xdropd import errors
from xdropd.commands import client

OLD, NEW, BOTH = "198.51.100.66", "198.51.100.67", "198.51.100.68"
ERRORS = ("EPERM", "ENOMEM", "E2BIG", "ENOENT")

# More than the maps of a short list hold, and than may leave maps: the change to it needs others, and the way back too.
_MANY = 6000
_MANY_END = 100_000  # to work on them takes more than what a process has at hand

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


def listed(daemon: Daemon) -> set[str]:
    """What the daemon says is listed."""
    return {row["entry"] for row in daemon.rows()}


def _list_in_force(net: Net, daemon: Daemon) -> str:
    """Which list packets meet; the socket must tell the same. Fails where it is neither."""
    passing, afterwards = net.answering(OLD, NEW, BOTH, net.peer_address), set[str]()
    blocked = set[str]()
    while passing != afterwards:  # a change that happened meanwhile is looked at again
        passing = afterwards or passing
        blocked = {OLD, NEW, BOTH} & listed(daemon)
        afterwards = net.answering(OLD, NEW, BOTH, net.peer_address)
    assert passing in ({OLD, net.peer_address}, {NEW, net.peer_address}), f"{passing} pass\n{daemon.log}"
    assert blocked == {OLD, NEW, BOTH} - passing, f"{passing} pass, {blocked} are said to be blocked\n{daemon.log}"
    return "new" if OLD in passing else "old"


TEXTS = {"in place": NEW_LIST, "with other maps": NEW_LIST_THAT_IS_LONG}


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """How many calls of bpf(2) the change to each list takes."""
    found = {}
    with Net() as net:
        net.address(net.peer, *(f"{address}/{net.length}" for address in (OLD, NEW, BOTH)))
        for name, text in TEXTS.items():
            with Daemon(net, tmp_path_factory.mktemp("calls"), OLD_LIST) as daemon:
                trace = _reload_traced(daemon, text)
                assert _list_in_force(net, daemon) == "new"
            assert ("BPF_MAP_CREATE" in trace) == (name == "with other maps")
            found[name] = trace.count("bpf(")
    return found


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.threat_model
def test_one_call_of_a_reload_fails(
    net: Net, tmp_path: Path, full: bool, calls: dict[str, int], name: str, error: str
) -> None:
    text, count = TEXTS[name], calls[name]
    step = 1 if full else max(1, count // 2)
    numbers = range(1 + ERRORS.index(error) * step // len(ERRORS), count + 1, step)  # other calls for each error
    injected = 0
    with Daemon(net, tmp_path, OLD_LIST) as daemon, never_passes(net, BOTH):
        for number in numbers:
            trace = _reload_traced(daemon, text, "-e", f"inject=bpf:error={error}:when={number}")
            injected += "INJECTED" in trace
            in_force = _list_in_force(net, daemon)
            print(f"{error} at call {number} of {count}: the {in_force} list is in force")
            assert daemon.ctl("reload").returncode == 0, daemon.log
            assert {OLD, NEW, BOTH} & listed(daemon) == {NEW, BOTH}
            assert net.answering(OLD, NEW) == {OLD}
            replace(daemon.blocklist, OLD_LIST)
            assert daemon.ctl("reload").returncode == 0, daemon.log
            assert {OLD, NEW, BOTH} & listed(daemon) == {OLD, BOTH}
            assert not daemon.status()["degraded"]
    assert injected >= 0.5 * len(numbers), f"{injected} of {len(numbers)}: a change may take fewer calls than counted"


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.threat_model
def test_every_call_fails_from_one_on(net: Net, tmp_path: Path, full: bool, calls: dict[str, int], error: str) -> None:
    """In all runs together, from the first calls on to the last."""
    for name in list(TEXTS) if full else [list(TEXTS)[ERRORS.index(error) % len(TEXTS)]]:
        text, count = TEXTS[name], calls[name]
        step = max(1, count // 10) if full else count
        for number in range(1 + ERRORS.index(error) * step // len(ERRORS), count + 1, step):
            folder = tmp_path / f"{name} {number}"
            folder.mkdir()
            with Daemon(net, folder, OLD_LIST) as daemon, never_passes(net, BOTH):
                _reload_traced(daemon, text, "-e", f"inject=bpf:error={error}:when={number}+")
                assert net.peer_address in net.answering(net.peer_address)
                if "the kernel refuses" in daemon.log:
                    assert daemon.status()["degraded"], daemon.log
                wait_until(lambda: not daemon.status()["degraded"], within_s=_RECOVERS_WITHIN_S, what=daemon.log)
                assert _list_in_force(net, daemon) == "new"


def test_a_list_that_does_not_fit_into_memory(net: Net, tmp_path: Path) -> None:
    """The process may not have more than it has, for a while; the lists in the kernel are tests/packets' affair."""
    many = "".join(f"  - 10.{number >> 16}.{number >> 8 & 255}.{number & 255}\n" for number in range(600_000))
    with Daemon(net, tmp_path, OLD_LIST) as daemon, never_passes(net, BOTH):
        _let_have(daemon, 16 << 20)
        replace(daemon.blocklist, NEW_LIST + many)
        wait_until(lambda: "hold the lists in memory: Cannot allocate memory" in daemon.log, within_s=20)
        assert _list_in_force(net, daemon) == "old"
        told = daemon.status()
        assert told["degraded"]
        assert daemon.ctl("block", NEW).returncode == 0, "the list in force can be changed all the same"
        assert net.answering(NEW) == set()
        assert daemon.ctl("unblock", NEW).returncode == 0
        _let_have(daemon, None)
        assert daemon.ctl("reload").returncode == 0
        assert not daemon.status()["degraded"]
        assert _list_in_force(net, daemon) == "new"


def test_entries_that_end_do_not_fit_into_memory(net: Net, tmp_path: Path) -> None:
    """Nobody asked for anything, and still it is told, and tried again until it is done."""
    end = datetime.fromtimestamp(time.time() + 12, UTC).isoformat(timespec="seconds")
    many = "".join(
        f"  - address: 10.{number >> 16}.{number >> 8 & 255}.{number & 255}\n    until: {end}\n"
        for number in range(_MANY_END)
    )
    # What is free within the heap would do: so arrays are to have pages of their own (mallopt(3)).
    pages = {"MALLOC_MMAP_THRESHOLD_": "65536"}
    with Daemon(net, tmp_path, OLD_LIST + many, environment=pages) as daemon, never_passes(net, BOTH):
        _let_have(daemon, 1 << 16)
        wait_until(lambda: "hold the lists in memory: Cannot allocate memory" in daemon.log, within_s=20)
        _let_have(daemon, None)
        assert daemon.status()["degraded"]
        wait_until(lambda: not daemon.status()["degraded"], within_s=_RECOVERS_WITHIN_S, what=daemon.log)
        wait_until(lambda: not daemon.lookup("10.0.0.1")["blocked"], within_s=_RECOVERS_WITHIN_S)
        assert len(daemon.rows()) == len(OLD_LIST.splitlines()) - 1
        assert _list_in_force(net, daemon) == "old"


def _let_have(daemon: Daemon, more_bytes: int | None) -> None:
    """The process may not have more memory than it has, and so much; None: as much as it likes."""
    assert daemon.process
    _, hard = resource.prlimit(daemon.process.pid, resource.RLIMIT_AS)
    pages = int(Path(f"/proc/{daemon.process.pid}/statm").read_text().split()[0])
    most = hard if more_bytes is None else pages * resource.getpagesize() + more_bytes
    resource.prlimit(daemon.process.pid, resource.RLIMIT_AS, (most, hard))


@pytest.mark.threat_model
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
            wait_until(lambda: net.answering(OLD) == {OLD}, within_s=_CHANGE_WITHIN_S)
            assert _list_in_force(net, daemon) == "new"
        assert not daemon.status()["degraded"]


@pytest.mark.threat_model
def test_a_writer_that_stops_half_way(net: Net, tmp_path: Path) -> None:
    with Daemon(net, tmp_path, OLD_LIST) as daemon, never_passes(net, BOTH):
        at = NEW_LIST.index(NEW) + len("198.51.")
        with daemon.blocklist.open("w") as file:
            file.write(NEW_LIST[:at])
            file.flush()
            wait_until(lambda: f"{daemon.blocklist}:2:5: error: " in daemon.log, within_s=3)
            assert _list_in_force(net, daemon) == "old"
            assert daemon.status()["degraded"]
            file.write(NEW_LIST[at:])
        wait_until(lambda: net.answering(OLD) == {OLD}, within_s=_CHANGE_WITHIN_S)
        assert _list_in_force(net, daemon) == "new"
        assert not daemon.status()["degraded"]


@pytest.mark.threat_model
def test_an_empty_document_does_not_unblock(net: Net, tmp_path: Path) -> None:
    with Daemon(net, tmp_path, OLD_LIST) as daemon, never_passes(net, BOTH):
        for text in ("", "\n", "---\n", "block:\n", "# block: []\n", "allow: []\n"):
            before = daemon.log.count(f"error: {daemon.blocklist}:")
            replace(daemon.blocklist, text)
            wait_until(lambda: daemon.log.count(f"error: {daemon.blocklist}:") > before, within_s=_CHANGE_WITHIN_S)  # noqa: B023
            assert daemon.ctl("reload").returncode == 78
            assert listed(daemon) >= {OLD, BOTH}
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


@pytest.mark.threat_model
def test_a_disk_without_space(net: Net, tmp_path: Path, full_disk: Path) -> None:
    with Daemon(net, tmp_path, OLD_LIST) as daemon:
        assert _list_in_force(net, daemon) == "old"
        wait_until(lambda: daemon.status()["degraded"], within_s=5)
        replace(daemon.blocklist, f"{NEW_LIST}  - {net.host_address}\n")
        wait_until(lambda: net.answering(OLD) == {OLD}, within_s=_CHANGE_WITHIN_S)

        # `block` promises that it is on disk when it returns: refused, and not in force.
        refused = daemon.ctl("block", OLD)
        assert refused.returncode == 69, refused
        assert "No space left" in refused.stderr
        assert net.answering(OLD) == {OLD}
        refused = daemon.ctl("replace", "--source", "feed", "-", stdin=f"{OLD}\n")
        assert refused.returncode == 69, refused
        assert net.answering(OLD) == {OLD}

        wait_until(lambda: "is narrowed by the guard" in daemon.log, within_s=5)  # it has tried to keep the list

        (full_disk / "filler").unlink()
        assert daemon.ctl("block", OLD).returncode == 0
        assert net.answering(OLD) == set()
        wait_until(lambda: not daemon.status()["degraded"], within_s=_RECOVERS_WITHIN_S, what=daemon.log)
        assert NEW in (full_disk / "last-good" / "blocklist.yaml").read_text()


@pytest.mark.parametrize("is_refused", [False, True], ids=["a list", "a list that is refused"])
def test_a_swap_whose_way_back_is_refused_ends_in_one_list_on_all_interfaces(
    net: Net, tmp_path: Path, *, is_refused: bool
) -> None:
    """eth0 has the new generation; the other interface refuses it, and then eth0 the old one, at every try.

    What a caller wanted is taken back, so the next try finds nothing that differs from the maps of the old one.
    """
    refusals = Refusals(tmp_path)
    arguments = ("--interface", net.device, "--interface", "more*")
    with (
        Daemon(net, tmp_path, OLD_LIST, *arguments, environment=refusals.environment) as daemon,
        never_passes(net, BOTH),
    ):
        net.cable(net.host, "more0", net.more(), "eth0")
        wait_until(lambda: len(daemon.status()["interfaces"]) == 2, within_s=_CHANGE_WITHIN_S)
        if is_refused:
            replace(daemon.blocklist, "block: [this is no address]\n")
            assert daemon.ctl("reload").returncode == 78
        refusals.refuse_slots(2, 9, errno.ENOMEM)
        many = "".join(f"10.0.{number >> 8}.{number & 255}\n" for number in range(_MANY))
        assert daemon.ctl("replace", "--source", "feed", "-", stdin=f"{NEW}\n{many}").returncode == 69
        assert refusals.counted[0] == 9, "one write on eth0, four on the other, and four on the way back"
        assert daemon.status()["degraded"]
        assert net.answering(OLD, NEW) == set()
        wait_until(lambda: "the kernel" not in "".join(daemon.status()["troubles"]), within_s=_RECOVERS_WITHIN_S)
        assert daemon.status()["degraded"] == is_refused
        assert net.answering(OLD, NEW) == {NEW}, daemon.log


_OLD_SET = {"10.9.0.0/24", OLD, BOTH, *(f"10.1.{number >> 8}.{number & 255}" for number in range(3000))}
_NEW_SET = {"10.9.0.0/25", NEW, BOTH, *(f"10.2.{number >> 8}.{number & 255}" for number in range(3000))}


@pytest.mark.threat_model
def test_a_process_that_dies_in_a_replacement_leaves_the_old_set_or_the_new_one(net: Net, tmp_path: Path) -> None:
    """Killed at a write into the log or its copy, or at a call of bpf(2)."""
    refusals, after = Refusals(tmp_path), []
    old, new = (["".join(f"{entry}\n" for entry in each).encode()] for each in (_OLD_SET, _NEW_SET))
    daemon = Daemon(net, tmp_path, "block: []\n", environment=refusals.environment)
    request = {"verb": "replace", "source": "feed"}
    with daemon:
        client.ask(str(daemon.socket), request, follow=old)
        refusals.relent()
        client.ask(str(daemon.socket), request, follow=new)
        calls, writes = refusals.counted
    points = [(refusals.kill_at_write, at) for at in (1, writes // 2, writes)]
    points += [(refusals.kill_at, at) for at in (calls // 2, calls - 1)]
    for kill_at, at in points:
        with daemon:
            client.ask(str(daemon.socket), request, follow=old)
            kill_at(at)
            with contextlib.suppress(errors.Unavailable):
                client.ask(str(daemon.socket), request, follow=new, wait_s=0)
            daemon.stop(signal.SIGKILL)  # what is counted differs by a few
            refusals.relent()
        with daemon:
            found = {row["entry"] for row in daemon.rows(source="feed")}
            assert found in (_OLD_SET, _NEW_SET), (kill_at, at)
            after.append(found == _NEW_SET)
            assert net.answering(OLD, NEW, BOTH) == ({OLD} if found == _NEW_SET else {NEW})
            assert not daemon.status()["degraded"], daemon.log
    assert set(after) == {True, False}, (after, calls, writes)
