"""What a running daemon notices by itself: settings, ends, clocks, its host's addresses, list files, its own maps."""

import json
import re
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from foreground import Daemon
from othertime import OtherTime
from traffic import Traffic

from descriptors import fdinfos
from netns import Net
from waiting import wait_until

VILLAIN, NEIGHBOUR = "198.51.100.66", "198.51.100.67"
LISTED = f"block:\n  - {VILLAIN}\n"
WITHIN_S = 2.0
_DAY_S = 86_400
_RECONCILES_WITHIN_S = 620.0

# What follows the hardware addresses: an IPv4 and an IPv6 header that end too early.
TRUNCATED = [b"\x08\x00" + bytes(19), b"\x86\xdd" + bytes(39)]


@pytest.fixture
def net() -> Iterator[Net]:
    with Net() as made:
        made.address(made.peer, *(f"{address}/{made.length}" for address in (VILLAIN, NEIGHBOUR)))
        yield made


@pytest.fixture
def silent() -> Iterator[Net]:
    """Two hosts that say nothing by themselves."""
    with Net(addresses=False) as made:
        yield made


def is_blocked(daemon: Daemon, address: str) -> bool:
    return bool(daemon.lookup(address)["blocked"])


def replace(file: Path, text: str) -> None:
    new = file.with_name(f".{file.name}.new")
    new.write_text(text)
    new.replace(file)


def saved(daemon: Daemon, file: Path, text: str) -> None:
    """Save a file and wait until the daemon has read it."""
    before = daemon.log.count("blocklist: ")
    replace(file, text)
    wait_until(lambda: daemon.log.count("blocklist: ") > before, within_s=WITHIN_S, what=daemon.log)


# ---- settings ----


def test_action_malformed_and_log_drops_take_effect_when_they_are_saved(silent: Net, tmp_path: Path) -> None:
    device = f"interfaces: [{silent.device}]\n"
    sources = {"villain": [VILLAIN], "innocent": [NEIGHBOUR], "malformed": TRUNCATED}
    (tmp_path / "etc").mkdir()
    settings = tmp_path / "etc" / "xdropd.yaml"
    settings.write_text(f"{device}log_drops: 0\n")
    with Daemon(silent, tmp_path, LISTED, "--settings", str(settings)) as daemon:

        def passing(text: str) -> set[str]:
            saved(daemon, settings, device + text)
            before = daemon.status()["packets"]
            with Traffic(silent, sources) as traffic:
                traffic.wait_for(200)
            counted = {verdict: count - before[verdict] for verdict, count in daemon.status()["packets"].items()}
            groups = {"passed": "innocent", "dropped": "villain", "malformed": "malformed"}
            sent = {verdict: traffic.sent[group] for verdict, group in groups.items()}
            assert counted == {**sent, "replies": 0}
            assert all(traffic.passed[group] in (0, traffic.sent[group]) for group in sources)
            return {group for group in sources if traffic.passed[group]}

        assert passing("log_drops: 0\n") == {"innocent"}
        assert passing("log_drops: 0\nmalformed: pass\n") == {"innocent", "malformed"}
        assert passing("log_drops: 0\naction: monitor\n") == {"innocent", "villain", "malformed"}
        assert daemon.status()["state"] == "monitoring"
        assert passing("log_drops: 0\n") == {"innocent"}
        assert daemon.status()["state"] == "enforcing"
        assert not re.search("dropped .* bytes", daemon.log)

        # Refused as a whole: nothing of it, the good lines included, takes effect.
        replace(settings, f"{device}action: monitor\nmalformed: maybe\nlog_drops: often\n")
        wait_until(lambda: "the settings file is refused" in daemon.log, within_s=WITHIN_S)
        for line in (3, 4):
            assert f"{settings}:{line}:" in daemon.log
        told = daemon.status()
        assert (told["state"], told["degraded"]) == ("enforcing", True)
        assert daemon.ctl("reload").returncode == 78
        assert passing("log_drops: 0\n") == {"innocent"}
        assert not daemon.status()["degraded"]


def test_sampled_drops_keep_to_their_rate_however_many_packets_come(silent: Net, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    settings = tmp_path / "etc" / "xdropd.yaml"
    settings.write_text(f"interfaces: [{silent.device}]\nlog_drops: 5/s\n")
    sample = re.compile(
        rf"^xdropd: info: dropped 60 bytes from {VILLAIN} on {silent.device}, listed as {VILLAIN}", re.MULTILINE
    )
    with Daemon(silent, tmp_path, LISTED, "--settings", str(settings)) as daemon:
        begun = time.monotonic()
        with Traffic(silent, {"villain": [VILLAIN]}) as traffic:
            wait_until(lambda: time.monotonic() > begun + 2, within_s=3)
            saved(daemon, settings, f"interfaces: [{silent.device}]\nlog_drops: 0\n")
            took_s = time.monotonic() - begun
            lines = len(sample.findall(daemon.log))
            traffic.wait_for(1000)
        assert 5 <= lines <= 5 * took_s + 1, (lines, took_s)
        assert len(sample.findall(daemon.log)) <= lines + 1, "one may have been on its way"
        assert traffic.sent["villain"] > 1000 * lines


# ---- the guard ----


def test_the_guard_follows_the_host_at_once(net: Net, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    settings = tmp_path / "etc" / "xdropd.yaml"
    settings.write_text(f"interfaces: [{net.device}]\n")
    block = "block:\n  - 198.51.100.0/24\n  - 203.0.113.9\n  - 2001:db8::/32\n  - 127.0.0.0/8\n"
    with Daemon(net, tmp_path, block, "--settings", str(settings)) as daemon:

        def kept(address: str, what: str) -> Callable[[], bool]:
            return lambda: (daemon.lookup(address)["kept_by"] or {}).get("source") == what

        assert kept(net.host_address, "address of this host")()
        assert kept("127.1.2.3", "loopback")()
        assert is_blocked(daemon, "203.0.113.9")
        net.run(net.host, "ip", "address", "add", "203.0.113.9/32", "dev", "lo")
        wait_until(kept("203.0.113.9", "address of this host"), within_s=WITHIN_S)
        net.run(net.host, "ip", "address", "del", "203.0.113.9/32", "dev", "lo")
        wait_until(lambda: is_blocked(daemon, "203.0.113.9"), within_s=WITHIN_S)
        assert not net.answers(net.peer_address)
        for route in (
            ("default", "via", net.peer_address),
            ("203.0.113.0/24", "via", net.peer_address, "table", "100"),
        ):
            net.run(net.host, "ip", "route", "add", *route)
            wait_until(kept(net.peer_address, "gateway"), within_s=WITHIN_S)
            assert net.answers(net.peer_address)
            assert not net.answers(VILLAIN)
            net.run(net.host, "ip", "route", "del", *route)
            wait_until(lambda: is_blocked(daemon, net.peer_address), within_s=WITHIN_S)
        net.run(net.host, "ip", "-6", "route", "add", "default", "via", net.peer_address6)
        wait_until(kept(net.peer_address6, "gateway"), within_s=WITHIN_S)
        entry = f"198.51.100.0/24 of {daemon.blocklist}"
        narrowed = f"{entry} is narrowed by the guard: {net.host_address} is an address of this host"
        wait_until(lambda: narrowed in daemon.log, within_s=WITHIN_S)  # when there is nothing better to do
        assert narrowed in daemon.status()["narrowed"]
        saved(daemon, settings, f"interfaces: [{net.device}]\nguard: false\n")
        for address in (net.host_address, "127.1.2.3", net.peer_address6):
            assert is_blocked(daemon, address)
        saved(daemon, settings, f"interfaces: [{net.device}]\nguard: true\n")
        assert kept(net.peer_address6, "gateway")()


# ---- ends ----


def at(moment_s: float) -> str:
    return datetime.fromtimestamp(moment_s, UTC).isoformat().replace("+00:00", "Z")


def test_entries_end_at_their_second_without_a_reload(net: Net, tmp_path: Path) -> None:
    end_s = int(time.time()) + 4
    until = f", until: '{at(end_s)}'"
    block = (
        f"block:\n  - {{address: {VILLAIN}{until}}}\n  - {{address: 198.51.100.64-198.51.100.95{until}}}\n"
        f"  - {{address: {NEIGHBOUR}, reason: a while{until}}}\n  - {{address: {NEIGHBOUR}, reason: for good}}\n"
        f"  - 192.0.2.7\nallow:\n  - {{address: 192.0.2.0/28{until}}}\ninclude: [list.txt]\n"
    )
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "list.txt").write_text("192.0.2.9\n")
    with Daemon(net, tmp_path, block) as daemon:
        reloads = daemon.log.count("blocklist: ")
        assert not net.answers(VILLAIN)
        assert daemon.lookup(VILLAIN)["until"] == at(end_s)
        assert daemon.lookup(NEIGHBOUR)["reason"] == "a while"
        assert not is_blocked(daemon, "192.0.2.7")
        assert time.time() < end_s - 0.5, "too slow a machine to tell"
        wait_until(lambda: net.answers(VILLAIN), within_s=6)
        assert end_s - 0.35 <= time.time() <= end_s + 1.5, "a ping takes up to 0.3 s, and a while to start"
        assert f"{VILLAIN} of {daemon.blocklist} has ended" in daemon.log
        assert not is_blocked(daemon, VILLAIN)
        # The next mention in the same file takes over, and what was allowed for a while is blocked.
        assert daemon.lookup(NEIGHBOUR)["reason"] == "for good"
        assert not net.answers(NEIGHBOUR)
        wait_until(lambda: is_blocked(daemon, "192.0.2.7") and is_blocked(daemon, "192.0.2.9"), within_s=WITHIN_S)
        assert daemon.log.count("blocklist: ") <= reloads + 1, "only allow is read again"


def test_clocks_that_jump_and_ends_while_the_daemon_was_down(net: Net, tmp_path: Path) -> None:
    clock = OtherTime(tmp_path)
    end_s = int(time.time()) + 3600
    block = f"block:\n  - {{address: {VILLAIN}, until: '{at(end_s)}'}}\n"
    with Daemon(net, tmp_path, block, environment=clock.environment) as daemon:
        assert daemon.ctl("block", NEIGHBOUR, "--for", "1h").returncode == 0
        assert daemon.ctl("block", "192.0.2.0/24", "--for", "1h", "--source", "other").returncode == 0
        assert not net.answers(VILLAIN)
        for _ in range(2):
            clock.shift(_DAY_S)
            wait_until(lambda: net.answers(VILLAIN) and net.answers(NEIGHBOUR), within_s=WITHIN_S)
            assert not is_blocked(daemon, "192.0.2.1")
            clock.shift(0)
            wait_until(lambda: not net.answers(VILLAIN) and not net.answers(NEIGHBOUR), within_s=WITHIN_S)
            assert is_blocked(daemon, "192.0.2.1")
        # Files are dated by another clock than the daemon's, a day off: what is saved is in force all the same.
        for shift_s in (_DAY_S, -_DAY_S, 0):
            clock.shift(shift_s)
            for entry in ("203.0.113.1", "203.0.113.2", "203.0.113.1"):
                saved(daemon, daemon.blocklist, block + f"  - {entry}\n")
                assert is_blocked(daemon, entry)
        assert "the clock was set back" in daemon.log
        assert daemon.ctl("reload").returncode == 0
        assert "differed" not in daemon.log
        assert daemon.stop() == 0
    clock.shift(_DAY_S)
    with Daemon(net, tmp_path, block, environment=clock.environment) as daemon:
        assert net.answers(VILLAIN)
        assert net.answers(NEIGHBOUR)
        assert daemon.status()["entries"]["ipv4"] == 0


# ---- stopped for a while ----


def test_frozen_and_thawed(net: Net, tmp_path: Path) -> None:
    """The filter goes on without the daemon, and what happened meanwhile is taken up when it comes back."""
    end_s = int(time.time()) + 4
    ends = f"{{address: 192.0.2.7, until: '{at(end_s)}'}}"
    with Daemon(net, tmp_path, f"block: [{VILLAIN}, {ends}, 203.0.113.9]\n") as daemon:
        assert daemon.process
        pid = daemon.process.pid
        assert is_blocked(daemon, "192.0.2.7")
        daemon.process.send_signal(signal.SIGSTOP)
        wait_until(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] == "T", within_s=WITHIN_S)

        assert not net.answers(VILLAIN)
        assert net.answers(NEIGHBOUR)
        replace(daemon.blocklist, f"block: [{NEIGHBOUR}, {ends}, 203.0.113.9]\n")
        net.run(net.host, "ip", "address", "add", "203.0.113.9/32", "dev", "lo")
        with socket.socket(socket.AF_UNIX) as asking:
            asking.connect(str(daemon.socket))
            asking.sendall(b'{"version":1,"verb":"block","entries":["192.0.2.8"]}\n')
            wait_until(lambda: time.time() > end_s, within_s=6)
            assert not net.answers(VILLAIN)

            daemon.process.send_signal(signal.SIGCONT)
            asking.settimeout(WITHIN_S)
            assert b'"blocked":1' in asking.recv(1 << 16)
        wait_until(lambda: is_blocked(daemon, NEIGHBOUR), within_s=WITHIN_S, what=daemon.log)
        wait_until(lambda: not is_blocked(daemon, "203.0.113.9"), within_s=WITHIN_S, what="the guard has followed")
        assert is_blocked(daemon, "192.0.2.8")
        assert not is_blocked(daemon, "192.0.2.7")
        assert net.answers(VILLAIN)
        assert not net.answers(NEIGHBOUR)


# ---- list files ----


def test_list_files_come_turn_bad_recover_and_go(net: Net, tmp_path: Path) -> None:
    lists = tmp_path / "etc" / "lists.d"
    lists.mkdir(parents=True)
    first, second = lists / "a.netset", lists / "b.netset"
    first.write_text(f"{VILLAIN}\n")
    with Daemon(net, tmp_path, "block: []\ninclude: [lists.d/*.netset]\n") as daemon:
        assert not net.answers(VILLAIN)
        assert net.answers(NEIGHBOUR)
        saved(daemon, second, f"# later\n{NEIGHBOUR}\t9\n")
        assert not net.answers(NEIGHBOUR)
        for text in ("", "<html>\n<body>gone</body>\n"):
            saved(daemon, first, text)
            assert not net.answers(VILLAIN)
            (trouble,) = daemon.status()["troubles"]
            assert trouble.startswith(f"{first}: error: ")
            assert trouble.endswith("its last good version with 1 entries stays in force")
            assert f"error: {trouble}" in daemon.log
        assert daemon.stop() == 0
    with Daemon(net, tmp_path, daemon.blocklist.read_text()) as daemon:
        assert not net.answers(VILLAIN), "also in another life"
        assert daemon.status()["degraded"]
        saved(daemon, first, f"{VILLAIN}\n")
        assert not daemon.status()["degraded"]
        saved(daemon, first, "")
        assert daemon.status()["degraded"]
        assert daemon.ctl("reload", "--accept", str(first)).returncode == 0
        assert not daemon.status()["degraded"]
        assert net.answers(VILLAIN)
        before = daemon.log.count("blocklist: ")
        second.unlink()
        wait_until(lambda: daemon.log.count("blocklist: ") > before, within_s=WITHIN_S)
        assert net.answers(NEIGHBOUR)
        assert not daemon.status()["degraded"], "a glob that no longer matches is no trouble"


def test_a_start_on_broken_files_takes_the_last_good_ones(net: Net, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    settings, listed = tmp_path / "etc" / "xdropd.yaml", tmp_path / "etc" / "list.txt"
    good = f"interfaces: [{net.device}]\naction: drop\nmalformed: pass\n"
    settings.write_text(good)
    listed.write_text(f"{NEIGHBOUR}\n")
    block = LISTED + "include: [list.txt]\n"
    with Daemon(net, tmp_path, block, "--settings", str(settings)) as daemon:
        wait_until((tmp_path / "state" / "last-good" / "xdropd.yaml").exists, within_s=WITHIN_S)
        # What is saved later than it was read is not what was good.
        settings.write_text("interfaces: [")
        listed.unlink()
        assert daemon.ctl("reload").returncode == 78
        assert daemon.stop() == 0
    with Daemon(net, tmp_path, "block:\n", "--settings", str(settings)) as daemon:
        assert not net.answers(VILLAIN)
        assert not net.answers(NEIGHBOUR)
        assert net.answers(net.peer_address)
        assert [sentence.partition(":")[0] for sentence in daemon.status()["troubles"]] == [
            "the settings file is refused, the last good ones are in force",
            "the blocklist is refused, the last good one is in force",
            str(listed),
        ]
        saved(daemon, daemon.blocklist, "block: []\n")
        assert net.answers(VILLAIN)


# ---- reconciliation ----


def bpftool(*arguments: str) -> None:
    subprocess.run(["bpftool", *arguments], check=True, capture_output=True)


def maps_of(daemon: Daemon) -> dict[str, str]:
    """Ids of the daemon's maps by name (as the kernel has it, 15 characters)."""
    assert daemon.process
    told = fdinfos(daemon.process.pid)
    ids = {match[1] for text in told if (match := re.search(r"^map_id:\s+(\d+)", text, re.MULTILINE))}
    shown = [json.loads(subprocess.check_output(["bpftool", "-j", "map", "show", "id", number])) for number in ids]
    return {each["name"]: str(each["id"]) for each in shown}


def octets(data: bytes) -> list[str]:
    return ["hex", *(f"{byte:02x}" for byte in data)]


def packed(*addresses: str) -> list[str]:
    return octets(b"".join(map(socket.inet_aton, addresses)))


def key4(address: str) -> list[str]:
    return octets(bytes(4) + socket.inet_aton(address))


_ZERO = octets(bytes(4))
_MONITOR = octets(struct.pack("=QII", 0, 1, 0))

# What is done to which map, and whose packets then meet something else: a source, and whether it is dropped rightly.
HARM = {
    "a listed address is gone": ([("addresses4", "delete", key4(VILLAIN), None)], VILLAIN, True),
    "an address that nobody lists": (
        [("addresses4", "update", key4(NEIGHBOUR), octets(bytes(32)))],
        NEIGHBOUR,
        False,
    ),
    "a network is gone": ([("networks4", "delete", packed("192.0.2.0", "255.255.255.0"), None)], "192.0.2.7", True),
    "a hole is gone": ([("networks4", "delete", packed("192.0.2.9", "255.255.255.255"), None)], "192.0.2.9", False),
    "a hint is gone": (
        [("address_filter", "update", octets(struct.pack("=I", word)), octets(bytes(8))) for word in range(256)],
        VILLAIN,
        True,
    ),
    "another setting": ([("settings", "update", _ZERO, _MONITOR)], VILLAIN, True),
    "no program in force": ([("in_force", "delete", _ZERO, None)], VILLAIN, True),
}


def test_what_was_taken_a_moment_before_the_end_is_the_last_good_version(silent: Net, tmp_path: Path) -> None:
    with Daemon(silent, tmp_path, "block: []\ninclude: [feed.txt]\n") as daemon:
        feed = daemon.blocklist.with_name("feed.txt")
        replace(feed, f"{VILLAIN}\n")
        assert daemon.ctl("reload").returncode == 0
        replace(feed, "")
        assert daemon.stop() == 0
        with daemon:
            assert is_blocked(daemon, VILLAIN), daemon.log


def test_the_end_waits_for_what_is_being_kept(silent: Net, tmp_path: Path) -> None:
    """As on a busy disk, on which fsync(2) takes half a second."""
    slowly = (
        "strace",
        "-D",
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "trace=fsync",
        "-e",
        "inject=fsync:delay_enter=500000",
    )
    block = "block: []\ninclude: [feed.txt]\n"
    feed = tmp_path / "etc" / "feed.txt"
    feed.parent.mkdir()
    feed.write_text(f"{VILLAIN}\n")
    with Daemon(silent, tmp_path, block, within=slowly) as daemon:
        wait_until(lambda: [*(tmp_path / "state").rglob(".blocklist*.new")], within_s=5)
        assert daemon.stop() == 0
    replace(feed, "")
    with Daemon(silent, tmp_path, block) as daemon:
        assert is_blocked(daemon, VILLAIN), daemon.log


def test_what_somebody_changes_behind_the_back_is_repaired_and_logged(net: Net, tmp_path: Path, full: bool) -> None:
    """On request (a reload or SIGHUP), and, which takes ten minutes of waiting, by itself."""
    block = f"block:\n  - {VILLAIN}\n  - 192.0.2.0/24\n  - 203.0.113.0/24\nallow:\n  - 192.0.2.9\n"
    with Daemon(net, tmp_path, block) as daemon:
        assert daemon.process
        net.address(net.peer, "192.0.2.7/24", "192.0.2.9/24")
        net.run(net.host, "ip", "route", "add", "192.0.2.0/24", "dev", net.device)
        for verb in ("block", "unblock"):  # whose hints stay: else the foreign address would not even be looked up
            assert daemon.ctl(verb, NEIGHBOUR).returncode == 0
        maps = maps_of(daemon)

        def repairs() -> int:
            return len(re.findall("^xdropd: warning: .* repaired$", daemon.log, re.MULTILINE))

        def harm(what: str) -> int:
            changes, source, is_dropped = HARM[what]
            assert net.answers(source) != is_dropped
            for name, how, key, value in changes:
                bpftool("map", how, "id", maps[name], "key", *key, *(["value", *value] if value else []))
            assert net.answers(source) == is_dropped, f"{what}: no harm was done"
            return repairs()

        for number, what in enumerate(HARM):
            before = harm(what)
            if number % 2:
                daemon.process.send_signal(signal.SIGHUP)
            else:
                assert daemon.ctl("reload").returncode == 0
            wait_until(lambda: repairs() > before, within_s=WITHIN_S, what=what)  # noqa: B023
            assert net.answers(HARM[what][1]) != HARM[what][2], what
        if full:
            before = harm("a network is gone")
            wait_until(lambda: repairs() > before, within_s=_RECONCILES_WITHIN_S)
            assert not net.answers("192.0.2.7")
        before = repairs()
        for _ in range(3):
            assert daemon.ctl("reload").returncode == 0
        assert repairs() == before, "nothing differs any more"
