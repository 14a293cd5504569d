"""What a blocklist includes: list files by path or glob, or by URL, and what is to be done with them.

Lives here: the items under `include`, as xdrop-blocklist(5) has them. Not here: files, and how they are fetched.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeVar

from xdropd.text import durations, wording, yamlnodes
from xdropd.text.addresses import parse_address
from xdropd.text.widest import WIDEST, WIDTHS, length_in
from xdropd.text.yamlnodes import Alias, Document, Mapping, Node, Scalar, Sequence

EVERY_S = 86_400
"""How often a URL is fetched where nothing else is said, in seconds."""

_KEYS = ("path", "url", "reason", "action", "widest", "select", "every", "headers", "sha256")
_OF_URLS = ("every", "headers", "sha256")
_ACTIONS = ("block", "monitor", "allow")
_SYNONYMS = {"drop": "block", "deny": "block", "count": "monitor", "log": "monitor", "pass": "allow", "accept": "allow"}
_CONTINENTS = ("AF", "AN", "AS", "EU", "NA", "OC", "SA")
_EVERY_AT_LEAST_S, _EVERY_AT_MOST_S = 300, 30 * 86_400

# RFC 3986, without user and password: what is secret stands in a file of its own.
_URL = re.compile(
    r"https?://(?:[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|\[([0-9A-Fa-f:.]+)\])(?::([0-9]{1,5}))?(?:[/?][!\"$-~]*)?"
)
_LAST_PORT = 65_535
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_HEX = re.compile(r"[0-9A-Fa-f]{64}")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,9}")
_SELECTION = re.compile(r"(country|continent|asn)=(\S+)")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")

_T = TypeVar("_T")


class Fetch(NamedTuple):
    """How a URL is fetched."""

    every_s: int = EVERY_S
    headers: str = ""
    """Path of a file with header lines, relative to the blocklist; "" for none."""
    sha256: str = ""
    """What the content must have, in lower case; "" for none."""


class Include(NamedTuple):
    """One item, as it was written."""

    pattern: str
    """A path, or a glob for some, relative to the blocklist; or a URL."""
    line: int
    column: int
    reason: str = ""
    action: str = "block"
    """What is done with its entries: block, monitor or allow."""
    widest: tuple[int, int] = WIDEST
    """The shortest prefix length that is taken, of IPv4 and of IPv6."""
    select: tuple[str, ...] = ()
    """What is taken of a database: "country=KP", "continent=AN", "asn=64496"; () for a list of entries."""
    fetch: Fetch | None = None
    """Of a URL."""

    @classmethod
    def of(cls, told: list[Any]) -> Include:
        """The inverse of what JSON makes of one."""
        pattern, line, column, reason, action, (ipv4, ipv6), select, fetch = told
        how = None if fetch is None else Fetch(*fetch)
        return cls(pattern, line, column, reason, action, (ipv4, ipv6), tuple(select), how)


def read(document: Document, node: Node) -> Include | None:
    """One item. What is wrong is noted with the document; None if it names nothing that could be included."""
    if isinstance(node, Scalar):
        return _plain(document, node)
    if isinstance(node, Mapping):
        return _mapping(document, node)
    if not isinstance(node, Alias):
        document.problem(node.line, node.column, "this is a list within the list, write one dash and no brackets")
    return None


def one_line(document: Document, value: Node) -> str:
    """A reason: one line of text."""
    if isinstance(value, Scalar):
        text = " ".join(value.text.split())
        if not _CONTROL.search(text):
            return text
        document.problem(value.line, value.column, "this reason holds a control character, leave it out")
    elif not isinstance(value, Alias):
        document.problem(value.line, value.column, "a reason is text, write it on this line")
    return ""


def _plain(document: Document, where: Scalar) -> Include | None:
    is_url = bool(_SCHEME.match(where.text))
    if what := _why_no_url(where.text) if is_url else _why_no_path(where.text):
        document.problem(where.line, where.column, what)
        return None
    return Include(where.text, where.line, where.column, fetch=Fetch() if is_url else None)


def _mapping(document: Document, node: Mapping) -> Include | None:
    found = yamlnodes.fields(document, node, _KEYS, "an include")
    reason = one_line(document, found["reason"][1]) if "reason" in found else ""
    action = _value(document, found, "action", _action, "block")
    select = _select(document, *found["select"]) if "select" in found else ()
    widest = _widest(document, *found["widest"]) if "widest" in found else WIDEST
    fetch = Fetch(
        _value(document, found, "every", _every, EVERY_S),
        _value(document, found, "headers", _headers, ""),
        _value(document, found, "sha256", _sha256, ""),
    )
    if "path" in found and "url" in found:
        key = max((found[name][0] for name in ("path", "url")), key=lambda each: (each.line, each.column))
        document.problem(key.line, key.column, "an include has a path or a URL, write two for both")
        return None
    if "url" in found:
        url = _value(document, found, "url", _url, "")
        return Include(url, *_place(found["url"][1]), reason, action, widest, select, fetch) if url else None
    for name in _OF_URLS:
        if name in found and "path" in found:
            key = found[name][0]
            document.problem(key.line, key.column, f"'{name}' is for what is fetched, write it beside 'url:'")
    if not isinstance(where := found["path"][1] if "path" in found else None, Scalar):
        if not isinstance(where, Alias):
            what = "this include names no file, write 'path: …' or 'url: …' in it"
            document.problem(node.line, node.column, what)
        return None
    if what := _why_no_path(where.text):
        document.problem(where.line, where.column, what)
        return None
    return Include(where.text, where.line, where.column, reason, action, widest, select)


def _place(node: Node) -> tuple[int, int]:
    return node.line, node.column


def _value(
    document: Document, found: dict[str, tuple[Node, Node]], name: str, read: Callable[[str], _T], default: _T
) -> _T:
    """The value of a key that has one text. `read` raises ValueError with a sentence."""
    if name not in found:
        return default
    key, value = found[name]
    if not isinstance(value, Scalar):
        if not isinstance(value, Alias):
            document.problem(value.line, value.column, f"'{name}' has one value, write it on this line")
    elif not value.text:
        document.problem(key.line, key.column, f"nothing follows '{name}:', remove the line to have the default")
    else:
        try:
            return read(value.text)
        except ValueError as error:
            document.problem(value.line, value.column, str(error))
    return default


def _action(text: str) -> str:
    if text in _ACTIONS:
        return text
    guess = _SYNONYMS.get(text.lower()) or wording.did_you_mean(text, _ACTIONS)
    remedy = f"did you mean '{guess}'?" if guess else f"write {wording.either(_ACTIONS)}"
    raise ValueError(f"{wording.quoted(text)} is no action, {remedy}")


def _every(text: str) -> int:
    every_s = durations.seconds(text)
    if every_s is None:
        raise ValueError(f"{wording.quoted(text)} is no duration, write one such as 90m, 12h or 7d")
    if not _EVERY_AT_LEAST_S <= every_s <= _EVERY_AT_MOST_S:
        raise ValueError(f"{wording.quoted(text)} is out of bounds, write 5m to 30d")
    return every_s


def _headers(text: str) -> str:
    if what := _why_no_path(text):
        raise ValueError(what)
    return text


def _sha256(text: str) -> str:
    if not _HEX.fullmatch(text):
        raise ValueError(f"{wording.quoted(text)} is no SHA-256, write its 64 hexadecimal digits")
    return text.lower()


def _url(text: str) -> str:
    if what := _why_no_url(text):
        raise ValueError(what)
    return text


def _widest(document: Document, key: Node, value: Node) -> tuple[int, int]:
    """One length for both families, or a mapping with one each."""
    if isinstance(value, Mapping):
        found = yamlnodes.fields(document, value, tuple(WIDTHS), "'widest'")
        ipv4, ipv6 = (
            _value(document, found, name, _length_of(width), usual)
            for (name, width), usual in zip(WIDTHS.items(), WIDEST, strict=True)
        )
        return ipv4, ipv6
    length = _value(document, {"widest": (key, value)}, "widest", _length_of(WIDTHS["ipv4"]), None)
    return WIDEST if length is None else (length, length)


def _length_of(width: int) -> Callable[[str], int]:
    return partial(length_in, width=width)


def _select(document: Document, key: Node, value: Node) -> tuple[str, ...]:
    if not isinstance(value, Sequence) or not value.items:
        if not isinstance(value, Alias):
            place = key if isinstance(value, Scalar) and not value.text else value
            document.problem(*_place(place), "'select' is a list, write one such as [country=KP, asn=64496]")
        return ()
    found: dict[str, int] = {}
    for item in value.items:
        if not isinstance(item, Scalar):
            if not isinstance(item, Alias):
                what = "a selection is text, write one such as country=KP, with no space after the sign"
                document.problem(*_place(item), what)
            continue
        try:
            selection = _selection(item.text)
        except ValueError as error:
            document.problem(item.line, item.column, str(error))
            continue
        if selection in found:
            document.problem(item.line, item.column, f"{selection} is selected a second time, keep one")
        found[selection] = item.line
    return tuple(found)


def _selection(text: str) -> str:
    """In one form: capital letters, and an AS number without "AS"."""
    shown = wording.quoted(text)
    match = _SELECTION.fullmatch(text)
    if match is None:
        raise ValueError(f"{shown} is no selection, write country=KP, continent=AN or asn=64496")
    name, value = match[1], match[2].upper()
    if name == "country" and not (len(value) == 2 and value.isascii() and value.isalpha()):
        raise ValueError(f"{shown} names no country, write its two letters of ISO 3166, as in country=KP")
    if name == "continent" and value not in _CONTINENTS:
        raise ValueError(f"{shown} names no continent, write {wording.either(_CONTINENTS)}")
    if name == "asn":
        value = value.removeprefix("AS")
        if not _NUMBER.fullmatch(value) or int(value) >= 1 << 32:
            raise ValueError(f"{shown} is no number of an autonomous system, write one such as asn=64496")
    return f"{name}={value}"


def _why_no_url(text: str) -> str:
    """What is wrong with a URL; "" if nothing is."""
    shown = wording.quoted(text)
    if match := _URL.fullmatch(text):
        address, port = match.groups()
        if address is not None and (":" not in address or parse_address(address) is None):
            return f"{shown} has no IPv6 address between its brackets"
        return f"{shown} has a port over {_LAST_PORT}" if int(port or 0) > _LAST_PORT else ""
    scheme, found, rest = text.partition("://")
    if not found or scheme not in ("http", "https"):
        return f"{shown} is no URL of the web, write one that begins with https:// or http://"
    if "@" in re.split("[/?#]", rest, maxsplit=1)[0]:
        return "a URL with a name or password does not stand here, write them into a file and its path after 'headers:'"
    if "#" in rest:
        return f"{shown} has a part after '#' that no server is asked for, leave it out"
    return f"{shown} is no URL, write one such as https://example.org/list.txt, other characters as %XX"


def _why_no_path(text: str) -> str:
    """What is wrong with a path of list files; "" if nothing is."""
    shown = wording.quoted(text)
    if not text.strip():
        return "there is no path here, write one such as lists.d/*.netset"
    if _CONTROL.search(text):
        return f"{shown} holds a control character, leave it out"
    if "://" in text:
        return f"{shown} is a URL and no path, write 'url: {text}'" if _URL.fullmatch(text) else f"{shown} is no path"
    if wording.is_entry(text):
        return f"{shown} is an entry and not a file, write it under 'block:'"
    if text.endswith("/"):
        return f"{shown} is a folder, write {wording.quoted(text + '*')} for the files in it"
    return ""
