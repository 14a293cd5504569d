"""Whoever asks for a reload is told how that one went, however late the answer is fetched.

The daemon's own loop, with files that are refused: that much of a reload needs no kernel.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from xdropd.daemon.loop import Daemon, Places
from xdropd.daemon.requests import Requests
from xdropd.host.control import ControlServer, Reply
from xdropd.host.log import Log
from xdropd.host.systemd import Systemd


@pytest.fixture
def daemon(tmp_path: Path) -> Daemon:
    """A daemon that is about to take its turns, filtering nothing."""
    places = Places(
        str(tmp_path / "xdropd.yaml"), str(tmp_path / "blocklist.yaml"), tmp_path / "socket", None, ("nothing",)
    )
    made = Daemon(places, Systemd(), Log())
    made.is_ready = True
    return made


def test_each_is_told_its_own_result(daemon: Daemon) -> None:
    requests = Requests(daemon)
    server = ControlServer(daemon.places.socket, requests, daemon.telling.log.bug)
    asked: list[tuple[int, Iterator[Reply | None]]] = []
    try:
        for line in (2, 4):
            Path(daemon.places.blocklist).write_text("block:\n" + "#\n" * (line - 2) + "  - nonsense\n")
            answer = requests({"verb": "reload"})
            assert next(answer) is None
            asked.append((line, answer))
            while daemon._wanted_reloads or daemon._job:
                daemon._turn(server)
        for line, answer in asked:
            reply = next(answer)
            assert reply is not None
            assert [problem["line"] for problem in reply["result"]["problems"]] == [line]
    finally:
        daemon._watcher.close()
        server.close()
