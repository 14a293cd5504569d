"""Lists by URL under a real systemd: the path unit starts the fetcher, which has its own user, and a packet stops."""

import json
from collections.abc import Iterator
from pathlib import Path

import installation
import pytest
import service
import wire
from machine import Machine
from service import BLOCKLIST, SETTINGS, UNIT
from wire import NEIGHBOUR, VILLAIN

from roots import SUITES
from waiting import wait_until

FETCHER = "xdropd-fetch.service"
SERVER = "lists.service"
ANOTHER = "203.0.113.7"  # nobody's
URL = "http://127.0.0.1:8000/drop.txt"


@pytest.fixture(scope="module", params=SUITES)
def machine(request: pytest.FixtureRequest, cache: Path, package: Path) -> Iterator[Machine]:
    """Each Debian with xdropd installed, a cable, and a web server of its own."""
    with installation.machine_with(package, cache, request.param) as made:
        wire.lay(made)
        made.write(SETTINGS, f"interfaces: [{wire.DEVICE}]\n")
        made.run("mkdir", "/srv/www")
        server = ("python3", "-m", "http.server", "--directory=/srv/www", "--bind=127.0.0.1", "8000")
        made.run("systemd-run", f"--unit={SERVER}", *server)
        listening = ("ss", "--no-header", "--listening", "--tcp", "sport = 8000")
        wait_until(lambda: made.run(*listening).stdout, within_s=30, what="the web server listens")
        made.run("systemctl", "start", "xdropd-fetch.path", "xdropd-fetch.timer")
        yield made


@pytest.mark.threat_model
def test_a_url_is_fetched_by_a_process_without_powers(machine: Machine) -> None:
    machine.write("/srv/www/drop.txt", f"{VILLAIN}\n")
    machine.write(BLOCKLIST, "block: []\n")
    machine.run("systemctl", "start", UNIT)
    assert wire.answers(machine, VILLAIN)
    assert service.status(machine)["fetch"] == []

    machine.write(BLOCKLIST, f"block: []\ninclude: [{{url: '{URL}', every: 5m}}]\n")
    wait_until(lambda: not wire.answers(machine, VILLAIN), within_s=30)
    assert wire.answers(machine, NEIGHBOUR)
    assert service.lookup(machine, VILLAIN)["source"] == URL
    owners = machine.run("sh", "-c", "stat --format='%U %a' /var/lib/xdropd-fetch /var/lib/xdropd-fetch/*").stdout
    assert owners.splitlines() == ["_xdropd-fetch 755", "_xdropd-fetch 644", "_xdropd-fetch 644"]

    # Not more than it needs: neither the control socket nor what the daemon keeps.
    as_fetcher = ("setpriv", "--reuid=_xdropd-fetch", "--regid=_xdropd-fetch", "--clear-groups")
    assert machine.run(*as_fetcher, "xdropctl", "status", check=False).returncode == 77
    assert machine.run(*as_fetcher, "cat", "/run/xdropd/fetch.json").returncode == 0
    assert machine.run(*as_fetcher, "ls", "/var/lib/xdropd", check=False).returncode != 0

    machine.write("/srv/www/drop.txt", f"{ANOTHER}\n")
    done = machine.run("xdropctl", "--json", "fetch", within_s=120)
    (told,) = json.loads(done.stdout)["fetched"]
    assert (told["url"], told["ok"], told["changed"], told["failure"]) == (URL, True, True, None)
    assert wire.answers(machine, VILLAIN)
    assert service.lookup(machine, ANOTHER)["blocked"]

    machine.run("rm", "/srv/www/drop.txt")
    assert machine.run("xdropctl", "fetch", URL, check=False, within_s=120).returncode == 69
    assert service.lookup(machine, ANOTHER)["blocked"]
    assert machine.run("systemctl", "is-failed", FETCHER, check=False).stdout != "failed\n"
    ours = [line for line in machine.journal(FETCHER) if line.get("SYSLOG_IDENTIFIER") == "xdropd-fetch"]
    assert [str(line["MESSAGE"]) for line in ours] == [
        f"{URL}: has come",
        f"{URL}: the server answers 404 Not Found; what came last stays",
    ]
    assert [line["XDROPD_SOURCE"] for line in ours] == [URL] * 2


def test_a_package_that_is_purged_leaves_no_fetch_behind(machine: Machine) -> None:
    """The last test, for it has the package no more."""
    silent = "import socket, time; server = socket.create_server(('127.0.0.1', 8001)); time.sleep(600)"
    machine.run("systemd-run", "--unit=silent.service", "python3", "-c", silent)
    listening = ("ss", "--no-header", "--listening", "--tcp", "sport = 8001")
    wait_until(lambda: machine.run(*listening).stdout, within_s=30, what="the silent server listens")
    machine.write(BLOCKLIST, "block: []\ninclude: [{url: 'http://127.0.0.1:8001/drop.txt'}]\n")
    fetching = ("pgrep", "--uid=_xdropd-fetch")
    wait_until(lambda: machine.run(*fetching, check=False).stdout, within_s=30, what="a fetch is under way")
    machine.run("dpkg", "--purge", "xdropd")
    assert machine.run(*fetching, check=False).stdout == ""
    assert machine.run("ls", "/var/lib/xdropd-fetch", check=False).returncode != 0
