"""The control socket: a Unix stream socket, one request a connection, JSON lines, protocol version 1.

A request is one line, {"version": 1, "verb": ..., ...}. The answer is lines: {"row": ...} and {"progress": ...} any
number of times, then {"result": ...} or {"error": sentence, "kind": word, "problems": [...]} as the last. Described for
users in docs/protocol.md.
Nothing that arrives here can hold up or end the loop: sizes, times and the number of connections are bounded, and an
answer is made only as fast as it is read. The meaning of verbs is the handler's.
"""

import contextlib
import fcntl
import gc
import grp
import json
import os
import select
import selectors
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from xdropd.errors import AlreadyRunning, BadRequest, XdropdError

PROTOCOL_VERSION = 1
GROUP = "_xdropd"

_REQUEST_BYTES_AT_MOST = 4 << 20  # 200,000 entries; parsing the worst of it takes an eighth of a second
_CONNECTIONS_AT_MOST = 128
_SILENCE_SECONDS = 10.0  # without a whole request
_PATIENCE_SECONDS = 600.0  # with a reader: somebody looks at a list in a pager
_ACCEPTED_A_TURN = 64
_CHUNK_BYTES = 1 << 16
_LINES_A_TURN = 256

_TO_JSON = json.JSONEncoder(separators=(",", ":"))

Reply = Mapping[str, Any]
Handler = Callable[[Mapping[str, Any]], Iterator[Reply | None]]


class ControlServer:
    """Listens at `path`. `handler(request)` yields replies, None where it is not ready yet, or raises XdropdError.

    Raises AlreadyRunning if another daemon holds the socket, OSError if the place cannot be used.
    """

    def __init__(self, path: Path, handler: Handler, bug: Callable[[BaseException], None]) -> None:
        self._handler = handler
        self._bug = bug
        self._path = path
        self._connections: dict[int, _Connection] = {}
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        self._lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise AlreadyRunning(f"another xdropd answers on {path}", "stop it, or choose another --socket") from None
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        before = os.umask(0o117)
        try:
            self._listener.bind(str(path))
        finally:
            os.umask(before)
        with contextlib.suppress(KeyError, PermissionError):  # no such group, or we are in it and not root
            os.chown(path, -1, grp.getgrnam(GROUP).gr_gid)
        self._listener.listen(128)

    def register(self, selector: selectors.BaseSelector) -> None:
        """Have connections accepted and served by `selector`; its events' data is a callable without arguments."""
        self._selector = selector
        selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def wants_a_turn(self) -> bool:
        """Whether an answer waits for the handler rather than for its reader."""
        return any(connection.is_waiting for connection in self._connections.values())

    def turn(self) -> None:
        """Go on with answers that wait for the handler, and drop connections that have been silent for long."""
        now = time.monotonic()
        for connection in list(self._connections.values()):
            if connection.is_waiting:
                connection.go_on()
            elif now - connection.active_at > (_PATIENCE_SECONDS if connection.is_answered else _SILENCE_SECONDS):
                connection.close()

    def close(self) -> None:
        """Stop listening, drop every connection and remove the socket."""
        for connection in list(self._connections.values()):
            connection.close()
        self._listener.close()
        self._path.unlink(missing_ok=True)
        os.close(self._lock)

    def _accept(self) -> None:
        for _ in range(_ACCEPTED_A_TURN):
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return  # nobody is left, gone again, or no descriptors: they will be back
            if len(self._connections) >= _CONNECTIONS_AT_MOST:
                min(self._connections.values(), key=_Connection.worth).close()
            connection = _Connection(peer, self._selector, self._answers, self._forget)
            self._connections[peer.fileno()] = connection

    def _forget(self, descriptor: int) -> None:
        del self._connections[descriptor]

    def _answers(self, line: bytes) -> Iterator[bytes | None]:
        try:
            for reply in self._handler(_request_in(line)):
                yield None if reply is None else _line_of(reply)
        except XdropdError as problem:
            said: dict[str, Any] = {"error": str(problem), "kind": type(problem).__name__}
            problems = [each.as_json() for each in getattr(problem, "problems", [])]
            yield _line_of({**said, "problems": problems} if problems else said)
        except Exception as bug:  # noqa: BLE001  # a bug in one verb must not end the daemon; it is logged whole
            self._bug(bug)
            yield _line_of({"error": f"a bug in xdropd: {type(bug).__name__}: {bug}", "kind": "Bug"})


def _line_of(reply: Reply) -> bytes:
    return _TO_JSON.encode(reply).encode() + b"\n"


def _request_in(line: bytes) -> Mapping[str, Any]:
    if len(line) > _REQUEST_BYTES_AT_MOST:
        raise BadRequest(
            f"the request is larger than {_REQUEST_BYTES_AT_MOST >> 20} MiB",
            "make several of it, or put the entries into a list file",
        )
    collects_garbage = gc.isenabled()
    gc.disable()  # there are no cycles in JSON, and looking for them is most of the time that a large request takes
    try:
        request = json.loads(line)
    except (ValueError, RecursionError) as problem:
        raise BadRequest(f"the request is not JSON: {problem}") from None
    finally:
        if collects_garbage:
            gc.enable()
    if not isinstance(request, dict) or not isinstance(request.get("verb"), str):
        raise BadRequest('a request is an object with a "verb"')
    if request.get("version") != PROTOCOL_VERSION:
        raise BadRequest(f"this daemon speaks protocol version {PROTOCOL_VERSION}, not {request.get('version')!r}")
    return request


class _Connection:
    """One request and its answer."""

    def __init__(
        self,
        peer: socket.socket,
        selector: selectors.BaseSelector,
        answers: Callable[[bytes], Iterator[bytes | None]],
        forget: Callable[[int], None],
    ) -> None:
        self._peer = peer
        self._descriptor = peer.fileno()
        self._selector = selector
        self._answers = answers
        self._forget = forget
        self._received = bytearray()
        self._to_send = b""
        self._replies: Iterator[bytes | None] | None = None
        self._is_closed = False
        self.is_waiting = False
        self.active_at = time.monotonic()
        peer.setblocking(False)
        selector.register(peer, selectors.EVENT_READ, self._read)

    @property
    def is_answered(self) -> bool:
        """Whether the whole request is here."""
        return self._replies is not None

    def worth(self) -> tuple[bool, float]:
        """Where places are short, the least goes first: who has not asked yet, then who was silent for longest."""
        return self.is_answered, self.active_at

    def close(self) -> None:
        """Hang up. Events of this turn may still arrive for it and find nothing to do."""
        if self._is_closed:
            return
        self._is_closed = True
        if not self.is_waiting:
            self._selector.unregister(self._peer)
        self._peer.close()
        self._forget(self._descriptor)

    def _read(self) -> None:
        if self._is_closed:
            return
        self.active_at = time.monotonic()
        try:
            chunk = self._peer.recv(_CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        if not chunk:
            self.close()
            return
        seen = len(self._received)
        self._received += chunk
        end = self._received.find(b"\n", seen)
        if end < 0 and len(self._received) <= _REQUEST_BYTES_AT_MOST:
            return
        line = bytes(self._received[: end if end >= 0 else None])
        self._received = bytearray()
        self._replies = self._answers(line)
        self._selector.modify(self._peer, selectors.EVENT_WRITE, self.go_on)
        self.go_on()

    def go_on(self) -> None:
        """Send what can be sent, make more of the answer when all is sent."""
        if self._is_closed:
            return
        if self.is_waiting and self._is_gone():
            self.close()
            return
        self.active_at = time.monotonic()
        self._set_waiting(False)
        try:
            if self._to_send:
                self._to_send = self._to_send[self._peer.send(self._to_send) :]
            if self._to_send:
                return
            assert self._replies is not None
            lines: list[bytes] = []
            for _ in range(_LINES_A_TURN):
                line = next(self._replies, _END)
                if line is None:
                    self._set_waiting(True)
                    break
                if line is _END:
                    if not lines:
                        self.close()
                        return
                    break
                lines.append(line)
            self._to_send = b"".join(lines)
            if self._to_send:
                self._to_send = self._to_send[self._peer.send(self._to_send) :]
        except BlockingIOError:
            return
        except OSError:
            self.close()

    def _set_waiting(self, waiting: bool) -> None:
        """While the handler is waited for, the peer's events mean nothing; whether it is still there is asked for."""
        if waiting and not self.is_waiting:
            self._selector.unregister(self._peer)
        elif self.is_waiting and not waiting:
            self._selector.register(self._peer, selectors.EVENT_WRITE, self.go_on)
        self.is_waiting = waiting

    def _is_gone(self) -> bool:
        """Whether the peer has closed the socket; having said all (shutdown(2) for writing) is not the same."""
        poll = select.poll()
        poll.register(self._peer, 0)
        return any(events & (select.POLLHUP | select.POLLERR) for _, events in poll.poll(0))


_END = b""
