"""The format of the log of blocks: one damaged byte costs one line at most, and is counted."""

import json
import zlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from xdropd.columns.listing import KINDS, Listing, Row
from xdropd.host.blocklog import Contents, Record, decoded, encoded, encoded_listing, record_in
from xdropd.text.addresses import Span

NOW_S = 1_790_000_000.5
BATCHES = [
    [Record("block", "xdropctl", "192.0.2.7", None, "", NOW_S)],
    [
        Record("block", "fail2ban-sshd", "203.0.113.0/24", NOW_S + 600, 'say "] [', NOW_S),
        Record("block", "fail2ban-sshd", "2001:db8::1", NOW_S + 600, "\x1e ^ > Ää", NOW_S),
        Record("block", "fail2ban-sshd", "192.0.2.1-192.0.2.9", None, "", NOW_S),
    ],
    [Record("unblock", "xdropctl", "192.0.2.7", None, "", NOW_S)],
    [Record("block", "x", f"10.0.0.{at}", None, "", NOW_S) for at in range(3)],
]


def _log(batches: list[list[Record]]) -> list[bytes]:
    pieces, number = [], 1
    for batch in batches:
        pieces.append(encoded(batch, number, left=0))
        number += len(batch)
    return pieces


def _records_of(contents: Contents) -> list[Record]:
    return list(filter(None, map(record_in, contents.bodies)))


PIECES = _log(BATCHES)
LOG = b"".join(PIECES)
RECORDS = [record for batch in BATCHES for record in batch]

_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
_records = st.builds(
    Record,
    st.sampled_from(["block", "unblock"]),
    _texts,
    st.sampled_from(["192.0.2.7", "2001:db8::/32", "192.0.2.1-192.0.2.9"]),
    st.none() | st.floats(0, 2e9),
    _texts,
    st.floats(0, 2e9),
)


@given(st.lists(st.lists(_records, min_size=1, max_size=4)))
def test_what_is_written_is_read(batches: list[list[Record]]) -> None:
    log = b"".join(_log(batches))
    contents = decoded(log)
    assert _records_of(contents) == [record for batch in batches for record in batch]
    assert (contents.lost, contents.end, contents.next_number) == (0, len(log), 1 + len(_records_of(contents)))
    assert not contents.is_old


def test_a_listing_is_written_as_its_records_are() -> None:
    rows = [
        Row(4, 1, 1, 0, "ssh", None),
        Row(4, 8 << 8, (9 << 8) - 1, 0, "", NOW_S + 9),
        Row(6, 5, 5, 0, 'say "Größe" [', NOW_S + 600),
        Row(4, 3, 9, 0, "ssh", NOW_S),
        Row(6, 3, 9),
    ]
    for operation, left in (("block", 3), ("unblock", 0), ("block", None)):
        listing = Listing.of(rows)
        records = [
            Record(operation, 'a"ä', str(Span(*row[:3])), row.until, row.reason, NOW_S)
            for kind in KINDS
            for row in listing.some_rows(kind.version, np.arange(len(listing.table(kind))), is_range=kind.is_range)
        ]
        assert len(records) == len(rows)
        pieces = encoded_listing(operation, 'a"ä', listing, NOW_S, 7, left=left)
        assert b"".join(pieces) == encoded(records, 7, left=left)


def test_a_line_is_a_record() -> None:
    assert LOG.count(b"\n") == LOG.count(b"\x1e") == len(RECORDS)
    longest = Record("block", "\U0001f4a5" * 1000, "2001:db8::1", NOW_S, "\U0001f4a5" * 1000, NOW_S)
    assert len(encoded([longest], 10**12, left=0)) < 1 << 16


def test_what_was_never_finished_does_not_count() -> None:
    """A log that is cut anywhere, as by an end of the process or of the power in the middle of a write."""
    ends = [len(b"".join(PIECES[:at])) for at in range(len(PIECES) + 1)]
    for cut in range(len(LOG) + 1):
        contents = decoded(LOG[:cut])
        whole = sum(end <= cut for end in ends) - 1
        assert _records_of(contents) == [record for batch in BATCHES[:whole] for record in batch], cut
        assert (contents.lost, contents.end) == (0, ends[whole]), cut
        grown = decoded(LOG[: contents.end] + encoded(BATCHES[-1], contents.next_number, left=0))
        assert (_records_of(grown), grown.lost) == (_records_of(contents) + BATCHES[-1], 0), cut


def test_a_flipped_bit_costs_a_line_and_is_counted() -> None:
    for at in range(len(LOG)):
        for bit in range(8):
            damaged = bytearray(LOG)
            damaged[at] ^= 1 << bit
            contents = decoded(bytes(damaged))
            left = _records_of(contents)
            missing = [record for record in RECORDS if not (left and left[0] == record and left.pop(0))]
            assert left == [], "nothing but what was written, in its order"
            assert len(missing) == contents.lost <= 1, (at, bit, contents)


@given(st.data())
def test_any_damage_ends(data: st.DataObject) -> None:
    damaged = bytearray(LOG)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at : at + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
        if not damaged:
            break
    contents = decoded(bytes(damaged))
    assert set(_records_of(contents)) <= set(RECORDS)
    assert contents.end <= len(damaged)


def test_a_first_line_without_its_separator() -> None:
    """It is no line of the first version, though there is nothing else to tell that by than what it holds."""
    for text in (LOG[1:], LOG[1 : LOG.index(b"\n") + 1]):
        contents = decoded(text)
        assert contents.lost == 1
        assert set(_records_of(contents)) <= set(RECORDS)


# ---- the first version's ----


def _old(*batches: list[Record]) -> bytes:
    bodies = [json.dumps(batch, separators=(",", ":")).encode() for batch in batches]
    return b"".join(b"%08x %s\n" % (zlib.crc32(body), body) for body in bodies)


def test_a_log_of_the_first_version_is_read() -> None:
    old = _old(*BATCHES)
    contents = decoded(old + b"0123 torn")
    assert (_records_of(contents), contents.lost, contents.end) == (RECORDS, 0, len(old))
    assert contents.is_old
    grown = decoded(old + encoded(BATCHES[0], contents.next_number, left=0))
    assert (_records_of(grown), grown.lost, grown.is_old) == (RECORDS + BATCHES[0], 0, True)


def test_what_is_damaged_in_it_is_counted() -> None:
    old = bytearray(_old(*BATCHES))
    old[len(_old(BATCHES[0])) + 20] ^= 1
    for more, added in ((b"", []), (encoded(BATCHES[0], 1, left=0), BATCHES[0])):
        contents = decoded(bytes(old) + more)
        assert contents.lost == len(BATCHES[1])
        assert _records_of(contents) == [*BATCHES[0], *BATCHES[2], *BATCHES[3], *added]
    everything = bytearray(_old(RECORDS))
    everything[50] ^= 1
    assert decoded(bytes(everything) + encoded(BATCHES[0], 1, left=0)).lost == len(RECORDS)
