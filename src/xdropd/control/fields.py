"""The fields of a request, checked: each is what it should be, or BadRequest says what it should be."""

from collections.abc import Generator, Mapping
from typing import Any

from xdropd.control.pauses import with_pauses
from xdropd.control.sentences import NAMED_AT_MOST
from xdropd.errors import BadRequest
from xdropd.text.addresses import Span, parse_leniently

DEFAULT_SOURCE = "xdropctl"
PATH_CHARACTERS_AT_MOST = 4 * 4096  # PATH_MAX, and every byte told as four characters

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


def entries(request: Mapping[str, Any]) -> list[str]:
    """What is listed, as it was written."""
    words = request.get("entries")
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        raise BadRequest('"entries" is a list of texts')
    return words


def spans(words: list[str]) -> Generator[None, None, tuple[list[Span], list[str]]]:
    """Each entry once, in the order of the request, and what is to be remarked on how some were written."""
    found: dict[Span, None] = {}
    remarks: list[str] = []
    more = 0
    for word in with_pauses(words):
        if word is None:
            yield
            continue
        meant, remark = span(word)
        found[meant] = None
        if remark and len(remarks) == NAMED_AT_MOST:
            more += 1
        elif remark:
            remarks.append(remark)
    return list(found), [*remarks, f"{more} more are taken otherwise than they were written"] if more else remarks


def source_name(request: Mapping[str, Any]) -> str:
    """Of a caller."""
    name = optional(request, "source")
    if name is None:
        return DEFAULT_SOURCE
    if not name or "/" in name:
        raise BadRequest('"source" is a name without a slash')
    return name
