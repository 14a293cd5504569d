"""Which addresses one state blocks that the one before did not, against asking for each of them."""

import ipaddress
import socket
from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from xdropd.columns.listing import Listing, Row
from xdropd.columns.prefixes import FAMILIES
from xdropd.daemon.severed import Severed, severed
from xdropd.rules.allow import Exempt, Exempting
from xdropd.rules.severed import entry_of, fresh, newly_blocked
from xdropd.rules.winners import Source, State
from xdropd.text.addresses import Span, pack, parse_span

BASES = {4: int(ipaddress.ip_address("198.18.0.0")), 6: int(ipaddress.ip_address("2001:db8::"))}
ADDRESSES = {version: [base + number for number in range(24)] for version, base in BASES.items()}


@st.composite
def spans(draw: st.DrawFn) -> Span:
    version = draw(st.sampled_from([4, 6]))
    first, last = sorted(draw(st.tuples(st.integers(0, 23), st.integers(0, 23))))
    return Span(version, BASES[version] + first, BASES[version] + last)


LISTINGS = st.lists(spans(), max_size=4).map(
    lambda some: Listing.of(Row(*span, line) for line, span in enumerate(some, 1))
)
SOURCES = st.lists(st.tuples(LISTINGS, st.sampled_from(["block", "block", "monitor"])), max_size=3)


def state(listed: list[tuple[Listing, str]], exempt: Exempt) -> State:
    return State(
        [Source(f"{at}", at, listing, action=action) for at, (listing, action) in enumerate(listed, 1)], exempt
    )


def is_blocked(state: State | None, version: int, address: int) -> bool:
    if state is None or next(state.exempt.keepers(version, address, address), None):
        return False
    return any(
        row.version == version and row.first <= address <= row.last
        for source in state.sources
        if source.action == "block"
        for row in source.listing.rows()
    )


@settings(max_examples=300)
@given(SOURCES, SOURCES, LISTINGS, LISTINGS, st.booleans(), st.booleans())
def test_each_address_by_itself(
    old: list[tuple[Listing, str]],
    new: list[tuple[Listing, str]],
    allow: Listing,
    other: Listing,
    is_exempt_alike: bool,
    is_first: bool,
) -> None:
    exempt = Exempt([Exempting("allow", "file", allow)])
    before = None if is_first else state(old, exempt)
    after = state([*old[:1], *new], exempt if is_exempt_alike else Exempt([Exempting("allow", "file", other)]))
    for version, addresses in ADDRESSES.items():
        column = FAMILIES[version].addresses(b"".join(pack(version, address) for address in addresses))
        found = newly_blocked(before, after, version, column).tolist()
        assert found == [
            is_blocked(after, version, address) and not is_blocked(before, version, address) for address in addresses
        ]
        assert not any(found) or fresh(before, after)
        for address, is_found in zip(addresses, found, strict=True):
            held = entry_of(after, version, address)
            assert held or not is_found
            assert held is None or held[1].first <= address <= held[1].last


def test_how_it_is_put() -> None:
    entry = parse_span("203.0.113.0/24")
    one = Severed("f", 1, entry, Counter({"ssh from 203.0.113.9": 1}))
    assert str(one) == "203.0.113.0/24: 1 open connection of this host is with it (ssh from 203.0.113.9)"
    many = Severed("f", 1, entry, Counter({"a": 2, "b": 1, "c": 1, "d": 1}), are_all=False, others=3)
    assert str(many) == (
        "203.0.113.0/24: at least 5 open connections of this host are with it (a, b, c …), "
        "and 3 more entries cut off connections"
    )


def test_nothing_of_a_list_that_stayed_is_looked_at() -> None:
    listing, more = (Listing.of([Row(*parse_span(text), 1)]) for text in ("198.18.0.0/15", "203.0.113.0/24"))
    before = State([Source("a", 1, listing)])
    after = State([Source("a", 1, listing), Source("b", 2, more)], before.exempt)
    assert [source.name for source in fresh(before, after)] == ["b"]
    assert fresh(after, before) == []
    assert newly_blocked(before, after, 4, np.zeros(0, np.uint64)).tolist() == []


def test_where_replies_pass_only_what_others_have_opened_is_cut() -> None:
    """With somebody at the same place, so that both ends are connections of this host."""
    place = "127.83.1.9"
    after = State([Source("a", 1, Listing.of([Row(*parse_span(place), 1)]))])
    with (
        socket.create_server((place, 0)) as server,
        socket.create_connection(server.getsockname(), source_address=(place, 0)),
        server.accept()[0],
    ):
        (all_of_it,) = severed(None, after)
        (rest,) = severed(None, after, passes_replies=True)
    assert sorted(words.split()[-2] for words in all_of_it.connections) == ["from", "to"]
    assert [words.split()[-2] for words in rest.connections] == ["from"]
