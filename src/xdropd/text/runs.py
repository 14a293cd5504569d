"""Runs of regular items in a blocklist, read in bulk: entries alone, and mappings as scripts write them.

Large blocklists are made of such lines. A run is items of one form and one indentation, one after the other:

    - 203.0.113.0/24            - address: 192.0.2.7
    - 2001:db8::7                 reason: ssh brute force
                                  until: 2026-12-01T00:00:00Z

Lives here: finding and reading them. Not here: what stands around them, and whether YAML takes them for entries, which
the reader of the blocklist proves by the events of the first and the last item of each run. What stands at the
indentation of two items of one list, between them, and is closed on its own line, is an item of the same list.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from xdropd.columns.listing import NEVER, Builder
from xdropd.columns.prefixes import Column
from xdropd.text import bulk

CHUNK_BYTES = 1 << 17  # some 8,000 lines: large enough to be quick, small enough to be no weight in memory

_ITEMS_AT_LEAST = 8  # fewer are not worth the detour

# No word of this form is anything but a plain text for YAML, unless a colon ends it.
_WORD = rb"[0-9A-Fa-f:][0-9A-Fa-f.:/-]*"
_ENTRIES = re.compile(rb"^( *)- " + _WORD + rb"\n(?:\1- " + _WORD + rb"\n){7,}", re.MULTILINE)
# Texts without anything that means something to YAML, or in quotes without any quote or escape in them.
_TEXT = rb"(?:[A-Za-z0-9](?:[A-Za-z0-9_.,;/()+=@ -]*[A-Za-z0-9_.,;/()+=@-])?|'[ -&(-~]*'|\"[ !#-\[\]-~]*\")"
_TIME = rb"(?:\d[0-9TZtz:+. -]*[0-9Zz]|'\d[0-9TZtz:+. -]*[0-9Zz]'|\"\d[0-9TZtz:+. -]*[0-9Zz]\")"
_ADDRESS = rb"(?:" + _WORD + rb"|'" + _WORD + rb"'|\"" + _WORD + rb"\")"
_PAIR = rb"(?:address: " + _ADDRESS + rb"|reason: " + _TEXT + rb"|until: " + _TIME + rb")\n"
_MAPPINGS = re.compile(
    rb"^( *)- " + _PAIR + rb"(?:\1  " + _PAIR + rb"){0,2}(?:\1- " + _PAIR + rb"(?:\1  " + _PAIR + rb"){0,2}){7,}",
    re.MULTILINE,
)
_KEYED = re.compile(r"^ *(-| ) (address|reason|until): (.*)$", re.MULTILINE)


class Run(NamedTuple):
    """Consecutive items of one list, all of which but the first and the last are read."""

    line: int
    """Of the first one, counted from 1."""
    last_line: int
    """Where the last one starts."""
    column: int
    """Where the content of each of them starts, counted from 1."""
    words: bulk.Words
    lines: Column
    reasons: list[str] | None
    untils: Column | None

    def into(self, builder: Builder) -> None:
        """Add the inner items."""
        reasons = None
        if self.reasons is not None:
            reasons = np.fromiter(map(builder.reason, self.reasons), np.uint32, len(self.reasons))
        self.words.into(builder, self.lines, reasons, self.untils)


class _Found(NamedTuple):
    """A run within a chunk, by offsets: from its first item to behind its last; the inner ones stand between."""

    start: int
    inner_start: int
    inner_end: int
    end: int
    run: Run


def chunks(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(offset, whole lines of about CHUNK_BYTES), together the whole text."""
    start = 0
    while start < len(data):
        end = data.rfind(b"\n", start, start + CHUNK_BYTES) + 1
        if not end:
            end = data.find(b"\n", start) + 1 or len(data)
        yield start, data[start:end]
        start = end


def find(data: bytes, seconds: Callable[[str], float]) -> tuple[bytes, list[Run]]:
    """The text without the inner items of runs, and the runs. `seconds` reads a time or raises ValueError.

    Of each inner line its newline stays, so that everything else keeps its place. A run need not be one for YAML: it
    may stand inside a literal or a quoted text. `data` holds plain newlines and no control characters.
    """
    runs: list[Run] = []
    kept: list[bytes] = []
    kept_to = 0
    line = 1
    for start, chunk in chunks(data):
        for found in _found(chunk, line, seconds):
            runs.append(found.run)
            kept.append(data[kept_to : start + found.inner_start])
            kept.append(b"\n" * chunk.count(b"\n", found.inner_start, found.inner_end))
            kept_to = start + found.inner_end
        line += chunk.count(b"\n")
    kept.append(data[kept_to:])
    return b"".join(kept), runs


def _found(chunk: bytes, line: int, seconds: Callable[[str], float]) -> Iterator[_Found]:
    """Each run in a chunk, of which `line` is the first line."""
    counted = 0
    for match in sorted((*_ENTRIES.finditer(chunk), *_MAPPINGS.finditer(chunk)), key=lambda match: match.start()):
        line += chunk.count(b"\n", counted, match.start())
        counted = match.start()
        indent = len(match[1])
        starts = _item_starts(match[0], indent)
        inner_start, inner_end = starts[1], starts[-1]
        inner = match[0][inner_start:inner_end]
        first_line = line + match[0].count(b"\n", 0, inner_start)
        last_line = first_line + inner.count(b"\n")
        is_mapping = match.re is _MAPPINGS
        read = _mappings(inner, first_line, seconds) if is_mapping else _entries(inner, first_line, indent)
        if read is not None:
            yield _Found(
                match.start(),
                match.start() + inner_start,
                match.start() + inner_end,
                match.end(),
                Run(line, last_line, indent + 3, *read),
            )


def _item_starts(text: bytes, indent: int) -> tuple[int, int, int]:
    """Where the first, the second and the last item of a run start."""
    dash = b"\n" + b" " * indent + b"- "
    return 0, text.index(dash) + 1, text.rindex(dash) + 1


_Read = tuple[bulk.Words, Column, list[str] | None, Column | None]


def _entries(text: bytes, line: int, indent: int) -> _Read | None:
    """Items that are an entry each; None if one is not, or is something else for YAML."""
    if b":\n" in text:
        return None
    dash = b" " * indent + b"- "
    words, left = bulk.read_lines(text[len(dash) :].replace(b"\n" + dash, b"\n"))
    return None if left else (words, np.arange(line, line + text.count(b"\n"), dtype=np.uint32), None, None)


def _mappings(text: bytes, line: int, seconds: Callable[[str], float]) -> _Read | None:
    """Items that are mappings; None if one has no address, or a key twice, or something in it is wrong."""
    pairs = _KEYED.findall(text.decode("ascii"))
    starts = [at for at, (dash, _, _) in enumerate(pairs) if dash == "-"]
    keys = [key for _, key, _ in pairs]
    each = len(pairs) // len(starts)
    if keys == keys[:each] * len(starts) and starts == list(range(0, len(pairs), each)):
        found = {key: [value for _, _, value in pairs[at::each]] for at, key in enumerate(keys[:each])}
        if len(found) < each or "address" not in found:
            return None
        lines = np.arange(line + keys.index("address"), line + len(pairs), each, dtype=np.uint32)
    else:
        shapes = [keys[start:stop] for start, stop in zip(starts, [*starts[1:], len(pairs)], strict=True)]
        if any("address" not in shape or len(set(shape)) < len(shape) for shape in shapes):
            return None
        found = {key: [""] * len(starts) for key in ("address", "reason", "until")}
        lines = np.zeros(len(starts), np.uint32)
        item = -1
        for at, (dash, key, value) in enumerate(pairs):
            item += dash == "-"
            found[key][item] = value
            if key == "address":
                lines[item] = line + at
    if b"'" in text or b'"' in text:
        found = {key: list(map(_unquoted, values)) for key, values in found.items()}
    words = bulk.read(found["address"])
    if words.left or any(address.endswith(":") for address in found["address"]):
        return None
    reasons = [" ".join(reason.split()) for reason in found["reason"]] if "reason" in found else None
    try:
        known = {until: seconds(until) if until else NEVER for until in set(found.get("until", ()))}
    except ValueError:
        return None
    untils = np.array([known[until] for until in found["until"]]) if known else None
    return words, lines, reasons, untils


def _unquoted(text: str) -> str:
    return text[1:-1] if text[:1] in ("'", '"') else text
