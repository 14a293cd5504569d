"""The service manager: what it is told, and the file descriptor store.

Without NOTIFY_SOCKET every notification is a no-op and nothing is stored, so that the last reference to everything in
the kernel is this process. Nothing here waits for a reader but `barrier`, and that not for long: whoever set
NOTIFY_SOCKET may have stopped reading it, or never have begun. What only matters now (STATUS, WATCHDOG,
EXTEND_TIMEOUT_USEC) is then left unsaid; the rest waits its turn, in order.

Protocols: sd_notify(3), sd_pid_notify_with_fds(3), sd_listen_fds(3).
"""

import array
import os
import select
import socket
import time
from collections import deque
from collections.abc import Iterable

from xdropd.text import names

_BARRIER_SECONDS = 5.0
_FIRST_DESCRIPTOR = 3
_WAITING_AT_MOST = 1000
_STATUS_BYTES_AT_MOST = 2000  # systemd ignores a message of more than 4096 bytes, READY=1 in it and all
_LOOK_SECONDS = 0.02


class Systemd:
    """What the service manager is told, and what it keeps for us. No failure to tell it raises."""

    def __init__(self) -> None:
        self._address = _address(os.environ.get("NOTIFY_SOCKET", ""))
        self.is_there = bool(self._address)
        self._waiting: deque[tuple[bytes, list[int]]] = deque()
        self._behind_since_s = 0.0
        self._barrier: int | None = None
        self._has_lost = False
        self._keeps = False
        if self.is_there:
            kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
            self._socket = socket.socket(socket.AF_UNIX, kind)

    def ready(self, status: str) -> None:
        """The filter does its work. Also ends a reload."""
        self._queue("READY=1", _status(status))

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._mention(_status(text))

    def reloading(self) -> None:
        """A reload has begun; `ready` ends it."""
        self._queue("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """This process is about to end."""
        self._queue("STOPPING=1", "STATUS=Stopping")

    def alive(self) -> None:
        """Feed the watchdog."""
        self._mention("WATCHDOG=1")

    def patience(self, seconds: int) -> None:
        """Ask for more time to start or reload, from now on."""
        self._mention(f"EXTEND_TIMEOUT_USEC={seconds * 1_000_000}")

    @property
    def watchdog_interval_s(self) -> float:
        """How often `alive` is due at the latest; 0 where nobody asks."""
        return int(os.environ.get("WATCHDOG_USEC", "0")) / 1e6

    # ---- the store ----

    def store(self, descriptors: dict[str, int]) -> None:
        """Have descriptors kept under these names while the service lives, whatever happens to this process.

        FDPOLL=0, or systemd drops the ones that report an error to poll(2), as maps do.
        """
        for name, descriptor in descriptors.items():
            self._queue("FDSTORE=1", f"FDNAME={name}", "FDPOLL=0", descriptor=descriptor)

    def forget(self, stored: Iterable[str]) -> None:
        """Drop the descriptors of these names from the store."""
        for name in stored:
            self._queue("FDSTOREREMOVE=1", f"FDNAME={name}")

    def barrier(self) -> bool:
        """Wait until everything sent so far has been acted on; False if that is not known within five seconds.

        While an earlier one is unanswered it is False at once, for whoever asks again must not wait again.
        """
        if not self.is_there:
            return True
        if self._is_unanswered(0):
            return False
        try:
            self._barrier, writing = os.pipe2(os.O_CLOEXEC)
        except OSError:  # no descriptors are left
            return False
        self._queue("BARRIER=1", descriptor=writing)
        os.close(writing)
        deadline_s = time.monotonic() + _BARRIER_SECONDS
        while self._is_unanswered(_LOOK_SECONDS):
            if time.monotonic() >= deadline_s:
                return False
            self.flush()
        return not self._has_lost

    @property
    def keeps(self) -> bool:
        """Whether it ever gave something back or answered: before that, nobody may be there who could keep anything."""
        return self._keeps

    @property
    def is_silent(self) -> bool:
        """Whether it leaves something unread or unanswered for five seconds, or has missed what found no place."""
        late_s = time.monotonic() - _BARRIER_SECONDS
        return self._has_lost or bool(self._waiting and self._behind_since_s < late_s) or self._is_unanswered(0)

    def inherited(self) -> dict[str, list[int]]:
        """Descriptors that the store gave back, by name, close-on-exec. Equal names pile up there: hence lists."""
        if os.environ.get("LISTEN_PID") != str(os.getpid()):
            return {}
        count = int(os.environ.get("LISTEN_FDS", "0"))
        called = os.environ.get("LISTEN_FDNAMES", "").split(":")
        found: dict[str, list[int]] = {}
        for at in range(count):
            descriptor = _FIRST_DESCRIPTOR + at
            os.set_inheritable(descriptor, False)
            found.setdefault(called[at] if at < len(called) else "unknown", []).append(descriptor)
        for variable in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
            os.environ.pop(variable, None)
        self._keeps |= bool(found)
        return found

    # ---- sending ----

    def flush(self, within_s: float = 0.0) -> None:
        """Send what waits, as far as somebody reads; with `within_s`, wait so long at most for that."""
        deadline_s = time.monotonic() + within_s
        while self._waiting:
            data, descriptors = self._waiting[0]
            if self._is_sent(data, descriptors):
                self._waiting.popleft()
                self._behind_since_s = time.monotonic()
                for descriptor in descriptors:
                    os.close(descriptor)
            elif time.monotonic() >= deadline_s:
                return
            else:
                time.sleep(_LOOK_SECONDS)

    def _mention(self, assignment: str) -> None:
        """Send what is of no use later, or do not."""
        self.flush()
        if self.is_there and not self._waiting:
            self._is_sent(assignment.encode(), [])

    def _queue(self, *assignments: str, descriptor: int | None = None) -> None:
        """Send what must not be lost, behind what waits already."""
        if not self.is_there:
            return
        self.flush()
        if len(self._waiting) >= _WAITING_AT_MOST:
            self._has_lost = True
            return
        data = "\n".join(assignments).encode()
        descriptors = [] if descriptor is None else [descriptor]
        if not self._waiting:
            if self._is_sent(data, descriptors):
                return
            self._behind_since_s = time.monotonic()
        try:
            copies = [os.dup(each) for each in descriptors]  # the caller may close its own
        except OSError:  # no descriptors are left
            self._has_lost = True
            return
        self._waiting.append((data, copies))

    def _is_sent(self, data: bytes, descriptors: list[int]) -> bool:
        """False where there is no room, or nobody, at the moment: any reason may pass."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        try:
            self._socket.sendmsg([data], rights, 0, self._address)
        except OSError:
            return False
        return True

    def _is_unanswered(self, within_s: float) -> bool:
        """Whether a barrier is out: its pipe hangs up when the other end's copy is closed."""
        if self._barrier is None:
            return False
        poll = select.poll()
        poll.register(self._barrier, 0)
        if not poll.poll(within_s * 1000):
            return True
        os.close(self._barrier)
        self._barrier = None
        self._keeps = True
        return False


def _address(name: str) -> bytes:
    """Of NOTIFY_SOCKET: a path, or with an @ a name in the abstract namespace (unix(7)); empty for anything else."""
    address = os.fsencode(name)
    return b"\0" + address[1:] if address.startswith(b"@") else address if address.startswith(b"/") else b""


def _status(text: str) -> str:
    cut = names.printable(text).encode()[:_STATUS_BYTES_AT_MOST]
    return f"STATUS={cut.decode(errors='ignore')}"
