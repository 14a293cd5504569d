"""The log: to the journal with fields where standard error is the journal, else to standard error.

Whoever reads it may stop reading (a stopped journald, a pipe, a terminal that is held), which must not stop a filter:
lines that cannot be written at once wait here, in order, up to a bound. What comes beyond that is counted, and told of
when lines flow again. No failure to write raises.

Protocols: the journal's own (https://systemd.io/JOURNAL_NATIVE_PROTOCOL), systemd.journal-fields(7), and JOURNAL_STREAM
of systemd.exec(5).
"""

import os
import select
import socket
import stat
import time
import traceback
from collections import deque
from typing import Protocol

from xdropd.text import names

INFO, NOTICE, WARNING, ERROR = 6, 5, 4, 3  # syslog(3)
_LEVEL_NAMES = {INFO: "info", NOTICE: "notice", WARNING: "warning", ERROR: "error"}

_STANDARD_ERROR = 2
_JOURNAL = "/run/systemd/journal/socket"
_WAITING_AT_MOST = 1000
_CHARACTERS_AT_MOST = 8000  # of a line: in the journal a line is one datagram
_LOOK_SECONDS = 0.02


class _Output(Protocol):
    def write(self, data: bytes) -> int:
        """Write without waiting; how many bytes were taken. Raises OSError."""


class Log:
    """One line an event.

    Levels mean: error, something that was asked for is not in force; warning, something needs a look; notice, a change
    of state; info, the rest.
    """

    def __init__(self, program: str = "xdropd") -> None:
        self._program = program
        self._is_journal = _stderr_is_journal()
        self._output: _Output = _Journal() if self._is_journal else _Stream(_STANDARD_ERROR)
        self._waiting: deque[bytes] = deque()
        self._lost = 0

    def event(self, level: int, event: str, message: str, **fields: str | int) -> None:
        """Say it. `fields` are journal fields without their prefix: interface, entry, source, file, line."""
        self.flush()
        for line in message.split("\n"):
            text = names.printable(line)
            if len(text) > _CHARACTERS_AT_MOST:
                text = text[: _CHARACTERS_AT_MOST - 1] + "…"
            if self._is_journal:
                self._put(_datagram(self._program, level, event, text, fields))
            else:
                self._put(f"{self._program}: {_LEVEL_NAMES[level]}: {text}\n".encode())
        self.flush()

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

    def flush(self, within_s: float = 0.0) -> None:
        """Write what waits, as far as somebody reads; with `within_s`, wait so long at most for that."""
        deadline_s = time.monotonic() + within_s
        while self._waiting:
            if self._write_some():
                continue
            if time.monotonic() >= deadline_s:
                return
            time.sleep(_LOOK_SECONDS)
        if self._lost:
            lost, self._lost = self._lost, 0
            lines = "line of this log was" if lost == 1 else "lines of this log were"
            self.warning("log", f"{lost:,} {lines} not written, for nobody read it")

    def _put(self, entry: bytes) -> None:
        if len(self._waiting) < _WAITING_AT_MOST:
            self._waiting.append(entry)
        else:
            self._lost += 1

    def _write_some(self) -> bool:
        entry = self._waiting[0]
        try:
            written = self._output.write(entry)
        except OSError:  # nobody is there, or the disk is full: that may change
            written = 0
        if written == len(entry):
            self._waiting.popleft()
        elif written:
            self._waiting[0] = entry[written:]
        return written > 0


class _Journal:
    """journald's socket. One datagram an entry."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)

    def write(self, data: bytes) -> int:
        return self._socket.sendto(data, _JOURNAL)


class _Stream:
    """A file, pipe or terminal. Others may share it, and would share O_NONBLOCK."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = _opened_anew(descriptor)
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLOUT)

    def write(self, data: bytes) -> int:
        # What polls as writable has room for PIPE_BUF (pipe(7)), unless somebody else was faster: see _opened_anew.
        return os.write(self._descriptor, data[: select.PIPE_BUF]) if self._poll.poll(0) else 0


def _opened_anew(descriptor: int) -> int:
    """The same pipe or terminal with flags of our own; as it is, where that cannot be had.

    A regular file stays as it is: it has an offset that others share, and never has anybody wait for a reader.
    """
    kind = stat.S_IFMT(os.fstat(descriptor).st_mode)
    if kind in (stat.S_IFIFO, stat.S_IFCHR):
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        try:
            return os.open(f"/proc/self/fd/{descriptor}", flags)
        except OSError:  # no /proc, or somebody else's
            pass
    return descriptor


def _datagram(program: str, level: int, event: str, text: str, fields: dict[str, str | int]) -> bytes:
    lines = [f"MESSAGE={text}", f"PRIORITY={level}", f"SYSLOG_IDENTIFIER={program}", f"XDROPD_EVENT={event}"]
    lines += (f"XDROPD_{name.upper()}={names.printable(str(value))}" for name, value in fields.items())
    return ("\n".join(lines) + "\n").encode()


def _stderr_is_journal() -> bool:
    """Whether standard error is the journal's stream: JOURNAL_STREAM names its device and inode."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    status = os.fstat(_STANDARD_ERROR)
    return (device, inode) == (str(status.st_dev), str(status.st_ino))
