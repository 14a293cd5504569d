"""How long a daemon at work lets a caller wait: `status` over the control socket, again and again, from a thread."""

import time
from threading import Event, Thread
from typing import Self

from bench.daemon import Daemon
from xdropd.errors import Unavailable

_PAUSE_S = 0.005


class Waiting:
    """`with Waiting(daemon) as waiting:`, then `waiting.longest_s`. While no daemon listens, nothing is waited for.

    Raises on the way out what the daemon answered if it was no status.
    """

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._stop = Event()
        self._failure: BaseException | None = None
        self._thread = Thread(target=self._ask_on, daemon=True)
        self.longest_s = 0.0
        self.answers = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if kind is None and self._failure:
            raise self._failure

    def _ask_on(self) -> None:
        while not self._stop.wait(_PAUSE_S):
            begun = time.monotonic()
            try:
                self._daemon.ask({"verb": "status"}, wait_s=0)
            except Unavailable:  # not there, or just ending
                continue
            except Exception as failure:  # noqa: BLE001  # told by whoever waits for the thread
                self._failure = failure
                return
            self.longest_s = max(self.longest_s, time.monotonic() - begun)
            self.answers += 1
