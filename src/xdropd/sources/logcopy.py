"""The log of blocks once more, in a memory file that outlives the process in systemd's store.

So what is in force stays in force, with its end and its reason, when the next process cannot read the log on the disk,
or finds it damaged. Knows nothing of what the lines say.

Store name: blocks.NUMBER, the highest one counts; those below are left from an end between two steps.
"""

import os
import stat
from collections.abc import Iterable, Iterator

from xdropd.host.systemd import Systemd

_PREFIX = "blocks."
_PIECE_BYTES = 1 << 18


class LogCopy:
    """See the module. Every method but `adopt` raises OSError where there is no memory; nothing has changed then."""

    def __init__(self, systemd: Systemd) -> None:
        self._systemd = systemd
        self.number = 1
        """Another one for each file."""
        self._descriptor = _memory_file()
        self._prepared: int | None = None

    def adopt(self, inherited: dict[str, list[int]]) -> None:
        """Take from the store's descriptors those that are ours; go on with what the process before has kept."""
        found: dict[int, int] = {}
        for name in [name for name in inherited if name.startswith(_PREFIX)]:
            descriptors, number = inherited.pop(name), name.removeprefix(_PREFIX)
            ours = [each for each in descriptors if number.isdecimal() and stat.S_ISREG(os.fstat(each).st_mode)][-1:]
            if descriptors != ours:  # somebody else's, or several of one name
                self._drop(name, *(each for each in descriptors if each not in ours))
                self._systemd.store(dict(zip([name], ours, strict=False)))
            found.update((int(number), each) for each in ours)
        if not found:
            self._systemd.store({f"{_PREFIX}{self.number}": self._descriptor})
            return
        os.close(self._descriptor)
        self.number, self._descriptor = max(found.items())
        for other in found.keys() - {self.number}:
            self._drop(f"{_PREFIX}{other}", found[other])

    def read(self, at: int = 0, size: int | None = None) -> bytes:
        """All of it, or a part."""
        return os.pread(self._descriptor, os.fstat(self._descriptor).st_size - at if size is None else size, at)

    def append(self, end: int, pieces: Iterable[bytes]) -> None:
        """Put lines behind `end`, where what counts ends."""
        at = end
        try:
            for piece in pieces:
                _write(self._descriptor, at, piece)
                at += len(piece)
        except OSError:
            self.cut(end)
            raise

    def cut(self, end: int) -> None:
        """Take back what was put behind `end`."""
        os.ftruncate(self._descriptor, end)

    def prepare(self, pieces: Iterable[bytes]) -> Iterator[None]:
        """Make another one of these pieces, a file of its own; yields after each. It counts with `commit`."""
        self._give_up()
        descriptor = self._prepared = _memory_file()
        end = 0
        for piece in pieces:
            _write(descriptor, end, piece)
            end += len(piece)
            yield

    def prepared(self) -> Iterator[bytes]:
        """What was prepared, in pieces."""
        assert self._prepared is not None
        at = 0
        while piece := os.pread(self._prepared, _PIECE_BYTES, at):
            yield piece
            at += len(piece)

    def commit(self) -> int:
        """Let what was prepared take the place of what was before; how long it is. Never half in the store."""
        assert self._prepared is not None
        before = f"{_PREFIX}{self.number}", self._descriptor
        self.number, self._descriptor, self._prepared = self.number + 1, self._prepared, None
        self._systemd.store({f"{_PREFIX}{self.number}": self._descriptor})
        self._drop(*before)
        return os.fstat(self._descriptor).st_size

    def _give_up(self) -> None:
        if self._prepared is not None:
            os.close(self._prepared)
            self._prepared = None

    def _drop(self, name: str, *descriptors: int) -> None:
        self._systemd.forget([name])
        for descriptor in descriptors:
            os.close(descriptor)


def _memory_file() -> int:
    return os.memfd_create("xdropd-blocks", os.MFD_CLOEXEC)


def _write(descriptor: int, at: int, data: bytes) -> None:
    written = 0
    while written < len(data):
        written += os.pwrite(descriptor, data[written:], at + written)
