"""A name, a colon and a range a line, as PeerGuardian has it: "name:1.2.3.4-5.6.7.8"."""

import re

from xdropd.text import bulk, wording
from xdropd.text.addresses import Span, parse_as_written
from xdropd.text.formats.lines import DECIMALS, Format, InBulk, texts

_LINE = re.compile(rf".*:\s*{DECIMALS}\s*-\s*{DECIMALS}\s*")


def _parse(text: str) -> Span:
    match = _LINE.fullmatch(text)
    if match is None:
        raise ValueError(f"not a name, a colon and a range: {wording.quoted(text.strip())}")
    return parse_as_written(f"{match[1]}-{match[2]}")


def _words(texts: list[str]) -> list[str]:
    """The ranges of lines in this format."""
    return [f"{match[1]}-{match[2]}" if match else "" for match in map(_LINE.fullmatch, texts)]


def _in_bulk(text: bytes) -> InBulk:
    lines = texts(text)
    words = bulk.read(_words(lines))
    return words, [lines[at] for at in words.left]


FORMAT = Format(_parse, _in_bulk)
