"""Operations: the verbs that change what is in force.

Each is one of the daemon's changes, so that what was checked is still so when it is applied.
"""

import time
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from xdropd.columns.listing import Listing, Row, without
from xdropd.control import fields, sentences
from xdropd.control.moments import moment
from xdropd.control.pauses import with_pauses
from xdropd.control.sentences import NAMED_AT_MOST
from xdropd.control.waiting import Waiting
from xdropd.daemon.failures import FAILURES, reason_of
from xdropd.daemon.parts import Parts
from xdropd.errors import BadRequest, Refused, Unavailable, XdropdError
from xdropd.host.blocklog import Record
from xdropd.host.control import Line, Reply
from xdropd.rules.allow import Exempt
from xdropd.rules.narrowed import sharing_rows
from xdropd.text import names
from xdropd.text.addresses import Span

_RELOADS_AT_MOST = 100  # that wait; those that accept the same file are one
_SOURCES_AT_MOST = 10_000  # of blocks, at once


class Operations:
    """On one daemon."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._waiting = Waiting(parts.progress, parts.reactor)

    def block(self, request: Mapping[str, Any]) -> Iterator[Line]:
        """What is listed from now on, unless something keeps it out."""
        source_name = fields.source_name(request)
        reason = fields.optional(request, "reason") or ""
        seconds = fields.seconds(request)
        words = fields.entries(request)
        yield from self._in_turn(self._do_block(words, source_name, reason, seconds))

    def _do_block(
        self, words: list[str], source_name: str, reason: str, seconds: float | None
    ) -> Generator[None, None, Reply]:
        aside = self._parts.blocking.aside_for(len(words))
        spans, warnings = yield from fields.spans(words)
        self._check_room_for(source_name)
        exempt = self._parts.lists.known().exempt
        touched, held = yield from aside(lambda: _touched(spans, exempt))
        refused: list[Span] = []
        narrowed: list[Span] = []
        for span in with_pauses(touched):
            if span is None:
                yield
            elif span in held or exempt.covers(*span):
                refused.append(span)
            else:
                narrowed.append(span)
        if refused:
            why = [sentences.why_refused(exempt, span) for span in refused[:NAMED_AT_MOST]]
            raise Refused(sentences.one_a_line(why, len(refused)))
        warnings += [
            f"{span} is narrowed by {sentences.exempted_by(exempt.touching(*span))}"
            for span in narrowed[:NAMED_AT_MOST]
        ]
        if len(narrowed) > NAMED_AT_MOST:
            warnings.append(f"{len(narrowed) - NAMED_AT_MOST} more are narrowed as well")
        now_s = time.time()
        until = None if seconds is None else now_s + seconds
        records = yield from aside(lambda: self._parts.blocks.later(source_name, spans, until, reason, now_s))
        yield from self._carry_out(source_name, records, now_s)
        return {"result": {"blocked": len(records), "warnings": warnings}}

    def unblock(self, request: Mapping[str, Any]) -> Iterator[Line]:
        """What is listed by this caller no more."""
        source_name = fields.source_name(request)
        words = fields.entries(request)
        yield from self._in_turn(self._do_unblock(words, source_name))

    def _do_unblock(self, words: list[str], source_name: str) -> Generator[None, None, Reply]:
        aside = self._parts.blocking.aside_for(len(words))
        spans, remarks = yield from fields.spans(words)
        state = self._parts.lists.known()
        asked = yield from aside(lambda: Listing.of(Row(*span) for span in spans))
        missing = without(asked, self._parts.blocks.by_source.get(source_name, Listing.empty()))
        if missing.count:
            named = [Span(*row[:3]) for row, _ in zip(missing.rows(), range(NAMED_AT_MOST), strict=False)]
            refused = [sentences.why_not_unblocked(state, span, source_name) for span in named]
            raise Refused(sentences.one_a_line(refused, missing.count))
        yield from self._take_back(source_name, spans)
        after = self._parts.lists.known()
        remarks += yield from aside(lambda: sentences.remarks(after, spans, asked))
        return {"result": {"unblocked": len(spans), "remarks": remarks}}

    def flush(self, request: Mapping[str, Any]) -> Iterator[Line]:
        """All of what a caller has blocked is listed by it no more."""
        yield from self._in_turn(self._do_flush(fields.source_name(request)))

    def _do_flush(self, source_name: str) -> Generator[None, None, Reply]:
        self._parts.lists.known()
        spans: list[Span] = []
        for row in with_pauses(self._parts.blocks.by_source.get(source_name, Listing.empty()).rows()):
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
        for span in with_pauses(spans):
            if span is None:
                yield
            else:
                records.append(Record("unblock", source_name, str(span), None, "", now_s))
        yield from self._carry_out(source_name, records, now_s)

    def _in_turn(self, work: Generator[None, None, Reply]) -> Iterator[Line]:
        """Have a change done when its turn comes, and give its reply. Who leaves before that wants it no more."""
        replies: list[Reply] = []
        failures: list[Exception] = []

        def change() -> Iterator[None]:
            try:
                replies.append((yield from work))
            except Exception as failure:  # noqa: BLE001  # raised again for who asked
                failures.append(failure)

        asked = change()
        self._parts.changes.ask(asked)
        try:
            yield from self._waiting.until(lambda: bool(replies or failures))
        finally:
            self._parts.changes.withdraw(asked)
        for failure in failures:
            raise failure
        yield from replies

    def _check_room_for(self, source_name: str) -> None:
        sources = self._parts.blocks.by_source
        if source_name not in sources and len(sources) >= _SOURCES_AT_MOST:
            raise Refused(f"there are {_SOURCES_AT_MOST} sources of blocks already: use one of them, or flush some")

    def _carry_out(self, source_name: str, records: list[Record], now_s: float) -> Iterator[None]:
        """Log a batch and put it in force, or neither, whatever it is that fails."""
        try:
            yield from self._parts.blocking.change(records, now_s)
        except FAILURES as failure:
            self._parts.trust.lose(failure)
            if isinstance(failure, XdropdError):
                raise
            raise XdropdError(reason_of(failure)) from failure
        self._log_change(source_name, records)

    def _log_change(self, source_name: str, records: list[Record]) -> None:
        """One line a batch, with the entry where there is but one."""
        first, log = records[0], self._parts.telling.log
        if first.operation == "block":
            event, done = "block", f"blocked by {source_name}"
            if first.until is not None:
                done += f" until {moment(first.until)}"
            done += f": {first.reason}" if first.reason else ""
        else:
            event, done = "unblock", f"taken back by {source_name}"
        if len(records) == 1:
            log.info(event, f"{first.entry} {done}", source=source_name, entry=first.entry)
        else:
            log.info(event, f"{len(records)} entries {done}", source=source_name)

    def reload(self, request: Mapping[str, Any]) -> Iterator[Line]:
        """The files are read again; the reply comes when that is done."""
        shown = fields.optional(request, "accept", fields.PATH_CHARACTERS_AT_MOST)
        accept = None if shown is None else names.actual(shown)
        if accept is not None and not Path(accept).is_absolute():
            raise BadRequest('"accept" is an absolute path')
        yield from self._waiting.until_ready()
        if len(self._parts.wanted) >= _RELOADS_AT_MOST:
            raise Unavailable(f"{_RELOADS_AT_MOST} reloads wait already", "ask again in a moment")
        asked = self._parts.ask_for_reload(accept)
        yield from self._waiting.until(lambda: asked.result is not None)
        assert asked.result is not None
        result = asked.result
        catalogue = self._parts.catalogue
        lists = {str(path) for path in catalogue.followed()[0]} - {catalogue.absolute}
        if result.is_ok and accept is not None and accept not in lists:
            raise Refused(f"{shown} is not a list file that {catalogue.name} includes")
        yield {
            "result": {
                "ok": result.is_ok,
                "problems": [problem.as_json() for problem in result.problems],
                "troubles": self._parts.telling.all_troubles(),
                "status": self._parts.announcing.status_line(),
            }
        }


def _touched(spans: list[Span], exempt: Exempt) -> tuple[list[Span], set[Span]]:
    """Those that share an address with anything exempt, in their order; and which of them one exempt prefix holds."""
    asked = Listing.of(Row(*span) for span in spans)
    touched = {Span(*row[:3]) for row in sharing_rows(asked, exempt.prefixes)}
    held = {
        Span(*row[:3])
        for version, table in asked.prefixes.items()
        for row in asked.some_rows(version, np.flatnonzero(exempt.holds(version, table.keys)), is_range=False)
    }
    return [span for span in spans if span in touched] if touched else [], held
