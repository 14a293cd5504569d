"""Many interfaces: a start, a list that outgrows its maps, and what the programs take in the kernel."""

import contextlib
import re
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from bench import lists, peers
from bench.daemon import Daemon
from bench.figures import XDROPD, Demand, Effort, Figure, Report, Spread
from netns import Net

_GROUP = "interfaces"
_INTERFACES = 300
_ROUNDS = 3
_FEW, _MANY = 10, 10_000
_STUB_BYTES_AT_MOST = 4096  # what an entry stub locks, a page, each interface may have


def measure(report: Report, effort: Effort) -> None:
    """Three hundred, as a container host has them."""
    count = 6 if effort.is_quick else _INTERFACES
    starts, swaps, programs = taken(count, effort.rounds(_ROUNDS))
    for what, unit, found, bound in (
        ("start", "s", starts, 2.0),
        ("a list that outgrows its maps", "s", swaps, 0.5),
        ("verdict programs in the kernel", "", programs, 1.0),
    ):
        report.add(Figure(_GROUP, f"{count}: {what}", _MANY, unit, {XDROPD: found}, (Demand(bound),)))


def taken(count: int, rounds: int) -> tuple[Spread, Spread, Spread]:
    """Seconds of a start, seconds of a swap, and the number of verdict programs, with so many interfaces."""
    keys = lists.addresses(_MANY, seed=1)
    starts, swaps, programs = [], [], []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        net = stack.enter_context(peers.host())
        _add_interfaces(net, count)
        daemon = stack.enter_context(Daemon(net.host, folder, "x*"))
        daemon.blocklist.write_text(lists.text(keys), encoding="utf-8")
        daemon.start()  # leaves the compiled form
        daemon.stop()
        for _ in range(rounds):
            daemon.blocklist.write_text(lists.text(keys[:_FEW]), encoding="utf-8")
            starts.append(daemon.start())
            begun = time.monotonic()
            daemon.reload(lists.text(keys))
            swaps.append(time.monotonic() - begun)
            programs.append(_verdict_programs(daemon))
            daemon.stop()
    return Spread.of(starts), Spread.of(swaps), Spread.of(programs)


def _add_interfaces(net: Net, count: int) -> None:
    """Interfaces x0, x1, ... of the host, in pairs, with an odd one's end called otherwise."""
    ends = [f"x{at}" for at in range(count)] + ["odd"] * (count % 2)
    pairs = zip(ends[::2], ends[1::2], strict=True)
    batch = "".join(f"link add {one} up type veth peer name {other}\n" for one, other in pairs)
    net.run(net.host, "ip", "-batch", "-", stdin=batch)


def _verdict_programs(daemon: Daemon) -> int:
    """How many programs larger than a stub the daemon holds."""
    found = set()
    for descriptor in Path("/proc", str(daemon.process_id), "fdinfo").iterdir():
        told = ""
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            told = descriptor.read_text(encoding="ascii")
        fields = dict(re.findall(r"^(memlock|prog_id):\s*(\d+)$", told, re.MULTILINE))
        if {"memlock", "prog_id"} <= fields.keys() and int(fields["memlock"]) > _STUB_BYTES_AT_MOST:
            found.add(fields["prog_id"])
    return len(found)
