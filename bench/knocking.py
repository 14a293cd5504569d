"""One address knocks at several hosts, a packet every few milliseconds: when does the last of them drop it?

All moments are the sender's. Hosts receive on sockets in their namespaces, where what XDP has dropped never arrives.
"""

import socket
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from netns import inside

_EVERY_S = 0.003
_LOST_AFTER_S = 0.05
_PORT = 9


class Target:
    """A host that is knocked at. Its sockets live as long as `stack`."""

    def __init__(self, stack: ExitStack, host: str, address: str, knocker: str, knocks_from: str) -> None:
        with inside(host):
            self._receiver = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        with inside(knocker):
            self._sender = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self._receiver.bind((address, _PORT))
        self._receiver.setblocking(False)
        self._sender.bind((knocks_from, 0))
        self._sender.connect((address, _PORT))
        self._sent_at: list[float] = []
        self._arrived = 0

    def knock(self) -> None:
        """Send a packet that tells its number, and see which one has arrived last."""
        self._sent_at.append(time.monotonic())
        self._sender.send(str(len(self._sent_at)).encode())
        try:
            while True:
                self._arrived = int(self._receiver.recv(16))
        except BlockingIOError:
            pass

    @property
    def arrives(self) -> bool:
        """Whether packets do."""
        return self._arrived > 0 and self.dropped_at is None

    @property
    def dropped_at(self) -> float | None:
        """When the first of those was sent that are lost at the end, by time.monotonic(); None where they arrive."""
        if self._arrived == len(self._sent_at) or time.monotonic() - self._sent_at[self._arrived] < _LOST_AFTER_S:
            return None
        return self._sent_at[self._arrived]


def knock_until(is_so: Callable[[], bool], targets: Sequence[Target], within_s: float) -> bool:
    """Knock at all of them. Whether it became so in time."""
    deadline = time.monotonic() + within_s
    while not is_so():
        if time.monotonic() > deadline:
            return False
        for target in targets:
            target.knock()
        time.sleep(_EVERY_S)
    return True
