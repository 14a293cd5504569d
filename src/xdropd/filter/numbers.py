"""The kernel's numbers for source names, in a memory file that outlives the process in the store.

A source keeps its number, and with it what it has counted, for a day after it left the list: a file that is no longer
included, a caller that has nothing blocked. Then both are forgotten, and another source may get the number; by then
nothing in the kernel may mention it, which is for the caller to see to.

The file has one JSON line for each thing that happened: [NUMBER, NAME] a source has this number and is listed,
[NUMBER, NAME, SECONDS] it left the list then, [NUMBER] it is forgotten. Lines are only ever appended; a torn last one
is passed over. A file that says little is written anew: another one, so that none is ever half written.
"""

import heapq
import json
import os
from collections.abc import Collection, Iterator

_REMEMBERED_SECONDS = 86400.0
_LINES_A_SOURCE = 8  # at most, or the file is written anew
_LINES_AT_LEAST = 1000


class SourceNumbers:
    """See the module. `descriptor` is the file, a new one where there is none yet. Iterates over (name, number)."""

    def __init__(self, descriptor: int | None = None) -> None:
        self.descriptor = _memory_file() if descriptor is None else descriptor
        self._numbers: dict[str, int] = {}
        self._left_s: dict[str, float] = {}
        self._lines = 0
        self._end = os.fstat(self.descriptor).st_size
        names: dict[int, str] = {}
        for line in filter(None, os.pread(self.descriptor, self._end, 0).splitlines()):
            match _read(line):
                case [int(number), str(name)]:
                    names[number] = name
                    self._left_s.pop(name, None)
                case [int(number), str(name), int() | float() as left_s]:
                    names[number] = name
                    self._left_s[name] = left_s
                case [int(number)]:
                    self._left_s.pop(names.pop(number, ""), None)
            self._lines += 1
        self._numbers = {name: number for number, name in names.items()}
        self._highest = max(names, default=0)
        self._free = [number for number in range(1, self._highest) if number not in names]  # a heap, being sorted

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return iter(self._numbers.items())

    @property
    def highest(self) -> int:
        """No number in use is higher."""
        return self._highest

    def number_of(self, name: str) -> int:
        """The number of a source that is listed now, a new one if need be. 0 is nobody's."""
        number = self._numbers.get(name)
        if number is None:
            number = self._free[0] if self._free else self._highest + 1
            self._append(number, name)
            if self._free:
                heapq.heappop(self._free)
            self._highest = max(self._highest, number)
            self._numbers[name] = number
        elif name in self._left_s:
            self._append(number, name)
            del self._left_s[name]
        return number

    def note_listed(self, listed: Collection[str], now_s: float) -> None:
        """These are on the list, and no others: their day begins, unless it has begun before."""
        for name, number in self._numbers.items():
            left_s = self._left_s.get(name)
            if name in listed:
                if left_s is not None:
                    self.number_of(name)
            elif left_s is None or left_s > now_s:  # the clock was set back
                self._append(number, name, now_s)
                self._left_s[name] = now_s

    def over(self, now_s: float) -> dict[str, int]:
        """Sources whose day is over, with their numbers."""
        return {
            name: self._numbers[name] for name, left_s in self._left_s.items() if now_s - left_s >= _REMEMBERED_SECONDS
        }

    def forget(self, name: str) -> None:
        """Give the number of a source away to whoever comes next."""
        number = self._numbers[name]
        self._append(number)
        del self._numbers[name], self._left_s[name]
        heapq.heappush(self._free, number)

    @property
    def wants_renewal(self) -> bool:
        """Whether most of the file is about what has long changed."""
        return self._lines > max(_LINES_AT_LEAST, _LINES_A_SOURCE * len(self._numbers))

    def renewed(self) -> "SourceNumbers":
        """The same in a file of its own."""
        lines = (
            _line(number, name, *([self._left_s[name]] if name in self._left_s else []))
            for name, number in self._numbers.items()
        )
        descriptor = _memory_file()
        with open(descriptor, "wb", closefd=False) as file:
            file.writelines(lines)
        return SourceNumbers(descriptor)

    def _append(self, *fields: str | float) -> None:
        self._end += os.pwrite(self.descriptor, b"\n" + _line(*fields), self._end)
        self._lines += 1


def _memory_file() -> int:
    return os.memfd_create("xdropd-sources", os.MFD_CLOEXEC)


def _line(*fields: str | float) -> bytes:
    return json.dumps(fields).encode() + b"\n"


def _read(line: bytes) -> object:
    try:
        return json.loads(line)
    except ValueError:
        return None
