"""Health, as the watchdog of the service manager wants to know it; and whether the manager itself answers."""

from xdropd.daemon.announcing import Announcing
from xdropd.daemon.following import Following
from xdropd.daemon.ownhost import OwnHost
from xdropd.daemon.progress import Progress
from xdropd.daemon.trust import Trust
from xdropd.filter.filter import Filter
from xdropd.host.log import ERROR
from xdropd.host.systemd import Systemd
from xdropd.host.telling import Telling

_PATIENCE_SECONDS = 60
_PATIENCE_EVERY_SECONDS = 1.0
_SILENCE = (
    "the service manager does not read or answer what it is told, so the filter may end when this process does; "
    "see what became of systemd, or start xdropd without NOTIFY_SOCKET"
)


class Health:
    """One daemon's."""

    def __init__(
        self,
        systemd: Systemd,
        kernel: Filter,
        host: OwnHost,
        following: Following,
        trust: Trust,
        announcing: Announcing,
        progress: Progress,
        telling: Telling,
    ) -> None:
        self._systemd = systemd
        self._filter = kernel
        self._host = host
        self._following = following
        self._trust = trust
        self._announcing = announcing
        self._progress = progress
        self._telling = telling
        self._alive_at = self._patience_at = 0.0

    def ask_for_patience(self, now: float) -> None:
        """A start or reload takes as long as it takes; what must not happen is that the loop stands still."""
        if now < self._patience_at:
            return
        self._patience_at = now + _PATIENCE_EVERY_SECONDS
        self._systemd.patience(_PATIENCE_SECONDS)
        if self._progress.text:
            self._systemd.status(self._progress.text)

    def tell_silence(self) -> None:
        """A manager that does not answer may not keep anything either."""
        is_silent = self._systemd.is_silent
        if "store" in self._telling.troubles and not is_silent:
            self._trust.hurry()
        self._telling.trouble("store", _SILENCE if is_silent else "")

    def feed_watchdog(self, now: float) -> None:
        """Only after looking: the program attached, the maps readable, the watcher alive."""
        interval = self._systemd.watchdog_interval_s
        if not interval or now < self._alive_at:
            return
        self._alive_at = now + interval / 4
        problems: list[str] = []
        if self._progress.is_ready and self._filter.problems():
            self._host.sync_interfaces()  # an interface that vanished a moment ago is no reason to be restarted
            self._filter.agree()
            problems = self._filter.problems()
        if not self._following.is_alive:
            problems.append("the watcher of files has died")
        self._telling.each_once("health", ERROR, "health", {problem: {} for problem in problems})
        if not problems:
            self._systemd.alive()
        self._announcing.say_what_is_done()
