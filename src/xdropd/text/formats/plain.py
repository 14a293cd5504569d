"""One address, network or range a line, as FireHOL, ipsum and Spamhaus DROP have it.

"#" and ";" start comments, and other text may follow: "10.0.0.0 8" is an address that was seen eight times, as in
ipsum, where "10.0.0.0 /8" is a network.

A line that may mean something else than "block this" does not parse: two addresses side by side, columns of CSV, and an
address with a host name behind it, as in a hosts file.
"""

import re

from xdropd.text import bulk, wording
from xdropd.text.addresses import parse_address
from xdropd.text.formats.hosts import HOSTS_FILE_ADDRESS
from xdropd.text.formats.lines import APART, HOST_BITS, Entry, Format, InBulk, entry

_COMMENT = re.compile(r"[#;]")
_LENGTH = re.compile(r"/[0-9]{1,3}")
_HOST_NAME = re.compile(r"([A-Za-z0-9_-]+\.)+[A-Za-z][A-Za-z0-9-]+\.?")


def _parse(text: str) -> Entry:
    if "#" in text or ";" in text:
        text = _COMMENT.split(text, 1)[0]
    first, *rest = text.split(maxsplit=3)
    if len(rest) > 1 and rest[0] == "-":
        first = f"{first}-{rest[1]}"
        rest = rest[2:]
    if rest and _LENGTH.fullmatch(rest[0]) and parse_address(first) is not None:
        return entry(first + rest[0], APART)
    found = entry(first)
    if rest and not rest[0].isdecimal():
        _refuse_columns(first, rest[0])
    return found


def _refuse_columns(first: str, second: str) -> None:
    """Raise ValueError if the second word makes it doubtful that the first is what is to be blocked."""
    if second[0] == ",":
        raise ValueError("columns with commas between them are not read")
    if parse_address(second.rstrip(",").partition("/")[0]) is not None:
        raise ValueError(f"two addresses side by side, {wording.quoted(first)} and {wording.quoted(second)}")
    if _HOST_NAME.fullmatch(second) or (second[0].isalpha() and HOSTS_FILE_ADDRESS.fullmatch(first)):
        raise ValueError(f"an address and a host name, {wording.quoted(second)}, as in a hosts file")


def _words(texts: list[str]) -> list[str]:
    """Of lines that hold one word, or a word and a number: the word; of others nothing."""
    return [
        parts[0] if len(parts) == 1 or (len(parts) == 2 and parts[1].isdecimal()) else ""
        for parts in (text.split(None, 2) or [""] for text in texts)
    ]


def _in_bulk(text: bytes) -> InBulk:
    words, left = bulk.read_lines(text, _words, is_masking=True)
    return InBulk(words, left, {HOST_BITS: words.masked})


FORMAT = Format(_parse, _in_bulk)
