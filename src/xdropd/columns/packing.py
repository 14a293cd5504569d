"""A listing as plain memory and back: a head that JSON can carry, and its columns as they lie in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from xdropd.columns.listing import KINDS, Listing, Reasons, Table
from xdropd.columns.prefixes import Column

Head = list[list[int]]
"""Of each kind: how many entries, and whether reasons and ends are said; last, of the reasons: ends and bytes."""

Take = Callable[[np.dtype[Any], int], Column]
"""The next column, by type and length."""


def packed(listing: Listing) -> tuple[Head, list[Column]]:
    """The head of a listing, and its columns in their order."""
    head, columns = [], []
    for kind in KINDS:
        table = listing.table(kind)
        head.append([len(table), int(table.reasons is not None), int(table.untils is not None)])
        columns += [each for each in (table.keys, table.lines, table.reasons, table.untils) if each is not None]
    reasons = listing.reasons
    head.append([len(reasons.ends), len(reasons.packed)])
    columns += [reasons.ends, np.frombuffer(reasons.packed, np.uint8)]
    return head, columns


def unpacked(head: Head, take: Take) -> Listing:
    """The listing again. Raises ValueError or whatever `take` raises where the head is no head."""
    *of_tables, (end_count, byte_count) = head
    tables: dict[bool, dict[int, Table]] = {False: {}, True: {}}
    for kind, (count, has_reasons, has_untils) in zip(KINDS, of_tables, strict=True):
        tables[kind.is_range][kind.version] = Table(
            take(kind.key_type, count),
            take(np.dtype(np.uint32), count),
            take(np.dtype(np.uint32), count) if has_reasons else None,
            take(np.dtype(np.float64), count) if has_untils else None,
        )
    ends = take(np.dtype(np.uint32), end_count)
    return Listing(tables[False], tables[True], Reasons(take(np.dtype(np.uint8), byte_count).tobytes(), ends))
