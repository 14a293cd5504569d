"""Plain list files that others publish: text to entries, leniently.

Lives here: the formats, and how one is told from another by what the lines look like; and when a new version of a file
is not to be trusted. Not here: files, globs, and which version is in force.

Formats, one for a whole file:

plain     one address, network or range a line; "#" and ";" start comments, other text may follow (FireHOL, ipsum,
          Spamhaus DROP)
json      one object a line with a "cidr" (Spamhaus DROP); objects of type "metadata" are comments
dshield   start, end and prefix length in columns (https://feeds.dshield.org/block.txt)
p2p       "name:1.2.3.4-5.6.7.8" (PeerGuardian)
emule     "001.002.003.004 - 005.006.007.008 , 000 , name" (ipfilter.dat); zeros are padding here, and from access
          level 128 on a line means "not filtered"

A line that does not parse is skipped and counted. So is one that may mean something else than "block this": a network
with host bits set, two addresses side by side, columns of CSV, and an address with a host name behind it, as in a hosts
file. An IPv4-mapped IPv6 address is the IPv4 address that it means.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

import numpy as np

from xdropd.columns.listing import Builder, Listing, Row
from xdropd.errors import Problem
from xdropd.text import bulk, runs, wording
from xdropd.text.addresses import NoEntry, Span, meant, parse_address, parse_as_written

_WARNINGS_AT_MOST = 20
_SAMPLE_LINES = 100
_LINE_CHARACTERS_AT_MOST = 4096
_LONG_LINE_BYTES = 4 * (_LINE_CHARACTERS_AT_MOST + 1)  # as many characters at least

_BOM = b"\xef\xbb\xbf"
_COMMENT = re.compile(r"[#;]")
_HOST_NAME = re.compile(r"([A-Za-z0-9_-]+\.)+[A-Za-z][A-Za-z0-9-]+\.?")
_LOCALHOST_LINE = re.compile(rb"^[ \t]*[0-9A-Fa-f.:]+[ \t]+localhost\b", re.MULTILINE)
_HOSTS_FILE_ADDRESS = re.compile(r"0\.0\.0\.0|127\.[0-9.]+|::1?|255\.255\.255\.255")
_DECIMALS = r"([0-9]{1,3}(?:\.[0-9]{1,3}){3})"
_P2P = re.compile(rf".*:\s*{_DECIMALS}\s*-\s*{_DECIMALS}\s*")
_EMULE = re.compile(rf"\s*{_DECIMALS}\s*-\s*{_DECIMALS}\s*(?:,\s*([0-9]{{1,3}})\s*(?:,.*)?)?")
_EMULE_NOT_FILTERED = 128


# From a line that is neither blank nor a comment to what it blocks; None if it is in order and blocks nothing.
# Raises ValueError with a sentence if it does not parse.
_LineParser = Callable[[str], Span | None]


@dataclass(frozen=True, slots=True)
class ListFile:
    """What one version of a list file says."""

    listing: Listing
    lines: int
    """Blank and comment lines apart."""
    unparsed: int
    """How many of these were skipped because they do not parse."""
    warnings: tuple[Problem, ...] = ()
    """The first of the skipped lines, and what was taken otherwise than it was written."""
    reason: str = ""
    """Holds for every entry of the file."""


def read(data: bytes, file: str, reason: str = "") -> ListFile:
    """Read a list file of any format. Never refuses; `objection` says whether the result is fit to be used.

    `file` is only the name for warnings.
    """
    data = data.removeprefix(_BOM)
    reader = _Reader(file, _format_of(data))
    for _, chunk in runs.chunks(data):
        reader.take(chunk)
    return reader.result(reason)


def objection(new: ListFile, last_entries: int | None) -> str | None:
    """Why `new` must not take the place of the last good version, that had `last_entries` (None: there is none).

    None if nothing speaks against it.
    """
    count = new.listing.count
    if new.unparsed * 10 > new.lines:
        return f"{new.unparsed} of its {new.lines} lines do not parse"
    if count == 0 and last_entries != 0:
        return "it has no entries" if last_entries is None else f"it has no entries any more, and had {last_entries}"
    if last_entries is not None and last_entries >= 100 and count * 2 < last_entries:
        return f"it has {count} {'entry' if count == 1 else 'entries'}, and had {last_entries}"
    return None


class _Reader:
    """Takes a text chunk by chunk."""

    def __init__(self, file: str, parse: _LineParser) -> None:
        self._file = file
        self._parse = parse
        self._read_lines = _IN_BULK.get(parse, _none_in_bulk)
        self._builder = Builder()
        self._next_line = 1
        self._lines = self._unparsed = self._last_unparsed = 0
        self._mapped = self._first_mapped = 0
        self._warnings: list[Problem] = []

    def take(self, chunk: bytes) -> None:
        """Read the next lines."""
        text = _tidied(chunk)
        line, count = self._next_line, text.count(b"\n")
        words, left = self._read_lines(text)
        words.into(self._builder, np.arange(line, line + count, dtype=np.uint32))
        self._lines += count - len(left)
        for at, content in zip(words.left, left, strict=True):
            self._line(content, line + at)
        self._next_line += count

    def _line(self, text: str, line: int) -> None:
        if _is_comment(text):
            return
        try:
            span = _checked(self._parse, text)
        except ValueError as error:
            self._lines += 1
            self._unparsed += 1
            if len(self._warnings) < _WARNINGS_AT_MOST:
                what = f"no entry: {wording.quoted(text.strip())}" if isinstance(error, NoEntry) else str(error)
                self._warnings.append(Problem(self._file, line, 1, f"this line is skipped, {what}", "warning"))
            self._last_unparsed = line
            return
        if span is None:
            return
        self._lines += 1
        written, span = span, meant(span)
        if span is not written:
            self._mapped += 1
            self._first_mapped = self._first_mapped or line
        self._builder.add(Row(*span, line))

    def result(self, reason: str) -> ListFile:
        listing = self._builder.listing()
        if self._unparsed > len(self._warnings):
            what = f"this line is the last of {self._unparsed} that are skipped, of {self._lines}"
            self._warnings.append(Problem(self._file, self._last_unparsed, 1, what, "warning"))
        if self._mapped:
            what = f"this line is the first of {self._mapped}" if self._mapped > 1 else "this is the only line"
            what += " with an IPv4-mapped IPv6 address, which is taken as the IPv4 address that it means"
            self._warnings.append(Problem(self._file, self._first_mapped, 1, what, "warning"))
        return ListFile(listing, self._lines, self._unparsed, tuple(self._warnings), reason)


def _tidied(chunk: bytes) -> bytes:
    """Lines with a plain newline each, and no more of a long one than it takes to see that it is too long."""
    if len(chunk) > runs.CHUNK_BYTES:  # one line, and whatever it says, too long
        return chunk[:_LONG_LINE_BYTES].rstrip(b"\r\n") + b"\n"
    text = chunk.replace(b"\r\n", b"\n")
    return text if text.endswith(b"\n") else text + b"\n"


def _texts(text: bytes) -> list[str]:
    return text.decode(errors="replace").split("\n")[:-1]


def _is_comment(text: str) -> bool:
    start = text.lstrip()
    return not start or start[0] in "#;" or start.startswith("//")


def _checked(parse: _LineParser, text: str) -> Span | None:
    if len(text) > _LINE_CHARACTERS_AT_MOST:
        raise ValueError(f"it has more than {_LINE_CHARACTERS_AT_MOST} characters")
    return parse(text)


def _format_of(data: bytes) -> _LineParser:
    """The format that reads the most of the first lines; `_plain` if none does better."""
    if b"localhost" in data and any(_LOCALHOST_LINE.search(chunk) for _, chunk in runs.chunks(data)):
        return _hosts
    read = dict.fromkeys((_plain, _json, _dshield, _p2p, _emule), 0)
    for text in islice(_content_lines(data), _SAMPLE_LINES):
        for parse in read:
            with suppress(ValueError):
                _checked(parse, text)
                read[parse] += 1
    return max(read, key=lambda parse: read[parse])  # the first among equals


def _content_lines(data: bytes) -> Iterator[str]:
    for _, chunk in runs.chunks(data):
        for text in _texts(_tidied(chunk)):
            if not _is_comment(text):
                yield text


def _words_of_plain(texts: list[str]) -> list[str]:
    """Of lines that hold one word, or a word and a number: the word; of others nothing."""
    return [
        parts[0] if len(parts) == 1 or (len(parts) == 2 and parts[1].isdecimal()) else ""
        for parts in (text.split(None, 2) or [""] for text in texts)
    ]


def _words_of_p2p(texts: list[str]) -> list[str]:
    """The ranges of lines in this format."""
    return [f"{match[1]}-{match[2]}" if match else "" for match in map(_P2P.fullmatch, texts)]


def _plain(text: str) -> Span:
    if "#" in text or ";" in text:
        text = _COMMENT.split(text, 1)[0]
    first, *rest = text.split(maxsplit=3)
    if len(rest) > 1 and rest[0] == "-":
        first = f"{first}-{rest[1]}"
        rest = rest[2:]
    span = parse_as_written(first)
    if rest and not rest[0].isdecimal():
        _refuse_columns(first, rest[0])
    return span


def _refuse_columns(first: str, second: str) -> None:
    """Raise ValueError if the second word makes it doubtful that the first is what is to be blocked."""
    if second[0] == ",":
        raise ValueError("columns with commas between them are not read")
    if parse_address(second.rstrip(",").partition("/")[0]) is not None:
        raise ValueError(f"two addresses side by side, {wording.quoted(first)} and {wording.quoted(second)}")
    if _HOST_NAME.fullmatch(second) or (second[0].isalpha() and _HOSTS_FILE_ADDRESS.fullmatch(first)):
        raise ValueError(f"an address and a host name, {wording.quoted(second)}, as in a hosts file")


def _hosts(text: str) -> Span:
    raise ValueError(f"this is a hosts file, its addresses are not to be blocked: {wording.quoted(text.strip())}")


def _json(text: str) -> Span | None:
    if text.lstrip()[0] != "{":
        raise ValueError(f"not a JSON object: {wording.quoted(text.strip())}")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not a JSON object ({error}): {wording.quoted(text.strip())}") from None
    cidr = value.get("cidr")
    if isinstance(cidr, str):
        return parse_as_written(cidr)
    if value.get("type") == "metadata":
        return None
    raise ValueError(f"a JSON object without 'cidr': {wording.quoted(text.strip())}")


def _dshield(text: str) -> Span:
    words = text.split(maxsplit=3)
    if len(words) < 3 or not (words[2].isascii() and words[2].isdecimal()):
        raise ValueError(f"not start, end and prefix length: {wording.quoted(text.strip())}")
    span = parse_as_written(f"{words[0]}/{words[2]}")
    if parse_address(words[1]) != (span.version, span.last):
        raise ValueError(f"{wording.quoted(words[1])} is not the last address of {span}")
    return span


def _p2p(text: str) -> Span:
    match = _P2P.fullmatch(text)
    if match is None:
        raise ValueError(f"not a name, a colon and a range: {wording.quoted(text.strip())}")
    return parse_as_written(f"{match[1]}-{match[2]}")


def _emule(text: str) -> Span | None:
    match = _EMULE.fullmatch(text)
    if match is None:
        raise ValueError(f"not a range, an access level and a name: {wording.quoted(text.strip())}")
    if match[3] and int(match[3]) >= _EMULE_NOT_FILTERED:
        return None
    return parse_as_written(f"{_without_padding(match[1])}-{_without_padding(match[2])}")


def _without_padding(address: str) -> str:
    return ".".join(str(int(number)) for number in address.split("."))


def _plain_in_bulk(text: bytes) -> tuple[bulk.Words, list[str]]:
    return bulk.read_lines(text, _words_of_plain)


def _p2p_in_bulk(text: bytes) -> tuple[bulk.Words, list[str]]:
    texts = _texts(text)
    words = bulk.read(_words_of_p2p(texts))
    return words, [texts[at] for at in words.left]


def _none_in_bulk(text: bytes) -> tuple[bulk.Words, list[str]]:
    texts = _texts(text)
    return bulk.Words({}, {}, list(range(len(texts)))), texts


# What is read of the lines of a format together, and the text of those that are better read singly.
_IN_BULK: dict[_LineParser, Callable[[bytes], tuple[bulk.Words, list[str]]]] = {
    _plain: _plain_in_bulk,
    _p2p: _p2p_in_bulk,
}
