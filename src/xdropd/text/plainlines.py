"""Long runs of lines that say one address each and nothing else, read in bulk.

Such lines are what large lists are made of; inet_pton(3) over whole chunks reads a million in a third of a second.
Lives here: finding and reading them. Not here: what stands around them, and whether YAML takes them for entries, which
the reader of the blocklist proves by the events of the first and the last line of each run.
"""

from __future__ import annotations  # array[int] cannot be evaluated before Python 3.12

import re
from array import array
from collections.abc import Iterator
from itertools import repeat
from socket import AF_INET, inet_pton
from typing import NamedTuple

from xdropd.text.addresses import ntohl

CHUNK_BYTES = 1 << 16  # some 4,000 lines: large enough to be quick, small enough to be no weight in memory

_LINES_AT_LEAST = 8  # fewer are not worth the detour
_ITEM_RUN = re.compile(rb"^( *)- [0-9.]{7,15}\n(?:\1- [0-9.]{7,15}\n){7,}", re.MULTILINE)
_INDENT = re.compile(rb" *- (?=[0-9])")


class Run(NamedTuple):
    """Consecutive lines "- ADDRESS" with one indentation."""

    line: int
    """The first one, counted from 1."""
    column: int
    """Where the address stands in each of them, counted from 1."""
    keys: array[int]
    """The addresses of all of them, as host-order integers."""


def chunks(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(offset, whole lines of about CHUNK_BYTES), together the whole text."""
    start = 0
    while start < len(data):
        end = data.rfind(b"\n", start, start + CHUNK_BYTES) + 1
        if not end:
            end = data.find(b"\n", start) + 1 or len(data)
        yield start, data[start:end]
        start = end


def keys_of(words: list[str]) -> array[int] | None:
    """IPv4 addresses as host-order integers; None if any of the words is something else."""
    try:
        packed = b"".join(map(inet_pton, repeat(AF_INET), words))
    except (OSError, ValueError):
        return None
    return ntohl(array("I", packed))


def find_items(data: bytes) -> tuple[bytes, list[Run]]:
    """The text without the inner lines of runs of plain items, and the runs.

    Of each inner line its newline stays, so that everything else keeps its place. A run need not be one for YAML: it
    may stand inside a literal or a quoted text. `data` holds plain newlines and no control characters.
    """
    runs: list[Run] = []
    kept: list[bytes] = []
    kept_to = 0
    line = 1
    for start, chunk in chunks(data):
        whole = _whole(chunk, line)
        for offset, end, run in [whole] if whole else _parts(chunk, line):
            runs.append(run)
            first_end = data.index(b"\n", start + offset) + 1
            last_start = data.rindex(b"\n", 0, start + end - 1) + 1
            kept.append(data[kept_to:first_end])
            kept.append(b"\n" * (len(run.keys) - 2))
            kept_to = last_start
        line += len(whole[2].keys) if whole else chunk.count(b"\n")
    kept.append(data[kept_to:])
    return b"".join(kept), runs


def _whole(chunk: bytes, line: int) -> tuple[int, int, Run] | None:
    """(start, end, run) if the chunk is one single run. `line` is the one that it starts with."""
    start = _INDENT.match(chunk)
    if start is None or not chunk.endswith(b"\n"):
        return None
    # Whatever stands between two newlines with this indentation and dash must be an address from end to end.
    words = chunk[start.end() : -1].decode("ascii", "replace").split("\n" + start[0].decode())
    if len(words) < _LINES_AT_LEAST or (keys := keys_of(words)) is None:
        return None
    return 0, len(chunk), Run(line, start.end() + 1, keys)


def _parts(chunk: bytes, line: int) -> Iterator[tuple[int, int, Run]]:
    """(start, end, run) of each run within a chunk that holds something else as well."""
    counted = 0
    for match in _ITEM_RUN.finditer(chunk):
        line += chunk.count(b"\n", counted, match.start())
        counted = match.start()
        keys = keys_of(match[0].decode("ascii").split()[1::2])
        if keys is not None:
            yield match.start(), match.end(), Run(line, len(match[1]) + 3, keys)
