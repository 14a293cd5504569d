"""Databases and lists that only monitor, in a daemon with packets: who is dropped, who is counted, and what is told."""

import os
from pathlib import Path

from foreground import Daemon

from databases import database
from netns import Net
from waiting import wait_until

_CHANGE_WITHIN_S = 2.0


def put(path: Path, data: bytes) -> None:
    """As updaters of databases do."""
    beside = path.with_suffix(".new")
    beside.write_bytes(data)
    os.rename(beside, path)  # noqa: PTH104


def test_a_country_and_a_network_of_an_asn(tmp_path: Path) -> None:
    with Net() as net:
        address = net.peer_address
        block = address.rpartition(".")[0] + ".0/24"
        text = "block: []\ninclude:\n  - {path: world.mmdb, select: [country=KP, asn=64496], action: %s}\n"
        world = tmp_path / "etc" / "world.mmdb"
        world.parent.mkdir()
        there = {"country": {"iso_code": "KP"}, "continent": {"code": "AS"}, "autonomous_system_number": 64496}
        elsewhere = {"country": {"iso_code": "XX"}, "autonomous_system_number": 64497}
        world.write_bytes(database({block: there, "2001:db8::/32": elsewhere}))
        with Daemon(net, tmp_path, text % "block") as daemon:
            assert not net.answers()
            said = daemon.lookup(address)
            # Both selections have the same addresses, and the first one is credited.
            assert (said["blocked"], said["entry"], said["source"], said["line"], said["action"]) == (
                True,
                "country=KP",
                str(world),
                None,
                "block",
            )
            assert (said["country"], said["continent"], said["asn"]) == ("KP", "AS", 64496)
            other = daemon.lookup("2001:db8::7")
            assert (other["blocked"], other["country"], other["continent"], other["asn"]) == (False, "XX", None, 64497)
            nobody = daemon.lookup("203.0.113.7")
            assert (nobody["country"], nobody["continent"], nobody["asn"]) == (None, None, None)
            rows = {row["entry"]: row for row in daemon.rows()}
            assert rows.keys() == {"country=KP", "asn=64496"}
            assert rows["country=KP"]["packets"] >= 1
            assert [row["entry"] for row in daemon.rows(entry="asn=64496")] == ["asn=64496"]
            (busiest,) = (answer["row"] for answer in daemon.ask("top") if "row" in answer)
            assert busiest["entry"] == "country=KP"
            assert daemon.status()["entries"] == {"ipv4": 0, "ipv6": 0, "networks": 2, "monitored": 0, "allowed": 0}
            # It is counted on, and passes; then again it does not. Nothing that was counted is lost.
            daemon.blocklist.write_text(text % "monitor")
            wait_until(net.answers, within_s=_CHANGE_WITHIN_S)
            said = daemon.lookup(address)
            assert (said["blocked"], said["entry"], said["action"]) == (False, "country=KP", "monitor")
            assert said["packets"] > rows["country=KP"]["packets"]
            assert daemon.status()["entries"]["monitored"] == 2
            daemon.blocklist.write_text(text % "block")
            wait_until(lambda: not net.answers(), within_s=_CHANGE_WITHIN_S)
            assert daemon.lookup(address)["packets"] > said["packets"]
            before = daemon.lookup(address)
            # A version in which the country is gone lists what it lists; one that is broken lists nothing else.
            put(world, database({block: elsewhere, "2001:db8::/32": there}))
            wait_until(net.answers, within_s=_CHANGE_WITHIN_S)
            assert daemon.lookup("2001:db8::7")["blocked"]
            assert daemon.lookup("2001:db8::7")["packets"] >= before["packets"], "it is the same entry"
            put(world, world.read_bytes()[:-60])
            wait_until(lambda: daemon.status()["degraded"], within_s=_CHANGE_WITHIN_S)
            assert daemon.lookup("2001:db8::7")["blocked"]
            assert daemon.lookup("2001:db8::7")["country"] == "KP"
            assert "its last good version with 2 entries stays in force" in daemon.log


def test_what_monitors_never_shadows_what_blocks(tmp_path: Path) -> None:
    with Net() as net:
        address = net.peer_address
        block = address.rpartition(".")[0] + ".0/24"
        text = "block: %s\ninclude:\n  - {path: feed.txt, action: monitor}\n"
        feed = tmp_path / "etc" / "feed.txt"
        feed.parent.mkdir()
        feed.write_text(f"{address}\n")
        with Daemon(net, tmp_path, text % f"[{block}]") as daemon:
            assert not net.answers()
            assert (daemon.lookup(address)["entry"], daemon.lookup(address)["action"]) == (block, "block")
            daemon.blocklist.write_text(text % "[]")
            wait_until(net.answers, within_s=_CHANGE_WITHIN_S)
            wait_until(lambda: daemon.lookup(address)["packets"] > 0, within_s=_CHANGE_WITHIN_S)
            said = daemon.lookup(address)
            assert (said["blocked"], said["entry"], said["source"], said["line"]) == (False, address, str(feed), 1)
            passed = daemon.status()["packets"]
            assert net.answers()
            now = daemon.status()["packets"]
            assert (now["dropped"], now["passed"] > passed["passed"]) == (passed["dropped"], True)
