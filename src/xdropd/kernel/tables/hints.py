"""Hints: which sources need a full lookup. Written by the daemon through mmap(2), read by every packet.

The arithmetic here is that of "The hints" in xdrop.bpf.c: how an address or a prefix finds its bits. A bit that is set
for nothing costs a lookup; a bit that is missing would hide a listed source. So bits are set before a record is there,
and never taken back: a new generation starts with none.
"""

import mmap
from collections.abc import Mapping
from typing import Any

import numpy as np

from xdropd.columns.prefixes import FAMILIES, Column, runs
from xdropd.kernel import abi, libbpf

WORDS_AT_LEAST = 1 << 8
WORDS_AT_MOST = 1 << 24  # what the program's hash can tell apart
_ADDRESSES_A_WORD = 8  # at most, and at least half of it: few false alarms, in 1 MB for a million
_PREFIXES_A_WORD = 4

_FOR_WORD = np.uint64(0x9E3779B97F4A7C15)  # HASH_FOR_WORD
_FOR_BITS = np.uint64(0xBF58476D1CE4E5B9)  # HASH_FOR_BITS
_WIDE_BELOW = {4: 13, 6: 20}  # NARROW4, NARROW6: shorter prefixes are wide
_NARROW6 = np.uint64((1 << 32) - (1 << 32 - _WIDE_BELOW[6]))
_CHUNK = 1 << 18


def words_for(keys: int, *, of_prefixes: bool) -> int:
    """How many words a filter for so many keys gets: a power of two."""
    keys_a_word = _PREFIXES_A_WORD if of_prefixes else _ADDRESSES_A_WORD
    return min(max(1 << (keys // keys_a_word).bit_length(), WORDS_AT_LEAST), WORDS_AT_MOST)


class Hints:
    """The hint maps of one generation, by name. Their descriptors belong to the generation."""

    def __init__(self, maps: Mapping[str, int]) -> None:
        self._maps = maps
        self._views: dict[str, Column] = {}

    def set_addresses(self, version: int, keys: Column) -> int:
        """Lead to these addresses, given as prefixes of full length; how many of them were not led to."""
        return sum(
            self._set("address_filter", _folded(version, keys[at : at + _CHUNK])) for at in range(0, len(keys), _CHUNK)
        )

    def set_prefixes(self, version: int, keys: Column) -> int:
        """Lead to these prefixes; how many of them were not led to."""
        return sum(self._set_some_prefixes(version, keys[at : at + _CHUNK]) for at in range(0, len(keys), _CHUNK))

    def _set_some_prefixes(self, version: int, keys: Column) -> int:
        lengths = FAMILIES[version].lengths(keys)
        changed = self._set("prefix_filter", _folded_prefixes(version, keys))
        overview = self._view("hints", abi.HINTS)["ipv4" if version == 4 else "ipv6"]
        is_wide = lengths < _WIDE_BELOW[version]
        if is_wide.any():
            wide = lengths[is_wide]
            bits = np.bitwise_or.reduce(np.uint64(1) << (32 - wide).astype(np.uint64), keepdims=True)
            slash12s = _places(_tops(version, keys[is_wide]), wide, 12) >> np.uint64(20)
            changed += _or_at(overview["wide_lengths"], np.zeros(1, np.intp), bits)
            changed += self._set_bits(overview["slash12s"][0], slash12s)
        if not is_wide.all():
            changed += self._set_granules(version, keys[~is_wide], lengths[~is_wide], overview["granules"][0])
        return changed

    def _set_granules(self, version: int, keys: Column, lengths: Column, granules: Column) -> int:
        tops = _tops(version, keys)
        if version == 4:
            places = _places(tops, lengths, 16) >> np.uint64(16)
            lengths = np.repeat(lengths, _repeated(lengths, 16))
        else:
            tops[lengths < 32] &= _NARROW6
            places = (tops * (_FOR_WORD >> np.uint64(32)) & np.uint64(0xFFFFFFFF)) >> np.uint64(16)
        changed = self._set_bits(granules, places)
        for length in np.flatnonzero(np.bincount(lengths)).tolist():
            changed += self._set_length(version, places[lengths == length].astype(np.int64), length)
        return changed

    def _set_length(self, version: int, granules: Column, length: int) -> int:
        if version == 4:
            return _or_at(self._view("lengths4", abi.LENGTHS4), granules, np.uint64(1) << np.uint64(32 - length))
        # A length is a bit of the word of the address in which its netmask ends; /32 is the lowest of the first word.
        word = (max(length, 1) - 1) >> 5
        bit = np.uint32(1) << np.uint32(32 * (word + 1) - length)
        return _or_at(self._view("lengths6", np.dtype("u4")), granules * 4 + word, bit)

    def _set(self, name: str, folded: Column) -> int:
        """Three bits in one word for each value (struct question)."""
        words = self._view(name, np.dtype("u8"))
        where = (folded * _FOR_WORD >> np.uint64(40)) & np.uint64(len(words) - 1)
        mixed = folded * _FOR_BITS
        one, six_bits = np.uint64(1), np.uint64(63)
        bits = one << (mixed >> np.uint64(58))
        bits |= one << (mixed >> np.uint64(52) & six_bits)
        bits |= one << (mixed >> np.uint64(46) & six_bits)
        return _or_at(words, where, bits)

    @staticmethod
    def _set_bits(words: Column, places: Column) -> int:
        is_named = np.zeros(64 * len(words), bool)
        is_named[places] = True
        places = np.flatnonzero(is_named).astype(np.uint64)
        return _or_at(words, places >> np.uint64(6), np.uint64(1) << (places & np.uint64(63)))

    def _view(self, name: str, kind: np.dtype[Any]) -> Column:
        """The whole map as memory. A map is unmapped when its view goes."""
        if name not in self._views:
            shape = libbpf.map_shape(self._maps[name])
            # The kernel rounds each value up to eight bytes (array_map_elem_size, kernel/bpf/arraymap.c).
            size = -(-shape.value_bytes // 8) * 8 * shape.max_entries
            self._views[name] = np.frombuffer(mmap.mmap(self._maps[name], size), kind)
        return self._views[name]

    def close(self) -> None:
        """Unmap."""
        self._views.clear()


def _tops(version: int, keys: Column) -> Column:
    """The first 32 bits of each prefix, uint64."""
    if version == 4:
        return FAMILIES[4].firsts(keys)
    return np.ascontiguousarray(FAMILIES[6].firsts(keys)).view(">u4").reshape(-1, 4)[:, 0].astype(np.uint64)


def _places(tops: Column, lengths: Column, bits: int) -> Column:
    """Where all prefixes of `bits` begin that wider ones hold, or that hold longer ones, by the first 32 bits."""
    repeated = _repeated(lengths, bits)
    steps = runs(np.zeros(len(repeated), np.int64), repeated).astype(np.uint64)
    places: Column = np.repeat(tops, repeated) + (steps << np.uint64(32 - bits))
    return places


def _repeated(lengths: Column, bits: int) -> Column:
    """How many those are of each."""
    return np.int64(1) << (bits - np.minimum(lengths, bits)).astype(np.int64)


def _folded(version: int, keys: Column) -> Column:
    firsts = FAMILIES[version].firsts(keys)
    return firsts if version == 4 else _folded6(np.ascontiguousarray(firsts))


def _folded_prefixes(version: int, keys: Column) -> Column:
    family = FAMILIES[version]
    masks = family.masks(keys)
    if version == 4:  # PREFIX_KEY: the bytes of the key, read as one number
        numbers = family.firsts(keys) << np.uint64(32) | np.frombuffer(masks, ">u4").astype(np.uint64)
        return numbers.astype(">u8").view(np.uint64)
    return _folded6(np.ascontiguousarray(family.firsts(keys))) + _folded6(np.frombuffer(masks, "S16"))


def _folded6(addresses: Column) -> Column:
    """`folded` in xdrop.bpf.c, which takes the words of an address as they lie in memory."""
    words = addresses.view(np.uint32).reshape(-1, 4).astype(np.uint64)
    upper = words[:, 0] << np.uint64(32) | words[:, 1]
    lower = words[:, 2] << np.uint64(32) | words[:, 3]
    folded: Column = (upper * _FOR_WORD ^ lower) * _FOR_BITS ^ lower >> np.uint64(32)
    return folded


def _or_at(words: Column, where: Column, bits: Column | np.unsignedinteger[Any]) -> int:
    """Set bits in words, of which one may be named more than once; of how many rows some bits were missing.

    Of rows for the same word the last one is written. So the others are written again, until none is missing.
    """
    wanted: Column = np.broadcast_to(bits, len(where))
    found = 0
    while True:
        there = words[where]
        is_missing = (there & wanted) != wanted
        if not is_missing.any():
            return found
        where, wanted, there = where[is_missing], wanted[is_missing], there[is_missing]
        found = found or len(where)
        words[where] = there | wanted
