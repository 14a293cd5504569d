"""The log of blocks: what `xdropctl block` confirmed, one line a batch, appended, synced, and compacted now and then.

A line is "CRC32 JSON\\n"; JSON is [[operation, source, entry, until, reason, since], ...] with operation "block" or
"unblock", times in seconds since the epoch or null. A torn last line was never confirmed and is dropped; a line that
is damaged in the middle is reported and passed over. CRC-32 as in zlib.
"""

import json
import os
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from xdropd.host.statefolder import StateFolder

_NAME = "blocks.log"
_COMPACT_OVER_LINES = 4096


class Record(NamedTuple):
    """One operation. `entry` in canonical form; `until` None for good."""

    operation: str
    source: str
    entry: str
    until: float | None
    reason: str
    since: float


class BlockLog:
    """The log in a state folder. Methods raise OSError; then nothing was added."""

    def __init__(self, folder: StateFolder) -> None:
        self._folder = folder
        self._path: Path = folder.path / _NAME
        self._lines = 0

    def read(self) -> tuple[list[Record], list[str]]:
        """Every record in order, and a sentence on each damaged line. Cuts off a torn end."""
        data = self._folder.load(_NAME)
        if data is None:
            return [], []
        records: list[Record] = []
        damage: list[str] = []
        lines = data.split(b"\n")
        for number, line in enumerate(lines[:-1], start=1):
            batch = _decoded(line)
            if batch is None:
                damage.append(f"{self._path}:{number}: error: the checksum does not match, this batch is lost")
            else:
                records += batch
        if lines[-1]:
            os.truncate(self._path, len(data) - len(lines[-1]))
        self._lines = len(lines) - 1
        return records, damage

    def append(self, records: Iterable[Record]) -> None:
        """Add a batch: on disk when it returns, all of it or none."""
        line = _encoded(records)
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            end = os.fstat(descriptor).st_size
            try:
                written = 0
                while written < len(line):
                    written += os.write(descriptor, line[written:])
                os.fdatasync(descriptor)
            except OSError:
                os.ftruncate(descriptor, end)
                raise
        finally:
            os.close(descriptor)
        self._lines += 1

    @property
    def wants_compaction(self) -> bool:
        """Whether the log has grown enough to be worth writing anew."""
        return self._lines > _COMPACT_OVER_LINES

    def compact(self, records: Iterable[Record]) -> None:
        """Replace the log by what still counts, atomically."""
        self._folder.save(_NAME, _encoded(records))
        self._lines = 1


def _encoded(records: Iterable[Record]) -> bytes:
    body = json.dumps(list(records), separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(body), body)


def _decoded(line: bytes) -> list[Record] | None:
    checksum, _, body = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(body):
        return None
    return [Record(*fields) for fields in json.loads(body)]
