"""Lines that follow a request, kept in a memory file until the last one is here: its memory goes back whole.

Knows nothing of what the lines say.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import Self

_PIECE_BYTES = 1 << 18
_END = b"\n\n"


class Spool:
    """See the module. An empty line is the end. Methods raise OSError where there is no memory, or after `close`.

    It may be read in another thread than the one that closes it.
    """

    def __init__(self) -> None:
        self.size = 0
        self.is_whole = False
        self._descriptor = os.memfd_create("xdropd-request", os.MFD_CLOEXEC)
        self._lock = threading.Lock()
        self._last = b"\n"  # so that there may be no line at all

    def add(self, chunk: bytes) -> None:
        """More of the lines. What stands behind the end is nobody's."""
        end = (self._last + chunk).find(_END)
        if end >= 0:
            chunk, self.is_whole = chunk[: end + 1 - len(self._last)], True
        self._last = chunk[-1:] or self._last
        while chunk:
            written = os.write(self._descriptor, chunk)
            self.size += written
            chunk = chunk[written:]

    def pieces(self) -> Iterator[bytes]:
        """All of it, in pieces of whole lines. Raises ValueError where one is as long as a piece."""
        at = 0
        while at < self.size:
            with self._lock:
                piece = os.pread(self._descriptor, min(_PIECE_BYTES, self.size - at), at)
            end = piece.rfind(b"\n") + 1
            if not end:
                raise ValueError(f"a line has over {_PIECE_BYTES >> 10} KiB")
            yield piece[:end]
            at += end

    def close(self) -> None:
        """Give the memory back."""
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor, self.size = -1, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
