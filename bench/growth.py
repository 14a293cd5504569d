"""How cost grows: a start with 10,000 to 10,000,000 entries of each kind, and with 1 to 1,000 interfaces.

Entries stand in included list files where they say no more than themselves, for a file is read up to 256 MB; those
with reason and end stand in the blocklist. Two kinds end at a million, which the picture says. Nothing is demanded.
"""

import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from bench import many_interfaces, peers
from bench.daemon import Daemon
from bench.figures import XDROPD, Effort, Figure, Report, Spread
from bench.growth_picture import GROUP, INTERFACES, START, SWAP, UP_TO_A_MILLION
from bench.kinds import KINDS, Kind

_RESIDENT = "resident"
_SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
_COUNTS = (1, 10, 100, 1_000)
_LINES_A_FILE = 2_000_000
_SETTLED_S = 3.0


def measure(report: Report, effort: Effort) -> None:
    """One start for each point: the shape of the curve is what counts. `listed` counts entries, or interfaces."""
    for kind in KINDS:
        for size in (100, 1_000) if effort.is_quick else _SIZES:
            if kind not in UP_TO_A_MILLION or size <= 1_000_000:
                _entries(report, kind, size)
    for count in (1, 4) if effort.is_quick else _COUNTS:
        starts, swaps, _ = many_interfaces.taken(count, 1)
        for what, found in ((INTERFACES, starts), (SWAP, swaps)):
            report.add(Figure(GROUP, what, count, "s", {XDROPD: found}))


def _entries(report: Report, kind: Kind, size: int) -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        net = stack.enter_context(peers.host())
        daemon = stack.enter_context(Daemon(net.host, folder, net.device))
        daemon.blocklist.write_text("block: []\n", encoding="utf-8")
        daemon.start()  # leaves the compiled form
        daemon.stop()
        _write(kind, size, daemon.blocklist)
        taken = daemon.start()
        time.sleep(_SETTLED_S)
        resident_mb = daemon.memory().now_bytes / 1e6
    for what, unit, value in ((START, "s", taken), (_RESIDENT, "MB", resident_mb)):
        report.add(Figure(GROUP, f"{kind.name}: {what}", size, unit, {XDROPD: Spread.of([value])}))


def _write(kind: Kind, size: int, blocklist: Path) -> None:
    entries = kind.entries(size)
    if kind.says_more:
        blocklist.write_text("block:\n" + kind.block(entries), encoding="utf-8")
        return
    text = "block: []\ninclude:\n"
    for at in range(0, size, _LINES_A_FILE):
        file = blocklist.with_name(f"list-{at // _LINES_A_FILE}.txt")
        file.write_text("".join(f"{entry}\n" for entry in entries[at : at + _LINES_A_FILE]), encoding="utf-8")
        text += f"  - {file.name}\n"
    blocklist.write_text(text, encoding="utf-8")
