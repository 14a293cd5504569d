"""A fleet out of namespaces: a real CrowdSec server, and hosts with a daemon and a companion each, all at one switch.

Server and companion are those of the tests, which assert what must be so.
"""

import re
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

from companion import Companion
from lapi import KEY, Server

from bench import peers, processes
from bench.daemon import Daemon
from bench.knocking import Target, knock_until
from netns import Net, inside
from waiting import wait_until
from xdropd.errors import Unavailable

_NETWORK, _LENGTH = "198.51.100", 24  # no list of the bench has any of it
_SERVER = f"{_NETWORK}.1"
_FIRST_HOST, _FIRST_KNOCKER = 2, 100
_SWITCH = "switch"
_QUERY = "dedup=false&scopes=ip%2Crange"  # as the companion asks
_AT_ONCE = 20_000  # decisions a request: the server takes about as many a second
_SHORTEST_S = 4 * 3600
_IN_FORCE_WITHIN_S = 120.0
_SETTLED_S = 3.0
_ARRIVES_WITHIN_S = 10.0
_PASSED_OVER_AFTER_S = 5.0


@dataclass(frozen=True, slots=True)
class Host:
    """With its daemon, and the companion that tells it what the server decides. Neither runs at first."""

    namespace: str
    address: str
    daemon: Daemon
    companion: Companion

    def start_daemon_anew(self) -> None:
        """It blocks nothing, whatever it did before."""
        self.stop()
        self.daemon.forget_everything()
        self.daemon.start()

    def stop_companion(self) -> None:
        """If it runs."""
        if self.companion.process and self.companion.process.poll() is None:
            self.companion.stop()

    def stop(self) -> None:
        """Both of them."""
        self.stop_companion()
        self.daemon.stop()

    def has(self, count: int) -> bool:
        """Whether so many decisions are in force: the companion says so when the daemon has answered that they are."""
        assert self.companion.process is not None
        assert self.companion.process.poll() is None, self.companion.log
        return sum(map(int, re.findall(r": (\d+) added", self.companion.log))) >= count

    @property
    def is_settled(self) -> bool:
        """Whether its companion has heard all there is a second time, as it wants to after a start."""
        return self.companion.log.count("all there is") > 1

    def memory(self) -> processes.Memory:
        """Of the companion."""
        assert self.companion.process is not None
        return processes.memory(self.companion.process.pid)


class Fleet:
    """See `fleet`."""

    def __init__(self, net: Net, server: Server, hosts: Sequence[Host]) -> None:
        self._net = net
        self._server = server
        self.hosts = hosts
        self._decided = 0
        self._knockers = 0

    @property
    def server_id(self) -> int:
        """The server's process."""
        assert self._server.process is not None
        return self._server.process.pid

    def decide(self, entries: Sequence[str]) -> None:
        """Decisions, each with an end of its own."""
        for at in range(0, len(entries), _AT_ONCE):
            some = entries[at : at + _AT_ONCE]
            first_s = _SHORTEST_S + self._decided
            self._server.decide(*some, duration=[f"{seconds}s" for seconds in range(first_s, first_s + len(some))])
            self._decided += len(some)

    def in_force(self, hosts: Sequence[Host], count: int) -> float:
        """Start companions at once. Seconds until so many decisions are in force on all of these hosts."""
        begun = time.monotonic()
        for host in hosts:
            host.companion.start()
        what = f"{count} decisions are in force everywhere"
        wait_until(lambda: all(host.has(count) for host in hosts), within_s=_IN_FORCE_WITHIN_S, what=what)
        return time.monotonic() - begun

    def settle(self, hosts: Sequence[Host]) -> None:
        """Wait until companions that have started do nothing but ask for what has changed."""
        what = "all companions are told all there is twice"
        wait_until(lambda: all(host.is_settled for host in hosts), within_s=_IN_FORCE_WITHIN_S, what=what)
        time.sleep(_SETTLED_S)

    def ban(self, hosts: Sequence[Host]) -> tuple[float, bool]:
        """Seconds from the request for a decision to the first of its packets that is dropped on the last of hosts.

        And whether a host was passed over: crowdsec 1.4.6 may skip for one what is decided while it answers that one.
        It comes with the next complete answer, which is asked for then.
        """
        address = f"{_NETWORK}.{_FIRST_KNOCKER + self._knockers}"
        self._knockers += 1
        self._net.address(self._net.peer, f"{address}/{_LENGTH}", device=_SWITCH)
        with ExitStack() as stack:
            targets = [Target(stack, host.namespace, host.address, self._net.peer, address) for host in hosts]
            if not knock_until(lambda: all(target.arrives for target in targets), targets, _ARRIVES_WITHIN_S):
                raise Unavailable(f"packets of {address} do not arrive, although nothing is decided on it yet")
            begun = time.monotonic()
            self._server.decide(address)

            def all_drop() -> bool:
                return all(target.dropped_at is not None for target in targets)

            is_passed_over = not knock_until(all_drop, targets, _PASSED_OVER_AFTER_S)
            if is_passed_over:
                for host in hosts:
                    assert host.companion.process is not None
                    host.companion.process.send_signal(signal.SIGHUP)
                if not knock_until(all_drop, targets, _IN_FORCE_WITHIN_S):
                    raise Unavailable(f"packets of {address} still arrive {_IN_FORCE_WITHIN_S:g} s after the decision")
            return max(target.dropped_at or 0.0 for target in targets) - begun, is_passed_over

    def cost_s(self, times: int, *, whole: bool) -> float:
        """What an answer takes of the server's CPU: one with all there is, or one with what has changed, nothing."""
        path = f"/v1/decisions/stream?{'startup=true&' if whole else ''}{_QUERY}"
        with inside(self._net.peer):
            connection = HTTPConnection(_SERVER, self._server.port)
            connection.connect()
        begun_s = processes.cpu_seconds(self.server_id)
        for _ in range(times):
            connection.request("GET", path, headers={"X-Api-Key": KEY, "User-Agent": "bench/v1"})
            connection.getresponse().read()
        connection.close()
        return (processes.cpu_seconds(self.server_id) - begun_s) / times


@contextmanager
def fleet(count: int, asked_every: str) -> Iterator[Fleet]:
    """The server runs, of the hosts nothing yet."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        net = stack.enter_context(peers.host(addresses=False))
        net.run(net.peer, "ip", "link", "add", _SWITCH, "up", "type", "bridge")
        net.address(net.peer, f"{_SERVER}/{_LENGTH}", device=_SWITCH)
        server = stack.enter_context(Server(net.peer, folder / "server", _SERVER))
        hosts = []
        for number in range(count):
            namespace, port = (net.more(), f"port{number}") if number else (net.host, net.device)
            if number:
                net.cable(namespace, net.device, net.peer, port)
            net.run(net.peer, "ip", "link", "set", port, "master", _SWITCH)
            address = f"{_NETWORK}.{_FIRST_HOST + number}"
            net.address(namespace, f"{address}/{_LENGTH}")
            place = folder / f"host{number}"
            place.mkdir()
            daemon = stack.enter_context(Daemon(namespace, place, net.device))
            daemon.blocklist.write_text("block: []\n", encoding="utf-8")
            server.cscli("bouncers", "add", f"host{number}", "-k", f"key{number}")
            configuration = f"api_url: {server.url}\napi_key: key{number}\nupdate_frequency: {asked_every}\n"
            host = Host(namespace, address, daemon, Companion(namespace, place, daemon.socket, configuration))
            stack.callback(host.stop_companion)
            hosts.append(host)
        yield Fleet(net, server, hosts)
