"""A host that lists everybody, and what comes back to it: replies to what it asked for, where that is chosen."""

import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from foreground import Daemon
from release import Release
from servicemanager import ServiceManager
from traffic import Traffic

from netns import Net, inside

EVERYBODY = "block: [0.0.0.0/0, '::/0']\n"
ENDS = [(Net.peer_address, Net.host_address), (Net.peer_address6, Net.host_address6)]
VILLAIN = "192.0.2.66"
_ANSWER_WITHIN_S = 0.3  # on a cable of no length
_PORT = 4000


@pytest.fixture
def net() -> Iterator[Net]:
    """Two hosts that know each other's hardware addresses: to ask for them is no connection, and is dropped."""
    with Net() as made:
        for here, there, addresses in (
            (made.host, made.peer, (made.peer_address, made.peer_address6)),
            (made.peer, made.host, (made.host_address, made.host_address6)),
        ):
            (link,) = json.loads(made.run(there, "ip", "-json", "link", "show", made.device))
            for address in addresses:
                made.run(here, "ip", "neigh", "replace", address, "lladdr", link["address"], "dev", made.device)
        yield made


def _socket(namespace: str, kind: socket.SocketKind, address: str, port: int = 0) -> socket.socket:
    with inside(namespace):
        made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    made.settimeout(_ANSWER_WITHIN_S)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((address, port))
    return made


def fetches(net: Net, server: str, client: str) -> bool:
    """Whether the host gets an answer over a connection of TCP that it opens."""
    with (
        _socket(net.peer, socket.SOCK_STREAM, server) as listener,
        _socket(net.host, socket.SOCK_STREAM, client) as ours,
    ):
        listener.listen()
        try:
            ours.connect(listener.getsockname())
            with listener.accept()[0] as theirs:
                ours.sendall(b"GET")
                assert theirs.recv(3) == b"GET"
                theirs.sendall(b"200 OK")
                return ours.recv(6) == b"200 OK"
        except TimeoutError:
            return False


def resolves(net: Net, server: str, client: str, *, connects: bool = True) -> bool:
    """Whether it gets an answer to a datagram, as a resolver asks."""
    with _socket(net.peer, socket.SOCK_DGRAM, server) as theirs, _socket(net.host, socket.SOCK_DGRAM, client) as ours:
        if connects:
            ours.connect(theirs.getsockname())
        ours.sendto(b"A?", theirs.getsockname())
        _, asker = theirs.recvfrom(16)
        theirs.sendto(b"A", asker)
        try:
            return ours.recv(16) == b"A"
        except TimeoutError:
            return False


def take(daemon: Daemon, settings: str = "", blocklist: str = "", *, is_ok: bool = True) -> None:
    """Save a file, and wait until a reload has taken or refused it."""
    if settings:
        daemon.settings.write_text(settings)
    if blocklist:
        daemon.blocklist.write_text(blocklist)
    assert daemon.ask("reload")[-1]["result"]["ok"] == is_ok, daemon.log


def test_what_this_host_asks_for_comes_and_is_counted(net: Net, tmp_path: Path) -> None:
    with Daemon(net, tmp_path, EVERYBODY) as daemon:
        for replies in ("pass", "drop"):
            take(daemon, f"replies: {replies}\n")
            before = daemon.status()
            for ends in ENDS:
                assert fetches(net, *ends) == (replies == "pass")
                assert resolves(net, *ends) == (replies == "pass")
                assert not resolves(
                    net, *ends, connects=False
                ), "who asks without connect(2) cannot be told from who waits"
            after = daemon.status()
            counted = {
                verdict: after["packets"][verdict] - before["packets"][verdict] for verdict in ("replies", "dropped")
            }
            assert counted["dropped"] > 0
            if replies == "pass":
                # Of each family: SYN and ACK, an ACK and the answer, FIN or RST at least; and a datagram.
                assert counted["replies"] >= 2 * 4
                assert after["bytes"]["replies"] - before["bytes"]["replies"] > counted["replies"] * 40
                (interface,) = daemon.ask("metrics")[-1]["result"]["interfaces"]
                assert interface["totals"]["replies"] == [after["packets"]["replies"], after["bytes"]["replies"]]
                assert "replies " in daemon.ctl("status").stdout
            else:
                assert counted["replies"] == 0
        assert "settings: replies was pass, is drop" in daemon.log
        # A blocklist that is refused keeps nobody from it.
        take(daemon, "replies: pass\n", "block: [x]\n", is_ok=False)
        assert fetches(net, *ENDS[0])
        take(daemon, "replies: pass\nxdp_mode: generic\n", EVERYBODY)
        assert daemon.status()["interfaces"][0]["mode"] == "generic"
        for ends in ENDS:
            assert fetches(net, *ends)
            assert resolves(net, *ends)
            assert not resolves(net, *ends, connects=False)


@pytest.mark.threat_model
def test_who_knocks_is_dropped_and_an_inbound_connection_is_cut(net: Net, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "xdropd.yaml").write_text("replies: pass\n")
    with Daemon(net, tmp_path) as daemon:
        for server, client in ENDS:
            take(daemon, blocklist="block: []\n")
            listener = _socket(net.host, socket.SOCK_STREAM, client, _PORT)
            waiting = _socket(net.host, socket.SOCK_DGRAM, client, _PORT)
            visitor, sender = (
                _socket(net.peer, socket.SOCK_STREAM, server),
                _socket(net.peer, socket.SOCK_DGRAM, server),
            )
            with listener, waiting, visitor, sender:
                listener.listen()
                visitor.connect((client, _PORT))
                sender.sendto(b"knock", (client, _PORT))
                assert waiting.recv(16) == b"knock"
                with listener.accept()[0] as accepted:
                    accepted.settimeout(_ANSWER_WITHIN_S)
                    visitor.sendall(b"before")
                    assert accepted.recv(16) == b"before"

                    take(daemon, blocklist=EVERYBODY)
                    assert fetches(net, server, client)
                    visitor.sendall(b"after")
                    with pytest.raises(TimeoutError):
                        accepted.recv(16)
                    sender.sendto(b"knock", (client, _PORT))
                    with pytest.raises(TimeoutError):
                        waiting.recv(16)
                    with _socket(net.peer, socket.SOCK_STREAM, server) as another, pytest.raises(TimeoutError):
                        another.connect((client, _PORT))


def test_the_setting_changes_while_packets_are_dropped_and_none_passes(tmp_path: Path) -> None:
    with Net(addresses=False) as net, Daemon(net, tmp_path, f"block: [{VILLAIN}]\n") as daemon:
        before = daemon.status()["packets"]
        programs = set()
        with Traffic(net, {"villain": [VILLAIN]}) as traffic:
            for replies in ("pass", "drop") * 2:
                traffic.wait_for(500)
                take(daemon, f"replies: {replies}\n")
                programs.add(daemon.status()["interfaces"][0]["program_id"])
        assert traffic.passed["villain"] == 0
        after = daemon.status()["packets"]
        assert after["dropped"] - before["dropped"] == traffic.sent["villain"]
        assert len(programs) == 1, "what the driver knows never changes"
        assert daemon.lookup(VILLAIN)["packets"] <= traffic.sent["villain"]


def test_it_outlives_a_restart_and_a_setting_that_changed_meanwhile_takes_effect(net: Net, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    settings = tmp_path / "etc" / "xdropd.yaml"
    settings.write_text("replies: pass\n")
    with ServiceManager(tmp_path) as manager:
        daemon = Daemon(net, tmp_path, EVERYBODY, manager=manager)
        with daemon:
            assert fetches(net, *ENDS[0])
        generations = {name for name in manager.stored() if name.startswith("gen.")}
        assert fetches(net, *ENDS[0]), "while nobody is there"
        with daemon:
            assert fetches(net, *ENDS[0])
            assert {name for name in manager.stored() if name.startswith("gen.")} == generations, "adopted as it is"
            daemon.stop(signal.SIGKILL)
            settings.write_text("replies: drop\n")
            daemon.__enter__()
            assert not fetches(net, *ENDS[0])
            assert not daemon.status()["degraded"]


def test_a_kernel_that_lacks_it_refuses_the_setting_and_drops(net: Net, tmp_path: Path) -> None:
    release = Release(tmp_path)
    text = release.folder / "bpf" / "xdrop.bpf.c"
    kind = "struct bpf_sock *(*)(void *, struct bpf_sock_tuple *, int, unsigned long long, unsigned long long)"
    before = text.read_text()
    text.write_text(before.replace("bpf_skc_lookup_tcp(", f"(({kind})9999)("))
    assert text.read_text() != before
    (tmp_path / "etc").mkdir()
    settings = tmp_path / "etc" / "xdropd.yaml"
    settings.write_text("replies: pass\n")
    daemon = Daemon(net, tmp_path, EVERYBODY)
    daemon.sources = release.folder
    with daemon:
        refused = "error: replies: pass is refused, they are dropped: "
        for _ in range(2):
            assert not fetches(net, *ENDS[0])
            told = daemon.status()
            assert (told["state"], told["degraded"]) == ("enforcing", True)
            assert told["packets"]["dropped"] > 0
            assert any("invalid func unknown#9999" in each for each in told["troubles"])
            assert daemon.log.count(refused) == 1
            done = daemon.ctl("reload")
            assert done.returncode == 78
            assert f"{settings}: {refused}" in done.stderr
        take(daemon, "replies: drop\n")
        assert not daemon.status()["degraded"]
        take(daemon, "replies: pass\n", is_ok=False)
        assert not fetches(net, *ENDS[0])
