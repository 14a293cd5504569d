"""Operations: the verbs that change what is in force.

Each is one of the daemon's changes, so that what was checked is still so when it is applied.
"""

import time
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any

from xdropd.columns.differing import Difference, among, difference, later
from xdropd.columns.listing import NEVER, Listing, combined, ends_of, numbers_of, without
from xdropd.control import fields, sentences
from xdropd.control.asking import Asked, Asking
from xdropd.control.moments import moment
from xdropd.control.sentences import NAMED_AT_MOST
from xdropd.control.waiting import Waiting
from xdropd.daemon.failures import FAILURES, reason_of
from xdropd.daemon.parts import Parts
from xdropd.daemon.severed import Severed, severed
from xdropd.errors import BadRequest, Refused, Unavailable, XdropdError
from xdropd.host.control import Line, Reply
from xdropd.rules.winners import Source, State
from xdropd.sources.blocks import TAGGED_AT_MOST, Change
from xdropd.text import names
from xdropd.text.addresses import Span

_RELOADS_AT_MOST = 100  # that wait; those that accept the same file are one
_SOURCES_AT_MOST = 10_000  # of blocks, at once
_READ_AT_ONCE = 1000  # entries


class Operations:
    """On one daemon."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._waiting = Waiting(parts.progress, parts.reactor)

    def block(self, request: Mapping[str, Any]) -> Iterator[Line]:
        """What is listed from now on, unless something keeps it out."""
        yield from self._asked(Asking(request), self._do_block)

    def _do_block(self, asking: Asking, asked: Asked) -> Generator[None, None, Reply]:
        before = self._listed_by(asking)
        aside = self._parts.blocking.aside_for(asking.size, before)
        exempt = self._parts.lists.known().exempt

        def compare() -> tuple[Change, Listing, list[str]]:
            effect = exempt.effect(asked.put)
            if effect.covered.count:
                rows = effect.covered.first_rows(NAMED_AT_MOST)
                why = [sentences.why_refused(exempt, Span(*row[:3])) for row in rows]
                raise Refused(sentences.one_a_line(why, effect.covered.count))
            there = among(before, asked.put)
            blocked = later(there, asked.put)
            change = _change_of(asking, before, difference(there, blocked))
            return change, blocked, sentences.narrowed(exempt, effect.narrowed)

        change, blocked, warnings = yield from aside(compare)
        warnings += yield from self._severed(asking.source, asked.put)
        yield from self._carry_out(change)
        if blocked.count:
            self._log_change("block", asking.source, blocked, f"blocked by {asking.source}{_in_common(blocked)}")
        skipped = {key: count for key, count in asked.skipped.items() if count}
        return {"result": {"blocked": asked.put.count, "warnings": asked.remarks + warnings, **skipped}}

    def _severed(self, source_name: str, listing: Listing) -> Generator[None, None, list[str]]:
        """Which open connections it cuts off to list these. For one entry that is found out quickly."""
        before, passes_replies = self._parts.lists.known(), self._parts.filter.passes_replies
        only = Span(*next(listing.rows())[:3]) if listing.count == 1 else None

        def look() -> list[Severed]:
            after = State([Source(source_name, 0, listing, is_file=False)], before.exempt)
            return severed(before, after, only, passes_replies=passes_replies)

        found = yield from self._parts.reactor.aside(look)
        return list(map(str, found))

    def unblock(self, request: Mapping[str, Any]) -> Iterator[Line]:
        """What is listed by this caller no more."""
        yield from self._asked(Asking(request, ends=False), self._do_unblock)

    def _do_unblock(self, asking: Asking, asked: Asked) -> Generator[None, None, Reply]:
        before = self._listed_by(asking)
        aside = self._parts.blocking.aside_for(asking.size, before)
        state = self._parts.lists.known()

        def compare() -> Change:
            missing = without(asked.put, before)
            if missing.count:
                rows = missing.first_rows(NAMED_AT_MOST)
                refused = [sentences.why_not_unblocked(state, Span(*row[:3]), asking.source) for row in rows]
                raise Refused(sentences.one_a_line(refused, missing.count))
            gone = among(before, asked.put)
            return _change_of(asking, before, Difference(Listing.empty(), gone, 0, before.count - gone.count))

        change = yield from aside(compare)
        yield from self._carry_out(change)
        self._log_change("unblock", asking.source, asked.put, f"taken back by {asking.source}")
        after = self._parts.lists.known()
        remarks = yield from aside(lambda: sentences.remarks(after, asked.put))
        return {"result": {"unblocked": asked.put.count, "remarks": asked.remarks + remarks}}

    def flush(self, request: Mapping[str, Any]) -> Iterator[Line]:
        """All of what a caller has blocked is listed by it no more."""
        source = fields.source_name(request, is_needed=True)
        yield from self._in_turn(self._do_flush(source))

    def _do_flush(self, source: str) -> Generator[None, None, Reply]:
        self._parts.lists.known()
        before = self._parts.blocks.by_source.get(source, Listing.empty())
        nothing = Listing.empty()
        yield from self._carry_out(Change(source, Difference(nothing, before, 0, 0), nothing))
        if before.count:
            self._log_change("unblock", source, before, f"taken back by {source}")
        return {"result": {"unblocked": before.count}}

    def replace(self, request: Mapping[str, Any]) -> Iterator[Line]:
        """What this caller lists, exactly; what it lists already goes on."""
        yield from self._asked(Asking(request, is_exact=True), self._do_replace)

    def _do_replace(self, asking: Asking, asked: Asked) -> Generator[None, None, Reply]:
        before = self._listed_by(asking)

        def compare() -> Change:
            different = difference(before, asked.put)
            after = asked.put.without_lines() if different.count else before
            return Change(asking.source, different, after, asking.tag)

        return (yield from self._do_exactly("replace", asking, asked, compare))

    def change(self, request: Mapping[str, Any]) -> Iterator[Line]:
        """What this caller lists besides, and what no more; nothing is refused for not being there."""
        yield from self._asked(Asking(request, takes_back=True, is_exact=True), self._do_change)

    def _do_change(self, asking: Asking, asked: Asked) -> Generator[None, None, Reply]:
        before = self._listed_by(asking)

        def compare() -> Change:
            gone = among(before, without(combined(asked.ended, asked.gone), asked.put))
            there = difference(among(before, asked.put), asked.put)
            return _change_of(asking, before, Difference(there.put, gone, there.added, there.kept))

        reply = yield from self._do_exactly("change", asking, asked, compare)
        missing = without(asked.gone, before).count
        return {"result": {**reply["result"], "missing": missing}}

    def _do_exactly(
        self, verb: str, asking: Asking, asked: Asked, compare: Callable[[], Change]
    ) -> Generator[None, None, Reply]:
        """What is covered is taken as well: it does nothing while it is covered."""
        exempt = self._parts.lists.known().exempt
        aside = self._parts.blocking.aside_for(asking.size, self._parts.blocks.by_source.get(asking.source, asked.put))

        def look() -> tuple[Change, int, list[str]]:
            effect = exempt.effect(asked.put)
            warnings = sentences.without_effect(exempt, effect.covered) + sentences.narrowed(exempt, effect.narrowed)
            return compare(), effect.covered.count, warnings

        change, covered, warnings = yield from aside(look)
        yield from self._carry_out(change)
        different = change.difference
        counts = {
            "added": different.added,
            "removed": different.gone.count,
            "changed": different.changed,
            "kept": different.kept,
        }
        told = ", ".join(f"{count} {what}" for what, count in counts.items())
        self._parts.telling.log.info(verb, f"{verb}d by {asking.source}: {told}", source=asking.source)
        skipped = {"without_effect": covered, **asked.skipped}
        return {"result": {**counts, **skipped, "warnings": asked.remarks + warnings}}

    def _asked(self, asking: Asking, do: Callable[[Asking, Asked], Generator[None, None, Reply]]) -> Iterator[Line]:
        """Read what a request lists before its turn comes, if there is much of it."""
        if asking.size > _READ_AT_ONCE:
            asked = yield from self._waiting.aside(asking.read)
        else:
            asked = asking.read()
        yield from self._in_turn(do(asking, asked))

    def _listed_by(self, asking: Asking) -> Listing:
        """What a source lists so far. Raises Refused where there is no room for another one."""
        self._parts.lists.known()
        sources, tagged = self._parts.blocks.by_source, self._parts.blocks.tagged(time.time())
        if asking.source not in sources and len(sources) >= _SOURCES_AT_MOST:
            raise Refused(f"there are {_SOURCES_AT_MOST} sources of blocks already: use one of them, or flush some")
        if asking.tag and asking.source not in tagged and len(tagged) >= TAGGED_AT_MOST:
            raise Refused(f"there are {TAGGED_AT_MOST} sources with a tag already")
        return sources.get(asking.source, Listing.empty())

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

    def _carry_out(self, change: Change) -> Iterator[None]:
        """Log a change and put it in force, or neither, whatever it is that fails."""
        try:
            yield from self._parts.blocking.change(change, time.time())
        except FAILURES as failure:
            self._parts.trust.lose(failure)
            if isinstance(failure, XdropdError):
                raise
            raise XdropdError(reason_of(failure)) from failure

    def _log_change(self, event: str, source: str, entries: Listing, done: str) -> None:
        """One line a request, with the entry where there is but one."""
        log = self._parts.telling.log
        if entries.count == 1:
            (entry,) = (str(Span(*row[:3])) for row in entries.rows())
            log.info(event, f"{entry} {done}", source=source, entry=entry)
        else:
            log.info(event, f"{entries.count} entries {done}", source=source)

    def reload(self, request: Mapping[str, Any]) -> Iterator[Line]:
        """The files are read again; the reply comes when that is done."""
        shown = fields.optional(request, "accept", fields.PATH_CHARACTERS_AT_MOST)
        accept = None if shown is None else names.actual(shown)
        if accept is not None and not accept.startswith(("/", "http://", "https://")):
            raise BadRequest('"accept" is an absolute path, or a URL')
        yield from self._waiting.until_ready()
        if len(self._parts.wanted) >= _RELOADS_AT_MOST:
            raise Unavailable(f"{_RELOADS_AT_MOST} reloads wait already", "ask again in a moment")
        asked = self._parts.ask_for_reload(accept)
        yield from self._waiting.until(lambda: asked.result is not None)
        assert asked.result is not None
        result = asked.result
        catalogue = self._parts.catalogue
        if result.is_ok and accept is not None and not catalogue.includes(accept):
            raise Refused(f"{shown} is not a list file that {catalogue.name} includes")
        yield {
            "result": {
                "ok": result.is_ok,
                "problems": [problem.as_json() for problem in result.problems],
                "warnings": list(result.warnings),
                "troubles": self._parts.telling.all_troubles(),
                "status": self._parts.announcing.status_line(),
            }
        }


def _change_of(asking: Asking, before: Listing, different: Difference) -> Change:
    """What becomes of a source of which some entries differ."""
    after = before
    if different.gone.count:
        after = without(after, different.gone)
    if different.put.count:
        after = combined(after, different.put.without_lines())
    return Change(asking.source, different, after, asking.tag)


def _in_common(blocked: Listing) -> str:
    """Until when and why, where that is the same for all."""
    tables = [table for table in blocked.tables if len(table)]
    ends = {float(end) for table in tables for end in (ends_of(table).min(), ends_of(table).max())}
    reasons = {int(number) for table in tables for number in (numbers_of(table).min(), numbers_of(table).max())}
    if len(ends) != 1 or len(reasons) != 1:
        return ""
    (end,), (number,) = ends, reasons
    until = f" until {moment(end)}" if end < NEVER else ""
    return f"{until}: {blocked.reasons[number]}" if number else until
