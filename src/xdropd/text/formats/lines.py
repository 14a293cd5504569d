"""Lines of list files, whatever their format."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from xdropd.text import bulk, runs
from xdropd.text.addresses import Span

DECIMALS = r"([0-9]{1,3}(?:\.[0-9]{1,3}){3})"
"""Dotted decimals, padded or not, as a group of a regular expression."""

_CHARACTERS_AT_MOST = 4096
_LONG_BYTES = 4 * (_CHARACTERS_AT_MOST + 1)  # as many characters at least

InBulk = tuple[bulk.Words, list[str]]
"""What was read of some lines together, and the text of those that are better read singly."""


def _none_in_bulk(text: bytes) -> InBulk:
    lines = texts(text)
    return bulk.Words({}, {}, list(range(len(lines)))), lines


class Format(NamedTuple):
    """How the lines of a file are read."""

    parse: Callable[[str], Span | None]
    """Of a line that is neither blank nor a comment: what it blocks; None if it is in order and blocks nothing.

    Raises ValueError with a sentence if it does not parse.
    """
    in_bulk: Callable[[bytes], InBulk] = _none_in_bulk
    """Of whole lines."""

    def read(self, text: str) -> Span | None:
        """As `parse`, of a line of any length."""
        if len(text) > _CHARACTERS_AT_MOST:
            raise ValueError(f"it has more than {_CHARACTERS_AT_MOST} characters")
        return self.parse(text)


def tidied(chunk: bytes) -> bytes:
    """Lines with a plain newline each, and no more of a long one than it takes to see that it is too long."""
    if len(chunk) > runs.CHUNK_BYTES:  # one line, and whatever it says, too long
        return chunk[:_LONG_BYTES].rstrip(b"\r\n") + b"\n"
    text = chunk.replace(b"\r\n", b"\n")
    return text if text.endswith(b"\n") else text + b"\n"


def texts(text: bytes) -> list[str]:
    """The lines of a tidied text."""
    return text.decode(errors="replace").split("\n")[:-1]


def is_comment(text: str) -> bool:
    """Whether a line says nothing."""
    start = text.lstrip()
    return not start or start[0] in "#;" or start.startswith("//")


def content_lines(data: bytes) -> Iterator[str]:
    """The lines that say something."""
    for chunk in runs.chunks(data):
        for text in texts(tidied(chunk)):
            if not is_comment(text):
                yield text
