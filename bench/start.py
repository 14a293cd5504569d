"""From starting the daemon to READY=1: fresh, and when it adopts a filter that is in force."""

import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from bench import kinds, peers
from bench.daemon import Daemon
from bench.figures import XDROPD, Demand, Effort, Figure, Report, in_turns
from bench.kinds import Kind

_GROUP = "start"
_ROUNDS = 9
_LISTED = 10_000
_MILLION = 1_000_000
_SETTLED_S = 3.0


def measure(report: Report, effort: Effort) -> None:
    """The descriptors are kept by the bench's own service manager, which gives them back as systemd would."""
    for count in effort.sizes(_LISTED, _MILLION):
        _measure(report, kinds.ADDRESSES, count, effort.rounds(_ROUNDS))
    for count in effort.sizes(_MILLION):
        _measure(report, kinds.NETWORKS, count, effort.rounds(_ROUNDS))


def _measure(report: Report, kind: Kind, count: int, rounds: int) -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        net = stack.enter_context(peers.host())
        daemon = stack.enter_context(Daemon(net.host, folder, net.device))
        daemon.blocklist.write_text(kind.blocklist(kind.entries(count)), encoding="utf-8")

        def first() -> float:
            daemon.stop()
            daemon.forget_everything()
            return daemon.start()

        def fresh() -> float:
            daemon.stop()
            return daemon.start()

        def adopting() -> float:
            time.sleep(_SETTLED_S)  # what is in force is handed over once it has been so for a moment
            daemon.kill()
            return daemon.start()

        adopted_s = 0.3 if count == _LISTED else 0.4
        measures = {
            "first start ever, compiles": (first, 1.0),
            "fresh": (fresh, 1.0),
            "adopting": (adopting, adopted_s),
        }
        found = in_turns({what: run for what, (run, _) in measures.items()}, rounds)
        for what, (_, bound_s) in measures.items():
            demands = (Demand(bound_s),) if count == _LISTED or what == "adopting" else ()
            report.add(Figure(_GROUP, f"{what}, {kind.name}", count, "s", {XDROPD: found[what]}, demands))
