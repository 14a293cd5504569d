"""What the daemon keeps resident, and whether it grows: over many reloads of lists that differ."""

import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from bench import lists, peers
from bench.daemon import Daemon
from bench.figures import XDROPD, Demand, Effort, Figure, Report, Spread
from xdropd.errors import Unavailable
from xdropd.sources import trust
from xdropd.text import listfiles

_GROUP = "memory"
_SETTLED_S = 5.0
_MILLION = 1_000_000
_BOUNDS_MB = {10_000: 40.0, _MILLION: 60.0}
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
            "nft -f": _megabytes(peers.NftLoad(others, folder, peers.texts(keys)).peak_bytes()),
            "ipset restore": _megabytes(peers.IpsetLoad(others, folder, peers.texts(keys)).peak_bytes()),
        }
        report.add(Figure(_GROUP, "most resident while loading", len(keys), "MB", peak))


def _reloads(report: Report, effort: Effort) -> None:
    """Each list is renamed over the one before, in whole turns: what is compared is resident with the same list.

    It is compared after a tenth of the reloads and after as many as were asked for, for memory finds its size first.
    """
    texts = _real(effort.lists) if effort.lists else _generated()
    turns = -(-(20 if effort.is_quick else effort.reloads) // len(texts))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        net = stack.enter_context(peers.host())
        daemon = stack.enter_context(Daemon(net.host, folder, net.device))
        daemon.new_blocklist(texts[-1])()
        daemon.start()

        def after(turns: int) -> tuple[int, int]:
            for text in texts * turns:
                daemon.reload(text)
            time.sleep(_SETTLED_S)
            return daemon.memory().now_bytes, daemon.descriptors()

        before, opened = after(-(-turns // 10))
        now, descriptors = after(turns)
        growth, more = _megabytes(now - before), Spread.of([descriptors - opened])
    reloads = f"{turns * len(texts):,} reloads of {len(texts)} {'real' if effort.lists else 'generated'} lists in turn"
    report.add(Figure(_GROUP, f"more resident after {reloads}", -1, "MB", {XDROPD: growth}, (Demand(_GROWTH_MB),)))
    report.add(Figure(_GROUP, f"more descriptors after {reloads}", -1, "", {XDROPD: more}, (Demand(0),)))


def _generated() -> list[str]:
    """Each shares nine tenths with the one before."""
    keys = lists.addresses(_RELOADED + _LISTS * _RELOADED // 10, seed=1)
    return [lists.text(keys[at * _RELOADED // 10 :][:_RELOADED]) for at in range(_LISTS)]


def _real(folder: Path) -> list[str]:
    """Whatever in a folder reads as a list, as blocklists. Raises Unavailable if nothing does."""
    texts = []
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = listfiles.read(file.read_bytes(), str(file))
        if content.listing.count and not trust.objection(content.tally, None):
            texts.append(lists.text_of(content.listing))
    if not texts:
        raise Unavailable(f"there is no list in {folder}")
    return texts


def _megabytes(count: int) -> Spread:
    return Spread.of([count / 1e6])
