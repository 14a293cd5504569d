"""Debian's own fail2ban, whose bans xdropd carries out by the action that the package brings: `banaction = xdropd`.

One machine a Debian for all of it. Each test bans addresses of its own, in the jail that it names.
"""

import json
import re
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import installation
import pytest
import service
import wire
from machine import Machine
from wire import VILLAIN

from roots import SUITES
from waiting import wait_until

UNIT = "fail2ban.service"
_LOG = "/var/log/fail2ban.log"
_MANY = 500

# What a user writes, but for the jails. No name is looked up: there is no name server.
_JAILS = """
[DEFAULT]
banaction = xdropd
backend = polling
usedns = no
bantime = 1h
findtime = 1h
maxretry = 1
filter = knock

[sshd]
enabled = false

[knock]
enabled = true
logpath = /var/log/knock.log

[many]
enabled = true
logpath = /var/log/many.log

[wide]
enabled = true
logpath = /var/log/wide.log
banaction = xdropd[ipv6prefix=64]

[rising]
enabled = true
logpath = /var/log/rising.log
bantime = 3
bantime.increment = true
bantime.multipliers = 1 3

[odd; name]
enabled = true
logpath = /var/log/odd.log
"""
_FILTER = "[Definition]\nfailregex = knock from <ADDR>$\n"
_HOSTS = "127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {}\n"


@pytest.fixture(scope="module", params=SUITES)
def with_fail2ban(request: pytest.FixtureRequest, cache: Path, package: Path) -> Iterator[Machine]:
    """A Debian on which both run, with a cable."""
    with installation.machine_with(package, cache, request.param, "fail2ban") as machine:
        machine.run("systemctl", "stop", UNIT)
        wire.lay(machine)
        machine.write(service.SETTINGS, f"interfaces: [{wire.DEVICE}]\n")
        machine.write(service.BLOCKLIST, "block: []\nallow:\n  - 192.0.2.128/25\n")
        machine.write("/etc/hosts", _HOSTS.format(machine.run("hostname").stdout.strip()))
        machine.write("/etc/resolv.conf", "nameserver 127.0.0.1\n")
        machine.write("/etc/fail2ban/filter.d/knock.conf", _FILTER)
        machine.write("/etc/fail2ban/jail.local", _JAILS)
        for jail in ("knock", "many", "wide", "rising", "odd"):
            machine.write(f"/var/log/{jail}.log", "")
        machine.write(_LOG, "")
        machine.run("systemctl", "start", service.UNIT)
        machine.run("systemctl", "start", UNIT)
        _wait_until_it_answers(machine)
        yield machine


def _client(machine: Machine, *words: str, check: bool = True) -> str:
    return machine.run("fail2ban-client", *words, check=check, within_s=90).stdout.strip()


def _wait_until_it_answers(machine: Machine) -> None:
    """With all of its jails started."""
    wait_until(lambda: "rising" in _client(machine, "status", check=False), within_s=20, what="fail2ban answers")


def _restart(machine: Machine) -> None:
    machine.run("systemctl", "restart", UNIT)
    _wait_until_it_answers(machine)


def _ban(machine: Machine, jail: str, *addresses: str) -> None:
    """Returns when the action has been carried out, or has failed."""
    _client(machine, "set", jail, "banip", *addresses)


def _unban(machine: Machine, jail: str, *addresses: str) -> None:
    _client(machine, "set", jail, "unbanip", *addresses)


def _knock(machine: Machine, jail: str, *addresses: str) -> None:
    """What a service writes into its log."""
    now = machine.run("date", "+%FT%T").stdout.strip()
    lines = "".join(f"{now} knock from {address}\n" for address in addresses)
    machine.run("sh", "-c", f"cat >>/var/log/{jail}.log", stdin=lines)


def _blocked(machine: Machine, jail: str) -> dict[str, dict[str, Any]]:
    """What xdropd has in force for a jail, by entry."""
    said = machine.run("xdropctl", "--json", "list", "--source", f"fail2ban-{jail}").stdout
    return {row["entry"]: row for row in map(json.loads, said.splitlines())}


def _until_s(machine: Machine, jail: str, address: str) -> float:
    return datetime.fromisoformat(_blocked(machine, jail)[address]["until"]).timestamp()


def _log(machine: Machine, since: int = 0) -> list[str]:
    """The lines of fail2ban's log from that one on, without their date and process: "ERROR   ...":"""
    lines = machine.read(_LOG).splitlines()[since:]
    return [re.sub(r"^.* \[\d+\]: ", "", line) for line in lines]


def _errors(machine: Machine, since: int) -> list[str]:
    """Errors and worse, without the numbers that fail2ban gives to commands."""
    said = [line for line in _log(machine, since) if line.startswith(("ERROR", "CRITICAL"))]
    return [re.sub(r"^(\w+ +)[0-9a-f]+ -- ", r"\1", line) for line in said]


def test_a_line_in_a_log_bans_and_an_operator_unbans(with_fail2ban: Machine) -> None:
    machine, since = with_fail2ban, len(_log(with_fail2ban))
    assert wire.answers(machine, VILLAIN)
    _knock(machine, "knock", VILLAIN, "2001:db8::1")
    wait_until(lambda: len(_blocked(machine, "knock")) == 2, within_s=15, what="both are banned")
    assert not wire.answers(machine, VILLAIN)
    bans = _blocked(machine, "knock")
    assert {entry: row["reason"] for entry, row in bans.items()} == {VILLAIN: "knock", "2001:db8::1": "knock"}

    _unban(machine, "knock", VILLAIN)
    assert wire.answers(machine, VILLAIN)
    assert set(_blocked(machine, "knock")) == {"2001:db8::1"}
    _unban(machine, "knock", "2001:db8::1")
    assert _blocked(machine, "knock") == {}
    assert _errors(machine, since) == []


def test_networks_are_banned_as_well(with_fail2ban: Machine) -> None:
    machine, since = with_fail2ban, len(_log(with_fail2ban))
    _ban(machine, "knock", "203.0.113.0/24", "2001:db8:5::/48")
    _ban(machine, "wide", "2001:db8:6::/48")
    assert set(_blocked(machine, "knock")) == {"203.0.113.0/24", "2001:db8:5::/48"}
    assert set(_blocked(machine, "wide")) == {"2001:db8:6::/48"}
    _unban(machine, "knock", "203.0.113.0/24", "2001:db8:5::/48")
    _unban(machine, "wide", "2001:db8:6::/48")
    assert _blocked(machine, "knock") == _blocked(machine, "wide") == {}
    assert _errors(machine, since) == []


def test_an_ipv6_source_is_banned_with_its_64(with_fail2ban: Machine) -> None:
    """Two in one network: who is unbanned is open again, who is not stays blocked."""
    machine, since = with_fail2ban, len(_log(with_fail2ban))
    first, second, neighbour = (f"2001:db8:7::{number}" for number in (1, 2, 3))
    _ban(machine, "wide", first, "192.0.2.9")
    assert set(_blocked(machine, "wide")) == {first, "2001:db8:7::/64", "192.0.2.9"}
    assert service.lookup(machine, neighbour)["entry"] == "2001:db8:7::/64"
    _ban(machine, "wide", second)

    _unban(machine, "wide", first)
    assert [service.lookup(machine, each)["blocked"] for each in (first, second, neighbour)] == [False, True, False]
    _ban(machine, "wide", neighbour)
    assert service.lookup(machine, first)["blocked"]
    _unban(machine, "wide", second, neighbour, "192.0.2.9")
    assert _blocked(machine, "wide") == {}
    assert _errors(machine, since) == []


def test_restarted_it_bans_again_what_its_database_holds(with_fail2ban: Machine) -> None:
    """With the end that the ban had: also after a sudden end, through which bans stay in force."""
    machine, since = with_fail2ban, len(_log(with_fail2ban))
    _ban(machine, "knock", "192.0.2.1", "2001:db8::2")
    machine.run("xdropctl", "block", "192.0.2.2")
    end_s = _until_s(machine, "knock", "192.0.2.1")
    assert 3590 < end_s - time.time() < 3610
    wait_until(lambda: time.time() > end_s - 3597, within_s=10, what="there is less left of it than a bantime")

    _restart(machine)
    wait_until(lambda: len(_blocked(machine, "knock")) == 2, within_s=15, what="both are banned again")
    assert abs(_until_s(machine, "knock", "192.0.2.1") - end_s) <= 2

    before = len(_log(machine))
    machine.run("systemctl", "kill", "--signal=KILL", UNIT)  # and systemd starts it again
    assert len(_blocked(machine, "knock")) == 2
    restored = "NOTICE  [knock] Restore Ban"
    wait_until(lambda: sum(line.startswith(restored) for line in _log(machine, before)) == 2, within_s=15)
    _unban(machine, "knock", "2001:db8::2")  # waits for what runs before it
    assert abs(_until_s(machine, "knock", "192.0.2.1") - end_s) <= 2

    machine.run("systemctl", "stop", UNIT)
    assert _blocked(machine, "knock") == {}
    assert service.lookup(machine, "192.0.2.2")["blocked"], "somebody else's"
    machine.run("systemctl", "start", UNIT)
    wait_until(lambda: set(_blocked(machine, "knock")) == {"192.0.2.1"}, within_s=15, what="it is banned again")
    _unban(machine, "knock", "192.0.2.1")
    assert _blocked(machine, "knock") == {}
    assert _errors(machine, since) == []


def test_all_are_unbanned_as_often_as_one_likes(with_fail2ban: Machine) -> None:
    """And a jail that stops has nothing left, although its bans were flushed before."""
    machine, since = with_fail2ban, len(_log(with_fail2ban))
    for undo in (("unban", "--all"), ("unban", "--all"), ("stop", "knock")):
        _ban(machine, "knock", "192.0.2.3", "2001:db8::3")
        assert set(_blocked(machine, "knock")) == {"192.0.2.3", "2001:db8::3"}
        _client(machine, *undo)
        assert _blocked(machine, "knock") == {}
    _restart(machine)  # a jail that was stopped has its bans in the database, and is there again
    wait_until(lambda: len(_blocked(machine, "knock")) == 2, within_s=15)
    _client(machine, "unban", "--all")
    assert _errors(machine, since) == []


def test_who_is_banned_again_is_banned_for_longer(with_fail2ban: Machine) -> None:
    machine, since = with_fail2ban, len(_log(with_fail2ban))
    _ban(machine, "rising", "192.0.2.4")
    assert "192.0.2.4" in _blocked(machine, "rising")
    wait_until(lambda: "NOTICE  [rising] Unban 192.0.2.4" in _log(machine, since), within_s=10, what="the ban ends")
    wait_until(lambda: _blocked(machine, "rising") == {}, within_s=5, what="what is logged is done")

    _ban(machine, "rising", "192.0.2.4")
    wait_until(lambda: _until_s(machine, "rising", "192.0.2.4") - time.time() > 5, within_s=5, what="it is prolonged")
    _unban(machine, "rising", "192.0.2.4")
    assert _blocked(machine, "rising") == {}
    assert _errors(machine, since) == []


def test_a_ban_for_good(with_fail2ban: Machine) -> None:
    machine = with_fail2ban
    _client(machine, "set", "knock", "bantime", "-1")
    try:
        _ban(machine, "knock", "192.0.2.5")
        assert _blocked(machine, "knock")["192.0.2.5"]["until"] is None
    finally:
        _client(machine, "set", "knock", "bantime", "3600")
    _unban(machine, "knock", "192.0.2.5")


def test_a_jail_with_a_name_that_means_something_to_a_shell(with_fail2ban: Machine) -> None:
    machine, since, jail = with_fail2ban, len(_log(with_fail2ban)), "odd; name"
    _ban(machine, jail, "192.0.2.10", "192.0.2.11")
    assert {row["reason"] for row in _blocked(machine, jail).values()} == {jail}
    _unban(machine, jail, "192.0.2.10")
    assert set(_blocked(machine, jail)) == {"192.0.2.11"}
    _client(machine, "unban", "--all")
    assert _blocked(machine, jail) == {}
    assert _errors(machine, since) == []


def test_who_is_allowed_is_not_banned_and_the_log_says_why(with_fail2ban: Machine) -> None:
    """fail2ban tries twice, and counts the source as banned."""
    machine, since = with_fail2ban, len(_log(with_fail2ban))
    _ban(machine, "knock", "192.0.2.200")
    why = f"192.0.2.200 is covered by allow 192.0.2.128/25 of {service.BLOCKLIST}:3, blocking it would have no effect"
    tried, said, status, *_, failed = _errors(machine, since)
    assert tried.startswith("ERROR   exec: xdropctl block 192.0.2.200 ")
    assert said == f"ERROR   stderr: 'xdropctl: error: {why}'"
    assert status == "ERROR   returned 1"
    assert failed.endswith("Error banning 192.0.2.200")
    assert len(_errors(machine, since)) == 7

    since = len(_log(machine))
    _unban(machine, "knock", "192.0.2.200")
    assert _errors(machine, since) == []


def test_a_ban_while_xdropd_is_stopped(with_fail2ban: Machine) -> None:
    """It is lost until fail2ban restarts, and what was banned before is not: neither its ban nor its end."""
    machine = with_fail2ban
    _ban(machine, "knock", "192.0.2.6", "192.0.2.7")
    machine.run("systemctl", "stop", service.UNIT)
    since = len(_log(machine))
    _ban(machine, "knock", "192.0.2.8")
    tried, said, status, *_, failed = _errors(machine, since)
    assert tried.startswith("ERROR   exec: xdropctl block 192.0.2.8 ")
    assert "xdropd does not answer on /run/xdropd/control.sock: " in said
    assert "systemctl start xdropd" in said
    assert status == "ERROR   returned 69"
    assert failed.endswith("Error banning 192.0.2.8")

    _ban(machine, "knock", "192.0.2.12")
    since = len(_log(machine))
    _unban(machine, "knock", "192.0.2.12")
    assert "ERROR   returned 69" in _errors(machine, since)

    machine.run("systemctl", "start", service.UNIT)
    assert set(_blocked(machine, "knock")) == {"192.0.2.6", "192.0.2.7"}
    _unban(machine, "knock", "192.0.2.6")
    assert set(_blocked(machine, "knock")) == {"192.0.2.7"}
    _restart(machine)
    wait_until(lambda: set(_blocked(machine, "knock")) == {"192.0.2.7", "192.0.2.8"}, within_s=15)
    _client(machine, "unban", "--all")
    assert _blocked(machine, "knock") == {}


def test_many_at_once_while_xdropd_restarts_and_is_killed(with_fail2ban: Machine) -> None:
    machine, since = with_fail2ban, len(_log(with_fail2ban))
    sources = list(service.addresses(_MANY))
    _knock(machine, "many", *sources)

    def are_banned(count: int) -> bool:
        time.sleep(0.5)  # to look is work as well
        return len(_blocked(machine, "many")) >= count

    def at_least(count: int) -> None:
        wait_until(lambda: are_banned(count), within_s=120, what=f"{count} are banned")

    at_least(_MANY // 10)
    machine.run("systemctl", "restart", service.UNIT)
    at_least(_MANY // 2)
    machine.run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", service.UNIT)
    at_least(_MANY)
    assert set(_blocked(machine, "many")) == set(sources)
    assert _errors(machine, since) == []
    _client(machine, "unban", "--all")
    assert _blocked(machine, "many") == {}
