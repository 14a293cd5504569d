"""How far the daemon is: whether it is ready, and what it is about, for whoever waits for it."""

import time

from xdropd.host.systemd import Systemd


class Progress:
    """`text` says what is being done; "" when nothing is that takes long."""

    def __init__(self, systemd: Systemd) -> None:
        self.text = "starting"
        self._systemd = systemd
        self._ready_at = float("inf")

    @property
    def is_ready(self) -> bool:
        """Whether the start is over: from then on a filter is looked after, and nothing outside is a reason to end."""
        return self._ready_at < float("inf")

    @property
    def ready_for_s(self) -> float:
        """For how long it has been ready; 0 before that."""
        return max(0.0, time.monotonic() - self._ready_at)

    def say(self, text: str) -> None:
        """Something is being done, which the service manager is told now and then; "" when it is over."""
        self.text = text

    def show(self, text: str) -> None:
        """Something begins."""
        self.text = text
        self._systemd.status(text)

    def note_ready(self) -> None:
        """The start is over."""
        self.text = ""
        self._ready_at = time.monotonic()
