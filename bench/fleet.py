"""A fleet: what a CrowdSec server decides, in force on one host and on ten, and what that takes of whom.

Each decision has an end of its own. The server and all hosts are on one machine: ten that start at once wait for its
CPUs as well as for the server.
"""

import random
import time
from collections.abc import Sequence

from bench import processes
from bench.figures import XDROPD, Demand, Effort, Figure, Report, Spread
from bench.fleet_hosts import Fleet, Host, fleet
from bench.kinds import ADDRESSES
from xdropd.errors import Unavailable

_GROUP = "fleet"
_HOSTS = 10
_ASKED_EVERY_S = 1
_FEW, _MANY = 50_000, 250_000
_IN_FORCE_BOUNDS_S = {_FEW: 1.5, _MANY: 5.0}
_RESIDENT_BOUNDS_MB = {_FEW: 60.0}
_SOON_S = _ASKED_EVERY_S + 0.05
_ROUNDS = 3
_BANS, _BANS_FOR_ALL = 20, 5
_CHANGES, _WHOLES = 200, 5
_WATCHED_S = 10.0


def measure(report: Report, effort: Effort) -> None:
    """One server. Raises Unavailable where something is not as it must be."""
    few, many, hosts = (500, 1_000, 2) if effort.is_quick else (_FEW, _MANY, _HOSTS)
    entries = ADDRESSES.entries(many)
    try:
        with fleet(hosts, f"{_ASKED_EVERY_S}s") as made:
            made.decide(entries[:few])
            _start(report, effort, made, few)
            _soon(report, effort, made, few)
            _server(report, effort, made, few)
            _all_hosts(report, effort, made, few)
            made.decide(entries[few:])
            _start(report, effort, made, many)
            _server(report, effort, made, many)
    except AssertionError as failure:
        raise Unavailable(str(failure)) from failure


def _add(report: Report, what: str, count: int, unit: str, found: Spread, bound: float = 0, note: str = "") -> None:
    report.add(Figure(_GROUP, what, count, unit, {XDROPD: found}, (Demand(bound),) if bound else (), note))


def _megabytes(count: int) -> Spread:
    return Spread.of([count / 1e6])


def _start(report: Report, effort: Effort, made: Fleet, count: int) -> None:
    """The companion of one host starts, with a daemon that blocks nothing yet. It runs on."""
    host = made.hosts[0]

    def once() -> float:
        host.start_daemon_anew()
        return made.in_force([host], count)

    found = Spread.of([once() for _ in range(effort.rounds(_ROUNDS))])
    _add(report, "the companion starts, until all is in force", count, "s", found, _IN_FORCE_BOUNDS_S.get(count, 0))
    made.settle([host])
    memory = host.memory()
    bound = _RESIDENT_BOUNDS_MB.get(count, 0)
    _add(report, "the companion, resident", count, "MB", _megabytes(memory.now_bytes), bound)
    _add(report, "the companion, at most", count, "MB", _megabytes(memory.peak_bytes))


def _soon(report: Report, effort: Effort, made: Fleet, count: int) -> None:
    """A host that has all there is hears of one more."""
    found, note = _bans(made, effort.rounds(_BANS), made.hosts[:1])
    what = "a ban, until the first packet is dropped"
    _add(report, what, count, "s", found, note=note)
    _add(report, f"{what}, the longest", count, "s", Spread.of([found.high]), _SOON_S)


def _bans(made: Fleet, times: int, hosts: Sequence[Host]) -> tuple[Spread, str]:
    """Those that the server has told of as soon as it was asked; and in words, of how many it did not."""
    bans = []
    for _ in range(times):
        time.sleep(random.uniform(0, _ASKED_EVERY_S))  # the last one ended with a poll
        bans.append(made.ban(hosts))
    in_time = [taken for taken, is_passed_over in bans if not is_passed_over]
    if not in_time:
        raise Unavailable(f"none of {times} bans was told of when the server was asked for what has changed")
    skipped = times - len(in_time)
    note = f"{skipped} of {times} bans were in no answer but a complete one, and are left out." if skipped else ""
    return Spread.of(in_time), note


def _server(report: Report, effort: Effort, made: Fleet, count: int) -> None:
    """What it takes to answer one host."""
    resident = _megabytes(processes.memory(made.server_id).now_bytes)
    made.hosts[0].stop_companion()
    for what, times, whole in (("what has changed, nothing", _CHANGES, False), ("all there is", _WHOLES, True)):
        cost_ms = 1e3 * made.cost_s(effort.rounds(times), whole=whole)
        _add(report, f"the server's CPU time, an answer with {what}", count, "ms", Spread.of([cost_ms]))
    _add(report, "the server, resident", count, "MB", resident)


def _all_hosts(report: Report, effort: Effort, made: Fleet, count: int) -> None:
    """All of them start, live, and hear of a ban; then they stop."""
    hosts = made.hosts
    for host in hosts:
        host.start_daemon_anew()
    processes.forget_peak(made.server_id)
    everywhere = made.in_force(hosts, count)
    name = f"{len(hosts)} hosts"
    _add(report, f"{name}: all companions start, until all is in force everywhere", count, "s", Spread.of([everywhere]))
    made.settle(hosts)
    _add(report, f"{name}: the server, at most", count, "MB", _megabytes(processes.memory(made.server_id).peak_bytes))
    found, note = _bans(made, effort.rounds(_BANS_FOR_ALL), hosts)
    _add(report, f"{name}: a ban, until the first packet is dropped on the last of them", count, "s", found, note=note)
    watched_s = min(_WATCHED_S, effort.rounds(int(_WATCHED_S)))
    begun, begun_s = time.monotonic(), processes.cpu_seconds(made.server_id)
    time.sleep(watched_s)
    share = (processes.cpu_seconds(made.server_id) - begun_s) / (time.monotonic() - begun)
    _add(report, f"{name}: the server's CPU, asked {len(hosts)} times a second", count, "%", Spread.of([100 * share]))
    for host in hosts:
        host.stop()
