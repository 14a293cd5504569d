"""Open connections that a list cuts off: told, never prevented. By the kernel's table of sockets, where it can be had.

Reads that table, which may take a moment: call it where nobody waits.
"""

import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from xdropd.columns.prefixes import FAMILIES
from xdropd.host.sockdiag import Connections, connections
from xdropd.rules.severed import entry_of, fresh, newly_blocked
from xdropd.rules.winners import State
from xdropd.text.addresses import Span, format_address

_LOOKED_INTO = 1000  # connections at most, for each is looked up by itself
_ENTRIES_NAMED = 20
_CONNECTIONS_NAMED = 3


@dataclass(slots=True)
class Severed:
    """The connections that an entry cuts off. `line` 0: it is a caller's."""

    source: str
    line: int
    entry: Span
    connections: Counter[str] = field(default_factory=Counter)
    are_all: bool = True
    """Whether no more were looked into."""
    others: int = 0
    """Entries beyond this one that are not told."""

    def __str__(self) -> str:
        count = self.connections.total()
        said = f"{count} open connections of this host are" if count > 1 else "1 open connection of this host is"
        least = "" if self.are_all else "at least "
        inbound_first = sorted(self.connections, key=lambda words: (" to " in words, words))
        named = ", ".join(inbound_first[:_CONNECTIONS_NAMED])
        more = " …" if len(self.connections) > _CONNECTIONS_NAMED else ""
        others = f", and {self.others} more entries cut off connections" if self.others else ""
        return f"{self.entry}: {least}{said} with it ({named}{more}){others}"


def severed(
    before: State | None,
    after: State,
    within: Span | None = None,
    is_new: Callable[[Span], bool] = lambda _: True,
    *,
    passes_replies: bool = False,
) -> list[Severed]:
    """By entry, the connections that `after` cuts off and `before` did not; the first few entries.

    With `within`, only those with somebody there are looked at, which is quicker. `is_new` has the last word on an
    address. Where replies pass, what this host has opened goes on.
    """
    found: dict[tuple[str, Span], Severed] = {}
    if not fresh(before, after):
        return []
    left, are_all = _LOOKED_INTO, True
    known: dict[Span, Severed | None] = {}
    for each in connections(within):
        is_cut = newly_blocked(before, after, each.version, each.remote)
        cut = np.flatnonzero(is_cut & each.is_inbound if passes_replies else is_cut)
        some = each.taken(cut[:left])
        are_all &= len(cut) <= left
        left -= len(some)
        for address, words in zip(_spans(some), _words(some), strict=True):
            if address not in known:
                known[address] = _entry(after, address, found) if is_new(address) else None
            entry = known[address]
            if entry is not None:
                entry.connections[words] += 1
    told = list(found.values())[:_ENTRIES_NAMED]
    for entry in told:
        entry.are_all = are_all
    if told:
        told[-1].others = len(found) - len(told)
    return told


def _entry(state: State, address: Span, found: dict[tuple[str, Span], Severed]) -> Severed | None:
    held = entry_of(state, address.version, address.first)
    if held is None:
        return None
    source, row = held
    entry = Span(*row[:3])
    return found.setdefault((source.name, entry), Severed(source.name, row.line, entry))


def _spans(some: Connections) -> list[Span]:
    return [Span(some.version, number, number) for number in FAMILIES[some.version].ints(some.remote)]


def _words(some: Connections) -> list[str]:
    """Such as "ssh from 203.0.113.9" and "https to 203.0.113.9"."""
    return [
        f"{_service(port, some.protocol)} {'from' if is_inbound else 'to'} {format_address(some.version, span.first)}"
        for span, port, is_inbound in zip(_spans(some), some.service.tolist(), some.is_inbound.tolist(), strict=True)
    ]


def _service(port: int, protocol: str) -> str:
    try:
        return socket.getservbyport(port, protocol)
    except OSError:
        return f"{protocol} port {port}"
