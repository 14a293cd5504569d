"""The log of blocks: what callers had confirmed and what was taken back since, one line a record.

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
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from xdropd.columns.listing import NEVER, SPANS, Listing, Table
from xdropd.host.statefolder import StateFolder, sync_folder
from xdropd.text.canonical import texts

_NAME = "blocks.log"
_LIMIT_BYTES = 1 << 34  # of what was confirmed nothing is too much
_SEPARATOR = b"\x1e"
_LINES_AT_ONCE = 4096
_BYTES_AT_ONCE = 1 << 20
_OLD_RECORDS = re.compile(rb'\["(?:un)?block",')

_TO_JSON = json.JSONEncoder(separators=(",", ":")).encode


class Record(NamedTuple):
    """One operation: "block" or "unblock" of an entry in canonical form, `until` None for good.

    Or without an entry: "tag", where `reason` is what a caller calls what its source lists, or "mark", which says how
    records are counted (`sources.blocks.History`).
    """

    operation: str
    source: str
    entry: str
    until: float | None
    reason: str
    since: float


@dataclass(slots=True)
class Contents:
    """What the bytes of a log say. `lost` records are damaged; only the first `end` bytes count."""

    bodies: list[bytes] = field(default_factory=list)
    """The JSON of each record."""
    lost: int = 0
    end: int = 0
    next_number: int = 1
    is_old: bool = False


def encoded(records: Sequence[Record], first_number: int, *, left: int | None = None) -> bytes:
    """Records as lines, a batch together with the `left` ones that follow; None: each is one by itself."""
    lines = []
    for at, (operation, source, entry, until, reason, since) in enumerate(records):
        follow = 0 if left is None else left + len(records) - 1 - at
        body = _TO_JSON([first_number + at, follow, entry, operation, source, until, reason, since]).encode()
        lines.append(_line(body))
    return b"".join(lines)


def encoded_listing(
    operation: str, source: str, listing: Listing, since: float, first_number: int, *, left: int | None = None
) -> Iterator[bytes]:
    """The same of all that a listing has, some lines at a time."""
    number, follow = first_number, None if left is None else left + listing.count
    middle = f'","{operation}",{_TO_JSON(source)},'
    for kind in SPANS:
        whole = listing.table(kind)
        for at in range(0, len(whole), _LINES_AT_ONCE):
            table = whole.taken(slice(at, at + _LINES_AT_ONCE))
            rests = _rests(listing, table, since)
            lines = []
            for entry, rest in zip(texts(kind, table.keys), rests, strict=True):
                if follow is not None:
                    follow -= 1
                lines.append(_line(f'[{number},{follow or 0},"{entry}{middle}{rest}'.encode()))
                number += 1
            yield b"".join(lines)


def _rests(listing: Listing, table: Table, since: float) -> Iterator[str]:
    """What a body says behind the source: until, reason, since."""
    ends = repeat("null", len(table)) if table.untils is None else map(_end_text, table.untils.tolist())
    if table.reasons is None:
        return (f'{end},"",{since}]' for end in ends)
    numbers = table.reasons.tolist()
    known = {number: _TO_JSON(listing.reasons[number]) for number in set(numbers)}
    return (f"{end},{known[number]},{since}]" for end, number in zip(ends, numbers, strict=True))


def _end_text(end: float) -> str:
    return repr(end) if end < NEVER else "null"


def _line(body: bytes) -> bytes:
    return b"\x1e%08x %s\n" % (crc32(body), body)


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
        self._batch: list[bytes] = []
        self._batch_lost = 0
        self._batch_ends = 0
        # If nothing before the first RS can be read, it may as well be the first line, which has lost its RS.
        self._counted = 0 if contents.bodies else contents.lost

    def read(self, data: bytes) -> Contents:
        """All lines. A batch that is damaged at its end was written all the same if there are lines enough."""
        damaged = 0
        for piece in _pieces(data):
            self._at += len(_SEPARATOR) + len(piece)
            line, newline, rest = piece.partition(b"\n")
            body = _checked(line if newline else piece[:-1])  # if nothing but its LF is damaged, it is not lost
            found = None if body is None else _place_of(body)
            if body is not None and found is not None:
                self._take(*found, body)
                damaged = int(bool(rest))  # the next line, without its RS
            elif newline:
                damaged += 1
        if damaged and (not self._batch or self._next + damaged > self._batch_ends):
            self._batch_lost += damaged
            self._next += damaged
            self._complete()
        return self._contents

    def _take(self, number: int, left: int, body: bytes) -> None:
        if self._batch and number > self._batch_ends:
            self._complete()
        self._batch_lost += max(0, number - self._next - self._counted)
        self._counted = 0
        self._batch.append(body)
        self._batch_ends = number + left
        self._next = number + 1
        if not left:
            self._complete()

    def _complete(self) -> None:
        self._contents.bodies += self._batch
        self._contents.lost += self._batch_lost
        self._contents.end = self._at
        self._contents.next_number = self._next
        self._batch, self._batch_lost = [], 0


def _pieces(data: bytes) -> Iterator[bytes]:
    """What stands behind each RS, but for a first piece without one; some at a time, for each is an object."""
    at = data.find(_SEPARATOR)
    while 0 <= at < len(data):
        end = data.find(_SEPARATOR, min(len(data), at + _BYTES_AT_ONCE))
        end = len(data) if end < 0 else end
        yield from data[at + 1 : end].split(_SEPARATOR)
        at = end


def bodies_in(piece: bytes) -> Iterator[bytes]:
    """The JSON of each whole record in a part of a log."""
    for line in piece.split(_SEPARATOR)[1:]:
        body = _checked(line[:-1]) if line.endswith(b"\n") else None
        if body is not None:
            yield body


def _place_of(body: bytes) -> tuple[int, int] | None:
    """The number of a record, and how many of its batch follow."""
    number, _, rest = body[1:].partition(b",")
    try:
        return int(number), int(rest[: rest.index(b",")])
    except ValueError:  # of another version, perhaps
        return None


def number_in(body: bytes) -> int:
    """The number of a record that was read."""
    return int(body[1 : body.index(b",")])


def record_in(body: bytes) -> Record | None:
    """What a body says; None if it is of another version."""
    try:
        _, _, entry, operation, source, until, reason, since = json.loads(body)
    except (ValueError, TypeError):
        return None
    return Record(operation, source, entry, until, reason, since)


def _of_the_first_version(data: bytes, *, is_followed: bool) -> Contents:
    contents = Contents(is_old=bool(data))
    *lines, torn = data.split(b"\n")
    for line in [*lines, torn] if is_followed and torn else lines:
        batch = _batch_in(line)
        if batch is None:
            contents.lost += len(_OLD_RECORDS.findall(line)) or 1
        else:
            contents.bodies += [_body_of(record) for record in batch]
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


def _body_of(record: Record) -> bytes:
    operation, source, entry, until, reason, since = record
    return _TO_JSON([0, 0, entry, operation, source, until, reason, since]).encode()


def _checked(line: bytes) -> bytes | None:
    checksum, _, body = line.partition(b" ")
    return body if checksum == b"%08x" % crc32(body) else None


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

    def append(self, end: int, pieces: Iterable[bytes]) -> bool:
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
                at = end
                for piece in pieces:
                    written = 0
                    while written < len(piece):
                        written += os.pwrite(descriptor, piece[written:], at + written)
                    at += written
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
