"""How soon a start that failed is tried again, under systemd.

The unit starts the daemon anew two seconds after any end, for a filter must not give up and what `xdropctl` asks for
must not wait long. A reason that does not mend itself, such as a kernel that refuses the program, would make that a
try every two seconds for ever. So a start that fails like the one before it stays for a while before it ends, longer
each time. The first failure ends at once: the boot and whoever typed `systemctl start` are told without delay.

How often it was is kept beside the control socket, where `systemctl stop` removes it.
"""

import contextlib
import json
import signal
from pathlib import Path

from xdropd.host.systemd import Systemd

_NAME = "failed-starts"
_SECONDS_AT_MOST = 30
_ENDINGS = (signal.SIGTERM, signal.SIGINT)


class Pace:
    """The starts of one service. `folder` outlives a restart."""

    def __init__(self, systemd: Systemd, folder: Path) -> None:
        self._systemd = systemd
        self._file = folder / _NAME

    def failed(self, why: str) -> None:
        """A start has failed: stay, if the one before failed for the same reason. A signal to stop ends that."""
        if not self._systemd.is_there:
            return
        seconds = 0
        with contextlib.suppress(OSError):  # then it is the first one
            seconds = self._count(why)
        if not seconds:
            return
        signal.pthread_sigmask(signal.SIG_BLOCK, _ENDINGS)
        self._systemd.patience(2 * _SECONDS_AT_MOST)
        self._systemd.status(f"Cannot start, tried again in {seconds} s: {why.splitlines()[0]}")
        signal.sigtimedwait(_ENDINGS, seconds)

    def _count(self, why: str) -> int:
        """Note one more failure, and return for how many seconds it is to stay."""
        before, times = "", 0
        with contextlib.suppress(FileNotFoundError, ValueError):
            before, times = json.loads(self._file.read_bytes())
        times = times + 1 if before == why else 0
        self._file.write_text(json.dumps([why, times]))
        return min(2**times, _SECONDS_AT_MOST) if times else 0

    def succeeded(self) -> None:
        """The daemon is ready."""
        with contextlib.suppress(OSError):
            self._file.unlink(missing_ok=True)
