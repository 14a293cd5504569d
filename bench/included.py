"""A list file as others publish it, included: in force at a fresh start, memory, and again `block: []`."""

import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from bench import peers
from bench.answers import Waiting
from bench.daemon import Daemon
from bench.figures import XDROPD, Demand, Effort, Figure, Report, Spread, in_turns
from bench.stories import EMPTY

_ROUNDS = 3
_SETTLED_S = 3.0


def measure(report: Report, effort: Effort, group: str, name: str, count: int, include: str, *demands: Demand) -> None:
    """`include` as the blocklist has it, with `count` entries or prefixes; `demands` are on the start."""

    def add(what: str, unit: str, found: Spread, *demands: Demand) -> None:
        report.add(Figure(group, f"{name}: {what}", count, unit, {XDROPD: found}, demands))

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        net = stack.enter_context(peers.host())
        daemon = stack.enter_context(Daemon(net.host, folder, net.device))
        daemon.blocklist.write_text(f"block: []\ninclude:\n  - {include}\n", encoding="utf-8")
        daemon.start()

        def fresh() -> float:
            daemon.stop()
            return daemon.start()

        with Waiting(daemon) as waiting:
            found = in_turns({XDROPD: fresh}, effort.rounds(_ROUNDS))[XDROPD]
            add("file to in force, fresh start", "s", found, *demands)
            time.sleep(_SETTLED_S)
            memory = daemon.memory()
            add("resident", "MB", Spread.of([memory.now_bytes / 1e6]))
            add("most resident while loading", "MB", Spread.of([memory.peak_bytes / 1e6]))
            begun = time.monotonic()
            daemon.reload(EMPTY)
            add("replaced by block: []", "s", Spread.of([time.monotonic() - begun]), Demand(1.5))
        add("status, longest wait in all this", "s", Spread.of([waiting.longest_s]), Demand(0.1))
