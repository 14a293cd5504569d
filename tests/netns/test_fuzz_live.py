"""Mutated files under a running daemon: a list, or problems with places; never a bug, and never a changed map.

The texts alone, 50,000 of them, are tests/unit/test_fuzz_text.py's; here is what becomes of them in the kernel.
"""

import json
import random
import re
import subprocess
from pathlib import Path

from foreground import Daemon

from descriptors import fdinfos
from mutations import BLOCKLISTS, LISTS, mutated
from netns import Net

BLOCK = "block:\n  - 192.0.2.1\n  - 203.0.113.0/24\n  - 198.51.100.7-198.51.100.29\n  - 2001:db8::/32\n"
INCLUDE = "include:\n  - listed\n"


def in_the_kernel(daemon: Daemon) -> dict[tuple[str, str], set[str]]:
    """The keys of the maps that decide, by size of key and value: addresses and prefixes, as bpftool reads them."""
    assert daemon.process
    found = {}
    for told in fdinfos(daemon.process.pid):
        about = dict(re.findall(r"^(\w+):\s+(\d+)", told, re.MULTILINE))
        if about.get("map_type") == "1":  # BPF_MAP_TYPE_HASH
            dump = json.loads(subprocess.check_output(["bpftool", "-j", "map", "dump", "id", about["map_id"]]))
            found[about["key_size"], about["value_size"]] = {"".join(entry["key"]) for entry in dump}
    assert found.keys() == {("8", "32"), ("16", "32"), ("8", "4"), ("32", "4")}
    return found


def test_mutated_files_are_taken_or_refused_whole(tmp_path: Path, full: bool) -> None:
    count = 3000 if full else 60
    order = random.Random(7)
    good = (BLOCK + INCLUDE).encode()
    outcomes = {"taken": 0, "refused": 0, "kept": 0}
    etc = tmp_path / "etc"
    etc.mkdir()
    listed = etc / "listed"
    listed.write_text("10.0.0.1\n10.9.0.0/16\n")
    with Net(addresses=False) as net, Daemon(net, tmp_path, good.decode()) as daemon:
        before, in_force = in_the_kernel(daemon), sorted(row["entry"] for row in daemon.rows())
        for _ in range(count):
            if order.random() < 0.3:
                file, data = listed, mutated(order, LISTS)
            else:
                file, data = daemon.blocklist, mutated(order, [good, good, *BLOCKLISTS])
            new = file.with_name(".new")
            new.write_bytes(data)
            new.replace(file)
            told = daemon.ask("reload")[-1]["result"]
            now, rows = in_the_kernel(daemon), sorted(row["entry"] for row in daemon.rows())
            if not told["ok"]:
                outcomes["refused"] += 1
                assert all(problem["file"] == str(daemon.blocklist) and problem["line"] for problem in told["problems"])
                assert file == daemon.blocklist
                assert (now, rows) == (before, in_force), data
                file.write_bytes(good)
                assert daemon.ask("reload")[-1]["result"]["ok"]
                now, rows = in_the_kernel(daemon), sorted(row["entry"] for row in daemon.rows())
            elif any(str(listed) in trouble for trouble in told["troubles"]):
                outcomes["kept"] += 1
            else:
                outcomes["taken"] += 1
            before, in_force = now, rows
        assert "Traceback" not in daemon.log
        assert "bug" not in daemon.log
        assert "repaired" not in daemon.log
    assert min(outcomes.values()) > count / 50, f"too little of something to mean much: {outcomes}"
