"""Enforcing is proven: a device whose packets pass by the program is found out, told, and attached anew.

What nftables forwards to another device is taken for redirected, and a program in generic mode is not asked about that
(netif_receive_generic_xdp in net/core/dev.c). So here is a device that receives, by the kernel's count, what its
program never sees, as a driver that has lost its program does.
"""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from foreground import Daemon

from netns import Net, inside
from waiting import wait_until

VILLAIN = "198.51.100.66"
LISTED = f"block:\n  - {VILLAIN}\n"
SPEAKS_WITHIN_S = 10.0
_FORWARD = """
table netdev aside {
  chain incoming { type filter hook ingress device eth0 priority 0; fwd to "behind"; }
}
"""


@pytest.fixture
def net() -> Iterator[Net]:
    """What comes in on eth0 goes on to `blind`, by its other end."""
    with Net() as made:
        made.run(made.host, "ip", "link", "add", "blind", "type", "veth", "peer", "name", "behind")
        made.batch(made.host, "link set blind up", "link set behind up")
        yield made


def send(net: Net, packets: int, source: str = "") -> None:
    with inside(net.peer), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.bind((source, 0))
        for number in range(packets):
            sender.sendto(b"x", (net.host_address, 1024 + number % 1000))  # no port is open: errors do not matter


def daemon_on(net: Net, folder: Path, mode: str, device: str = "blind") -> Daemon:
    settings = folder / "etc" / "xdropd.yaml"
    settings.parent.mkdir(exist_ok=True)
    settings.write_text(f"interfaces: [{device}]\nxdp_mode: {mode}\n")
    return Daemon(net, folder, LISTED, "--settings", str(settings))


def forward(net: Net) -> None:
    net.run(net.peer, "ping", "-q", "-c1", "-W1", net.host_address)  # so that its neighbour is known
    net.run(net.host, "nft", "-f", "-", stdin=_FORWARD)


@pytest.mark.threat_model
def test_packets_that_pass_by_the_program_are_told_and_it_is_attached_anew(net: Net, tmp_path: Path) -> None:
    forward(net)
    with daemon_on(net, tmp_path, "generic") as daemon:
        assert daemon.status()["degraded"] is False
        wait_until(lambda: send(net, 20) or daemon.status()["degraded"], within_s=SPEAKS_WITHIN_S)
        (trouble,) = daemon.status()["troubles"]
        assert trouble.endswith(" packets came in and the filter saw none of them, it is attached anew")
        assert f"error: {trouble}" in daemon.log
        assert daemon.log.count("notice: blind: attached in generic mode") == 2

        wait_until(lambda: send(net, 50) or "not protected" in daemon.status()["troubles"][0], within_s=20)
        assert daemon.log.count("notice: blind: attached in generic mode") == 2, "once is enough for now"

        net.run(net.host, "nft", "delete", "table", "netdev", "aside")
        net.run(net.host, "ip", "neigh", "add", "192.0.2.99", "lladdr", "02:00:00:00:00:09", "dev", "behind")
        net.run(net.host, "ip", "route", "add", "192.0.2.99", "dev", "behind")
        net.run(net.host, "ping", "-q", "-c1", "-W0.1", "192.0.2.99", check=False)
        wait_until(lambda: not daemon.status()["degraded"], within_s=SPEAKS_WITHIN_S)
        assert "notice: blind: no longer a problem" in daemon.log


def test_a_burst_is_told_though_it_follows_soon_on_what_was_seen(net: Net, tmp_path: Path) -> None:
    """And though nothing comes behind it. In generic mode a packet that was seen may be as many as it has octets."""
    forward(net)
    net.run(net.host, "ip", "neigh", "add", "192.0.2.99", "lladdr", "02:00:00:00:00:09", "dev", "behind")
    net.run(net.host, "ip", "route", "add", "192.0.2.99", "dev", "behind")
    with daemon_on(net, tmp_path, "generic") as daemon:
        time.sleep(5)  # what came in before it was attached may be counted until then
        net.run(net.host, "ping", "-q", "-c1", "-W0.1", "192.0.2.99", check=False)
        assert daemon.status()["packets"]["passed"] == 1
        time.sleep(2)  # so that it has looked; and it would wait for two seconds more
        send(net, 100 + daemon.status()["bytes"]["passed"])
        wait_until(lambda: daemon.status()["degraded"], within_s=SPEAKS_WITHIN_S)
        assert "saw none of them, it is attached anew" in daemon.log


def test_of_one_that_is_gone_nothing_is_said_to_be_mended(net: Net, tmp_path: Path) -> None:
    forward(net)
    with daemon_on(net, tmp_path, "generic") as daemon:
        wait_until(lambda: send(net, 20) or daemon.status()["degraded"], within_s=SPEAKS_WITHIN_S)
        net.run(net.host, "ip", "link", "del", "blind")
        wait_until(lambda: not daemon.status()["degraded"], within_s=SPEAKS_WITHIN_S)
        assert "notice: blind: there is no such interface any more" in daemon.log
        assert "no longer a problem" not in daemon.log


@pytest.mark.parametrize("mode", ["native", "generic"])
def test_what_is_redirected_is_judged_where_it_came_in(net: Net, tmp_path: Path, mode: str) -> None:
    net.address(net.peer, f"{VILLAIN}/{net.length}")
    forward(net)
    with daemon_on(net, tmp_path, mode, "eth0, blind") as daemon:
        send(net, 20, VILLAIN)
        interfaces = daemon.ask("metrics")[-1]["result"]["interfaces"]
        assert {each["name"]: each["totals"]["dropped"][0] for each in interfaces} == {"eth0": 20, "blind": 0}


@pytest.mark.parametrize("mode", ["native", "generic"])
def test_no_alarm_where_packets_meet_the_program(net: Net, tmp_path: Path, mode: str) -> None:
    """Listed or not, few or many, and none at all."""
    net.address(net.peer, f"{VILLAIN}/{net.length}")
    with daemon_on(net, tmp_path, mode, "eth0") as daemon:
        for source, packets in ((VILLAIN, 2000), (net.peer_address, 2000), (VILLAIN, 1)):
            send(net, packets, source)
            time.sleep(4)
            assert daemon.status()["degraded"] is False
        assert "saw none" not in daemon.log
