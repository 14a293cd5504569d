"""Blocks: what callers of `xdropctl block` have listed, kept in the log until it ends or is taken back."""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from xdropd.host.blocklog import BlockLog, Record
from xdropd.text.addresses import Span, parse_span
from xdropd.text.entries import Entry


@dataclass(slots=True)
class Blocks:
    """Entries by source name, in the order in which sources first appeared. `log` None: nothing outlives us."""

    log: BlockLog | None
    by_source: dict[str, dict[Span, Entry]] = field(default_factory=dict)

    def load(self, now_s: float) -> list[str]:
        """Read the log; what has ended stays out. Sentences on damage. Raises OSError."""
        if self.log is None:
            return []
        records, damage = self.log.read()
        self.by_source = {}
        for record in records:
            self._take(record)
        for entries in self.by_source.values():
            for span in [span for span, entry in entries.items() if entry.until is not None and entry.until <= now_s]:
                del entries[span]
        return damage

    def record(self, records: list[Record], now_s: float) -> None:
        """Log a batch and take it into account. Raises OSError, and nothing has changed then."""
        if self.log is not None:
            self.log.append(records)
        for record in records:
            self._take(record)
        if self.log is not None and self.log.wants_compaction:
            with contextlib.suppress(OSError):  # the batch itself is logged; a shorter log can wait
                self.log.compact(self._all(now_s))

    def _take(self, record: Record) -> None:
        span = parse_span(record.entry)
        entries = self.by_source.setdefault(record.source, {})
        if record.operation == "block":
            entries[span] = Entry(span, 0, record.reason, record.until)
        else:
            entries.pop(span, None)

    def _all(self, now_s: float) -> Iterator[Record]:
        for source, entries in self.by_source.items():
            for span, entry in entries.items():
                yield Record("block", source, str(span), entry.until, entry.reason, now_s)

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
