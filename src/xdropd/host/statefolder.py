"""The state folder: what must outlive a restart. Files of bytes by name, replaced atomically.

A write is on disk when it returns: written beside, synced, renamed over, the folder synced (rename(2), fsync(2)).
The folder is locked (flock(2)) while a daemon lives, for a second one would overwrite what the first one relies on.
Knows nothing of what is in the files.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from xdropd.host.files import LIMIT_BYTES, read_file
from xdropd.host.fileworker import touch

# flock(2) of a folder, by file systems that have no locks, or want a file that is open for writing, as NFS does.
_NO_LOCKS = (errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)


class StateFolder:
    """A folder for one daemon. Every method raises OSError as the file system does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    def hold(self) -> None:
        """Make the folder if need be and lock it until this process ends, whoever inherits its descriptors.

        Called again, it sees that the lock is still that of the folder at this path. The lock is the folder's own, so
        that it takes no space and no file that may belong to somebody else. BlockingIOError: another process has it.
        """
        _make_folder(self.path)
        if self._lock is not None:
            if os.path.samestat(os.fstat(self._lock), self.path.stat()):
                return
            os.close(self._lock)
            self._lock = None
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as problem:
            if problem.errno not in _NO_LOCKS:
                os.close(descriptor)
                problem.filename = str(self.path)
                raise
        self._lock = descriptor

    def load(self, name: str, limit_bytes: int = LIMIT_BYTES) -> bytes | None:
        """The content of a file, None if it was never saved."""
        try:
            return read_file(self.path / name, limit_bytes)[0]
        except FileNotFoundError:
            return None

    def save(self, name: str, data: bytes) -> None:
        """Replace a file, or leave the old one as it was."""
        touch(str(self.path / name), self._save, name, data)

    def _save(self, name: str, data: bytes) -> None:
        for _ in self.save_in_pieces(name, (data,)):
            pass

    def save_in_pieces(self, name: str, pieces: Iterable[bytes]) -> Iterator[None]:
        """The same with content that is yet to be made; yields after each piece. Given up half-way, nothing changes."""
        self.hold()
        target = self.path / name
        _make_folder(target.parent)
        beside = target.with_name(f".{target.name}.new")
        try:
            with open(beside, "wb", opener=_private) as file:
                for piece in pieces:
                    file.write(piece)
                    file.flush()
                    os.fdatasync(file.fileno())  # of little each time, which holds nobody up for long
                    yield
                os.fsync(file.fileno())
            beside.replace(target)
        finally:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)
        sync_folder(target.parent)

    def keep_only(self, folder: str, names: set[str]) -> None:
        """Remove every file of a subfolder that is not among the names."""
        with contextlib.suppress(FileNotFoundError):
            for file in (self.path / folder).iterdir():
                if file.name not in names:
                    file.unlink()


def name_for(path: str) -> str:
    """A file name that stands for a path."""
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:32]


def _make_folder(path: Path) -> None:
    """With those above it, each of them there after a power cut."""
    if not path.is_dir():
        _make_folder(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)
        sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """fsync(2) a folder, so that a rename in it survives a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
