"""Databases in MaxMind's format: what they say of an address, and the prefixes of all that is selected.

https://maxmind.github.io/MaxMind-DB/: a search tree (columns/searchtree.py), data, metadata. Records are decoded by
maxminddb, each once; what a database calls a country is found out by looking: `country.iso_code` (GeoLite2, DB-IP),
`country_code` (ip-location-db) or `country` (IPinfo), and so on. `registered_country` is where a contract was signed.

Whoever made the file is not trusted: a record may take so many looks into the file, and all of them together so many.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from mmap import mmap
from typing import Any, NamedTuple, cast

import numpy as np

from xdropd.columns import searchtree
from xdropd.columns.listing import Listing, Members, Selections
from xdropd.columns.prefixes import Column, order_of_equals
from xdropd.columns.searchtree import Found
from xdropd.text import selecting

MARKER = b"\xab\xcd\xefMaxMind.com"

_METADATA_BYTES_AT_MOST = 128 << 10
_LOOKS_A_RECORD = 1 << 14  # a record of GeoIP2 Enterprise takes some 600
_LOOKS = 1 << 26  # half a minute
_LONG = 8  # bits: a look at a long text is as good as one at each 256 bytes of it

_DECODING_FAILS = (RuntimeError, ValueError, IndexError, TypeError, OverflowError, struct.error)
"""What comes of decoding what is no record; InvalidDatabaseError and RecursionError are RuntimeErrors."""

_METADATA = ("node_count", "record_size", "ip_version")

_Decoder = tuple["_Metered", Callable[[int], tuple[Any, int]]]


class Unfit(ValueError):
    """A database that cannot be used, with a sentence."""


class Facts(NamedTuple):
    """What a record says: codes of two letters, and the number of an autonomous system; None: nothing."""

    country: str | None = None
    continent: str | None = None
    asn: int | None = None


class Selected(NamedTuple):
    """All that a database has of what is selected, and those of the selections of which it has nothing."""

    listing: Listing
    missing: tuple[str, ...]


def is_one(data: bytes) -> bool:
    """Whether a file is such a database, by the marker before its metadata."""
    return _marked(data) >= 0


def _marked(data: bytes | mmap) -> int:
    return data.rfind(MARKER, max(0, len(data) - _METADATA_BYTES_AT_MOST))


class Database:
    """One file's content. Raises Unfit wherever that turns out to be no database, or maxminddb is not there."""

    def __init__(self, data: bytes | mmap) -> None:
        marked = _marked(data)
        if marked < 0:
            raise Unfit("it is no database in MaxMind's format")
        self._looks = _LOOKS
        start = marked + len(MARKER)
        said = self._decode(self._decoder(data, start), start, "its metadata")
        numbers = [_at(said, name) for name in _METADATA]
        if not all(isinstance(number, int) for number in numbers):
            raise Unfit(f"its metadata does not say {', '.join(_METADATA)} as numbers")
        self.kind = str(_at(said, "database_type") or "")[:100]
        with _unfit_if_broken():
            self._tree = searchtree.Tree.of(memoryview(data)[:marked], *cast(list[int], numbers))
        self._data_at = self._tree.nodes.size + searchtree.GAP_BYTES
        self._data_end = marked
        self._records = self._decoder(data, self._data_at)

    def facts(self, version: int, address: int) -> Facts:
        """What it says of one address."""
        with _unfit_if_broken():
            place = searchtree.place_of(self._tree, version, address)
        return Facts() if place is None else self._facts_at(place)

    def select(self, selections: tuple[str, ...]) -> Selected:
        """All that is selected, each an entry of its own. Raises Unfit also where it has nothing of the kind."""
        with _unfit_if_broken():
            found = searchtree.prefixes(self._tree)
        distinct = np.unique(np.concatenate([each.places for each in found.values()]))
        said = self._codes(distinct)
        wanted = {selecting.code_of(text): text for text in selections}
        for at, word in enumerate(selecting.WORDS):
            asked = [text for code, text in wanted.items() if code >> 32 == at + 1]
            if asked and not said[at].any():
                raise Unfit(f"it cannot be asked for {asked[0]}, for it is of type {self.kind!r} and has no {word}")
        codes = np.sort(np.array(list(wanted), np.uint64))
        rows = np.minimum(np.searchsorted(codes, said), len(codes) - 1)
        holds = codes[rows] == said  # by word and record
        parts = {version: _chosen(each, distinct, rows, holds) for version, each in found.items()}
        order = {code: number for number, code in enumerate(wanted, start=1)}
        made = Selections.of(codes, np.array([order[code] for code in codes.tolist()], np.uint32), parts)
        missing = tuple(wanted[code] for code, size in zip(codes.tolist(), made.sizes, strict=True) if not size)
        return Selected(Listing.of_selections(made), missing)

    def _codes(self, places: Column) -> Column:
        """What the records at these places say, as codes, a row a word; 0: nothing."""
        said = np.zeros((len(selecting.WORDS), len(places)), np.uint64)
        for at, place in enumerate(places.tolist()):
            for row, (word, value) in enumerate(zip(selecting.WORDS, self._facts_at(place), strict=True)):
                if value is not None:
                    said[row, at] = selecting.code(word, value)
        return said

    def _facts_at(self, place: int) -> Facts:
        at = self._data_at + place
        if at >= self._data_end:
            raise Unfit("its tree leads behind its data")
        return facts_in(self._decode(self._records, at, f"the record at byte {at}"))

    def _decoder(self, data: bytes | mmap, pointer_base: int) -> _Decoder:
        try:
            from maxminddb.decoder import Decoder
        except ImportError:
            raise Unfit(
                "databases are read with maxminddb, which is not there, install it with: apt install python3-maxminddb"
            ) from None
        metered = _Metered(data)
        return metered, Decoder(cast(Any, metered), pointer_base).decode

    def _decode(self, decoder: _Decoder, at: int, what: str) -> object:
        metered, decode = decoder
        metered.left = allowed = min(_LOOKS_A_RECORD, self._looks)
        try:
            return decode(at)[0]
        except _TooMuch:
            if allowed < _LOOKS_A_RECORD:
                raise Unfit(
                    "it takes more than half a minute to read, a database that says less of each network, "
                    "of countries rather than of cities, would take less"
                ) from None
            raise Unfit(f"{what} takes more looks into the file than records do") from None
        except _DECODING_FAILS as problem:
            raise Unfit(f"{what} cannot be decoded: {problem or type(problem).__name__}") from None
        finally:
            self._looks -= allowed - metered.left


class _TooMuch(Exception):
    """A record is larger than any is."""


class _Metered:
    """A file's bytes that may be looked at so often."""

    def __init__(self, data: bytes | mmap) -> None:
        self._data = data
        self.left = 0

    def __getitem__(self, at: int | slice) -> int | bytes:
        found = self._data[at]
        self.left -= 1 if isinstance(found, int) else 1 + (len(found) >> _LONG)
        if self.left < 0:
            raise _TooMuch
        return found


@contextmanager
def _unfit_if_broken() -> Iterator[None]:
    try:
        yield
    except searchtree.Broken as problem:
        raise Unfit(str(problem)) from None


def _chosen(found: Found, distinct: Column, rows: Column, holds: Column) -> Members:
    """Of the prefixes of one family those that are selected, ascending, and by which selection: once for each.

    `distinct`: places of records; `rows` and `holds`: for each word and record the selection, and whether it is one.
    """
    keys, selections = [found.keys[:0]], [np.zeros(0, np.uint32)]
    records = np.searchsorted(distinct, found.places)
    for selection, is_held in zip(rows, holds, strict=True):
        chosen = is_held[records]
        keys.append(found.keys[chosen])
        selections.append(selection[records[chosen]].astype(np.uint32))
    all_keys, all_selections = np.concatenate(keys), np.concatenate(selections)
    places = order_of_equals(all_keys, all_selections)
    return Members(all_keys[places], all_selections[places])


def facts_in(record: object) -> Facts:
    """What a record says, whatever its maker calls it."""
    countries = (_at(record, "country", "iso_code"), _at(record, "country_code"), _at(record, "country"))
    continents = (_at(record, "continent", "code"), _at(record, "continent_code"), _at(record, "continent"))
    systems = (
        _at(record, "autonomous_system_number"),
        _at(record, "traits", "autonomous_system_number"),
        _at(record, "asn"),
        _at(record, "as_number"),
    )
    return Facts(
        next(filter(None, map(_letters, countries)), None),
        next(filter(None, map(_letters, continents)), None),
        next((number for number in map(_number, systems) if number is not None), None),
    )


def _at(record: object, *path: str) -> object:
    for key in path:
        record = record.get(key) if isinstance(record, dict) else None
    return record


def _letters(value: object) -> str | None:
    is_code = isinstance(value, str) and len(value) == 2 and value.isascii() and value.isalpha()
    return cast(str, value).upper() if is_code else None


def _number(value: object) -> int | None:
    if isinstance(value, str):
        digits = value[2:] if value[:2].upper() == "AS" else value
        value = int(digits) if digits.isascii() and digits.isdecimal() and len(digits) <= 10 else None
    return value if isinstance(value, int) and 0 <= value < 1 << 32 and not isinstance(value, bool) else None
