"""Blocks: what callers of `xdropctl block` have listed, kept in the log until it ends or is taken back.

The log is on the disk, and once more in memory that outlives the process (logcopy.py). A change is put into both before
it takes effect. Where the log on the disk cannot be read, or has lost something, what the copy knows stays in force,
and the log is written anew as soon as that can be done; until then nothing can be changed. A damaged log is set aside.
"""

import contextlib
import os
import pwd
import shlex
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from xdropd.columns import listing as columns
from xdropd.columns.listing import Listing, Row
from xdropd.errors import XdropdError
from xdropd.host import blocklog
from xdropd.host.blocklog import BlockLog, Record
from xdropd.rules.desired import Written
from xdropd.sources.logcopy import LogCopy
from xdropd.text.addresses import Span, parse_span

_LOG_BYTES_AT_LEAST = 1 << 20  # what a shorter log could save is not worth its writing
_RECORDS_AT_ONCE = 2000

BySource = dict[str, Listing]


def written(by_source: BySource) -> Iterator[Written]:
    """What callers want, as a part of what is desired."""
    return (Written(name, listing, is_file=False) for name, listing in by_source.items())


class Batch(NamedTuple):
    """Records that are logged and take effect together: how many, as lines, and what all sources list after them."""

    records: int
    lines: bytes
    after: BySource


class Blocks:
    """`by_source` has what each source lists, by name, in the order in which sources came to list something.

    It and all in it are values: a change makes another one (`after`), which counts once it is taken.

    `log` None: there is no disk for it.
    """

    def __init__(self, log: BlockLog | None, copy: LogCopy) -> None:
        self.by_source: BySource = {}
        self._log = log
        self._copy = copy
        self._unusable: OSError | None = None  # why the log on the disk may not be what is in force
        self._end = 0
        self._next_number = 1
        self._compact_over = 0  # bytes
        self._lost_in: dict[Path, int] = {}  # records, by damaged log that was set aside

    # ---- reading ----

    def load(self, now_s: float) -> list[str]:
        """Read the log and its copy; what has ended stays out. Warnings; what is worse is among the `troubles`."""
        copy = self._copy.read()
        try:
            data = self._log.read() if self._log is not None else copy
        except OSError as problem:
            data, self._unusable = copy, problem
        else:
            self._unusable = None
        contents = blocklog.decoded(data)
        listed, lost = _listed(contents.records)
        lost += contents.lost
        lacking = 0
        is_behind = not data[: contents.end].startswith(copy)
        if is_behind:  # what the copy says was in force
            whole, _ = _listed(contents.records + blocklog.decoded(copy).records)
            lacking = _count(whole) - _count(listed)
            listed = whole
        self._renewed(contents.end, contents.next_number, _count(listed))
        lasting = {source: listing.in_force(now_s) for source, listing in listed.items()}
        self.by_source = {source: listing for source, listing in lasting.items() if listing.count}
        if self._unusable is not None:
            return []
        try:
            if lost or is_behind:
                self._write_anew(data if lost else b"", listed, now_s)
            else:
                self._copy.append(len(copy), data[len(copy) : contents.end])
        except OSError as problem:
            self._unusable = problem
        if contents.is_old:
            self._compact_over = 0
        return [f"the log of blocks lacked {lacking} entries that were in force"] if lacking and not lost else []

    def _write_anew(self, damaged: bytes, listed: BySource, now_s: float) -> None:
        """Both of them. With what has ended, for by another clock it may not have."""
        for _ in self._copy.prepare(_lines(listed, now_s)):
            pass
        end = self._copy.commit()
        if self._log is not None:
            if damaged:
                self._log.set_aside(damaged)
            for _ in self._log.replace([self._copy.read()]):
                pass
        self._renewed(end, 1 + _count(listed), _count(listed))

    def _renewed(self, end: int, next_number: int, live: int) -> None:
        self._end, self._next_number = end, next_number
        live_bytes = end * live // max(1, next_number - 1)
        self._compact_over = max(_LOG_BYTES_AT_LEAST, 2 * live_bytes)

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

    def after(self, records: list[Record]) -> BySource:
        """What all sources list once these records count. Each entry of a source is in one record at the most."""
        after = dict(self.by_source)
        for source, some in _by(records, lambda record: record.source).items():
            listing = after.get(source, Listing.empty())
            for operation, each in _by(some, lambda record: record.operation).items():
                changed = _listing(each)
                listing = (
                    columns.combined(listing, changed) if operation == "block" else columns.without(listing, changed)
                )
            after[source] = listing
            if not listing.count:
                del after[source]
        return after

    def without_ended(self, now_s: float) -> BySource:
        """What all sources list without what has ended."""
        lasting = {source: listing.in_force(now_s) for source, listing in self.by_source.items()}
        return {source: listing for source, listing in lasting.items() if listing.count}

    def batch(self, records: list[Record]) -> Batch:
        """Make records ready to be logged together: long for many. Nothing may be changed until they are."""
        return Batch(len(records), blocklog.encoded(records, self._next_number), self.after(records))

    @contextlib.contextmanager
    def logged(self, batch: Batch) -> Iterator[None]:
        """Log a batch, on disk when the context is entered; it takes effect when the context is left.

        Whatever fails within the context, log and entries are as before. Raises XdropdError if the log cannot be
        written, and nothing has changed.
        """
        if self._unusable is not None:
            raise XdropdError(f"nothing was changed, the log of blocks cannot be used: {self._why_unusable()}")
        end, number = self._end, self._next_number
        self._append(batch.lines, batch.records)
        is_done = False
        try:
            yield
            is_done = True
        finally:
            if is_done:
                self.by_source = batch.after
            else:
                self._end, self._next_number = end, number
                if self._log is not None:
                    self._log.cut(end)
                self._copy.cut(end)

    def _append(self, lines: bytes, count: int) -> None:
        try:
            if self._log is not None and not self._log.append(self._end, lines):
                for _ in self._log.replace([self._copy.read(), lines]):
                    pass
            try:
                self._copy.append(self._end, lines)
            except OSError:
                if self._log is not None:
                    self._log.cut(self._end)
                raise
        except OSError as problem:
            raise XdropdError(
                f"nothing was changed, the log of blocks cannot be written: {problem.strerror}"
            ) from problem
        self._end += len(lines)
        self._next_number += count

    def later(self, source: str, spans: Iterable[Span], until: float | None, reason: str, now_s: float) -> list[Record]:
        """Records for a `block` of spans, each once, where the later end wins over what is there."""
        distinct = dict.fromkeys(spans)
        known = self.by_source.get(source)
        rows = columns.common(known, Listing.of(Row(*span) for span in distinct)) if known else ()
        there = {Span(*row[:3]): row for row in rows}
        records = []
        for span in distinct:
            end, why = until, reason
            if old := there.get(span):
                why = reason or old.reason
                if old.until is None or (until is not None and old.until > until):
                    end = old.until
            records.append(Record("block", source, str(span), end, why, now_s))
        return records

    # ---- compaction ----

    @property
    def wants_compaction(self) -> bool:
        """Whether the log is twice as long as what counted of it at last, or as the first version wrote it."""
        return self._unusable is None and self._end > self._compact_over

    def compact(self, now_s: float) -> Iterator[None]:
        """Replace the log by what still counts, atomically. Yields now and then; nothing may be changed meanwhile.

        Raises OSError; then it is as it was.
        """
        self._compact_over = 2 * self._end  # for one that fails is not tried again at once
        yield from self._copy.prepare(_lines(self.by_source, now_s))
        if self._log is not None:
            yield from self._log.replace(self._copy.prepared())
        live = _count(self.by_source)
        self._renewed(self._copy.commit(), 1 + live, live)


def _listed(records: Iterable[Record]) -> tuple[BySource, int]:
    """What is listed after all of these, and how many name no entry."""
    listed: dict[str, dict[Span, Record]] = {}
    lost = 0
    for record in records:
        try:
            span = parse_span(record.entry)
        except ValueError:  # this version knows less than the one that wrote it
            lost += 1
            continue
        if record.operation == "block":
            listed.setdefault(record.source, {})[span] = record
        else:
            listed.get(record.source, {}).pop(span, None)
    return {source: _listing(entries.values()) for source, entries in listed.items() if entries}, lost


def _by(records: Iterable[Record], key: Callable[[Record], str]) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(key(record), []).append(record)
    return found


def _listing(records: Iterable[Record]) -> Listing:
    return Listing.of(Row(*parse_span(record.entry), 0, record.reason, record.until) for record in records)


def _lines(listed: BySource, now_s: float) -> Iterator[bytes]:
    records = (
        Record("block", source, str(Span(*row[:3])), row.until, row.reason, now_s)
        for source, listing in listed.items()
        for row in listing.rows()
    )
    number = 1
    while some := list(islice(records, _RECORDS_AT_ONCE)):
        yield blocklog.encoded(some, number, is_batch=False)
        number += len(some)


def _count(listed: BySource) -> int:
    return sum(listing.count for listing in listed.values())


def _lost(data: bytes) -> int:
    contents = blocklog.decoded(data)
    return contents.lost + _listed(contents.records)[1]
