"""A daemon that says what a test wants: a real control server in a thread, with answers instead of a filter."""

import os
import selectors
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from xdropd.host.control import ControlServer, Reply

SOURCE = Path(__file__).parents[2] / "src"
XDROPCTL = [sys.executable, "-m", "xdropd.commands.xdropctl"]

Answers = Callable[[Mapping[str, Any]], Iterator[Reply | None]]

ROW: dict[str, Any] = {
    "entry": "203.0.113.0/24",
    "source": "/etc/xdrop/blocklist.yaml",
    "line": 12,
    "reason": "ssh brute force",
    "since": "2026-12-01T02:00:00Z",
    "until": None,
    "packets": 1234,
    "bytes": 56789,
    "last_seen": "2026-12-01T02:59:56Z",
    "action": "block",
}
STATUS: dict[str, Any] = {
    "state": "enforcing",
    "degraded": False,
    "troubles": [],
    "version": "1.0.0",
    "ready": True,
    "progress": "",
    "interfaces": [{"name": "eth0", "mode": "native", "program_id": 42, "why": None}],
    "waiting": [],
    "entries": {"ipv4": 1204, "ipv6": 1, "networks": 3, "monitored": 0, "allowed": 2},
    "packets": {"passed": 1000000, "dropped": 1234, "malformed": 0, "replies": 0},
    "bytes": {"passed": 5000000, "dropped": 56789, "malformed": 0, "replies": 0},
    "reload": {"at": "2026-12-01T02:59:00Z", "ok": True, "problems": []},
    "narrowed": [],
    "sources": [],
}


class Spoken:
    """A control server whose verbs answer what the test puts into `answers`. `requests` is what came, in order."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answers: dict[str, Reply | list[Reply] | Answers] = {}
        self.requests: list[Mapping[str, Any]] = []
        self.bugs: list[BaseException] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._there = threading.Event()

    def __enter__(self) -> "Spoken":
        self._thread.start()
        assert self._there.wait(5)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        assert self.bugs == []

    def _serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            server = ControlServer(self.path, self._answer, self.bugs.append)
            server.register(selector)
            self._there.set()
            while not self._stop.is_set():
                for key, _ in selector.select(0.01):
                    key.data()
                server.turn()
            server.close()

    def _answer(self, request: Mapping[str, Any]) -> Iterator[Reply | None]:
        self.requests.append(request)
        answer = self.answers[request["verb"]]
        if callable(answer):
            yield from answer(request)
        else:
            yield from answer if isinstance(answer, list) else [answer]


def environment(**more: str) -> dict[str, str]:
    keep = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "TERM")}
    return {**keep, "PYTHONPATH": str(SOURCE), "PYTHONIOENCODING": "utf-8", "TERM": "xterm", **more}
