"""Which addresses one state blocks that the one before did not, over whole columns. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from xdropd.columns.listing import Row
from xdropd.columns.nesting import holding
from xdropd.columns.prefixes import FAMILIES, Column, find
from xdropd.rules.allow import Exempt
from xdropd.rules.winners import Source, State


def fresh(before: State | None, after: State) -> list[Source]:
    """Those that may block what was not blocked before: the others are as they were, and so is what is exempt."""
    if before is None or before.exempt is not after.exempt:
        return _blocking(after)
    known = {id(source.listing) for source in _blocking(before)}
    return [source for source in _blocking(after) if id(source.listing) not in known]


def newly_blocked(before: State | None, after: State, version: int, addresses: Column) -> Column:
    """Whether each of these addresses is blocked after and was not before."""
    found = _blocked(fresh(before, after), after.exempt, version, addresses)
    if before is not None and found.any():
        rows = np.flatnonzero(found)
        found[rows] = ~_blocked(_blocking(before), before.exempt, version, addresses[rows])
    return found


def entry_of(state: State, version: int, address: int) -> tuple[Source, Row] | None:
    """The entry with the fewest addresses that blocks this one, and whose it is."""
    held = [
        (source.listing.rank_of(row)[0], order, source, row)
        for order, source in enumerate(_blocking(state))
        for row in holding(source.listing, version, address, address)
    ]
    return min(held, key=lambda each: each[:2])[2:] if held else None


def _blocking(state: State) -> list[Source]:
    return [source for source in state.sources if source.action == "block"]


def _blocked(sources: Iterable[Source], exempt: Exempt, version: int, addresses: Column) -> Column:
    family = FAMILIES[version]
    keys = family.keys(addresses, family.width)
    found = np.zeros(len(keys), bool)
    for source in sources:
        networks, pieces = source.listing.prefixes[version].keys, source.pieces[version]
        if source.addresses[version]:
            found |= find(networks, keys)[1]
        for known, lengths in ((networks, source.lengths[version]), (pieces.distinct, pieces.lengths)):
            for length in lengths:
                found |= find(known, family.shortened(keys, length))[1]
    return found & ~exempt.holds(version, keys) if found.any() else found
