"""Entries as the protocol tells them: one for an answer, or many at a time, straight from the columns."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from xdropd.columns.listing import KINDS, NEVER, Kind, Row, Table
from xdropd.columns.prefixes import FAMILIES, Column, find
from xdropd.control.moments import moment, wall_clock
from xdropd.kernel.abi import STATS, Stats
from xdropd.rules.winners import Source
from xdropd.text.addresses import Span, format_packed

_ROWS_A_PIECE = 1024

AllStats = Mapping[tuple[Kind, int], tuple[Column, Column]]


def described(source: Source, row: Row, stats: Stats | None) -> dict[str, Any]:
    """One entry. What nothing is known of was listed a moment ago."""
    return {
        "entry": str(Span(*row[:3])),
        "source": source.name,
        "line": row.line or None,
        "reason": row.reason or source.reason or None,
        "since": moment(stats.since_s) if stats else None,
        "until": moment(row.until),
        "packets": stats.packets if stats else 0,
        "bytes": stats.bytes if stats else 0,
        "last_seen": moment(wall_clock(stats.last_seen_ns)) if stats and stats.last_seen_ns else None,
    }


class SharedStats:
    """What is known of all entries, by the latest reading: held once for all answers under way, however slow."""

    def __init__(self) -> None:
        self.latest: AllStats = {}
        self._users = 0

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """While an answer is made of them; with the last one they go."""
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            if not self._users:
                self.latest = {}


def lines_of(source: Source, known: SharedStats) -> Iterator[bytes]:
    """Everything that a source lists, many lines at a time: the same as `described` says of each."""
    for kind in KINDS:
        table = source.listing.table(kind)
        for at in range(0, len(table), _ROWS_A_PIECE):
            # Nothing here may hold what was known, while somebody takes his time to read.
            yield _piece(source, kind, table.taken(slice(at, at + _ROWS_A_PIECE)), known.latest)


def _piece(source: Source, kind: Kind, table: Table, known: AllStats) -> bytes:
    keys, stats = known.get((kind, source.number), (table.keys[:0], np.zeros(0, STATS)))
    rows, found = find(keys, table.keys)
    told = np.zeros(len(table), STATS)
    told[found] = stats[rows[found]]
    return "".join(_lines(source, kind, table, told, found)).encode()


def _lines(source: Source, kind: Kind, table: Table, stats: Column, is_known: Column) -> Iterator[str]:
    name, default = json.dumps(source.name), json.dumps(source.reason or None)
    numbers = [0] * len(table) if table.reasons is None else table.reasons.tolist()
    reasons = {number: json.dumps(source.listing.reasons[number]) if number else default for number in set(numbers)}
    untils = [NEVER] * len(table) if table.untils is None else table.untils.tolist()
    for entry, line, number, until, is_there, packets, octets, seen_ns, since_s in zip(
        _texts(kind, table.keys),
        table.lines.tolist(),
        numbers,
        untils,
        is_known.tolist(),
        *(stats[field].tolist() for field in Stats._fields),
        strict=True,
    ):
        since = f'"{moment(since_s)}"' if is_there else "null"
        end = "null" if until == NEVER else f'"{moment(until)}"'
        seen = f'"{moment(wall_clock(seen_ns))}"' if seen_ns else "null"
        yield (
            f'{{"row":{{"entry":"{entry}","source":{name},"line":{line or "null"},"reason":{reasons[number]},'
            f'"since":{since},"until":{end},"packets":{packets},"bytes":{octets},"last_seen":{seen}}}}}\n'
        )


def _texts(kind: Kind, keys: Column) -> list[str]:
    """Entries in their canonical form, as `Span` has it."""
    family = FAMILIES[kind.version]
    if kind.is_range:
        firsts, lasts = (format_packed(kind.version, family.packed(each)) for each in family.ends_of_ranges(keys))
        return [f"{first}-{last}" for first, last in zip(firsts, lasts, strict=True)]
    return [
        first if length == family.width else f"{first}/{length}"
        for first, length in zip(
            format_packed(kind.version, family.packed(family.firsts(keys))), family.lengths(keys).tolist(), strict=True
        )
    ]
