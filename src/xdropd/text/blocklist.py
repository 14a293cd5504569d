"""blocklist.yaml: text to entries, or to every problem in it.

Lives here: the language that operators write, as xdrop-blocklist(5) has it. It streams, so that a million entries need
little more memory than their numbers. Not here: files, the clock (an entry that is over is an entry), and what is
left once `allow` is taken off.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from xdropd.columns.listing import Builder, Listing, Row, combined
from xdropd.errors import Problem
from xdropd.text import includes, moments, runs, unchanged, wording, yamlnodes
from xdropd.text.addresses import parse_span
from xdropd.text.includes import Include
from xdropd.text.runs import Beside, Run, Unchanged
from xdropd.text.unchanged import Known
from xdropd.text.yamlnodes import Alias, Document, Keys, Mapping, Node, Scalar, Stopped

_KEYS = ("block", "allow", "include")
_ENTRY_KEYS = ("address", "reason", "until")

_LIST_REMEDY = "write each entry on a line of its own after a dash and a space"


@dataclass(frozen=True, slots=True)
class Blocklist:
    """What one blocklist says."""

    block: Listing
    allow: Listing
    includes: tuple[Include, ...]
    runs: tuple[Known, ...] = ()
    """By which a later version of the text is read; none where an entry stands twice, of which only one is here."""


class Before(NamedTuple):
    """An earlier version of a text, and what it said."""

    text: bytes
    said: Blocklist


class _Misjudged(Exception):
    """What looked like a run of plain items is none for YAML."""


def read(data: bytes, file: str, before: Before | None = None, beside: Beside | None = None) -> Blocklist:
    """Read a whole blocklist. `file` is only the name for problems. Of `before`, what is still the same is used again.

    Some of a large text is read by `beside`.

    Raises RefusedFile with every problem, up to and including the first one of YAML's own syntax.
    """
    text, unreadable = yamlnodes.decode(data, file)
    if unreadable is None and not _has_other_line_breaks(text):
        found = _by_runs(text, file, before, beside) if before is not None and text is data else None
        found = found or _by_runs(text, file, None, beside)
        if found is not None:
            return found
    return _Reader(text, file, []).read(unreadable)


def _by_runs(text: bytes, file: str, before: Before | None, beside: Beside | None) -> Blocklist | None:
    """Read it by its runs; None where there are none, or where YAML says otherwise."""
    first, last = unchanged.find(before.text, text, before.said.runs) if before is not None else ((), ())
    rest, found = runs.find(text, first, last, beside)
    if not found:
        return None
    try:
        return _Reader(rest, file, found, before.said if before is not None else None).read(None)
    except _Misjudged:
        return None


def _has_other_line_breaks(data: bytes) -> bool:
    """YAML 1.1 also breaks lines at a lone carriage return, NEL, LS and PS; runs count newlines only."""
    return b"\r" in data or (
        not data.isascii() and any(mark in data for mark in (b"\xc2\x85", b"\xe2\x80\xa8", b"\xe2\x80\xa9"))
    )


class _Section:
    """A list of entries. `before` is what it was, of which it may keep some."""

    def __init__(self, name: str, before: Listing) -> None:
        self.name = name
        self.added = Builder()
        self._before = before
        self._kept: list[range] = []
        self._moved: list[int] = []

    def take(self, run: Run) -> None:
        """The inner items of a run. Raises _Misjudged if they are another list's."""
        if not isinstance(run.inner, Unchanged):
            run.inner.into(self.added)
        elif run.inner.section != self.name:
            raise _Misjudged
        else:
            moved = run.inner.lines
            self._kept.append(range(run.place.second_line - moved, run.place.last_line - moved))
            self._moved.append(moved)

    def listing(self) -> tuple[Listing, bool]:
        """All of it, and whether each entry stands there once. Raises _Misjudged if that cannot be known."""
        count, new = self.added.count, self.added.listing()
        if not self._kept:
            return new, new.is_distinct and new.count == count
        kept = self._before.from_lines(self._kept, self._moved)
        both = combined(kept, new)
        if both.count < kept.count + count or not new.is_distinct:
            raise _Misjudged
        return both, True


class _Reader:
    """One pass over one text. `found` are runs of which the text holds the first and the last item only."""

    def __init__(self, text: bytes, file: str, found: list[Run], before: Blocklist | None = None) -> None:
        self._document = Document(text.decode(), file)
        self._runs = found[::-1]
        self._block = _Section("block", before.block if before else Listing.empty())
        self._allow = _Section("allow", before.allow if before else Listing.empty())
        self._includes: list[Include] = []
        self._known: list[Known] = []

    def read(self, unreadable: Problem | None) -> Blocklist:
        """The blocklist. Raises RefusedFile, or _Misjudged if the runs cannot be used."""
        with suppress(Stopped):  # the problem is among the others
            self._root()
        if self._runs:
            raise _Misjudged
        yamlnodes.refuse(self._document.problems, unreadable)
        (block, is_distinct), (allow, are_distinct) = self._block.listing(), self._allow.listing()
        known = self._known if is_distinct and are_distinct else ()
        return Blocklist(block, allow, tuple(self._includes), tuple(known))

    def _root(self) -> None:
        start = self._document.root()
        if start is None:
            self._document.problem(1, 1, "the file is empty, write 'block: []' if nothing is to be blocked")
            return
        if isinstance(start, yamlnodes.MappingStart):
            self._sections(start)
        elif isinstance(start, yamlnodes.SequenceStart):
            place = yamlnodes.place(start)
            self._document.problem(*place, "this list has no name, write 'block:' on a line above it")
            self._list(self._block)
        else:
            node = self._document.node(start)
            if isinstance(node, Scalar):
                what = "the file is empty, write 'block: []' if nothing is to be blocked"
                if node.text:
                    what = yamlnodes.why_no_mapping(node, _KEYS, "write 'block:' and the entries below it")
                self._document.problem(node.line, node.column, what)
        self._document.finish()

    def _sections(self, start: yamlnodes.Event) -> None:
        keys = Keys(self._document, _KEYS, "a blocklist")
        for event in self._document.items():
            key = self._document.node(event)
            name = keys.accept(key)
            value = self._document.take()
            if name is None:
                self._document.node(value)
            elif not isinstance(value, yamlnodes.SequenceStart):
                self._no_list(name, key, self._document.node(value))
            elif name == "include":
                self._include_list()
            else:
                self._list(self._block if name == "block" else self._allow)
        if not keys.seen("block"):
            place = yamlnodes.place(start)
            self._document.problem(*place, "'block' is missing, write 'block: []' if nothing is to be blocked here")

    def _no_list(self, name: str, key: Node, value: Node) -> None:
        """Say what is wrong with a value that ought to be a list."""
        what = ""
        if isinstance(value, Scalar) and value.text.lower() in ("", "~", "null", "none"):
            what = f"nothing follows '{name}:', write '{name}: []' if nothing is meant"
            value = key
        elif isinstance(value, Scalar):
            shown = wording.quoted(value.text)
            first = value.text.split()[0] if value.text.strip() else ""
            if name != "include" and wording.is_entry(first.removeprefix("-")) and first.startswith("-"):
                what = f"{shown} is not a list, write a space after each dash: '- {first.removeprefix('-')}'"
            elif name != "include" and wording.is_entry(value.text):
                what = f"{shown} is not in a list, write '- {value.text}' on a line of its own"
            else:
                what = f"{shown} is not a list, {_LIST_REMEDY}"
        elif isinstance(value, Mapping):
            what = f"there are keys under '{name}:' and no list, {_LIST_REMEDY}"
        if what:
            self._document.problem(value.line, value.column, what)

    def _list(self, target: _Section) -> None:
        for event in self._document.items():
            self._one(event, target)
            if self._runs and self._runs[-1].place.line == event.start_mark.line + 1:
                self._run(event, target)

    def _one(self, event: yamlnodes.Event, target: _Section) -> None:
        """An item."""
        if isinstance(event, yamlnodes.ScalarEvent):
            self._scalar(Scalar(*yamlnodes.place(event), event.value, True), target)
        else:
            self._item(self._document.node(event), target)

    def _run(self, event: yamlnodes.Event, target: _Section) -> None:
        """Take the run of which `event` was the first item, up to its last one, which is the list's next here.

        Raises _Misjudged if the events say otherwise.
        """
        run = self._runs.pop()
        last = self._document.take()
        if (
            yamlnodes.place(event) != (run.place.line, run.place.column)
            or type(last) is not type(event)
            or yamlnodes.place(last) != (run.place.last_line, run.place.column)
        ):
            raise _Misjudged
        target.take(run)
        self._known.append(Known(target.name, run.place))
        self._one(last, target)

    def _scalar(self, scalar: Scalar, target: _Section, reason: str = "", until: float | None = None) -> None:
        try:
            span = parse_span(scalar.text)
        except ValueError as error:
            self._document.problem(scalar.line, scalar.column, str(error))
        else:
            target.added.add(Row(*span, scalar.line, reason, until))

    def _item(self, node: Node, target: _Section) -> None:
        """An item that is more than a text."""
        scalar = _text(node)
        if scalar is not None:
            self._scalar(scalar, target)
        elif isinstance(node, Mapping):
            self._entry(node, target)
        elif not isinstance(node, Alias):
            self._document.problem(
                node.line, node.column, "this is a list within the list, write one dash and no brackets"
            )

    def _entry(self, mapping: Mapping, target: _Section) -> None:
        for key, value in mapping.pairs:
            if isinstance(key, Scalar) and key.text not in _ENTRY_KEYS and (entry := _entry_as_key(key.text)):
                written = f'"{entry}"' if entry.endswith(":") else entry
                what = f"{wording.quoted(entry)} is a key here, for a colon follows, write '- address: {written}'"
                if not isinstance(value, Scalar) or value.text:
                    what += ", and the rest on lines of its own below"
                self._document.problem(key.line, key.column, what)
                return
        found = yamlnodes.fields(self._document, mapping, _ENTRY_KEYS, "an entry")
        reason, until = "", None
        if "reason" in found:
            reason = includes.one_line(self._document, found["reason"][1])
        if "until" in found:
            until = self._until(found["until"][1])
        if "address" not in found:
            self._document.problem(mapping.line, mapping.column, "this entry has no address, write 'address: …' in it")
            return
        key, value = found["address"]
        address = _text(value)
        if address is not None and address.text:
            self._scalar(address, target, reason, until)
        elif not isinstance(value, Alias):
            self._document.problem(key.line, key.column, f"'address' has no text after it, write {wording.ENTRY_FORMS}")

    def _until(self, value: Node) -> float | None:
        """Seconds since the epoch; None if it is wrong."""
        if isinstance(value, Scalar):
            try:
                return moments.seconds(value.text)
            except ValueError as error:
                self._document.problem(value.line, value.column, str(error))
        elif not isinstance(value, Alias):
            self._document.problem(value.line, value.column, f"'until' is a time, write one such as {moments.EXAMPLE}")
        return None

    def _include_list(self) -> None:
        for event in self._document.items():
            include = includes.read(self._document, self._document.node(event))
            if include is not None:
                self._includes.append(include)


def _text(node: Node) -> Scalar | None:
    """The node as the text that it plainly is: "2001:db8::" is, for YAML, the key "2001:db8:" with nothing after it."""
    if isinstance(node, Scalar):
        return node
    if isinstance(node, Mapping) and len(node.pairs) == 1:
        key, value = node.pairs[0]
        if isinstance(key, Scalar) and key.plain and isinstance(value, Scalar) and value.plain and not value.text:
            text = key.text + ":"
            if wording.is_entry(text):
                return key._replace(text=text)
    return None


def _entry_as_key(text: str) -> str:
    """The entry that a key starts with ("1.2.3.4", "1.2.3.4 reason", "2001:db8:" before its colon), or ""."""
    first = text.split()[0] if text.strip() else ""
    return next((entry for entry in (first, text + ":") if wording.is_entry(entry)), "")
