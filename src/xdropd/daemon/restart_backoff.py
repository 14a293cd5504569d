"""Restart backoff, under systemd: how soon a daemon that failed is started again.

The unit starts the daemon anew two seconds after any end, for a filter must not give up and what `xdropctl` asks for
must not wait long. A reason that does not mend itself, such as a kernel that refuses the program or a mistake of ours
that some packet brings out, would make that a try every two seconds for ever. So a daemon that fails like the one
before it, at its start or soon after, stays for a while before it ends, longer each time. The filter that it had is in
systemd's store meanwhile. The first failure ends at once: the boot and whoever typed `systemctl start` are told without
delay.

How often it was is kept beside the control socket, where `systemctl stop` removes it. A process that is killed has no
time to note anything, and is started again after two seconds.
"""

import contextlib
import json
import signal
import time
from pathlib import Path

from xdropd.host.systemd import Systemd

_NAME = "failures"
_SECONDS_AT_MOST = 30
_IN_GOOD_HEALTH_SECONDS = 60.0
_ENDINGS = (signal.SIGTERM, signal.SIGINT)


class RestartBackoff:
    """The failures of one service. `folder` outlives a restart."""

    def __init__(self, systemd: Systemd, folder: Path) -> None:
        self._systemd = systemd
        self._file = folder / _NAME

    def failed(self, why: str, ready_for_s: float) -> None:
        """This process has failed: stay, if the one before failed for the same reason. A signal to stop ends that.

        `ready_for_s` is for how long it did its work, 0 if it never began; after a minute of that, it is the first one.
        """
        if not self._systemd.is_there:
            return
        if ready_for_s >= _IN_GOOD_HEALTH_SECONDS:
            self.succeeded()
        seconds = 0
        with contextlib.suppress(OSError):  # then it is the first one
            seconds = self._count(why)
        if not seconds:
            return
        signal.pthread_sigmask(signal.SIG_BLOCK, _ENDINGS)
        self._systemd.patience(2 * _SECONDS_AT_MOST)
        self._systemd.status(f"Failed, tried again in {seconds} s: {why.splitlines()[0]}")
        self._stay(seconds)

    def _stay(self, seconds: float) -> None:
        """Until then, or until a signal to stop. Once a daemon was ready, the watchdog looks at it."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._systemd.alive()
            if signal.sigtimedwait(_ENDINGS, min(left, self._systemd.watchdog_interval_s / 4 or left)):
                return

    def _count(self, why: str) -> int:
        """Note one more failure, and return for how many seconds it is to stay."""
        before, times = "", 0
        with contextlib.suppress(FileNotFoundError, ValueError, TypeError):
            before, times = json.loads(self._file.read_bytes())
        times = times + 1 if before == why else 0
        self._file.write_text(json.dumps([why, times]))
        return min(2**times, _SECONDS_AT_MOST) if times else 0

    def succeeded(self) -> None:
        """Whatever fails next is the first to fail."""
        with contextlib.suppress(OSError):
            self._file.unlink(missing_ok=True)
