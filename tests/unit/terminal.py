"""A process on a terminal of its own, and what it shows there."""

import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from typing import Any

from waiting import wait_until


class Terminal:
    """A process on a terminal of its own; `frame` is the last whole screen that it drew."""

    def __init__(self, command: list[Any], columns: int, lines: int, environment: dict[str, str]) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.before = termios.tcgetattr(slave)
        self._slave = slave
        self.process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", *command], stdin=slave, stdout=slave, stderr=slave, env=environment
        )
        self._output = b""
        os.set_blocking(self._master, False)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._slave)
        os.close(self._master)

    @property
    def output(self) -> str:
        with contextlib.suppress(BlockingIOError, OSError):
            while more := os.read(self._master, 1 << 16):
                self._output += more
        return self._output.decode()

    @property
    def frame(self) -> list[str]:
        """Lines of the last screen that is complete, without colours."""
        frames = self.output.split("\x1b[H")[1:]
        whole = [frame for frame in frames if "\x1b[J" in frame]
        text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", whole[-1].partition("\x1b[J")[0]) if whole else ""
        return text.split("\r\n")

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def modes(self) -> list[Any]:
        return termios.tcgetattr(self._slave)

    def end(self) -> int:
        """Its exit status. The terminal is read meanwhile: nobody can leave one that does not take their last words."""
        wait_until(lambda: self.output is not None and self.process.poll() is not None, within_s=10)
        return self.process.returncode
