"""Lists by URL, from the server to the packets that stop: the daemon says what it wants, xdropd-fetch brings it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from foreground import Daemon
from webserver import WebServer, answer

from netns import Net
from waiting import wait_until
from xdropd.host import fetched

FIRST, SECOND, NEIGHBOUR = "198.51.100.66", "198.51.100.67", "198.51.100.68"
WITHIN_S = 20


@pytest.fixture(scope="module")
def net() -> Iterator[Net]:
    with Net() as made:
        made.address(made.peer, *(f"{address}/24" for address in (FIRST, SECOND, NEIGHBOUR)))
        yield made


@pytest.fixture
def server(net: Net) -> Iterator[WebServer]:
    with WebServer(net.peer, net.peer_address) as server:
        yield server


def _pings(net: Net, source: str) -> bool:
    command = ("ping", "-c1", "-W1", "-I", source, net.host_address)
    return "1 received" in net.run(net.peer, *command, check=False)


def _daemon(net: Net, folder: Path, url: str, more: str = "") -> Daemon:
    text = f"block: []\ninclude:\n  - url: {url}\n    every: 1h\n    reason: a feed\n{more}"
    return Daemon(net, folder, text, "--interface", net.device, "--fetched", str(folder / "fetched"))


def _fetcher(net: Net, folder: Path) -> "subprocess.Popen[str]":
    files = ("--wanted", str(folder / "fetch.json"), "--fetched", str(folder / "fetched"))
    return net.start(net.host, sys.executable, "-m", "xdropd.commands.xdropd_fetch", *files)


def test_from_the_server_to_the_packets(net: Net, server: WebServer, tmp_path: Path) -> None:
    url = f"{server.url}/drop.txt"
    server.answers["/drop.txt"] = answer(f"{FIRST}\n".encode())
    with _daemon(net, tmp_path, url) as daemon:
        (told,) = daemon.status()["fetch"]
        assert (told["url"], told["every_seconds"], told["fetched_at"]) == (url, 3600, None)
        assert not daemon.status()["degraded"], "it has ten minutes to come"
        assert daemon.ask("metrics")[-1]["result"]["fetch"] == [{"url": url, "last_success": 0, "failures": 0}]
        assert f"{url}: not come yet" in daemon.ctl("status").stdout
        assert _pings(net, FIRST)
        fetcher = _fetcher(net, tmp_path)
        wait_until(lambda: not _pings(net, FIRST), within_s=WITHIN_S)
        assert _pings(net, SECOND)
        assert _pings(net, NEIGHBOUR)
        (row,) = daemon.rows()
        assert (row["source"], row["line"], row["reason"]) == (url, 1, "a feed")
        assert daemon.lookup(FIRST)["source"] == url
        assert FIRST in daemon.ctl("list", "--source", url).stdout

        # Another version: what is new stops, what left passes again. As soon as the operator asks.
        server.answers["/drop.txt"] = answer(f"{SECOND}\n".encode())
        done = daemon.ctl("fetch")
        assert (done.returncode, done.stdout) == (0, f"{url}: another content came\n"), done.stderr
        assert not _pings(net, SECOND)
        assert _pings(net, FIRST)
        done = daemon.ctl("fetch", url)
        assert (done.returncode, done.stdout) == (0, f"{url}: nothing new\n")

        # It comes, and is not in force: the blocklist is refused.
        text = daemon.blocklist.read_text()
        daemon.blocklist.write_text(f"{text}nothing: 1\n")
        server.answers["/drop.txt"] = answer(f"{FIRST}\n{SECOND}\n".encode())
        done = daemon.ctl("fetch")
        refused = "the blocklist is refused, the list before stays in force"
        assert (done.returncode, done.stdout) == (69, f"{url}: {refused}\n")
        assert _pings(net, FIRST)
        daemon.blocklist.write_text(text)
        wait_until(lambda: not _pings(net, FIRST), within_s=WITHIN_S)

        # The server breaks: what came stays.
        server.answers["/drop.txt"] = answer(b"<html>you can only fetch every 30 minutes")
        done = daemon.ctl("fetch")
        assert done.returncode == 69
        assert done.stdout == f"{url}: it is a web page and no list\n"
        done = daemon.ctl("--json", "fetch", url)
        assert done.returncode == 69
        told = json.loads(done.stdout)
        assert told["error"] == "not fetched: 1"
        assert (told["fetched"][0]["ok"], told["fetched"][0]["failure"]) == (False, "it is a web page and no list")
        assert not _pings(net, SECOND)
        (told,) = daemon.status()["fetch"]
        assert (told["failures"], told["failure"]) == (2, "it is a web page and no list")
        assert "; last time: it is a web page and no list" in daemon.ctl("status").stdout
        (metric,) = daemon.ask("metrics")[-1]["result"]["fetch"]
        assert (metric["url"], metric["failures"]) == (url, 2)
        assert metric["last_success"] > 0
        assert not daemon.status()["degraded"]

        # A list that turned empty is no failure of fetching, and changes nothing until it is accepted.
        server.answers["/drop.txt"] = answer(b"# nothing today\n")
        done = daemon.ctl("fetch")
        assert done.returncode == 69
        assert "it has no entries any more, and had 2; its last good version" in done.stdout
        assert daemon.status()["degraded"]
        assert not _pings(net, SECOND)
        done = daemon.ctl("reload", "--accept", url)
        assert done.returncode == 0, done.stderr
        assert _pings(net, SECOND)
        assert not daemon.status()["degraded"]

        # A URL that is not wanted any more.
        daemon.blocklist.write_text("block: []\n")
        wait_until(lambda: not (tmp_path / "fetch.json").exists(), within_s=WITHIN_S)
        assert daemon.status()["fetch"] == []
        assert daemon.ctl("fetch", url).returncode == 1
        done = daemon.ctl("fetch")
        assert (done.returncode, done.stdout) == (0, "")
        fetcher.terminate()
        assert fetcher.wait(10) == 0


def test_the_last_good_version_outlives_both(net: Net, server: WebServer, tmp_path: Path) -> None:
    """The daemon starts anew, and of what was fetched nothing is left."""
    url = f"{server.url}/drop.txt"
    folder = tmp_path / "fetched"
    folder.mkdir()
    fetched.list_path(folder, url).write_text(f"{FIRST}\n")
    with _daemon(net, tmp_path, url) as daemon:
        assert not _pings(net, FIRST)
        assert [row["source"] for row in daemon.rows()] == [url]
        wait_until(lambda: list((tmp_path / "state" / "last-good" / "lists").iterdir()), within_s=WITHIN_S)
    fetched.list_path(folder, url).unlink()
    with _daemon(net, tmp_path, url) as daemon:
        assert not _pings(net, FIRST)
        assert not daemon.status()["degraded"]


def test_check_says_whether_it_has_come(net: Net, tmp_path: Path) -> None:
    url = "https://lists.example/drop.txt"
    blocklist = tmp_path / "blocklist.yaml"
    blocklist.write_text(f"block: []\ninclude:\n  - {url}\n")
    files = ("--settings", str(tmp_path / "none.yaml"), "--blocklist", str(blocklist))
    settings = tmp_path / "none.yaml"
    settings.write_text("interfaces: auto\n")

    def check() -> str:
        command = (sys.executable, "-m", "xdropd.commands.xdropd", "--check", *files, "--fetched", str(tmp_path))
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0
        return done.stderr

    assert check() == f"{blocklist}:3:5: warning: {url} has not come yet\n"
    fetched.write_state(tmp_path, fetched.State(url, failures=1, failure="lists.example does not answer"))
    assert check() == f"{blocklist}:3:5: warning: {url} has not come yet: lists.example does not answer\n"
    fetched.list_path(tmp_path, url).write_text("192.0.2.1\n")
    assert check() == ""
