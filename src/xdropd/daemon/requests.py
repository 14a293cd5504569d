"""The verbs of the control socket: requests to replies. docs/protocol.md describes both; JSON keys are a contract.

Asks the daemon and has it change; knows no kernel and no file of its own. Replies stream: a list of a million entries
is made as fast as it is read. Whatever takes longer than a moment is done in steps, or aside; what changes the list is
one of the daemon's changes, so that what was checked is still so when it is applied.
"""

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

import xdropd
from xdropd.columns.listing import KINDS, Builder, Kind, Listing, Row, common, prefix_length, without
from xdropd.columns.prefixes import FAMILIES, Column, find
from xdropd.daemon.loop import FAILURES, NO_LIST_YET, Daemon, reason_of
from xdropd.errors import BadRequest, Refused, Unavailable, XdropdError
from xdropd.host.blocklog import Record
from xdropd.host.control import MORE, Reply
from xdropd.kernel.abi import Stats, stats_of
from xdropd.rules.allow import Exempt, Keeper
from xdropd.rules.narrowed import sharing_rows
from xdropd.rules.winners import Source, State
from xdropd.text import names
from xdropd.text.addresses import Span, parse_leniently

_DEFAULT_SOURCE = "xdropctl"
_TOP_AT_MOST = 1000
_TOP_KEYS = {"packets": "packets", "bytes": "bytes", "recent": "last_seen_ns"}
_SECONDS_AT_MOST = 100 * 365 * 86400
_CHARACTERS_AT_MOST = 1000
_PATH_CHARACTERS_AT_MOST = 4 * 4096  # PATH_MAX, and every byte told as four characters
_KEEPERS_NAMED_AT_MOST = 10
_NAMED_AT_MOST = 100  # a batch can be large, a message is for reading
_KEYS = {"accept", "address", "by", "count", "entries", "entry", "lines", "reason", "seconds", "source"}
_RELOADS_AT_MOST = 100  # that wait; those that accept the same file are one
_SOURCES_AT_MOST = 10_000  # of blocks, at once
_WORD_EVERY_SECONDS = 1.0
_STRETCH_SECONDS = 0.01  # of work between looks at what else there is to do
_LOOK_EVERY = 64  # entries, which take some microseconds each
_ROWS_A_PIECE = 1024

_T = TypeVar("_T")
AllStats = Mapping[tuple[Kind, int], tuple[Column, Column]]


class Requests:
    """Answers for one daemon. Callable as the control server's handler."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._verbs = {
            "status": self._status,
            "list": self._list,
            "lookup": self._lookup,
            "block": self._block,
            "unblock": self._unblock,
            "flush": self._flush,
            "reload": self._reload,
            "top": self._top,
            "metrics": self._metrics,
        }

    def __call__(self, request: Mapping[str, Any]) -> Iterator[Reply | None]:
        """Replies to one request. Raises XdropdError."""
        verb = self._verbs.get(request["verb"])
        if verb is None:
            raise BadRequest(f"there is no verb {request['verb']!r}", f"there are {', '.join(self._verbs)}")
        return verb({key: value for key, value in request.items() if key in _KEYS})

    # ---- asking ----

    def _status(self, _request: Mapping[str, Any]) -> Iterator[Reply | None]:
        daemon = self._daemon
        totals = [daemon.filter.totals(ifindex) for ifindex in daemon.filter.attachments]
        yield {
            "result": {
                "state": "monitoring" if daemon.settings.action == "monitor" else "enforcing",
                "degraded": daemon.telling.is_degraded,
                "troubles": daemon.telling.all_troubles(),
                "version": xdropd.__version__,
                "ready": daemon.is_ready,
                "progress": daemon.progress,
                "interfaces": [
                    {
                        "name": daemon.attaching.name_of(ifindex),
                        "mode": kept.mode,
                        "program_id": kept.root_id,
                    }
                    for ifindex, kept in sorted(daemon.filter.attachments.items())
                ],
                "entries": _counts(daemon.state),
                "packets": {
                    verdict: sum(total[verdict].packets for total in totals)
                    for verdict in ("passed", "dropped", "malformed")
                },
                "bytes": {
                    verdict: sum(total[verdict].bytes for total in totals)
                    for verdict in ("passed", "dropped", "malformed")
                },
                "reload": {
                    "at": _moment(daemon.last_reload.at_s or None),
                    "ok": daemon.last_reload.is_ok,
                    "problems": [problem.as_json() for problem in daemon.last_reload.problems],
                },
                "narrowed": daemon.narrowed,
            }
        }

    def _list(self, request: Mapping[str, Any]) -> Iterator[Reply | None]:
        wanted, only = _optional(request, "source", _PATH_CHARACTERS_AT_MOST), _optional(request, "entry")
        span = None if only is None else _span(only)[0]
        yield from self._until(lambda: self._daemon.is_ready)
        state = self._state()
        if span is not None:
            for source in state.sources:
                if wanted in (None, source.name) and (row := source.listing.row(*span)):
                    yield {"row": self._described(source, row)}
        else:
            known = yield from self._aside(self._daemon.filter.lists.all_stats)
            for source in state.sources:
                if wanted in (None, source.name):
                    yield from _rows_of(source, known)
        yield {"result": {}}

    def _lookup(self, request: Mapping[str, Any]) -> Iterator[Reply | None]:
        span, remark = _span(_text(request, "address"))
        if not span.is_address:
            raise BadRequest(f"{span} is not an address", "lookup takes a single address")
        yield from self._until(lambda: self._daemon.is_ready)
        state = self._state()
        held = state.holder(span.version, span.first)
        keeper = next(state.exempt.keepers(*span), None)
        row: dict[str, Any] = dict.fromkeys(
            ("entry", "source", "line", "reason", "since", "until", "packets", "bytes", "last_seen")
        )
        if held:
            row = self._described(*held)
        yield {
            "result": {
                "address": str(span),
                "blocked": held is not None and keeper is None,
                "kept_by": keeper
                and {
                    "kind": keeper.kind,
                    "entry": str(Span(*keeper.row[:3])),
                    "source": keeper.source,
                    "line": keeper.row.line or None,
                },
                **row,
                **({"remarks": [remark]} if remark else {}),
            }
        }

    def _top(self, request: Mapping[str, Any]) -> Iterator[Reply | None]:
        by = _optional(request, "by") or "packets"
        if by not in _TOP_KEYS:
            raise BadRequest(f'"by" is one of {", ".join(_TOP_KEYS)}')
        number = request.get("count", 20)
        if not isinstance(number, int) or isinstance(number, bool) or not 0 < number <= _TOP_AT_MOST:
            raise BadRequest(f'"count" is a number from 1 to {_TOP_AT_MOST}')
        yield from self._until(lambda: self._daemon.is_ready)
        sources = {source.number: source for source in self._state().sources}
        lists = self._daemon.filter.lists
        busiest = yield from self._aside(lambda: _busiest(lists.all_stats(), _TOP_KEYS[by], number))
        for source_number, span in busiest:
            source = sources.get(source_number)
            if source is not None and (row := source.listing.row(*span)):
                yield {"row": self._described(source, row)}
        yield {"result": {}}

    def _metrics(self, _request: Mapping[str, Any]) -> Iterator[Reply | None]:
        daemon = self._daemon
        state = daemon.state or State()
        entries_of = {source.name: source.listing.count for source in state.sources}
        for each in _with_pauses(list(daemon.filter.sources)):
            if each is None:
                yield MORE
            else:
                name, number = each
                packets = daemon.filter.lists.volume(number).packets
                yield {"row": {"name": name, "entries": entries_of.get(name, 0), "packets": packets}}
        yield {
            "result": {
                "version": xdropd.__version__,
                "degraded": daemon.telling.is_degraded,
                "interfaces": [
                    {
                        "name": daemon.attaching.name_of(ifindex),
                        "mode": kept.mode,
                        "totals": {verdict: list(volume) for verdict, volume in daemon.filter.totals(ifindex).items()},
                    }
                    for ifindex, kept in sorted(daemon.filter.attachments.items())
                ],
                "entries": _counts(daemon.state),
                "families": {
                    f"ipv{version}": sum(
                        len(source.listing.table(kind))
                        for source in state.sources
                        for kind in KINDS
                        if kind.version == version
                    )
                    for version in FAMILIES
                },
                "reloads": {
                    "ok": daemon.tally.reloads_ok,
                    "refused": daemon.tally.reloads_refused,
                    "failed": daemon.tally.reloads_failed,
                },
                "reload_seconds": daemon.tally.last_reload_s,
                "last_success": daemon.tally.last_success_s
                or (daemon.last_reload.at_s if daemon.last_reload.is_ok else 0),
            }
        }

    # ---- changing ----

    def _block(self, request: Mapping[str, Any]) -> Iterator[Reply | None]:
        source_name = _source_name(request)
        reason = _optional(request, "reason") or ""
        seconds = _seconds(request)
        texts = _texts(request)
        yield from self._in_turn(self._do_block(texts, source_name, reason, seconds))

    def _do_block(
        self, texts: list[str], source_name: str, reason: str, seconds: float | None
    ) -> Generator[None, None, Reply]:
        spans, warnings = yield from _spans(texts)
        self._check_room_for(source_name)
        exempt = self._state().exempt
        asked = _listing_of(spans)
        yield
        touched = [Span(*row[:3]) for row in sharing_rows(asked, exempt.prefixes)]
        yield
        refused: list[Span] = []
        narrowed: list[Span] = []
        for span in _with_pauses(touched):
            if span is None:
                yield
            elif exempt.covers(*span):
                refused.append(span)
            else:
                narrowed.append(span)
        if refused:
            sentences = [_why_refused(exempt, span) for span in refused[:_NAMED_AT_MOST]]
            raise Refused(_sentences(sentences, len(refused)))
        warnings += [f"{span} is narrowed by {_exempt(exempt.touching(*span))}" for span in narrowed[:_NAMED_AT_MOST]]
        if len(narrowed) > _NAMED_AT_MOST:
            warnings.append(f"{len(narrowed) - _NAMED_AT_MOST} more are narrowed as well")
        now_s = time.time()
        until = None if seconds is None else now_s + seconds
        yield
        records = self._daemon.blocks.later(source_name, spans, until, reason, now_s)
        yield
        yield from self._carry_out(source_name, records, now_s)
        return {"result": {"blocked": len(records), "warnings": warnings}}

    def _unblock(self, request: Mapping[str, Any]) -> Iterator[Reply | None]:
        source_name = _source_name(request)
        texts = _texts(request)
        yield from self._in_turn(self._do_unblock(texts, source_name))

    def _do_unblock(self, texts: list[str], source_name: str) -> Generator[None, None, Reply]:
        spans, remarks = yield from _spans(texts)
        state = self._state()
        asked = _listing_of(spans)
        yield
        missing = without(asked, self._daemon.blocks.by_source.get(source_name, Listing.empty()))
        if missing.count:
            named = [Span(*row[:3]) for row, _ in zip(missing.rows(), range(_NAMED_AT_MOST), strict=False)]
            refused = [_why_not_unblocked(state, span, source_name) for span in named]
            raise Refused(_sentences(refused, missing.count))
        yield from self._take_back(source_name, spans)
        remarks += _remarks(self._state(), asked)
        return {"result": {"unblocked": len(spans), "remarks": remarks}}

    def _flush(self, request: Mapping[str, Any]) -> Iterator[Reply | None]:
        yield from self._in_turn(self._do_flush(_source_name(request)))

    def _do_flush(self, source_name: str) -> Generator[None, None, Reply]:
        self._state()
        spans: list[Span] = []
        for row in _with_pauses(self._daemon.blocks.by_source.get(source_name, Listing.empty()).rows()):
            if row is None:
                yield
            else:
                spans.append(Span(*row[:3]))
        if spans:
            yield from self._take_back(source_name, spans)
        return {"result": {"unblocked": len(spans)}}

    def _take_back(self, source_name: str, spans: list[Span]) -> Iterator[None]:
        now_s = time.time()
        records: list[Record] = []
        for span in _with_pauses(spans):
            if span is None:
                yield
            else:
                records.append(Record("unblock", source_name, str(span), None, "", now_s))
        yield from self._carry_out(source_name, records, now_s)

    def _in_turn(self, work: Generator[None, None, Reply]) -> Iterator[Reply | None]:
        """Have a change done when its turn comes, and give its reply. Who leaves before that wants it no more."""
        replies: list[Reply] = []
        failures: list[Exception] = []

        def change() -> Iterator[None]:
            try:
                replies.append((yield from work))
            except Exception as failure:  # noqa: BLE001  # raised again for who asked
                failures.append(failure)

        asked = change()
        self._daemon.changes.ask(asked)
        try:
            yield from self._until(lambda: bool(replies or failures))
        finally:
            self._daemon.changes.withdraw(asked)
        for failure in failures:
            raise failure
        yield from replies

    def _check_room_for(self, source_name: str) -> None:
        sources = self._daemon.blocks.by_source
        if source_name not in sources and len(sources) >= _SOURCES_AT_MOST:
            raise Refused(f"there are {_SOURCES_AT_MOST} sources of blocks already: use one of them, or flush some")

    def _carry_out(self, source_name: str, records: list[Record], now_s: float) -> Iterator[None]:
        """Log a batch and put it in force, or neither, whatever it is that fails."""
        daemon = self._daemon
        try:
            yield from daemon.change_blocks(records, now_s)
        except FAILURES as failure:
            daemon.distrust_kernel(failure)
            if isinstance(failure, XdropdError):
                raise
            raise XdropdError(reason_of(failure)) from failure
        self._log_change(source_name, records)

    def _log_change(self, source_name: str, records: list[Record]) -> None:
        """One line a batch, with the entry where there is but one."""
        first, log = records[0], self._daemon.telling.log
        if first.operation == "block":
            event, done = "block", f"blocked by {source_name}"
            if first.until is not None:
                done += f" until {_moment(first.until)}"
            done += f": {first.reason}" if first.reason else ""
        else:
            event, done = "unblock", f"taken back by {source_name}"
        if len(records) == 1:
            log.info(event, f"{first.entry} {done}", source=source_name, entry=first.entry)
        else:
            log.info(event, f"{len(records)} entries {done}", source=source_name)

    def _reload(self, request: Mapping[str, Any]) -> Iterator[Reply | None]:
        shown = _optional(request, "accept", _PATH_CHARACTERS_AT_MOST)
        accept = None if shown is None else names.actual(shown)
        if accept is not None and not Path(accept).is_absolute():
            raise BadRequest('"accept" is an absolute path')
        yield from self._until(lambda: self._daemon.is_ready)
        if self._daemon.reloads_waiting >= _RELOADS_AT_MOST:
            raise Unavailable(f"{_RELOADS_AT_MOST} reloads wait already", "ask again in a moment")
        asked = self._daemon.ask_for_reload(accept)
        yield from self._until(lambda: asked.result is not None)
        assert asked.result is not None
        result = asked.result
        catalogue = self._daemon.catalogue
        lists = {str(path) for path in catalogue.followed()[0]} - {catalogue.absolute}
        if result.is_ok and accept is not None and accept not in lists:
            raise Refused(f"{shown} is not a list file that {catalogue.name} includes")
        yield {
            "result": {
                "ok": result.is_ok,
                "problems": [problem.as_json() for problem in result.problems],
                "troubles": self._daemon.telling.all_troubles(),
                "status": self._daemon.status_line(),
            }
        }

    # ---- pieces ----

    def _until(self, condition: Callable[[], bool]) -> Iterator[Reply | None]:
        """Wait for it, with a word of how far the daemon is now and then, so that the caller knows it is alive."""
        due_s = time.monotonic() + _WORD_EVERY_SECONDS
        while not condition():
            if time.monotonic() < due_s:
                yield None
            else:
                due_s = time.monotonic() + _WORD_EVERY_SECONDS
                yield {"progress": self._daemon.progress or "working"}

    def _aside(self, step: Callable[[], _T]) -> Generator[Reply | None, None, _T]:
        """Have a long reading done by the daemon's calculator."""
        work = self._daemon.calculator.submit(step)
        yield from self._until(lambda: work.is_done)
        return work.result()

    def _state(self) -> State:
        if self._daemon.state is None:
            raise Unavailable(NO_LIST_YET, "xdropctl status tells why")
        return self._daemon.state

    def _described(self, source: Source, row: Row) -> dict[str, Any]:
        kind, key = _key_of(Span(*row[:3]))
        return _described(source, row, self._daemon.filter.lists.stats(kind, source.number, key))


def _key_of(span: Span) -> tuple[Kind, Column]:
    """How columns name an entry."""
    family, length = FAMILIES[span.version], prefix_length(*span)
    if length is None:
        return Kind(span.version, is_range=True), family.range_key(span.first, span.last)
    return Kind(span.version, is_range=False), family.key(span.first, length)


def _described(source: Source, row: Row, stats: Stats | None) -> dict[str, Any]:
    return {
        "entry": str(Span(*row[:3])),
        "source": source.name,
        "line": row.line or None,
        "reason": row.reason or source.reason or None,
        "since": _moment(stats.since_s) if stats else None,
        "until": _moment(row.until),
        "packets": stats.packets if stats else 0,
        "bytes": stats.bytes if stats else 0,
        "last_seen": _moment(_wall_clock(stats.last_seen_ns)) if stats and stats.last_seen_ns else None,
    }


def _rows_of(source: Source, known: AllStats) -> Iterator[Reply]:
    """Everything that a source lists, piece by piece, with what is known of it."""
    for kind in KINDS:
        table = source.listing.table(kind)
        keys, stats = known.get((kind, source.number), (table.keys[:0], np.zeros(0)))
        for at in range(0, len(table), _ROWS_A_PIECE):
            chosen = np.arange(at, min(at + _ROWS_A_PIECE, len(table)))
            rows, found = find(keys, table.keys[chosen])
            entries = source.listing.some_rows(kind.version, chosen, is_range=kind.is_range)
            for row, where, is_known in zip(entries, rows.tolist(), found.tolist(), strict=True):
                yield {"row": _described(source, row, stats_of(stats[where]) if is_known else None)}


def _busiest(known: AllStats, by: str, number: int) -> list[tuple[int, Span]]:
    """(source number, entry) of those where a counter says the most, descending."""
    found: list[tuple[int, int, int, Span]] = []
    for (kind, source), (keys, stats) in known.items():
        hit = np.flatnonzero(stats["packets"])
        rows = hit[np.argsort(stats[by][hit], kind="stable")[::-1][:number]]
        family = FAMILIES[kind.version]
        ends = (
            family.ends_of_ranges(keys[rows])
            if kind.is_range
            else (family.firsts(keys[rows]), family.lasts(keys[rows]))
        )
        for row, first, last in zip(rows.tolist(), *map(family.ints, ends), strict=True):
            span = Span(kind.version, first, last)
            found.append((int(stats[by][row]), int(stats["packets"][row]), source, span))
    return [(source, span) for _, _, source, span in sorted(found, reverse=True)[:number]]


def _with_pauses(items: Iterable[_T], *, every: int = _LOOK_EVERY) -> Iterator[_T | None]:
    """The items, and None whenever they have taken a moment and others may have their turn."""
    due_s = time.monotonic() + _STRETCH_SECONDS
    for at, item in enumerate(items):
        if at % every == 0 and time.monotonic() >= due_s:
            yield None
            due_s = time.monotonic() + _STRETCH_SECONDS
        yield item


def _listing_of(spans: Iterable[Span]) -> Listing:
    builder = Builder()
    for span in spans:
        builder.add(Row(*span))
    return builder.listing()


# ---- who else lists it, and what keeps it out ----


def _remarks(state: State, asked: Listing) -> list[str]:
    """Which of these stay blocked, and why. A wider holder is looked for only where it can be told."""
    exactly: dict[Span, None] = {}
    for source in state.sources:
        for row in common(source.listing, asked):
            exactly[Span(*row[:3])] = None
    remarks = [
        f"{span} stays blocked, it is held by {', '.join(_holders(state, span))}"
        for span, _ in zip(exactly, range(_NAMED_AT_MOST), strict=False)
    ]
    for row, _ in zip(asked.rows(), range(_NAMED_AT_MOST), strict=False):
        span = Span(*row[:3])
        if span not in exactly and (wider := _wider_holder(state, span)):
            remarks.append(f"{span} stays blocked, it is held by {wider}")
    more = len(exactly) - _NAMED_AT_MOST
    return [*remarks, f"{more} more stay blocked as well"] if more > 0 else remarks


def _holders(state: State, span: Span) -> list[str]:
    """Who lists exactly this span: places in files, and callers of `block`."""
    return [
        f"{source.name}:{row.line}" if source.is_file else f"a block of {source.name}"
        for source in state.sources
        if (row := source.listing.row(*span))
    ]


def _wider_holder(state: State, span: Span) -> str:
    """The network or range that blocks an address all the same."""
    held = state.holder(span.version, span.first) if span.is_address else None
    if held is None or state.exempt.covers(*span):
        return ""
    source, row = held
    return f"{Span(*row[:3])} of {source.name}{f':{row.line}' if row.line else ''}"


def _why_not_unblocked(state: State, span: Span, source_name: str) -> str:
    listing = [(source, row) for source in state.sources if (row := source.listing.row(*span))]
    places = [f"{source.name}:{row.line}" for source, row in listing if source.is_file]
    callers = [source.name for source, _ in listing if not source.is_file]
    said = f"{span} is not blocked by {source_name}"
    if callers:
        said += f", but by {' and '.join(callers)} (see --source)"
    if places:
        said += f"; {' and '.join(places)} {'lists' if len(places) == 1 else 'list'} it: take it out there, or allow it"
    elif not callers and (wider := _wider_holder(state, span)):
        said += f"; {wider} blocks it: allow it in the blocklist"
    return said


def _why_refused(exempt: Exempt, span: Span) -> str:
    keepers = list(exempt.keepers(*span))[:1] or exempt.touching(*span)
    return f"{span} is covered by {_exempt(keepers)}, blocking it would have no effect"


def _exempt(keepers: list[Keeper]) -> str:
    said = [
        f"allow {Span(*keeper.row[:3])} of {keeper.source}:{keeper.row.line}"
        if keeper.kind == "allow"
        else f"the guard of {Span(*keeper.row[:3])} ({keeper.source})"
        for keeper in keepers[:_KEEPERS_NAMED_AT_MOST]
    ]
    more = len(keepers) - len(said)
    return " and ".join([*said, f"{more} more"] if more else said)


def _counts(state: State | None) -> dict[str, int]:
    sources = state.sources if state else ()
    single = {version: sum(source.addresses[version] for source in sources) for version in FAMILIES}
    exempt = state.exempt.sources if state else ()
    return {
        "ipv4": single[4],
        "ipv6": single[6],
        "networks": sum(source.listing.count for source in sources) - sum(single.values()),
        "allowed": sum(each.listing.count for each in exempt if each.kind == "allow"),
    }


def _text(request: Mapping[str, Any], key: str) -> str:
    value = _optional(request, key)
    if value is None:
        raise BadRequest(f'"{key}" is missing')
    return value


def _optional(request: Mapping[str, Any], key: str, at_most: int = _CHARACTERS_AT_MOST) -> str | None:
    value = request.get(key)
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > at_most or not value.isprintable():
        raise BadRequest(f'"{key}" is a text of at most {at_most} characters, all of them printable')
    return value


def _seconds(request: Mapping[str, Any]) -> float | None:
    seconds = request.get("seconds")
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= _SECONDS_AT_MOST:
        raise BadRequest(f'"seconds" is a number over 0 and up to {_SECONDS_AT_MOST}, or null for good')
    return float(seconds)


def _span(text: str) -> tuple[Span, str]:
    """What an entry means, with a remark where that is not what was written."""
    try:
        return parse_leniently(text)
    except ValueError as problem:
        raise BadRequest(str(problem)) from None


def _texts(request: Mapping[str, Any]) -> list[str]:
    texts = request.get("entries")
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise BadRequest('"entries" is a list of texts')
    return texts


def _spans(texts: list[str]) -> Generator[None, None, tuple[list[Span], list[str]]]:
    """Each entry once, in the order of the request, and what is to be remarked on how some were written."""
    spans: dict[Span, None] = {}
    remarks: list[str] = []
    more = 0
    for text in _with_pauses(texts):
        if text is None:
            yield
            continue
        span, remark = _span(text)
        spans[span] = None
        if remark and len(remarks) == _NAMED_AT_MOST:
            more += 1
        elif remark:
            remarks.append(remark)
    return list(spans), [*remarks, f"{more} more are taken otherwise than they were written"] if more else remarks


def _source_name(request: Mapping[str, Any]) -> str:
    name = _optional(request, "source")
    if name is None:
        return _DEFAULT_SOURCE
    if not name or "/" in name:
        raise BadRequest('"source" is a name without a slash')
    return name


def _sentences(each: list[str], count: int = 0) -> str:
    """One a line, and how many more there are."""
    more = (count or len(each)) - len(each[:_NAMED_AT_MOST])
    return "\n".join(each[:_NAMED_AT_MOST] + ([f"and {more} more"] if more else []))


@lru_cache(maxsize=256)  # most entries of a list came at one moment
def _moment(seconds: float | None) -> str | None:
    """RFC 3339 in UTC."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _wall_clock(monotonic_ns: int) -> float:
    """The time of day at a moment of CLOCK_MONOTONIC."""
    return time.time() - (time.monotonic_ns() - monotonic_ns) / 1e9
