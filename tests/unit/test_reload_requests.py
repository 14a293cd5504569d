"""Whoever asks for a reload is told how that one went, however late the answer is fetched.

The daemon's own loop, with files that are refused: that much of a reload needs no kernel.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from xdropd.control.requests import Requests
from xdropd.daemon.loop import Loop
from xdropd.daemon.parts import Parts, Places
from xdropd.host.control import ControlServer, Reply
from xdropd.host.log import Log
from xdropd.host.systemd import Systemd


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    """Of a daemon that is about to take its turns, filtering nothing."""
    places = Places(str(tmp_path / "xdropd.yaml"), str(tmp_path / "blocklist.yaml"), None, ("nothing",))
    made = Parts(places, Systemd(), Log())
    made.progress.note_ready()
    return made


def test_each_is_told_its_own_result(parts: Parts, tmp_path: Path) -> None:
    loop, requests = Loop(parts), Requests(parts)
    server = ControlServer(tmp_path / "socket", requests, parts.log.bug)
    asked: list[tuple[int, Iterator[Reply | None]]] = []
    try:
        for line in (2, 4):
            (tmp_path / "blocklist.yaml").write_text("block:\n" + "#\n" * (line - 2) + "  - nonsense\n")
            answer = requests({"verb": "reload"})
            assert next(answer) is None
            asked.append((line, answer))
            while parts.wanted or loop._job:
                loop._turn(server)
        for line, answer in asked:
            reply = next(answer)
            assert reply is not None
            assert [problem["line"] for problem in reply["result"]["problems"]] == [line]
    finally:
        parts.following._watcher.close()
        server.close()
