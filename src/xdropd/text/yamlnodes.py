"""YAML text to nodes with places: scalars as they were written, sequences, mappings.

The only file that knows PyYAML, and of it only the event stream: nothing is resolved, so no text turns into a number, a
date or a boolean. Lives here: which part of YAML we take (no anchors, aliases, tags or second documents), and what its
syntax errors are called. Not here: what the nodes mean.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NamedTuple, TypeVar

import yaml

from xdropd.errors import Problem, RefusedFile
from xdropd.text import chunks, wording

_T = TypeVar("_T")

_DEPTH_AT_MOST = 32
_PROBLEMS_AT_MOST = 100_000

# What libyaml's reader refuses (YAML 1.1, c-printable).
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufffe\uffff]+")
_ALLOWED_ASCII = b"\t\n\r" + bytes(range(0x20, 0x7F))
_LINE_BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")  # as libyaml counts lines
_BOM = b"\xef\xbb\xbf"

_COLON_AT_END = re.compile(r"[0-9A-Fa-f:.]*::?(?=[\s,\]}]|$)")
_IPV6 = re.compile(r"(?<![0-9A-Za-z:.\"'])[0-9A-Fa-f]*:[0-9A-Fa-f:.]+(/[0-9]+)?")
_EMPTY_LIST = re.compile(r" *([a-z]{1,20}): *\[ *\]")
_NO_SPACE_AFTER_COLON = re.compile(r"(?:^|[\s{,])([a-z_]{1,20}):(?=[^\s:/])")


class Scalar(NamedTuple):
    """A text, quoted or not."""

    line: int
    column: int
    text: str
    plain: bool
    """True if it was written without quotes."""


class Sequence(NamedTuple):
    """A list."""

    line: int
    column: int
    items: tuple["Node", ...]


class Mapping(NamedTuple):
    """Keys and values in file order, repeated ones included."""

    line: int
    column: int
    pairs: tuple[tuple["Node", "Node"], ...]


class Alias(NamedTuple):
    """What stood here is no text; the problem is already noted."""

    line: int
    column: int


Node = Scalar | Sequence | Mapping | Alias
Event = yaml.Event
ScalarEvent = yaml.ScalarEvent
SequenceStart = yaml.SequenceStartEvent
MappingStart = yaml.MappingStartEvent
_ENDS = (yaml.SequenceEndEvent, yaml.MappingEndEvent)


class Stopped(Exception):
    """The text cannot be read any further; the reason is among the document's problems."""


def decode(data: bytes, file: str) -> tuple[bytes, Problem | None]:
    """The bytes without a BOM and with plain newlines; and the first place that no YAML file can hold, if there is one.

    With such a place the bytes that are returned have U+FFFD there, so that what stands before it can be read.
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return b"", Problem(file, 1, 1, "the file is UTF-16, save it as UTF-8")
    data = data.removeprefix(_BOM)
    if b"\r" in data:
        data = b"".join(chunk.replace(b"\r\n", b"\n") for chunk in chunks.chunks(data))
    kept: list[bytes] = []
    unreadable = None
    for chunk in chunks.chunks(data):  # each step is short: other threads have a turn between them
        if _is_plain(chunk):
            kept.append(chunk)
            continue
        if unreadable is None:
            breaks = sum(len(_LINE_BREAK.findall(before.decode())) for before in kept)
            unreadable = _first_unreadable(chunk, file, breaks)
        kept.append(_FORBIDDEN.sub("\ufffd", chunk.decode(errors="replace")).encode())
    return (data, None) if unreadable is None else (b"".join(kept), unreadable)


def _is_plain(lines: bytes) -> bool:
    """Whether YAML can hold every byte or character of whole lines."""
    if lines.isascii():
        return not lines.translate(None, _ALLOWED_ASCII)
    try:
        return not _FORBIDDEN.search(lines.decode())
    except UnicodeDecodeError:
        return False


def _first_unreadable(lines: bytes, file: str, lines_before: int) -> Problem:
    """The first place that YAML cannot hold in whole lines that have one."""
    try:
        text = lines.decode()
        undecodable = len(text)
    except UnicodeDecodeError as error:
        text = lines.decode(errors="replace")
        undecodable = len(lines[: error.start].decode())
    forbidden = _FORBIDDEN.search(text)
    place = min(undecodable, forbidden.start() if forbidden else len(text))
    breaks = [match.end() for match in _LINE_BREAK.finditer(text, 0, place)]
    if place == undecodable:
        value = lines[len(text[:place].encode())]
        message = f"the byte 0x{value:02x} here is not UTF-8, save the file as UTF-8"
    else:
        message = f"there is a control character (0x{ord(text[place]):02x}) here, remove it"
    return Problem(file, lines_before + len(breaks) + 1, place - (breaks[-1] if breaks else 0) + 1, message)


def place(event: Event) -> tuple[int, int]:
    """Line and column of its start, counted from 1."""
    mark = event.start_mark
    return mark.line + 1, mark.column + 1


class _Stream:
    """A text that libyaml asks for piece by piece; other threads have a turn each time, for comments can be long."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def read(self, size: int = -1, /) -> str:
        """The next characters."""
        start = self._at
        self._at += size
        return self._text[start : self._at]


class Document:
    """One YAML document, read forwards, and every problem found on the way.

    Use it as a cursor: `root`, then `take`, `items` and `node`, then `finish`. All of them raise Stopped where
    reading must stop.
    """

    def __init__(self, text: str, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self._text = text
        self._next_event: Callable[[], Event | None] = yaml.CSafeLoader(_Stream(text)).get_event

    def problem(self, line: int, column: int, message: str) -> None:
        """Note a problem; reading goes on."""
        if len(self.problems) >= _PROBLEMS_AT_MOST:
            self.problems.append(Problem(self.file, line, column, "there are too many problems, reading stops here"))
            raise Stopped
        self.problems.append(Problem(self.file, line, column, message))

    def root(self) -> Event | None:
        """The event that starts the one node of the document; None if the file has none."""
        self.take()
        event = self.take()
        return None if isinstance(event, yaml.StreamEndEvent) else self.take()

    def take(self) -> Event:
        """The next event. Anchors, aliases and tags are noted as problems and otherwise ignored."""
        try:
            event = self._next_event()
        except yaml.YAMLError as error:
            line, column, message = _syntax_error(error, self._text)
            self.problem(line, column, message)
            raise Stopped from None
        if event is None:
            raise Stopped  # behind the end, where the caller has no business
        if event.__class__ in _ENDS:
            return event
        if isinstance(event, yaml.NodeEvent) and (event.anchor is not None or getattr(event, "tag", None) is not None):
            self._refuse_properties(event)
        return event

    def _refuse_properties(self, event: yaml.NodeEvent) -> None:
        if event.anchor is not None:
            sign, what = ("*", "an alias") if isinstance(event, yaml.AliasEvent) else ("&", "an anchor")
            shown = wording.quoted(sign + event.anchor)
            self.problem(*place(event), f"{shown} is {what}, which is not accepted here, write the text itself")
        tag = getattr(event, "tag", None)
        if tag is not None:
            shown = wording.quoted(tag.replace("tag:yaml.org,2002:", "!!"))
            self.problem(*place(event), f"{shown} is a tag, which is not accepted here, leave it out: all is text")

    def items(self) -> Iterator[Event]:
        """The events that start each item, or each key and value, of the node whose start was taken last.

        Who iterates must take the rest of each, with `node` or `items`.
        """
        while (event := self.take()).__class__ not in _ENDS:
            yield event

    def node(self, event: Event, depth: int = 1) -> Node:
        """The whole node that starts with `event`, which was taken last."""
        mark = event.start_mark
        line, column = mark.line + 1, mark.column + 1
        if isinstance(event, yaml.ScalarEvent):
            return Scalar(line, column, event.value, not event.style)
        if isinstance(event, yaml.AliasEvent):
            return Alias(line, column)
        if depth > _DEPTH_AT_MOST:
            self.problem(
                line, column, f"this is nested over {_DEPTH_AT_MOST} deep, write it without so many brackets or dashes"
            )
            raise Stopped
        nodes: list[Node] = []
        while (child := self.take()).__class__ not in _ENDS:
            nodes.append(self.node(child, depth + 1))
        if isinstance(event, yaml.SequenceStartEvent):
            return Sequence(line, column, tuple(nodes))
        return Mapping(line, column, tuple(zip(nodes[::2], nodes[1::2], strict=True)))

    def finish(self) -> None:
        """Read to the end of the file, where no second document may follow."""
        self.take()
        event = self.take()
        if not isinstance(event, yaml.StreamEndEvent):
            self.problem(*place(event), "a second document starts here, keep everything in one and remove this line")


class Keys:
    """Judges the keys of one mapping as they come."""

    def __init__(self, document: Document, known: tuple[str, ...], whose: str) -> None:
        self._document = document
        self._known = known
        self._whose = whose
        self._lines: dict[str, int] = {}

    def accept(self, key: Node) -> str | None:
        """The key if it is known, or the known one that was probably meant; None if there is no telling.

        What is wrong with it is noted with the document.
        """
        if isinstance(key, Alias):
            return None
        if not isinstance(key, Scalar):
            self._document.problem(key.line, key.column, f"a key must be a word, {self._whose} has {self._choice()}")
            return None
        name = key.text
        if name in self._known:
            if name in self._lines:
                shown = wording.quoted(name)
                self._document.problem(
                    key.line, key.column, f"{shown} is here a second time (first in line {self._lines[name]}), keep one"
                )
            else:
                self._lines[name] = key.line
            return name
        guess = wording.did_you_mean(name, self._known)
        shown = wording.quoted(name)
        remedy = f"did you mean '{guess}'?" if guess else f"{self._whose} has {self._choice()}"
        self._document.problem(key.line, key.column, f"unknown key {shown}, {remedy}")
        if guess:
            self._lines.setdefault(guess, key.line)
        return guess or None

    def seen(self, name: str) -> bool:
        """Whether this key, or one that probably meant it, was among them."""
        return name in self._lines

    def _choice(self) -> str:
        return wording.either(self._known)


def why_no_mapping(node: Scalar, known: tuple[str, ...], remedy: str) -> str:
    """What is wrong with a file that consists of one text."""
    shown = wording.quoted(node.text)
    first = node.text.split()[0] if node.text.strip() else ""
    key, colon, _ = first.partition(":")
    if key in known:
        return f"{shown} has no {'space after its colon' if colon else 'colon'}, write '{key}: '"
    return f"{shown} is no key with a value, {remedy}"


def mapping_of(document: Document, root: Node, known: tuple[str, ...], what: str, remedy: str) -> Mapping | None:
    """A whole file's mapping. None where it is empty, and where it is something else, which is a problem then."""
    if isinstance(root, Mapping):
        return root
    if isinstance(root, Sequence):
        document.problem(root.line, root.column, f"this is a list and no {what}, {remedy}")
    elif isinstance(root, Scalar) and root.text:
        document.problem(root.line, root.column, why_no_mapping(root, known, remedy))
    return None


def fields(document: Document, mapping: Mapping, known: tuple[str, ...], whose: str) -> dict[str, tuple[Node, Node]]:
    """The mapping as key and value by name; unknown and repeated keys are noted as problems."""
    keys = Keys(document, known, whose)
    found: dict[str, tuple[Node, Node]] = {}
    for key, value in mapping.pairs:
        name = keys.accept(key)
        if name is not None:
            found.setdefault(name, (key, value))
    return found


def whole(data: bytes, file: str, nothing: _T, of: Callable[[Document, Node], _T]) -> _T:
    """What `of` makes of a whole file of keys, `nothing` of one that has none. `file` is only the name for problems.

    Raises RefusedFile with every problem, up to and including the first one of YAML's own syntax.
    """
    data, unreadable = decode(data, file)
    document = Document(data.decode(), file)
    found = nothing
    with suppress(Stopped):  # the problem is among the others
        start = document.root()
        if start is not None:
            found = of(document, document.node(start))
            document.finish()
    refuse(document.problems, unreadable)
    return found


def refuse(problems: list[Problem], unreadable: Problem | None = None) -> None:
    """Raise RefusedFile if there is any problem. Those behind a place that cannot be read are left out."""
    if unreadable is not None:
        problems = [problem for problem in problems if problem.line < unreadable.line] + [unreadable]
    if problems:
        raise RefusedFile(sorted(problems))


def _syntax_error(error: yaml.YAMLError, text: str) -> tuple[int, int, str]:
    """Place and sentence for an error of libyaml; its own words are about its insides."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return 1, 1, f"this is not YAML ({' '.join(str(error).split())}), write the file anew as UTF-8 text"
    problem, context = error.problem or "", error.context or ""
    mark = error.problem_mark or error.context_mark
    opening = error.context_mark or mark
    if mark is None or opening is None:
        return 1, 1, f"this is not YAML ({problem}), compare it with the example"
    line, column = mark.line + 1, mark.column + 1
    opened = opening.line + 1, opening.column + 1
    content = _line(text, mark.line)
    character = content[mark.column : mark.column + 1]
    if character == "\t" and ("tab" in problem or "cannot start any token" in problem):
        return line, column, "there is a tab here, use spaces"
    if "cannot start any token" in problem:
        return line, column, f"a text cannot start with {wording.quoted(character)}, put it in quotes"
    if "scanning a quoted scalar" in context and "end of stream" in problem:
        return *opened, "the quote that opens here is never closed, close it on the same line"
    if "scanning an alias" in context or "scanning an anchor" in context:
        sign = _line(text, opening.line)[opening.column]
        return *opened, f"a text cannot start with '{sign}', put it in quotes, or write '- ' where an entry starts"
    if "unknown escape" in problem:
        return line, column, "a backslash means something else in double quotes, use single quotes"
    if "could not find expected ':'" in problem:
        alone = _line(text, opening.line)[opening.column :].partition(" #")[0].strip()
        if wording.is_entry(alone):
            return *opened, f"{wording.quoted(alone)} stands alone, write a dash and a space before it: '- {alone}'"
        if alone.startswith("-") and wording.is_entry(alone[1:]):
            return *opened, f"{wording.quoted(alone)} has no space after its dash, write '- {alone[1:]}'"
        return *opened, f"{wording.quoted(alone)} stands alone, write a colon after a key or '- ' before an entry"
    if ipv6 := _address_to_quote(problem, content, mark.column):
        address = ipv6[0]
        return (
            line,
            ipv6.start() + 1,
            f'{wording.quoted(address)} is read as something else here, quote it: "{address}"',
        )
    if "mapping values are not allowed" in problem:
        previous = _line(text, mark.line - 1) if mark.line else ""
        for where, what in ((line, content), (line - 1, previous)):
            if key := _NO_SPACE_AFTER_COLON.search(what):
                return where, key.start(1) + 1, f"'{key[1]}:' needs a space after the colon, write '{key[1]}: '"
        return line, column, "a colon cannot stand here, quote the text that holds it, and indent keys alike"
    if "sequence entries are not allowed" in problem:
        return line, column, "a list cannot start on this line, write its first '- ' on the next one"
    if "parsing a flow" in context:
        closing = "}" if "mapping" in context else "]"
        if "expected ','" in problem or mark.index >= len(text):
            return *opened, f"what opens here is not closed, write a comma between entries and '{closing}' at the end"
        return line, column, f"an entry is missing here, write one or remove the comma, and end with '{closing}'"
    if "document start" in problem:
        return line, column, "there is something after the end of the document, remove it"
    if "did not find expected key" in problem or "expected '-' indicator" in problem:
        if character and character in "]}":
            return line, column, f"there is a '{character}' too many here, remove it"
        if closed := _closed_list_above(text, mark.line):
            return line, column, f"'{closed}: []' above says that the list is empty, remove the [] there"
        if '"' in content or "'" in content:
            return line, column, "this does not fit what stands above it, check that every quote is closed"
        if content.lstrip(" ").startswith("-"):
            return line, column, "this dash does not fit what stands above it, indent all entries of a list alike"
        return line, column, "this does not fit what stands above it, indent it like the lines that it belongs to"
    words = f"{context}, {problem}" if context else problem
    return line, column, f"this is not valid YAML ({words}), check quotes, colons and indentation"


def _address_to_quote(problem: str, content: str, column: int) -> re.Match[str] | None:
    """The IPv6 address around a column that YAML's grammar stumbled over."""
    if "mapping values are not allowed" in problem:
        patterns = [_COLON_AT_END]
    elif "unexpected ':'" in problem or "node content" in problem:
        patterns = [_IPV6, _COLON_AT_END]
    else:
        return None
    for pattern in patterns:
        for match in pattern.finditer(content):
            if match.start() <= column <= match.end() and wording.is_entry(match[0]):
                return match
    return None


def _closed_list_above(text: str, index: int) -> str:
    """The key of the last line of content above this one, if that is "KEY: []" and an item follows."""
    lines = _LINE_BREAK.split(text)[: index + 1]
    if not lines.pop().lstrip(" ").startswith("-"):
        return ""
    above = next((line for line in reversed(lines) if line.strip() and not line.lstrip().startswith("#")), "")
    match = _EMPTY_LIST.match(above)
    return match[1] if match else ""


def _line(text: str, index: int) -> str:
    """The line with this number, from 0, as libyaml counts; "" behind the end."""
    breaks = _LINE_BREAK.finditer(text)  # one after the other: there may be millions
    start = 0
    for _ in range(index):
        end = next(breaks, None)
        if end is None:
            return ""
        start = end.end()
    end = next(breaks, None)
    return text[start : end.start()] if end else text[start:]
