"""Every verb, through the real socket of a real daemon, and what it does to real packets."""

import json
import re
import signal
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from foreground import Daemon

from netns import Net
from waiting import wait_until

VILLAIN, NEIGHBOUR, OTHER = "198.51.100.66", "198.51.100.67", "198.51.100.130"
BLOCKLIST = """\
block:
  - 203.0.113.0/24
  - 192.0.2.7
  - address: 192.0.2.16-192.0.2.20
    reason: ssh brute force
    until: 2090-12-01T00:00:00Z
  - 2001:db8:bad::/48
  - 203.0.113.9
  - 198.51.100.128/25
allow:
  - 203.0.113.64/26
  - 2001:db8:bad:1::1
include:
  - path: list.txt
    reason: a list
"""
LIST_KEYS = ["entry", "source", "line", "reason", "since", "until", "packets", "bytes", "last_seen", "action"]
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")

Done = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def net() -> Iterator[Net]:
    with Net() as made:
        made.address(made.peer, *(f"{address}/{made.length}" for address in (VILLAIN, NEIGHBOUR, OTHER)))
        yield made


@pytest.fixture(scope="module")
def daemon(net: Net, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("daemon")
    (folder / "etc").mkdir()
    (folder / "etc" / "list.txt").write_text("# of others\n198.18.0.0/24\n198.18.1.1\n")
    with Daemon(net, folder, BLOCKLIST) as running:
        yield running


@pytest.fixture(autouse=True)
def _as_it_was(daemon: Daemon) -> Iterator[None]:
    """A test leaves neither blocks nor another blocklist behind."""
    yield
    if daemon.blocklist.read_text() != BLOCKLIST:
        daemon.blocklist.write_text(BLOCKLIST)
        assert daemon.ctl("reload").returncode == 0
    for name in {row["source"] for row in rows(daemon.ctl("--json", "list")) if "/" not in row["source"]}:
        assert daemon.ctl("flush", "--source", name).returncode == 0


def rows(done: Done) -> list[dict[str, Any]]:
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def one(done: Done, status: int = 0) -> dict[str, Any]:
    assert (done.returncode, done.stderr) == (status, ""), done
    (line,) = done.stdout.splitlines()
    answer = json.loads(line)
    assert isinstance(answer, dict)
    return answer


def listed(daemon: Daemon, *more: str) -> dict[str, dict[str, Any]]:
    return {row["entry"]: row for row in rows(daemon.ctl("--json", "list", *more))}


# ---- status ----


def test_status(daemon: Daemon, net: Net) -> None:
    status = one(daemon.ctl("--json", "status"))
    wanted = {"state", "degraded", "version", "interfaces", "entries", "packets", "bytes", "reload"}
    assert wanted <= status.keys()
    assert (status["state"], status["degraded"]) == ("enforcing", False)
    (interface,) = status["interfaces"]
    assert interface.keys() == {"name", "mode", "program_id", "why"}
    shown = json.loads(net.run(net.host, "ip", "-json", "-details", "link", "show", "eth0"))[0]["xdp"]
    assert (interface["name"], interface["mode"]) == ("eth0", "native")
    assert interface["program_id"] == shown["prog"]["id"]
    extra = {"troubles", "ready", "progress", "narrowed", "waiting", "sources", "fetch"}
    assert status.keys() == wanted | extra, "a new key belongs into the manual and protocol.md"
    assert status["entries"] == {"ipv4": 3, "ipv6": 0, "networks": 5, "allowed": 2, "monitored": 0}
    assert status["packets"].keys() == status["bytes"].keys() == {"passed", "dropped", "malformed", "replies"}
    assert status["reload"].keys() == {"at", "ok", "problems"}
    assert MOMENT.fullmatch(status["reload"]["at"])
    assert (status["reload"]["ok"], status["reload"]["problems"]) == (True, [])
    told = daemon.ctl("status")
    assert told.returncode == 0
    assert "is enforcing" in told.stdout
    assert "eth0, native mode" in told.stdout
    assert "3 IPv4 addresses, 0 IPv6 addresses, 5 networks and ranges; 2 allowed" in told.stdout


def test_totals_count_what_comes(daemon: Daemon, net: Net) -> None:
    before = one(daemon.ctl("--json", "status"))["packets"]
    assert not net.answers(OTHER)
    assert net.answers(NEIGHBOUR)
    after = one(daemon.ctl("--json", "status"))["packets"]
    assert after["dropped"] - before["dropped"] == 1
    assert after["passed"] > before["passed"]


# ---- list and lookup ----


def test_list_is_every_entry_as_written(daemon: Daemon) -> None:
    everything = rows(daemon.ctl("--json", "list"))
    assert [list(row) for row in everything] == [LIST_KEYS] * 8
    found = {row["entry"]: (Path(row["source"]).name, row["line"], row["reason"]) for row in everything}
    assert found == {
        "203.0.113.0/24": ("blocklist.yaml", 2, None),
        "192.0.2.7": ("blocklist.yaml", 3, None),
        "192.0.2.16-192.0.2.20": ("blocklist.yaml", 4, "ssh brute force"),
        "2001:db8:bad::/48": ("blocklist.yaml", 7, None),
        "203.0.113.9": ("blocklist.yaml", 8, None),
        "198.51.100.128/25": ("blocklist.yaml", 9, None),
        "198.18.0.0/24": ("list.txt", 2, "a list"),
        "198.18.1.1": ("list.txt", 3, "a list"),
    }
    assert listed(daemon)["192.0.2.16-192.0.2.20"]["until"] == "2090-12-01T00:00:00Z"


def test_list_of_one_source(daemon: Daemon) -> None:
    file = daemon.blocklist.with_name("list.txt")
    assert listed(daemon, "--source", str(file)).keys() == {"198.18.0.0/24", "198.18.1.1"}
    daemon.ctl("block", "192.0.2.50", "--source", "f2b")
    assert listed(daemon, "--source", "f2b").keys() == {"192.0.2.50"}
    assert listed(daemon, "--source", "nobody") == {}
    assert "192.0.2.50" in daemon.ctl("list", "--source", "f2b").stdout


def test_lookup_tells_by_what(daemon: Daemon) -> None:
    inner = one(daemon.ctl("--json", "lookup", "203.0.113.9"))
    assert list(inner) == ["address", "blocked", "kept_by", *LIST_KEYS, "country", "continent", "asn"]
    assert (inner["address"], inner["blocked"], inner["kept_by"]) == ("203.0.113.9", True, None)
    assert (inner["entry"], inner["source"], inner["line"]) == ("203.0.113.9", str(daemon.blocklist), 8)
    assert MOMENT.fullmatch(inner["since"])
    outer = one(daemon.ctl("--json", "lookup", "203.0.113.10"))
    assert (outer["entry"], outer["line"]) == ("203.0.113.0/24", 2)
    assert one(daemon.ctl("--json", "lookup", "2001:DB8:bad:2::0"))["address"] == "2001:db8:bad:2::"
    story = daemon.ctl("lookup", "192.0.2.17")
    assert story.returncode == 0
    for part in (
        "192.0.2.17 is blocked",
        "192.0.2.16-192.0.2.20",
        f"{daemon.blocklist}:4",
        "ssh brute force",
        "2090-12-01",
    ):
        assert part in story.stdout


@pytest.mark.parametrize(
    ("address", "kept_by", "entry"),
    [
        ("203.0.113.70", ("allow", "203.0.113.64/26", 11), "203.0.113.0/24"),
        ("2001:db8:bad:1::1", ("allow", "2001:db8:bad:1::1", 12), "2001:db8:bad::/48"),
        (Net.host_address, ("guard", Net.host_address, None), None),
        ("127.0.0.9", ("guard", "127.0.0.0/8", None), None),
        ("192.0.2.8", None, None),
    ],
)
@pytest.mark.threat_model
def test_lookup_tells_what_keeps_an_address_out(
    daemon: Daemon, address: str, kept_by: tuple[str, str, int | None] | None, entry: str | None
) -> None:
    answer = one(daemon.ctl("--json", "lookup", address), 1)
    assert (answer["blocked"], answer["entry"]) == (False, entry)
    keeper = answer["kept_by"]
    assert keeper is None or list(keeper) == ["kind", "entry", "source", "line"]
    assert (keeper and (keeper["kind"], keeper["entry"], keeper["line"])) == kept_by
    assert not keeper or keeper.keys() == {"kind", "entry", "source", "line"}
    told = daemon.ctl("lookup", address)
    assert told.returncode == 1
    assert f"{address} is not blocked" in told.stdout
    assert not kept_by or kept_by[1] in told.stdout


def test_lookup_wants_an_address(daemon: Daemon) -> None:
    assert daemon.ctl("lookup", "203.0.113.0/24").returncode == 2
    assert one(daemon.ctl("--json", "lookup", "10.0"), 2).keys() == {"error"}


def test_packets_bytes_and_last_seen(daemon: Daemon, net: Net) -> None:
    before = listed(daemon)["198.51.100.128/25"]
    begun = datetime.now(UTC).replace(microsecond=0)
    assert not net.answers(OTHER)
    after = one(daemon.ctl("--json", "lookup", OTHER))
    assert after["entry"] == "198.51.100.128/25"
    assert after["packets"] - before["packets"] == 1
    assert after["bytes"] - before["bytes"] == 98  # Ethernet, IPv4, ICMP and ping's 56 bytes
    seen = datetime.fromisoformat(after["last_seen"])
    assert begun <= seen <= datetime.now(UTC)


# ---- block ----


def test_block_is_in_force_when_it_returns(daemon: Daemon, net: Net) -> None:
    assert net.answers(VILLAIN)
    done = daemon.ctl("block", VILLAIN, "--reason", "night shift")
    assert (done.returncode, done.stdout, done.stderr) == (0, "1 entry blocked\n", "")
    assert not net.answers(VILLAIN)
    assert net.answers(NEIGHBOUR)
    row = listed(daemon, "--source", "xdropctl")[VILLAIN]
    assert (row["line"], row["reason"], row["until"], row["packets"]) == (None, "night shift", None, 1)
    assert daemon.ctl("unblock", VILLAIN).stdout == "1 entry taken back\n"
    assert net.answers(VILLAIN)


def test_block_takes_every_form(daemon: Daemon) -> None:
    entries = ["192.0.2.50", "192.0.2.64/26", "192.0.2.130-192.0.2.140", "2001:db8:1::/64", "2001:db8::1-2001:db8::9"]
    assert one(daemon.ctl("--json", "block", *entries)) == {"blocked": 5, "warnings": []}
    assert listed(daemon, "--source", "xdropctl").keys() == set(entries)
    assert one(daemon.ctl("--json", "unblock", *entries)) == {"unblocked": 5, "remarks": []}


def test_what_is_blocked_is_what_was_meant(daemon: Daemon, net: Net) -> None:
    """A mapped address is the IPv4 address whose packets arrive; bits behind a prefix are nobody's."""
    mapped = f"::ffff:{VILLAIN}"
    as_ipv4 = f"'{mapped}' is IPv4-mapped, it is taken as {VILLAIN}"
    as_network = "'192.0.2.77/26' has bits set behind its prefix, it is taken as 192.0.2.64/26"
    assert one(daemon.ctl("--json", "block", mapped, "192.0.2.77/26")) == {
        "blocked": 2,
        "warnings": [as_ipv4, as_network],
    }
    assert not net.answers(VILLAIN)
    assert listed(daemon, "--source", "xdropctl").keys() == {VILLAIN, "192.0.2.64/26"}
    told = daemon.ctl("lookup", mapped)
    assert (told.returncode, told.stderr) == (0, f"xdropctl: warning: {as_ipv4}\n")
    found = one(daemon.ctl("--json", "lookup", mapped))
    assert (found["address"], found["blocked"], found["remarks"]) == (VILLAIN, True, [as_ipv4])
    done = one(daemon.ctl("--json", "unblock", mapped, "192.0.2.77/26"))
    assert done == {"unblocked": 2, "remarks": [as_ipv4, as_network]}
    assert net.answers(VILLAIN)


def test_a_block_ends_by_itself(daemon: Daemon, net: Net) -> None:
    assert daemon.ctl("block", VILLAIN, "--for", "2s").returncode == 0
    assert not net.answers(VILLAIN)
    wait_until(lambda: net.answers(VILLAIN), within_s=4)
    assert listed(daemon, "--source", "xdropctl") == {}


@pytest.mark.parametrize(
    ("first", "second", "wins"),
    [("1h", "2h", 7200), ("2h", "1h", 7200), ("1h", "none", None), ("-1", "1h", None), ("3600", "60m", 3600)],
)
def test_repeated_the_later_end_wins(daemon: Daemon, first: str, second: str, wins: int | None) -> None:
    now = time.time()
    for duration in (first, second):
        assert daemon.ctl("block", "192.0.2.50", "--for", duration).returncode == 0
    until = listed(daemon, "--source", "xdropctl")["192.0.2.50"]["until"]
    if wins is None:
        assert until is None
    else:
        assert abs(datetime.fromisoformat(until).timestamp() - now - wins) < 10


def test_the_log_says_what_is_so_also_where_a_repetition_changes_nothing(daemon: Daemon) -> None:
    def told() -> list[str]:
        return [line.rpartition(": 192.0.2.50 ")[2] for line in daemon.log.splitlines() if ": 192.0.2.50 " in line]

    before = len(told())
    for at, more in enumerate((("--for", "1h", "--reason", "ssh"), (), ("--for", "1m")), 1):
        daemon.ctl("block", "192.0.2.50", *more)
        wait_until(lambda wanted=before + at: len(told()) == wanted, within_s=5)
    first, *repeated = told()[before:]
    assert re.fullmatch("blocked by xdropctl until [^ ]+Z: ssh", first)
    assert repeated == ["blocked by xdropctl: ssh"] * 2, "for good"


def test_sources_keep_callers_apart(daemon: Daemon, net: Net) -> None:
    assert daemon.ctl("block", VILLAIN, "--source", "f2b").returncode == 0
    assert daemon.ctl("block", VILLAIN, "192.0.2.50").returncode == 0
    done = daemon.ctl("unblock", VILLAIN)
    assert (done.returncode, done.stdout) == (0, "1 entry taken back\n")
    assert "a block of f2b" in done.stderr
    assert not net.answers(VILLAIN)
    assert one(daemon.ctl("--json", "flush", "--source", "f2b")) == {"unblocked": 1}
    assert net.answers(VILLAIN)
    assert listed(daemon, "--source", "xdropctl").keys() == {"192.0.2.50"}
    assert one(daemon.ctl("--json", "flush", "--source", "f2b")) == {"unblocked": 0}


@pytest.mark.threat_model
def test_what_is_exempt_cannot_be_blocked(daemon: Daemon) -> None:
    done = daemon.ctl("block", "192.0.2.50", "203.0.113.64/27", Net.host_address)
    assert done.returncode == 1
    first, second = done.stderr.splitlines()
    assert "203.0.113.64/27 is covered by allow 203.0.113.64/26" in first
    assert f"{daemon.blocklist}:11" in first
    assert f"{Net.host_address} is covered by the guard" in second
    assert listed(daemon, "--source", "xdropctl") == {}
    assert one(daemon.ctl("--json", "block", "127.0.0.1"), 1).keys() == {"error"}


def test_what_is_partly_exempt_is_blocked_with_a_warning(daemon: Daemon, net: Net) -> None:
    done = daemon.ctl("block", "198.51.100.0/26")
    assert (done.returncode, done.stdout) == (0, "1 entry blocked\n")
    assert Net.host_address in done.stderr
    assert "narrowed by the guard" in done.stderr
    assert not daemon.ctl("lookup", "198.51.100.9").returncode
    assert daemon.ctl("lookup", Net.host_address).returncode == 1


def test_a_batch_is_all_or_nothing(daemon: Daemon) -> None:
    done = daemon.ctl("block", "-", stdin="192.0.2.50\n# two\n192.0.2.51 # x\n\n10.0.0.1/33\n")
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr.startswith("standard input:5:1: error: ")
    assert daemon.ctl("block", "-", stdin="192.0.2.50\n203.0.113.65\n").returncode == 1
    assert listed(daemon, "--source", "xdropctl") == {}
    assert daemon.ctl("block", "-", stdin="192.0.2.50\n192.0.2.51\n").returncode == 0
    assert daemon.ctl("unblock", "-", stdin="192.0.2.50\n192.0.2.52\n").returncode == 1
    assert listed(daemon, "--source", "xdropctl").keys() == {"192.0.2.50", "192.0.2.51"}


def test_thousands_are_one_batch(daemon: Daemon) -> None:
    many = "".join(f"100.64.{at // 250}.{at % 250}\n" for at in range(20_000))
    log = daemon.socket.with_name("state") / "blocks.log"
    assert daemon.ctl("block", "192.0.2.50").returncode == 0
    before = log.read_bytes().count(b"\n")
    begun = time.monotonic()
    done = daemon.ctl("block", "-", "--source", "many", stdin=many)
    took_s = time.monotonic() - begun
    assert (done.returncode, done.stdout, done.stderr) == (0, "20000 entries blocked\n", "")
    assert took_s < 5, "a second on an idle machine"
    assert log.read_bytes().count(b"\n") - before == 20_000, "a line an entry"
    assert len(listed(daemon, "--source", "many")) == 20_000
    assert daemon.ctl("unblock", "-", "--source", "many", stdin=many).stdout == "20000 entries taken back\n"


def test_blocks_outlive_the_daemon(net: Net, tmp_path: Path) -> None:
    with Net() as apart:
        apart.address(apart.peer, f"{VILLAIN}/{apart.length}")
        running = Daemon(apart, tmp_path)
        with running:
            assert running.ctl("block", VILLAIN, "--reason", "night shift", "--for", "1h").returncode == 0
            before = listed(running, "--source", "xdropctl")[VILLAIN]
            assert running.stop(signal.SIGKILL) == -signal.SIGKILL
        (tmp_path / "log").unlink()  # where the next one says that it is ready
        with Daemon(apart, tmp_path):
            assert not apart.answers(VILLAIN)
            after = listed(running, "--source", "xdropctl")[VILLAIN]
            assert (after["until"], after["reason"]) == (before["until"], "night shift")


# ---- unblock ----


def test_unblock_of_what_is_not_there_is_a_plain_no(daemon: Daemon) -> None:
    done = daemon.ctl("unblock", "192.0.2.50")
    assert (done.returncode, done.stdout) == (1, "")
    assert "192.0.2.50 is not blocked by xdropctl" in done.stderr
    daemon.ctl("block", "192.0.2.48/28")
    assert daemon.ctl("unblock", "192.0.2.50").returncode == 1, "matched exactly"


@pytest.mark.threat_model
def test_unblock_of_what_a_file_holds_says_where(daemon: Daemon) -> None:
    only = daemon.ctl("unblock", "192.0.2.7")
    assert only.returncode == 1
    assert f"{daemon.blocklist}:3" in only.stderr
    daemon.ctl("block", "192.0.2.7")
    as_well = daemon.ctl("unblock", "192.0.2.7")
    assert (as_well.returncode, as_well.stdout) == (0, "1 entry taken back\n")
    assert f"192.0.2.7 stays blocked, it is held by {daemon.blocklist}:3" in as_well.stderr
    daemon.ctl("block", "203.0.113.200")
    inside = daemon.ctl("unblock", "203.0.113.201")
    assert inside.returncode == 1
    assert f"xdropctl; 203.0.113.0/24 of {daemon.blocklist}:2 blocks it" in inside.stderr
    within = daemon.ctl("unblock", "203.0.113.200")
    assert within.returncode == 0
    assert f"203.0.113.0/24 of {daemon.blocklist}:2" in within.stderr


def test_unblock_names_what_stays_in_a_large_batch_as_well(daemon: Daemon) -> None:
    many = "".join(f"100.64.0.{at}\n" for at in range(150)) + "192.0.2.7\n"
    assert daemon.ctl("block", "-", stdin=many).returncode == 0
    done = daemon.ctl("unblock", "-", stdin=many)
    assert (done.returncode, done.stdout) == (0, "151 entries taken back\n")
    assert done.stderr == f"xdropctl: warning: 192.0.2.7 stays blocked, it is held by {daemon.blocklist}:3\n"


# ---- check and reload ----


def test_check_is_about_files(daemon: Daemon, tmp_path: Path) -> None:
    broken = tmp_path / "blocklist.yaml"
    broken.write_text("block:\n  - 10.0\n")
    done = daemon.ctl("check", str(broken))
    assert done.returncode == 78
    assert done.stderr.startswith(f"{broken}:2:5: error: ")
    assert daemon.ctl("check", str(daemon.blocklist)).returncode == 0


def test_reload_returns_when_it_is_done(daemon: Daemon, net: Net) -> None:
    assert net.answers(VILLAIN)
    daemon.blocklist.write_text(BLOCKLIST.replace("block:\n", f"block:\n  - {VILLAIN}\n", 1))
    done = daemon.ctl("reload")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("enforcing: 9 entries on eth0")
    assert not net.answers(VILLAIN)


def test_a_refused_reload_tells_every_problem_and_changes_nothing(daemon: Daemon, net: Net) -> None:
    daemon.blocklist.write_text(BLOCKLIST.replace("  - 192.0.2.7\n", "  - 192.0.2\n  - 10.0.0.1/8\n"))
    done = daemon.ctl("reload")
    assert done.returncode == 78
    assert [line.partition(" ")[0] for line in done.stderr.splitlines()[:2]] == [
        f"{daemon.blocklist}:3:5:",
        f"{daemon.blocklist}:4:5:",
    ]
    refused = one(daemon.ctl("--json", "reload"), 78)
    assert refused["error"]
    assert refused["problems"][0].keys() == {"file", "line", "column", "message"}
    status = one(daemon.ctl("--json", "status"))
    assert (status["degraded"], status["reload"]["ok"]) == (True, False)
    assert status["reload"]["problems"] == refused["problems"]
    assert listed(daemon).keys() >= {"192.0.2.7", "203.0.113.0/24"}
    assert not net.answers(OTHER)
    assert "degraded" in daemon.ctl("status").stdout


def test_a_large_reload_shows_how_far_it_is(daemon: Daemon) -> None:
    """In `status`, which is answered meanwhile; what systemd shows is the same text."""
    file = daemon.blocklist.with_name("list.txt")
    before = file.read_text()
    try:
        seen = []
        for second in (1, 2):
            lines = (f"{second}.{at >> 16}.{at >> 8 & 255}.{at & 255}\n" for at in range(300_000))
            file.write_text("".join(lines))
            reload = threading.Thread(target=daemon.ctl, args=("reload", "--accept", str(file)))
            reload.start()
            while reload.is_alive():
                seen.append(one(daemon.ctl("--json", "status"))["progress"])
            reload.join()
        assert any(re.fullmatch(r"putting \d{6} entries in force: \d+ %", text) for text in seen), seen
        assert one(daemon.ctl("--json", "status"))["progress"] == ""
    finally:
        file.write_text(before)
        assert daemon.ctl("reload", "--accept", str(file)).returncode == 0


def test_accept_takes_a_list_file_as_it_is(daemon: Daemon) -> None:
    file = daemon.blocklist.with_name("list.txt")
    before = file.read_text()
    try:
        file.write_text("")
        assert daemon.ctl("reload").returncode == 0
        status = one(daemon.ctl("--json", "status"))
        assert status["degraded"]
        assert str(file) in status["troubles"][0]
        assert "198.18.1.1" in listed(daemon)
        assert daemon.ctl("reload", "--accept", str(file)).returncode == 0
        assert "198.18.1.1" not in listed(daemon)
        assert not one(daemon.ctl("--json", "status"))["degraded"]
        stranger = daemon.ctl("reload", "--accept", str(daemon.settings))
        assert stranger.returncode == 1
        assert "is not a list file" in stranger.stderr
    finally:
        file.write_text(before)
        assert daemon.ctl("reload").returncode == 0


# ---- top ----


def test_top_once_is_the_busiest_first(daemon: Daemon, net: Net) -> None:
    daemon.ctl("block", VILLAIN, NEIGHBOUR)
    for address, times in ((VILLAIN, 3), (NEIGHBOUR, 2)):
        for _ in range(times):
            assert not net.answers(address)
    busiest = rows(daemon.ctl("--json", "top", "--once"))
    assert [list(row) for row in busiest] == [LIST_KEYS] * len(busiest)
    found = [(row["entry"], row["packets"]) for row in busiest]
    assert [each for each in found if each[0] in (VILLAIN, NEIGHBOUR)] == [(VILLAIN, 3), (NEIGHBOUR, 2)]
    assert [number for _, number in found] == sorted((number for _, number in found), reverse=True)
    assert len(rows(daemon.ctl("--json", "top", "--once", "--count", "1"))) == 1
    assert VILLAIN in daemon.ctl("top", "--once", "--by", "bytes").stdout
    rates = rows(daemon.ctl("--json", "top", "--once", "--by", "rate"))
    assert {row["entry"] for row in rates} >= {VILLAIN, NEIGHBOUR}
    assert [list(row) for row in rates] == [[*LIST_KEYS, "rate"]] * len(rates)
    assert "PACKETS/S" in daemon.ctl("top", "--once", "--by", "rate").stdout


# ---- the socket ----


@pytest.mark.threat_model
def test_the_socket_is_for_root_and_the_group(daemon: Daemon) -> None:
    found = daemon.socket.stat()
    assert stat.S_ISSOCK(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o660


def test_a_second_daemon_on_the_same_socket_gives_up(daemon: Daemon, net: Net, tmp_path: Path) -> None:
    second = Daemon(net, tmp_path)
    second.socket = daemon.socket
    assert second.start().wait(20) == 69
    assert str(daemon.socket) in second.log
    assert daemon.ctl("status").returncode == 0


def test_a_list_that_is_read_slowly_while_entries_come_and_go(daemon: Daemon) -> None:
    many = "".join(f"100.64.{at // 250}.{at % 250}\n" for at in range(5000))
    daemon.ctl("block", "-", "--source", "many", stdin=many)
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(daemon.socket))
        peer.sendall(b'{"version":1,"verb":"list"}\n')
        received = peer.recv(1 << 12)
        daemon.ctl("block", "100.65.0.1", "--source", "many")
        daemon.ctl("unblock", "100.64.0.1", "100.64.19.1", "--source", "many")
        while chunk := peer.recv(1 << 20):
            received += chunk
    *found, last = map(json.loads, received.splitlines())
    assert last == {"result": {}}
    assert {f"100.64.{at}.7" for at in range(20)} <= {reply["row"]["entry"] for reply in found}


def test_one_who_says_that_he_has_said_all_is_answered(daemon: Daemon) -> None:
    """As `echo … | socat` does: the request, then the end of it."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(daemon.socket))
        peer.sendall(b'{"version":1,"verb":"reload"}\n')
        peer.shutdown(socket.SHUT_WR)
        received = b""
        while chunk := peer.recv(1 << 16):
            received += chunk
    assert json.loads(received)["result"]["ok"] is True


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (b"", "not JSON"),
        (b"[]", "an object"),
        (b"{}", "an object"),
        (b'{"verb":"status"}', "protocol version 1"),
        (b'{"version":2,"verb":"status"}', "protocol version 1, not 2"),
        (b'{"version":1,"verb":"dance"}', "no verb 'dance'"),
        (b'{"version":1,"verb":"lookup"}', '"address" is missing'),
        (b'{"version":1,"verb":"lookup","address":7}', '"address" is a text'),
        (b'{"version":1,"verb":"block","entries":[]}', '"entries" is a list'),
        (b'{"version":1,"verb":"block","entries":["10.0"]}', "'10.0'"),
        (b'{"version":1,"verb":"block","entries":["192.0.2.1"],"seconds":0}', '"seconds"'),
        (b'{"version":1,"verb":"block","entries":["192.0.2.1"],"seconds":NaN}', '"seconds"'),
        (b'{"version":1,"verb":"block","entries":["192.0.2.1"],"seconds":1e300}', '"seconds"'),
        (b'{"version":1,"verb":"block","entries":["192.0.2.1"],"seconds":true}', '"seconds"'),
        (b'{"version":1,"verb":"block","entries":["192.0.2.1"],"reason":"\\ud800"}', '"reason"'),
        (b'{"version":1,"verb":"block","entries":["192.0.2.1"],"reason":"a\\nb"}', '"reason"'),
        (b'{"version":1,"verb":"block","entries":["192.0.2.1"],"source":"a/b"}', '"source"'),
        (b'{"version":1,"verb":"block","entries":["192.0.2.1"],"source":""}', '"source"'),
        (b'{"version":1,"verb":"list","entry":"x"}', "'x'"),
        (b'{"version":1,"verb":"top","by":"luck"}', '"by"'),
        (b'{"version":1,"verb":"top","count":true}', '"count"'),
        (b'{"version":1,"verb":"top","count":1000000}', '"count"'),
        (b'{"version":1,"verb":"reload","accept":"list.txt"}', '"accept"'),
        (b'{"version":1,"verb":"status","x":' + b"[" * 100_000, "not JSON"),
        (b'{"version":1,"verb":"status","x":' + b"1" * 100_000 + b"}", "not JSON"),
    ],
)
def test_requests_that_make_no_sense(daemon: Daemon, request_: bytes, says: str) -> None:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(daemon.socket))
        peer.sendall(request_ + b"\n")
        received = b""
        while chunk := peer.recv(1 << 16):
            received += chunk
    reply = json.loads(received)
    assert reply["kind"] == "BadRequest"
    assert says in reply["error"]
    assert daemon.ctl("status").returncode == 0
    assert "bug" not in daemon.log
