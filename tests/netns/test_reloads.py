"""Reloads without end: real lists that differ, one after the other, leave memory and descriptors where they were."""

import itertools
from ipaddress import ip_network
from pathlib import Path

from foreground import Daemon

from descriptors import held_open
from netns import Net
from waiting import wait_until

_TURN = 8  # as many versions as there are
_WARM_UP_TURNS = 6  # the allocator, the hints and the maps find their size
_GROWTH_KB_AT_MOST = 1 << 10
_AS_ITS_UNIT = {"PYTHONMALLOC": "malloc"}
_SETTLES_WITHIN_S = 10.0


def memory_kb(daemon: Daemon) -> int:
    assert daemon.process
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def descriptors(daemon: Daemon) -> list[str]:
    """What is open, BPF maps and programs included, by kind: numbers of sockets and of deleted files differ."""
    assert daemon.process
    return sorted(link.partition(":[")[0] for link in held_open(daemon.process.pid))


def test_reloads_leave_memory_and_descriptors_where_they_were(tmp_path: Path, corpus: Path, full: bool) -> None:
    lists = corpus / "lists"
    versions = [
        [file.read_bytes() for file in sorted((lists / series).glob("v*"))]
        for series in ("series-spamhaus-drop", "series-tor-exits")
    ]
    assert [len(set(texts)) for texts in versions] == [4, 4]
    count = _TURN * (1_250 if full else 38)  # whole turns: what is compared is resident with the same lists
    etc = tmp_path / "etc"
    etc.mkdir()
    files = [etc / "drop.txt", etc / "tor.txt"]
    for file, texts in zip(files, versions, strict=True):
        file.write_bytes(texts[0])
    block = "block: []\ninclude: [drop.txt, tor.txt]\n"
    with Net(addresses=False) as net, Daemon(net, tmp_path, block, environment=_AS_ITS_UNIT) as daemon:
        texts = itertools.chain.from_iterable(zip(*map(itertools.cycle, versions), strict=True))
        order = zip(itertools.cycle(files), texts, strict=True)

        def reloads() -> int:
            told: dict[str, int] = daemon.ask("metrics")[-1]["result"]["reloads"]
            assert (told["refused"], told["failed"]) == (0, 0), daemon.log[-2000:]
            return told["ok"]

        def reload(times: int) -> None:
            for file, text in itertools.islice(order, times):
                before = reloads()
                new = file.with_name(".new")
                new.write_bytes(text)
                new.replace(file)
                wait_until(lambda: reloads() > before, within_s=5, what=daemon.log[-2000:])  # noqa: B023

        reload(_TURN * _WARM_UP_TURNS)
        settled = _settled_kb(daemon)
        open_before = descriptors(daemon)
        reload(count)
        wait_until(
            lambda: descriptors(daemon) == open_before, within_s=_SETTLES_WITHIN_S, what="descriptors are let go"
        )
        grown = _settled_kb(daemon) - settled
        print(f"\n{count} reloads: {settled} kB resident before, {grown:+d} kB after, {len(open_before)} descriptors")
        assert grown <= _GROWTH_KB_AT_MOST
        assert daemon.log.count("blocklist: ") > count
        assert not daemon.status()["degraded"]
        assert "were repaired" not in daemon.log
        # And what is in force is what the files say.
        lines = [line for file in files for line in file.read_text().splitlines() if line[:1] not in "#;"]
        assert {ip_network(row["entry"]) for row in daemon.rows()} == {ip_network(line.split()[0]) for line in lines}


def _settled_kb(daemon: Daemon) -> int:
    """Once nothing is given back any more."""
    seen = [memory_kb(daemon)]

    def is_steady() -> bool:
        seen.append(memory_kb(daemon))
        return len(seen) > 50 and len(set(seen[-50:])) == 1  # a second

    wait_until(is_steady, within_s=_SETTLES_WITHIN_S, what="the memory is steady")
    return seen[-1]
