"""Blocks: what callers of `xdropctl block` have listed, kept in the log until it ends or is taken back.

The log is on the disk, and once more in memory that outlives the process (logcopy.py). A change is put into both before
it takes effect. Where the log on the disk cannot be read, or has lost something, what the copy knows stays in force,
and the log is written anew as soon as that can be done; until then nothing can be changed. A damaged log is set aside.
"""

import contextlib
import os
import pwd
import shlex
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from xdropd.daemon.logcopy import LogCopy
from xdropd.errors import XdropdError
from xdropd.host import blocklog
from xdropd.host.blocklog import BlockLog, Record
from xdropd.text.addresses import Span, parse_span
from xdropd.text.entries import Entry

_LOG_BYTES_AT_LEAST = 1 << 20  # what a shorter log could save is not worth its writing
_RECORDS_AT_ONCE = 2000

_Listed = dict[str, dict[Span, Entry]]


@dataclass(slots=True)
class Batch:
    """Records that are logged and take effect together, with what they name and what was known of that before."""

    records: list[Record]
    spans: list[Span] = field(default_factory=list)
    before: list[Entry | None] = field(default_factory=list)
    lines: list[bytes] = field(default_factory=list)


class Blocks:
    """`by_source` has the entries by source name, in the order in which sources came to have any.

    `log` None: there is no disk for it.
    """

    def __init__(self, log: BlockLog | None, copy: LogCopy) -> None:
        self.by_source: _Listed = {}
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
        self.by_source = {
            source: lasting
            for source, entries in listed.items()
            if (lasting := {span: entry for span, entry in entries.items() if _lasts(entry, now_s)})
        }
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

    def _write_anew(self, damaged: bytes, listed: _Listed, now_s: float) -> None:
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

    def batch(self, records: list[Record]) -> Generator[None, None, Batch]:
        """Make records ready to be logged together. Yields now and then; nothing may be changed until they are."""
        batch = Batch(records)
        number = self._next_number
        for at in range(0, len(records), _RECORDS_AT_ONCE):
            some = records[at : at + _RECORDS_AT_ONCE]
            batch.lines.append(blocklog.encoded(some, number + at, behind=len(records) - at - len(some)))
            spans = [parse_span(record.entry) for record in some]
            batch.spans += spans
            batch.before += [
                self.by_source.get(record.source, {}).get(span) for record, span in zip(some, spans, strict=True)
            ]
            yield
        return batch

    @contextlib.contextmanager
    def logged(self, batch: Batch) -> Iterator[Callable[[], Iterator[None]]]:
        """Log a batch, on disk when the context is entered; what it gives has it take effect in `by_source`, in steps.

        Whatever fails within the context, log and entries are as before. Raises XdropdError if the log cannot be
        written, and nothing has changed.
        """
        if self._unusable is not None:
            raise XdropdError(f"nothing was changed, the log of blocks cannot be used: {self._why_unusable()}")
        sources = dict(self.by_source)
        end, number = self._end, self._next_number
        self._append(b"".join(batch.lines), len(batch.records))
        is_done = False

        def take_effect() -> Iterator[None]:
            for at, (record, span) in enumerate(zip(batch.records, batch.spans, strict=True)):
                _apply(self.by_source, record, span)
                if at % _RECORDS_AT_ONCE == 0:
                    yield

        try:
            yield take_effect
            is_done = True
        finally:
            if not is_done:
                self._take_back(end, number, batch, sources)

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

    def _take_back(self, end: int, number: int, batch: Batch, sources: _Listed) -> None:
        self._end, self._next_number = end, number
        if self._log is not None:
            self._log.cut(end)
        self._copy.cut(end)
        self.by_source = sources
        for record, span, entry in zip(batch.records, batch.spans, batch.before, strict=True):
            entries = sources.get(record.source, {})
            if entry is not None:
                entries[span] = entry
            else:
                entries.pop(span, None)

    def later(self, source: str, spans: Iterable[Span], until: float | None, reason: str, now_s: float) -> list[Record]:
        """Records for a `block` of spans, where the later end wins over what is there."""
        known = self.by_source.get(source, {})
        records = []
        for span in dict.fromkeys(spans):
            old = known.get(span)
            end = until
            if old is not None and (old.until is None or (until is not None and old.until > until)):
                end = old.until
            records.append(Record("block", source, str(span), end, reason or (old.reason if old else ""), now_s))
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


def _listed(records: Iterable[Record]) -> tuple[_Listed, int]:
    """What is listed after all of these, and how many name no entry."""
    listed: _Listed = {}
    lost = 0
    for record in records:
        try:
            _apply(listed, record, parse_span(record.entry))
        except ValueError:  # this version knows less than the one that wrote it
            lost += 1
    return listed, lost


def _apply(listed: _Listed, record: Record, span: Span) -> None:
    entries = listed.setdefault(record.source, {})
    if record.operation == "block":
        entries[span] = Entry(span, 0, record.reason, record.until)
    else:
        entries.pop(span, None)
    if not entries:
        del listed[record.source]


def _lasts(entry: Entry, now_s: float) -> bool:
    return entry.until is None or entry.until > now_s


def _lines(listed: _Listed, now_s: float) -> Iterator[bytes]:
    records = (
        Record("block", source, str(span), entry.until, entry.reason, now_s)
        for source, entries in listed.items()
        for span, entry in entries.items()
    )
    number = 1
    while some := list(islice(records, _RECORDS_AT_ONCE)):
        yield blocklog.encoded(some, number, is_batch=False)
        number += len(some)


def _count(listed: _Listed) -> int:
    return sum(map(len, listed.values()))


def _lost(data: bytes) -> int:
    contents = blocklog.decoded(data)
    return contents.lost + _listed(contents.records)[1]
