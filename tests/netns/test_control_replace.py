"""What a source blocks, replaced or changed in one step, each entry with its own end and reason; through the socket."""

import json
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from foreground import Daemon
from othertime import OtherTime

from netns import Net
from waiting import wait_until
from xdropd.commands import client
from xdropd.host import control

VILLAIN, NEIGHBOUR, OTHER = "198.51.100.66", "198.51.100.67", "198.51.100.130"
BLOCKLIST = "block: []\nallow:\n  - 203.0.113.64/26\n"
END = 4_000_000_000


@pytest.fixture(scope="module")
def net() -> Iterator[Net]:
    with Net() as made:
        made.address(made.peer, *(f"{address}/{made.length}" for address in (VILLAIN, NEIGHBOUR, OTHER)))
        yield made


@pytest.fixture(scope="module")
def daemon(net: Net, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(net, tmp_path_factory.mktemp("daemon"), BLOCKLIST) as running:
        yield running


@pytest.fixture(autouse=True)
def _as_it_was(daemon: Daemon) -> Iterator[None]:
    yield
    if daemon.process and daemon.process.poll() is None:
        for name in {row["source"] for row in daemon.rows()}:
            daemon.ask("flush", source=name)
        assert "bug" not in daemon.log


def ask(daemon: Daemon, verb: str, *lines: str, **fields: object) -> dict[str, Any]:
    """The result where these lines follow a request."""
    follow = ["".join(f"{line}\n" for line in lines).encode()] if lines else []
    return client.ask(str(daemon.socket), {"verb": verb, "source": "feed", **fields}, follow=follow)


def said(daemon: Daemon) -> dict[str, tuple[str | None, str | None]]:
    """Until when and why each entry of the feed is listed."""
    return {row["entry"]: (row["until"], row["reason"]) for row in daemon.rows(source="feed")}


COUNTS = {"added": 0, "removed": 0, "changed": 0, "kept": 0, "without_effect": 0, "ended": 0, "too_wide": 0}


def test_replace_makes_it_exactly_this(daemon: Daemon, net: Net) -> None:
    done = ask(daemon, "replace", VILLAIN, f"{NEIGHBOUR}\t{END}\tssh", "192.0.2.0/24\t2090-01-01T00:00:00Z")
    assert done == {**COUNTS, "added": 3, "warnings": []}
    begun = time.time()
    assert net.answering(VILLAIN, NEIGHBOUR, OTHER) == {OTHER}
    before = {row["entry"]: row for row in daemon.rows(source="feed")}
    assert before[VILLAIN]["packets"] == before[NEIGHBOUR]["packets"] == 1
    wait_until(lambda: time.time() > 2 + begun, within_s=5)  # `since` is in seconds
    done = ask(daemon, "replace", f"{NEIGHBOUR}\t{END - 1}\thttp", VILLAIN, f"{OTHER}\t{END}")
    assert done == {**COUNTS, "added": 1, "removed": 1, "changed": 1, "kept": 1, "warnings": []}
    assert said(daemon) == {
        VILLAIN: (None, None),
        NEIGHBOUR: ("2096-10-02T07:06:39Z", "http"),  # an earlier end as well
        OTHER: ("2096-10-02T07:06:40Z", None),
    }
    assert net.answering(VILLAIN, NEIGHBOUR, OTHER) == set()
    after = {row["entry"]: row for row in daemon.rows(source="feed")}
    for entry in (VILLAIN, NEIGHBOUR):
        assert (after[entry]["packets"], after[entry]["since"]) == (2, before[entry]["since"]), "it goes on"
    log = daemon.socket.with_name("state") / "blocks.log"
    size = log.stat().st_size
    assert ask(daemon, "replace", f"{NEIGHBOUR}\t{END - 1}\thttp", VILLAIN, f"{OTHER}\t{END}")["kept"] == 3
    assert log.stat().st_size == size, "what is the same is not written"
    assert ask(daemon, "replace") == {**COUNTS, "removed": 3, "warnings": []}
    assert net.answering(VILLAIN, NEIGHBOUR, OTHER) == {VILLAIN, NEIGHBOUR, OTHER}


def test_replace_without_a_gap(daemon: Daemon, net: Net) -> None:
    """No packet of what is in all of them passes, while everything else comes and goes."""
    ask(daemon, "replace", VILLAIN)
    ping = net.start(net.peer, "ping", "-q", "-n", "-i0.004", "-w60", "-I", VILLAIN, net.host_address)
    for at in range(6):
        many = [f"10.{at}.{number >> 8}.{number & 255}\t{END + number}" for number in range(3000 * (at % 2) + 1)]
        ask(daemon, "replace", VILLAIN, *many)
    ping.send_signal(signal.SIGINT)
    told = ping.communicate(timeout=10)[0]
    assert " 0 received" in told, told


def test_change_adds_and_takes_back(daemon: Daemon, net: Net) -> None:
    ask(daemon, "replace", VILLAIN, f"{NEIGHBOUR}\t{END}")
    done = ask(daemon, "change", f"-{VILLAIN}", "-192.0.2.1", f"{OTHER}\t{END}\tssh", f"{NEIGHBOUR}\t{END - 1}")
    assert done == {**COUNTS, "added": 1, "removed": 1, "changed": 1, "warnings": [], "missing": 1}
    assert net.answering(VILLAIN, NEIGHBOUR, OTHER) == {VILLAIN}
    assert said(daemon) == {NEIGHBOUR: ("2096-10-02T07:06:39Z", None), OTHER: ("2096-10-02T07:06:40Z", "ssh")}
    assert ask(daemon, "change", f"-{OTHER}", OTHER)["changed"] == 1, "what comes and goes at once stays"
    assert ask(daemon, "change", f"{OTHER}\t1000") == {**COUNTS, "removed": 1, "ended": 1, "missing": 0} | {
        "warnings": ["1 of the entries have ended already, they are skipped"]
    }
    assert daemon.ask("change", source="feed", entries=["-198.51.100.67/32"])[-1]["result"]["removed"] == 1
    assert said(daemon) == {}


def test_each_entry_of_a_block_has_its_own_end(daemon: Daemon) -> None:
    """There the later end wins, as ever."""
    now_s = time.time()
    done = ask(daemon, "block", f"192.0.2.1\t{END}", "192.0.2.2", "192.0.2.3\t9", seconds=3600, reason="of all")
    assert done["blocked"] == 2
    assert done["ended"] == 1
    assert ask(daemon, "block", f"192.0.2.1\t{END - 9}\thttp", f"192.0.2.2\t{END}")["blocked"] == 2
    found = said(daemon)
    assert found == {"192.0.2.1": ("2096-10-02T07:06:40Z", "http"), "192.0.2.2": ("2096-10-02T07:06:40Z", "of all")}
    assert now_s < END
    assert ask(daemon, "unblock", "192.0.2.1\t9", "192.0.2.2", seconds=-1, widest=32)["unblocked"] == 2
    assert said(daemon) == {}


@pytest.mark.threat_model
def test_what_is_covered_is_taken_and_does_nothing_until_it_is_not(daemon: Daemon, net: Net) -> None:
    done = ask(daemon, "replace", "203.0.113.70", VILLAIN, "203.0.113.0/24", Net.host_address)
    assert (done["added"], done["without_effect"]) == (4, 2)
    first, second, third = done["warnings"]
    assert "203.0.113.70 does nothing while it is covered by allow 203.0.113.64/26 of" in first
    assert f"{Net.host_address} does nothing while it is covered by the guard" in second
    assert "203.0.113.0/24 is narrowed by allow" in third
    assert net.answering(VILLAIN, NEIGHBOUR) == {NEIGHBOUR}
    assert not daemon.lookup("203.0.113.70")["blocked"]
    daemon.blocklist.write_text("block: []\n")
    assert daemon.ask("reload")[-1]["result"]["ok"]
    assert daemon.lookup("203.0.113.70")["entry"] == "203.0.113.70"
    daemon.blocklist.write_text(BLOCKLIST)
    assert daemon.ask("reload")[-1]["result"]["ok"]
    refused = daemon.ask("block", source="feed", entries=["203.0.113.71"])[-1]
    assert refused["kind"] == "Refused"


@pytest.mark.threat_model
def test_what_is_too_wide_is_skipped_and_told(daemon: Daemon, net: Net) -> None:
    lines = ["0.0.0.0/0", VILLAIN, "1.0.0.0-9.255.255.255", "::/0", "2001:db8::/32", "198.51.100.7/25"]
    done = ask(daemon, "replace", *lines, widest={"ipv4": 8, "ipv6": 16})
    assert (done["added"], done["too_wide"]) == (3, 3)
    assert any("0.0.0.0/0 is wider than what is taken here" in warning for warning in done["warnings"])
    assert "has bits set behind its prefix, it is taken as 198.51.100.0/25" in done["warnings"][0]
    assert set(said(daemon)) == {VILLAIN, "2001:db8::/32", "198.51.100.0/25"}
    assert ask(daemon, "change", "10.0.0.0/15", "10.0.0.0/16", widest=16)["too_wide"] == 1


@pytest.fixture(scope="module")
def apart() -> Iterator[Net]:
    with Net(addresses=False) as made:
        yield made


def test_a_tag_is_told_by_status(apart: Net, tmp_path: Path) -> None:
    clock = OtherTime(tmp_path)
    daemon = Daemon(apart, tmp_path, BLOCKLIST, environment=clock.environment)
    with daemon:
        assert daemon.status()["sources"] == []
        ask(daemon, "replace", "192.0.2.1", "192.0.2.2", tag="one")
        ask(daemon, "change", "-192.0.2.1")
        assert daemon.status()["sources"] == [{"name": "feed", "tag": "one", "entries": 1}]
        ask(daemon, "replace", "192.0.2.2", tag="two")
        daemon.stop(signal.SIGKILL)
    with daemon:
        assert daemon.status()["sources"] == [{"name": "feed", "tag": "two", "entries": 1}]
        ask(daemon, "replace")
        clock.shift(23 * 3600)
        assert daemon.status()["sources"] == [{"name": "feed", "tag": "two", "entries": 0}]
        clock.shift(49 * 3600)
        assert daemon.status()["sources"] == []
        for at in range(100):
            daemon.ask("block", source=f"s{at}", entries=["192.0.2.1"], tag="x")
        assert daemon.ask("block", source="more", entries=["192.0.2.1"], tag="x")[-1]["kind"] == "Refused"
        assert daemon.ask("block", source="s0", entries=["192.0.2.2"], tag="")[-1]["result"]["blocked"] == 1
        assert daemon.ask("block", source="more", entries=["192.0.2.1"], tag="x")[-1]["result"]["blocked"] == 1


# ---- lines that follow ----


def exchange(daemon: Daemon, data: bytes, *, ends: bool = False) -> bytes:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(daemon.socket))
        peer.settimeout(20)
        peer.sendall(data)
        if ends:
            peer.shutdown(socket.SHUT_WR)
        received = b""
        while chunk := peer.recv(1 << 16):
            received += chunk
        return received


REPLACE = b'{"version":1,"verb":"replace","source":"feed","entries":"follow"}\n'


@pytest.mark.threat_model
def test_lines_that_end_early_change_nothing(daemon: Daemon) -> None:
    ask(daemon, "replace", "192.0.2.1")
    whole = REPLACE + b"192.0.2.2\n192.0.2.3\n"
    for at in (len(REPLACE), len(whole) - 12, len(whole) - 1, len(whole)):
        assert exchange(daemon, whole[:at], ends=True) == b""
    assert set(said(daemon)) == {"192.0.2.1"}
    assert b'"added":2' in exchange(daemon, whole + b"\nwhat stands behind the end is nobody's\n\n")
    assert set(said(daemon)) == {"192.0.2.2", "192.0.2.3"}


def test_lines_in_small_pieces(daemon: Daemon) -> None:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(daemon.socket))
        for byte in REPLACE + b"192.0.2.2\t4000000000\tssh\n192.0.2.3\n\n":
            peer.send(bytes([byte]))
        assert b'"added":2' in peer.recv(1 << 16)


def test_mistakes_in_lines_have_their_places(daemon: Daemon) -> None:
    ask(daemon, "replace", "192.0.2.1")
    body = b"192.0.2.2\n10.0\n192.0.2.3\tsoon\n192.0.2.4\t\ta\x07b\n192.0.2.5\t\t\t\n-192.0.2.1\n\xff\n"
    reply = json.loads(exchange(daemon, REPLACE + body + b"\n"))
    assert reply["kind"] == "RefusedFile"
    found = [(each["file"], each["line"], each["column"]) for each in reply["problems"]]
    assert sorted(found) == [
        ("entries", 2, 1),
        ("entries", 3, 11),
        ("entries", 4, 12),
        ("entries", 5, 12),
        ("entries", 6, 1),
        ("entries", 7, 1),
    ]
    assert set(said(daemon)) == {"192.0.2.1"}


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"widest": 33}, '"widest"'),
        ({"widest": {"ipv5": 1}}, '"widest"'),
        ({"widest": True}, '"widest"'),
        ({"widest": {"ipv4": -1}}, '"widest"'),
        ({"tag": "x" * 201}, '"tag"'),
        ({"tag": 7}, '"tag"'),
        ({"source": "a/b"}, '"source"'),
        ({"source": None}, '"source" is missing'),
        ({"entries": ["192.0.2.1\n192.0.2.2"]}, "192.0.2.1"),
        ({"entries": ["192.0.2.1\t5"]}, "192.0.2.1"),
        ({"entries": ["-192.0.2.1"]}, "192.0.2.1"),
        ({"entries": ["\ud800"]}, ""),
        ({"entries": []}, '"entries"'),
        ({"entries": "folow"}, '"entries"'),
    ],
)
def test_what_makes_no_sense(daemon: Daemon, fields: dict[str, Any], says: str) -> None:
    reply = daemon.ask("replace", **{"source": "feed", "entries": ["192.0.2.1"], **fields})[-1]
    assert reply["kind"] == "BadRequest"
    assert says in reply["error"]
    assert said(daemon) == {}


@pytest.mark.threat_model
def test_lines_have_a_bound(daemon: Daemon) -> None:
    assert daemon.process
    resident = Path(f"/proc/{daemon.process.pid}/status")
    before_kb = int(resident.read_text().partition("VmRSS:")[2].split()[0])
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(daemon.socket))
        peer.settimeout(20)
        peer.sendall(REPLACE)
        sent, chunk = 0, b"192.0.2.1\n" * 100_000
        while sent <= control._FOLLOWING_BYTES_AT_MOST + len(chunk):
            try:
                peer.sendall(chunk)
            except (BrokenPipeError, ConnectionResetError):
                break
            sent += len(chunk)
            assert daemon.status()["ready"]
        assert sent <= control._FOLLOWING_BYTES_AT_MOST + (1 << 20)
        assert b"MiB follow" in peer.recv(1 << 16)
    assert b"a line has over" in exchange(daemon, REPLACE + b"1" * (300 << 10) + b"\n\n")
    after_kb = int(resident.read_text().partition("VmRSS:")[2].split()[0])
    assert after_kb - before_kb < 20 << 10


def test_xdropctl_replaces_what_standard_input_says(daemon: Daemon) -> None:
    text = '192.0.2.1 # by hand\n{"entry":"192.0.2.2","until":"2090-01-01T00:00:00Z","reason":"ssh"}\n\n'
    done = daemon.ctl("replace", "--source", "feed", "-", stdin=text)
    assert (done.returncode, done.stdout, done.stderr) == (0, "2 added, 0 removed, 0 changed, 0 kept\n", "")
    assert said(daemon) == {"192.0.2.1": (None, None), "192.0.2.2": ("2090-01-01T00:00:00Z", "ssh")}
    listed = daemon.ctl("--json", "list", "--source", "feed").stdout
    again = json.loads(daemon.ctl("--json", "replace", "--source", "feed", "-", stdin=listed).stdout)
    assert again == {**COUNTS, "kept": 2, "warnings": []}, "what list prints can be read"
    nothing = daemon.ctl("replace", "--source", "feed", "-", stdin="# the feed is down\n")
    assert nothing.returncode == 78
    assert "--empty" in nothing.stderr
    assert len(said(daemon)) == 2
    wrong = daemon.ctl(
        "replace", "--source", "feed", "-", stdin='192.0.2.9\n{"entry":"10.0"}\n{"entry":7}\n{"until":\n'
    )
    assert wrong.returncode == 78
    places = [line.partition(": ")[0] for line in wrong.stderr.splitlines()]
    assert places == ["standard input:2:11", "standard input:3:1", "standard input:4:1"]
    done = daemon.ctl("replace", "--source", "feed", "--empty", "-", stdin="")
    assert done.stdout == "0 added, 2 removed, 0 changed, 0 kept\n"
    assert said(daemon) == {}


def test_xdropctl_blocks_json_lines_and_more_than_a_request_holds(daemon: Daemon) -> None:
    lines = "".join(
        json.dumps({"entry": f"10.{at >> 16}.{at >> 8 & 255}.{at & 255}", "for": f"{at + 600}s", "reason": f"r{at}"})
        + "\n"
        for at in range(2000)
    )
    done = daemon.ctl("block", "--source", "feed", "-", "192.0.2.1", "--for", "2h", stdin=lines)
    assert (done.returncode, done.stdout) == (0, "2001 entries blocked\n"), done
    found = said(daemon)
    assert len(found) == len({until for until, _ in found.values()} - {None}) + 1 or len(found) == 2001
    assert found["10.0.7.1"][1] == "r1793"
    done = daemon.ctl("unblock", "--source", "feed", "-", stdin=lines)
    assert done.stdout == "2000 entries taken back\n"
