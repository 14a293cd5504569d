"""One at a time of each host name, whichever processes ask: a redirect leads to hosts that others are asking."""

import contextlib
import fcntl
import os
import zlib
from collections.abc import Iterator


class Turns:
    """Shared with the processes that are forked while it is entered. A turn ends with its holder at the latest."""

    def __enter__(self) -> "Turns":
        self._descriptor = os.memfd_create("hosts")
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    @contextlib.contextmanager
    def of(self, host: str) -> Iterator[None]:
        """Wait for the turn of this process, and have it. A process has one at a time."""
        which = zlib.crc32(host.encode())  # an octet of the file for each host, locked by process (fcntl(2), F_SETLKW)
        fcntl.lockf(self._descriptor, fcntl.LOCK_EX, 1, which)
        try:
            yield
        finally:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, which)
