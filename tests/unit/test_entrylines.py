"""Lines of entries with ends and reasons: many at a time, as one at a time."""

from random import Random

import pytest

from xdropd.columns.listing import Listing, Row
from xdropd.text.addresses import parse_leniently
from xdropd.text.entrylines import Lines, Reader, end_of

_ENTRIES = [
    *("192.0.2.1", "192.0.2.0/24", "10.0.0.1/8", "192.0.2.4-192.0.2.9", "::ffff:192.0.2.1", "::ffff:10.0.0.0/120"),
    *("2001:db8::1", "2001:db8::5/64", "2001:db8::1-2001:db8::9", "192.0.2.0-192.0.2.255", "0.0.0.0/0"),
]
_ENDS = {"1796083200": 1796083200.0, "1796083200.25": 1796083200.25, "2026-12-01T00:00:00Z": 1796083200.0}
_ENDS |= {"": None, "none": None}
_REASONS = ["", "ssh", "Größe", "a b c"]


def _read(text: str, *, until: float | None = None, reason: str = "", takes_back: bool = False) -> Lines:
    return Reader(until, reason, takes_back=takes_back).read([text.encode()])


def _rows(listing: Listing) -> set[Row]:
    return set(listing.rows())


@pytest.mark.parametrize("seed", range(30))
def test_lines_are_read_as_each_alone(seed: int) -> None:
    rng = Random(seed)
    until, of_all = rng.choice((None, 5.0)), rng.choice(("", "of all"))
    lines, put, gone, remarks = [], set(), set(), []
    ends, reasons = rng.choice(([""], list(_ENDS), ["1796083200"])), rng.choice(([""], _REASONS))
    for number in range(1, rng.choice((2, 40))):
        entry, end, reason = rng.choice(_ENTRIES), rng.choice(ends), rng.choice(reasons)
        span, remark = parse_leniently(entry)
        remarks += [remark] if remark else []
        if is_gone := rng.random() < 0.3:
            gone.add((*span, number))
        else:
            put.add(Row(*span, number, reason or of_all, until if not end else _ENDS[end]))
        line = f"{'-' * is_gone}{entry}\t{end}\t{reason}"
        lines.append(line.rstrip("\t") if rng.random() < 0.5 else line)
    found = _read("".join(f"{line}\n" for line in lines), until=until, reason=of_all, takes_back=True)
    assert sorted(found.remarks) == sorted(remarks)
    assert found.problems == []
    # Where no entry has an end, those that stand twice are one: the first.
    assert _rows(found.put) <= put
    assert {row[:3] for row in _rows(found.put)} == {row[:3] for row in put}
    assert {row[:3] for row in _rows(found.gone)} == {row[:3] for row in gone}


def test_many_pieces_are_one_text() -> None:
    lines = [f"10.{at >> 16}.{at >> 8 & 255}.{at & 255}\t{1796083200 + at}\treason {at % 7}\n" for at in range(40_000)]
    whole = _read("".join(lines))
    pieces = Reader(None, "", takes_back=False).read(
        "".join(lines[at : at + 99]).encode() for at in range(0, 40_000, 99)
    )
    assert list(whole.put.rows()) == list(pieces.put.rows())
    assert whole.put.count == 40_000
    assert whole.put.row(4, 10 << 24 | 9, 10 << 24 | 9) == Row(
        4, 10 << 24 | 9, 10 << 24 | 9, 10, "reason 2", 1796083209.0
    )


@pytest.mark.parametrize(
    ("line", "column", "says"),
    [
        ("10.0", 1, "10.0"),
        ("-192.0.2.1", 1, "-192.0.2.1"),
        ("192.0.2.1\tsoon", 11, "soon"),
        ("192.0.2.1\t2026-12-01T00:00:00", 11, "zone"),
        ("192.0.2.1\t99999999999999", 11, ""),
        ("192.0.2.1\t-5", 11, "-5"),
        ("192.0.2.1\tnan", 11, "nan"),
        ("192.0.2.1\t\u0661", 11, ""),
        ("192.0.2.1\t5\ta\x00b", 13, "printable"),
        ("192.0.2.1\t5\t" + "x" * 1001, 13, "1000"),
        ("192.0.2.1\t5\tssh\t", 16, "third tab"),
        ("", 1, ""),
        ("192.0.2.1\r", 1, ""),
    ],
)
def test_problems_have_their_places(line: str, column: int, says: str) -> None:
    found = _read(f"192.0.2.9\n192.0.2.8\t5\n{line}\n192.0.2.7\n")
    ((number, at, sentence),) = found.problems
    assert (number, at) == (3, column)
    assert says in sentence
    assert not any(ord(sign) < 32 for sign in sentence)


def test_there_are_not_more_problems_and_remarks_than_somebody_reads() -> None:
    found = _read("10.0\n" * 500 + "10.0.0.1/8\n" * 300)
    assert (len(found.problems), found.more_problems) == (100, 400)
    assert (len(found.remarks), found.more_remarks) == (100, 200)


@pytest.mark.parametrize("text", ["253402300800", "9" * 12, "1e3", "+5", " 5", "5 ", "0x5", "inf", "1_000", ""])
def test_what_is_no_end(text: str) -> None:
    with pytest.raises(ValueError, match="."):
        end_of(text)
