"""One packet over and over, everything in the CPU's cache, all features on: what the program itself costs."""

import ctypes
import json
import os
import time
from collections.abc import Callable

from bench import lists, peers
from bench.contest import EMPTY, Owned, Xdropd, compiled
from bench.drop_rate import frame
from bench.figures import XDROPD, Demand, Effort, Figure, Report, in_turns
from xdropd.errors import KernelError
from xdropd.kernel import libbpf
from xdropd.kernel.generation import load

_REPEATS = 1 << 20
_ROUNDS = 25
_LISTED = 1_000
_DROP, _PASS = 1, 2


def measure(report: Report, effort: Effort) -> None:
    """A packet from a listed source, and one from another, above what BPF_PROG_TEST_RUN takes for an empty program."""
    keys = lists.addresses(_LISTED, seed=1)
    (stranger,) = lists.addresses(1, 2, keys)
    ours, others = compiled()
    with (
        peers.host() as net,
        peers.XdpFilter(net.host, net.device) as theirs,
        Xdropd(ours, {4: keys}, lists.networks(_LISTED, seed=2)) as xdropd,
        Owned() as found,
    ):
        theirs.list_addresses(keys)
        (link,) = json.loads(net.run(net.host, "ip", "-json", "link", "show", net.device))
        xdp_filter = found.own(_by_id(link["xdp"]["prog"]["id"]))
        empty = found.own(load(others, "contend_pass", {}))
        for what, key, answer in (("listed source", keys[0], _DROP), ("unlisted source", stranger, _PASS)):
            packet = frame(net, key)
            contenders = {
                EMPTY: _runner(empty, packet, _PASS),
                XDROPD: _runner(xdropd.root, packet, answer),
                "xdp-filter": _runner(xdp_filter, packet, answer),
            }
            whole = in_turns(contenders, effort.rounds(_ROUNDS))
            costs = {name: whole[name].above(whole[EMPTY].median) for name in (XDROPD, "xdp-filter")}
            note = "With what the test run itself takes: " + ", ".join(
                f"{name} {spread.median:.1f} ns" for name, spread in whole.items()
            )
            report.add(Figure("hot packet", what, _LISTED, "ns", costs, (Demand(0.8, "xdp-filter"),), note + "."))


def _by_id(program_id: int) -> int:
    """BPF_PROG_GET_FD_BY_ID, which xdropd has no use for."""
    library = ctypes.CDLL("libbpf.so.1", use_errno=True)
    descriptor = int(library.bpf_prog_get_fd_by_id(ctypes.c_uint32(program_id)))
    if descriptor < 0:
        raise KernelError(f"get program {program_id}", -descriptor, os.strerror(-descriptor))
    return descriptor


def _runner(program: int, packet: bytes, answer: int) -> Callable[[], float]:
    def measure() -> float:
        begun = time.thread_time_ns()
        found = libbpf.test_run(program, packet, _REPEATS)
        taken = time.thread_time_ns() - begun
        if found != answer:
            raise KernelError("run a contender", 0, f"it answered {found} and not {answer}")
        return taken / _REPEATS

    return measure
