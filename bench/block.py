"""One more source, by command: `xdropctl block` beside `nft add element`, `ipset add` and `xdp-filter ip`.

Whole processes first, as a script would call them, beside a Python that does nothing. Then what the daemon itself needs
for a request over the control socket, the disk's sync apart: its state folder is in memory for that. Last a batch, and
what a companion brings: all that a source blocks, replaced in one step, each entry with an end and a reason of its own.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from bench import lists, peers, processes
from bench.daemon import Daemon
from bench.figures import XDROPD, Demand, Effort, Figure, Report, Spread, in_turns
from bench.telling import REPOSITORY
from xdropd.commands import client
from xdropd.text.addresses import format_address

_GROUP = "block"
_ROUNDS = 25
_REQUESTS = 200
_BATCH = 20_000
_BATCH_ROUNDS = 5
_SETTLED_S = 3.0
_MILLION = 1_000_000
_END_S = 4_000_000_000
_LINES_A_PIECE = 16_384
IN_MEMORY = "/dev/shm"


def measure(report: Report, effort: Effort) -> None:
    """With a large list in force everywhere but in xdp-filter, which takes one process an entry."""
    count = 10_000 if effort.is_quick else _MILLION
    keys = lists.addresses(count + 2 * _BATCH + _BATCH * _BATCH_ROUNDS, seed=1)
    listed, others = keys[:count], iter(keys[count:])
    _processes(report, listed, others, effort)
    _inside(report, listed, others, effort)
    _batch(report, listed, others, effort)
    for replaced, most_s in ((50_000, 0.5), (250_000, 2.5)):
        _replace(report, keys[: replaced // 5 if effort.is_quick else replaced], most_s, effort)


def _processes(report: Report, listed: Sequence[int], others: Iterator[int], effort: Effort) -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ours, nft, ipset, xdp = (stack.enter_context(peers.host()) for _ in range(4))
        daemon = _running(stack, ours.host, folder, listed)
        peers.NftLoad(nft, folder, lists.texts(listed)).seconds(keep=True)
        peers.IpsetLoad(ipset, folder, lists.texts(listed)).seconds(keep=True)
        xdp_filter = stack.enter_context(peers.XdpFilter(xdp.host, xdp.device))
        time.sleep(_SETTLED_S)

        def timed(namespace: str, command: Callable[[str], Sequence[str]]) -> Callable[[], float]:
            return lambda: 1e3 * processes.seconds(command(format_address(4, next(others))), namespace)

        contenders = {
            XDROPD: timed(ours.host, lambda address: [*xdropctl(daemon), "block", address]),
            "nft add element": timed(
                nft.host, lambda address: ["nft", "add", "element", "netdev", "bench", "listed", f"{{ {address} }}"]
            ),
            "ipset add": timed(ipset.host, lambda address: ["ipset", "add", "listed", address]),
            "xdp-filter ip": timed(xdp.host, lambda address: [*xdp_filter.command, "ip", "--mode", "src", address]),
            "empty Python": timed(ours.host, lambda _: [sys.executable, "-I", "-c", ""]),
        }
        found = in_turns(contenders, effort.rounds(_ROUNDS))
        note = "xdp-filter holds only what it was given here, and is started through nsenter."
        report.add(Figure(_GROUP, "one address, whole process", len(listed), "ms", found, note=note))


def _inside(report: Report, listed: Sequence[int], others: Iterator[int], effort: Effort) -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=IN_MEMORY)))
        net = stack.enter_context(peers.host())
        daemon = _running(stack, net.host, folder, listed)
        time.sleep(_SETTLED_S)

        def request() -> float:
            address = format_address(4, next(others))
            begun = time.monotonic()
            daemon.ask({"verb": "block", "entries": [address]})
            return 1e3 * (time.monotonic() - begun)

        found = in_turns({XDROPD: request}, effort.rounds(_REQUESTS))
        what = "one address, a request over the socket, without the disk's sync"
        report.add(Figure(_GROUP, what, len(listed), "ms", found, (Demand(2),)))


def _batch(report: Report, listed: Sequence[int], others: Iterator[int], effort: Effort) -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        net = stack.enter_context(peers.host())
        daemon = _running(stack, net.host, folder, listed)
        time.sleep(_SETTLED_S)
        batch = folder / "batch"
        taken = []
        for _ in range(effort.rounds(_BATCH_ROUNDS)):
            batch.write_text("".join(f"{format_address(4, next(others))}\n" for _ in range(_BATCH)), encoding="utf-8")
            taken.append(processes.seconds([*xdropctl(daemon), "block", "-"], net.host, batch))
        what = f"{_BATCH:,} addresses on standard input, whole process"
        report.add(Figure(_GROUP, what, len(listed), "s", {XDROPD: Spread.of(taken)}, (Demand(1),)))


def _replace(report: Report, keys: Sequence[int], most_s: float, effort: Effort) -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        net = stack.enter_context(peers.host())
        daemon = _running(stack, net.host, folder, [])
        texts = lists.texts(keys)

        def seconds(shift: int) -> float:
            lines = [f"{text}\t{_END_S + at + shift}\treason {at % 50}\n" for at, text in enumerate(texts)]
            follow = ["".join(lines[at : at + _LINES_A_PIECE]).encode() for at in range(0, len(lines), _LINES_A_PIECE)]
            begun = time.monotonic()
            client.ask(str(daemon.socket), {"verb": "replace", "source": "bench"}, follow=follow)
            return time.monotonic() - begun

        fresh, others, same = [], [], []
        for at in range(effort.rounds(_BATCH_ROUNDS)):
            client.ask(str(daemon.socket), {"verb": "flush", "source": "bench"})
            fresh.append(seconds(at))
            others.append(seconds(at + 1))
            same.append(seconds(at + 1))
        for what, taken in (
            ("all of a source replaced, each with an end and a reason of its own, in force and on disk", fresh),
            ("the same, each with another end", others),
            ("the same, as it is", same),
        ):
            report.add(Figure(_GROUP, what, len(keys), "s", {XDROPD: Spread.of(taken)}, (Demand(most_s),)))


def _running(stack: ExitStack, namespace: str, folder: Path, listed: Sequence[int]) -> Daemon:
    daemon = stack.enter_context(Daemon(namespace, folder))
    daemon.blocklist.write_text(lists.text(listed), encoding="utf-8")
    daemon.start()
    return daemon


def xdropctl(daemon: Daemon) -> list[str]:
    """As the Debian package installs it: isolated, with the package in a folder of its own."""
    script = (
        f"import sys; sys.path.insert(0, {str(REPOSITORY / 'src')!r}); "
        "from xdropd.commands.xdropctl import main; sys.exit(main())"
    )
    return [sys.executable, "-I", "-c", script, "--socket", str(daemon.socket)]
