"""From one list to another under fire: no packet of a source that is in both passes, none of one in neither is dropped.

Every frame that is sent is accounted for: by the driver, by a packet socket behind the filter, by the daemon's totals
and by the entries that it credits.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from foreground import Daemon
from traffic import Traffic

from netns import Net
from waiting import wait_until

# What may be missing of an entry's count, for each change: packets in flight when one list takes over from another.
IN_FLIGHT = 64


@pytest.fixture
def net() -> Iterator[Net]:
    """Two hosts that say nothing by themselves, so that all frames are ours."""
    with Net(addresses=False) as made:
        yield made


def listed(*entries: str, allow: tuple[str, ...] = ()) -> str:
    text = "block:\n" + "".join(f"  - {entry}\n" for entry in entries)
    return text + ("allow:\n" + "".join(f"  - {entry}\n" for entry in allow) if allow else "")


def addresses(count: int, step: int = 1) -> list[str]:
    """10.0.0.0 and so on."""
    return [f"10.{at >> 16}.{at >> 8 & 255}.{at & 255}" for at in range(0, count * step, step)]


class Case:
    """Lists to go through again and again; `both` are sources in all of them, `neither` in none."""

    def __init__(self, lists: list[Callable[[], str]], both: list[str], neither: list[str]) -> None:
        self.lists = lists
        self.both = both
        self.neither = neither


CASES = {
    "a network and its addresses": Case(
        [lambda: listed("192.0.2.0/24"), lambda: listed(*(f"192.0.2.{at}" for at in range(256)))],
        [f"192.0.2.{at}" for at in range(256)],
        ["192.0.1.255", "192.0.3.0", "192.0.130.7"],
    ),
    "a network and its addresses, in IPv6": Case(
        [lambda: listed("2001:db8:5::/120"), lambda: listed(*(f"2001:db8:5::{at:x}" for at in range(256)))],
        [f"2001:db8:5::{at:x}" for at in range(256)],
        ["2001:db8:5::100", "2001:db8:4:ffff:ffff:ffff:ffff:ffff", "2001:db8:5::1:7"],
    ),
    "a network, a range, its halves, and wider ones, with a hole": Case(
        [
            lambda: listed("10.0.0.0/8", allow=("10.1.0.0/16",)),
            lambda: listed("10.0.0.0/9", "10.128.0.0/9", allow=("10.1.0.0/16",)),
            lambda: listed("10.0.0.0-10.255.255.255", allow=("10.1.0.0-10.1.127.255", "10.1.128.0/17")),
            lambda: listed("8.0.0.0/6", "10.1.0.0/24", "10.1.0.9", allow=("10.1.0.0/16", "9.0.0.0/8")),
            lambda: listed("10.0.0.0-10.0.255.255", "10.2.0.0-10.255.255.255"),
            lambda: listed("0.0.0.0/0", allow=("10.1.0.0/16", "9.0.0.0/8", "192.0.0.0/2")),
        ],
        ["10.0.0.0", "10.0.255.255", "10.2.0.0", "10.127.255.255", "10.128.0.0", "10.255.255.255"],
        ["10.1.0.0", "10.1.0.9", "10.1.127.255", "10.1.128.0", "10.1.255.255", "9.255.255.255", "198.51.100.1"],
    ),
    "cut in half and doubled": Case(
        [lambda: listed(*addresses(20_000)), lambda: listed(*addresses(10_000, 2))],
        ["10.0.0.0", "10.0.0.2", "10.0.78.30", "10.0.60.8", "10.0.39.16"],
        ["10.0.78.32", "10.1.0.0", "9.255.255.255", "11.0.0.2"],
    ),
    "tenfold and back": Case(
        [lambda: listed(*addresses(2000), "203.0.113.0/24"), lambda: listed(*addresses(20_000), "203.0.113.0/25")],
        ["10.0.0.0", "10.0.7.207", "10.0.3.3", "203.0.113.0", "203.0.113.127"],
        ["10.0.78.32", "10.1.0.0", "203.0.114.0", "203.0.112.255"],
    ),
    "something else but for a few": Case(
        [
            lambda: listed("203.0.113.7", *(f"100.64.{at >> 8}.{at & 255}" for at in range(3000)), "2001:db8::/48"),
            lambda: listed("203.0.113.0/29", *(f"10.{at >> 8}.{at & 255}.0/24" for at in range(3000)), "2001:db8::/32"),
            lambda: listed("203.0.113.7-203.0.113.8", "2001:db8::7"),
        ],
        ["203.0.113.7", "2001:db8::7"],
        ["203.0.113.9", "100.64.11.184", "10.11.184.1", "2001:db7::7", "2001:db9::"],
    ),
}


def replace(file: Path, text: str) -> None:
    new = file.with_name(".new")
    new.write_text(text)
    new.replace(file)


def changes(daemon: Daemon) -> int:
    return daemon.log.count("blocklist: ")


def change(daemon: Daemon, text: str) -> None:
    """Save it and wait until it is in force."""
    before = changes(daemon)
    replace(daemon.blocklist, text)
    wait_until(lambda: changes(daemon) > before, within_s=20, what=f"the change is in force\n{daemon.log[-2000:]}")


@pytest.mark.parametrize("name", CASES)
def test_every_packet_is_accounted_for(net: Net, tmp_path: Path, full: bool, name: str) -> None:
    case = CASES[name]
    rounds = 25 if full else 2
    texts = [make() for make in case.lists]
    with Daemon(net, tmp_path, texts[0]) as daemon:
        with Traffic(net, {"both": case.both, "neither": case.neither}) as traffic:
            for text in (texts[1:] + texts[:1]) * rounds:
                traffic.wait_for(1000)
                change(daemon, text)
            traffic.wait_for(1000)
        both, neither = traffic.sent["both"], traffic.sent["neither"]
        print(f"\n{name}: {rounds * len(texts)} changes, {both} frames in both, {neither} in neither")
        assert traffic.met == both + neither, "the cable lost some"
        assert traffic.passed == {"both": 0, "neither": neither}
        assert traffic.dropped == both
        told = daemon.status()
        assert told["packets"] == {"passed": neither, "dropped": both, "malformed": 0, "replies": 0}
        assert not told["degraded"], daemon.log


def history(daemon: Daemon, source: str, entry: str) -> tuple[int, int]:
    """Packets and bytes of an entry of a source."""
    (found,) = daemon.rows(source=source, entry=entry)
    return found["packets"], found["bytes"]


def test_counts_stay_with_their_entries_through_every_change(net: Net, tmp_path: Path, full: bool) -> None:
    """Grown tenfold, shrunk, surrounded by networks and by addresses: what stays listed counts on."""
    entries = ["192.0.2.7", "198.51.100.0/24", "203.0.113.7-203.0.113.99", "2001:db8::7", "2001:db8:1::/48"]
    around = [
        addresses(1000),
        addresses(10_000),
        ["192.0.2.0/24", "198.51.100.9", "203.0.113.0/24", "2001:db8::/32"],
        [f"192.0.2.{at}" for at in range(8, 256)] + ["203.0.113.128/25", "2001:db8:1:1::1"],
        [f"10.{at >> 8}.{at & 255}.0/24" for at in range(5000)],
        [],
    ]
    sources = ["192.0.2.7", "198.51.100.8", "203.0.113.99", "2001:db8::7", "2001:db8:1::ffff"]
    rounds = 10 if full else 1
    with Daemon(net, tmp_path, listed(*entries)) as daemon:
        with Traffic(net, dict(zip(entries, ([source] for source in sources), strict=True))) as traffic:
            for more in around * rounds:
                change(daemon, listed(*entries, *more))
                traffic.wait_for(1000)
        assert traffic.dropped == traffic.met == sum(traffic.sent.values())
        counted = {entry: history(daemon, str(daemon.blocklist), entry) for entry in entries}
        missing = {entry: traffic.sent[entry] - packets for entry, (packets, _) in counted.items()}
        print(f"\n{sum(traffic.sent.values())} frames, missing after {len(around) * rounds} changes: {missing}")
        assert all(0 <= count <= IN_FLIGHT * len(around) * rounds for count in missing.values())
        for packets, total_bytes in counted.values():
            assert total_bytes % packets == 0, "packets and bytes go together"


def test_an_entry_that_is_exempt_or_preceded_for_a_while_keeps_its_count(net: Net, tmp_path: Path) -> None:
    """And whoever precedes it begins with none of it, also where the change needs other maps."""
    many = addresses(3000)
    first, second = tmp_path / "etc" / "lists" / "1.txt", tmp_path / "etc" / "lists" / "2.txt"
    first.parent.mkdir(parents=True)
    first.write_text("100.64.0.1\n")
    second.write_text("192.0.2.7\n192.0.2.8\n2001:db8::7\n")
    include = "include:\n  - lists/*.txt\n"
    with Daemon(net, tmp_path, "block: []\n" + include) as daemon:

        def fire(groups: dict[str, list[str]]) -> dict[str, int]:
            with Traffic(net, groups) as traffic:
                traffic.wait_for(200)
            assert traffic.passed == {group: 0 if group != "allowed" else traffic.sent[group] for group in groups}
            return traffic.sent

        def put(file: Path, text: str) -> None:
            before = changes(daemon)
            replace(file, text)
            wait_until(lambda: changes(daemon) > before, within_s=10, what=daemon.log)

        sent = fire({"7": ["192.0.2.7"], "8": ["192.0.2.8"], "six": ["2001:db8::7"]})
        put(first, "\n".join(["192.0.2.7", "2001:db8::7", *many]))  # precedes, and needs other maps
        assert history(daemon, str(first), "192.0.2.7") == (0, 0)
        assert history(daemon, str(second), "192.0.2.7")[0] == sent["7"]
        ahead = fire({"7": ["192.0.2.7"], "six": ["2001:db8::7"]})
        assert history(daemon, str(first), "192.0.2.7")[0] == ahead["7"]
        assert history(daemon, str(second), "192.0.2.7")[0] == sent["7"]

        put(daemon.blocklist, "block: []\nallow: [192.0.2.0/28]\n" + include)
        fire({"allowed": ["192.0.2.7"]})
        assert history(daemon, str(first), "192.0.2.7")[0] == ahead["7"]
        put(daemon.blocklist, "block: []\n" + include)
        put(first, "\n".join(["100.64.0.1", *many]))
        again = fire({"7": ["192.0.2.7"], "8": ["192.0.2.8"], "six": ["2001:db8::7"]})
        for entry, name in (("192.0.2.7", "7"), ("192.0.2.8", "8"), ("2001:db8::7", "six")):
            assert history(daemon, str(second), entry)[0] == sent[name] + again[name]

        # What left the list meanwhile begins anew.
        put(daemon.blocklist, "block: []\nallow: [192.0.2.7]\n" + include)
        put(second, "192.0.2.8\n2001:db8::7\n")
        put(daemon.blocklist, "block: []\n" + include)
        put(second, "192.0.2.7\n192.0.2.8\n2001:db8::7\n")
        assert history(daemon, str(second), "192.0.2.7") == (0, 0)
        assert history(daemon, str(second), "192.0.2.8")[0] == sent["8"] + again["8"]
