"""Names that are no UTF-8, of files and interfaces: told everywhere, and named again by what was told."""

import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from foreground import Daemon
from notified import Notified

from netns import Net, inside
from waiting import wait_until

WITHIN_S = 5.0
BLOCKED = "192.0.2.9"
TWENTY = f"{BLOCKED}\n" + "".join(f"198.18.0.{at}\n" for at in range(19))
EXPORTER = "127.0.0.1:9792"
INTERFACE = b"eth\xe9\x1b"
INTERFACE_SHOWN = r"eth\xe9\x1b"


@pytest.fixture
def net() -> Iterator[Net]:
    with Net() as made:
        made.run(made.host, "ip", "link", "set", made.device, "down")
        made.run(made.host, "ip", "link", "set", made.device, "name", os.fsdecode(INTERFACE))
        made.run(made.host, "ip", "link", "set", os.fsdecode(INTERFACE), "up")
        yield made


@pytest.fixture
def lists(tmp_path: Path) -> bytes:
    """A folder of lists, and in it one whose lines do not all parse."""
    folder = os.fsencode(tmp_path) + b"/etc/"
    (tmp_path / "etc").mkdir()
    write(folder + b"caf\xe9\n.netset", "no entry\n" + TWENTY)
    return folder


def write(path: bytes, text: str) -> None:
    with open(path, "w") as file:  # noqa: PTH123  # of bytes
        file.write(text)


def test_they_are_told_everywhere(net: Net, lists: bytes, tmp_path: Path) -> None:
    file, shown = lists + b"caf\xe9\n.netset", f"{os.fsdecode(lists)}" + r"caf\xe9\x0a.netset"
    settings = tmp_path / "etc" / "xdropd.yaml"
    settings.write_text(f"interfaces: ['{INTERFACE_SHOWN}', 'eth\\xff']\n")
    blocklist = "block: []\ninclude:\n  - '*.netset'\n"
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
    with (
        Notified(tmp_path) as manager,
        Daemon(net, tmp_path, blocklist, "--settings", str(settings), environment=environment) as daemon,
    ):
        assert f"xdropd: warning: {shown}:1:1: warning: this line is skipped" in daemon.log
        assert r"xdropd: warning: eth\xff: no such interface yet" in daemon.log
        assert daemon.status()["interfaces"][0]["name"] == INTERFACE_SHOWN
        manager.wait_for(f"READY=1\nSTATUS=enforcing: 20 entries on {INTERFACE_SHOWN} (native)")

        # Listed, looked up and named by what was told, and by the name itself.
        assert {row["source"] for row in daemon.rows()} == {shown}
        assert len(daemon.rows(source=shown)) == 20
        assert daemon.lookup(BLOCKED)["source"] == shown
        for name in (shown, os.fsdecode(file)):
            done = daemon.ctl("list", "--source", name)
            assert (done.returncode, done.stdout.count(f"{shown}:")) == (0, 20)

        ctl = (sys.executable, "-m", "xdropd.commands.xdropctl", "--socket", str(daemon.socket))
        net.start(net.host, *ctl, "exporter", "--listen", EXPORTER)
        scraped = wait_until(lambda: scrape(net), within_s=WITHIN_S, what="a scrape is a 200")
        escaped = shown.replace("\\", "\\\\")
        assert f'xdropd_source_entries{{source="{escaped}"}} 20.0' in scraped

        # An emptied one keeps its last version until it is accepted, whichever way it is named.
        for name in (shown, os.fsdecode(file)):
            write(file, "")
            wait_until(lambda: daemon.status()["degraded"], within_s=WITHIN_S)
            assert shown in daemon.status()["troubles"][0]
            assert daemon.ctl("reload", "--accept", name).returncode == 0
            assert not daemon.status()["degraded"]
            assert daemon.rows() == []
            write(file, TWENTY)
            wait_until(lambda: len(daemon.rows()) == 20, within_s=WITHIN_S)


def test_an_interface_is_named_on_the_command_line_either_way(net: Net, tmp_path: Path) -> None:
    for name in (INTERFACE_SHOWN, os.fsdecode(INTERFACE)):
        with Daemon(net, tmp_path, "block: []\n", "--interface", name) as daemon:
            assert [each["name"] for each in daemon.status()["interfaces"]] == [INTERFACE_SHOWN]


def test_the_blocklist_itself_may_have_one(net: Net, tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/caf\xe9.yaml"
    write(name, f"block:\n  - {BLOCKED}\n")
    arguments = ("--blocklist", os.fsdecode(name), "--interface", INTERFACE_SHOWN)
    with Daemon(net, tmp_path, "block: []\n", *arguments) as daemon:
        assert daemon.lookup(BLOCKED)["source"] == rf"{tmp_path}/caf\xe9.yaml"
        write(name, "block:\n  - nonsense\n")
        done = daemon.ctl("reload")
        assert done.returncode == 78
        assert done.stderr.startswith(rf"{tmp_path}/caf\xe9.yaml:2:5: error: ")
    check = [sys.executable, "-m", "xdropd.commands.xdropd", "--check", "--blocklist", name]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.stderr.startswith(rf"{tmp_path}/caf\xe9.yaml:2:5: error: ")


def scrape(net: Net) -> str:
    """Nothing while nobody listens. Raises HTTPError for anything but a 200."""
    try:
        with inside(net.host), urllib.request.urlopen(f"http://{EXPORTER}/metrics", timeout=10) as reply:
            return str(reply.read().decode())
    except urllib.error.HTTPError:
        raise
    except urllib.error.URLError:
        return ""
