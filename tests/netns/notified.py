"""A service manager as far as it is told something: it reads, stops reading, and reads on, as a test wants."""

import array
import os
import socket
import threading
from pathlib import Path

from waiting import wait_until

_WITHIN_S = 5.0
_DESCRIPTORS_BYTES = socket.CMSG_SPACE(4)


class Notified:
    """Its socket is `address`, for NOTIFY_SOCKET. Use as a context; begins to read at once unless told otherwise."""

    def __init__(self, folder: Path, *, is_reading: bool = True) -> None:
        self.address = str(folder / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._socket.settimeout(0.02)
        self._messages: list[str] = []
        self._may_read = threading.Event()
        self._is_over = threading.Event()
        self._reader = threading.Thread(target=self._read)
        if is_reading:
            self._may_read.set()

    def __enter__(self) -> "Notified":
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._may_read.set()
        self._reader.join()
        self._socket.close()

    def stop_reading(self) -> None:
        """Until `read_on`."""
        self._may_read.clear()

    def read_on(self) -> None:
        """All that has come meanwhile, and what comes."""
        self._may_read.set()

    def wait_for(self, beginning: str) -> str:
        """The last message that begins like this."""

        def found() -> str:
            return next((message for message in reversed(self._messages) if message.startswith(beginning)), "")

        return wait_until(found, within_s=_WITHIN_S, what=beginning)

    def _read(self) -> None:
        while not self._is_over.is_set():
            self._may_read.wait()
            try:
                data, ancillary, _, _ = self._socket.recvmsg(4096, _DESCRIPTORS_BYTES)
            except TimeoutError:
                continue
            for _, _, rights in ancillary:
                for descriptor in array.array("i", rights):
                    os.close(descriptor)  # which answers a barrier
            self._messages.append(data.decode())
