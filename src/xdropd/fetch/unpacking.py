"""From what was sent to the list in it: gzip, zip and tar are unpacked into files, in pieces and within bounds.

What it is shows in its first bytes, whatever its name. Of an archive, the one file that looks like a list is taken.
Raises NotFetched. Archives may be made to harm: the process that reads one has bounds of memory and file size as well
(attempt.py).
"""

import errno
import gzip
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO

from xdropd.errors import NotFetched
from xdropd.fetch.judging import why_no_list
from xdropd.text import wording

_PIECE_BYTES = 1 << 16
_FILES_AT_MOST = 1000  # in an archive
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_OTHERS = {
    b"\xfd7zXZ\0": "xz",
    b"BZh": "bzip2",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"Rar!": "rar",
}


class _Room:
    """How much may still be unpacked."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._left = limit_bytes

    def copy(self, source: IO[bytes] | gzip.GzipFile, into: BinaryIO) -> None:
        """All of it, or NotFetched as soon as it is too much."""
        while piece := source.read(_PIECE_BYTES):
            self._left -= len(piece)
            if self._left < 0:
                raise NotFetched(
                    f"it unpacks to more than {self._limit_bytes >> 20} MiB, which is the most that is taken"
                )
            into.write(piece)
        into.flush()


def list_in(packed: Path, limit_bytes: int) -> Path:
    """The file that has the list of what was sent, in the same folder: that file itself, or one that is made here.

    Whoever calls removes the folder. Raises NotFetched if there is no list in it, or several, or it is damaged.
    """
    try:
        with packed.open("rb") as file:
            if file.read(2) == b"\x1f\x8b":
                file.seek(0)
                packed = _beside(packed)
                with gzip.GzipFile(fileobj=file) as source, packed.open("wb") as into:
                    _Room(limit_bytes).copy(source, into)
        return _chosen(packed, _Room(limit_bytes))
    except (EOFError, gzip.BadGzipFile, zlib.error, zipfile.BadZipFile, tarfile.TarError) as problem:
        raise NotFetched(f"it cannot be unpacked: {problem}") from problem
    except OSError as problem:
        if problem.errno != errno.EINVAL:
            raise
        raise NotFetched("it cannot be unpacked: it leads to a place before its beginning") from problem
    except (struct.error, ValueError, ArithmeticError, LookupError) as problem:  # of names and numbers that are none
        raise NotFetched(f"it cannot be unpacked: {wording.quoted(str(problem))}") from problem
    except (NotImplementedError, RuntimeError) as problem:  # zipfile, of encrypted files and of other methods
        raise NotFetched(f"it cannot be unpacked: {problem}") from problem


def _chosen(packed: Path, room: _Room) -> Path:
    with packed.open("rb") as file:
        start = file.read(512)
        file.seek(0)
        if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
            return _only_list(packed, _zipped(file), room)
        if start[257:262] == b"ustar":
            return _only_list(packed, _tarred(file), room)
        for magic, name in _OTHERS.items():
            if start.startswith(magic):
                raise NotFetched(f"it is packed with {name}; gzip, zip and tar are unpacked")
        why = why_no_list(file)
    if why:
        raise NotFetched(why)
    return packed


def _only_list(archive: Path, files: Iterator[tuple[str, IO[bytes]]], room: _Room) -> Path:
    found: list[tuple[str, Path]] = []
    others: list[str] = []
    for number, (name, source) in enumerate(files):
        if number >= _FILES_AT_MOST:
            raise NotFetched(f"there are more than {_FILES_AT_MOST} files in it")
        unpacked = _beside(archive)
        with unpacked.open("w+b") as into:
            room.copy(source, into)
            why = why_no_list(into)
        if why:
            unpacked.unlink()
            others.append(f"{wording.quoted(name)}: {why}")
        else:
            found.append((name, unpacked))
    if not found:
        raise NotFetched("there is no list in it" + (f" ({others[0]})" if others else ", nor any other file"))
    if len(found) > 1:
        told = " and ".join(wording.quoted(name) for name, _ in found[:2])
        raise NotFetched(f"there are {len(found)} lists in it, {told}{' among them' if len(found) > 2 else ''}")
    return found[0][1]


def _zipped(file: BinaryIO) -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(file) as archive:
        for each in archive.infolist():
            if not each.is_dir():
                if each.compress_type not in _ZIP_METHODS:
                    raise NotFetched(f"it cannot be unpacked: {wording.quoted(each.filename)} is not deflated")
                with archive.open(each) as source:
                    yield each.filename, source


def _tarred(file: BinaryIO) -> Iterator[tuple[str, IO[bytes]]]:
    with tarfile.open(fileobj=file, mode="r:") as archive:
        for each in archive:
            source = archive.extractfile(each) if each.isreg() else None
            if source is not None:
                with source:
                    yield each.name, source


def _beside(path: Path) -> Path:
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as made:
        return Path(made.name)
