"""Lines that are an IPv4 address or network and nothing else, read as arithmetic over their bytes.

Large lists are made of such lines, and an object of Python's for each would take most of the time. So this reads the
strictest form only, `a.b.c.d` and `a.b.c.d/n` as inet_pton(3) takes them, without a space, a zero too many or a bit
behind the prefix. Every other line is given back as it is: whether it is wrong, and in which words, others tell.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from xdropd.columns.prefixes import FAMILIES, Column

_FAMILY = FAMILIES[4]
_ZERO, _NEWLINE = b"0\n"
_BEFORE = b"\n\n\n"  # so that there are three bytes before the end of every number
# What stands behind each number, by how many there are.
_FORMS = {len(form): np.frombuffer(form, np.uint8)[:, np.newaxis] for form in (b"...\n", b".../\n")}
# By the digits of a number, up to 4 for all that are more: the least that is not padded with zeros; 1000 is no number.
_LEAST = np.array([1000, 0, 10, 100, 1000], np.uint16)
_SHIFTS = np.array([[24], [16], [8], [0]], np.uint64)


class Lines(NamedTuple):
    """What some lines say, which are counted from 0."""

    rows: Column
    """Which lines are read."""
    keys: Column
    """The prefix in each of them."""
    others: Column
    """Which lines are not read."""
    rest: bytes
    """The text of these, whole lines."""


def read(text: bytes) -> Lines:
    """Read whole lines, each with its newline. Memory is some twenty times the text: give it by the chunk."""
    octets = np.frombuffer(_BEFORE + text, np.uint8)
    digits = octets - _ZERO  # what is no digit becomes 10 or more
    is_digit = digits < 10
    marks = np.flatnonzero(~is_digit)[len(_BEFORE) - 1 :]  # between two of them is a number, or nothing
    values = _numbers(digits, is_digit, marks)
    signs = octets[marks]
    ends = np.flatnonzero(signs == _NEWLINE)
    in_line = np.diff(ends)

    keys = np.zeros(len(in_line), np.uint64)
    is_read = np.zeros(len(in_line), bool)
    for count, form in _FORMS.items():
        rows = np.flatnonzero(in_line == count)
        places = ends[rows] + np.arange(1, count + 1)[:, np.newaxis]  # a row for each number of a line
        found = values[places]
        fine = (found[:4] <= 255).all(axis=0) & (signs[places] == form).all(axis=0)
        firsts = np.bitwise_or.reduce(found[:4].astype(np.uint64) << _SHIFTS, axis=0)
        lengths = found[4] if count == 5 else np.full(len(rows), 32)
        fine &= lengths <= 32
        read_keys = _FAMILY.keys(firsts[fine], lengths[fine])
        keys[rows[fine]] = read_keys
        is_read[rows[fine]] = _FAMILY.without_host_bits(read_keys) == firsts[fine]
    if is_read.all():
        return Lines(np.arange(len(keys)), keys, np.zeros(0, np.intp), b"")
    rest = octets[len(_BEFORE) :][np.repeat(~is_read, np.diff(marks[ends]))].tobytes()
    return Lines(np.flatnonzero(is_read), keys[is_read], np.flatnonzero(~is_read), rest)


def _numbers(digits: Column, is_digit: Column, marks: Column) -> Column:
    """The number before each mark, uint16; 1000 where there is none, a longer one, or one that is padded with zeros."""
    ones = digits * is_digit
    tens = ones[1:] + ones[:-1] * 10
    hundreds = ones[:-2] * is_digit[1:-1]
    before = marks[1:] - 1
    found = np.full(len(marks), 1000, np.uint16)
    found[1:] = tens[before - 1] + hundreds[before - 2].astype(np.uint16) * 100
    found[1:][found[1:] < _LEAST[np.minimum(np.diff(marks) - 1, 4)]] = 1000
    return found
