"""A hosts file: no list at all. Its addresses are where blocked names lead, which must not be blocked themselves."""

import re

from xdropd.text import chunks, wording
from xdropd.text.formats.lines import Entry, Format

HOSTS_FILE_ADDRESS = re.compile(r"0\.0\.0\.0|127\.[0-9.]+|::1?|255\.255\.255\.255")
_LOCALHOST_LINE = re.compile(rb"^[ \t]*[0-9A-Fa-f.:]+[ \t]+localhost\b", re.MULTILINE)


def is_one(data: bytes) -> bool:
    """Whether it names localhost, as every one of them does."""
    return b"localhost" in data and any(_LOCALHOST_LINE.search(chunk) for chunk in chunks.chunks(data))


def _parse(text: str) -> Entry:
    raise ValueError(f"this is a hosts file, its addresses are not to be blocked: {wording.quoted(text.strip())}")


FORMAT = Format(_parse)
