"""How cost grows: lists of every kind from ten thousand to ten million entries, and one to a thousand interfaces.

Nothing is demanded; docs/ has the picture. Only on request: the largest lists take a while to make.
"""

import tempfile
from contextlib import ExitStack
from pathlib import Path

from bench import interfaces, peers
from bench.daemon import Daemon
from bench.figures import XDROPD, Effort, Figure, Report, Spread
from bench.kinds import KINDS, Kind

GROUP = "growth"
SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
COUNTS = (1, 10, 100, 1_000)

_ROUNDS = 2


def measure(report: Report, effort: Effort) -> None:
    """Fresh starts, then interfaces."""
    for kind in KINDS:
        for size in effort.sizes(*SIZES):
            _start(report, kind, size, effort)
    for count in COUNTS[: 2 if effort.is_quick else None]:
        interfaces.measured(report, count, effort)


def _start(report: Report, kind: Kind, size: int, effort: Effort) -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        net = stack.enter_context(peers.host())
        daemon = stack.enter_context(Daemon(net.host, folder, net.device))
        daemon.blocklist.write_text(kind.blocklist(kind.entries(size)), encoding="utf-8")
        daemon.start()
        taken = []
        for _ in range(effort.rounds(_ROUNDS)):
            daemon.stop()
            taken.append(daemon.start())
        report.add(Figure(GROUP, kind.name, size, "s", {XDROPD: Spread.of(taken)}))
