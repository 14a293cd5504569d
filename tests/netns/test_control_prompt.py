"""Whatever anybody asks of the daemon, somebody else's `status` is answered in a quarter of a second.

All of these are valid requests of members of the group, and none of them may halt the daemon for the others.
"""

import itertools
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from foreground import Daemon

from netns import Net
from waiting import wait_until
from xdropd.host import blocklog
from xdropd.host.blocklog import Record

PROMPTLY_S = 0.5  # a stall is much longer; how long it really takes is for the bench, whose bound is 0.1
ASKED_EVERY_S = 0.02
LINES = 1_000_000
BATCH = 200_000
SOURCES = 10_000

STATUS = b'{"version":1,"verb":"status"}\n'


def address(first: int, number: int) -> str:
    """The address so many behind `first`.0.0.0."""
    return f"{first}.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One that has a file of a million addresses in force, and a thousand exceptions."""
    folder = tmp_path_factory.mktemp("daemon")
    (folder / "etc").mkdir()
    (folder / "etc" / "list.txt").write_text("".join(f"{address(20, at)}\n" for at in range(LINES)))
    allow = "".join(f"  - {address(40, at << 8)}/24\n" for at in range(1000))
    with Net() as net, Daemon(net, folder, f"block: []\nallow:\n{allow}include:\n  - list.txt\n") as running:
        wait_until(lambda: settled(running), within_s=20)
        yield running


def settled(daemon: Daemon) -> bool:
    """Whether it has nothing more to do for what has changed last."""
    begun = time.monotonic()
    return [exchange(daemon, STATUS) for _ in range(20)] != [] and time.monotonic() - begun < 0.2


def exchange(daemon: Daemon, request: bytes) -> dict[str, Any]:
    """The last line of the answer."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(daemon.socket))
        peer.sendall(request)
        last = b""
        while chunk := peer.recv(1 << 20):
            last = (last + chunk)[-(1 << 16) :]
    answer = json.loads(last.splitlines()[-1])
    assert isinstance(answer, dict)
    return answer


def line(verb: str, **fields: object) -> bytes:
    return json.dumps({"version": 1, "verb": verb, **fields}).encode() + b"\n"


@contextmanager
def promptly(daemon: Daemon) -> Iterator[None]:
    """Somebody asks `status` every 20 ms, and none of the answers takes long."""
    longest_s = [0.0]
    is_over = threading.Event()

    def ask() -> None:
        while len(longest_s) == 1 or not is_over.wait(ASKED_EVERY_S):
            begun = time.monotonic()
            assert "result" in exchange(daemon, STATUS)
            longest_s.append(time.monotonic() - begun)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield
    finally:
        is_over.set()
        asking.join()
    assert len(longest_s) > 1
    assert max(longest_s) < PROMPTLY_S, f"of {len(longest_s)} answers the longest took {max(longest_s):.3f} s"


@pytest.mark.threat_model
def test_a_batch_of_addresses(daemon: Daemon) -> None:
    block = line("block", entries=[address(30, at) for at in range(BATCH)], source="batch", reason="many")
    unblock = line("unblock", entries=[address(30, at) for at in range(BATCH)], source="batch")
    with promptly(daemon):
        assert exchange(daemon, block)["result"]["blocked"] == BATCH
    with promptly(daemon):
        assert exchange(daemon, block)["result"]["blocked"] == BATCH
    with promptly(daemon):
        assert exchange(daemon, line("list", source="batch")) == {"result": {}}
        assert exchange(daemon, line("list", entry=address(30, BATCH - 1))) == {"result": {}}
        assert exchange(daemon, line("lookup", address=address(30, BATCH - 1)))["result"]["blocked"]
        assert exchange(daemon, line("top", by="recent", count=1000)) == {"result": {}}
    with promptly(daemon):
        assert exchange(daemon, unblock)["result"] == {"unblocked": BATCH, "remarks": []}
    with promptly(daemon):
        assert exchange(daemon, block)["result"]["blocked"] == BATCH
        assert exchange(daemon, line("flush", source="batch"))["result"]["unblocked"] == BATCH


@pytest.mark.threat_model
def test_a_batch_that_replaces_another(daemon: Daemon) -> None:
    """Each entry with an end and a reason of its own."""

    def replace(shift: int) -> bytes:
        head = line("replace", source="replaced", entries="follow")
        lines = (f"{address(35, at)}\t{4_000_000_000 + at + shift}\treason {at % 99}\n" for at in range(BATCH))
        return b"".join((head, *map(str.encode, lines), b"\n"))

    for shift, key in ((0, "added"), (0, "kept"), (1, "changed")):
        with promptly(daemon):
            assert exchange(daemon, replace(shift))["result"][key] == BATCH
    with promptly(daemon):
        assert (
            exchange(daemon, line("replace", source="replaced", entries="follow") + b"\n")["result"]["removed"] == BATCH
        )


@pytest.mark.threat_model
def test_a_batch_that_ends(daemon: Daemon) -> None:
    entries = [address(31, at) for at in range(BATCH)]
    with promptly(daemon):
        assert exchange(daemon, line("block", entries=entries, seconds=0.1))["result"]["blocked"] == BATCH
        wait_until(lambda: exchange(daemon, STATUS)["result"]["entries"]["ipv4"] == LINES, within_s=20)


@pytest.mark.threat_model
def test_a_batch_of_networks(daemon: Daemon) -> None:
    entries = [f"{address(32, at << 2)}/30" for at in range(BATCH)]
    with promptly(daemon):
        assert exchange(daemon, line("block", entries=entries, source="networks"))["result"]["blocked"] == BATCH
    with promptly(daemon):
        assert exchange(daemon, line("lookup", address=address(32, 5)))["result"]["entry"] == "32.0.0.4/30"
        assert exchange(daemon, line("top")) == {"result": {}}
    with promptly(daemon):
        assert exchange(daemon, line("flush", source="networks"))["result"]["unblocked"] == BATCH


@pytest.mark.threat_model
def test_a_batch_that_is_refused(daemon: Daemon) -> None:
    entries = [address(40, at) for at in range(BATCH)]
    with promptly(daemon):
        refused = exchange(daemon, line("block", entries=entries))
    assert refused["kind"] == "Refused"
    assert refused["error"].endswith(f"and {BATCH - 100} more")
    with promptly(daemon):
        missing = exchange(daemon, line("unblock", entries=[address(20, at) for at in range(BATCH)]))
    assert "list.txt:1 lists it" in missing["error"]


@pytest.mark.threat_model
def test_unblocking_what_a_long_file_holds_as_well(daemon: Daemon) -> None:
    entries = [address(20, LINES - 1 - at) for at in range(10_000)]
    assert exchange(daemon, line("block", entries=entries))["result"]["blocked"] == 10_000
    with promptly(daemon):
        result = exchange(daemon, line("unblock", entries=entries))["result"]
    assert result["remarks"][0].endswith(f"list.txt:{LINES}")
    assert result["remarks"][-1] == "9900 more stay blocked as well"


@pytest.mark.threat_model
def test_as_many_sources_as_there_may_be(tmp_path: Path) -> None:
    records = [Record("block", f"source-{at}", address(33, at), None, "", 1.0) for at in range(SOURCES)]
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "blocks.log").write_bytes(blocklog.encoded(records, 1, left=0))
    with Net() as net, Daemon(net, tmp_path) as daemon:
        with promptly(daemon):
            refused = exchange(daemon, line("block", entries=["192.0.2.1"], source="one-more"))
            assert "flush some" in refused["error"]
            assert exchange(daemon, line("flush", source="source-0"))["result"]["unblocked"] == 1
            assert exchange(daemon, line("block", entries=["192.0.2.1"], source="one-more"))["result"]["blocked"] == 1
        with promptly(daemon):
            assert "result" in exchange(daemon, line("metrics"))
            assert exchange(daemon, line("list", source=f"source-{SOURCES - 1}")) == {"result": {}}
            assert exchange(daemon, line("lookup", address=address(33, 9)))["result"]["source"] == "source-9"
            assert "result" in exchange(daemon, line("top"))
        with promptly(daemon):
            entries = [address(34, at) for at in range(BATCH)]
            assert exchange(daemon, line("block", entries=entries, source="one-more"))["result"]["blocked"] == BATCH
            assert exchange(daemon, line("flush", source="one-more"))["result"]["unblocked"] == BATCH + 1
        with promptly(daemon):
            assert exchange(daemon, line("reload"))["result"]["ok"]
            wait_until(lambda: settled(daemon), within_s=20)


@pytest.mark.threat_model
def test_all_places_taken_by_long_answers(daemon: Daemon) -> None:
    requests = itertools.cycle(
        [
            line("list"),
            line("top", by="recent", count=1000),
            line("metrics"),
            line("block", entries=[address(30, at) for at in range(BATCH)]),
            line("unblock", entries=[address(20, at) for at in range(BATCH)]),
        ]
    )
    peers = [socket.socket(socket.AF_UNIX) for _ in range(120)]
    try:
        with promptly(daemon):
            for peer, request in zip(peers, requests, strict=False):
                peer.settimeout(0.05)
                peer.connect(str(daemon.socket))
                try:
                    peer.sendall(request)
                except (TimeoutError, BrokenPipeError, ConnectionResetError):
                    continue  # there is a bound on what waits
    finally:
        for peer in peers:
            peer.close()
