"""Entries as they are told: many at a time say what each says by itself."""

import json
from random import Random
from socket import AF_INET, AF_INET6, inet_ntop

import numpy as np
import pytest
from columns import bases, listing, spans
from hypothesis import given
from hypothesis import strategies as st

from xdropd.columns.listing import KINDS, SELECTIONS, Kind, Listing, Members, Row, Selections, prefix_length
from xdropd.columns.prefixes import FAMILIES, Column
from xdropd.columns.versions import SELECTED
from xdropd.control import rows
from xdropd.control.moments import moment, moments
from xdropd.control.rows import described, lines_of
from xdropd.control.sharedstats import AllStats
from xdropd.kernel.abi import STATS, Stats
from xdropd.rules.winners import Source
from xdropd.text import selecting
from xdropd.text.addresses import format_packed

NUMBER = 7
REASONS = ("", "", "ssh", 'a "quote" and a \\', "Größe \udcff", "{brace}")
NAMES = ("/etc/xdrop/blocklist.yaml", "fail2ban", '/lists/"odd"\\x2f{}.txt')


def some_listing(version: int, rng: Random, count: int) -> Listing:
    found = []
    for line in range(1, count + 1):
        ((first, last),) = spans(version, rng, 1, rng.choice(bases(version)))
        until = rng.choice((None, None, 0.0, 1_800_000_000.0, 1_800_000_000.75))
        found.append(Row(version, first, last, rng.choice((0, line)), rng.choice(REASONS), until))
    return listing(*found).in_force(-1)


def some_selections(rng: Random) -> Listing:
    codes = np.array(sorted(rng.sample([selecting.code("asn", number) for number in range(9)], 3)), np.uint64)
    nothing = {version: Members(family.empty_keys(), np.zeros(0, np.uint32)) for version, family in FAMILIES.items()}
    return Listing.of_selections(Selections.of(codes, np.arange(3, 0, -1, dtype=np.uint32), nothing))


def key_of(row: Row) -> tuple[Kind, Column]:
    if row.version == SELECTED:
        return SELECTIONS, np.array([row.first], np.uint64)
    family, length = FAMILIES[row.version], prefix_length(*row[:3])
    if length is None:
        return Kind(row.version, is_range=True), family.range_key(row.first, row.last)
    return Kind(row.version, is_range=False), family.key(row.first, length)


def some_stats(rng: Random, listed: Listing) -> tuple[dict[Row, Stats], AllStats]:
    """Of most entries, some of which were never hit; and of one that is not listed any more."""
    of_row: dict[Row, Stats] = {}
    columns = {}
    for kind in KINDS:
        last = 77 + 5 * (kind.is_range and kind != SELECTIONS)
        parts = [(key_of(gone)[1], None) for gone in [Row(kind.version, 77, last)]]
        for row in listed.rows():
            if key_of(row)[0] == kind and rng.random() < 0.8:
                seen_ns = rng.choice((0, rng.randrange(1, 1 << 40)))
                of_row[row] = Stats(rng.randrange(1 << 40), rng.getrandbits(64), seen_ns, rng.randrange(1, 1 << 31))
                parts.append((key_of(row)[1], of_row[row]))
        keys = np.concatenate([key for key, _ in parts])
        told = np.array([(*(stats or Stats(1, 1, 1, 1)), NUMBER) for _, stats in parts], STATS)
        order = np.argsort(keys, kind="stable")
        columns[kind, NUMBER] = keys[order], told[order]
        columns[kind, NUMBER + 1] = keys[:1], told[:1]
    return of_row, columns


@pytest.mark.parametrize("version", FAMILIES)
def test_lines_say_what_is_said_of_each(version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = Random(version)
    monkeypatch.setattr(rows, "_ROWS_A_PIECE", 5)
    monkeypatch.setattr(rows, "monotonic_zero_s", lambda: 1_700_000_000.25)
    for turn in range(60):
        listed = some_listing(version, rng, rng.choice((0, 1, 5, 30))) if turn % 5 else some_selections(rng)
        reason, action = rng.choice(("", "theirs")), rng.choice(("block", "monitor"))
        source = Source(rng.choice(NAMES), NUMBER, listed, reason, action=action)
        of_row, known = some_stats(rng, listed)
        told_of: AllStats = known if turn % 4 else {}
        pieces = list(lines_of(source, lambda told_of=told_of: told_of))  # type: ignore[misc]
        assert all(piece.endswith(b"\n") and piece.count(b"\n") <= 5 for piece in pieces)
        told = [described(source, row, of_row.get(row) if turn % 4 else None) for row in listed.rows()]
        expected = [json.dumps({"row": each}, separators=(",", ":")) for each in told]
        assert b"".join(pieces).decode().splitlines() == expected


@given(st.lists(st.integers(0, 4_000_000_000_000).map(lambda thousandths: thousandths / 1000) | st.floats(0, 1e10)))
def test_many_moments_are_told_as_one_is(seconds: list[float]) -> None:
    assert moments(np.array(seconds)) == [moment(each) for each in seconds]


@given(st.sampled_from((4, 6)), st.lists(st.binary(min_size=16, max_size=16)))
def test_many_addresses_are_written_as_one_is(version: int, packed: list[bytes]) -> None:
    width = FAMILIES[version].width // 8
    family = {4: AF_INET, 6: AF_INET6}[version]
    expected = [inet_ntop(family, each[:width]) for each in packed]
    assert format_packed(version, b"".join(each[:width] for each in packed)) == expected
