"""Many interfaces, as a host of containers has them: a start, and a list that outgrows its maps."""

import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from bench import kinds, peers
from bench.daemon import Daemon
from bench.figures import XDROPD, Demand, Effort, Figure, Report, Spread
from netns import Net

GROUP = "interfaces"
STARTED = "fresh start"
OUTGROWN = "a list that outgrows its maps, from the rename"

_BOUNDED = 300
_FEW, _MANY = 1_000, 10_000
_SETTLED_S = 2.0
_ROUNDS = 5


def measure(report: Report, effort: Effort) -> None:
    """The number that container hosts have."""
    count = 10 if effort.is_quick else _BOUNDED
    measured(report, count, effort, (Demand(2.0),), (Demand(0.5),))


def measured(
    report: Report, count: int, effort: Effort, start: tuple[Demand, ...] = (), swap: tuple[Demand, ...] = ()
) -> None:
    """With so many interfaces: two figures."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        net = stack.enter_context(peers.host())
        _make(net, count)
        daemon = stack.enter_context(Daemon(net.host, folder, "many*"))
        few, many = (kinds.ADDRESSES.blocklist(kinds.addresses(size)) for size in (_FEW, _MANY))
        daemon.blocklist.write_text(few, encoding="utf-8")
        daemon.start()
        starts, swaps = [], []
        for _ in range(effort.rounds(_ROUNDS)):
            daemon.stop()
            daemon.new_blocklist(few)()
            starts.append(daemon.start())
            time.sleep(_SETTLED_S)
            begun = time.monotonic()
            daemon.reload(many)
            swaps.append(time.monotonic() - begun)
        for what, taken, demands in ((STARTED, starts, start), (OUTGROWN, swaps, swap)):
            report.add(Figure(GROUP, f"{what}, {count} interfaces", -1, "s", {XDROPD: Spread.of(taken)}, demands))


def _make(net: Net, count: int) -> None:
    """Pairs of veth whose other ends stay in the host."""
    made = "".join(f"link add many{at} type veth peer name other{at}\nlink set many{at} up\n" for at in range(count))
    net.run(net.host, "ip", "-batch", "-", stdin=made)
