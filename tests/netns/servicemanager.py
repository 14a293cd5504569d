"""What systemd does for a service, as far as xdropd asks for it, without systemd: the descriptor store above all.

It listens where NOTIFY_SOCKET says (sd_notify(3)), keeps what FDSTORE=1 brings, and hands all of it to the next process
that it starts (sd_listen_fds(3)). So adoption, restarts and kills take milliseconds, in any namespace.
"""

import ctypes
import fcntl
import fnmatch
import os
import platform
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from waiting import wait_until

_FIRST = 3  # SD_LISTEN_FDS_START
_ABOVE_OURS = 200  # descriptors are kept up there, so that a child can move them down to 3, 4, 5 without a clash
_DESCRIPTORS_AT_MOST = 16  # in one datagram
_WITHIN_S = 10.0
_KCMP = {"x86_64": 312, "aarch64": 272}[platform.machine()]
_KCMP_FILE = 0

# Runs in the service's process before the service does. (A shell keeps copies of what it moves where others are to go.)
_HAND_OVER = f"""
import os, sys
given = [int(number) for number in sys.argv[1].split(",") if number]
for at, descriptor in enumerate(given):
    os.dup2(descriptor, {_FIRST} + at)
os.closerange({_FIRST} + len(given), {_ABOVE_OURS} + 1000)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execvp(sys.argv[2], sys.argv[2:])
"""

_libc = ctypes.CDLL(None, use_errno=True)


class ServiceManager:
    """Its socket is `folder`/notify. Use as a context; what is stored goes when it is left, as with `systemctl stop`.

    `said` is every assignment that was received, in order.
    """

    def __init__(self, folder: Path, *, watchdog_s: float = 0.0) -> None:
        self.said: list[str] = []
        self._said_at: list[float] = []
        self._watchdog_s = watchdog_s
        self._path = folder / "notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self._path))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self._stored: list[tuple[str, int]] = []
        self._caught_up = threading.Event()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def __enter__(self) -> "ServiceManager":
        return self

    def __exit__(self, *_: object) -> None:
        self._tell("TEST=end")
        self._listener.join(_WITHIN_S)
        self._socket.close()
        self.drop()

    def start(
        self, command: Sequence[str], environment: Mapping[str, str], output: IO[bytes]
    ) -> "subprocess.Popen[bytes]":
        """The service's process, with all that was stored until now. Must be called where it is to live."""
        self._catch_up()
        stored = list(self._stored)
        numbers = [descriptor for _, descriptor in stored]
        told = {"LISTEN_FDS": str(len(stored)), "LISTEN_FDNAMES": ":".join(name for name, _ in stored)}
        if not stored:
            told.clear()
        if self._watchdog_s:
            told["WATCHDOG_USEC"] = str(int(self._watchdog_s * 1e6))
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _HAND_OVER, ",".join(map(str, numbers)), *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=numbers,
            env={**environment, **told, "NOTIFY_SOCKET": str(self._path)},
        )

    def times(self, assignment: str) -> int:
        """How often something was said; a glob."""
        return len(fnmatch.filter(self.said, assignment))

    def moments(self, assignment: str) -> list[float]:
        """When something was said, in seconds of time.monotonic(); a glob."""
        said = zip(list(self._said_at), self.said, strict=False)
        return [at for at, told in said if fnmatch.fnmatchcase(told, assignment)]

    def wait_for(self, assignment: str, *, more_than: int = 0, within_s: float = _WITHIN_S) -> None:
        """Until something (a glob) was said more often than so many times."""
        wait_until(lambda: self.times(assignment) > more_than, within_s=within_s, what=f"{assignment} is said")

    def stored(self) -> list[str]:
        """The names of what is stored now, sorted."""
        self._catch_up()
        return sorted(name for name, _ in self._stored)

    def lose(self, glob: str) -> None:
        """Forget what is stored under these names, while no process of the service runs."""
        for name in {name for name, _ in self._matching(glob)}:
            self._forget(name)

    def ruin(self, glob: str) -> None:
        """Have /dev/null instead of what is stored under these names, while no process of the service runs."""
        for _, descriptor in self._matching(glob):
            with Path(os.devnull).open() as nothing:
                os.dup2(nothing.fileno(), descriptor, inheritable=False)

    def rename(self, glob: str, new: Callable[[str], str]) -> None:
        """Give what is stored under these names others, while no process of the service runs."""
        renamed = self._matching(glob)
        self._stored = [(new(each[0]) if each in renamed else each[0], each[1]) for each in self._stored]

    def drop(self) -> None:
        """Forget all that is stored, as when the service is stopped."""
        while self._stored:
            os.close(self._stored.pop()[1])

    def _catch_up(self) -> None:
        self._caught_up.clear()
        self._tell("TEST=caught-up")
        assert self._caught_up.wait(_WITHIN_S)

    def _matching(self, glob: str) -> list[tuple[str, int]]:
        self._catch_up()
        matching = [each for each in self._stored if fnmatch.fnmatchcase(each[0], glob)]
        assert matching, f"nothing is stored as {glob}: {self.stored()}"
        return matching

    def _forget(self, name: str) -> None:
        gone = [kept for kept in self._stored if kept[0] == name]
        self._stored = [kept for kept in self._stored if kept not in gone]
        for _, descriptor in gone:
            os.close(descriptor)

    def _tell(self, text: str) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as mouth:
            mouth.sendto(text.encode(), str(self._path))

    def _listen(self) -> None:
        while True:
            data, descriptors, _, _ = socket.recv_fds(self._socket, 1 << 16, _DESCRIPTORS_AT_MOST)
            told = dict(line.partition("=")[::2] for line in data.decode().splitlines())
            if told.get("FDSTORE") == "1":
                for descriptor in descriptors:
                    self._keep(told["FDNAME"], descriptor)
            elif told.get("FDSTOREREMOVE") == "1":
                self._forget(told["FDNAME"])
            for descriptor in descriptors:  # of BARRIER=1 this is the answer
                os.close(descriptor)
            match told.get("TEST"):
                case "caught-up":
                    self._caught_up.set()
                case "end":
                    return
                case None:
                    lines = data.decode().splitlines()
                    self.said += lines
                    self._said_at += [time.monotonic()] * len(lines)

    def _keep(self, name: str, descriptor: int) -> None:
        """As service_add_fd_store() in systemd's service.c: an open file that is there already is not stored again."""
        ours = os.getpid()
        for _, kept in self._stored:
            if _libc.syscall(_KCMP, ours, ours, _KCMP_FILE, kept, descriptor) == 0:
                return
        self._stored.append((name, fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _ABOVE_OURS)))
