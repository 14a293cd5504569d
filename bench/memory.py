"""What the daemon keeps resident, and whether it grows: over many reloads of lists that differ."""

import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from bench import lists, peers
from bench.daemon import Daemon
from bench.figures import XDROPD, Demand, Effort, Figure, Report, Spread

_GROUP = "memory"
_SETTLED_S = 5.0
_MILLION = 1_000_000
_BOUNDS_MB = {10_000: 35.0, _MILLION: 60.0}
_RELOADED = 10_000
_LISTS = 10
_GROWTH_MB = 1.0  # what an allocator may do to a process that leaks nothing


def measure(report: Report, effort: Effort) -> None:
    """Settled and at most; then reloads."""
    for count in effort.sizes(10_000, 100_000, _MILLION):
        _settled(report, lists.addresses(count, seed=1))
    _reloads(report, effort)


def _settled(report: Report, keys: Sequence[int]) -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        net, others = stack.enter_context(peers.host()), stack.enter_context(peers.host())
        daemon = stack.enter_context(Daemon(net.host, folder, net.device))
        daemon.blocklist.write_text(lists.text(keys), encoding="utf-8")
        daemon.start()
        time.sleep(_SETTLED_S)
        memory = daemon.memory()
        bound = _BOUNDS_MB.get(len(keys))
        demands = (Demand(bound),) if bound else ()
        what = f"resident {_SETTLED_S:g} s after READY"
        report.add(Figure(_GROUP, what, len(keys), "MB", {XDROPD: _megabytes(memory.now_bytes)}, demands))
        peak = {
            XDROPD: _megabytes(memory.peak_bytes),
            "nft -f": _megabytes(peers.NftLoad(others, folder, keys).peak_bytes()),
            "ipset restore": _megabytes(peers.IpsetLoad(others, folder, keys).peak_bytes()),
        }
        report.add(Figure(_GROUP, "most resident while loading", len(keys), "MB", peak))


def _reloads(report: Report, effort: Effort) -> None:
    """Each list shares nine tenths with the one before. Compared is what is resident after a tenth and after all."""
    count = 20 if effort.is_quick else effort.reloads
    keys = lists.addresses(_RELOADED + _LISTS * _RELOADED // 10, seed=1)
    texts = [lists.text(keys[at * _RELOADED // 10 :][:_RELOADED]) for at in range(_LISTS)]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        net = stack.enter_context(peers.host())
        daemon = stack.enter_context(Daemon(net.host, folder, net.device))
        daemon.new_blocklist(texts[0])()
        daemon.start()
        begun = max(count // 10, _LISTS)
        for at in range(begun):
            _reload(daemon, texts[(at + 1) % _LISTS])
        time.sleep(_SETTLED_S)
        before, opened = daemon.memory().now_bytes, daemon.descriptors()
        for at in range(begun, begun + count):
            _reload(daemon, texts[(at + 1) % _LISTS])
        time.sleep(_SETTLED_S)
        growth = _megabytes(daemon.memory().now_bytes - before)
        more = Spread.of([daemon.descriptors() - opened])
    what = f"more resident after {count:,} reloads"
    report.add(Figure(_GROUP, what, _RELOADED, "MB", {XDROPD: growth}, (Demand(_GROWTH_MB),)))
    what = f"more descriptors after {count:,} reloads"
    report.add(Figure(_GROUP, what, _RELOADED, "", {XDROPD: more}, (Demand(0),)))


def _reload(daemon: Daemon, text: str) -> None:
    daemon.new_blocklist(text)()
    daemon.ask({"verb": "reload"})


def _megabytes(count: int) -> Spread:
    return Spread.of([count / 1e6])
