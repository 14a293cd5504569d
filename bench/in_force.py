"""What is asked of a daemon with a million networks in force: block one, look one up, block a batch, list them all.

The first two are requests over the control socket, with the state folder in memory: what the daemon itself takes. The
others are whole processes, as a script would call them; `status` is asked beside the last.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from bench import peers, processes
from bench.answers import Waiting
from bench.block import IN_MEMORY, xdropctl
from bench.daemon import Daemon
from bench.figures import XDROPD, Demand, Effort, Figure, Report, in_turns
from bench.kinds import NETWORKS

_GROUP = "in force"
_LISTED = 1_000_000
_REQUESTS = 200
_BATCH = 2_000
_ROUNDS = 5
_LISTS = 3
_SETTLED_S = 3.0


def measure(report: Report, effort: Effort) -> None:
    """One list, and requests."""
    count = 10_000 if effort.is_quick else _LISTED
    entries = NETWORKS.entries(count + _REQUESTS + _ROUNDS * _BATCH)
    listed, others = entries[:count], iter(entries[count:])
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=IN_MEMORY)))
        net = stack.enter_context(peers.host())
        daemon = stack.enter_context(Daemon(net.host, folder, net.device))
        daemon.blocklist.write_text("block:\n" + NETWORKS.block(listed), encoding="utf-8")
        daemon.start()
        time.sleep(_SETTLED_S)

        def add(what: str, unit: str, rounds: int, run: Callable[[], float], bound: float) -> None:
            found = in_turns({XDROPD: run}, effort.rounds(rounds))
            report.add(Figure(_GROUP, what, count, unit, found, (Demand(bound),)))

        add("one network blocked, in the daemon", "ms", _REQUESTS, lambda: _block(daemon, next(others)), 2)
        asked = iter(listed)
        add("lookup, in the daemon", "ms", _REQUESTS, lambda: _lookup(daemon, next(asked)), 2)
        batches = _batches(others, folder / "batch")
        command = xdropctl(daemon)
        what = f"{_BATCH:,} networks on standard input, whole process"
        add(what, "s", _ROUNDS, lambda: processes.seconds([*command, "block", "-"], net.host, next(batches)), 0.3)
        add("list, whole process", "s", _LISTS, lambda: processes.seconds([*command, "list"], net.host), 5)
        add("status, longest wait beside a list", "s", _LISTS, lambda: _longest_wait(daemon, net.host), 0.1)


def _block(daemon: Daemon, entry: str) -> float:
    begun = time.monotonic()
    daemon.ask({"verb": "block", "entries": [entry]})
    return 1e3 * (time.monotonic() - begun)


def _lookup(daemon: Daemon, entry: str) -> float:
    begun = time.monotonic()
    daemon.ask({"verb": "lookup", "address": entry.partition("/")[0]})
    return 1e3 * (time.monotonic() - begun)


def _longest_wait(daemon: Daemon, namespace: str) -> float:
    with Waiting(daemon) as waiting:
        processes.seconds([*xdropctl(daemon), "list"], namespace)
    return waiting.longest_s


def _batches(others: Iterator[str], file: Path) -> Iterator[Path]:
    while True:
        file.write_text("".join(f"{next(others)}\n" for _ in range(_BATCH)), encoding="utf-8")
        yield file
