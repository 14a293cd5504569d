"""Files that take long to read, or never answer: nobody else waits for them, and the filter stays as it is."""

import contextlib
import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from foreground import Daemon
from hangingfs import HangingFileSystem
from servicemanager import ServiceManager
from test_faults import replace

from netns import Net
from waiting import wait_until

_ANSWER_WITHIN_S = 0.25
_ASK_EVERY_S = 0.02
_TIME_ASKED_EVERY_S = 5.0  # at least, while reading
_SILENCE_S = 10.0  # of a file system, then it is said to hang
_SOON_S = 5.0

_NAMED, _GLOBBED, _LOCAL, _NEW, _BLOCKED = (f"198.51.100.{at}" for at in range(71, 76))


@pytest.fixture
def net() -> Iterator[Net]:
    with Net() as made:
        ours = (_NAMED, _GLOBBED, _LOCAL, _NEW, _BLOCKED)
        made.address(made.peer, *(f"{address}/{made.length}" for address in ours))
        made.run(made.peer, "ping", "-c1", "-W1", made.host_address)
        yield made


class Asker:
    """Asks for `status` every 20 ms while it is a context, and demands that each answer comes soon."""

    def __init__(self, daemon: Daemon) -> None:
        self.told: list[dict[str, Any]] = []
        self._longest_s = 0.0
        self._daemon = daemon
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()
        assert self._longest_s < _ANSWER_WITHIN_S

    def _ask(self) -> None:
        while not self._is_over.wait(_ASK_EVERY_S):
            begun_s = time.monotonic()
            with contextlib.suppress(FileNotFoundError, ConnectionRefusedError, IndexError):  # not there yet, or over
                self.told.append(self._daemon.status())
                self._longest_s = max(self._longest_s, time.monotonic() - begun_s)

    def is_told(self, progress: str) -> bool:
        return any(progress in told["progress"] for told in self.told)


def ends_at_once(daemon: Daemon) -> None:
    begun_s = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - begun_s < 2


def asked_for_time(manager: ServiceManager, begun_s: float) -> None:
    """As often as it takes, from the beginning to readiness."""
    ready_s = manager.moments("READY=1")[-1]
    asked = [at for at in manager.moments("EXTEND_TIMEOUT_USEC=*") if begun_s < at < ready_s]
    assert len(asked) > 3
    assert max(after - before for before, after in itertools.pairwise([begun_s, *asked, ready_s])) < _TIME_ASKED_EVERY_S


def degraded_over(daemon: Daemon) -> str:
    """What the daemon is degraded over, and nothing else."""
    return "\n".join(daemon.status()["troubles"])


@pytest.mark.threat_model
def test_lists_on_a_file_system_that_hangs(net: Net, tmp_path: Path) -> None:
    """What they list stays in force; everything else goes on, other lists included. A restart changes nothing of that
    for a file that is named; and when the file system answers again, it is as if nothing had been.
    """
    remote = tmp_path / "etc" / "remote"
    remote.mkdir(parents=True)
    local = tmp_path / "etc" / "local.txt"
    local.write_text(f"{_LOCAL}\n")
    blocklist = "block: []\ninclude: [remote/named.txt, remote/*.netset, local.txt]\n"
    files = {"named.txt": _NAMED.encode(), "a.netset": _GLOBBED.encode()}
    with (
        ServiceManager(tmp_path) as manager,
        HangingFileSystem(remote, files) as remote_files,
        Daemon(net, tmp_path, blocklist, manager=manager) as daemon,
    ):
        wait_until(lambda: len(list(tmp_path.glob("state/last-good/lists/*"))) == len(files) + 1, within_s=_SOON_S)
        assert net.answering(_NAMED, _GLOBBED, _LOCAL, _BLOCKED) == {_BLOCKED}
        with Asker(daemon):
            remote_files.hangs = True
            replace(local, f"{_NEW}\n")
            assert daemon.ctl("block", _BLOCKED, "--for", "8").returncode == 0
            assert net.answering(_NAMED, _GLOBBED, _BLOCKED) == set()
            wait_until(lambda: daemon.lookup(_NEW)["blocked"], within_s=_SILENCE_S + _SOON_S, what=daemon.log)
            wait_until(lambda: not daemon.lookup(_BLOCKED)["blocked"], within_s=_SOON_S)
            assert net.answering(_NAMED, _GLOBBED, _LOCAL, _NEW) == {_LOCAL}
            told = degraded_over(daemon)
            for path in (remote / "named.txt", remote / "*.netset", remote / "a.netset"):
                assert f"{path}: error: cannot be " in told
            assert "its file system does not answer" in told
        ends_at_once(daemon)

        begun_s = time.monotonic()
        ready = manager.times("READY=1")
        daemon.start()
        with Asker(daemon) as asker:
            manager.wait_for("READY=1", more_than=ready, within_s=2 * _SILENCE_S)
        assert asker.is_told("reading the lists")
        asked_for_time(manager, begun_s)
        assert "what was in force before is in force" in degraded_over(daemon)
        assert net.answering(_NAMED, _GLOBBED, _NEW, _LOCAL) == {_LOCAL}

        remote_files.write("a.netset", f"{_GLOBBED}\n{_BLOCKED}\n".encode())
        remote_files.hangs = False
        wait_until(lambda: not daemon.status()["degraded"], within_s=_SOON_S, what=daemon.log)
        listed = (_NAMED, _GLOBBED, _BLOCKED)
        wait_until(lambda: net.answering(*listed, _LOCAL) == {_LOCAL}, within_s=_SOON_S, what=daemon.log)
        ends_at_once(daemon)


@pytest.mark.threat_model
def test_a_blocklist_on_a_file_system_that_hangs(net: Net, tmp_path: Path) -> None:
    remote = tmp_path / "remote"
    with (
        HangingFileSystem(remote, {"blocklist.yaml": f"block: [{_NAMED}]\n".encode()}) as remote_files,
        Daemon(net, tmp_path, "", "--interface", net.device, "--blocklist", str(remote / "blocklist.yaml")) as daemon,
    ):
        remote_files.hangs = True
        wait_until(lambda: daemon.status()["degraded"], within_s=_SILENCE_S + _SOON_S, what=daemon.log)
        assert "the list before stays in force" in degraded_over(daemon)
        assert net.answering(_NAMED, _NEW) == {_NEW}
        remote_files.write("blocklist.yaml", f"block: [{_NEW}]\n".encode())
        remote_files.hangs = False
        wait_until(lambda: not daemon.status()["degraded"], within_s=_SOON_S, what=daemon.log)
        # What hung may have been a look at the file as it was.
        wait_until(lambda: net.answering(_NAMED, _NEW) == {_NAMED}, within_s=_SOON_S, what=daemon.log)


@pytest.mark.threat_model
def test_a_start_that_reads_for_long(net: Net, tmp_path: Path) -> None:
    """It asks for time as it is needed, tells how it is, and ends at once if told to."""
    slow = tmp_path / "etc" / "slow"
    slow.mkdir(parents=True)
    comments = b"# a line that lists nothing\n" * 40_000
    with (
        ServiceManager(tmp_path) as manager,
        HangingFileSystem(slow, {"list.txt": comments + _NAMED.encode()}) as files,
    ):
        files.delay_s = 0.8
        daemon = Daemon(net, tmp_path, "block: []\ninclude: [slow/list.txt]\n", manager=manager)
        begun_s = time.monotonic()
        daemon.start()
        with Asker(daemon) as asker:
            manager.wait_for("READY=1", within_s=30)
        assert asker.is_told("reading the lists")
        assert manager.moments("READY=1")[0] - begun_s > _TIME_ASKED_EVERY_S
        asked_for_time(manager, begun_s)
        assert net.answering(_NAMED, _NEW) == {_NEW}
        ends_at_once(daemon)

        manager.drop()
        reads = files.reads
        daemon.start()
        wait_until(lambda: files.reads > reads + 1, within_s=_SOON_S)
        ends_at_once(daemon)
        assert "enforcing" not in daemon.log


@pytest.mark.threat_model
def test_long_texts_leave_room_for_others(net: Net, tmp_path: Path) -> None:
    """At the start and on a reload. Few of the lines list anything, for it is reading that is looked at here."""
    texts = {
        "lines.json": b'{"type":"metadata","timestamp":1700000000,"terms":"see the web site"}\n' * 200_000,
        "hosts.txt": b"198.51.100.77 is the address of somebody\r\n" * 150_000,
        "one-line.txt": bytes(30 << 20),
        "notes.txt": b"# nothing is listed on this line, nor on any other\n" * 600_000,
    }
    etc = tmp_path / "etc"
    etc.mkdir()
    for name, text in texts.items():
        (etc / name).write_bytes(text + b'{"cidr":"192.0.2.1"}\n' if name == "lines.json" else text)
    head = f"block: []\ninclude: [{', '.join(texts)}]\n"
    daemon = Daemon(net, tmp_path, head + "# a comment that says nothing\n" * 1_000_000)
    daemon.start()
    with Asker(daemon) as asker:
        wait_until(lambda: "notice: enforcing" in daemon.log, within_s=60, what=daemon.log)
        for name, text in texts.items():
            (etc / name).write_bytes(text + b"\n" + _NEW.encode() + b"\n")
        daemon.blocklist.write_text(head + f"# {_NEW}, and other comments\n" * 1_000_000)
        assert daemon.ctl("reload").returncode == 0
    assert asker.is_told("reading the lists")
    ends_at_once(daemon)
