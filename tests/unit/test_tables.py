"""The table of `list`: what is made for many rows at once is what each row says by itself."""

import json
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from xdropd.commands import replies, reports, tables
from xdropd.commands.tables import Screen
from xdropd.text.names import printable

NOW = datetime(2026, 12, 1, 3, 0, tzinfo=UTC)
WIDE = Screen(None, has_colours=True, has_unicode=True)
TITLES = ("ENTRY", "PACKETS", "BYTES", "LAST SEEN", "UNTIL", "SOURCE", "REASON")
NUMBERS = (1, 2, 3, 4)  # columns whose cells stand at the right

MOMENTS = st.none() | st.integers(-200, 10**7).map(lambda s: f"{NOW + timedelta(seconds=s):%Y-%m-%dT%H:%M:%SZ}")
COUNTS = st.just(0) | st.integers(0, 2**64 - 1)
TEXTS = (
    st.none() | st.text(max_size=6) | st.sampled_from(["ssh", " end ", 'a "q" \\', "漢字", "e\u0301", "\x1b[2J", "%s"])
)
ROWS = st.fixed_dictionaries(
    {
        "entry": st.sampled_from(["192.0.2.1", "203.0.113.0/24", "2001:db8::/32", "10.0.0.1-10.0.0.9"]),
        "source": st.sampled_from(["/etc/xdrop/blocklist.yaml", "fail2ban", "/lists/ü 漢.txt"]),
        "line": st.none() | st.integers(1, 10**7),
        "reason": TEXTS,
        "since": MOMENTS,
        "until": MOMENTS,
        "packets": COUNTS,
        "bytes": COUNTS,
        "last_seen": MOMENTS,
    }
)


def cells(row):
    source = printable(row["source"])
    return (
        row["entry"],
        tables.count(row["packets"]),
        tables.size(row["bytes"]),
        tables.ago(row["last_seen"], NOW),
        tables.until(row["until"], NOW),
        f"{source}:{row['line']}" if row["line"] else source,
        printable(row["reason"] or ""),
    )


def filled(row_cells, widths):
    fills = [" " * (width - tables.width_of(cell)) for cell, width in zip(row_cells, widths, strict=True)]
    shown = [
        fill + cell if at in NUMBERS else cell + fill
        for at, (cell, fill) in enumerate(zip(row_cells, fills, strict=True))
    ]
    return "  ".join(shown).rstrip()


def is_strong(row):
    seen = row["last_seen"]
    return seen is not None and NOW - datetime.fromisoformat(seen) < timedelta(minutes=1)


@given(st.lists(st.lists(ROWS, min_size=1, max_size=4), max_size=4))
def test_a_line_says_what_its_row_does(pieces):
    columns = [
        reply["rows"]
        for piece in pieces
        for reply in replies.said_in("\n".join(json.dumps({"row": row}) for row in piece).encode())
    ]
    head, *lines = reports.entries(columns, WIDE, NOW, with_rates=False)
    rows = [row for piece in pieces for row in piece]
    widths = [max(map(tables.width_of, column)) for column in zip(TITLES, *map(cells, rows), strict=True)]
    assert head == f"\x1b[2m{filled(TITLES, widths)}\x1b[0m"
    expected = [filled(cells(row), widths) for row in rows]
    assert lines == [
        f"\x1b[1m{line}\x1b[0m" if is_strong(row) else line for row, line in zip(rows, expected, strict=True)
    ]


def test_widths_are_those_of_the_first_thousand_rows() -> None:
    def lines(count):
        rows = [["x" * (3 + at // 1000)] for at in range(count)]
        return list(tables.table([tables.Column("E")] * 2, [tables.Rows([row, row], [""]) for row in rows], WIDE))

    assert lines(1000)[0] == lines(2000)[0]
    assert lines(1001)[-1] == "xxxx  xxxx"
