"""What a packet costs, above a program that only says XDP_PASS: from sources listed and not, over the list's size."""

import socket
from collections.abc import Collection

from bench import lists
from bench.contest import EMPTY, PLAIN, POOL_ADDRESSES, TARGET4, TRIE, Peers, Xdropd, compiled, syn_to
from bench.figures import XDROPD, Demand, Effort, Figure, Report, Spread, in_turns
from xdropd.kernel.compiler import Blueprint
from xdropd.text.addresses import Span

UNLISTED = "unlisted source"  # what the picture shows
SIZES = (0, 10_000, 100_000, 1_000_000)

_GROUP = "cost"
_DROP, _PASS = 1, 2
_NETWORKS = 20_000
_MILLION = SIZES[-1]
_ROUNDS = 15
_REPLIES_DROP = "replies: drop"
_IP_FREEBIND = 15  # uapi/linux/in.h


def measure(report: Report, effort: Effort) -> None:
    """Every figure of this group."""
    ours, theirs = compiled()
    for count in effort.sizes(*SIZES):
        _ipv4(report, ours, theirs, count, effort)
    for count in effort.sizes(*SIZES):
        _ipv6(report, ours, theirs, count, effort)
    _replies(report, ours, theirs, effort)


def _costs(peers: Peers, xdropd: Xdropd, answers: dict[str, int], effort: Effort) -> dict[str, Spread]:
    """Each contender's nanoseconds above the empty program."""
    programs = {**peers.programs, XDROPD: xdropd.root}
    contenders = {EMPTY: peers.runner(programs[EMPTY], _PASS)}
    contenders.update((name, peers.runner(programs[name], answer)) for name, answer in answers.items())
    for warm in contenders.values():
        warm()
    found = in_turns(contenders, effort.rounds(_ROUNDS))
    return {name: found[name].above(found[EMPTY].median) for name in answers}


def _ipv4(report: Report, ours: Blueprint, theirs: Blueprint, count: int, effort: Effort) -> None:
    """A list of so many addresses; with networks beside the million."""
    keys = lists.addresses(count, seed=1)
    networks = lists.networks(_NETWORKS, seed=2) if count == _MILLION else []
    beside = f", {_NETWORKS:,} networks beside" if networks else ""
    strangers = lists.addresses(POOL_ADDRESSES, 3, keys, networks)
    with Xdropd(ours, {4: keys}, networks) as xdropd, Peers(theirs, 4, keys, networks) as peers:

        def add(what: str, answers: dict[str, int], *demands: Demand) -> dict[str, Spread]:
            costs = _costs(peers, xdropd, answers, effort)
            report.add(Figure(_GROUP, what + beside, count, "ns", costs, demands))
            return costs

        peers.sources(strangers)
        demand = {_MILLION: (Demand(0.25, PLAIN),), 10_000: (Demand(1.1, PLAIN),)}.get(count, ())
        add(UNLISTED, dict.fromkeys((XDROPD, PLAIN, TRIE), _PASS), *demand)
        if not count:
            return
        peers.sources(lists.shuffled(keys, 7))
        demand = (Demand(1.15, PLAIN),) if networks else ()
        hit = add("listed address", dict.fromkeys((XDROPD, PLAIN, TRIE), _DROP), *demand)
        if not networks:
            return
        peers.sources(_in_networks_only(networks, keys))
        costs = {**_costs(peers, xdropd, {XDROPD: _DROP, TRIE: _DROP}, effort), PLAIN: hit[PLAIN]}
        note = (
            "The plain hash knows no networks: what stands for it is its cost of a listed address, from the row above."
        )
        what = "source in a listed network" + beside
        report.add(Figure(_GROUP, what, count, "ns", costs, (Demand(0.4, PLAIN),), note))


def _in_networks_only(networks: list[Span], keys: Collection[int]) -> list[int]:
    known = set(keys)
    return [key for key in lists.within(networks, POOL_ADDRESSES, 4) if key not in known]


def _ipv6(report: Report, ours: Blueprint, theirs: Blueprint, count: int, effort: Effort) -> None:
    """The same for IPv6, without networks; nothing is demanded."""
    keys = lists.addresses6(count, seed=5)
    strangers = lists.addresses6(POOL_ADDRESSES, 6, keys)
    with Xdropd(ours, {6: keys}) as xdropd, Peers(theirs, 6, keys) as peers:
        for what, sources, answer in (
            (UNLISTED, strangers, _PASS),
            ("listed address", lists.shuffled(keys, 7), _DROP),
        ):
            if sources:
                peers.sources(sources)
                costs = _costs(peers, xdropd, dict.fromkeys((XDROPD, PLAIN, TRIE), answer), effort)
                report.add(Figure(_GROUP, f"IPv6, {what}", count, "ns", costs))


def _replies(report: Report, ours: Blueprint, theirs: Blueprint, effort: Effort) -> None:
    """With replies: pass, beside the same without: to a port where nobody waits, and to one that is listened to."""
    keys = lists.addresses(10_000, seed=1)
    with (
        Xdropd(ours, {4: keys}, pass_replies=True) as passing,
        Xdropd(ours, {4: keys}) as dropping,
        Peers(theirs, 4, keys) as peers,
        socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener,
    ):
        listener.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)  # nobody has this address, so nobody gets there
        listener.bind((TARGET4, 0))
        listener.listen()
        listed = lists.shuffled(keys, 7)
        for what, sources, answer, frame in (
            (UNLISTED, lists.addresses(POOL_ADDRESSES, 3, keys), _PASS, b""),
            ("listed address, UDP to a port where nobody waits", listed, _DROP, b""),
            ("listed address, SYN to a listener", listed, _DROP, syn_to(listener.getsockname()[1])),
        ):
            peers.sources(sources)
            contenders = {
                EMPTY: peers.runner(peers.programs[EMPTY], _PASS, frame),
                XDROPD: peers.runner(passing.root, answer, frame),
                _REPLIES_DROP: peers.runner(dropping.root, answer, frame),
            }
            for warm in contenders.values():
                warm()
            found = in_turns(contenders, effort.rounds(_ROUNDS))
            costs = {name: found[name].above(found[EMPTY].median) for name in (XDROPD, _REPLIES_DROP)}
            report.add(Figure(_GROUP, f"replies: pass, {what}", len(keys), "ns", costs))
