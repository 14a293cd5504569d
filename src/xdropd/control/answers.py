"""Answers: the verbs that only read.

They stream: a list of a million entries is made as fast as it is read. What takes longer than a moment is done in
steps, or aside.
"""

import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

import xdropd
from xdropd.columns.listing import KINDS, SELECTIONS, Kind, Row, prefix_length
from xdropd.columns.prefixes import FAMILIES, Column
from xdropd.columns.versions import SELECTED
from xdropd.control import fields
from xdropd.control.moments import moment
from xdropd.control.pauses import with_pauses
from xdropd.control.rows import described, lines_of
from xdropd.control.sharedstats import AllStats, SharedStats
from xdropd.control.waiting import Waiting
from xdropd.daemon.parts import Parts
from xdropd.errors import BadRequest
from xdropd.host.control import MORE, Line
from xdropd.host.fetched import State as FetchState
from xdropd.host.fetched import Wanted
from xdropd.kernel.abi import VERDICTS
from xdropd.rules.winners import Source, State
from xdropd.sources.blocks import Blocks
from xdropd.text.addresses import Span

_TOP_AT_MOST = 1000
_SOURCES_AT_ONCE = 100  # to look into so many takes a few milliseconds
_TOP_KEYS = {"packets": "packets", "bytes": "bytes", "recent": "last_seen_ns"}
_NO_ENTRY = dict.fromkeys(
    ("entry", "source", "line", "reason", "since", "until", "packets", "bytes", "last_seen", "action")
)
_FAMILY_NAMES = {"ipv4": 4, "ipv6": 6, "inet": SELECTED}  # as nft(8) calls both


class Answers:
    """Of one daemon."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._waiting = Waiting(parts.progress, parts.reactor)
        self._stats = SharedStats(parts.reactor.calculator, parts.filter.counting.all_stats)

    def status(self, _request: Mapping[str, Any]) -> Iterator[Line]:
        """What is in force, where, and what is wrong."""
        parts = self._parts
        totals = [parts.filter.totals(ifindex) for ifindex in parts.filter.attachments]
        last = parts.results.last
        yield {
            "result": {
                "state": parts.announcing.state,
                "degraded": parts.telling.is_degraded,
                "troubles": parts.telling.all_troubles(),
                "version": xdropd.__version__,
                "ready": parts.progress.is_ready,
                "progress": parts.progress.text,
                "interfaces": [
                    {
                        "name": parts.attaching.name_of(ifindex),
                        "mode": kept.mode,
                        "program_id": kept.root_id,
                        "why": parts.attaching.why(ifindex) or None,
                    }
                    for ifindex, kept in sorted(parts.filter.attachments.items())
                ],
                "waiting": parts.attaching.waiting,
                "entries": _counts(parts.lists.state),
                "packets": {verdict: sum(total[verdict].packets for total in totals) for verdict in VERDICTS},
                "bytes": {verdict: sum(total[verdict].bytes for total in totals) for verdict in VERDICTS},
                "reload": {
                    "at": moment(last.at_s or None),
                    "ok": last.is_ok,
                    "problems": [problem.as_json() for problem in last.problems],
                },
                "narrowed": parts.settling.narrowed,
                "sources": _tagged(parts.blocks),
                "fetch": [self._fetched(each) for each in parts.fetching.wanted],
            }
        }

    def _fares(self, wanted: Wanted) -> FetchState:
        return self._parts.fetching.states.get(wanted.url) or FetchState(wanted.url)

    def _fetched(self, wanted: Wanted) -> dict[str, Any]:
        """How a URL fares."""
        state = self._fares(wanted)
        return {
            "url": wanted.url,
            "every_seconds": wanted.every_s,
            "fetched_at": moment(state.fetched_at),
            "changed_at": moment(state.changed_at),
            "next_at": moment(state.next_at),
            "failures": state.failures,
            "failure": state.failure,
        }

    def list(self, request: Mapping[str, Any]) -> Iterator[Line]:
        """What is listed, of all sources or of one."""
        wanted = fields.optional(request, "source", fields.PATH_CHARACTERS_AT_MOST)
        only = fields.optional(request, "entry")
        span = None if only is None else fields.listed(only)
        yield from self._waiting.until_ready()
        sources = [source for source in self._parts.lists.known().sources if wanted in (None, source.name)]
        if span is not None:
            for source in sources:
                if row := source.listing.row(*span):
                    yield {"row": self._described(source, row)}
        else:
            with self._stats.used():
                yield from self._read_stats()
                for source in sources:
                    yield from lines_of(source, self._stats.latest)
        yield {"result": {}}

    def lookup(self, request: Mapping[str, Any]) -> Iterator[Line]:
        """Whether an address is blocked, and by what."""
        span, remark = fields.span(fields.text(request, "address"))
        if not span.is_address:
            raise BadRequest(f"{span} is not an address", "lookup takes a single address")
        yield from self._waiting.until_ready()
        state = self._parts.lists.known()
        if len(state.sources) > _SOURCES_AT_ONCE:
            held = yield from self._waiting.aside(lambda: state.holder(span.version, span.first))
        else:
            held = state.holder(span.version, span.first)
        keeper = next(state.exempt.keepers(*span), None)
        facts = self._parts.catalogue.facts_of(span.version, span.first)
        yield {
            "result": {
                "address": str(span),
                "blocked": held is not None and keeper is None and not held[0].monitors,
                "kept_by": keeper
                and {
                    "kind": keeper.kind,
                    "entry": str(Span(*keeper.row[:3])),
                    "source": keeper.source,
                    "line": keeper.row.line or None,
                },
                **(self._described(*held) if held else _NO_ENTRY),
                **facts._asdict(),
                **({"remarks": [remark]} if remark else {}),
            }
        }

    def top(self, request: Mapping[str, Any]) -> Iterator[Line]:
        """The busiest entries."""
        by = fields.optional(request, "by") or "packets"
        if by not in _TOP_KEYS:
            raise BadRequest(f'"by" is one of {", ".join(_TOP_KEYS)}')
        number = request.get("count", 20)
        if not isinstance(number, int) or isinstance(number, bool) or not 0 < number <= _TOP_AT_MOST:
            raise BadRequest(f'"count" is a number from 1 to {_TOP_AT_MOST}')
        yield from self._waiting.until_ready()
        sources = {source.number: source for source in self._parts.lists.known().sources}
        with self._stats.used():
            yield from self._read_stats()
            busiest = yield from self._waiting.aside(lambda: _busiest(self._stats.latest(), _TOP_KEYS[by], number))
        for source_number, span in busiest:
            source = sources.get(source_number)
            if source is not None and (row := source.listing.row(*span)):
                yield {"row": self._described(source, row)}
        yield {"result": {}}

    def metrics(self, _request: Mapping[str, Any]) -> Iterator[Line]:
        """Numbers for the exporter."""
        parts = self._parts
        state = parts.lists.state or State()
        listed = {source.name: source for source in state.sources}
        for each in with_pauses(list(parts.filter.counting.sources)):
            if each is None:
                yield MORE
            else:
                name, number = each
                volume = parts.filter.counting.volume(number)._asdict()
                entries, action = (listed[name].listing.count, listed[name].action) if name in listed else (0, None)
                yield {"row": {"name": name, "entries": entries, **volume, "action": action}}
        results = parts.results
        yield {
            "result": {
                "version": xdropd.__version__,
                "state": parts.announcing.state,
                "degraded": parts.telling.is_degraded,
                "interfaces": [
                    {
                        "name": parts.attaching.name_of(ifindex),
                        "mode": kept.mode,
                        "totals": {verdict: list(volume) for verdict, volume in parts.filter.totals(ifindex).items()},
                    }
                    for ifindex, kept in sorted(parts.filter.attachments.items())
                ],
                "entries": _counts(parts.lists.state),
                "families": {
                    name: sum(
                        len(source.listing.table(kind))
                        for source in state.sources
                        for kind in KINDS
                        if kind.version == version
                    )
                    for name, version in _FAMILY_NAMES.items()
                },
                "reloads": {"ok": results.ok, "refused": results.refused, "failed": results.failed},
                "reload_seconds": results.last_reload_s,
                "fetch": [
                    {"url": state.url, "last_success": state.fetched_at or 0, "failures": state.failures_total}
                    for state in map(self._fares, parts.fetching.wanted)
                ],
                "last_success": results.last_success_s or (results.last.at_s if results.last.is_ok else 0),
            }
        }

    def _read_stats(self) -> Iterator[Line]:
        reading = self._stats.asked()
        yield from self._waiting.until(lambda: reading.is_done)
        self._stats.take(reading)

    def _described(self, source: Source, row: Row) -> dict[str, Any]:
        kind, key = _key_of(Span(*row[:3]))
        return described(source, row, self._parts.filter.counting.stats(kind, source.number, key))


def _key_of(span: Span) -> tuple[Kind, Column]:
    """How columns name an entry."""
    if span.version == SELECTED:
        return SELECTIONS, np.array([span.first], SELECTIONS.key_type)
    family, length = FAMILIES[span.version], prefix_length(*span)
    if length is None:
        return Kind(span.version, is_range=True), family.range_key(span.first, span.last)
    return Kind(span.version, is_range=False), family.key(span.first, length)


def _busiest(known: AllStats, by: str, number: int) -> list[tuple[int, Span]]:
    """(source number, entry) of those where a counter says the most, descending."""
    found: list[tuple[int, int, int, Span]] = []
    for (kind, source), (keys, stats) in known.items():
        hit = np.flatnonzero(stats["packets"])
        rows = hit[np.argsort(stats[by][hit], kind="stable")[::-1][:number]]
        if kind == SELECTIONS:
            found += (
                (int(stats[by][row]), int(stats["packets"][row]), source, Span(SELECTED, code, code))
                for row, code in zip(rows.tolist(), keys[rows].tolist(), strict=True)
            )
            continue
        ends = map(FAMILIES[kind.version].ints, kind.ends(keys[rows]))
        for row, first, last in zip(rows.tolist(), *ends, strict=True):
            span = Span(kind.version, first, last)
            found.append((int(stats[by][row]), int(stats["packets"][row]), source, span))
    return [(source, span) for _, _, source, span in sorted(found, reverse=True)[:number]]


def _tagged(blocks: Blocks) -> list[dict[str, Any]]:
    """Sources that carry a tag of their caller's."""
    return [
        {"name": name, "tag": tag.text, "entries": blocks.by_source[name].count if name in blocks.by_source else 0}
        for name, tag in blocks.tagged(time.time()).items()
    ]


def _counts(state: State | None) -> dict[str, int]:
    state = state or State()
    return {
        "ipv4": state.addresses[4],
        "ipv6": state.addresses[6],
        "networks": state.count - sum(state.addresses.values()),
        "monitored": sum(source.listing.count for source in state.sources if source.monitors),
        "allowed": sum(each.listing.count for each in state.exempt.sources if each.kind == "allow"),
    }
