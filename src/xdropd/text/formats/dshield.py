"""Start, end and prefix length in columns (https://feeds.dshield.org/block.txt)."""

from xdropd.text import wording
from xdropd.text.addresses import Span, parse_address, parse_as_written
from xdropd.text.formats.lines import Format


def _parse(text: str) -> Span:
    words = text.split(maxsplit=3)
    if len(words) < 3 or not (words[2].isascii() and words[2].isdecimal()):
        raise ValueError(f"not start, end and prefix length: {wording.quoted(text.strip())}")
    span = parse_as_written(f"{words[0]}/{words[2]}")
    if parse_address(words[1]) != (span.version, span.last):
        raise ValueError(f"{wording.quoted(words[1])} is not the last address of {span}")
    return span


FORMAT = Format(_parse)
