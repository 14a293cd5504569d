"""A memory file (memfd_create(2)) that outlives the process: things side by side, and one text that says what they are.

The text counts or does not by one write of 16 bytes, so a process that dies at any moment leaves either the text that
was valid or none. Things are only ever appended; what no text names any more gives its memory back and leaves a hole.
Not here: what is in it, and who keeps the descriptor.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from xdropd.host import libc

if TYPE_CHECKING:
    from numpy.typing import NDArray  # which takes a megabyte

_HEAD = struct.Struct("=QQ")  # offset and length of the text; 0: none is valid
_PAGE = 4096


class MemoryFile:
    """See the module. The descriptor belongs to whoever made this. Methods that write raise OSError without memory."""

    def __init__(self, descriptor: int | None = None) -> None:
        self.descriptor = os.memfd_create("xdropd-state", os.MFD_CLOEXEC) if descriptor is None else descriptor
        self._end = max(_PAGE, os.fstat(self.descriptor).st_size)

    def append(self, things: Iterable[NDArray[Any]]) -> tuple[int, int]:
        """Put arrays one behind the other; where they begin, and how many bytes they are."""
        start = at = -(-self._end // _PAGE) * _PAGE
        for thing in things:
            data = np.ascontiguousarray(thing).view(np.uint8).reshape(-1).data
            while data:
                written = os.pwrite(self.descriptor, data, at)
                data, at = data[written:], at + written
        self._end = at
        return start, at - start

    def read(self, at: int, kind: np.dtype[Any], count: int) -> NDArray[Any]:
        """An array that begins there, as a copy. Raises ValueError where it does not end within the file."""
        found = np.empty(count, kind)
        data = found.view(np.uint8).reshape(-1).data if count else memoryview(b"")
        while data:
            taken = os.preadv(self.descriptor, [data], at)
            if not taken:
                raise ValueError("a memory file that ends too early")
            data, at = data[taken:], at + taken
        return found

    @property
    def text(self) -> bytes | None:
        """The text that is valid."""
        head = os.pread(self.descriptor, _HEAD.size, 0)
        at, length = _HEAD.unpack(head) if len(head) == _HEAD.size else (0, 0)
        return os.pread(self.descriptor, length, at) if at else None

    def withdraw(self) -> None:
        """From now on no text is valid."""
        os.pwrite(self.descriptor, bytes(_HEAD.size), 0)

    def declare(self, place: tuple[int, int], named: Iterable[tuple[int, int]]) -> None:
        """Have a text that was appended be the valid one; it names these places, and the memory of all others goes."""
        os.pwrite(self.descriptor, _HEAD.pack(*place), 0)
        at = _PAGE
        for start, length in sorted((place, *named)):
            if at < start:
                libc.punch_hole(self.descriptor, at, start - at)
            at = max(at, -(-(start + length) // _PAGE) * _PAGE)
        if at < self._end:
            os.ftruncate(self.descriptor, at)
            self._end = at
