"""A regular file as it was at one moment: its content in one piece, and what stat(2) told of it.

Whatever else stands at a path is named and never waited for. A file system that hangs is the affair of fileworker.py:
in its threads, everything here raises NoAnswer for a path that is out of reach.
Not here: what is in the files, and when they are worth reading.
"""

# ruff: noqa: PTH116
# Half of it is about descriptors.

import os
import stat
import time
from dataclasses import dataclass, field
from errno import EAGAIN, EFBIG, EINVAL, EISDIR
from pathlib import Path

from xdropd.host.fileworker import NoAnswer, touch

LIMIT_BYTES = 256 << 20  # twenty million addresses

_READS_AT_MOST = 5
_PIECE_BYTES = 4 << 20  # of one read(2), which has to return in time
_TICK_NS = 50_000_000  # two changes within one tick of the kernel's clock (4 ms, 10 ms at most) leave the same times

# A path with a NUL or a lone surrogate in it names no file; Python says so with a ValueError.
NO_SUCH_FILE = (OSError, ValueError)


class StillBeingWritten(OSError):
    """A file changed each time it was read."""


@dataclass(frozen=True, slots=True)
class Signature:
    """What stat(2) tells of a file's identity and content.

    Equal signatures mean equal content if the one of them that was taken first `is_settled`: so long after the last
    change that another one would have left another time.
    """

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    is_settled: bool = field(default=True, compare=False)

    @classmethod
    def of(cls, status: os.stat_result) -> "Signature":
        """From stat(2) or fstat(2)."""
        is_settled = status.st_ctime_ns + _TICK_NS < time.time_ns()
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns, is_settled)


def read_file(path: Path, limit_bytes: int = LIMIT_BYTES, *, follows_links: bool = True) -> tuple[bytes, Signature]:
    """The whole of a regular file as it was at one moment, and what it looked like then.

    Raises OSError: IsADirectoryError, FileNotFoundError and their like; EINVAL for what is no regular file (it is not
    even opened: a device could act on that); EFBIG above the limit, which is found out before anything is read;
    StillBeingWritten if it changed at every attempt; NoAnswer. A link that is not to be followed is no regular file;
    those among the folders on the way are.
    """
    name = str(path)
    look, flags = (os.stat, 0) if follows_links else (os.lstat, os.O_NOFOLLOW)
    for _ in range(_READS_AT_MOST):
        try:
            _refuse_unfit(touch(name, look, path), name, limit_bytes)
            descriptor = touch(name, os.open, path, flags | os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        except ValueError as error:
            raise OSError(EINVAL, f"Not a path ({error})", name) from error
        try:
            before = touch(name, os.fstat, descriptor)
            _refuse_unfit(before, name, limit_bytes)
            data = _content(descriptor, name, before.st_size, limit_bytes)
            signature = Signature.of(before)
            if Signature.of(touch(name, os.fstat, descriptor)) == signature:
                return data, signature
        finally:
            touch(name, os.close, descriptor)
    raise StillBeingWritten(EAGAIN, "Still being written", name)


def _content(descriptor: int, name: str, size: int, limit_bytes: int) -> bytes:
    """All of it. The size is no more than a good guess: files in /proc have none, and others grow."""
    parts: list[bytes] = []
    left = limit_bytes + 1
    wanted = max(size + 1, 1 << 16)
    while left > 0 and (part := touch(name, os.read, descriptor, min(left, wanted, _PIECE_BYTES))):
        parts.append(part)
        left -= len(part)
        wanted = max(wanted - len(part), 1 << 16)
    if left <= 0:
        raise OSError(EFBIG, f"it has over {_amount(limit_bytes)}, which is the most that is read", name)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _refuse_unfit(status: os.stat_result, name: str, limit_bytes: int) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(EISDIR, os.strerror(EISDIR), name)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(EINVAL, f"it is no regular file but a {_kind(status.st_mode)}", name)
    if status.st_size > limit_bytes:
        size, limit = _amount(status.st_size), _amount(limit_bytes)
        raise OSError(EFBIG, f"it has {size}, and at most {limit} are read", name)


def _kind(mode: int) -> str:
    kinds = {stat.S_IFIFO: "fifo", stat.S_IFSOCK: "socket", stat.S_IFCHR: "device", stat.S_IFBLK: "block device"}
    kinds[stat.S_IFLNK] = "symbolic link"
    return kinds[stat.S_IFMT(mode)]  # Linux knows no other kind


def _amount(size_bytes: int) -> str:
    return f"{size_bytes >> 20} MiB" if size_bytes % (1 << 20) == 0 else f"{size_bytes} bytes"


def signature_of(path: str) -> Signature | None:
    """What the file at a path looks like now; None if there is none, or nothing may be known of it. Raises NoAnswer."""
    try:
        return Signature.of(touch(path, os.stat, path))
    except NoAnswer:
        raise
    except NO_SUCH_FILE:
        return None
