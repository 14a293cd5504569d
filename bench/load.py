"""A list from its file to in force, whole processes: a fresh start of the daemon, `nft -f`, `ipset restore`."""

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from bench import lists, peers
from bench.daemon import Daemon
from bench.figures import XDROPD, Demand, Effort, Figure, Report, Spread, in_turns

_GROUP = "load"
_ROUNDS = 5
_MILLION = 1_000_000


def measure(report: Report, effort: Effort) -> None:
    """For the first start of all, which compiles, and for those after it, which find the compiled form."""
    for count in effort.sizes(10_000, 100_000, _MILLION):
        _measure(report, lists.addresses(count, seed=1), effort.rounds(_ROUNDS))


def _measure(report: Report, keys: Sequence[int], rounds: int) -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        net, others = stack.enter_context(peers.host()), stack.enter_context(peers.host())
        daemon = stack.enter_context(Daemon(net.host, folder, net.device))
        daemon.blocklist.write_text(lists.text(keys), encoding="utf-8")
        nft, ipset = (
            peers.NftLoad(others, folder, peers.texts(keys)),
            peers.IpsetLoad(others, folder, peers.texts(keys)),
        )

        def fresh() -> float:
            taken = daemon.start()
            daemon.stop()
            return taken

        def first() -> float:
            daemon.forget_everything()
            return fresh()

        first()  # leaves the compiled form, and everything in the page cache
        found = in_turns({XDROPD: fresh, "nft -f": nft.seconds, "ipset restore": ipset.seconds}, rounds)
        demands = (Demand(0.4, "nft -f"), Demand(0.6, "ipset restore")) if len(keys) == _MILLION else ()
        report.add(Figure(_GROUP, "YAML to in force, fresh start", len(keys), "s", found, demands))
        compiling = {**found, XDROPD: Spread.of(first() for _ in range(rounds))}
        note = "The first start ever compiles meanwhile; those after it find the compiled form."
        report.add(Figure(_GROUP, "the same, first start ever", len(keys), "s", compiling, note=note))
