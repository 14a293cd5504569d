"""One packet over and over, everything in the CPU's cache, all features on: what the program itself costs."""

import ctypes
import json
import os
import time
from collections.abc import Callable

from bench import lists, peers
from bench.contest import Owned, Xdropd, compiled
from bench.drop_rate import frame
from bench.figures import XDROPD, Demand, Effort, Figure, Report, in_turns
from xdropd.errors import KernelError
from xdropd.kernel import libbpf

_REPEATS = 1 << 20
_ROUNDS = 25
_LISTED = 1_000
_DROP, _PASS = 1, 2


def measure(report: Report, effort: Effort) -> None:
    """A packet from a listed source, and one from another: all of BPF_PROG_TEST_RUN, nothing taken off."""
    keys = lists.addresses(_LISTED, seed=1)
    (stranger,) = lists.addresses(1, 2, keys)
    ours, _ = compiled()
    with (
        peers.host() as net,
        peers.XdpFilter(net.host, net.device) as theirs,
        Xdropd(ours, {4: keys}, lists.networks(_LISTED, seed=2)) as xdropd,
        Owned() as found,
    ):
        theirs.list_addresses(keys)
        (link,) = json.loads(net.run(net.host, "ip", "-json", "link", "show", net.device))
        xdp_filter = found.own(_by_id(link["xdp"]["prog"]["id"]))
        for what, key, answer in (("listed source", keys[0], _DROP), ("unlisted source", stranger, _PASS)):
            packet = frame(net, key)
            contenders = {
                XDROPD: _runner(xdropd.root, packet, answer),
                "xdp-filter": _runner(xdp_filter, packet, answer),
            }
            costs = in_turns(contenders, effort.rounds(_ROUNDS))
            report.add(Figure("hot packet", what, _LISTED, "ns", costs, (Demand(0.8, "xdp-filter"),)))


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
        run = libbpf.test_run(program, packet, _REPEATS)
        taken = time.thread_time_ns() - begun
        if run.value != answer:
            raise KernelError("run a contender", 0, f"it answered {run.value} and not {answer}")
        return taken / _REPEATS

    return measure
