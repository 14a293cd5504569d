"""The verbs of the control socket: requests to replies. docs/protocol.md describes both; JSON keys are a contract.

Asks the daemon and has it change; knows no kernel and no file of its own. Replies stream: a list of a million entries
is made as fast as it is read. Whatever takes longer than a moment is done in steps, and says MORE between them; what
changes the list is one of the daemon's changes, so that what was checked is still so when it is applied.
"""

import contextlib
import heapq
import time
from bisect import bisect_left
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar, cast

import xdropd
from xdropd.daemon.loop import FAILURES, NO_LIST_YET, Daemon, reason_of
from xdropd.errors import BadRequest, Refused, Unavailable, XdropdError
from xdropd.host.blocklog import Record
from xdropd.host.control import MORE, Reply
from xdropd.kernel.generation import Generation
from xdropd.kernel.shapes import History
from xdropd.rules.ruleset import VERSIONS, Exemption, Exemptions, Kinds, Listed, Region, Ruleset, Source
from xdropd.text import names
from xdropd.text.addresses import Span, parse_leniently
from xdropd.text.entries import Entry

_DEFAULT_SOURCE = "xdropctl"
_TOP_AT_MOST = 1000
_TOP_KEYS: dict[str, Callable[[History], int]] = {
    "packets": lambda history: history.packets,
    "bytes": lambda history: history.total_bytes,
    "recent": lambda history: history.last_seen_ns,
}
_SECONDS_AT_MOST = 100 * 365 * 86400
_CHARACTERS_AT_MOST = 1000
_PATH_CHARACTERS_AT_MOST = 4 * 4096  # PATH_MAX, and every byte told as four characters
_KEEPERS_NAMED_AT_MOST = 10
_NAMED_AT_MOST = 100  # a batch can be large, a message is for reading
_WORD_EVERY_SECONDS = 1.0
_STRETCH_SECONDS = 0.01  # of work between looks at what else there is to do
_PIECE = 10_000  # entries, counted in a millisecond
_KEYS = {"accept", "address", "by", "count", "entries", "entry", "lines", "reason", "seconds", "source"}
_LOOK_EVERY = 64  # entries, which take some microseconds each
_RELOADS_AT_MOST = 100  # that wait; those that accept the same file are one
_SOURCES_AT_MOST = 10_000  # of blocks, at once

_T = TypeVar("_T")


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
        entries = yield from _counted(daemon.ruleset)
        totals = [kept.totals() for kept in daemon.filter.attachments.values()]
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
                "entries": _counts(entries, daemon.ruleset),
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
        yield MORE
        for source in _with_pauses(self._ruleset().sources):
            if source is None:
                yield MORE
            elif wanted not in (None, source.name):
                continue
            elif span is None:
                for entry in _all_entries(source):
                    yield {"row": self._described(source, entry)}
            elif found := source.entry(span):
                yield {"row": self._described(source, found)}
        yield {"result": {}}

    def _lookup(self, request: Mapping[str, Any]) -> Iterator[Reply | None]:
        span, remark = _span(_text(request, "address"))
        if not span.is_address:
            raise BadRequest(f"{span} is not an address", "lookup takes a single address")
        yield from self._until(lambda: self._daemon.is_ready)
        ruleset = self._ruleset()
        held = (yield from _holding(ruleset, [span])).get(span)
        keeper = ruleset.exemptions.keeper_of(span)
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
                    "entry": str(keeper.span),
                    "source": keeper.source,
                    "line": keeper.line or None,
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
        with_lines = request.get("lines", True) is True
        yield from self._until(lambda: self._daemon.is_ready)
        yield MORE
        ruleset = self._ruleset()
        busiest = yield from self._busiest(number, _TOP_KEYS[by])
        by_number = {source.number: source for source in ruleset.sources}
        for _, _, span, owner in busiest:
            source = by_number.get(owner)
            entry = source and (source.entry(span) if with_lines else _without_line(source, span))
            if source and entry:
                yield {"row": self._described(source, entry)}
                yield MORE  # finding a line in a large file takes a while
        yield {"result": {}}

    def _busiest(
        self, number: int, key: Callable[[History], int]
    ) -> Generator[Reply, None, list[tuple[int, int, Span, int]]]:
        """(what `key` says, packets, span, source number) of the entries where it says the most, descending."""
        while True:
            generation = self._daemon.filter.generation
            assert generation
            busiest: list[tuple[int, int, Span, int]] = []
            for found in _with_pauses(_histories(generation), every=1):
                if found is None:
                    yield MORE
                    if self._daemon.filter.generation is not generation:
                        break  # its maps are closed
                else:
                    entries = [(key(history), history.packets, span, history.source) for span, history in found]
                    busiest = heapq.nlargest(number, busiest + entries)
            else:
                return busiest

    def _metrics(self, _request: Mapping[str, Any]) -> Iterator[Reply | None]:
        daemon = self._daemon
        yield MORE
        kinds = yield from _counted(daemon.ruleset)
        entries_of = {source.name: source.count for source in (daemon.ruleset or Ruleset()).sources}
        for source in _with_pauses(list(daemon.filter.sources)):
            if source is None:
                yield MORE
            else:
                name, number = source
                packets = daemon.filter.source_volume(number).packets
                yield {"row": {"name": name, "entries": entries_of.get(name, 0), "packets": packets}}
        yield {
            "result": {
                "version": xdropd.__version__,
                "degraded": daemon.telling.is_degraded,
                "interfaces": [
                    {
                        "name": daemon.attaching.name_of(ifindex),
                        "mode": kept.mode,
                        "totals": {verdict: list(volume) for verdict, volume in kept.totals().items()},
                    }
                    for ifindex, kept in sorted(daemon.filter.attachments.items())
                ],
                "entries": _counts(kinds, daemon.ruleset),
                "families": {
                    "ipv4": kinds.addresses4 + kinds.networks4,
                    "ipv6": kinds.addresses6 + kinds.networks6,
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
        exemptions = self._ruleset().exemptions
        refused: list[Span] = []
        narrowed: list[Span] = []
        for span in _with_pauses(spans):
            if span is None:
                yield
            elif exemptions.covers(span):
                refused.append(span)
            elif not span.is_address and any(exemptions.union.met([span])):
                narrowed.append(span)
        if refused:
            sentences = [_why_refused(exemptions, span) for span in refused[:_NAMED_AT_MOST]]
            raise Refused(_sentences(sentences, len(refused)))
        warnings += [
            f"{span} is narrowed by {_exempt(exemptions.touching(span))}" for span in narrowed[:_NAMED_AT_MOST]
        ]
        if len(narrowed) > _NAMED_AT_MOST:
            warnings.append(f"{len(narrowed) - _NAMED_AT_MOST} more are narrowed as well")
        now_s = time.time()
        until = None if seconds is None else now_s + seconds
        records: list[Record] = []
        for some in _pieces(spans):
            records += self._daemon.blocks.later(source_name, some, until, reason, now_s)
            yield
        yield from self._carry_out(source_name, records)
        if until is not None:
            self._daemon.wanted.note_end(until)
        return {"result": {"blocked": len(records), "warnings": warnings}}

    def _unblock(self, request: Mapping[str, Any]) -> Iterator[Reply | None]:
        source_name = _source_name(request)
        texts = _texts(request)
        yield from self._in_turn(self._do_unblock(texts, source_name))

    def _do_unblock(self, texts: list[str], source_name: str) -> Generator[None, None, Reply]:
        spans, remarks = yield from _spans(texts)
        ruleset = self._ruleset()
        known = self._daemon.blocks.by_source.get(source_name, {})
        missing = [span for span in spans if span not in known]
        if missing:
            refused = yield from _why_not_unblocked(ruleset, missing[:_NAMED_AT_MOST], source_name)
            raise Refused(_sentences(refused, len(missing)))
        yield from self._take_back(source_name, spans)
        return {"result": {"unblocked": len(spans), "remarks": remarks + (yield from _remarks(self._ruleset(), spans))}}

    def _flush(self, request: Mapping[str, Any]) -> Iterator[Reply | None]:
        yield from self._in_turn(self._do_flush(_source_name(request)))

    def _do_flush(self, source_name: str) -> Generator[None, None, Reply]:
        self._ruleset()
        known = list(self._daemon.blocks.by_source.get(source_name, {}))
        if known:
            yield from self._take_back(source_name, known)
        return {"result": {"unblocked": len(known)}}

    def _take_back(self, source_name: str, spans: list[Span]) -> Iterator[None]:
        now_s = time.time()
        records: list[Record] = []
        for some in _pieces(spans):
            records += [Record("unblock", source_name, str(span), None, "", now_s) for span in some]
            yield
        yield from self._carry_out(source_name, records)

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

    def _carry_out(self, source_name: str, records: list[Record]) -> Iterator[None]:
        """Log a batch and put it in force, or neither, whatever it is that fails."""
        daemon = self._daemon
        before = self._ruleset()
        batch = yield from daemon.blocks.batch(records)
        region = Region()
        region.add(batch.spans)
        try:
            with daemon.blocks.logged(batch) as take_effect, contextlib.ExitStack() as undoing:
                undoing.callback(daemon.wanted.go_back, before, source_name)
                yield from daemon.change(region, chain(take_effect(), daemon.wanted.follow_blocks(source_name)))
                undoing.pop_all()
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

    def _ruleset(self) -> Ruleset:
        if self._daemon.ruleset is None:
            raise Unavailable(NO_LIST_YET, "xdropctl status tells why")
        return self._daemon.ruleset

    def _described(self, source: Source, entry: Entry) -> dict[str, Any]:
        history = self._history(source, entry.span)
        return {
            "entry": str(entry.span),
            "source": source.name,
            "line": entry.line or None,
            "reason": entry.reason or source.reason or None,
            "since": _moment(history.since_s) if history else None,
            "until": _moment(entry.until),
            "packets": history.packets if history else 0,
            "bytes": history.total_bytes if history else 0,
            "last_seen": _moment(_wall_clock(history.last_seen_ns)) if history and history.last_seen_ns else None,
        }

    def _history(self, source: Source, span: Span) -> History | None:
        if span.is_address:
            return self._daemon.filter.history_of(span.version, span.first, source.number)
        return self._daemon.filter.history_of_network(Listed(span, source.number))


def _with_pauses(items: Iterable[_T], *, every: int = _LOOK_EVERY) -> Iterator[_T | None]:
    """The items, and None whenever they have taken a moment and others may have their turn."""
    due_s = time.monotonic() + _STRETCH_SECONDS
    for at, item in enumerate(items):
        if at % every == 0 and time.monotonic() >= due_s:
            yield None
            due_s = time.monotonic() + _STRETCH_SECONDS
        yield item


def _all_entries(source: Source) -> Iterator[Entry]:
    """Everything that a source lists. Readers may be slow, and entries come and go while they read."""
    plain = sum(map(len, source.members.values()))
    yield from islice(source.all_entries(), plain)
    yield from tuple(source.entries.values())


def _without_line(source: Source, span: Span) -> Entry | None:
    """As `source.entry`, without looking for the line of a plain address."""
    own = source.entries.get(span)
    return Entry(span, 0) if own is None and _lists_plainly(source, span) else own


def _lists_plainly(source: Source, span: Span) -> bool:
    return source.is_file and span.is_address and span.first in source.members[span.version]


def _histories(generation: Generation) -> Iterator[list[tuple[Span, History]]]:
    """Of everything that has a packet to its name, batch by batch."""
    for batch in generation.seen_addresses():
        yield [(Span(version, address, address), history) for version, address, history in batch]
    cells = iter(tuple(generation.cells))
    while some := list(islice(cells, _LOOK_EVERY)):
        found = ((listed.span, generation.cell_history(listed)) for listed in some)
        yield [(span, history) for span, history in found if history and history.packets]


# ---- who else lists it ----


def _holding(ruleset: Ruleset, spans: list[Span]) -> Generator[Reply, None, dict[Span, tuple[Source, Entry]]]:
    """The entry that decides on each of some addresses, exemptions apart: of the smallest ones the first.

    All of them in one reading; what comes or goes meanwhile may be seen or not.
    """
    found: dict[Span, tuple[int, Source, Entry]] = {}
    ascending = sorted(span for span in spans if span.is_address)
    for source in _with_pauses(ruleset.sources, every=1):
        if source is None:
            yield MORE
            continue
        for span in ascending:
            if (span not in found or found[span][0] > 1) and (entry := source.entry(span)):
                found[span] = 1, source, entry
        for wide in _with_pauses(tuple(source.entries.values())):
            if wide is None:
                yield MORE
                continue
            version, first, last = wide.span
            if first == last:
                continue
            at = bisect_left(ascending, (version, first))
            while at < len(ascending) and ascending[at].version == version and ascending[at].first <= last:
                known = found.get(ascending[at])
                if known is None or known[0] > wide.span.size:
                    found[ascending[at]] = wide.span.size, source, wide
                at += 1
    return {span: (source, entry) for span, (_, source, entry) in found.items()}


def _remarks(ruleset: Ruleset, spans: list[Span]) -> Generator[None, None, list[str]]:
    """Which of these stay blocked, and why. Wider entries and lines are looked for only where they can be told."""
    exactly: list[Span] = []
    for span in _with_pauses(spans):
        if span is None:
            yield
        elif any(span in source.entries or _lists_plainly(source, span) for source in ruleset.sources):
            exactly.append(span)
    named = exactly[:_NAMED_AT_MOST]
    known = set(exactly)
    others = [span for span in spans[:_NAMED_AT_MOST] if span not in known and not ruleset.exemptions.covers(span)]
    wider = yield from _without_replies(_holding(ruleset, others))
    remarks: list[str] = []
    for span in spans[:_NAMED_AT_MOST] + [span for span in named if span not in set(spans[:_NAMED_AT_MOST])]:
        holders = []
        if span in known:
            holders = _holders(ruleset, span)
        elif span in wider:
            holders = [_wider(*wider[span])]
        if holders:
            remarks.append(f"{span} stays blocked, it is held by {', '.join(holders)}")
        yield
    more = len(exactly) + len(wider) - len(remarks[:_NAMED_AT_MOST])
    return remarks[:_NAMED_AT_MOST] + ([f"{more} more stay blocked as well"] if more else [])


def _without_replies(work: Generator[Reply, None, _T]) -> Generator[None, None, _T]:
    """The same work as part of a change."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            return cast("_T", end.value)
        yield


def _holders(ruleset: Ruleset, span: Span) -> list[str]:
    """Who lists exactly this span: places in files, and callers of `block`."""
    return [
        f"{source.name}:{entry.line}" if source.is_file else f"a block of {source.name}"
        for source in ruleset.sources
        if (entry := source.entry(span))
    ]


def _wider(source: Source, entry: Entry) -> str:
    return f"{entry.span} of {source.name}{f':{entry.line}' if entry.line else ''}"


def _why_not_unblocked(ruleset: Ruleset, spans: list[Span], source_name: str) -> Generator[None, None, list[str]]:
    said: list[str] = []
    exempt = [span for span in spans if ruleset.exemptions.covers(span)]
    wider = yield from _without_replies(_holding(ruleset, [span for span in spans if span not in exempt]))
    for span in spans:
        said.append(_why_not(ruleset, span, source_name, wider.get(span)))
        yield
    return said


def _why_not(ruleset: Ruleset, span: Span, source_name: str, wider: tuple[Source, Entry] | None) -> str:
    listing = [(source, entry) for source in ruleset.sources if (entry := source.entry(span))]
    places = [f"{source.name}:{entry.line}" for source, entry in listing if source.is_file]
    callers = [source.name for source, _ in listing if not source.is_file]
    said = f"{span} is not blocked by {source_name}"
    if callers:
        said += f", but by {' and '.join(callers)} (see --source)"
    if places:
        said += f"; {' and '.join(places)} {'lists' if len(places) == 1 else 'list'} it: take it out there, or allow it"
    elif not callers and wider:
        said += f"; {_wider(*wider)} blocks it: allow it in the blocklist"
    return said


def _why_refused(exemptions: Exemptions, span: Span) -> str:
    keepers = [keeper] if (keeper := exemptions.keeper_of(span)) else exemptions.touching(span)
    return f"{span} is covered by {_exempt(keepers)}, blocking it would have no effect"


def _counted(ruleset: Ruleset | None) -> Generator[Reply, None, Kinds]:
    """How many entries of each kind all sources list. Only what has changed since the last time is counted anew."""
    known: list[Kinds] = []
    for source in _with_pauses(ruleset.sources if ruleset else ()):
        if source is None:
            yield MORE
            continue
        if source.kinds is None:
            yield from _count(source)
        if source.kinds is not None:
            known.append(source.kinds)
        if source.is_file:
            known.append(Kinds(*(len(source.members[version]) for version in VERSIONS)))
    return Kinds(*map(sum, zip(*known, strict=True))) if known else Kinds()


def _count(source: Source) -> Iterator[Reply]:
    """Note how many of the entries are of each kind, unless they change meanwhile."""
    entries, count = source.entries, len(source.entries)
    counts: list[Kinds] = []
    for some in _with_pauses(_pieces(list(entries)), every=1):
        if some is None:
            yield MORE
        else:
            counts.append(Kinds.of(some))
    if source.entries is entries and len(entries) == count:
        source.kinds = Kinds(*map(sum, zip(*counts, strict=True))) if counts else Kinds()


def _pieces(items: list[_T]) -> Iterator[list[_T]]:
    return (items[at : at + _PIECE] for at in range(0, len(items), _PIECE))


def _counts(kinds: Kinds, ruleset: Ruleset | None) -> dict[str, int]:
    return {
        "ipv4": kinds.addresses4,
        "ipv6": kinds.addresses6,
        "networks": kinds.networks4 + kinds.networks6,
        "allowed": sum(item.kind == "allow" for item in ruleset.exemptions.items) if ruleset else 0,
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


def _exempt(items: list[Exemption]) -> str:
    said = [
        f"allow {item.span} of {item.source}:{item.line}"
        if item.kind == "allow"
        else f"the guard of {item.span} ({item.source})"
        for item in items[:_KEEPERS_NAMED_AT_MOST]
    ]
    more = len(items) - len(said)
    return " and ".join([*said, f"{more} more"] if more else said)


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
