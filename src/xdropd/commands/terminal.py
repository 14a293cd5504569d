"""The terminal while `top` has it: whole screens drawn, keys read one by one, and everything as it was afterwards.

ECMA-48 and termios(3); alternate screen, cursor and line wrap as xterm has them. What is drawn is not known here.
"""

import os
import re
import select
import signal
import sys
import termios
import tty

_ENTER_SCREEN, _LEAVE_SCREEN = "\x1b[?1049h\x1b[?7l\x1b[?25l", "\x1b[?7h\x1b[?25h\x1b[?1049l"
_HOME, _CLEAR_LINE, _CLEAR_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"

_KEY = re.compile(rb"\x1b[\[O][0-9;]*[ -~]|.", re.DOTALL)


class Terminal:
    """The terminal, key by key and without echo while this is entered. Leaves it as it was, whatever happens inside."""

    _typed = b""

    def __enter__(self) -> "Terminal":
        self._keys = os.open("/dev/tty", os.O_RDONLY | os.O_CLOEXEC)
        self._before = termios.tcgetattr(self._keys)
        self._handler = signal.signal(signal.SIGTERM, self._end)
        tty.setcbreak(self._keys)
        modes = termios.tcgetattr(self._keys)
        modes[6][termios.VSUSP] = b"\0"  # a stopped top would leave the terminal like this
        termios.tcsetattr(self._keys, termios.TCSANOW, modes)
        sys.stdout.write(_ENTER_SCREEN)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGTERM, self._handler)
        termios.tcsetattr(self._keys, termios.TCSAFLUSH, self._before)
        os.close(self._keys)
        sys.stdout.write(_LEAVE_SCREEN)
        sys.stdout.flush()

    @staticmethod
    def _end(number: int, _frame: object) -> None:
        sys.exit(128 + number)

    @staticmethod
    def size() -> tuple[int, int]:
        """Columns and lines, as they are now."""
        columns, lines = os.get_terminal_size(sys.stdout.fileno())
        return columns or 80, lines or 24

    @staticmethod
    def draw(lines: list[str]) -> None:
        """Show lines over what was there: no flicker. Each is cleared first, or a full one would lose its end."""
        sys.stdout.write(_HOME + "\n".join(_CLEAR_LINE + line for line in lines) + _CLEAR_BELOW)
        sys.stdout.flush()

    def key(self, seconds: float) -> bytes | None:
        """The next key, as the terminal sends it; None after so many seconds without one."""
        if not self._typed:
            ready, _, _ = select.select([self._keys], [], [], max(0.0, seconds))
            self._typed = os.read(self._keys, 64) if ready else b""
        match = _KEY.match(self._typed)
        if match is None:
            return None
        self._typed = self._typed[match.end() :]
        return match[0]
