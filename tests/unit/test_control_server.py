"""The control socket's own bounds: whose turn it is, who is hung up on, and what is kept for whom."""

import contextlib
import json
import select
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from waiting import wait_until
from xdropd.commands import client
from xdropd.host import control
from xdropd.host.control import MORE, ControlServer, Reply, Rest

Handler = Callable[[Mapping[str, Any]], Iterator[Reply | Rest | None]]


class Turns:
    """A server whose turns a test takes itself, one by one."""

    def __init__(self, path: Path, handler: Handler) -> None:
        self.path = path
        self._selector = selectors.DefaultSelector()
        self.bugs: list[BaseException] = []
        self.server = ControlServer(path, handler, self.bugs.append)
        self.server.register(self._selector)

    def events(self) -> None:
        """What the loop does of a turn before its own work."""
        for key, _ in self._selector.select(0.01):
            key.data()

    def turn(self) -> None:
        self.events()
        self.server.turn()

    def connected(self) -> socket.socket:
        peer = socket.socket(socket.AF_UNIX)
        peer.connect(str(self.path))
        peer.settimeout(5)
        return peer

    def close(self) -> None:
        self.server.close()
        self._selector.close()
        assert self.bugs == []


@pytest.fixture
def turns(tmp_path: Path) -> Iterator[Callable[[Handler], Turns]]:
    with contextlib.ExitStack() as stack:

        def begin(handler: Handler) -> Turns:
            made = Turns(tmp_path / "control.sock", handler)
            stack.callback(made.close)
            return made

        yield begin


def request(verb: str, **fields: object) -> bytes:
    return json.dumps({"version": 1, "verb": verb, **fields}).encode() + b"\n"


def at_once(_request: Mapping[str, Any]) -> Iterator[Reply | None]:
    yield {"result": {}}


def has_answer(server: Turns, peer: socket.socket) -> bool:
    server.turn()
    return bool(select.select([peer], [], [], 0)[0]) and b"result" in peer.recv(1 << 16, socket.MSG_PEEK)


def test_who_spoke_while_nobody_listened_is_heard(
    turns: Callable[[Handler], Turns], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop takes a connection, works for longer than silence may last, and finds the request there."""
    monkeypatch.setattr(control, "_SILENCE_SECONDS", 0.0)
    server = turns(at_once)
    with server.connected() as speaks, server.connected() as is_silent:
        server.events()
        speaks.sendall(request("status"))
        server.server.turn()
        wait_until(lambda: has_answer(server, speaks), within_s=5)
        assert is_silent.recv(1) == b""


def test_who_spoke_while_nobody_listened_keeps_its_place(
    turns: Callable[[Handler], Turns], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "_CONNECTIONS_AT_MOST", 2)
    server = turns(at_once)
    with server.connected() as first, server.connected() as second:
        server.events()
        first.sendall(request("status"))
        with server.connected() as third:
            third.sendall(request("status"))
            wait_until(lambda: has_answer(server, third), within_s=5)
            wait_until(lambda: has_answer(server, first), within_s=5)
        assert second.recv(1) == b"", "it had not said anything"


def test_a_quick_question_beside_forty_long_answers(
    turns: Callable[[Handler], Turns], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the time of this thread alone, whatever else the machine does."""
    monkeypatch.setattr(control, "time", SimpleNamespace(monotonic=time.thread_time))
    steps: dict[str, int] = {}

    def answer(asked: Mapping[str, Any]) -> Iterator[Reply | None]:
        while asked["verb"] != "status":
            yield MORE
            steps[asked["who"]] = steps.get(asked["who"], 0) + 1
            begun = time.thread_time()
            while time.thread_time() < begun + control._STEP_SECONDS:
                pass
        yield {"result": {}}

    server = turns(answer)
    with contextlib.ExitStack() as stack:
        for at in range(40):
            peer = stack.enter_context(server.connected())
            peer.sendall(request("top", who=str(at)))
            server.events()
        for _ in range(4):
            server.turn()
        with server.connected() as asks:
            asks.sendall(request("status"))
            server.events()
            assert has_answer(server, asks), "it is in front at its first turn"
        for _ in range(40):
            server.turn()
        assert len(steps) == 40, "everybody has a turn now and then"


@pytest.mark.threat_model
def test_large_requests_are_taken_one_at_a_time(turns: Callable[[Handler], Turns]) -> None:
    under_way: list[str] = []
    done: list[str] = []

    def answer(asked: Mapping[str, Any]) -> Iterator[Reply | None]:
        under_way.append(asked["who"])
        while asked["who"] not in done:
            yield None
        yield {"result": {}}

    server = turns(answer)
    with contextlib.ExitStack() as stack:
        peers = {who: stack.enter_context(server.connected()) for who in "abc"}
        for who, peer in peers.items():
            peer.sendall(request("block", who=who, entries=["192.0.2.1"] * 2000))
        for _ in range(20):
            server.turn()
        (first,) = under_way
        peers.pop(next(who for who in peers if who != first)).close()  # leaves while it waits
        done.append(first)
        wait_until(lambda: has_answer(server, peers[first]), within_s=5)
        wait_until(lambda: server.turn() or len(under_way) == 2, within_s=5)
        done.append(under_way[-1])
        wait_until(lambda: has_answer(server, peers[under_way[-1]]), within_s=5)


@pytest.mark.threat_model
def test_what_waits_to_be_taken_has_a_bound(turns: Callable[[Handler], Turns], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "_RECEIVED_BYTES_AT_MOST", 1 << 20)
    server = turns(at_once)
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(server.connected()) for _ in range(32)]
        for peer in peers:
            peer.setblocking(False)
            for _ in range(3):
                with contextlib.suppress(BrokenPipeError, BlockingIOError, ConnectionResetError):
                    peer.send(b"x" * (1 << 16))
                server.turn()
        kept = sum(each.received_bytes for each in server.server._connections.values())
        assert 1 << 19 < kept <= 1 << 20
        with server.connected() as asks:
            asks.sendall(request("status"))
            wait_until(lambda: has_answer(server, asks), within_s=5)


@pytest.mark.threat_model
def test_lines_that_follow_have_a_bound_and_must_come(
    turns: Callable[[Handler], Turns], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several who send much, the longest silent gives way; who sends one byte now and then is hung up on."""
    monkeypatch.setattr(control, "_FOLLOWING_BYTES_AT_MOST", 1 << 20)
    server = turns(at_once)
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(server.connected()) for _ in range(12)]
        for peer in peers:
            peer.sendall(request("replace", entries="follow"))
            peer.setblocking(False)
            for _ in range(4):
                with contextlib.suppress(BrokenPipeError, BlockingIOError, ConnectionResetError):
                    peer.send(b"192.0.2.1\n" * 6000)
                server.turn()
        kept = sum(each.following_bytes for each in server.server._connections.values())
        assert 1 << 19 < kept <= 1 << 20
    wait_until(lambda: server.turn() or not server.server._connections, within_s=5)
    with server.connected() as alone:
        alone.sendall(request("replace", entries="follow"))
        for _ in range(30):
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                alone.sendall(b"192.0.2.1\n" * 6000)
            server.turn()
        wait_until(lambda: server.turn() or select.select([alone], [], [], 0)[0], within_s=5)
        assert b"MiB follow the request" in alone.recv(1 << 16)
    monkeypatch.setattr(control, "_FOLLOWING_SECONDS", 0.2)
    with server.connected() as slow:
        slow.sendall(request("replace", entries="follow"))

        def is_hung_up_on() -> bool:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                slow.send(b"1")
            server.turn()
            server.turn()
            return bool(select.select([slow], [], [], 0)[0])

        wait_until(is_hung_up_on, within_s=5)
        with contextlib.suppress(ConnectionResetError):
            assert slow.recv(1) == b""


def test_an_answer_that_rests_goes_on_when_something_has_happened(turns: Callable[[Handler], Turns]) -> None:
    happened: list[str] = []
    steps: list[int] = []

    def answer(_asked: Mapping[str, Any]) -> Iterator[Reply | Rest | None]:
        while not happened:
            steps.append(1)
            yield Rest(lambda: bool(happened), 60)
        yield {"result": {}}

    server = turns(answer)
    with server.connected() as peer:
        peer.sendall(request("watch"))
        wait_until(lambda: server.turn() or steps, within_s=5)
        for _ in range(10):
            server.turn()
        assert len(steps) == 1, "nobody asks it meanwhile"
        assert 50 < server.server.idle_s() <= 60
        happened.append("something")
        assert has_answer(server, peer)


def test_it_waits_five_seconds_from_the_hang_up(tmp_path: Path) -> None:
    """The daemon was there, and stood still for longer than it is waited for."""
    wait_s = 0.2
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        result: list[dict[str, Any]] = []
        asking = threading.Thread(
            target=lambda: result.append(client.ask(str(path), {"verb": "status"}, wait_s=wait_s))
        )
        asking.start()
        stalled, _ = listener.accept()
        asking.join(2 * wait_s)
        stalled.close()
        listener.settimeout(5)
        peer, _ = listener.accept()
        with peer:
            peer.sendall(b'{"result":{"state":"enforcing"}}\n')
        asking.join(5)
    assert result == [{"state": "enforcing"}]
