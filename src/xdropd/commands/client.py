"""The other end of the control socket: a request, its answer, and the wait for a daemon that restarts.

The protocol is in docs/protocol.md. What verbs mean is not known here. Loads as little as it can: see arguments.py.
"""

from __future__ import annotations

import _socket  # socket itself brings selectors and enum along, which takes as long as Python's own start
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping
    from typing import Any

    from xdropd.commands.replies import Columns

_VERSION = 1
_RESTART_SECONDS = 5.0
_RETRY_SECONDS = 0.02
_TELL_AFTER_SECONDS = 0.5
_SILENCE_SECONDS = 30.0  # the daemon says something every second, however long the work takes
_CHUNK_BYTES = 1 << 18


def ask(
    path: str,
    request: Mapping[str, object],
    *,
    follow: Iterable[bytes] | None = None,
    usual: tuple[bytes, dict[str, Any]] | None = None,
    wait_s: float = _RESTART_SECONDS,
) -> dict[str, Any]:
    """The result of a request. `usual` is an answer known beforehand and its result, to be spared the JSON decoder.

    `follow`: the entries, as pieces of lines that follow the request. They are iterated over again where
    the daemon restarts meanwhile, so a generator will not do.
    A daemon that is not there is waited for so long. Raises ErrorAnswer, Unavailable, NotPermitted.
    """
    lines = _converse(path, request if follow is None else {**request, "entries": "follow"}, wait_s, follow)
    first = next(lines)
    if usual and first == usual[0]:
        lines.close()
        return usual[1]
    answer = _read(_again(first, lines))
    while True:
        try:
            next(answer)
        except StopIteration as end:
            return dict(end.value)


def rows(
    path: str, request: Mapping[str, object], *, wait_s: float = _RESTART_SECONDS
) -> Generator[dict[str, Any], None, dict[str, Any]]:
    """The rows of an answer, as they come; returns its result. Raises as `ask` does."""
    from xdropd.commands.replies import rows_of

    answer = columns(path, request, wait_s=wait_s)
    while True:
        try:
            yield from rows_of(next(answer))
        except StopIteration as end:
            return dict(end.value)


def whole(
    path: str, request: Mapping[str, object], *, wait_s: float = _RESTART_SECONDS
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """All rows of an answer, and its result. Raises as `ask` does."""
    found: list[dict[str, Any]] = []
    answer = rows(path, request, wait_s=wait_s)
    while True:
        try:
            found.append(next(answer))
        except StopIteration as end:
            return found, dict(end.value)


def columns(
    path: str, request: Mapping[str, object], *, wait_s: float = _RESTART_SECONDS
) -> Generator[Columns, None, dict[str, Any]]:
    """The same, some rows at a time, by column."""
    return (yield from _read(_converse(path, request, wait_s)))


def _again(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _read(lines: Iterator[bytes]) -> Generator[Columns, None, dict[str, Any]]:
    from xdropd.commands.replies import said_in

    progress = _Progress()
    for reply in (reply for some in lines for reply in said_in(some)):
        if "progress" in reply:
            progress.show(str(reply["progress"]))
            continue
        if progress.is_shown:
            progress.clear()
        if "rows" in reply:
            yield reply["rows"]
        elif "result" in reply:
            return dict(reply["result"])
        else:
            raise _error_in(reply)
    from xdropd.errors import Unavailable

    raise Unavailable("xdropd hung up before its answer was complete", "see systemctl status xdropd")


def _error_in(reply: Mapping[str, Any]) -> Exception:
    from xdropd.errors import ErrorAnswer, Problem

    problems = [
        Problem(each["file"], each["line"] or 0, each["column"] or 0, each["message"])
        for each in reply.get("problems", [])
    ]
    return ErrorAnswer(str(reply["error"]), str(reply["kind"]), problems)


def _converse(
    path: str, request: Mapping[str, object], wait_s: float, follow: Iterable[bytes] | None = None
) -> Generator[bytes, None, None]:
    """The lines of an answer, some at a time; at least one. A daemon that hangs up without a word is about to restart.

    It is waited for from the moment when it was found to be away: it may have been there, and busy, for long before.
    """
    line = f'{{"version":{_VERSION},{_json(request)[1:]}\n'.encode()
    away_since: float | None = None
    progress = _Progress()
    while True:
        peer, reason = _connected(path)
        if peer:
            try:
                lines = _exchange(peer, line, follow)
                first = next(lines, None)
                if first is not None:
                    progress.clear()
                    yield first
                    yield from lines
                    return
            finally:
                peer.close()
        away_since = away_since or time.monotonic()
        waited = time.monotonic() - away_since
        if waited >= wait_s:
            progress.clear()
            raise _not_there(path, reason)
        if waited > _TELL_AFTER_SECONDS:
            progress.show(f"waiting for xdropd on {path}")
        time.sleep(_RETRY_SECONDS)


def _connected(path: str) -> tuple[_socket.socket | None, str]:
    """A connection, or why there is none at the moment. Raises NotPermitted, Unavailable."""
    peer = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        peer.connect(path)
    except (FileNotFoundError, ConnectionRefusedError) as problem:
        peer.close()
        return None, os.strerror(problem.errno or 0)
    except OSError as problem:
        peer.close()
        raise _refused(path, problem) from problem
    peer.settimeout(_SILENCE_SECONDS)
    return peer, "it hung up"


def _refused(path: str, problem: OSError) -> Exception:
    from xdropd import errors

    if isinstance(problem, PermissionError):
        hint = "use sudo, or join the group: sudo usermod -aG _xdropd $USER, and log in again"
        return errors.NotPermitted(f"connect to {path}", problem.errno or 0, "not permitted", hint)
    return errors.Unavailable(f"{path}: {problem.strerror or problem}")


def _not_there(path: str, reason: str) -> Exception:
    import re

    from xdropd.errors import OLDEST_LINUX, KernelTooOld, Unavailable

    version = re.match(r"(\d+)\.(\d+)", os.uname().release)
    if version and tuple(map(int, version.groups())) < OLDEST_LINUX:
        return KernelTooOld()
    return Unavailable(
        f"xdropd does not answer on {path}: {reason}",
        "start it with: systemctl start xdropd, or see why it does not run: journalctl -u xdropd",
    )


def _exchange(peer: _socket.socket, request: bytes, follow: Iterable[bytes] | None) -> Iterator[bytes]:
    """Whole lines of the answer, as many as have come, without the last end.

    Raises Unavailable after a long silence.
    """
    received = b""
    try:
        try:  # contextlib would have to be loaded
            peer.sendall(request)
            if follow is not None:
                for piece in follow:
                    peer.sendall(piece)
                peer.sendall(b"\n")
        except (BrokenPipeError, ConnectionResetError):
            pass  # it hung up on us and may have said why
        while chunk := peer.recv(_CHUNK_BYTES):
            lines, end, rest = chunk.rpartition(b"\n")
            if end:
                yield received + lines
                received = rest
            else:
                received += chunk
    except ConnectionResetError:
        return
    except TimeoutError:
        from xdropd.errors import Unavailable

        sentence = f"xdropd takes requests but has not answered for {_SILENCE_SECONDS:.0f} seconds"
        raise Unavailable(sentence, "see systemctl status xdropd") from None


def _json(value: object) -> str:
    """JSON, without loading its module for plain texts, of which nearly every request consists."""
    match value:
        case str() if value.isascii() and value.isprintable() and '"' not in value and "\\" not in value:
            return f'"{value}"'
        case list():
            return f"[{','.join(map(_json, value))}]"
        case dict():
            return f"{{{','.join(f'{_json(key)}:{_json(each)}' for key, each in value.items())}}}"
        case int() if not isinstance(value, bool):
            return str(value)
    import json

    return json.dumps(value)


class _Progress:
    """A line on the terminal about what is being waited for."""

    def __init__(self) -> None:
        self.is_shown = False

    def show(self, text: str) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{text}\x1b[K")
            sys.stderr.flush()
            self.is_shown = True

    def clear(self) -> None:
        if self.is_shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self.is_shown = False
