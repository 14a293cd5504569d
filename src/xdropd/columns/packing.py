"""A listing as plain memory and back: a head that JSON can carry, and its columns as they lie in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from xdropd.columns.listing import KINDS, SELECTIONS, Kind, Listing, Members, Reasons, Selections, Table
from xdropd.columns.prefixes import FAMILIES, Column

Head = list[list[int]]
"""Of each kind: how many entries, and whether reasons and ends are said; of each family: members; last, of the reasons:
ends and bytes."""

Take = Callable[[np.dtype[Any], int], Column]
"""The next column, by type and length."""


def packed(listing: Listing) -> tuple[Head, list[Column]]:
    """The head of a listing, and its columns in their order."""
    head, columns = [], []
    for kind in KINDS:
        table = listing.table(kind)
        head.append([len(table), int(table.reasons is not None), int(table.untils is not None)])
        columns += [each for each in (table.keys, table.lines, table.reasons, table.untils) if each is not None]
    for keys, rows in listing.selections.members.values():
        head.append([len(keys)])
        columns += [keys, rows]
    reasons = listing.reasons
    head.append([len(reasons.ends), len(reasons.packed)])
    columns += [reasons.ends, np.frombuffer(reasons.packed, np.uint8)]
    return head, columns


def unpacked(head: Head, take: Take) -> Listing:
    """The listing again. Raises ValueError or whatever `take` raises where the head is no head."""
    *others, (end_count, byte_count) = head
    of_tables, of_members = others[: len(KINDS)], others[len(KINDS) :]
    tables = {}
    for kind, (count, has_reasons, has_untils) in zip(KINDS, of_tables, strict=True):
        tables[kind] = Table(
            take(kind.key_type, count),
            take(np.dtype(np.uint32), count),
            take(np.dtype(np.uint32), count) if has_reasons else None,
            take(np.dtype(np.float64), count) if has_untils else None,
        )
    members = {
        version: Members(take(family.key_type, count), take(np.dtype(np.uint32), count))
        for (version, family), (count,) in zip(FAMILIES.items(), of_members, strict=True)
    }
    ends = take(np.dtype(np.uint32), end_count)
    reasons = Reasons(take(np.dtype(np.uint8), byte_count).tobytes(), ends)
    prefixes, ranges = (
        {version: tables[Kind(version, is_range)] for version in FAMILIES} for is_range in (False, True)
    )
    selected = tables[SELECTIONS]
    return Listing(prefixes, ranges, reasons, Selections.of(selected.keys, selected.lines, members))
