"""A full routing table has a million routes, and to look at all of them takes seconds: nobody waits for that."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from foreground import Daemon
from heldroutes import HeldRoutes

from netns import Net
from waiting import wait_until

VILLAIN, GATEWAY, NEXT = "198.51.100.66", "198.51.100.77", "198.51.100.78"
LISTED = f"block: [{VILLAIN}, {GATEWAY}, {NEXT}]\n"
WITHIN_S = 2.0
REMADE_WITHIN_S = 0.5 + 0.5
"""The contract's, and what ip(8) and ping(8) take on a busy machine."""


@pytest.fixture
def net() -> Iterator[Net]:
    with Net() as made:
        made.address(made.peer, f"{VILLAIN}/{made.length}")
        made.run(made.host, "ip", "route", "add", "default", "via", made.peer_address)
        yield made


def is_guarded(daemon: Daemon, address: str) -> bool:
    kept_by = daemon.lookup(address)["kept_by"]
    return kept_by is not None and kept_by["kind"] == "guard"


def make_anew(net: Net) -> None:
    net.run(net.host, "ip", "link", "del", "eth0")
    net.cable(net.host, "eth0", net.peer, "eth0")
    net.address(net.host, f"{net.host_address}/{net.length}")
    net.address(net.peer, f"{net.peer_address}/{net.length}", f"{VILLAIN}/{net.length}")


def test_while_routes_are_looked_at_everything_else_goes_on(net: Net, tmp_path: Path) -> None:
    routes = HeldRoutes(tmp_path)
    settings = tmp_path / "etc" / "xdropd.yaml"
    settings.parent.mkdir()
    settings.write_text("interfaces: auto\n")
    with Daemon(net, tmp_path, LISTED, "--settings", str(settings), environment=routes.environment) as daemon:
        assert [each["name"] for each in daemon.status()["interfaces"]] == ["eth0"]
        routes.hold()
        net.run(net.host, "ip", "route", "add", "203.0.113.0/24", "via", GATEWAY)
        wait_until(lambda: routes.is_awaited, within_s=WITHIN_S, what="routes are asked for")

        assert daemon.status()["state"] == "enforcing"
        assert not is_guarded(daemon, GATEWAY)
        assert daemon.ctl("block", "192.0.2.7").returncode == 0
        assert daemon.lookup("192.0.2.7")["blocked"]
        daemon.blocklist.write_text(LISTED.replace("]", ", 192.0.2.8]"))
        wait_until(lambda: daemon.lookup("192.0.2.8")["blocked"], within_s=WITHIN_S, what="an edit is in force")
        net.address(net.host, "192.0.2.8/32")
        wait_until(lambda: is_guarded(daemon, "192.0.2.8"), within_s=WITHIN_S, what="an address of the host's own")
        make_anew(net)
        wait_until(
            lambda: '"xdp"' in net.run(net.host, "ip", "-json", "link", "show", "eth0"), within_s=REMADE_WITHIN_S
        )
        assert not net.answers(VILLAIN)
        assert net.answers(net.peer_address)
        assert routes.is_awaited, "and all the while nobody has told it of routes"

        net.run(net.host, "ip", "route", "add", "203.0.113.0/24", "via", NEXT)
        routes.let_go()
        wait_until(lambda: is_guarded(daemon, NEXT), within_s=WITHIN_S, what="what came while it looked is looked at")
        assert not daemon.status()["degraded"]
