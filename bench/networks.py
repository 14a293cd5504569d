"""Lists that are not plain IPv4 addresses: loaded, edited, emptied, and what they take, beside ipset and nftables.

Each list lives once from its start to `block: []`, and its load is repeated in turns with the peers'. While it lives
somebody asks for the status all the time; the longest wait for an answer is a figure as well.
"""

import contextlib
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from bench import kinds, peers
from bench.daemon import Daemon
from bench.edit import Editing
from bench.figures import XDROPD, Demand, Effort, Figure, Report, Spread, in_turns
from bench.kinds import Kind
from netns import Net
from xdropd.errors import Unavailable

_GROUP = "networks"
_IPSET = "ipset restore"
_NFT = "nft -f"
_ROUNDS = 3
_EDITS = 5
_SETTLED_S = 5.0
_ASKED_EVERY_S = 0.01
_EMPTY = "block: []\n"
_QUICK = 2_000


class _Row(NamedTuple):
    """A list, and what it must reach; None: nothing in particular."""

    kind: Kind
    listed: int
    load: Demand | None = None
    edit_s: float | None = None
    resident_mb: float | None = None
    peak_mb: float | None = None


_ROWS = (
    _Row(kinds.NETWORKS, 100_000, Demand(0.5)),
    _Row(kinds.NETWORKS, 180_000, edit_s=0.05),
    _Row(kinds.NETWORKS, 1_000_000, Demand(0.7, _IPSET), 0.6, 150, 350),
    _Row(kinds.RANGES, 300_000, Demand(1.5)),
    _Row(kinds.ADDRESSES6, 1_000_000, Demand(0.6, _IPSET), 0.5),
    _Row(kinds.NETWORKS6, 300_000, Demand(1.0, _IPSET)),
    _Row(kinds.ANNOTATED, 1_000_000, Demand(5), None, 200),
    _Row(kinds.ADDRESSES, 10_000_000, Demand(6), None, 250),
)
_EMPTIED_S, _EMPTIED_MB, _WAIT_S = 1.5, 45.0, 0.1


def measure(report: Report, effort: Effort) -> None:
    """Every list; small ones in a quick run."""
    for row in _ROWS:
        if not effort.is_quick:
            _measure(report, row, effort)
        elif row.listed == 1_000_000 or row.kind is kinds.RANGES:
            _measure(report, row._replace(listed=_QUICK), effort)


def _measure(report: Report, row: _Row, effort: Effort) -> None:
    entries = row.kind.entries(row.listed)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        net, others = stack.enter_context(peers.host()), stack.enter_context(peers.host())
        daemon = stack.enter_context(Daemon(net.host, folder, net.device))

        def add(what: str, unit: str, measured: dict[str, Spread], demand: Demand | None) -> None:
            demands = (demand,) if demand else ()
            report.add(Figure(_GROUP, f"{row.kind.name}, {what}", row.listed, unit, measured, demands))

        def fresh() -> float:
            taken = daemon.start()
            daemon.stop()
            return taken

        daemon.blocklist.write_text(row.kind.blocklist(entries), encoding="utf-8")
        fresh()  # leaves the compiled form, and everything in the page cache
        contenders: dict[str, Callable[[], float]] = {XDROPD: fresh}
        if row.listed <= 1_000_000:
            contenders |= _peers(row.kind, entries, folder, others)
        add("YAML to in force, fresh start", "s", in_turns(contenders, effort.rounds(_ROUNDS)), row.load)

        daemon.start()
        time.sleep(_SETTLED_S)
        memory = daemon.memory()
        bound = Demand(row.resident_mb) if row.resident_mb else None
        add(f"resident {_SETTLED_S:g} s after READY", "MB", {XDROPD: _megabytes(memory.now_bytes)}, bound)
        bound = Demand(row.peak_mb) if row.peak_mb else None
        add("most resident while loading", "MB", {XDROPD: _megabytes(memory.peak_bytes)}, bound)

        def edited(address: str) -> str:
            entries[len(entries) // 2] = address
            return row.kind.blocklist(entries)

        if row.kind is not kinds.ANNOTATED:
            editing = Editing(net, daemon, edited)
            taken = Spread.of(editing.seconds() for _ in range(effort.rounds(_EDITS)))
            add("one line edited", "s", {XDROPD: taken}, Demand(row.edit_s) if row.edit_s else None)
        begun = time.monotonic()
        daemon.reload(_EMPTY)
        add("replaced by `block: []`", "s", {XDROPD: Spread.of([time.monotonic() - begun])}, Demand(_EMPTIED_S))
        time.sleep(_SETTLED_S)
        back = {XDROPD: _megabytes(daemon.memory().now_bytes)}
        add(f"resident {_SETTLED_S:g} s after `block: []`", "MB", back, Demand(_EMPTIED_MB))
        with _asking(daemon) as longest_s:
            daemon.reload(row.kind.blocklist(entries))
            daemon.reload(row.kind.blocklist(entries[1:]))
            daemon.reload(_EMPTY)
        what = "longest wait for `status` while it loads, changes and empties"
        add(what, "s", {XDROPD: Spread.of(longest_s)}, Demand(_WAIT_S))


def _peers(kind: Kind, entries: list[str], folder: Path, others: Net) -> dict[str, Callable[[], float]]:
    found: dict[str, Callable[[], float]] = {}
    if kind.ipset:
        found[_IPSET] = peers.IpsetLoad(others, folder, entries, kind.ipset).seconds
    if kind.nft:
        flags = "" if kind in (kinds.ADDRESSES, kinds.ADDRESSES6) else "flags interval; auto-merge;"
        found[_NFT] = peers.NftLoad(others, folder, entries, kind.nft, flags).seconds
    return found


@contextlib.contextmanager
def _asking(daemon: Daemon) -> Iterator[list[float]]:
    """Ask for the status all the time; the longest wait for an answer, in seconds, is in the list at the end."""
    longest_s = [0.0]
    is_over = threading.Event()

    def ask() -> None:
        while not is_over.wait(_ASKED_EVERY_S):
            begun = time.monotonic()
            daemon.ask({"verb": "status"})
            longest_s[0] = max(longest_s[0], time.monotonic() - begun)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield longest_s
    finally:
        is_over.set()
        asking.join()
    if not longest_s[0]:
        raise Unavailable("nobody was answered")


def _megabytes(count: int) -> Spread:
    return Spread.of([count / 1e6])
