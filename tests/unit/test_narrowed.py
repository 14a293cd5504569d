"""What is told of entries that something exempts parts of."""

from random import Random

import pytest
from columns import bases, listing, spans, texts

from databases import database
from xdropd.columns.listing import Row
from xdropd.columns.prefixes import FAMILIES
from xdropd.rules.allow import Exempt, Exempting
from xdropd.rules.narrowed import narrowed
from xdropd.rules.winners import Source, State
from xdropd.text.addresses import Span, parse_span
from xdropd.text.formats.mmdb import Database


@pytest.mark.parametrize("version", FAMILIES)
def test_every_entry_that_shares_an_address_is_told_of_once(version: int) -> None:
    rng = Random(version)
    for _ in range(200):
        base = rng.choice(bases(version))
        blocked, allowed = (sorted(set(spans(version, rng, rng.randrange(7), base))) for _ in range(2))
        allow = Exempting("allow", "file", listing(*(Row(version, *ends) for ends in allowed)))
        source = Source("file", 1, listing(*(Row(version, *ends) for ends in blocked)))
        found = narrowed(State([source], Exempt([allow])), allow, 100)
        shared = [ends for ends in blocked if any(ends[0] <= last and first <= ends[1] for first, last in allowed)]
        assert sorted((row.first, row.last) for _, row, _ in found) == shared
        assert all(row.first <= keeper.row.last and keeper.row.first <= row.last for _, row, keeper in found)


def test_what_is_told_is_by_the_one_that_was_asked_for() -> None:
    first = Exempting("allow", "first", texts("10.0.0.1"))
    second = Exempting("allow", "second", texts("10.0.0.2"))
    guard = Exempting("guard", "", listing(Row(4, (10 << 24) + 3, (10 << 24) + 3, 0, "the gateway")))
    state = State([Source("file", 1, texts("10.0.0.0/24"))], Exempt([first, second, guard]))
    for by, name in ((first, "first"), (second, "second"), (guard, "the gateway")):
        ((_, row, keeper),) = narrowed(state, by, 10)
        assert row.line == 1
        assert (keeper.kind, keeper.source) == (by.kind, name)


def test_of_many_a_few_are_told() -> None:
    allow = Exempting("allow", "file", texts("10.0.0.0/8"))
    state = State([Source("file", 1, texts(*(f"10.0.{at}.1" for at in range(200))))], Exempt([allow]))
    assert len(narrowed(state, allow, 5)) == 5
    assert narrowed(State((), Exempt([allow])), allow, 5) == []


def test_of_a_selection_one_part_is_enough() -> None:
    records = {"192.0.2.0/24": {"country_code": "KP"}, "198.51.100.0/25": {"country_code": "KP"}}
    records |= {"203.0.113.0/24": {"country_code": "XX"}, "2001:db8::/32": {"country_code": "KP"}}
    selected = Database(database(records)).select(("country=XX", "country=KP")).listing
    for exempt, expected in (
        ("198.51.100.7", ["country=KP"]),
        ("2001::/16", ["country=KP"]),
        ("192.0.0.0/2", ["country=KP", "country=XX"]),
        ("198.51.100.200", []),
    ):
        allow = Exempting("allow", "file", texts(exempt))
        found = narrowed(State([Source("world.mmdb", 1, selected)], Exempt([allow])), allow, 10)
        assert [str(Span(*row[:3])) for _, row, _ in found] == expected
        assert {str(Span(*keeper.row[:3])) for _, _, keeper in found} <= {exempt}


def test_what_a_database_allows_is_named() -> None:
    selected = Database(database({"192.0.2.0/24": {"asn": 64496}})).select(("asn=64496",)).listing
    allow = Exempting("allow", "world.mmdb", selected)
    exempt = Exempt([allow])
    ((_, row, keeper),) = narrowed(State([Source("file", 1, texts("192.0.0.0/16"))], exempt), allow, 10)
    assert (row.line, str(Span(*keeper.row[:3]))) == (1, "asn=64496")
    span = parse_span("192.0.2.7")
    assert [str(Span(*each.row[:3])) for each in exempt.keepers(*span)] == ["asn=64496"]
    assert exempt.covers(*parse_span("192.0.2.0/25"))
    assert not exempt.covers(*parse_span("192.0.2.0/23"))
