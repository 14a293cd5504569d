"""Whether a file looks like a list at all. What servers send in its place is told as what it is.

The first line that is an entry in one of the formats settles it, or the second one where they read like
sentences; what the rest is worth is for the daemon to judge, which knows the last good version. Reads in pieces,
whatever the length of a line.
"""

import re
from collections.abc import Iterator
from socket import AF_INET, AF_INET6, inet_pton
from typing import BinaryIO

from xdropd.text import wording

_PIECE_BYTES = 1 << 16
_LINE_BYTES_AT_MOST = 4096

_BOM = b"\xef\xbb\xbf"
_MARKUP = re.compile(rb"\s*<(?:!doctype|html|head|body[\s>]|title|\?xml|!--|script|meta)", re.IGNORECASE)
# MaxMind DB file format 2.0, "Binary Search Tree ... Metadata Section": it stands within the last 128 KiB. This is in
# text/formats/mmdb.py as well, and what follows in the other formats; they load numpy. The tests hold them together.
_DATABASE = b"\xab\xcd\xefMaxMind.com"
_METADATA_BYTES = 128 << 10

# Where the formats have an address: at the start of a line, as "cidr" of an object, at the start of a range at its end.
_PLACES = (
    re.compile(rb"([0-9A-Fa-f:.]+)(?=[\s/,;#-]|$)"),
    re.compile(rb'\{.*"cidr"\s*:\s*"([0-9A-Fa-f:.]+)'),
    re.compile(rb".*?:\s*([0-9A-Fa-f:.]+)\s*-\s*[0-9A-Fa-f:.]+$"),
)
# "203.0.113.9 has been temporarily blocked", by which a server means whoever asks. A comment has a sign before it.
_SENTENCE = re.compile(rb"[0-9A-Fa-f:.]+(?:\s+[A-Za-z][A-Za-z'-]*[,.:!]?){3}(?=\s|$)")
# A range and the colon before it stand in so many bytes: a line of colons takes the expression their number squared.
_RANGE_BYTES = 128


def why_no_list(file: BinaryIO) -> str:
    """What a file is instead of a list, as a sentence about "it"; "" if it may be one.

    One that has nothing but comments may be: lists do turn empty, and the daemon knows what to make of that.
    """
    size = file.seek(0, 2)
    file.seek(max(0, size - _METADATA_BYTES))
    if _DATABASE in file.read(_METADATA_BYTES):
        return ""
    file.seek(0)
    start = file.read(_PIECE_BYTES).removeprefix(_BOM)
    if not start.strip() and size <= _PIECE_BYTES:
        return "it is empty"
    if _MARKUP.match(start):
        return f"it is a web page and no list{_title(start)}"
    count, sentences, first = 0, 0, b""
    for line in _content_lines(file):
        if _is_entry(line):
            if sentences or not _SENTENCE.match(line):
                return ""
            sentences += 1
        count += 1
        first = first or line
    if not first:
        return ""
    lines = "its one line is no entry" if count == 1 else f"none of its {count} lines is an entry"
    return f"it is no list, {lines}: {wording.quoted(first.decode(errors='replace'))}"


def _title(page: bytes) -> str:
    found = re.search(rb"<title[^>]*>\s*([^<]{1,200}?)\s*</title>", page, re.IGNORECASE)
    return f": {wording.quoted(found[1].decode(errors='replace'))}" if found else ""


def _content_lines(file: BinaryIO) -> Iterator[bytes]:
    """The beginnings of lines that are neither blank nor comments."""
    file.seek(0)
    is_first, goes_on = True, False
    while line := file.readline(_LINE_BYTES_AT_MOST):
        text = (line.removeprefix(_BOM) if is_first else line).strip()
        is_first = False
        if text and not goes_on and text[:1] not in b"#;" and not text.startswith(b"//"):
            yield text
        goes_on = not line.endswith(b"\n")


def _is_entry(line: bytes) -> bool:
    *starts, range_at_end = _PLACES
    matches = (*(place.match(line) for place in starts), range_at_end.match(line[-_RANGE_BYTES:]))
    return any(_is_address(found[1]) for found in matches if found)


def _is_address(word: bytes) -> bool:
    text = word.decode()
    if ":" not in text:
        text = ".".join(part.lstrip("0") or "0" for part in text.split("."))  # P2P and eMule pad
    try:
        inet_pton(AF_INET6 if ":" in text else AF_INET, text)
    except OSError:
        return False
    return True
