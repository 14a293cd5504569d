"""The verbs of the control socket: requests to replies. docs/protocol.md describes both; JSON keys are a contract.

Asks the daemon and has it change; knows no kernel and no file of its own. Replies stream: a list of a million entries
is made as fast as it is read.
"""

import contextlib
import heapq
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import xdropd
from xdropd.daemon.loop import FAILURES, NO_LIST_YET, Daemon, reason_of
from xdropd.errors import BadRequest, Refused, Unavailable, XdropdError
from xdropd.host.blocklog import Record
from xdropd.host.control import Reply
from xdropd.kernel.shapes import History
from xdropd.rules.ruleset import EVERYTHING, Exemption, Listed, Region, Ruleset, Source
from xdropd.text import names
from xdropd.text.addresses import Span, parse_leniently, parse_span
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
_NAMED_AT_MOST = 100  # a batch can be large, a message is for reading
_WORD_EVERY_SECONDS = 1.0
_STRETCH_SECONDS = 0.01  # of work between looks at what else there is to do


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
        return verb(request)

    # ---- asking ----

    def _status(self, _request: Mapping[str, Any]) -> Iterator[Reply | None]:
        daemon = self._daemon
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
                "entries": _counts(daemon.ruleset),
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
        for source in self._ruleset().sources:
            if wanted not in (None, source.name):
                continue
            if span is None:
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
        held = ruleset.holder(span.version, span.first)
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
        ruleset = self._ruleset()
        busiest = yield from self._busiest(number, _TOP_KEYS[by])
        by_number = {source.number: source for source in ruleset.sources}
        for _, _, span, owner in busiest:
            source = by_number.get(owner)
            entry = source and (source.entry(span) if with_lines else _without_line(source, span))
            if source and entry:
                yield {"row": self._described(source, entry)}
                yield None  # finding a line in a large file takes a while
        yield {"result": {}}

    def _busiest(
        self, number: int, key: Callable[[History], int]
    ) -> Generator[None, None, list[tuple[int, int, Span, int]]]:
        """(what `key` says, packets, span, source number) of the entries where it says the most, descending."""
        due_s = time.monotonic() + _STRETCH_SECONDS
        while True:
            generation = self._daemon.filter.generation
            assert generation
            busiest: list[tuple[int, int, Span, int]] = []
            for batch in generation.seen_addresses():
                found = [
                    (key(history), history.packets, Span(version, address, address), history.source)
                    for version, address, history in batch
                ]
                busiest = heapq.nlargest(number, busiest + found)
                if time.monotonic() < due_s:
                    continue
                yield
                due_s = time.monotonic() + _STRETCH_SECONDS
                if self._daemon.filter.generation is not generation:
                    break  # its maps are closed
            else:
                for listed in generation.cells:
                    history = generation.cell_history(listed)
                    if history and history.packets:
                        busiest.append((key(history), history.packets, listed.span, listed.source))
                return heapq.nlargest(number, busiest)

    def _metrics(self, _request: Mapping[str, Any]) -> Iterator[Reply | None]:
        daemon = self._daemon
        ruleset = daemon.ruleset or Ruleset()
        entries_of = {source.name: source.count for source in ruleset.sources}
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
                "entries": _counts(ruleset),
                "families": {
                    f"ipv{version}": sum(
                        len(source.members[version]) + sum(span.version == version for span in source.entries)
                        for source in ruleset.sources
                    )
                    for version in (4, 6)
                },
                "reloads": {
                    "ok": daemon.tally.reloads_ok,
                    "refused": daemon.tally.reloads_refused,
                    "failed": daemon.tally.reloads_failed,
                },
                "reload_seconds": daemon.tally.last_reload_s,
                "last_success": daemon.tally.last_success_s
                or (daemon.last_reload.at_s if daemon.last_reload.is_ok else 0),
                "sources": [
                    {
                        "name": name,
                        "entries": entries_of.get(name, 0),
                        "packets": daemon.filter.source_volume(number).packets,
                    }
                    for name, number in daemon.filter.sources
                ],
            }
        }

    # ---- changing ----

    def _block(self, request: Mapping[str, Any]) -> Iterator[Reply | None]:
        spans, remarks = _entries(request)
        source_name = _source_name(request)
        reason = _optional(request, "reason") or ""
        seconds = _seconds(request)
        yield from self._until(self._may_change)
        exemptions = self._ruleset().exemptions
        refused, warnings = [], remarks
        for span in spans:
            if exemptions.covers(span):
                keepers = [keeper] if (keeper := exemptions.keeper_of(span)) else exemptions.touching(span)
                refused.append(f"{span} is covered by {_exempt(keepers)}, blocking it would have no effect")
            elif not span.is_address and (touching := exemptions.touching(span)):
                warnings.append(f"{span} is narrowed by {_exempt(touching)}")
        if refused:
            raise Refused(_sentences(refused))
        now_s = time.time()
        until = None if seconds is None else now_s + seconds
        records = self._daemon.blocks.later(source_name, spans, until, reason, now_s)
        self._carry_out(source_name, records)
        yield {"result": {"blocked": len(records), "warnings": warnings}}

    def _unblock(self, request: Mapping[str, Any]) -> Iterator[Reply | None]:
        spans, remarks = _entries(request)
        source_name = _source_name(request)
        yield from self._until(self._may_change)
        ruleset = self._ruleset()
        known = self._daemon.blocks.by_source.get(source_name, {})
        missing = [span for span in spans if span not in known]
        if missing:
            refused = [_why_not_unblocked(ruleset, span, source_name) for span in missing[:_NAMED_AT_MOST]]
            raise Refused(_sentences(refused, len(missing)))
        now_s = time.time()
        self._carry_out(source_name, [_taken_back(source_name, span, now_s) for span in spans])
        yield {"result": {"unblocked": len(spans), "remarks": remarks + _remarks(self._ruleset(), spans)}}

    def _flush(self, request: Mapping[str, Any]) -> Iterator[Reply | None]:
        source_name = _source_name(request)
        yield from self._until(self._may_change)
        self._ruleset()
        now_s = time.time()
        known = self._daemon.blocks.by_source.get(source_name, {})
        records = [_taken_back(source_name, span, now_s) for span in known]
        if records:
            self._carry_out(source_name, records)
        yield {"result": {"unblocked": len(records)}}

    def _carry_out(self, source_name: str, records: list[Record]) -> None:
        """Log a batch and put it in force, or neither, whatever it is that fails."""
        daemon = self._daemon
        before = daemon.wanted.ruleset
        region = Region()
        region.add(parse_span(record.entry) for record in records)
        try:
            with daemon.blocks.logged(records) as take_effect, contextlib.ExitStack() as undoing:
                undoing.callback(setattr, daemon.wanted, "ruleset", before)
                with daemon.changing(region):
                    take_effect()
                    daemon.wanted.know_block_source(source_name)
                undoing.pop_all()
        except FAILURES as failure:
            daemon.distrust_kernel(failure)
            if isinstance(failure, XdropdError):
                raise
            raise XdropdError(reason_of(failure)) from failure
        daemon.wanted.note_ends()
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

    def _may_change(self) -> bool:
        return self._daemon.is_ready and not self._daemon.is_busy

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


def _all_entries(source: Source) -> Iterator[Entry]:
    """Everything that a source lists. Readers may be slow, and entries come and go while they read."""
    plain = sum(map(len, source.members.values()))
    yield from islice(source.all_entries(), plain)
    yield from tuple(source.entries.values())


def _without_line(source: Source, span: Span) -> Entry | None:
    """As `source.entry`, without looking for the line of a plain address."""
    own = source.entries.get(span)
    if own is None and span.is_address and source.has_address(span.version, span.first):
        return Entry(span, 0)
    return own


def _remarks(ruleset: Ruleset, spans: list[Span]) -> list[str]:
    """Which of these stay blocked, and why. A wider holder is looked for in all networks: not for a large batch."""
    held = [
        (span, holders)
        for at, span in enumerate(spans)
        if (holders := _holders(ruleset, span) or (at < _NAMED_AT_MOST and _wider_holder(ruleset, span)))
    ]
    remarks = [f"{span} stays blocked, it is held by {', '.join(holders)}" for span, holders in held[:_NAMED_AT_MOST]]
    more = len(held) - len(remarks)
    return [*remarks, f"{more} more stay blocked as well"] if more else remarks


def _holders(ruleset: Ruleset, span: Span) -> list[str]:
    """Who lists exactly this span: places in files, and callers of `block`."""
    return [
        f"{source.name}:{entry.line}" if source.is_file else f"a block of {source.name}"
        for source in ruleset.sources
        if (entry := source.entry(span))
    ]


def _wider_holder(ruleset: Ruleset, span: Span) -> list[str]:
    """The network or range that blocks an address all the same."""
    held = ruleset.holder(span.version, span.first) if span.is_address else None
    if held is None or ruleset.exemptions.covers(span):
        return []
    source, entry = held
    return [f"{entry.span} of {source.name}{f':{entry.line}' if entry.line else ''}"]


def _why_not_unblocked(ruleset: Ruleset, span: Span, source_name: str) -> str:
    listing = [(source, entry) for source in ruleset.sources if (entry := source.entry(span))]
    places = [f"{source.name}:{entry.line}" for source, entry in listing if source.is_file]
    callers = [source.name for source, _ in listing if not source.is_file]
    said = f"{span} is not blocked by {source_name}"
    if callers:
        said += f", but by {' and '.join(callers)} (see --source)"
    if places:
        said += f"; {' and '.join(places)} {'lists' if len(places) == 1 else 'list'} it: take it out there, or allow it"
    elif not callers and (wider := _wider_holder(ruleset, span)):
        said += f"; {wider[0]} blocks it: allow it in the blocklist"
    return said


def _taken_back(source_name: str, span: Span, now_s: float) -> Record:
    return Record("unblock", source_name, str(span), None, "", now_s)


def _counts(ruleset: Ruleset | None) -> dict[str, int]:
    sources = ruleset.sources if ruleset else ()
    single = {
        version: sum(
            len(source.members[version]) + sum(span.is_address and span.version == version for span in source.entries)
            for source in sources
        )
        for version in EVERYTHING
    }
    return {
        "ipv4": single[4],
        "ipv6": single[6],
        "networks": sum(not span.is_address for source in sources for span in source.entries),
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


def _entries(request: Mapping[str, Any]) -> tuple[list[Span], list[str]]:
    """Each entry once, in the order of the request, and what is to be remarked on how some were written."""
    texts = request.get("entries")
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise BadRequest('"entries" is a list of texts')
    spans: dict[Span, None] = {}
    remarks: list[str] = []
    for span, remark in map(_span, texts):
        spans[span] = None
        if remark:
            remarks.append(remark)
    more = len(remarks) - _NAMED_AT_MOST
    shown = remarks[:_NAMED_AT_MOST]
    return list(spans), [*shown, f"{more} more are taken otherwise than they were written"] if more > 0 else shown


def _source_name(request: Mapping[str, Any]) -> str:
    name = _optional(request, "source")
    if name is None:
        return _DEFAULT_SOURCE
    if not name or "/" in name:
        raise BadRequest('"source" is a name without a slash')
    return name


def _exempt(items: list[Exemption]) -> str:
    return " and ".join(
        f"allow {item.span} of {item.source}:{item.line}"
        if item.kind == "allow"
        else f"the guard of {item.span} ({item.source})"
        for item in items
    )


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
