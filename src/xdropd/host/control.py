"""The control socket: a Unix stream socket, one request a connection, JSON lines, protocol version 1.

A request is one line, {"version": 1, "verb": ..., ...}; where its "entries" are "follow", lines follow up to an empty
one, and the handler has them as a Spool. The answer is lines: {"row": ...} and {"progress": ...} any
number of times, then {"result": ...} or {"error": sentence, "kind": word, "problems": [...]} as the last. Described for
users in docs/protocol.md.
Nothing that arrives here can hold up or end the loop: sizes, times and the number of connections are bounded, an answer
is made only as fast as it is read, and a turn of all answers together takes no longer than one long step. The meaning
of verbs is the handler's.
"""

import contextlib
import errno
import fcntl
import gc
import grp
import json
import os
import select
import selectors
import socket
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from xdropd.errors import AlreadyRunning, BadRequest, XdropdError
from xdropd.host.spool import Spool
from xdropd.text import names

PROTOCOL_VERSION = 1
GROUP = "_xdropd"

_REQUEST_BYTES_AT_MOST = 4 << 20  # 200,000 entries; parsing the worst of it takes an eighth of a second
_CONNECTIONS_AT_MOST = 128
_SILENCE_SECONDS = 10.0  # without a whole request
_PATIENCE_SECONDS = 600.0  # with a reader: somebody looks at a list in a pager
_ACCEPTED_A_TURN = 64
_CHUNK_BYTES = 1 << 16
_LINES_A_STEP = 256
_BYTES_A_STEP = 1 << 18  # more than a peer takes at once
_STEP_SECONDS = 0.01
_TURN_SECONDS = 0.03  # all answers together; somebody who asks anew is next in line
_WAIT_SECONDS = 0.01  # between looks whether what an answer waits for has come
_LARGE_BYTES = 1 << 14  # requests over this are taken one at a time: parsed, they are many times as large
_RECEIVED_BYTES_AT_MOST = 32 << 20  # of all requests that wait to be taken
_FOLLOWING_BYTES_AT_MOST = 256 << 20  # of lines that follow requests which wait to be taken; one may have them all
_FOLLOWING_CHUNK_BYTES = 1 << 18
_FOLLOWING_SECONDS = 30.0  # for lines, whoever sends them slowly; a second more for each MiB
_FOLLOW = "follow"
_WORD_EVERY_SECONDS = 1.0

_TO_JSON = json.JSONEncoder(separators=(",", ":"))

Reply = Mapping[str, Any]


class Rest(NamedTuple):
    """There is nothing to say until something has happened, or so many seconds are over."""

    has_happened: Callable[[], bool]
    seconds: float


Line = Reply | bytes | Rest | None
"""A reply, many lines that are made already, or None: there is nothing to say yet."""
Handler = Callable[[Mapping[str, Any]], Iterator[Line]]

MORE: Reply = {}  # instead of a line: what follows takes a while, and others may have their turn first


class ControlServer:
    """Listens at `path`. `handler(request)` yields lines, MORE to let others go first, None where it waits for
    something, or raises XdropdError. Where the caller leaves, it is closed as generators are.

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
            raise AlreadyRunning(
                f"another xdropd answers on {names.shown(str(path))}", "stop it, or choose another --socket"
            ) from None
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        before = os.umask(0o117)
        try:
            self._listener.bind(str(path))
        except OSError as problem:  # which does not name the path
            raise OSError(problem.errno or errno.ENAMETOOLONG, problem.strerror or str(problem), str(path)) from problem
        finally:
            os.umask(before)
        with contextlib.suppress(KeyError, PermissionError):  # no such group, or we are in it and not root
            os.chown(path, -1, grp.getgrnam(GROUP).gr_gid)
        self._listener.listen(128)

    def register(self, selector: selectors.BaseSelector) -> None:
        """Have connections accepted and served by `selector`; its events' data is a callable without arguments."""
        self._selector = selector
        selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def idle_s(self) -> float:
        """How long events may be waited for before the next turn: no time where an answer can go on at once."""
        making = [connection for connection in self._connections.values() if connection.is_making]
        due_at = min((connection.rests_until for connection in making), default=float("inf"))
        awake = [connection for connection in making if not connection.is_resting]
        if any(not connection.waits for connection in awake):
            return 0.0
        return _WAIT_SECONDS if awake else max(0.0, due_at - time.monotonic())

    def turn(self) -> None:
        """Go on with the answers for a while, and drop connections that have been silent for long.

        First the one whose last step is longest ago, so that none waits for ever; then those that had fewest steps,
        the latest comer before others, so that a quick question is answered beside any number of long ones.
        """
        begun = time.monotonic()
        latest_first = reversed(self._connections.values())
        awake = (each for each in latest_first if each.is_making and not each.is_resting)
        making = sorted(awake, key=_Connection.steps_taken)
        if making:
            making.insert(0, min(making, key=_Connection.last_step))
        for connection in making:
            self._go_on(connection)
            if time.monotonic() - begun > _TURN_SECONDS:
                break
        for connection in list(self._connections.values()):
            if connection.is_silent(begun):
                connection.close()

    def _go_on(self, connection: "_Connection") -> None:
        """Take a step with an answer. Of the large requests one at a time is taken."""
        if not connection.is_making or connection.is_resting:
            return
        taken = connection.is_taken or not connection.is_large
        if not taken and any(each.is_large and each.is_taken for each in self._connections.values()):
            connection.say_that_it_waits()
        else:
            connection.go_on(self._answers)

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
            connection = _Connection(peer, self._selector, self._heard, self._forget)
            self._connections[peer.fileno()] = connection
            connection.read()  # nearly everybody has asked by now

    def _heard(self, connection: "_Connection") -> None:
        """More of a request has come. What waits to be taken has a bound, and the longest silent give way."""
        if connection.is_large:
            large = [each for each in self._connections.values() if each.is_large and not each.is_taken]
            if sum(each.received_bytes for each in large) > _RECEIVED_BYTES_AT_MOST:
                min(large, key=_Connection.worth).close()
            followed = [each for each in large if each.following_bytes]
            is_alone = len(followed) == 1  # which is told that it is too large
            if not is_alone and sum(each.following_bytes for each in followed) > _FOLLOWING_BYTES_AT_MOST:
                min(followed, key=_Connection.worth).close()

    def _forget(self, descriptor: int) -> None:
        del self._connections[descriptor]

    def _answers(self, line: bytes, spool: Spool | None) -> Iterator[bytes | Rest | None]:
        try:
            request = _request_in(line, spool)
            del line  # an answer can take long, and be one of many
            replies = self._handler(request)
            del request
            yield from map(_said, replies)  # a loop would hold what was said last for as long as nobody reads
        except XdropdError as problem:
            said: dict[str, Any] = {"error": _sayable(str(problem)), "kind": type(problem).__name__}
            problems = [each.as_json() for each in getattr(problem, "problems", [])]
            yield _line_of({**said, "problems": problems} if problems else said)
        except Exception as bug:  # noqa: BLE001  # a bug in one verb must not end the daemon; it is logged whole
            self._bug(bug)
            yield _line_of({"error": _sayable(f"a bug in xdropd: {type(bug).__name__}: {bug}"), "kind": "Bug"})


def _sayable(text: str) -> str:
    """What the request said may be quoted in it."""
    return "\n".join(map(names.printable, text.split("\n")))


def _said(line: Line) -> bytes | Rest | None:
    return line if isinstance(line, bytes | Rest | None) else _line_of(line) if line else b""


def _line_of(reply: Reply) -> bytes:
    return _TO_JSON.encode(reply).encode() + b"\n"


def _is_followed(line: bytearray) -> bool:
    """Whether lines follow a request, which is short then."""
    if len(line) > _LARGE_BYTES or b'"follow"' not in line:
        return False
    try:
        return bool(_request_in(bytes(line)).get("entries") == _FOLLOW)
    except BadRequest:  # which is answered
        return False


def _request_in(line: bytes, spool: Spool | None = None) -> Mapping[str, Any]:
    """What a line asks for, with the lines that followed it."""
    if spool and spool.size > _FOLLOWING_BYTES_AT_MOST:
        raise BadRequest(f"more than {_FOLLOWING_BYTES_AT_MOST >> 20} MiB follow the request")
    if len(line) > _REQUEST_BYTES_AT_MOST:
        raise BadRequest(
            f"the request is larger than {_REQUEST_BYTES_AT_MOST >> 20} MiB",
            'have the entries follow as lines ("entries": "follow")',
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
    return {**request, "entries": spool} if spool else request


class _Connection:
    """One request and its answer: read from the peer, then made in steps, sent as fast as it is read."""

    def __init__(
        self,
        peer: socket.socket,
        selector: selectors.BaseSelector,
        heard: Callable[["_Connection"], None],
        forget: Callable[[int], None],
    ) -> None:
        self._peer = peer
        self._descriptor = peer.fileno()
        self._selector = selector
        self._heard = heard
        self._forget = forget
        self._received = bytearray()
        self._spool: Spool | None = None  # of lines that follow
        self._follows_since = 0.0
        self._is_whole = False
        self._to_send = b""
        self._replies: Iterator[bytes | Rest | None] | None = None
        self._is_closed = False
        self._watches: int | None = None  # events of the selector
        self._steps = 0
        self._next_word_at = float("inf")
        self._rest: Rest | None = None
        self.rests_until = float("inf")
        self.waits = False
        self.is_large = False
        self.active_at = time.monotonic()
        peer.setblocking(False)
        self._watch(selectors.EVENT_READ)

    @property
    def is_making(self) -> bool:
        """Whether more of an answer can be made: the request is here, and what there was to say is sent."""
        return self._is_whole and self._watches is None and not self._is_closed

    @property
    def is_resting(self) -> bool:
        """Whether there is nothing to say yet, and it is known when there will be."""
        return self._rest is not None and time.monotonic() < self.rests_until and not self._rest.has_happened()

    @property
    def is_taken(self) -> bool:
        """Whether its answer has been begun."""
        return self._replies is not None

    @property
    def received_bytes(self) -> int:
        """How much of a request is here and not yet taken."""
        return len(self._received)

    @property
    def following_bytes(self) -> int:
        """How much of the lines that follow a request is here."""
        return self._spool.size if self._spool else 0

    def steps_taken(self) -> int:
        """How often there was something done for it."""
        return self._steps

    def last_step(self) -> float:
        """When there was last something done for it."""
        return self.active_at

    def worth(self) -> tuple[bool, float]:
        """Where places are short, the least goes first: who has not asked yet, then who was silent for longest."""
        return self._is_whole or self._has_news(), self.active_at

    def is_silent(self, now: float) -> bool:
        """Whether nothing has come or gone for too long. We may have been the ones who did not listen: look first."""
        limit_s = _PATIENCE_SECONDS if self._is_whole else _SILENCE_SECONDS
        is_over = now - self.active_at > limit_s
        if self._spool and not self._is_whole:
            is_over |= now - self._follows_since > _FOLLOWING_SECONDS + self._spool.size / (1 << 20)
        return not self.is_making and is_over and not self._has_news()

    def close(self) -> None:
        """Hang up. Events of this turn may still arrive for it and find nothing to do."""
        if self._is_closed:
            return
        self._is_closed = True
        self._watch(None)
        self._peer.close()
        self._forget(self._descriptor)
        if isinstance(self._replies, Generator):
            self._replies.close()
        if self._spool:
            self._spool.close()

    def read(self) -> None:
        """Take what has come of the request."""
        if self._is_closed:
            return
        self.active_at = time.monotonic()
        try:
            chunk = self._peer.recv(_FOLLOWING_CHUNK_BYTES if self._spool else _CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        if not chunk:
            self.close()
            return
        if self._spool is None:
            chunk = self._take_request(chunk)
        if self._spool is not None:
            self._take_following(self._spool, chunk)
        if self._is_closed:
            return
        if self._is_whole:
            self._next_word_at = self.active_at + _WORD_EVERY_SECONDS
            self._watch(None)
        self.is_large = self._spool is not None or len(self._received) > _LARGE_BYTES
        self._heard(self)

    def _take_request(self, chunk: bytes) -> bytes:
        """More of the line that is the request; what stands behind it."""
        seen = len(self._received)
        self._received += chunk
        end = self._received.find(b"\n", seen)
        rest = b""
        if end >= 0:
            rest = bytes(self._received[end + 1 :])
            del self._received[end:]
        self._is_whole = end >= 0 or len(self._received) > _REQUEST_BYTES_AT_MOST
        if self._is_whole and _is_followed(self._received):
            self._is_whole, self._spool, self._follows_since = False, Spool(), self.active_at
        return rest

    def _take_following(self, spool: Spool, chunk: bytes) -> None:
        """More of the lines that follow."""
        try:
            spool.add(chunk)
        except OSError:  # there is no memory for it
            self.close()
            return
        self._is_whole = spool.is_whole or spool.size > _FOLLOWING_BYTES_AT_MOST

    def say_that_it_waits(self) -> None:
        """Instead of a step: others are before it, and the peer should know that it is not forgotten."""
        self.waits = True
        if self._is_gone():
            self.close()
        elif time.monotonic() >= self._next_word_at:
            self._next_word_at = time.monotonic() + _WORD_EVERY_SECONDS
            self._send(_line_of({"progress": "waiting for other requests"}))

    def go_on(self, answers: Callable[[bytes, Spool | None], Iterator[bytes | Rest | None]]) -> None:
        """Make more of the answer, for a moment, and send it."""
        if self.waits and self._is_gone():
            self.close()
            return
        begun = self.active_at = time.monotonic()
        if self._replies is None:
            request, self._received = bytes(self._received), bytearray()
            self._replies = answers(request, self._spool)
            del request
        self.waits, self._rest, self.rests_until = False, None, float("inf")
        lines: list[bytes] = []
        is_over, size = False, 0
        for _ in range(_LINES_A_STEP):
            line = next(self._replies, _END)
            is_over = line is _END
            if isinstance(line, Rest):
                self._rest, self.rests_until = line, time.monotonic() + line.seconds
            if line is None or isinstance(line, Rest) or is_over:
                self.waits = not is_over
                break
            lines.append(line)
            size += len(line)
            if not line or size > _BYTES_A_STEP or time.monotonic() - begun > _STEP_SECONDS:
                break
        self._steps += 1
        if said := b"".join(lines):
            self.is_large &= said.startswith(b'{"progress"')  # what it asked for is done
            self._send(said)
        elif is_over:
            self.close()

    def _send(self, lines: bytes) -> None:
        """As much as the peer takes now; it is asked for more once the rest is gone as well."""
        try:
            self._to_send = lines[self._peer.send(lines) :]
        except BlockingIOError:
            self._to_send = lines
        except OSError:
            self.close()
            return
        self._watch(selectors.EVENT_WRITE if self._to_send else None)

    def _go_on_sending(self) -> None:
        if self._is_closed:
            return
        self.active_at = time.monotonic()
        self._send(self._to_send)

    def _watch(self, events: int | None) -> None:
        """Hear of the peer: its request, that it takes more of the answer, or nothing while that is made."""
        if events == self._watches:
            return
        if self._watches is not None:
            self._selector.unregister(self._peer)
        if events is not None:
            reading = events == selectors.EVENT_READ
            self._selector.register(self._peer, events, self.read if reading else self._go_on_sending)
        self._watches = events

    def _has_news(self) -> bool:
        """Whether the peer has said or taken something that was not looked at yet."""
        return bool(self._polled(select.POLLOUT if self._is_whole else select.POLLIN))

    def _is_gone(self) -> bool:
        """Whether the peer has closed the socket; having said all (shutdown(2) for writing) is not the same."""
        return bool(self._polled(0) & (select.POLLHUP | select.POLLERR))

    def _polled(self, events: int) -> int:
        poll = select.poll()
        poll.register(self._peer, events)
        return next((found for _, found in poll.poll(0)), 0)


_END = b"the end"
