"""A small server in place of CrowdSec's local API, for what only newer ones do, and broken ones."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

Answer = bytes | tuple[int, bytes] | Callable[[BaseHTTPRequestHandler], object]


class LocalServer:
    """Answers with what `answers` has, one after the other; a callable writes by itself. A subclass may know better.

    Use as a context. `asked` has query and headers of each GET, `told` path and content of each POST and DELETE.
    """

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.asked: list[tuple[dict[str, list[str]], Any]] = []
        self.told: list[tuple[str, Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:  # noqa: N802  # its name in the library
                outer.asked.append((parse_qs(urlsplit(self.path).query), self.headers))
                self._answer()

            def do_POST(self) -> None:  # noqa: N802
                outer.told.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
                self._answer()

            def do_DELETE(self) -> None:  # noqa: N802
                outer.told.append((self.path, None))
                self._answer()

            def _answer(self) -> None:
                what = outer.answer_to(self.path)
                if callable(what):
                    what(self)
                    self.close_connection = True
                    return
                status, body = what if isinstance(what, tuple) else (200, what)
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/"

    def answer_to(self, _path: str) -> Answer:
        """The answer to a request."""
        return self.answers.pop(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
