"""Start, end and prefix length in columns (https://feeds.dshield.org/block.txt)."""

from xdropd.text import wording
from xdropd.text.addresses import parse_address
from xdropd.text.formats.lines import Entry, Format, entry


def _parse(text: str) -> Entry:
    words = text.split(maxsplit=3)
    if len(words) < 3 or not (words[2].isascii() and words[2].isdecimal()):
        raise ValueError(f"not start, end and prefix length: {wording.quoted(text.strip())}")
    found = entry(f"{words[0]}/{words[2]}")
    if parse_address(words[1]) != (found.span.version, found.span.last):
        raise ValueError(f"{wording.quoted(words[1])} is not the last address of {found.span}")
    return found


FORMAT = Format(_parse)
