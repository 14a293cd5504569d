"""Open connections that a list cuts off are told of: by the log, reload, block and check. Nothing is refused."""

import contextlib
import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from foreground import Daemon

from netns import Net, inside
from waiting import wait_until
from xdropd.columns.prefixes import FAMILIES
from xdropd.host import sockdiag
from xdropd.text.addresses import format_address, parse_span

VILLAIN, NEIGHBOUR = "203.0.113.9", "203.0.113.10"
INBOUND = f"ssh from {VILLAIN}"
BOTH = f"203.0.113.0/24: 2 open connections of this host are with it ({INBOUND}, https to {NEIGHBOUR})"


@pytest.fixture(scope="module")
def net() -> Iterator[Net]:
    """With a connection from the one and to the other; sshd listens on both families at once, as it does."""
    with Net() as made, contextlib.ExitStack() as stack:
        made.address(made.peer, f"{VILLAIN}/24", f"{NEIGHBOUR}/24")
        made.run(made.host, "ip", "route", "add", "203.0.113.0/24", "dev", made.device)
        with inside(made.host):
            ssh = stack.enter_context(socket.create_server(("::", 22), family=socket.AF_INET6, dualstack_ipv6=True))
        with inside(made.peer):
            https = stack.enter_context(socket.create_server((NEIGHBOUR, 443)))
            stack.enter_context(socket.create_connection((made.host_address, 22), source_address=(VILLAIN, 0)))
            stack.enter_context(socket.create_connection((made.host_address6, 22)))
        with inside(made.host):
            stack.enter_context(socket.create_connection((NEIGHBOUR, 443)))
            asking = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            asking.connect((made.peer_address, 53))
        for server in (ssh, ssh, https):
            stack.enter_context(server.accept()[0])
        yield made


@pytest.fixture
def daemon(net: Net, tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(net, tmp_path, "block: []\ninclude: [drop.txt]\n") as running:
        assert running.ask("reload")[-1]["result"]["warnings"] == []
        yield running


def listed(daemon: Daemon, text: str) -> list[str]:
    """What a reload says of it."""
    (daemon.blocklist.parent / "drop.txt").write_text(text)
    warnings: list[str] = daemon.ask("reload")[-1]["result"]["warnings"]
    return warnings


def test_what_the_kernel_tells_is_what_ss_says(net: Net) -> None:
    with inside(net.host):
        found = sockdiag.connections()
        some = sockdiag.connections(parse_span("203.0.113.8/30")), sockdiag.connections(parse_span("2001:db8::/32"))
    said = net.run(net.host, "ss", "-Htun", "state", "established").split("\n")
    remotes = sorted(re.sub(r"::ffff:|[][]", "", line.split()[4]) for line in said if line)
    told = [
        format_address(each.version, number) for each in found for number in FAMILIES[each.version].ints(each.remote)
    ]
    assert sorted(told) == sorted(remote.rpartition(":")[0] for remote in remotes)
    assert len(told) == 4
    assert [sum(map(len, each)) for each in some] == [2, 1]


@pytest.mark.threat_model
def test_a_reload_tells_whom_a_new_list_cuts_off(net: Net, daemon: Daemon) -> None:
    file = daemon.blocklist.parent / "drop.txt"
    assert listed(daemon, "198.18.0.0/15\n203.0.113.64/26\n") == []
    assert listed(daemon, "198.18.0.0/15\n203.0.113.0/24\n") == [f"{file} lists {BOTH}"]
    assert f"xdropd: warning: {file} lists {BOTH}\n" in daemon.log
    assert listed(daemon, f"198.18.0.0/15\n203.0.113.0/24\n{VILLAIN}\n") == [], "they are cut off already"
    assert listed(daemon, f"{VILLAIN}\n2001:db8:51::/48\n") == [
        f"{file} lists 2001:db8:51::/48: 1 open connection of this host is with it (ssh from {net.peer_address6})"
    ]
    assert listed(daemon, "198.51.100.2-198.51.100.9\n") == [
        f"{file} lists 198.51.100.2-198.51.100.9: "
        f"1 open connection of this host is with it (domain to {net.peer_address})"
    ]
    daemon.blocklist.write_text("block: [203.0.113.0/24]\nallow: [203.0.113.8/29]\ninclude: [drop.txt]\n")
    assert listed(daemon, "192.0.2.1\n") == [], "they are allowed"
    daemon.blocklist.write_text(f"block: [203.0.113.0/24]\nallow: [{NEIGHBOUR}]\ninclude: [drop.txt]\n")
    assert listed(daemon, "192.0.2.1\n") == [
        f"{daemon.blocklist} lists 203.0.113.0/24: 1 open connection of this host is with it ({INBOUND})"
    ]
    net.run(net.host, "ip", "route", "add", "192.0.2.0/24", "via", NEIGHBOUR)
    try:
        wait_until(lambda: daemon.lookup(NEIGHBOUR)["kept_by"], within_s=3)
        daemon.blocklist.write_text("block: [203.0.113.10]\ninclude: [drop.txt]\n")
        assert listed(daemon, "192.0.2.1\n") == [], "the guard keeps it out"
    finally:
        net.run(net.host, "ip", "route", "del", "192.0.2.0/24")


def test_a_list_that_monitors_cuts_nobody_off(daemon: Daemon) -> None:
    daemon.blocklist.write_text("block: []\ninclude: [{path: drop.txt, action: monitor}]\n")
    assert listed(daemon, "203.0.113.0/24\n") == []


def test_block_warns_and_blocks(daemon: Daemon) -> None:
    done = daemon.ctl("block", "203.0.113.0/24", "192.0.2.1")
    assert (done.returncode, done.stdout) == (0, "2 entries blocked\n")
    assert done.stderr == f"xdropctl: warning: {BOTH}\n"
    assert daemon.ctl("block", VILLAIN).stderr == "", "it is cut off already"
    many = "".join(f"192.0.2.{number}\n" for number in range(100))
    assert daemon.ctl("unblock", "203.0.113.0/24", VILLAIN).returncode == 0
    assert daemon.ctl("block", "-", stdin=f"{many}{VILLAIN}\n").stderr == (
        f"xdropctl: warning: {VILLAIN}: 1 open connection of this host is with it ({INBOUND})\n"
    )


def test_check_tells_before_it_is_in_force(net: Net, daemon: Daemon, tmp_path: Path) -> None:
    new = tmp_path / "new.yaml"

    def checked() -> list[str]:
        command = [sys.executable, "-m", "xdropd.commands.xdropctl", "--socket", daemon.socket, "--json", "check", new]
        with inside(net.host):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        answer = json.loads(done.stdout)
        assert answer.get("ok") or [each["message"] for each in answer["problems"]] == []
        return [f"{each['line']}: {each['message']}" for each in answer["warnings"]]

    new.write_text("block:\n  - 192.0.2.0/24\n  - 203.0.113.0/24\n")
    assert checked() == [f"3: lists {BOTH}"]
    listed(daemon, f"{VILLAIN}\n")
    assert checked() == [
        f"3: lists 203.0.113.0/24: 1 open connection of this host is with it (https to {NEIGHBOUR})"
    ], "the daemon knows who is cut off already"
    daemon.stop()
    assert checked() == [f"3: lists {BOTH}"], "without a daemon all of it is new"
    new.write_text("block: [203.0.113.0/24]\nallow: [203.0.113.0/24]\n")
    assert checked() == []
