"""Entries of columns as texts in their canonical form, many at once: as `Span` writes each."""

from __future__ import annotations

from xdropd.columns.listing import SELECTIONS, Kind
from xdropd.columns.prefixes import FAMILIES, Column
from xdropd.text import selecting
from xdropd.text.addresses import format_packed


def texts(kind: Kind, keys: Column) -> list[str]:
    """Of entries of one kind, by their keys."""
    if kind == SELECTIONS:
        return list(map(selecting.text_of, keys.tolist()))
    family = FAMILIES[kind.version]
    if kind.is_range:
        firsts, lasts = (format_packed(kind.version, family.packed(each)) for each in family.ends_of_ranges(keys))
        return [f"{first}-{last}" for first, last in zip(firsts, lasts, strict=True)]
    firsts = format_packed(kind.version, family.packed(family.firsts(keys)))
    lengths = [*(f"/{length}" for length in range(family.width)), ""]
    return [first + lengths[length] for first, length in zip(firsts, family.lengths(keys).tolist(), strict=True)]
