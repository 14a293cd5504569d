"""What a text lists: values that the readers of texts make and everybody else computes with.

Plain addresses come by the million, so they are columns of numbers; whatever says more is an object of its own.
Not here: any reading, any file, and the meaning of an entry.
"""

from __future__ import annotations  # array[int] cannot be evaluated before Python 3.12

from array import array
from dataclasses import dataclass
from typing import NamedTuple, Self

from xdropd.text.addresses import Span


class Entry(NamedTuple):
    """One entry as it was written."""

    span: Span
    line: int
    """Counted from 1; 0 where there is none."""
    reason: str = ""
    until: float | None = None
    """Seconds since the epoch at which it is over; None: never."""


@dataclass(slots=True)
class Column:
    """Plain addresses of one version in file order, duplicates included.

    `keys` are host-order integers: array('I') for IPv4, a list for IPv6. `lines` runs parallel to it, counted from 1.
    """

    keys: array[int] | list[int]
    lines: array[int]

    @classmethod
    def empty(cls, version: int) -> Self:
        """A column without addresses."""
        return cls(array("I") if version == 4 else [], array("I"))

    def __len__(self) -> int:
        return len(self.keys)

    def append(self, key: int, line: int) -> None:
        """Add one address."""
        self.keys.append(key)
        self.lines.append(line)


@dataclass(frozen=True, slots=True)
class Listing:
    """What one text lists."""

    plain4: Column
    """IPv4 addresses that say nothing more than themselves."""
    plain6: Column
    """IPv6 addresses that say nothing more than themselves."""
    entries: tuple[Entry, ...]
    """Everything else, in file order: networks, ranges, and whatever has a reason or an end."""

    @classmethod
    def empty(cls) -> Self:
        """A listing of nothing."""
        return cls(Column.empty(4), Column.empty(6), ())

    @property
    def count(self) -> int:
        """Entries as written: a network is one, and so is a duplicate."""
        return len(self.plain4) + len(self.plain6) + len(self.entries)
