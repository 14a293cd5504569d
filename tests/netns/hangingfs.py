"""A file system that hangs when it is told to: one folder of files, served over /dev/fuse by a thread of the test.

While it `hangs` it reads no request, as a server does that has died or lost its network; who has asked waits, and can
be killed. Nothing is cached, so that each look at a file is a request. Protocol: uapi/linux/fuse.h, version 7.31.
"""

import contextlib
import errno
import os
import select
import stat
import struct
import subprocess
import threading
import time
from pathlib import Path
from typing import Self

_LOOKUP, _FORGET, _GETATTR, _READLINK, _OPEN, _READ, _STATFS = 1, 2, 3, 5, 14, 15, 17
_RELEASE, _FLUSH, _INIT, _OPENDIR, _READDIR, _RELEASEDIR, _INTERRUPT, _BATCH_FORGET = 18, 25, 26, 27, 28, 29, 36, 42
_HEADER = struct.Struct("=IIQQIIII")  # length, opcode, unique, node, uid, gid, pid, padding
_UNANSWERED = (_FORGET, _INTERRUPT, _BATCH_FORGET)
_ROOT = 1
_BUFFER_BYTES = 1 << 17
_LOOK_EVERY_S = 0.02


class HangingFileSystem:
    """`files` by name, at `mountpoint`. Use as a context. Each read takes `delay_s`."""

    def __init__(self, mountpoint: Path, files: dict[str, bytes]) -> None:
        self.mountpoint = mountpoint
        self.hangs = False
        self.delay_s = 0.0
        self.reads = 0
        self._names = list(files)
        self._contents = list(files.values())
        self._times = [time.time()] * len(files)
        self._device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self.mountpoint.mkdir(exist_ok=True)
        options = f"fd={self._device},rootmode=40755,user_id=0,group_id=0,allow_other"
        command = ["mount", "-i", "-t", "fuse", "-o", options, "hanging", self.mountpoint]
        subprocess.run(command, check=True, pass_fds=[self._device])
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "--lazy", self.mountpoint], check=True)
        self.hangs = False
        device, self._device = self._device, -1
        self._thread.join()
        os.close(device)  # whoever still waits gets ENOTCONN

    def write(self, name: str, content: bytes) -> None:
        """Replace a file's content."""
        at = self._names.index(name)
        self._contents[at] = content
        self._times[at] = time.time()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):  # unmounted
            while (device := self._device) >= 0:
                if self.hangs:
                    time.sleep(_LOOK_EVERY_S)
                elif select.select([device], [], [], _LOOK_EVERY_S)[0]:
                    self._take(device, os.read(device, _BUFFER_BYTES))

    def _take(self, device: int, request: bytes) -> None:
        _, opcode, unique, node, *_ = _HEADER.unpack_from(request)
        if opcode in _UNANSWERED:
            return
        try:
            error, body = 0, self._answer(opcode, node, request[_HEADER.size :])
        except OSError as problem:
            error, body = -(problem.errno or errno.EIO), b""
        with contextlib.suppress(FileNotFoundError):  # who asked is gone
            os.write(device, struct.pack("=IiQ", 16 + len(body), error, unique) + body)

    def _answer(self, opcode: int, node: int, body: bytes) -> bytes:
        if opcode == _INIT:
            return struct.pack("=IIIIHHIIHH32x", 7, 31, 0, 0, 16, 12, 1 << 16, 1, 1, 0)
        if opcode == _LOOKUP:
            name = os.fsdecode(body.rstrip(b"\0"))
            if name not in self._names:
                raise FileNotFoundError(errno.ENOENT, name)
            found = 2 + self._names.index(name)
            return struct.pack("=QQQQII", found, 0, 0, 0, 0, 0) + self._attributes(found)
        if opcode == _GETATTR:
            return struct.pack("=QII", 0, 0, 0) + self._attributes(node)
        if opcode in (_OPEN, _OPENDIR):
            return struct.pack("=QII", 0, 1, 0)  # FOPEN_DIRECT_IO
        if opcode == _READ:
            self.reads += 1
            time.sleep(self.delay_s)
            _, offset, size = struct.unpack_from("=QQI", body)
            return self._contents[node - 2][offset : offset + size]
        if opcode == _READDIR:
            return self._entries(*struct.unpack_from("=8xQI", body))
        if opcode in (_FLUSH, _RELEASE, _RELEASEDIR):
            return b""
        raise OSError(errno.ENOSYS, "not needed here")

    def _attributes(self, node: int) -> bytes:
        if node == _ROOT:
            mode, size, seconds = stat.S_IFDIR | 0o755, 0, self._times[0]
        else:
            mode, size, seconds = stat.S_IFREG | 0o644, len(self._contents[node - 2]), self._times[node - 2]
        whole, part = int(seconds), int(seconds % 1 * 1e9)
        times = (whole, whole, whole, part, part, part)
        return struct.pack("=QQQQQQIIIIIIIIII", node, size, 0, *times[:3], *times[3:], mode, 1, 0, 0, 0, 4096, 0)

    def _entries(self, offset: int, size: int) -> bytes:
        listing = b""
        for at, name in enumerate(self._names[offset:], start=offset + 1):
            encoded = os.fsencode(name)
            entry = struct.pack("=QQII", at + 1, at, len(encoded), stat.S_IFREG >> 12) + encoded
            entry += bytes(-len(entry) % 8)
            if len(listing) + len(entry) > size:
                break
            listing += entry
        return listing
