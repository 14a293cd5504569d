"""Blocks: what callers of `xdropctl block` have listed, kept in the log until it ends or is taken back.

The log is on the disk, and once more in memory that outlives the process (logcopy.py). A change is put into both before
it takes effect. Where the log on the disk cannot be read, or has lost something, what the copy knows stays in force,
and the log is written anew as soon as that can be done; until then nothing can be changed. A damaged log is set aside.
"""

import contextlib
import json
import os
import pwd
import secrets
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xdropd.columns import listing as columns
from xdropd.columns.differing import Difference
from xdropd.columns.listing import NEVER, Builder, Listing, Row
from xdropd.errors import XdropdError
from xdropd.host import blocklog
from xdropd.host.blocklog import BlockLog, Record
from xdropd.rules.desired import Written
from xdropd.sources.logcopy import LogCopy
from xdropd.text import bulk
from xdropd.text.addresses import parse_span

TAGGED_AT_MOST = 100
"""Sources with a tag: each is told by every `status`."""

_LOG_BYTES_AT_LEAST = 1 << 20  # what a shorter log could save is not worth its writing
_HISTORY_BYTES = 1 << 18  # of what was done lately, which stays in a log that is written anew
_RECORDS_AT_ONCE = 1 << 16
_REMEMBERED_SECONDS = 86400.0

BySource = dict[str, Listing]


def written(by_source: BySource) -> Iterator[Written]:
    """What callers want, as a part of what is desired."""
    return (Written(name, listing, is_file=False) for name, listing in by_source.items())


class Tag(NamedTuple):
    """What a caller calls what it has listed, and when it said so."""

    text: str
    since_s: float


class Change(NamedTuple):
    """What becomes of one source: what differs, all that it lists afterwards, and its tag, None where that stays."""

    source: str
    difference: Difference
    after: Listing
    tag: str | None = None


class Batch(NamedTuple):
    """A change that is logged and takes effect as one: its records as lines, how many, and what there is after it."""

    lines: Sequence[bytes]
    records: int
    by_source: BySource
    ended: BySource
    tags: dict[str, Tag]
    history: "History"


@dataclass(frozen=True, slots=True)
class History:
    """How records of the log are counted, whatever becomes of the log: those with a number over `begins` can be read.

    A record's place in the history is its number and `shift`. `name` is another one where records may have been lost.
    `is_logged`: whether the log says so, or the next batch has to.
    """

    name: str = field(default_factory=lambda: secrets.token_hex(4))
    begins: int = 0
    shift: int = 0
    is_logged: bool = False

    def record(self, number: int, now_s: float) -> Record:
        """For the log: what the place of this record is, and behind which place one can be."""
        return Record("mark", "", "", None, f"{self.name} {number + self.shift} {self.begins + self.shift}", now_s)

    @classmethod
    def said(cls, number: int, text: str) -> "History":
        """The inverse. Raises ValueError."""
        name, place, begins = text.split(" ")
        shift = int(place) - number
        return cls(name, int(begins) - shift, shift, is_logged=True)


class Blocks:
    """`by_source` has what each source lists, by name, in the order in which sources came to list something.

    It and all in it are values: a change makes another one (`after`), which counts once it is taken.

    `log` None: there is no disk for it.
    """

    def __init__(self, log: BlockLog | None, copy: LogCopy) -> None:
        self.by_source: BySource = {}
        self.history = History()
        self._ended: BySource = {}  # within a day, as far as the log lists it: a clock that is ahead may be set back
        self._tags: dict[str, Tag] = {}
        self._log = log
        self._copy = copy
        self._unusable: OSError | None = None  # why the log on the disk may not be what is in force
        self._end = 0
        self._next_number = 1
        self._compact_over = _LOG_BYTES_AT_LEAST  # 0: at once
        self._lost_in: dict[Path, int] = {}  # records, by damaged log that was set aside

    # ---- reading ----

    def read(self) -> "Reading":
        """What the log and its copy say: long for a long log. Changes nothing."""
        copy, unusable = self._copy.read(), None
        try:
            data = self._log.read() if self._log is not None else copy
        except OSError as problem:
            data, unusable = copy, problem
        contents = blocklog.decoded(data)
        found = _Found().taking(contents.bodies)
        whole = None
        if not data[: contents.end].startswith(copy):  # what the copy says was in force
            whole = _Found().taking(chain(contents.bodies, blocklog.decoded(copy).bodies))
        lines = _Lines(data, contents.end, contents.next_number, contents.lost + found.lost, contents.is_old)
        return Reading(lines, len(copy), found, whole, unusable)

    def load(self, reading: "Reading", now_s: float) -> list[str]:
        """Have what was read be what is listed; what has ended stays out.

        Warnings; what is worse is among the `troubles`.
        """
        lines, is_behind = reading.lines, reading.whole is not None
        found = reading.whole or reading.found
        lacking = found.count - reading.found.count
        self._unusable = reading.unusable
        self._renewed(lines.end, lines.next_number)
        self.by_source, self._ended = found.by_source, {}
        self.let_end(self.without_ended(now_s), now_s)
        self._tags, self.history = found.tags, found.history or History()
        if self._unusable is not None:
            return []
        try:
            if lines.lost or is_behind:
                self._write_anew(lines.data if lines.lost else b"", found.by_source, now_s)
            else:
                self._copy.append(reading.copied, [lines.data[reading.copied : lines.end]])
        except OSError as problem:
            self._unusable = problem
        if lines.is_old:
            self._compact_over = 0
        return [f"the log of blocks lacked {lacking} entries that were in force"] if lacking and not lines.lost else []

    def _write_anew(self, damaged: bytes, listed: BySource, now_s: float) -> None:
        """Both of them. With what has ended, for by another clock it may not have. What was done is not known."""
        anew = _Anew(listed, self._tags, History().name, 1, (), now_s)  # place 0 is that of a log with nothing in it
        for _ in self._copy.prepare(anew.lines()):
            pass
        end = self._copy.commit()
        if self._log is not None:
            if damaged:
                self._log.set_aside(damaged)
            for _ in self._log.replace([self._copy.read()]):
                pass
        self.history = anew.history
        self._renewed(end, anew.next_number)

    def _renewed(self, end: int, next_number: int) -> None:
        self._end, self._next_number = end, next_number
        self._compact_over = _LOG_BYTES_AT_LEAST

    # ---- what is wrong ----

    def try_again(self) -> bool:
        """Cut off what was refused; whether an unusable log can be read now, so that `load` is worth a try."""
        if self._log is None:
            return False
        if self._log.is_too_long:
            self._log.cut(self._end)
        if self._unusable is None:
            return False
        try:
            self._log.read()
        except OSError as problem:
            self._unusable = problem
            return False
        return True

    def troubles(self) -> dict[str, str]:
        """Reasons for being degraded, by what they concern."""
        if self._log is None:
            return {}
        found: dict[str, str] = {}
        if self._unusable is not None:
            found["log of blocks"] = (
                f"the log of blocks cannot be used: {self._why_unusable()}; {_count(self.by_source)} of its entries "
                "that were in force stay so, nothing can be blocked or taken back"
            )
        if self._log.is_too_long:
            found["end of the log of blocks"] = (
                f"a change that was refused stands in {self._log.path}, which cannot be shortened; it is tried again"
            )
        for file in self._log.set_aside_before():
            if file not in self._lost_in:
                with contextlib.suppress(OSError):
                    self._lost_in[file] = _lost(file.read_bytes())
            lost = self._lost_in.get(file, "some")
            found[str(file)] = (
                f"the log of blocks was damaged, {lost} of its entries could not be read, and those of them that were "
                f"not in force are lost; the damaged log is kept as {file}: remove it when nothing is missed"
            )
        return found

    def _why_unusable(self) -> str:
        assert self._unusable is not None
        assert self._log is not None
        why = f"{self._unusable.filename or self._log.path}: {self._unusable.strerror}"
        if not isinstance(self._unusable, PermissionError):
            return why
        folder = shlex.quote(str(self._log.path.parent))
        return f"{why}, mend it with: chown --recursive {pwd.getpwuid(os.geteuid()).pw_name}: {folder}"

    # ---- changing ----

    def without_ended(self, now_s: float) -> BySource:
        """What all sources list without what has ended."""
        return _lasting(self.by_source, now_s)

    def let_end(self, after: BySource, now_s: float) -> BySource:
        """What has ended is listed no more: `after` is what was `without_ended`. What was listed before."""
        before, self.by_source = self.by_source, after
        ended = _both(self._ended, _without(before, after))
        self._ended = _lasting(ended, now_s - _REMEMBERED_SECONDS)
        return before

    def tagged(self, now_s: float) -> dict[str, Tag]:
        """The tags that sources carry: those that list something, or had one given not long ago."""
        return {
            source: tag
            for source, tag in self._tags.items()
            if source in self.by_source or now_s - tag.since_s < _REMEMBERED_SECONDS
        }

    def batch(self, change: Change, now_s: float) -> Batch:
        """Make a change ready to be logged: long for a large one. Nothing else may be changed until it is."""
        source, (put, gone) = change.source, (change.difference.put, change.difference.gone)
        tags, history, heads = self._tags, self.history, list[Record]()
        before = self.tagged(now_s).get(source)
        if change.tag is not None and change.tag != (before.text if before else ""):
            heads.append(Record("tag", source, "", None, change.tag, now_s))
            tags = {**self.tagged(now_s), source: Tag(change.tag, now_s)}
            if not change.tag:
                del tags[source]
        if not heads and not change.difference.count:
            return Batch((), 0, self.by_source, self._ended, tags, history)
        if not history.is_logged:
            history = History(history.name, self._next_number - 1, history.shift, is_logged=True)
            heads.insert(0, history.record(self._next_number, now_s))
        number = self._next_number
        lines = [blocklog.encoded(heads, number, left=put.count + gone.count)]
        number += len(heads)
        lines += blocklog.encoded_listing("block", source, put, now_s, number, left=gone.count)
        number += put.count
        lines += blocklog.encoded_listing("unblock", source, gone, now_s, number, left=0)
        number += gone.count
        after = {**self.by_source, source: change.after}
        if not change.after.count:
            del after[source]
        ended = _without(_without(self._ended, {source: put}), {source: gone})
        return Batch(lines, number - self._next_number, after, ended, tags, history)

    def append(self, batch: Batch) -> None:
        """Put a batch into the log and its copy, on disk when it returns: long for a large one.

        It counts with `take`, and is gone with `take_back`. Raises XdropdError if the log cannot be written, and
        nothing has changed.
        """
        if self._unusable is not None:
            raise XdropdError(f"nothing was changed, the log of blocks cannot be used: {self._why_unusable()}")
        try:
            if self._log is not None and not self._log.append(self._end, batch.lines):
                for _ in self._log.replace([self._copy.read(), *batch.lines]):
                    pass
            try:
                self._copy.append(self._end, batch.lines)
            except OSError:
                if self._log is not None:
                    self._log.cut(self._end)
                raise
        except OSError as problem:
            raise XdropdError(
                f"nothing was changed, the log of blocks cannot be written: {problem.strerror}"
            ) from problem

    def take(self, batch: Batch) -> None:
        """A batch that was appended takes effect."""
        self._end += sum(map(len, batch.lines))
        self._next_number += batch.records
        self.by_source, self._ended = batch.by_source, batch.ended
        self._tags, self.history = batch.tags, batch.history

    def take_back(self) -> None:
        """A batch that was appended does not take effect: log and entries are as before."""
        if self._log is not None:
            self._log.cut(self._end)
        self._copy.cut(self._end)

    # ---- compaction ----

    @property
    def wants_compaction(self) -> bool:
        """Whether the log is twice as long as what counts of it, or as the first version wrote it."""
        if self._unusable is not None or self._end <= self._compact_over:
            return False
        if self._compact_over:  # as it was when that was looked at last
            live_bytes = self._end * _count(self.by_source) // max(1, self._next_number - 1)
            self._compact_over = max(_LOG_BYTES_AT_LEAST, 2 * live_bytes)
        return self._end > self._compact_over

    def compact(self, now_s: float) -> Iterator[None]:
        """Replace the log by what still counts, atomically. Yields now and then; nothing may be changed meanwhile.

        Raises OSError; then it is as it was.
        """
        self._compact_over = 2 * self._end  # for one that fails is not tried again at once
        listed = _both(_lasting(self._ended, now_s - _REMEMBERED_SECONDS), self.by_source)
        anew = _Anew(listed, self.tagged(now_s), self.history.name, self.last_place, self._latest(), now_s)
        yield from self._copy.prepare(anew.lines())
        if self._log is not None:
            yield from self._log.replace(self._copy.prepared())
        end = self._copy.commit()
        self.history = anew.history
        self._renewed(end, anew.next_number)
        self._compact_over = max(_LOG_BYTES_AT_LEAST, 2 * end)  # nothing of it could be saved

    # ---- what was done ----

    @property
    def last_place(self) -> int:
        """Of the last record, in the history."""
        return self._next_number - 1 + self.history.shift

    @property
    def log_place(self) -> tuple[int, int]:
        """Which log it is, for it may be written anew, and how long it is."""
        return self._copy.number, self._end

    def log_piece(self, at: int, size: int) -> bytes:
        """A part of what counts of it."""
        return self._copy.read(at, min(size, self._end - at)) if at < self._end else b""

    def _latest(self) -> list[bytes]:
        """The last records, as far as they stay when the log is written anew, and are known to be of the history."""
        if not self.history.is_logged:
            return []
        at = max(0, self._end - _HISTORY_BYTES)
        bodies = blocklog.decoded(self._copy.read(at, self._end - at)).bodies
        return [body for body in bodies if blocklog.number_in(body) > self.history.begins]


class _Lines(NamedTuple):
    """A log as it was read: only the first `end` bytes count."""

    data: bytes
    end: int
    next_number: int
    lost: int
    is_old: bool


class Reading(NamedTuple):
    """Of the log and its copy, which has `copied` bytes."""

    lines: _Lines
    copied: int
    found: "_Found"
    whole: "_Found | None"
    """With what the copy says, where the log lacks some of it."""
    unusable: OSError | None


class _Anew:
    """A log with nothing in it but what counts, and what was done lately once more, for those who want to know it."""

    def __init__(
        self,
        listed: BySource,
        tags: dict[str, Tag],
        name: str,
        last_place: int,
        latest: Sequence[bytes],
        now_s: float,
    ) -> None:
        self._listed, self._tags, self._latest, self._now_s = listed, tags, latest, now_s
        begins = _count(listed) + len(tags) + 1
        self.next_number = begins + len(latest) + 1
        self.history = History(name, begins, last_place - len(latest) - begins, is_logged=True)

    def lines(self) -> Iterator[bytes]:
        """In pieces."""
        number = 1
        for source, listing in self._listed.items():
            yield from blocklog.encoded_listing("block", source, listing, self._now_s, number)
            number += listing.count
        heads = [Record("tag", source, "", None, tag.text, tag.since_s) for source, tag in self._tags.items()]
        number += len(heads)
        heads.append(self.history.record(number, self._now_s))
        yield blocklog.encoded(heads, number - len(heads) + 1)
        yield blocklog.encoded([record for record in map(blocklog.record_in, self._latest) if record], number + 1)


class _Found:
    """What is listed after all records of a log; `lost` name no entry."""

    def __init__(self) -> None:
        self.by_source: BySource = {}
        self.tags: dict[str, Tag] = {}
        self.history: History | None = None
        self.lost = 0

    @property
    def count(self) -> int:
        """Entries of all sources."""
        return _count(self.by_source)

    def taking(self, bodies: Iterable[bytes]) -> "_Found":
        """Go through records, many at a time. What an entry's last one says, counts."""
        waiting = iter(bodies)
        while some := list(islice(waiting, _RECORDS_AT_ONCE)):
            latest: dict[tuple[str, str], list[Any]] = {}
            for record in _decoded(some):
                match record:
                    case [_, _, str(entry), "block" | "unblock", str(source), _, _, _]:
                        latest[source, entry] = record
                    case [_, _, _, "tag", str(source), _, str(text), since]:
                        self.tags.pop(source, None)
                        if text:
                            self.tags[source] = Tag(text, since)
                    case [int(number), _, _, "mark", _, _, str(said), _]:
                        self.history = History.said(number, said)
                    case _:
                        self.lost += 1  # this version knows less than the one that wrote it
            for source, records in _by_source(latest.values()).items():
                self._take(source, records)
        return self

    def _take(self, source: str, records: list[list[Any]]) -> None:
        gone = self._listing([record for record in records if record[3] == "unblock"])
        put = self._listing([record for record in records if record[3] == "block"])
        before = self.by_source.get(source, Listing.empty())
        after = columns.combined(columns.without(before, gone), put)
        if after.count:
            self.by_source[source] = after
        else:
            self.by_source.pop(source, None)

    def _listing(self, records: list[list[Any]]) -> Listing:
        if not records:
            return Listing.empty()
        builder = Builder()
        ends = np.array([NEVER if record[5] is None else record[5] for record in records], np.float64)
        numbers = np.array([builder.reason(record[6]) for record in records], np.uint32)
        words = bulk.read([record[2] for record in records])
        words.into(builder, np.zeros(len(records), np.uint32), numbers, ends)
        for at in words.left:
            entry, _, _, until, reason, _ = records[at][2:]
            try:
                builder.add(Row(*parse_span(entry), 0, reason, until))
            except ValueError:
                self.lost += 1
        return builder.listing()


def _decoded(bodies: list[bytes]) -> list[Any]:
    """Records, as lists; whatever another version has written is something else."""
    try:
        found: list[Any] = json.loads(b"[" + b",".join(bodies) + b"]")
    except ValueError:
        found = []
        for body in bodies:
            with contextlib.suppress(ValueError):
                found.append(json.loads(body))
        found += [None] * (len(bodies) - len(found))
    return found


def _by_source(records: Iterable[list[Any]]) -> dict[str, list[list[Any]]]:
    found: dict[str, list[list[Any]]] = {}
    for record in records:
        found.setdefault(record[4], []).append(record)
    return found


def _lasting(listed: BySource, now_s: float) -> BySource:
    lasting = {source: listing.in_force(now_s) for source, listing in listed.items()}
    return {source: listing for source, listing in lasting.items() if listing.count}


def _without(listed: BySource, gone: BySource) -> BySource:
    """What is in the one and not in the other, whatever is said of it."""
    left = {
        source: columns.without(listing, gone[source]) if source in gone else listing
        for source, listing in listed.items()
        if listing is not gone.get(source)
    }
    return {source: listing for source, listing in left.items() if listing.count}


def _both(listed: BySource, more: BySource) -> BySource:
    """Of what is in both, what the second says."""
    found = dict(listed)
    for source, listing in more.items():
        found[source] = columns.combined(found[source], listing) if source in found else listing
    return found


def _count(listed: BySource) -> int:
    return sum(listing.count for listing in listed.values())


def _lost(data: bytes) -> int:
    contents = blocklog.decoded(data)
    return contents.lost + _Found().taking(contents.bodies).lost
