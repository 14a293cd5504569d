"""A regular file as it was at one moment: its content in one piece, and what stat(2) told of it. And glob patterns.

Not here: what is in the files, and when they are worth reading.
"""

# ruff: noqa: PTH116, PTH119, PTH123, PTH207
# Half of it is about descriptors, and patterns are plain strings.

import fnmatch
import glob
import os
import stat
import time
from dataclasses import dataclass, field
from errno import EAGAIN, EFBIG, EINVAL, EISDIR
from pathlib import Path

_READS_AT_MOST = 5
_TICK_NS = 50_000_000  # two changes within one tick of the kernel's clock (4 ms, 10 ms at most) leave the same times

# What editors and packages leave beside a file. What was taken out of a list must not come back with its backup.
_LEFT_BEHIND = ("*~", "#*#", "*.bak", "*.orig", "*.swp", "*.dpkg-*", "*.rpm*", "*.ucf-*")

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


def read_file(path: Path, limit_bytes: int = 1 << 30) -> tuple[bytes, Signature]:
    """The whole of a regular file as it was at one moment, and what it looked like then.

    Raises OSError: IsADirectoryError, FileNotFoundError and their like; EINVAL for what is no regular file (it is not
    even opened: a device could act on that); EFBIG above the limit; StillBeingWritten if it changed at every attempt.
    """
    for _ in range(_READS_AT_MOST):
        try:
            _refuse_irregular(os.stat(path), path)
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        except ValueError as error:
            raise OSError(EINVAL, f"Not a path ({error})", str(path)) from error
        with open(descriptor, "rb", buffering=0) as file:
            before = os.fstat(descriptor)
            _refuse_irregular(before, path)
            parts: list[bytes] = []
            left = limit_bytes + 1
            # The size is no more than a good guess: files in /proc have none, and others grow.
            while left > 0 and (part := file.read(min(left, max(before.st_size + 1, 1 << 16)))):
                parts.append(part)
                left -= len(part)
            if left <= 0:
                raise OSError(EFBIG, f"Larger than {limit_bytes} bytes", str(path))
            signature = Signature.of(before)
            if Signature.of(os.fstat(descriptor)) == signature:
                return parts[0] if len(parts) == 1 else b"".join(parts), signature
    raise StillBeingWritten(EAGAIN, "Still being written", str(path))


def _refuse_irregular(status: os.stat_result, path: Path) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(EISDIR, os.strerror(EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(EINVAL, "Not a regular file", str(path))


def signature_of(path: str) -> Signature | None:
    """What the file at a path looks like now; None if there is none, or nothing may be known of it."""
    try:
        return Signature.of(os.stat(path))
    except NO_SUCH_FILE:
        return None


def matching(pattern: str) -> frozenset[str]:
    """The paths that a glob pattern stands for now: `*`, `?` and `[...]`, never across a slash, dot files excluded."""
    try:
        return frozenset(glob.glob(pattern))
    except NO_SUCH_FILE:
        return frozenset()


def matching_lists(pattern: str) -> frozenset[str]:
    """The same without what editors and packages leave behind."""
    return frozenset(path for path in matching(pattern) if not _is_left_behind(os.path.basename(path)))


def _is_left_behind(name: str) -> bool:
    return any(fnmatch.fnmatchcase(name, left) for left in _LEFT_BEHIND)
