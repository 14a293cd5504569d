"""Real lists, included as their publishers write them: in force at a fresh start, memory, and again `block: []`.

From the folder that --lists names, or from the corpus that the tests use, unpacked at $XDROPD_CORPUS.
"""

import os
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from bench import peers
from bench.answers import Waiting
from bench.daemon import Daemon
from bench.figures import XDROPD, Demand, Effort, Figure, Report, Spread, in_turns
from bench.stories import EMPTY
from xdropd.errors import Unavailable
from xdropd.text import listfiles

_GROUP = "real lists"
_LARGEST = 8
_ENTRIES_AT_LEAST = 1_000
_ROUNDS = 3
_SETTLED_S = 3.0


def measure(report: Report, effort: Effort) -> None:
    """The largest lists of a folder, each with all its entries. Raises Unavailable where there is none."""
    folder = effort.lists or Path(os.environ.get("XDROPD_CORPUS", "/nonexistent")) / "lists"
    files = [file for file in folder.rglob("*") if file.is_file()]
    counts = {file: listfiles.read(file.read_bytes(), file.name).listing.count for file in files}
    found = [file for file in sorted(files, key=counts.__getitem__, reverse=True) if counts[file] >= _ENTRIES_AT_LEAST]
    if not found:
        raise Unavailable(f"there is no large list in {folder}, name a folder with --lists")
    for file in found[: 2 if effort.is_quick else _LARGEST]:
        _measure(report, file, counts[file], effort)


def _measure(report: Report, file: Path, count: int, effort: Effort) -> None:
    def add(what: str, unit: str, found: Spread, *demands: Demand) -> None:
        report.add(Figure(_GROUP, f"{file.parent.name}/{file.name}: {what}", count, unit, {XDROPD: found}, demands))

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        net = stack.enter_context(peers.host())
        daemon = stack.enter_context(Daemon(net.host, folder, net.device))
        whole = f'block: []\ninclude:\n  - "{file.resolve()}"\n'
        daemon.blocklist.write_text(whole, encoding="utf-8")
        daemon.start()

        def fresh() -> float:
            daemon.stop()
            return daemon.start()

        with Waiting(daemon) as waiting:
            add("file to in force, fresh start", "s", in_turns({XDROPD: fresh}, effort.rounds(_ROUNDS))[XDROPD])
            time.sleep(_SETTLED_S)
            add("resident", "MB", Spread.of([daemon.memory().now_bytes / 1e6]))
            begun = time.monotonic()
            daemon.reload(EMPTY)
            add("replaced by block: []", "s", Spread.of([time.monotonic() - begun]), Demand(1.5))
        add("status, longest wait in all this", "s", Spread.of([waiting.longest_s]), Demand(0.1))
