"""From starting the daemon to READY=1: fresh, and when it adopts a filter that is in force."""

import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from bench import peers
from bench.daemon import Daemon
from bench.figures import XDROPD, Demand, Effort, Figure, Report, in_turns
from bench.kinds import ADDRESSES, NETWORKS, Kind

_GROUP = "start"
_ROUNDS = 9
_LISTED = 10_000
_MILLION = 1_000_000
_SETTLED_S = 3.0
_BOUNDS_S = {
    ("first start ever, compiles", _LISTED): 1.0,
    ("fresh", _LISTED): 1.0,
    ("adopting", _LISTED): 0.3,
    ("adopting", _MILLION): 0.4,
}


def measure(report: Report, effort: Effort) -> None:
    """The descriptors are kept by the bench's own service manager, which gives them back as systemd would."""
    for kind in (ADDRESSES, NETWORKS):
        for count in effort.sizes(_LISTED, _MILLION):
            _measure(report, kind, count, effort.rounds(_ROUNDS), 1.5 if effort.is_quick else _SETTLED_S)


def _measure(report: Report, kind: Kind, count: int, rounds: int, settled_s: float) -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        net = stack.enter_context(peers.host())
        daemon = stack.enter_context(Daemon(net.host, folder, net.device))
        daemon.blocklist.write_text("block:\n" + kind.block(kind.entries(count)), encoding="utf-8")

        def first() -> float:
            daemon.stop()
            daemon.forget_everything()
            return daemon.start()

        def fresh() -> float:
            daemon.stop()
            return daemon.start()

        def adopting() -> float:
            time.sleep(settled_s)  # what proves that nothing has changed is written once all is quiet
            daemon.kill()
            return daemon.start()

        measures = {"first start ever, compiles": first, "fresh": fresh, "adopting": adopting}
        for what, found in in_turns(measures, rounds).items():
            bound_s = _BOUNDS_S.get((what, count))
            demands = (Demand(bound_s),) if bound_s else ()
            report.add(Figure(_GROUP, f"{kind.name}: {what}", count, "s", {XDROPD: found}, demands))
