"""How long a daemon at work lets a caller wait: `status` over the control socket, again and again.

From a process of its own (`python3 -m bench.answers SOCKET`): the bench itself stands still while it makes its lists.
"""

import json
import select
import subprocess
import sys
import time
from functools import cached_property
from typing import Self

from bench.daemon import Daemon
from xdropd.commands import client
from xdropd.errors import Unavailable

_PAUSE_S = 0.005


class Waiting:
    """`with Waiting(daemon) as waiting:`, then `waiting.longest_s`. While no daemon listens, nothing is waited for.

    Whoever reads what was found ends it. Raises CalledProcessError if the daemon answered what is no status.
    """

    def __init__(self, daemon: Daemon) -> None:
        self._command = [sys.executable, "-m", "bench.answers", str(daemon.socket)]

    def __enter__(self) -> Self:
        self._asking = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            assert self._found
        else:
            self._asking.communicate()

    @property
    def longest_s(self) -> float:
        """The longest wait."""
        return self._found[0]

    @property
    def answers(self) -> int:
        """How many there were."""
        return self._found[1]

    @cached_property
    def _found(self) -> tuple[float, int]:
        told = self._asking.communicate()[0]
        if self._asking.returncode:
            raise subprocess.CalledProcessError(self._asking.returncode, self._command)
        longest_s, answers = json.loads(told)
        return longest_s, answers


def _ask_on(socket: str) -> tuple[float, int]:
    """Until standard input ends."""
    longest_s, answers = 0.0, 0
    while not select.select([sys.stdin], [], [], _PAUSE_S)[0]:
        begun = time.monotonic()
        try:
            client.ask(socket, {"verb": "status"}, wait_s=0)
        except Unavailable:  # not there, or just ending
            continue
        longest_s = max(longest_s, time.monotonic() - begun)
        answers += 1
    return longest_s, answers


if __name__ == "__main__":
    print(json.dumps(_ask_on(sys.argv[1])))
