"""Many entries at once: words to columns, a chunk at a time. The same answers as `parse_as_written` gives for each.

Where that is asked for, a network with bits set behind its prefix is read as the network that it lies in.

Large lists are long runs of words of a few kinds. Lines of dotted addresses are read by `dotted`. Of the other words
those of one kind are read together: inet_pton(3) over all of them, lengths by a table, what is behind a prefix by
arithmetic. A word that is no entry is given back, to be told with its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import repeat
from operator import contains
from socket import AF_INET, AF_INET6, inet_pton
from typing import NamedTuple

import numpy as np

from xdropd.columns.listing import Builder
from xdropd.columns.prefixes import FAMILIES, Column
from xdropd.text import dotted

_LENGTHS = {version: {str(bits): bits for bits in range(family.width + 1)} for version, family in FAMILIES.items()}
_FAMILY_OF = {4: AF_INET, 6: AF_INET6}
_Rows = dict[int, list[int]]
_SAMPLE_BYTES = 1 << 12
_MAPPED = b"\0" * 10 + b"\xff\xff"


class Read(NamedTuple):
    """Words of one kind that are entries: which ones, and their keys."""

    rows: Column
    keys: Column


class Words(NamedTuple):
    """What a chunk of words says. `left` are the indices of those that are read one by one by whoever asked."""

    prefixes: dict[int, Read]
    ranges: dict[int, Read]
    left: list[int]
    masked: Sequence[int] = ()
    """Ascending; those of the prefixes that were written with bits behind them."""

    @property
    def rows(self) -> Column:
        """The indices of those that are entries, in no order."""
        return np.concatenate([np.zeros(0, np.intp), *(each.rows for each in self._reads())])

    def _reads(self) -> Iterator[Read]:
        yield from self.prefixes.values()
        yield from self.ranges.values()

    def into(
        self, builder: Builder, lines: Column, reasons: Column | None = None, untils: Column | None = None
    ) -> None:
        """Add the entries, given what belongs to each word of the chunk."""
        for version, (rows, keys) in self.prefixes.items():
            if len(rows):
                builder.prefixes(version, keys, lines[rows], _of(reasons, rows), _of(untils, rows))
        for version, (rows, keys) in self.ranges.items():
            if len(rows):
                builder.ranges(version, keys, lines[rows], _of(reasons, rows), _of(untils, rows))


def read_lines(
    text: bytes, words_of: Callable[[list[str]], Sequence[str]] = list, *, is_masking: bool = False
) -> tuple[Words, list[str]]:
    """Read a chunk of whole lines, counted from 0; with the text of those that are left.

    `words_of` finds one word in each of some lines, or "" where there is none.
    """
    if text.count(b":", 0, _SAMPLE_BYTES) > text.count(b"\n", 0, _SAMPLE_BYTES):  # most of them are IPv6, then
        texts = text.decode(errors="replace").split("\n")[:-1]
        words = read(words_of(texts), is_masking=is_masking)
        return words, [texts[at] for at in words.left]
    lines = dotted.read(text)
    dotted_ones = Read(lines.rows, lines.keys)
    if not len(lines.others):
        return Words({4: dotted_ones}, {}, []), []
    texts = lines.rest.decode(errors="replace").split("\n")[:-1]
    found = read(words_of(texts), is_masking=is_masking)
    prefixes, ranges = (
        {version: Read(lines.others[rows], keys) for version, (rows, keys) in kind.items()}
        for kind in (found.prefixes, found.ranges)
    )
    prefixes[4] = _together(dotted_ones, prefixes[4])
    left, masked = (lines.others[np.array(rows, np.intp)].tolist() for rows in (found.left, found.masked))
    return Words(prefixes, ranges, left, masked), [texts[at] for at in found.left]


def read(words: Sequence[str], *, is_masking: bool = False) -> Words:
    """Read a chunk of words."""
    addresses, networks, ranges = _sorted_out(words)
    left: list[int] = []
    masked: list[int] = []
    prefixes, spans = {}, {}
    for version in FAMILIES:
        prefixes[version] = _together(
            _addresses(version, words, addresses[version], left),
            _networks(version, words, networks[version], left, masked if is_masking else None),
        )
        spans[version] = _ranges(version, words, ranges[version], left)
    return Words(prefixes, spans, sorted(left), sorted(masked))


def _together(one: Read, other: Read) -> Read:
    """Both, in the order of the text."""
    if not len(one.rows) or not len(other.rows):
        return one if len(one.rows) else other
    rows, keys = np.concatenate((one.rows, other.rows)), np.concatenate((one.keys, other.keys))
    order = np.argsort(rows, kind="stable")
    return Read(rows[order], keys[order])


def _sorted_out(words: Sequence[str]) -> tuple[_Rows, _Rows, _Rows]:
    """The indices of words that look like addresses, like networks and like ranges, by version."""
    found: tuple[_Rows, _Rows, _Rows] = {4: [], 6: []}, {4: [], 6: []}, {4: [], 6: []}
    text = "\n".join(words)
    slashes, with_colons = text.count("/"), sum(map(contains, words, repeat(":")))
    if slashes in (0, len(words)) and with_colons in (0, len(words)) and "-" not in text:
        found[1 if slashes else 0][6 if with_colons else 4].extend(range(len(words)))
        return found
    for at, word in enumerate(words):
        found[1 if "/" in word else 2 if "-" in word else 0][6 if ":" in word else 4].append(at)
    return found


def _addresses(version: int, words: Sequence[str], rows: list[int], left: list[int]) -> Read:
    family = FAMILIES[version]
    kept, packed = _packed(version, [words[at] for at in rows], rows, left)
    return Read(kept, family.keys(family.addresses(packed), family.width))


def _networks(version: int, words: Sequence[str], rows: list[int], left: list[int], masked: list[int] | None) -> Read:
    """With bits behind their prefix, they are left where there is no `masked` to be among."""
    family, known = FAMILIES[version], _LENGTHS[version]
    parts = "/".join([words[at] for at in rows]).split("/") if rows else []
    lengths = list(map(known.get, parts[1::2]))
    if len(parts) != 2 * len(rows) or None in lengths:
        fine = [word.count("/") == 1 and word.partition("/")[2] in known for word in (words[at] for at in rows)]
        left += [at for at, is_fine in zip(rows, fine, strict=True) if not is_fine]
        rest = [at for at, is_fine in zip(rows, fine, strict=True) if is_fine]
        return _networks(version, words, rest, left, masked)
    unread: list[int] = []
    kept, packed = _packed(version, parts[::2], range(len(rows)), unread)
    left += [rows[at] for at in unread]
    keys = family.keys(family.addresses(packed), np.array(lengths, np.uint8)[kept])
    networks = family.without_host_bits(keys)
    has_host_bits = family.firsts(keys) != networks
    numbers = np.array(rows, np.intp)[kept]
    if has_host_bits.any():
        (left if masked is None else masked).extend(numbers[has_host_bits].tolist())
        if masked is not None:
            return Read(numbers, family.keys(networks, family.lengths(keys)))
        numbers, keys = numbers[~has_host_bits], keys[~has_host_bits]
    return Read(numbers, keys)


def _ranges(version: int, words: Sequence[str], rows: list[int], left: list[int]) -> Read:
    """Ranges that are no prefix: those that are one are left to be read singly, which is rare."""
    family = FAMILIES[version]
    parts = "-".join([words[at] for at in rows]).split("-") if rows else []
    if len(parts) != 2 * len(rows):
        left += [at for at in rows if words[at].count("-") != 1]
        return _ranges(version, words, [at for at in rows if words[at].count("-") == 1], left)
    unread: list[int] = []
    packed = _inet_pton(version, parts, range(len(parts)), unread)[1]
    if unread:
        wrong = {at >> 1 for at in unread}
        left += [rows[at] for at in wrong]
        return _ranges(version, words, [row for at, row in enumerate(rows) if at not in wrong], left)
    ends = family.addresses(packed)
    firsts, lasts = ends[::2], ends[1::2]
    numbers = np.array(rows, np.intp)
    odd = (firsts >= lasts) | _are_prefixes(version, firsts, lasts) | _is_mapped(version, firsts)
    left += numbers[odd].tolist()
    return Read(numbers[~odd], family.range_keys(firsts[~odd], lasts[~odd]))


def _are_prefixes(version: int, firsts: Column, lasts: Column) -> Column:
    if version == 4:
        differing = firsts ^ lasts
        found: Column = ((differing & (differing + np.uint64(1))) == 0) & ((firsts & differing) == 0)
        return found
    family = FAMILIES[version]
    return np.fromiter(
        (
            not (first ^ last) & ((first ^ last) + 1) and not first & (first ^ last)
            for first, last in zip(family.ints(firsts), family.ints(lasts), strict=True)
        ),
        bool,
        len(firsts),
    )


def _packed(version: int, words: list[str], rows: Sequence[int], left: list[int]) -> tuple[Column, bytes]:
    """Addresses in network byte order, and which rows they are from. IPv4-mapped ones are left to be read singly."""
    kept, packed = _inet_pton(version, words, rows, left)
    if version == 6 and _MAPPED in packed:
        addresses = FAMILIES[6].addresses(packed)
        mapped = _is_mapped(6, addresses)
        left += kept[mapped].tolist()
        return kept[~mapped], addresses[~mapped].tobytes()
    return kept, packed


def _inet_pton(version: int, words: list[str], rows: Sequence[int], left: list[int]) -> tuple[Column, bytes]:
    family = _FAMILY_OF[version]
    with suppress(OSError, ValueError):
        return np.array(rows, np.intp), b"".join(map(inet_pton, repeat(family), words))
    parts, fine = [], []
    for word, row in zip(words, rows, strict=True):
        try:
            parts.append(inet_pton(family, word))
            fine.append(row)
        except (OSError, ValueError):
            left.append(row)
    return np.array(fine, np.intp), b"".join(parts)


def _is_mapped(version: int, addresses: Column) -> Column:
    if version == 4:
        return np.zeros(len(addresses), bool)
    octets = np.ascontiguousarray(addresses).view(np.uint8).reshape(-1, 16)
    found: Column = (octets[:, :12] == np.frombuffer(_MAPPED, np.uint8)).all(axis=1)
    return found


def _of(column: Column | None, rows: Column) -> Column | None:
    return None if column is None else column[rows]
