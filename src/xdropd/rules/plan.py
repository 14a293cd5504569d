"""From one state to the next: which records change, in an order that is safe at each instant.

Pure. The law: while a plan is carried out, no packet of a source that is listed before and after passes, and none of a
source that is listed neither before nor after is dropped, wherever it is interrupted.

Why the order of the steps keeps it. An exempt prefix never holds a listed address of its own state, and addresses are
asked for before networks. While records are added, the longest match of an address is either one of the old state's
(and says what the old one said), or one of the new state's; the new exempt ones are there before the new listed ones,
so a new listed prefix never shows where the new state has an exemption within it. While records are removed, every
new one is there already; the old listed ones go before the old exempt ones, so none shows what an exemption covered.

Records that monitor, whose addresses pass, never lie within one that drops, unless an exemption is between them; but
one that drops may lie within them. So they come last, when all that drops within them is there, and go first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from xdropd.columns.listing import Kind, Listing
from xdropd.columns.nesting import within
from xdropd.columns.prefixes import FAMILIES, Column, match, union, without
from xdropd.rules.winners import Records, Source, State


@dataclass(frozen=True, slots=True, eq=False)
class Changes:
    """How the records of one family change: what is written, and what is removed, as it was."""

    written: Records
    removed: Records
    replaced: Records
    """What stood where something else is written, as it was."""

    @property
    def count(self) -> int:
        """How many single steps there are."""
        return len(self.written.keys) + len(self.removed.keys)


class Counted(NamedTuple):
    """How many entries came and went, as people count them."""

    added: int = 0
    removed: int = 0


def difference(before: Records, after: Records) -> Changes:
    """What makes `after` of `before`; both are about the same prefixes."""
    old_rows, new_rows = match(before.keys, after.keys)
    same = (before.sources[old_rows] == after.sources[new_rows]) & (before.ranges[old_rows] == after.ranges[new_rows])
    written, removed, replaced = np.ones(len(after.keys), bool), np.ones(len(before.keys), bool), old_rows[~same]
    written[new_rows[same]] = False
    removed[old_rows] = False
    return Changes(after.taken(written), before.taken(removed), before.taken(replaced))


@dataclass(frozen=True, slots=True, eq=False)
class Changed:
    """What differs between two states: prefixes of entries and pieces of ranges, ascending, by version."""

    prefixes: Mapping[int, Column]
    counted: Counted

    @property
    def count(self) -> int:
        """How many there are, about as many as records will change."""
        return sum(map(len, self.prefixes.values()))


def changed(before: State, after: State) -> Changed:
    """What came, went or has another place among equals."""
    found: dict[int, list[Column]] = {version: [family.empty_keys()] for version, family in FAMILIES.items()}
    added = removed = 0
    nobody = Source("", 0, Listing.empty())
    now, then = {source.number: source for source in after.sources}, {each.number: each for each in before.sources}
    moved = _moved([number for number in then if number in now], [number for number in now if number in then])
    for number in now.keys() | then.keys():
        old, new = then.get(number, nobody), now.get(number, nobody)
        if old is new and number not in moved:
            continue
        is_moved = number in moved or old.action != new.action
        left, joined = _reselected(old.listing, new.listing)
        for version in FAMILIES:
            keys, others = old.listing.prefixes[version].keys, new.listing.prefixes[version].keys
            if len(keys) or len(others):
                gone, come = without(keys, others), without(others, keys)
                found[version] += (gone, come)
                added, removed = added + len(come), removed + len(gone)
            keys, others = old.listing.ranges[version].keys, new.listing.ranges[version].keys
            if len(keys) or len(others):
                gone, come = without(keys, others), without(others, keys)
                added, removed = added + len(come), removed + len(gone)
                reordered = _reordered(old.listing, new.listing, version)
                found[version] += (old.pieces_of(version, gone), new.pieces_of(version, union(come, reordered)))
            if len(left) or len(joined):
                gone, come = (FAMILIES[version].selection_keys(each) for each in (left, joined))
                found[version] += (old.pieces_of(version, gone), new.pieces_of(version, come))
            if is_moved:
                found[version] += (new.listing.prefixes[version].keys, new.pieces[version].distinct)
        keys, others = (each.listing.selections.table.keys for each in (old, new))
        added, removed = added + len(without(others, keys)), removed + len(without(keys, others))
    return Changed({version: union(*some) for version, some in found.items()}, Counted(added, removed))


def _widened(version: int, changed: Column, before: State, after: State) -> Column:
    """The prefixes whose record may differ.

    With whatever is contested or exempt within what changed, and with all that is listed where exemptions changed.
    """
    family = FAMILIES[version]
    old, new = before.exempt.prefixes[version], after.exempt.prefixes[version]
    if old is new and not len(changed):
        return changed
    exempt = union(without(old, new), without(new, old))
    wide = union(changed[family.lengths(changed) < family.width], exempt)
    if not len(wide):
        return changed
    found = [changed, exempt]
    for state in (before, after) if len(wide) else ():
        inside = [(state.exempt.prefixes[version], wide)]
        for source in state.sources:
            inside += ((source.contested[version], wide), (source.listing.prefixes[version].keys, exempt))
        found += (keys[within(version, keys, outer)] for keys, outer in inside)
    return union(*found)


def _reordered(old: Listing, new: Listing, version: int) -> Column:
    """Ranges in both that have another place among the entries that are in both: among equals, order decides."""
    if old is new or not len(old.ranges[version]) or not len(new.ranges[version]):
        return old.ranges[version].keys[:0]
    old_rows, new_rows = match(old.ranges[version].keys, new.ranges[version].keys)
    keys: Column = old.ranges[version].keys[old_rows]
    before, then = _places(old, new, version), _places(new, old, version)
    moved: Column = keys[before[: len(keys)] != then[: len(keys)]]
    return moved


def _places(one: Listing, other: Listing, version: int) -> Column:
    """Of the ranges and networks of `one` that are in `other` as well: their places in the order of lines."""
    lines = [
        table.lines[match(table.keys, others.keys)[0]]
        for table, others in (
            (one.ranges[version], other.ranges[version]),
            (one.prefixes[version], other.prefixes[version]),
        )
    ]
    order = np.argsort(np.concatenate(lines), kind="stable")
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order))
    return places


def _reselected(old: Listing, new: Listing) -> tuple[Column, Column]:
    """Selections that are not what they were, as (gone, come): in one of both only, of others members, or elsewhere
    among those that are in both.
    """
    ones, others = old.selections, new.selections
    if ones is others:
        return ones.table.keys[:0], ones.table.keys[:0]
    rows, other_rows = match(ones.table.keys, others.table.keys)
    places, other_places = (np.argsort(lines) for lines in (ones.table.lines[rows], others.table.lines[other_rows]))
    same = np.full(len(rows), np.array_equal(places, other_places))
    for at, (row, other_row) in enumerate(zip(rows.tolist(), other_rows.tolist(), strict=True)):
        same[at] &= all(
            np.array_equal(
                ones.members[version].keys[ones.members[version].rows == row],
                others.members[version].keys[others.members[version].rows == other_row],
            )
            for version in FAMILIES
        )
    stay = ones.table.keys[rows[same]]
    return without(ones.table.keys, stay), without(others.table.keys, stay)


def _moved(before: list[int], after: list[int]) -> set[int]:
    """Of two orders of the same sources, at least one of any two that changed places."""
    return {number for old, new in zip(before, after, strict=True) if old != new for number in (old, new)}


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """From one state to the next: how the records of each family change, and how many entries came and went."""

    before: State
    after: State
    changes: dict[int, Changes]
    counted: Counted

    @property
    def count(self) -> int:
        """How many single steps there are."""
        return sum(change.count for change in self.changes.values())

    @property
    def removed(self) -> int:
        """How many of them take a record out."""
        return sum(len(change.removed.keys) for change in self.changes.values())

    def leaving(self) -> Iterator[tuple[Kind, int, Column]]:
        """Entries that stay listed and whose records go: (kind, source, ascending keys)."""
        listings = {source.number: source.listing for source in self.after.sources}
        for version, change in self.changes.items():
            kind = Kind(version, is_range=False)
            for records in (change.removed, change.replaced):
                numbers = records.numbers
                for number in (each for each in np.unique(numbers).tolist() if each in listings):
                    keys = records.keys[numbers == number]
                    keys = keys[match(keys, listings[number].table(kind).keys)[0]]
                    if len(keys):
                        yield kind, number, keys


def plan(before: State, after: State, change: Changed | None = None) -> Plan:
    """What makes `after` of `before`. `change`, if it is known, is what has `changed`."""
    change = change or changed(before, after)
    changes = {}
    for version, keys in change.prefixes.items():
        touched = _widened(version, keys, before, after)
        if len(touched):
            changes[version] = difference(before.records(version, touched), after.records(version, touched))
    return Plan(before, after, changes, change.counted)
