"""Entries as the protocol tells them: one for an answer, or many at a time, straight from the columns."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from xdropd.columns.listing import KINDS, NEVER, SELECTIONS, Kind, Row, Table
from xdropd.columns.prefixes import Column, find
from xdropd.control.moments import moment, moments, monotonic_zero_s
from xdropd.control.sharedstats import AllStats
from xdropd.kernel.abi import STATS, Stats
from xdropd.rules.winners import Source
from xdropd.text.addresses import Span
from xdropd.text.canonical import texts

_ROWS_A_PIECE = 1024
_REST = '"reason":%s,"since":%s,"until":%s,"packets":%d,"bytes":%d,"last_seen":%s,"action":"%s"}}\n'


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
        "last_seen": moment(monotonic_zero_s() + stats.last_seen_ns / 1e9) if stats and stats.last_seen_ns else None,
        "action": source.action,
    }


def lines_of(source: Source, latest: Callable[[], AllStats]) -> Iterator[bytes]:
    """Everything that a source lists, many lines at a time: the same as `described` says of each."""
    for kind in KINDS:
        table = source.listing.table(kind)
        for at in range(0, len(table), _ROWS_A_PIECE):
            # Nothing here may hold what is known, while somebody takes his time to read.
            yield _piece(source, kind, table.taken(slice(at, at + _ROWS_A_PIECE)), latest())


def _piece(source: Source, kind: Kind, table: Table, known: AllStats) -> bytes:
    keys, stats = known.get((kind, source.number), (table.keys[:0], np.zeros(0, STATS)))
    rows, found = find(keys, table.keys)
    told = np.zeros(len(table), STATS)
    told[found] = stats[rows[found]]
    # Most entries have more in common than not, so what is said behind the line is written once for all that share it.
    said = list(zip(*_said(source, table, told, found), strict=True))
    rests = {each: _REST % each for each in set(said)}
    name = json.dumps(source.name)
    lines = np.zeros(len(table), np.uint32) if kind == SELECTIONS else table.lines  # a database has none
    return "".join(
        [
            f'{{"row":{{"entry":"{entry}","source":{name},"line":{line or "null"},{rests[each]}'
            for entry, line, each in zip(texts(kind, table.keys), lines.tolist(), said, strict=True)
        ]
    ).encode()


def _said(source: Source, table: Table, stats: Column, is_known: Column) -> Iterator[list[Any]]:
    """What _REST takes, as columns."""
    yield _reasons(source, table)
    yield _moments(np.where(is_known, stats["since_s"], NEVER))
    yield ["null"] * len(table) if table.untils is None else _moments(table.untils)
    yield stats["packets"].tolist()
    yield stats["bytes"].tolist()
    seen_ns = stats["last_seen_ns"]
    yield _moments(np.where(seen_ns, monotonic_zero_s() + seen_ns / 1e9, NEVER))
    yield [source.action] * len(table)


def _reasons(source: Source, table: Table) -> list[str]:
    numbers = [0] * len(table) if table.reasons is None else table.reasons.tolist()
    said = {number: json.dumps(source.listing.reasons[number] or source.reason or None) for number in set(numbers)}
    return [said[number] for number in numbers]


def _moments(seconds: Column) -> list[str]:
    """Moments as JSON, null for NEVER."""
    distinct, rows = np.unique(seconds, return_inverse=True)
    said = [*(f'"{text}"' for text in moments(distinct[distinct < NEVER])), "null"]
    return [said[row] for row in rows.tolist()]
