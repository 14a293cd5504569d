"""The log of blocks: what `xdropctl block` confirmed and what was taken back since, one line a record.

A line is "RS CRC32 JSON LF", with both separators of RFC 7464, so that a damaged byte costs one line and never the next
one as well. JSON is [number, left, entry, operation, source, until, reason, since]: `number` counts records from 1, so
that a gap tells how many are lost; `left` is how many more of the same batch follow; the rest as in Record, times in
seconds since the epoch or null. CRC-32 as in zlib, of the JSON.

A batch counts once it was written to its end; what stands behind the last such batch was never confirmed to anybody.
Logs of the first version have a line for each batch, "CRC32 [[operation, source, entry, until, reason, since], ...]".
They are read as well, and gone with the next compaction.
"""

import contextlib
import json
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from xdropd.host.statefolder import StateFolder, sync_folder

_NAME = "blocks.log"
_LIMIT_BYTES = 1 << 34  # of what was confirmed nothing is too much
_SEPARATOR = b"\x1e"
_OLD_RECORDS = re.compile(rb'\["(?:un)?block",')

_TO_JSON = json.JSONEncoder(separators=(",", ":")).encode


class Record(NamedTuple):
    """One operation, "block" or "unblock". `entry` in canonical form; `until` None for good."""

    operation: str
    source: str
    entry: str
    until: float | None
    reason: str
    since: float


@dataclass(slots=True)
class Contents:
    """What the bytes of a log say. `lost` records are damaged; only the first `end` bytes count."""

    records: list[Record] = field(default_factory=list)
    lost: int = 0
    end: int = 0
    next_number: int = 1
    is_old: bool = False


def encoded(records: Sequence[Record], first_number: int, *, is_batch: bool = True, behind: int = 0) -> bytes:
    """Records as lines, together a batch or each by itself. What neighbours have in common is made once.

    `behind`: how many more of the batch follow, to be encoded by another call.
    """
    lines = []
    common, tail = None, ""
    for at, (operation, source, entry, until, reason, since) in enumerate(records):
        if common != (operation, source, until, reason, since):
            common = (operation, source, until, reason, since)
            tail = _TO_JSON(common)[1:]
        left = behind + len(records) - 1 - at if is_batch else 0
        body = f'[{first_number + at},{left},"{entry}",{tail}'.encode()
        lines.append(b"\x1e%08x %s\n" % (zlib.crc32(body), body))
    return b"".join(lines)


def decoded(data: bytes) -> Contents:
    """Everything that can be read of a log."""
    old, separator, new = data.partition(_SEPARATOR)
    contents = _of_the_first_version(old, is_followed=bool(separator))
    return _Reader(contents, len(old)).read(separator + new) if separator else contents


class _Reader:
    """Goes through lines. `_batch` is what was read of a batch up to `_batch_ends`, the number of its last record."""

    def __init__(self, contents: Contents, at: int) -> None:
        self._contents = contents
        self._at = at
        self._next = contents.next_number
        self._batch: list[Record] = []
        self._batch_lost = 0
        self._batch_ends = 0
        # If nothing before the first RS can be read, it may as well be the first line, which has lost its RS.
        self._counted = 0 if contents.records else contents.lost

    def read(self, data: bytes) -> Contents:
        """All lines. A batch that is damaged at its end was written all the same if there are lines enough."""
        damaged = 0
        for piece in data.split(_SEPARATOR)[1:]:
            self._at += len(_SEPARATOR) + len(piece)
            line, newline, rest = piece.partition(b"\n")
            found = _record_in(line if newline else piece[:-1])  # if nothing but its LF is damaged, it is not lost
            if found is not None:
                self._take(*found)
                damaged = int(bool(rest))  # the next line, without its RS
            elif newline:
                damaged += 1
        if damaged and (not self._batch or self._next + damaged > self._batch_ends):
            self._batch_lost += damaged
            self._next += damaged
            self._complete()
        return self._contents

    def _take(self, number: int, left: int, record: Record) -> None:
        if self._batch and number > self._batch_ends:
            self._complete()
        self._batch_lost += max(0, number - self._next - self._counted)
        self._counted = 0
        self._batch.append(record)
        self._batch_ends = number + left
        self._next = number + 1
        if not left:
            self._complete()

    def _complete(self) -> None:
        self._contents.records += self._batch
        self._contents.lost += self._batch_lost
        self._contents.end = self._at
        self._contents.next_number = self._next
        self._batch, self._batch_lost = [], 0


def _record_in(line: bytes) -> tuple[int, int, Record] | None:
    body = _checked(line)
    if body is None:
        return None
    try:
        number, left, entry, operation, source, until, reason, since = json.loads(body)
    except (ValueError, TypeError):  # of another version, perhaps
        return None
    return number, left, Record(operation, source, entry, until, reason, since)


def _of_the_first_version(data: bytes, *, is_followed: bool) -> Contents:
    contents = Contents(is_old=bool(data))
    *lines, torn = data.split(b"\n")
    for line in [*lines, torn] if is_followed and torn else lines:
        batch = _batch_in(line)
        if batch is None:
            contents.lost += len(_OLD_RECORDS.findall(line)) or 1
        else:
            contents.records += batch
    contents.end = len(data) if is_followed else len(data) - len(torn)
    return contents


def _batch_in(line: bytes) -> list[Record] | None:
    body = _checked(line)
    if body is None:
        return None
    try:
        return [Record(*fields) for fields in json.loads(body)]
    except (ValueError, TypeError):  # a line of today's that has lost its RS
        return None


def _checked(line: bytes) -> bytes | None:
    checksum, _, body = line.partition(b" ")
    return body if checksum == b"%08x" % zlib.crc32(body) else None


class BlockLog:
    """The file in a state folder. Methods raise OSError.

    `is_too_long`: what was refused stands at its end all the same, for it could not be cut off again. It goes with the
    next batch, or with `cut`.
    """

    def __init__(self, folder: StateFolder) -> None:
        self._folder = folder
        self.path: Path = folder.path / _NAME
        self.is_too_long = False

    def read(self) -> bytes:
        """All of it; nothing where there is none."""
        return self._folder.load(_NAME, _LIMIT_BYTES) or b""

    def append(self, end: int, lines: bytes) -> bool:
        """Put lines behind `end`, where what counts ends: on disk when it returns, all of them or none.

        False, and nothing has changed, if the file is shorter than that: somebody has cut it, or removed it.
        """
        self._folder.hold()
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(descriptor).st_size < end:
                return False
            os.ftruncate(descriptor, end)
            try:
                written = 0
                while written < len(lines):
                    written += os.pwrite(descriptor, lines[written:], end + written)
                os.fdatasync(descriptor)
                if not end:
                    sync_folder(self.path.parent)  # the file may be new
            except OSError:
                self._cut(descriptor, end)
                raise
        finally:
            os.close(descriptor)
        self.is_too_long = False
        return True

    def cut(self, end: int) -> None:
        """Take back what was put behind `end`, now or with the next batch. Raises nothing, see `is_too_long`."""
        self.is_too_long = True
        with contextlib.suppress(OSError):
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                self._cut(descriptor, end)
            finally:
                os.close(descriptor)

    def _cut(self, descriptor: int, end: int) -> None:
        self.is_too_long = True
        with contextlib.suppress(OSError):
            if os.fstat(descriptor).st_size > end:
                os.ftruncate(descriptor, end)
                os.fdatasync(descriptor)
            self.is_too_long = False

    def replace(self, pieces: Iterable[bytes]) -> Iterator[None]:
        """Write all of it anew, atomically; yields after each piece."""
        yield from self._folder.save_in_pieces(_NAME, pieces)
        self.is_too_long = False

    def set_aside(self, data: bytes) -> None:
        """Keep a damaged log beside the one that takes its place. Once, however often that is tried."""
        kept = self.set_aside_before()
        if all(file.read_bytes() != data for file in kept):
            number = max(map(_number_of, kept), default=0) + 1
            self._folder.save(f"{_NAME}.damaged-{number}", data)

    def set_aside_before(self) -> list[Path]:
        """Damaged logs that nobody has removed yet."""
        found = self.path.parent.glob(f"{_NAME}.damaged-*")
        return sorted(filter(_number_of, found), key=_number_of)


def _number_of(path: Path) -> int:
    number = path.name.rpartition("-")[2]
    return int(number) if number.isdecimal() else 0
