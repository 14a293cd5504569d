"""`xdropctl exporter`: metrics for Prometheus, read over the control socket anew for each scrape.

A process of its own without powers, so that the daemon opens no network socket. Names and labels are a contract, see
xdropctl(8). While the daemon does not answer, a scrape fails with 503, so that Prometheus' own `up` tells of it.
The only file that imports prometheus_client.
"""

import signal
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from socketserver import TCPServer, ThreadingMixIn
from types import FrameType
from typing import Any, TypeVar
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import StartResponse, WSGIEnvironment

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from xdropd import memory
from xdropd.commands import client
from xdropd.commands.arguments import WrongLine
from xdropd.errors import NotPermitted, Unavailable, XdropdError

_STATES = ("enforcing", "monitoring", "waiting")
_SILENCE_SECONDS = 10.0

_Family = TypeVar("_Family", GaugeMetricFamily, CounterMetricFamily)


class FromSocket(Collector):
    """What the daemon behind a socket counts, as metric families. Collecting raises XdropdError."""

    def __init__(self, path: str) -> None:
        self._path = path

    def collect(self) -> Iterator[Metric]:
        """Ask the daemon once."""
        sources, result = client.whole(self._path, {"verb": "metrics"})
        return families({"sources": sources, **result})


def families(reply: Mapping[str, Any]) -> Iterator[Metric]:
    """The answer to the verb `metrics`, its rows under "sources", as metric families."""
    for at, (name, what) in enumerate((("xdropd_packets", "Frames"), ("xdropd_bytes", "Bytes of frames"))):
        verdicts = CounterMetricFamily(
            name, f"{what} by verdict; when monitoring, dropped ones would have been.", labels=["interface", "verdict"]
        )
        for interface in reply["interfaces"]:
            for verdict, volume in interface["totals"].items():
                verdicts.add_metric([interface["name"], verdict], volume[at])
        yield verdicts
    yield _labelled(GaugeMetricFamily, "xdropd_entries", "Entries in force, as written.", "family", reply["families"])
    yield _labelled(CounterMetricFamily, "xdropd_reloads", "Reloads by result.", "result", reply["reloads"])
    if reply["reload_seconds"] is not None:
        yield GaugeMetricFamily(
            "xdropd_reload_duration_seconds", "How long the last reload took.", value=reply["reload_seconds"]
        )
    yield GaugeMetricFamily(
        "xdropd_last_reload_success_timestamp_seconds",
        "When the files were last taken as they are, since the epoch; 0 if not yet.",
        value=reply["last_success"],
    )
    yield GaugeMetricFamily(
        "xdropd_degraded", "Whether something that was asked for is not in force.", value=float(reply["degraded"])
    )
    yield _labelled(
        GaugeMetricFamily,
        "xdropd_state",
        "What xdropd is doing, 1 for that: enforcing, monitoring, or waiting while no interface is filtered.",
        "state",
        {state: float(state == reply["state"]) for state in _STATES},
    )
    attached = GaugeMetricFamily(
        "xdropd_interface_attached", "Interfaces that are filtered, and where.", labels=["interface", "mode"]
    )
    for interface in reply["interfaces"]:
        attached.add_metric([interface["name"], interface["mode"]], 1)
    yield attached
    sources = {each["name"]: each for each in reply["sources"]}
    yield _labelled(
        GaugeMetricFamily,
        "xdropd_source_entries",
        "Entries in force by source: a file, or a caller of block.",
        "source",
        {name: each["entries"] for name, each in sources.items()},
    )
    yield _labelled(
        CounterMetricFamily,
        "xdropd_source_packets",
        "Packets dropped, or counted where it monitors, by source, on behalf of entries that are gone as well.",
        "source",
        {name: each["packets"] for name, each in sources.items()},
    )
    actions = GaugeMetricFamily(
        "xdropd_source_info", "What is done with the entries of a source, 1 for that.", labels=["source", "action"]
    )
    for name, each in sources.items():
        if each.get("action") is not None:
            actions.add_metric([name, each["action"]], 1)
    yield actions
    yield _labelled(
        GaugeMetricFamily,
        "xdropd_fetch_last_success_timestamp_seconds",
        "When a URL was fetched well last, since the epoch; 0 if not yet.",
        "url",
        {each["url"]: each["last_success"] for each in reply["fetch"]},
    )
    yield _labelled(
        CounterMetricFamily,
        "xdropd_fetch_failures",
        "Attempts at a URL that failed.",
        "url",
        {each["url"]: each["failures"] for each in reply["fetch"]},
    )
    build = GaugeMetricFamily("xdropd_build_info", "The version that runs.", labels=["version"])
    build.add_metric([reply["version"]], 1)
    yield build


def _labelled(kind: type[_Family], name: str, says: str, label: str, values: Mapping[str, float]) -> _Family:
    family = kind(name, says, labels=[label])
    for value, number in values.items():
        family.add_metric([value], number)
    return family


def serve(path: str, listen: str) -> None:
    """Answer scrapes until SIGTERM or SIGINT. Raises WrongLine, Unavailable, NotPermitted."""
    host, port = _place(listen)
    signal.signal(signal.SIGTERM, _end)
    try:
        family, _, _, _, address = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=_PASSIVE)[0]
        server = _Server(family, (str(address[0]), int(address[1])))
    except socket.gaierror as problem:
        raise WrongLine(f"--listen: '{host}' is no address: {problem.strerror}", "exporter") from problem
    except PermissionError as problem:
        raise NotPermitted(
            f"listen on {listen}", problem.errno or 0, "not permitted", "use a port over 1023"
        ) from problem
    except OSError as problem:
        raise Unavailable(f"cannot listen on {listen}: {problem.strerror}", "choose another with --listen") from problem
    registry = CollectorRegistry()
    registry.register(FromSocket(path))
    server.set_app(_answering(make_wsgi_app(registry)))
    with server:
        server.serve_forever()


_PASSIVE = socket.AI_PASSIVE | socket.AI_NUMERICSERV


def _place(listen: str) -> tuple[str, str]:
    host, colon, port = listen.rpartition(":")
    if not colon or not (port.isascii() and port.isdecimal()) or int(port) > 65535 or (":" in host and host[0] != "["):
        raise WrongLine(f"--listen: '{listen}' is no place to listen, write 127.0.0.1:9792 or [::1]:9792", "exporter")
    return host.strip("[]"), port


def _end(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)


Application = Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]


def _answering(metrics: Application) -> Application:
    """The application, with a sentence where the daemon does not answer."""

    def answer(environment: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        try:
            return metrics(environment, start)
        except XdropdError as problem:
            start("503 Service Unavailable", [("Content-Type", "text/plain; charset=utf-8")])
            return [f"{problem}\n".encode()]

    return answer


class _Quiet(WSGIRequestHandler):
    timeout = _SILENCE_SECONDS

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name in the library
        """Scrapes are not worth a line each."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def __init__(self, family: int, address: tuple[str, int]) -> None:
        self.address_family = family
        super().__init__(address, _Quiet)

    def process_request(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        """In a thread of its own, if there is room for one. Raises MemoryError, which the library tells."""
        memory.see_room_for_threads()
        super().process_request(request, client_address)

    def server_bind(self) -> None:
        """As the library does it, without asking DNS for our name."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()
