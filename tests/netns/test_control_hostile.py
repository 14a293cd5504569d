"""Those who may open the socket may still do it badly: nonsense, silence, floods, and readers that do not read.

Whatever they do, somebody else's `status` is answered promptly, and the daemon neither dies, nor grows, nor logs a bug.
"""

import contextlib
import json
import random
import resource
import select
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from foreground import Daemon

from netns import Net
from waiting import wait_until

# On a machine that others use as well; idle, it takes a millisecond.
PROMPTLY_S = 1.0
STATUS = {"version": 1, "verb": "status"}
BLOCKLIST = "block:\n  - 203.0.113.0/24\n  - 192.0.2.7\nallow:\n  - 203.0.113.9\n"


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon in good health, before and after."""
    with Net() as net, Daemon(net, tmp_path, BLOCKLIST) as running:
        yield running
        assert running.process
        assert running.process.poll() is None, running.log
        assert "bug" not in running.log
        assert ask(running, STATUS)["result"]["state"] == "enforcing"


def connected(daemon: Daemon, *, seconds: float = 10) -> socket.socket:
    peer = socket.socket(socket.AF_UNIX)
    peer.connect(str(daemon.socket))
    peer.settimeout(seconds)
    return peer


def exchange(daemon: Daemon, request: bytes) -> bytes:
    """Send it and read to the end; what was received, or b"" from a daemon that hung up at once."""
    received = b""
    with connected(daemon) as peer, contextlib.suppress(ConnectionResetError):
        with contextlib.suppress(BrokenPipeError):
            peer.sendall(request)
        while chunk := peer.recv(1 << 16):
            received += chunk
    return received


def ask(daemon: Daemon, request: dict[str, Any]) -> dict[str, Any]:
    lines = exchange(daemon, json.dumps(request).encode() + b"\n").splitlines()
    answer = json.loads(lines[-1])
    assert isinstance(answer, dict)
    return answer


def answers_promptly(daemon: Daemon) -> bool:
    begun = time.monotonic()
    assert "result" in ask(daemon, STATUS)
    took_s = time.monotonic() - begun
    assert took_s < PROMPTLY_S, f"status took {took_s:.1f} s"
    return True


def memory_kb(daemon: Daemon) -> int:
    assert daemon.process
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def descriptors(daemon: Daemon) -> int:
    assert daemon.process
    return len(list(Path(f"/proc/{daemon.process.pid}/fd").iterdir()))


# ---- nonsense ----

SEEDS: list[dict[str, Any]] = [
    STATUS,
    {"version": 1, "verb": "list"},
    {"version": 1, "verb": "list", "source": "xdropctl", "entry": "192.0.2.7"},
    {"version": 1, "verb": "lookup", "address": "203.0.113.9"},
    {
        "version": 1,
        "verb": "block",
        "entries": ["192.0.2.1", "10.0.0.0/8"],
        "seconds": 60,
        "reason": "x",
        "source": "f2b",
    },
    {"version": 1, "verb": "unblock", "entries": ["192.0.2.1", "2001:db8::/32"], "source": "f2b"},
    {"version": 1, "verb": "flush", "source": "f2b"},
    {"version": 1, "verb": "replace", "source": "feed", "entries": "follow", "tag": "1", "widest": {"ipv4": 8}},
    {"version": 1, "verb": "replace", "source": "feed", "entries": ["192.0.2.1"], "widest": 16},
    {"version": 1, "verb": "change", "source": "feed", "entries": "follow"},
    {"version": 1, "verb": "change", "source": "feed", "entries": ["192.0.2.9", "-192.0.2.1"], "tag": ""},
    {"version": 1, "verb": "block", "source": "feed", "entries": "follow", "seconds": 600, "reason": "x"},
    {"version": 1, "verb": "unblock", "source": "feed", "entries": "follow"},
    {"version": 1, "verb": "watch", "source": "f*", "cursor": "0.0"},
    {"version": 1, "verb": "watch", "source": "[a-"},
    {"version": 1, "verb": "top", "by": "bytes", "count": 5, "lines": False},
    {"version": 1, "verb": "metrics"},
    {"version": 1, "verb": "fetch", "urls": ["https://lists.example/drop.txt"]},
]
LINES = [
    *(
        b"192.0.2.1",
        b"192.0.2.1\t4000000000",
        b"192.0.2.1\t2090-01-01T00:00:00Z\tssh",
        b"192.0.2.2\t\tssh",
        b"-192.0.2.1",
    ),
    *(b"203.0.113.9", b"10.0.0.1/8", b"0.0.0.0/0\t4000000000", b"::ffff:192.0.2.5", b"2001:db8::1-2001:db8::9"),
]
VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 1e308, -0.0, 2**63, 2**200, float("nan"), float("inf"), "", "a" * 5000),
    *(
        "\ud800",
        "\x00",
        "\n",
        "../../etc",
        "\u202e",
        [],
        {},
        [[]],
        [None],
        ["10.0"],
        ["::/0"],
        ["0.0.0.0/0"],
        {"a": []},
    ),
    *("follow", {"ipv4": 8}, {"ipv6": -1}, 33, "0.1", "*", "[", "fail2ban-*"),
    *("1.2.3.4-1.2.3.9", "::ffff:1.2.3.4", "fe80::1%eth0", "packets", "xdropctl", "/etc/passwd"),
]


def mutated(chance: random.Random) -> bytes:
    """A request with a few things wrong, as an object or as bytes; the end of the line is among them."""
    request = dict(chance.choice(SEEDS))
    for _ in range(chance.randrange(3)):
        match chance.randrange(3):
            case 0:
                request[chance.choice(list(request))] = chance.choice(VALUES)
            case 1:
                request.pop(chance.choice(list(request)), None)
                request.setdefault("verb", chance.choice(VALUES))
            case _:
                request[
                    chance.choice(["reason", "seconds", "source", "accept", "by", "urls", "x", "tag", "widest"])
                ] = chance.choice(VALUES)
    line = bytearray(json.dumps(request).encode() + b"\n")
    if request.get("entries") == "follow":
        line += b"".join(each + b"\n" for each in chance.choices(LINES, k=chance.randrange(6))) + b"\n"
    for _ in range(chance.choice((0, 0, 1, 1, 2, 8))):
        at = chance.randrange(len(line))
        match chance.randrange(4):
            case 0:
                line[at] ^= 1 << chance.randrange(8)
            case 1:
                del line[at : at + chance.randrange(1, 9)]
            case 2:
                line[at:at] = line[: chance.randrange(1, 60)]
            case _:
                line[at:at] = bytes(chance.randrange(256) for _ in range(chance.randrange(1, 5)))
        if not line:
            break
    return bytes(line)


@pytest.mark.threat_model
def test_mutated_requests(daemon: Daemon, full: bool, tmp_path: Path) -> None:
    count = 100_000 if full else 5_000
    seed = random.SystemRandom().getrandbits(32)
    chance = random.Random(seed)
    outcomes = {"result": 0, "error": 0, "hung up": 0}
    for at in range(count):
        line = mutated(chance)
        with connected(daemon) as peer, contextlib.suppress(ConnectionResetError):
            with contextlib.suppress(BrokenPipeError):
                peer.sendall(line)
            peer.shutdown(socket.SHUT_WR)
            received = b""
            while chunk := peer.recv(1 << 20):
                received += chunk
                if b'"event":"cursor"' in received:
                    break  # who watches is answered for ever
            if received:
                last = json.loads(received.splitlines()[-1])
                assert last.get("kind") != "Bug", f"seed {seed}, request {at}: {line!r} -> {last}"
                outcomes["error" if "error" in last else "result"] += 1
            else:
                outcomes["hung up"] += 1  # the line never ended
        if at % 500 == 0:
            answers_promptly(daemon)
    assert min(outcomes.values()) > count / 50, f"seed {seed}: too little of something to mean much: {outcomes}"
    # What was taken in between must be what the log of blocks gives back.
    rows = exchange(daemon, b'{"version":1,"verb":"list"}\n').splitlines()
    assert json.loads(rows[-1]) == {"result": {}}
    assert daemon.stop() == 0
    (tmp_path / "log").unlink()
    daemon.__enter__()
    again = exchange(daemon, b'{"version":1,"verb":"list"}\n').splitlines()
    before, after = (
        sorted(
            (row["row"]["source"], row["row"]["entry"], row["row"]["reason"] or "", row["row"]["until"] or "")
            for row in map(json.loads, each[:-1])
        )
        for each in (rows, again)
    )
    assert before == after
    assert "error" not in daemon.log


# ---- silence ----


@pytest.fixture
def _many_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("_many_descriptors")
@pytest.mark.threat_model
def test_a_thousand_who_say_nothing(daemon: Daemon) -> None:
    before = descriptors(daemon)
    with contextlib.ExitStack() as stack:
        for at in range(1000):
            peer = stack.enter_context(connected(daemon))
            if at % 2:
                peer.send(b'{"version":1,"verb"')  # nothing yet
            if at % 50 == 0:
                answers_promptly(daemon)
        assert descriptors(daemon) - before <= 130, "the daemon bears so many and hangs up on the oldest"
        for _ in range(20):
            answers_promptly(daemon)
    wait_until(lambda: descriptors(daemon) <= before, within_s=5)


def test_who_says_nothing_is_let_go(daemon: Daemon) -> None:
    with connected(daemon, seconds=15) as peer:
        begun = time.monotonic()
        assert peer.recv(1) == b""
        assert 9 < time.monotonic() - begun < 13


def test_a_request_in_small_pieces_is_a_request(daemon: Daemon) -> None:
    with connected(daemon) as peer:
        for byte in json.dumps(STATUS).encode() + b"\n":
            peer.send(bytes([byte]))
            time.sleep(0.005)
        assert b'"result"' in peer.recv(1 << 16)


# ---- too much ----


@pytest.mark.threat_model
def test_a_request_of_a_gigabyte(daemon: Daemon) -> None:
    before_kb = memory_kb(daemon)
    chunk = b"x" * (1 << 20)
    sent = 0
    with connected(daemon) as peer:
        peer.sendall(b'{"version":1,"verb":"block","entries":["')
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while sent < 1 << 30:
                peer.sendall(chunk)
                sent += len(chunk)
                answers_promptly(daemon)
        assert sent < 1 << 26, "it hung up long before"
        with contextlib.suppress(ConnectionResetError):
            reply = json.loads(peer.recv(1 << 16))
            assert reply["kind"] == "BadRequest"
            assert "larger than" in reply["error"]
    wait_until(lambda: memory_kb(daemon) - before_kb < 64 << 10, within_s=5, what="the memory comes back")


def test_the_largest_request_there_is(daemon: Daemon) -> None:
    """All of it JSON, and nothing but objects to make."""
    before_kb = memory_kb(daemon)
    body = b'{"version":1,"verb":"status","x":[' + b",".join([b"[]"] * (4 << 20))
    for request, says in (
        (body[: (4 << 20) - 100], b"not JSON"),
        (body[: (4 << 20) - 100].rpartition(b",")[0] + b"]}", b'"result"'),
    ):
        with connected(daemon) as peer:
            peer.sendall(request + b"\n")
            answers_promptly(daemon)
            assert says in peer.recv(1 << 16)
    wait_until(lambda: memory_kb(daemon) - before_kb < 64 << 10, within_s=5, what="the memory comes back")


# ---- readers that do not read ----


@pytest.mark.threat_model
def test_readers_that_do_not_read(daemon: Daemon) -> None:
    many = "".join(f"100.64.{at // 250}.{at % 250}\n" for at in range(20_000))
    assert daemon.ctl("block", "-", stdin=many).returncode == 0
    before_kb = memory_kb(daemon)
    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(connected(daemon)) for _ in range(100)]
        for reader in readers:
            reader.sendall(b'{"version":1,"verb":"list"}\n')
        for reader in readers:
            select.select([reader], [], [], 5)
        for _ in range(20):
            answers_promptly(daemon)
        assert memory_kb(daemon) - before_kb < 20 << 10, "what does not fit into their sockets, and little else"
        received = b""
        while chunk := readers[-1].recv(1 << 20):
            received += chunk
        assert received.count(b'{"row":') == 20_002
        assert received.endswith(b'{"result":{}}\n')


def test_callers_that_leave_while_their_work_is_done(daemon: Daemon) -> None:
    for at in range(200):
        with connected(daemon) as peer:
            peer.sendall(json.dumps({"version": 1, "verb": ("reload", "top", "list")[at % 3]}).encode() + b"\n")
    wait_until(lambda: answers_promptly(daemon), within_s=10)
    wait_until(lambda: descriptors(daemon) < 200, within_s=10)
    done = daemon.ctl("reload")
    assert done.returncode == 0
