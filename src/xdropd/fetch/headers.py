"""Headers of HTTP (RFC 9110, 9111): those that a file adds to a request, and what an answer says of time."""

import os
import re
import stat
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from pathlib import Path

from xdropd.errors import NotFetched
from xdropd.host.files import read_file

_BYTES_AT_MOST = 1 << 16
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token of RFC 9110, section 5.6.2
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_OURS = frozenset(
    "accept-encoding connection content-length expect host if-modified-since if-none-match range te trailer "
    "transfer-encoding upgrade".split()
)
_MAX_AGE = re.compile(r'(?:^|[\s,])max-age\s*=\s*"?([0-9]{1,10})"?\s*(?:,|$)', re.IGNORECASE)
_SECONDS = re.compile(r"[0-9]{1,10}")


def read_headers(path: str) -> dict[str, str]:
    """The lines of a file, `Name: value` each, `#` comments apart. Raises NotFetched, without a word of what is secret.

    A file that everybody may read is refused: what is in it may be a token.
    """
    try:
        if os.stat(path).st_mode & stat.S_IRWXO:  # noqa: PTH116
            raise _refused(path, "everybody may read it: chmod o= takes that from them")
        text = read_file(Path(path), _BYTES_AT_MOST)[0].decode("latin-1")
    except (OSError, ValueError) as problem:
        raise _refused(path, getattr(problem, "strerror", None) or str(problem)) from problem
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, colon, value = line.partition(":")
        if not colon or not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise _refused(path, f"line {number} is no header, write one such as 'Authorization: Bearer TOKEN'")
        if name.lower() in _OURS:
            raise _refused(path, f"line {number} has {name}, which is not for a file to say")
        found[name] = value.strip()
    return found


def _refused(path: str, why: str) -> NotFetched:
    return NotFetched(f"the file with its headers, {path}: {why}", was_answered=False)


def least_s(headers: Mapping[str, str]) -> int:
    """For how long an answer is fresh: its max-age without the time that it spent in caches. Else 0."""
    found = _MAX_AGE.search(headers.get("Cache-Control", ""))
    if found is None:
        return 0
    age = headers.get("Age", "").strip()
    return max(0, int(found[1]) - (int(age) if _SECONDS.fullmatch(age) else 0))


def retry_after_s(headers: Mapping[str, str], now_s: float) -> int:
    """How long the server asks to be left alone: seconds, or a date (RFC 9110, section 10.2.3). Else 0."""
    text = headers.get("Retry-After", "").strip()
    if _SECONDS.fullmatch(text):
        return int(text)
    try:
        return max(0, int(parsedate_to_datetime(text).timestamp() - now_s))
    except (ValueError, TypeError, OverflowError):
        return 0
