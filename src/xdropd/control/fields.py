"""The fields of a request, checked: each is what it should be, or BadRequest says what it should be."""

from collections.abc import Mapping
from typing import Any

from xdropd.columns.versions import SELECTED
from xdropd.errors import BadRequest
from xdropd.host.spool import Spool
from xdropd.text import selecting
from xdropd.text.addresses import WIDTH, Span, parse_leniently

DEFAULT_SOURCE = "xdropctl"
PATH_CHARACTERS_AT_MOST = 4 * 4096  # PATH_MAX, and every byte told as four characters

TAG_CHARACTERS_AT_MOST = 200

_CHARACTERS_AT_MOST = 1000
_SECONDS_AT_MOST = 100 * 365 * 86400


def text(request: Mapping[str, Any], key: str) -> str:
    """One that must be there."""
    value = optional(request, key)
    if value is None:
        raise BadRequest(f'"{key}" is missing')
    return value


def optional(request: Mapping[str, Any], key: str, at_most: int = _CHARACTERS_AT_MOST) -> str | None:
    """A text, or None."""
    value = request.get(key)
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > at_most or not value.isprintable():
        raise BadRequest(f'"{key}" is a text of at most {at_most} characters, all of them printable')
    return value


def flag(request: Mapping[str, Any], key: str) -> bool:
    """True or false; true where nothing is said."""
    value = request.get(key, True)
    if not isinstance(value, bool):
        raise BadRequest(f'"{key}" is true or false')
    return value


def seconds(request: Mapping[str, Any]) -> float | None:
    """For how long; None: for good."""
    value = request.get("seconds")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= _SECONDS_AT_MOST:
        raise BadRequest(f'"seconds" is a number over 0 and up to {_SECONDS_AT_MOST}, or null for good')
    return float(value)


def span(word: str) -> tuple[Span, str]:
    """What an entry means, with a remark where that is not what was written."""
    try:
        return parse_leniently(word)
    except ValueError as problem:
        raise BadRequest(str(problem)) from None


def listed(word: str) -> Span:
    """An entry that may be listed: what `span` takes, and what is selected of a database, "country=KP"."""
    if "=" not in word:
        return span(word)[0]
    try:
        code = selecting.code_of(word)
    except ValueError as problem:
        raise BadRequest(str(problem)) from None
    return Span(SELECTED, code, code)


def entries(request: Mapping[str, Any]) -> list[str] | Spool:
    """What is listed, as it was written: in the request, or in the lines that followed it."""
    words = request.get("entries")
    if isinstance(words, Spool):
        return words
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        raise BadRequest('"entries" is a list of texts, or "follow" where they follow as lines')
    return words


def widest(request: Mapping[str, Any]) -> tuple[int, int]:
    """The shortest prefix length that is taken, of IPv4 and of IPv6."""
    value = request.get("widest")
    lengths = value if isinstance(value, dict) else {} if value is None else {"ipv4": value, "ipv6": value}
    found = lengths.get("ipv4", 0), lengths.get("ipv6", 0)
    if lengths.keys() - {"ipv4", "ipv6"} or not all(
        isinstance(length, int) and not isinstance(length, bool) and 0 <= length <= width
        for length, width in zip(found, WIDTH.values(), strict=True)
    ):
        raise BadRequest('"widest" is a prefix length, or an object with one for "ipv4" and one for "ipv6"')
    return found


def source_name(request: Mapping[str, Any], *, is_needed: bool = False) -> str:
    """Of a caller."""
    name = text(request, "source") if is_needed else optional(request, "source")
    if name is None:
        return DEFAULT_SOURCE
    if not name or "/" in name:
        raise BadRequest('"source" is a name without a slash')
    return name
