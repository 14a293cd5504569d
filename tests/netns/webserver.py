"""A web server of which a test says every octet: slow, short, lying, or right. Plain or with TLS, in a namespace.

with WebServer(net.peer, net.peer_address) as server:
    server.answers["/drop.txt"] = answer(b"192.0.2.1\n")
    server.requests     # what was asked for: path and headers, in order
"""

import contextlib
import gzip
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from email.message import Message
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import NamedTuple, Self

from netns import inside

_HEAD_BYTES_AT_MOST = 1 << 16
_IDLE_S = 30

Answer = bytes | Callable[["Request"], bytes | Iterable[bytes]]


class Request(NamedTuple):
    path: str
    headers: Message
    at_s: float


def answer(body: bytes = b"", status: str = "200 OK", **headers: str) -> bytes:
    """A whole response, with its length. A header's name has underscores for dashes."""
    lines = {"Content_Length": str(len(body)), **headers}
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    """A response in chunks; without `end` it stops in the middle."""
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body + end


def packed(body: bytes) -> bytes:
    """A response whose body is compressed on the way."""
    return answer(gzip.compress(body), Content_Encoding="gzip")


def certificate(folder: Path, name: str) -> Path:
    """A key and a certificate that it signed itself, for a DNS name or an address, in one file."""
    file = folder / f"{name.replace(':', '-')}.pem"
    kind = "IP" if name[0].isdigit() else "DNS"
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(file))
    names = ("-subj", f"/CN={name}", "-addext", f"subjectAltName={kind}:{name}")
    made = ("openssl", "req", "-x509", *key, "-out", "-", "-days", "2", *names)
    text = subprocess.run(made, check=True, capture_output=True, text=True).stdout
    with file.open("a") as whole:
        whole.write(text)
    return file


class WebServer:
    """Answers each connection once and closes it. A path without an answer is not found."""

    def __init__(self, namespace: str, address: str, port: int = 80, pem: Path | None = None) -> None:
        self.answers: dict[str, Answer] = {}
        self.requests: list[Request] = []
        self.most_at_once = 0
        self._running = 0
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._context: ssl.SSLContext | None = None
        if pem is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(pem)
        with inside(namespace):
            self._socket = socket.create_server((address, port))
        host = f"{address}:{port}" if port not in (80, 443) else address
        self.url = f"{'https' if pem else 'http'}://{host}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(_IDLE_S)
        self._socket.close()

    def slowly(self, pieces: Iterable[bytes], pause_s: float) -> Iterator[bytes]:
        """Pieces with a pause before each but the first, until the test is over."""
        for number, piece in enumerate(pieces):
            if number and self._over.wait(pause_s):
                return
            yield piece

    def paths(self) -> list[str]:
        return [request.path for request in self.requests]

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._serve, args=(connection,), daemon=True))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(_IDLE_S)
        with self._lock:
            self._running += 1
            self.most_at_once = max(self.most_at_once, self._running)
        try:
            with contextlib.suppress(OSError):  # who asked has left
                if self._context is not None:
                    connection = self._context.wrap_socket(connection, server_side=True)
                self._answer(connection)
        finally:
            with self._lock:
                self._running -= 1
            connection.close()

    def _answer(self, connection: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head and len(head) < _HEAD_BYTES_AT_MOST and (part := connection.recv(4096)):
            head += part
            if not head.startswith(b"GET "):
                connection.sendall(answer(b"", "400 Bad Request"))
                return
        if not head:
            return
        line, _, fields = head.partition(b"\r\n")
        request = Request(line.split()[1].decode(), BytesHeaderParser().parsebytes(fields), time.monotonic())
        self.requests.append(request)
        found = self.answers.get(request.path, answer(b"not here\n", "404 Not Found"))
        said = found(request) if callable(found) else found
        for piece in (said,) if isinstance(said, bytes) else said:
            connection.sendall(piece)
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
