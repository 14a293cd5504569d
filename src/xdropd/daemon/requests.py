"""The verbs of the control socket: requests to replies. docs/protocol.md describes both; JSON keys are a contract.

Asks the daemon and has it change; knows no kernel and no file of its own. Replies stream: a list of a million entries
is made as fast as it is read.
"""

import heapq
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import xdropd
from xdropd import errors
from xdropd.daemon.loop import Daemon
from xdropd.errors import BadRequest, Problem, XdropdError
from xdropd.host.blocklog import Record
from xdropd.host.control import Reply
from xdropd.kernel.shapes import History
from xdropd.rules.ruleset import EVERYTHING, Exemption, Listed, Region, Ruleset, Source
from xdropd.text.addresses import Span, parse_span
from xdropd.text.entries import Entry

_DEFAULT_SOURCE = "xdropctl"
_TOP_AT_MOST = 1000


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
                "degraded": daemon.is_degraded,
                "troubles": [sentence for sentences in daemon.troubles.values() for sentence in sentences],
                "version": xdropd.__version__,
                "ready": daemon.is_ready,
                "progress": daemon.progress,
                "interfaces": [
                    {
                        "name": daemon.interface_names.get(ifindex, f"index {ifindex}"),
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
                    "problems": [_problem(problem) for problem in daemon.last_reload.problems],
                },
                "narrowed": daemon.narrowed,
            }
        }

    def _list(self, request: Mapping[str, Any]) -> Iterator[Reply | None]:
        wanted = request.get("source")
        for source in self._ruleset().sources:
            if wanted in (None, source.name):
                for entry in source.all_entries():
                    yield {"row": self._described(source, entry)}
        yield {"result": {}}

    def _lookup(self, request: Mapping[str, Any]) -> Iterator[Reply | None]:
        span = _span(_text(request, "address"))
        if not span.is_address:
            raise BadRequest(f"{span} is not an address", "lookup takes a single address")
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
            }
        }

    def _top(self, request: Mapping[str, Any]) -> Iterator[Reply | None]:
        key = request.get("by", "packets")
        if key not in ("packets", "bytes"):
            raise BadRequest('"by" is packets or bytes')
        number = request.get("count", 20)
        if not isinstance(number, int) or not 0 < number <= _TOP_AT_MOST:
            raise BadRequest(f'"count" is a number from 1 to {_TOP_AT_MOST}')
        ruleset, generation = self._ruleset(), self._daemon.filter.generation
        assert generation
        busiest: list[tuple[int, int, Span, int]] = []
        for batch in generation.seen_addresses():
            found = [
                (_by(history, key), history.packets, Span(version, address, address), history.source)
                for version, address, history in batch
            ]
            busiest = heapq.nlargest(number, busiest + found)
            yield {"progress": None} if request.get("progress") else None
        for listed in generation.cells:
            history = generation.cell_history(listed)
            if history and history.packets:
                busiest.append((_by(history, key), history.packets, listed.span, listed.source))
        by_number = {source.number: source for source in ruleset.sources}
        for _, _, span, owner in heapq.nlargest(number, busiest):
            source = by_number.get(owner)
            entry = source.entry(span) if source else None
            if source and entry:
                yield {"row": self._described(source, entry)}
        yield {"result": {}}

    def _metrics(self, _request: Mapping[str, Any]) -> Iterator[Reply | None]:
        daemon = self._daemon
        ruleset = daemon.ruleset or Ruleset()
        yield {
            "result": {
                "version": xdropd.__version__,
                "degraded": daemon.is_degraded,
                "interfaces": [
                    {
                        "name": daemon.interface_names.get(ifindex, f"index {ifindex}"),
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
                "reloads": {"ok": daemon.tally.reloads_ok, "refused": daemon.tally.reloads_refused},
                "reload_seconds": daemon.tally.reload_seconds[-1] if daemon.tally.reload_seconds else None,
                "last_success": daemon.tally.last_success_s,
                "sources": [
                    {
                        "name": name,
                        "entries": sum(source.count for source in ruleset.sources if source.name == name),
                        "packets": daemon.filter.source_volume(number).packets,
                    }
                    for name, number in daemon.filter.sources
                ],
            }
        }

    # ---- changing ----

    def _block(self, request: Mapping[str, Any]) -> Iterator[Reply | None]:
        spans = _entries(request)
        source_name = _source_name(request)
        seconds = request.get("seconds")
        if seconds is not None and (not isinstance(seconds, int | float) or seconds <= 0):
            raise BadRequest('"seconds" is a positive number or null')
        while self._daemon.is_busy or self._daemon.ruleset is None:
            yield None
        ruleset = self._ruleset()
        warnings = []
        for span in spans:
            if ruleset.exemptions.covers(span):
                keeper = next(iter(ruleset.exemptions.touching(span)))
                raise errors.Refused(f"{span} is covered by {_exempt(keeper)}, it would have no effect")
            if not span.is_address and (touching := ruleset.exemptions.touching(span)):
                warnings.append(f"{span} is narrowed by {_exempt(touching[0])}")
        now_s = time.time()
        until = None if seconds is None else now_s + seconds
        records = self._daemon.blocks.later(source_name, spans, until, str(request.get("reason") or ""), now_s)
        self._carry_out(source_name, records, now_s)
        yield {"result": {"blocked": len(records), "warnings": warnings}}

    def _unblock(self, request: Mapping[str, Any]) -> Iterator[Reply | None]:
        spans = _entries(request)
        source_name = _source_name(request)
        while self._daemon.is_busy or self._daemon.ruleset is None:
            yield None
        known = self._daemon.blocks.by_source.get(source_name, {})
        here = [span for span in dict.fromkeys(spans) if span in known]
        remarks, elsewhere, missing = [], 0, 0
        for span in spans:
            holders = self._file_holders(span)
            remarks += [f"{span} is held by {holder}" for holder in holders]
            if span not in known:
                elsewhere += bool(holders)
                missing += not holders
                if not holders:
                    remarks.append(f"{span} is not blocked by {source_name}")
        now_s = time.time()
        records = [Record("unblock", source_name, str(span), None, "", now_s) for span in here]
        if records:
            self._carry_out(source_name, records, now_s)
        yield {"result": {"unblocked": len(records), "missing": missing + elsewhere, "remarks": remarks}}

    def _flush(self, request: Mapping[str, Any]) -> Iterator[Reply | None]:
        source_name = _source_name(request)
        while self._daemon.is_busy or self._daemon.ruleset is None:
            yield None
        now_s = time.time()
        known = self._daemon.blocks.by_source.get(source_name, {})
        records = [Record("unblock", source_name, str(span), None, "", now_s) for span in known]
        if records:
            self._carry_out(source_name, records, now_s)
        yield {"result": {"unblocked": len(records)}}

    def _carry_out(self, source_name: str, records: list[Record], now_s: float) -> None:
        """Log a batch, put it in force, or undo both."""
        daemon = self._daemon
        before = dict(daemon.blocks.by_source.get(source_name, {}))
        region = Region()
        region.add(parse_span(record.entry) for record in records)
        try:
            with daemon.change_blocks(region):
                daemon.blocks.record(records, now_s)
                daemon.know_block_source(source_name)
        except OSError as problem:
            raise XdropdError(
                f"nothing was changed, the log of blocks cannot be written: {problem.strerror}"
            ) from problem
        except XdropdError:
            undo = [
                Record("block", source_name, record.entry, old.until, old.reason, now_s)
                if (old := before.get(parse_span(record.entry)))
                else Record("unblock", source_name, record.entry, None, "", now_s)
                for record in records
            ]
            daemon.blocks.record(undo, now_s)
            daemon.request_reload()
            raise
        daemon.note_ends()

    def _reload(self, request: Mapping[str, Any]) -> Iterator[Reply | None]:
        accept = request.get("accept")
        if accept is not None and not isinstance(accept, str):
            raise BadRequest('"accept" is a path')
        while not self._daemon.is_ready:
            yield None
        target = self._daemon.request_reload(accept)
        while self._daemon.reloads_done < target:
            yield None
        last = self._daemon.last_reload
        yield {
            "result": {
                "ok": last.is_ok,
                "problems": [_problem(problem) for problem in last.problems],
                "troubles": [sentence for sentences in self._daemon.troubles.values() for sentence in sentences],
                "status": self._daemon.status_line(),
            }
        }

    # ---- pieces ----

    def _ruleset(self) -> Ruleset:
        if self._daemon.ruleset is None:
            raise XdropdError("no list is known yet", self._daemon.progress)
        return self._daemon.ruleset

    def _file_holders(self, span: Span) -> list[str]:
        return [
            f"{source.name}:{entry.line}"
            for source in self._ruleset().sources
            if source.is_file and (entry := source.entry(span))
        ]

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


def _by(history: History, key: str) -> int:
    return history.packets if key == "packets" else history.total_bytes


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
    value = request.get(key)
    if not isinstance(value, str):
        raise BadRequest(f'"{key}" is missing or no text')
    return value


def _span(text: str) -> Span:
    try:
        return parse_span(text)
    except ValueError as problem:
        raise BadRequest(str(problem)) from None


def _entries(request: Mapping[str, Any]) -> list[Span]:
    texts = request.get("entries")
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise BadRequest('"entries" is a list of texts')
    return [_span(text) for text in texts]


def _source_name(request: Mapping[str, Any]) -> str:
    name = request.get("source", _DEFAULT_SOURCE)
    if not isinstance(name, str) or not name or "/" in name or not name.isprintable():
        raise BadRequest('"source" is a name without a slash')
    return name


def _exempt(item: Exemption) -> str:
    place = f" of {item.source}:{item.line}" if item.line else f" ({item.source})"
    return f"{item.kind} {item.span}{place}"


def _problem(problem: Problem) -> dict[str, Any]:
    return {"file": problem.file, "line": problem.line, "column": problem.column, "message": problem.message}


def _moment(seconds: float | None) -> str | None:
    """RFC 3339 in UTC."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _wall_clock(monotonic_ns: int) -> float:
    """The time of day at a moment of CLOCK_MONOTONIC."""
    return time.time() - (time.monotonic_ns() - monotonic_ns) / 1e9
