"""systemd: readiness, the file descriptor store, and the journal. The only file that imports systemd-python.

Without NOTIFY_SOCKET every notification is a no-op and nothing is stored, so that the last reference to everything in
the kernel is this process. Protocols: sd_notify(3), sd_pid_notify_with_fds(3),
sd_listen_fds(3), systemd.journal-fields(7).
"""

import os
import select
import sys
import time
import traceback
from collections.abc import Iterable

from systemd import daemon, journal

_BARRIER_SECONDS = 5.0
_FIRST_DESCRIPTOR = 3

DEBUG, INFO, NOTICE, WARNING, ERROR = 7, 6, 5, 4, 3  # syslog(3)
_LEVEL_NAMES = {DEBUG: "debug", INFO: "info", NOTICE: "notice", WARNING: "warning", ERROR: "error"}


class Systemd:
    """What the service manager is told, and what it keeps for us."""

    def __init__(self) -> None:
        self.is_there = bool(os.environ.get("NOTIFY_SOCKET"))

    def notify(self, *assignments: str, descriptors: Iterable[int] = ()) -> None:
        """Send one datagram of assignments, such as READY=1."""
        if self.is_there:
            daemon.notify("\n".join(assignments), fds=list(descriptors))

    def ready(self, status: str) -> None:
        """The filter does its work. Also ends a reload."""
        self.notify("READY=1", f"STATUS={status}")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self.notify(f"STATUS={text}")

    def reloading(self) -> None:
        """A reload has begun; `ready` ends it."""
        self.notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """This process is about to end."""
        self.notify("STOPPING=1", "STATUS=Stopping")

    def alive(self) -> None:
        """Feed the watchdog."""
        self.notify("WATCHDOG=1")

    def patience(self, seconds: int) -> None:
        """Ask for more time to start or reload, from now on."""
        self.notify(f"EXTEND_TIMEOUT_USEC={seconds * 1_000_000}")

    @property
    def watchdog_interval_s(self) -> float:
        """How often `alive` is due at the latest; 0 where nobody asks."""
        return int(os.environ.get("WATCHDOG_USEC", "0")) / 1e6

    def store(self, descriptors: dict[str, int]) -> None:
        """Have descriptors kept under these names while the service lives, whatever happens to this process.

        FDPOLL=0, or systemd drops the ones that report an error to poll(2), as maps do.
        """
        for name, descriptor in descriptors.items():
            self.notify("FDSTORE=1", f"FDNAME={name}", "FDPOLL=0", descriptors=[descriptor])

    def forget(self, names: Iterable[str]) -> None:
        """Drop descriptors from the store."""
        for name in names:
            self.notify("FDSTOREREMOVE=1", f"FDNAME={name}")

    def settle(self) -> bool:
        """Wait until everything sent so far has been acted on. False if systemd did not answer in time."""
        if not self.is_there:
            return True
        reading, writing = os.pipe2(os.O_CLOEXEC)
        try:
            self.notify("BARRIER=1", descriptors=[writing])
        finally:
            os.close(writing)
        poll = select.poll()
        poll.register(reading, select.POLLHUP)
        try:
            return bool(poll.poll(_BARRIER_SECONDS * 1000))
        finally:
            os.close(reading)

    @staticmethod
    def inherited() -> dict[str, list[int]]:
        """Descriptors that the store gave back, by name, close-on-exec. Equal names pile up there: hence lists."""
        if os.environ.get("LISTEN_PID") != str(os.getpid()):
            return {}
        count = int(os.environ.get("LISTEN_FDS", "0"))
        names = os.environ.get("LISTEN_FDNAMES", "").split(":")
        found: dict[str, list[int]] = {}
        for at in range(count):
            descriptor = _FIRST_DESCRIPTOR + at
            os.set_inheritable(descriptor, False)
            found.setdefault(names[at] if at < len(names) else "unknown", []).append(descriptor)
        for variable in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
            os.environ.pop(variable, None)
        return found


class Log:
    """One line an event, to the journal with fields where standard error is the journal, else to standard error.

    Levels mean: error, something that was asked for is not in force; warning, something needs a look; notice, a change
    of state; info, the rest.
    """

    def __init__(self, *, verbose: bool = False) -> None:
        self._to_journal = _stderr_is_journal()
        self._threshold = DEBUG if verbose else INFO

    def event(self, level: int, event: str, message: str, **fields: str | int) -> None:
        """Say it. `fields` are journal fields without their prefix: interface, entry, source, file, line."""
        if level > self._threshold:
            return
        if self._to_journal:
            extra = {f"XDROPD_{name.upper()}": str(value) for name, value in fields.items()}
            for line in message.splitlines():
                journal.send(line, PRIORITY=level, SYSLOG_IDENTIFIER="xdropd", XDROPD_EVENT=event, **extra)
            return
        for line in message.splitlines():
            print(f"xdropd: {_LEVEL_NAMES[level]}: {line}", file=sys.stderr, flush=True)  # noqa: T201  # the log itself

    def info(self, event: str, message: str, **fields: str | int) -> None:
        """Say it at level info."""
        self.event(INFO, event, message, **fields)

    def notice(self, event: str, message: str, **fields: str | int) -> None:
        """Say it at level notice."""
        self.event(NOTICE, event, message, **fields)

    def warning(self, event: str, message: str, **fields: str | int) -> None:
        """Say it at level warning."""
        self.event(WARNING, event, message, **fields)

    def error(self, event: str, message: str, **fields: str | int) -> None:
        """Say it at level error."""
        self.event(ERROR, event, message, **fields)

    def bug(self, problem: BaseException) -> None:
        """A mistake of ours, with its traceback."""
        self.error("bug", "".join(traceback.format_exception(problem)).rstrip())


def _stderr_is_journal() -> bool:
    """Whether standard error is the journal's stream: JOURNAL_STREAM names its device and inode (systemd.exec(5))."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return (device, inode) == (str(status.st_dev), str(status.st_ino))
