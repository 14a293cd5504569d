"""The real daemon in the foreground, in a namespace, with a small service manager of the bench's own.

The manager speaks sd_notify(3) with it: READY=1 tells the moment at which the list is in force, and descriptors that
the daemon has stored (FDSTORE=1) are given back to the next one (sd_listen_fds(3)), so that it adopts what is in force.
"""

import contextlib
import fcntl
import os
import select
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any, Self

from bench import processes
from bench.telling import REPOSITORY
from netns import inside
from xdropd.commands import client
from xdropd.errors import Unavailable

_READY_WITHIN_S = 120.0
_ENDS_WITHIN_S = 20.0
_LISTENS_WITHIN_S = 5.0
_FIRST_DESCRIPTOR = 3  # SD_LISTEN_FDS_START
_ABOVE = 512  # kept descriptors stay clear of the numbers that the next daemon gets them under
_DESCRIPTORS_A_MESSAGE = 16


class Manager:
    """What systemd is to the daemon, as far as the daemon can tell."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "notify.sock"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))
        self._ready = Event()
        self._lock = Lock()
        self._kept: dict[str, int] = {}
        self.ready_at = 0.0
        self._closing_read, self._closing_write = os.pipe()
        self._thread = Thread(target=self._listen, daemon=True)
        self._thread.start()

    def expect(self) -> None:
        """A daemon is about to start."""
        self._ready.clear()

    def await_ready(self, is_running: Callable[[], bool], log: Path) -> float:
        """The moment of READY=1, by time.monotonic()."""
        deadline = time.monotonic() + _READY_WITHIN_S
        while not self._ready.wait(0.05):
            if not is_running() or time.monotonic() > deadline:
                raise Unavailable(f"the daemon did not get ready:\n{log.read_text(errors='replace')}")
        return self.ready_at

    def kept(self) -> dict[str, int]:
        """What the daemon has stored."""
        with self._lock:
            return dict(self._kept)

    def forget_all(self) -> None:
        """What systemd does when the service stops."""
        with self._lock:
            for descriptor in self._kept.values():
                os.close(descriptor)
            self._kept.clear()

    def close(self) -> None:
        """Hear no more, and let everything go."""
        os.write(self._closing_write, b"\0")
        self._thread.join()
        for descriptor in (self._closing_read, self._closing_write):
            os.close(descriptor)
        self._socket.close()
        self.path.unlink()
        self.forget_all()

    def _listen(self) -> None:
        while self._socket in select.select([self._socket, self._closing_read], [], [])[0]:
            said, descriptors, _, _ = socket.recv_fds(self._socket, 4096, _DESCRIPTORS_A_MESSAGE)
            now = time.monotonic()
            told = dict(line.partition("=")[::2] for line in said.decode().splitlines())
            with self._lock:
                self._take(told, descriptors)
            if told.get("READY") == "1":
                self.ready_at = now
                self._ready.set()

    def _take(self, told: dict[str, str], descriptors: list[int]) -> None:
        name = told.get("FDNAME", "")
        if "FDSTORE" in told or "FDSTOREREMOVE" in told:
            with contextlib.suppress(KeyError):
                os.close(self._kept.pop(name))
        if "FDSTORE" in told:
            self._kept[name] = fcntl.fcntl(descriptors[0], fcntl.F_DUPFD_CLOEXEC, _ABOVE)
        for descriptor in descriptors:  # of BARRIER=1 as well: closing it is the answer
            os.close(descriptor)


class Daemon:
    """Filters `interface` of `namespace`. Everything it reads and writes is in `folder`, and stays there."""

    def __init__(self, namespace: str, folder: Path, interface: str = "eth0") -> None:
        self.blocklist = folder / "blocklist.yaml"
        self.socket = folder / "control.sock"
        self.state = folder / "state"
        self.log = folder / "log"
        self._settings = folder / "xdropd.yaml"
        self._settings.write_text("interfaces: auto\n", encoding="utf-8")
        self._namespace, self._interface = namespace, interface
        self._folder = folder
        self._manager = Manager(folder)
        self.process_id = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.stop()
        finally:
            self._manager.close()

    def start(self) -> float:
        """Start it and wait. Seconds from then to READY=1, when the list is in force."""
        files = ("--settings", self._settings, "--blocklist", self.blocklist, "--socket", self.socket)
        command = [sys.executable, "-m", "xdropd.commands.xdropd", *map(str, files), "--interface", self._interface]
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(REPOSITORY / "src"),
            "STATE_DIRECTORY": str(self.state),
            "RUNTIME_DIRECTORY": str(self._folder),
            "NOTIFY_SOCKET": str(self._manager.path),
            "PYTHONMALLOC": "malloc",  # as in its unit
        }
        kept = self._manager.kept()
        if kept:
            environment.update(LISTEN_FDS=str(len(kept)), LISTEN_FDNAMES=":".join(kept))
            command = ["/bin/sh", "-c", 'LISTEN_PID=$$ exec "$0" "$@"', *command]
        self._manager.expect()
        with self.log.open("ab") as log, inside(self._namespace):
            actions = [(os.POSIX_SPAWN_DUP2, log.fileno(), number) for number in (1, 2)]
            actions += [
                (os.POSIX_SPAWN_DUP2, descriptor, number)
                for number, descriptor in enumerate(kept.values(), start=_FIRST_DESCRIPTOR)
            ]
            begun = time.monotonic()
            self.process_id = os.posix_spawn(command[0], command, environment, file_actions=actions)
        return self._manager.await_ready(self._is_running, self.log) - begun

    def memory(self) -> processes.Memory:
        """What it has resident."""
        return processes.memory(self.process_id)

    def descriptors(self) -> int:
        """How many descriptors it has open."""
        return len(list(Path("/proc", str(self.process_id), "fd").iterdir()))

    def _is_running(self) -> bool:
        return not os.waitpid(self.process_id, os.WNOHANG)[0]

    def new_blocklist(self, text: str) -> Callable[[], None]:
        """Write another blocklist beside the one that counts; calling what is returned renames it over."""
        beside = self.blocklist.with_suffix(".new")
        beside.write_text(text, encoding="utf-8")

        def rename() -> None:
            beside.replace(self.blocklist)

        return rename

    def reload(self, text: str) -> None:
        """Rename another blocklist over the one that counts and wait until the daemon has taken it in by itself."""
        rename = self.new_blocklist(text)
        self._manager.expect()
        rename()
        self._manager.await_ready(self._is_running, self.log)

    def forget_everything(self) -> None:
        """Remove the state folder, and with it the compiled program and the last good files. Not while it runs."""
        shutil.rmtree(self.state, ignore_errors=True)

    def ask(self, request: dict[str, object], wait_s: float = _LISTENS_WITHIN_S) -> dict[str, Any]:
        """The result of a request over the control socket. Raises ErrorAnswer, Unavailable."""
        return client.ask(str(self.socket), request, wait_s=wait_s)

    def kill(self) -> None:
        """kill -9: what it has stored stays, and the next one adopts it."""
        os.kill(self.process_id, signal.SIGKILL)
        os.waitpid(self.process_id, 0)
        self.process_id = 0

    def stop(self) -> None:
        """As `systemctl stop`: nothing stays."""
        if self.process_id:
            os.kill(self.process_id, signal.SIGTERM)
            deadline = time.monotonic() + _ENDS_WITHIN_S
            while self._is_running():
                if time.monotonic() > deadline:
                    self.kill()
                    raise Unavailable("the daemon did not end on SIGTERM")
                time.sleep(0.005)
            self.process_id = 0
        self._manager.forget_all()
