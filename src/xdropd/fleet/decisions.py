"""Decisions: what an answer of CrowdSec's local API says, read as it comes.

The body of GET /v1/decisions/stream is one object, {"deleted": [...] or null, "new": [...] or null}, each item a flat
object (models.Decision of CrowdSec). It can have tens of megabytes, of which no more than a piece is in memory here.
Lives here: which of them mean anything to a filter of addresses, and in which form. Not here: what follows from it.
"""

from __future__ import annotations

import codecs
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from socket import AF_INET, inet_pton
from typing import Any, NamedTuple

from xdropd.errors import LocalApiError
from xdropd.text import addresses, names
from xdropd.text.crowdsec import Configuration
from xdropd.text.godurations import go_seconds

NEW, DELETED = "new", "deleted"

TAG = "xdropd-crowdsec "
"""How the tag begins of every source that a companion fills."""

_CHARACTERS_AT_MOST = 1 << 20  # of an item that is not complete yet
_LATEST_END_S = 253_402_300_799  # with the year 9999, RFC 3339 ends
_REASON_CHARACTERS_AT_MOST = 1000  # which is what xdropd takes
_ORIGIN_CHARACTERS_AT_MOST = 200
_SPACE = " \t\r\n"


class Decision(NamedTuple):
    """One that is about addresses."""

    number: int
    origin: str
    """As part of the name of a source."""
    entry: str
    """In canonical form."""
    until_s: int
    """Since the epoch, by the clock of this host."""
    scenario: str


def items(pieces: Iterable[bytes]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The objects of an answer, each with the key of its list. Raises LocalApiError where the answer is not whole."""
    try:
        yield from _Reader(pieces).items()
    except UnicodeDecodeError as problem:
        raise LocalApiError("what the server answers is not UTF-8") from problem


class _Reader:
    """A cursor over a text that comes in pieces."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._decode = codecs.getincrementaldecoder("utf-8")().decode
        self._scan = json.JSONDecoder().raw_decode
        self._text = ""
        self._at = 0
        self._is_singly = False  # what is in memory is read item by item
        self._is_told = False  # what is in force, or that nothing is

    def items(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        self._expect("{")
        yield from self._members()
        self._at += 1
        while self._more():  # to the end, for what is cut off says so there, and a connection is of use only then
            self._at = len(self._text)
        if not self._is_told:  # somebody else has answered: it does not mean that nothing is decided
            raise _no_json()

    def _members(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """All of an object; the cursor is at its brace then."""
        if self._next() == "}":
            return
        while True:
            key = self._value()
            self._expect(":")
            if self._next() == "[":
                yield from ((str(key), item) for item in self._list() if key in (NEW, DELETED))
            elif self._value() is not None and key in (NEW, DELETED):  # else null, or what a later version says besides
                raise _no_json()
            self._is_told |= key == NEW
            if self._next() == "}":
                return
            self._expect(",")

    def _list(self) -> Iterator[Mapping[str, Any]]:
        self._expect("[")
        if self._next() == "]":
            self._at += 1
            return
        while True:
            yield from self._many()
            value = self._value()
            if isinstance(value, dict):
                yield value
            sign = self._next()
            self._at += 1
            if sign == "]":
                return
            if sign != ",":
                raise _no_json()

    def _many(self) -> Iterator[Mapping[str, Any]]:
        """The items that are in memory with a comma behind each, at once, which takes half the time.

        None where that is not what it looks like: where the list ends before, or a text has a brace and a comma in it.
        """
        end = -1 if self._is_singly else self._text.rfind("},", self._at) + 1
        if end <= self._at:
            return
        try:
            values = json.loads(f"[{self._text[self._at : end]}]")
        except (ValueError, RecursionError):
            self._is_singly = True
            return
        self._at = end + 1
        yield from (value for value in values if isinstance(value, dict))

    def _value(self) -> Any:  # noqa: ANN401  # what JSON can say
        self._next()
        while True:
            try:
                value, end = self._scan(self._text, self._at)
            except RecursionError as problem:
                raise _no_json() from problem
            except ValueError as problem:
                if len(self._text) - self._at > _CHARACTERS_AT_MOST or not self._more():
                    raise _no_json() from problem
            else:
                self._at = end
                return value

    def _next(self) -> str:
        """The next character that is no space, where the cursor then stands."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in _SPACE:
                    return self._text[self._at]
                self._at += 1
            if not self._more():
                raise LocalApiError("the answer of the server is cut short")

    def _expect(self, sign: str) -> None:
        if self._next() != sign:
            raise _no_json()
        self._at += 1

    def _more(self) -> bool:
        piece = next(self._pieces, None)
        if piece is None:
            return False
        self._text, self._at = self._text[self._at :] + self._decode(piece), 0
        self._is_singly = False
        return True


def _no_json() -> LocalApiError:
    return LocalApiError("what the server answers is not what its local API says, or is cut short")


class Reader:
    """Of the items of answers. It knows what the configuration leaves out, and counts what makes no sense."""

    def __init__(self, configuration: Configuration) -> None:
        self._types = frozenset(configuration.supported_decisions_types)
        self._scopes = frozenset(configuration.scopes)
        self._versions = {4: not configuration.disable_ipv4, 6: not configuration.disable_ipv6}
        # There are few types, origins and scenarios, and many decisions.
        self._is_wanted = cache(self._is_of_ours)
        self._name_of = cache(name_of)
        self._once = cache(_text)
        self.senseless = 0
        """How many items were no decision, or on nothing that is an address or a network."""

    def read(self, item: Mapping[str, Any], now_s: float) -> Decision | None:
        """What an item means; None if nothing to us. What has ended, or is taken back, has an end before now."""
        try:
            if not self._is_wanted(item["type"], item["scope"]):
                return None
            entry = _entry(item["value"])
            # The server's durations count from the moment when it answers, so its clock and ours need not agree.
            until_s = min(math.ceil(now_s + go_seconds(item["duration"])), _LATEST_END_S)
            number, origin, scenario = int(item["id"]), self._name_of(item["origin"]), self._once(item["scenario"])
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            self.senseless += 1
            return None
        if not self._versions[6 if ":" in entry else 4]:
            return None
        return Decision(number, origin, entry, until_s, scenario)

    def _is_of_ours(self, kind: str, scope: str) -> bool:
        return kind.lower() in self._types and scope.lower() in self._scopes


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _entry(value: str) -> str:
    """In canonical form: the server keeps values as they were given, with any scope. Raises ValueError, TypeError."""
    try:
        inet_pton(AF_INET, value)
    except OSError:
        return str(addresses.parse_leniently(value)[0])
    return value


def name_of(origin: str) -> str:
    """An origin as part of the name of a source, which has no slash."""
    return names.printable(origin).replace("/", "_")[:_ORIGIN_CHARACTERS_AT_MOST] or "unknown"


def reason_of(scenario: str, origin: str) -> str:
    """Why, as xdropd tells it."""
    return names.printable(f"{scenario} ({origin})")[:_REASON_CHARACTERS_AT_MOST]
