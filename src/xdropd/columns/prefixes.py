"""Prefixes and ranges of one address family as sortable keys: the only file that knows how a key is made.

The key of a prefix is its first address followed by its length, so ascending keys are a forest in pre-order: a prefix
stands before all that lies within it, and an address is a prefix of full length. The key of a range is its first
address followed by its last. IPv4 keys are uint64 (first << 8 | length, first << 32 | last), IPv6 keys are bytes in
network order ('S17', 'S32'), which compare as numbers do.

An address column is uint64 for IPv4 and 'S16' for IPv6. numpy strips zero bytes at the end of an 'S' value that is
taken out alone, never within a column: `packed` and `bytes_of` are the ways out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Column = NDArray[Any]
else:
    Column = np.ndarray  # numpy.typing takes a megabyte

_LENGTH_BITS = 8
_HALF = np.uint64(17)  # bits of a selection's code
_LOW_HALF = (1 << 17) - 1
_BACKWARDS = 0xFFFF_FFFF - _LOW_HALF
_FEW = 1 << 10


class Family:
    """One address family. Columns in, columns out; nothing is checked."""

    version: int
    width: int
    key_type: np.dtype[Any]
    range_type: np.dtype[Any]
    address_type: np.dtype[Any]

    def addresses(self, packed: bytes) -> Column:
        """Addresses in network byte order, 4 or 16 bytes each, as a column."""
        raise NotImplementedError

    def packed(self, addresses: Column) -> bytes:
        """The inverse of `addresses`."""
        raise NotImplementedError

    def keys(self, firsts: Column, lengths: Column | int) -> Column:
        """Keys of prefixes."""
        raise NotImplementedError

    def range_keys(self, firsts: Column, lasts: Column) -> Column:
        """Keys of ranges."""
        raise NotImplementedError

    def firsts(self, keys: Column) -> Column:
        """First addresses of prefixes."""
        raise NotImplementedError

    def lasts(self, keys: Column) -> Column:
        """Last addresses of prefixes."""
        raise NotImplementedError

    def lengths(self, keys: Column) -> Column:
        """Lengths of prefixes in bits, uint8."""
        raise NotImplementedError

    def masks(self, keys: Column) -> bytes:
        """Netmasks of prefixes in network byte order, packed."""
        raise NotImplementedError

    def host_masks(self, keys: Column) -> Column:
        """What a netmask leaves, as addresses: how many addresses there are behind the first one."""
        raise NotImplementedError

    def without_host_bits(self, keys: Column) -> Column:
        """The addresses in keys of what need not be prefixes yet, with the bits behind the length set to zero."""
        raise NotImplementedError

    def shortened(self, keys: Column, length: int) -> Column:
        """Of each prefix the one of `length` bits that holds it; none of them may be shorter."""
        raise NotImplementedError

    def ends_of_ranges(self, keys: Column) -> tuple[Column, Column]:
        """First and last addresses of ranges."""
        raise NotImplementedError

    def behind(self, firsts: Column, lasts: Column) -> Column:
        """How many addresses there are behind each first one, up to its last, as addresses."""
        raise NotImplementedError

    def selection_keys(self, codes: Column) -> Column:
        """Keys that stand for selections among those of ranges; codes are uint64 below 2^34, and not 0.

        They are ranges that run backwards, which no range does.
        """
        raise NotImplementedError

    def selections_in(self, range_keys: Column) -> Column:
        """The inverse: codes, and 0 for each key that is one of a range."""
        raise NotImplementedError

    def words(self, addresses: Column) -> Column:
        """Addresses as numbers of 64 bits, a row of them for each word, the most significant first."""
        raise NotImplementedError

    def of_words(self, words: Column) -> Column:
        """The inverse of `words`."""
        raise NotImplementedError

    # ---- single ones ----

    def key(self, first: int, length: int) -> Column:
        """A column of one prefix."""
        return self.keys(self.address(first), length)

    def range_key(self, first: int, last: int) -> Column:
        """A column of one range."""
        return self.range_keys(self.address(first), self.address(last))

    def address(self, number: int) -> Column:
        """A column of one address."""
        return self.addresses(number.to_bytes(self.width // 8, "big"))

    def ints(self, addresses: Column) -> list[int]:
        """Python's integers."""
        size, data = self.width // 8, self.packed(addresses)
        return [int.from_bytes(data[at : at + size], "big") for at in range(0, len(data), size)]

    # ---- built on these ----

    def chain(self, first: int, length: int, lengths: list[int]) -> Column:
        """Keys of the prefixes of these lengths, ascending, that hold a prefix; lengths above its own are left out."""
        size = self.width
        data = b"".join(
            (first >> size - bits << size - bits).to_bytes(size // 8, "big") for bits in lengths if bits <= length
        )
        return self.keys(self.addresses(data), np.array([bits for bits in lengths if bits <= length], np.uint8))

    def split(self, firsts: Column, lasts: Column) -> tuple[Column, Column]:
        """The fewest prefixes that cover exactly each range: (row of the range, key of a prefix), by key and row.

        Upwards from single addresses to the height at which both ends differ for the last time. Below it, what sticks
        out on either side of the next larger block is a prefix of its own; the lowest one holds the end itself.
        """
        left, right = self.words(firsts), self.words(lasts)
        tops = _heights(left ^ right)
        rows = np.arange(len(firsts), dtype=np.uint32)
        found: list[tuple[Column, Column]] = [(rows[tops < 0], self.keys(firsts[tops < 0], self.width))]
        begun = np.zeros((2, len(rows)), bool)  # whether the prefix with the end itself was found, on either side
        nothing = self._mask(0)
        for height in range(self.width):
            live = tops >= height
            if not live.all():
                rows, tops, begun = rows[live], tops[live], begun[:, live]
                left, right = left[:, live], right[:, live]
            if not len(rows):
                break
            bit, upper = self._mask(1 << height), self._mask(-1 << height)
            is_top = tops == height
            one, other = begun[0], begun[1]
            is_one, is_other = (left & bit).any(axis=0), (right & bit).any(axis=0)
            for which, ends, added, kept, length in (
                (~is_top & (one != is_one), left, bit, upper, self.width - height),
                (~is_top & (other == is_other), right, nothing, upper ^ bit, self.width - height),
                (is_top & ~one & other, left, nothing, upper, self.width - height),
                (is_top & ~other & one, right, nothing, upper, self.width - height),
                (is_top & ~one & ~other, left, nothing, upper, self.width - height - 1),
            ):
                if which.any():
                    blocks = (ends[:, which] | added) & kept
                    found.append((rows[which], self.keys(self.of_words(blocks), length)))
            one |= is_one
            other |= ~is_other
        all_rows, all_keys = (np.concatenate(columns) for columns in zip(*found, strict=True))
        places = order_of_equals(all_keys, all_rows)
        return all_rows[places], all_keys[places]

    def _mask(self, number: int) -> Column:
        """The low bits of a number, to combine with `words`."""
        return self.words(self.address(number & (1 << self.width) - 1))

    def empty_keys(self) -> Column:
        """No prefixes."""
        return np.zeros(0, self.key_type)


_POWERS = np.uint64(1) << np.arange(64, dtype=np.uint64)


def _heights(words: Column) -> Column:
    """The place of the highest bit that is set in each number, given as `Family.words` gives them; -1 where none is."""
    found = np.full(words.shape[1], -1, np.int64)
    for place, word in enumerate(reversed(words)):
        filled = np.flatnonzero(word)
        found[filled] = 64 * place + np.searchsorted(_POWERS, word[filled], side="right") - 1
    return found


class _IPv4(Family):
    version, width = 4, 32
    key_type = np.dtype(np.uint64)
    range_type = np.dtype(np.uint64)
    address_type = np.dtype(np.uint64)
    _length_mask = np.uint64((1 << _LENGTH_BITS) - 1)
    _shift = np.uint64(_LENGTH_BITS)
    _range_shift = np.uint64(32)
    _host_masks = np.array([(1 << 32 - bits) - 1 for bits in range(33)], np.uint64)

    def addresses(self, packed: bytes) -> Column:
        return np.frombuffer(packed, ">u4").astype(np.uint64)

    def packed(self, addresses: Column) -> bytes:
        return addresses.astype(">u4").tobytes()

    def keys(self, firsts: Column, lengths: Column | int) -> Column:
        return firsts << self._shift | np.asarray(lengths).astype(np.uint64)

    def range_keys(self, firsts: Column, lasts: Column) -> Column:
        return firsts << self._range_shift | lasts

    def firsts(self, keys: Column) -> Column:
        return keys >> self._shift

    def lasts(self, keys: Column) -> Column:
        return keys >> self._shift | self._host_masks[self.lengths(keys)]

    def lengths(self, keys: Column) -> Column:
        return (keys & self._length_mask).astype(np.uint8)

    def masks(self, keys: Column) -> bytes:
        return (~self._host_masks[self.lengths(keys)]).astype(">u4").tobytes()

    def host_masks(self, keys: Column) -> Column:
        return self._host_masks[self.lengths(keys)]

    def without_host_bits(self, keys: Column) -> Column:
        addresses: Column = self.firsts(keys) & ~self._host_masks[self.lengths(keys)]
        return addresses

    def shortened(self, keys: Column, length: int) -> Column:
        return self.keys(self.firsts(keys) & ~self._host_masks[length], length)

    def ends_of_ranges(self, keys: Column) -> tuple[Column, Column]:
        return keys >> self._range_shift, keys & np.uint64(0xFFFF_FFFF)

    def behind(self, firsts: Column, lasts: Column) -> Column:
        return lasts - firsts

    def selection_keys(self, codes: Column) -> Column:
        return self.range_keys(np.uint64(_BACKWARDS) | codes >> _HALF, codes & np.uint64(_LOW_HALF))

    def selections_in(self, range_keys: Column) -> Column:
        firsts, lasts = self.ends_of_ranges(range_keys)
        codes: Column = np.where(firsts > lasts, (firsts & np.uint64(_LOW_HALF)) << _HALF | lasts, np.uint64(0))
        return codes

    def words(self, addresses: Column) -> Column:
        return addresses[np.newaxis]

    def of_words(self, words: Column) -> Column:
        column: Column = words[0]
        return column


class _IPv6(Family):
    version, width = 6, 128
    key_type = np.dtype("S17")
    range_type = np.dtype("S32")
    address_type = np.dtype("S16")
    _host_masks = np.frombuffer(
        b"".join(((1 << 128 - bits) - 1).to_bytes(16, "big") for bits in range(129)), np.uint8
    ).reshape(129, 16)

    def addresses(self, packed: bytes) -> Column:
        return np.frombuffer(packed, "S16")

    def packed(self, addresses: Column) -> bytes:
        return addresses.tobytes()

    def keys(self, firsts: Column, lengths: Column | int) -> Column:
        made = np.empty((len(firsts), 17), np.uint8)
        made[:, :16] = _octets(firsts, 16)
        made[:, 16] = lengths
        return made.view("S17").ravel()

    def range_keys(self, firsts: Column, lasts: Column) -> Column:
        return np.hstack((_octets(firsts, 16), _octets(lasts, 16))).view("S32").ravel()

    def firsts(self, keys: Column) -> Column:
        return np.ascontiguousarray(_octets(keys, 17)[:, :16]).view("S16").ravel()

    def lasts(self, keys: Column) -> Column:
        octets = _octets(keys, 17)
        addresses: Column = (octets[:, :16] | self._host_masks[octets[:, 16]]).view("S16").ravel()
        return addresses

    def lengths(self, keys: Column) -> Column:
        return _octets(keys, 17)[:, 16].copy()

    def masks(self, keys: Column) -> bytes:
        return (~self._host_masks[self.lengths(keys)]).tobytes()

    def host_masks(self, keys: Column) -> Column:
        return self._host_masks[self.lengths(keys)].view("S16").ravel()

    def without_host_bits(self, keys: Column) -> Column:
        octets = _octets(keys, 17)
        addresses: Column = (octets[:, :16] & ~self._host_masks[octets[:, 16]]).view("S16").ravel()
        return addresses

    def shortened(self, keys: Column, length: int) -> Column:
        octets = _octets(keys, 17).copy()
        octets[:, :16] &= ~self._host_masks[length]
        octets[:, 16] = length
        return octets.view("S17").ravel()

    def ends_of_ranges(self, keys: Column) -> tuple[Column, Column]:
        octets = _octets(keys, 32)
        return (
            np.ascontiguousarray(octets[:, :16]).view("S16").ravel(),
            np.ascontiguousarray(octets[:, 16:]).view("S16").ravel(),
        )

    def behind(self, firsts: Column, lasts: Column) -> Column:
        (first_high, first_low), (last_high, last_low) = self.words(firsts), self.words(lasts)
        borrowed = (last_low < first_low).astype(np.uint64)
        return self.of_words(np.stack((last_high - first_high - borrowed, last_low - first_low)))

    def selection_keys(self, codes: Column) -> Column:
        firsts = self.of_words(np.stack((np.full(len(codes), ~np.uint64(0)), codes)))
        return self.range_keys(firsts, self.of_words(np.zeros((2, len(codes)), np.uint64)))

    def selections_in(self, range_keys: Column) -> Column:
        firsts, lasts = self.ends_of_ranges(range_keys)
        codes: Column = np.where(firsts > lasts, self.words(firsts)[1], np.uint64(0))
        return codes

    def words(self, addresses: Column) -> Column:
        return np.ascontiguousarray(_octets(addresses, 16).view(">u8").T, np.uint64)

    def of_words(self, words: Column) -> Column:
        return np.ascontiguousarray(words.T, ">u8").view("S16").ravel()


def _octets(column: Column, size: int) -> Column:
    return np.ascontiguousarray(column).view(np.uint8).reshape(-1, size)


FAMILIES: dict[int, Family] = {4: _IPv4(), 6: _IPv6()}


def order(keys: Column) -> Column:
    """The rows in ascending order of their keys, equal ones in the order in which they are."""
    if len(keys) < _FEW:
        return np.argsort(keys, kind="stable")
    return _order_of_texts(keys) if keys.dtype.kind == "S" else _order_of_numbers(keys)


def _order_of_numbers(keys: Column) -> Column:
    """Numbers alone are sorted in half the time, so where there is room for it the row stands behind the key."""
    bits = np.uint64(len(keys).bit_length())
    if int(keys.max()).bit_length() + int(bits) > 64:
        return np.argsort(keys, kind="stable")
    together = keys << bits | np.arange(len(keys), dtype=np.uint64)
    together.sort()
    return (together & ((np.uint64(1) << bits) - np.uint64(1))).astype(np.intp)


def _order_of_texts(keys: Column) -> Column:
    """By the first eight bytes as a number, in half the time that texts take; few keys begin with the same ones."""
    starts = _octets(keys, keys.dtype.itemsize)[:, :8].copy().view(">u8").ravel().astype(np.uint64)
    rows = np.argsort(starts, kind="stable")
    is_tied = _stand_together(starts[rows])
    tied = rows[is_tied]
    rows[is_tied] = tied[np.argsort(keys[tied], kind="stable")]
    return rows


def order_of_equals(keys: Column, ranks: Column) -> Column:
    """The rows in ascending order of their keys, equal ones in that of their ranks."""
    rows = order(keys)
    is_tied = _stand_together(keys[rows])
    tied = rows[is_tied]
    rows[is_tied] = tied[np.lexsort((ranks[tied], keys[tied]))]
    return rows


def first_of_each(ascending: Column) -> Column:
    """Which of these are the first of their value."""
    found = np.ones(len(ascending), bool)
    found[1:] = ascending[1:] != ascending[:-1]
    return found


def _stand_together(column: Column) -> Column:
    """Which of these have a neighbour that is the same."""
    found = ~first_of_each(column)
    found[:-1] |= found[1:]
    return found


def find(sorted_keys: Column, keys: Column) -> tuple[Column, Column]:
    """Where keys stand in an ascending unique column: (rows, whether it is there); rows are in bounds if it is."""
    if len(keys) == len(sorted_keys) and bool((keys == sorted_keys).all()):
        return np.arange(len(keys)), np.ones(len(keys), bool)
    rows = np.searchsorted(sorted_keys, keys)
    if not len(sorted_keys):
        return rows, np.zeros(len(keys), bool)
    inside = np.minimum(rows, len(sorted_keys) - 1)
    return inside, sorted_keys[inside] == keys


def match(ones: Column, others: Column) -> tuple[Column, Column]:
    """Rows of what is in both of two ascending unique columns, in the one and in the other."""
    if len(ones) <= len(others):
        rows, found = find(others, ones)
        return np.flatnonzero(found), rows[found]
    rows, found = find(ones, others)
    return rows[found], np.flatnonzero(found)


def without(keys: Column, others: Column) -> Column:
    """What is in the first of two ascending unique columns and not in the second.

    Where the columns begin and end alike, nothing is searched: most of a list is as it was.
    """
    shorter = min(len(keys), len(others))
    head = _alike(keys[:shorter], others[:shorter])
    tail = min(_alike(keys[::-1][:shorter], others[::-1][:shorter]), shorter - head)
    keys, others = keys[head : len(keys) - tail], others[head : len(others) - tail]
    left = np.ones(len(keys), bool)
    left[match(keys, others)[0]] = False
    rest: Column = keys[left]
    return rest


def _alike(ones: Column, others: Column) -> int:
    """How many of the first rows are the same."""
    if ones is others:
        return len(ones)
    differ = ones != others
    return int(differ.argmax()) if differ.any() else len(ones)


def runs(starts: Column, stops: Column) -> Column:
    """All indices from each start up to its stop, one after the other."""
    lengths = np.maximum(stops - starts, 0)
    if not len(lengths) or not lengths.any():
        return np.zeros(0, np.intp)
    offsets = np.cumsum(lengths) - lengths
    indices: Column = np.arange(lengths.sum(), dtype=np.intp) + np.repeat(starts - offsets, lengths)
    return indices


def union(*columns: Column) -> Column:
    """All that is in any of these columns, ascending and unique."""
    filled = [column for column in columns if len(column)]
    if not filled:
        return columns[0]
    merged = filled[0] if len(filled) == 1 else np.concatenate(filled)
    if not _is_ascending(merged):
        merged = np.sort(merged, kind="stable")  # which is quick where what is sorted already is put together
        merged = merged[first_of_each(merged)]
    return merged


def _is_ascending(column: Column) -> bool:
    return bool((column[1:] > column[:-1]).all())
