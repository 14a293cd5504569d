"""Keys of prefixes and ranges, against the arithmetic of Python's own integers and of ipaddress."""

from ipaddress import IPv4Address, IPv6Address, ip_network, summarize_address_range
from random import Random

import numpy as np
import pytest
from columns import column, prefixes_in

from xdropd.columns.prefixes import FAMILIES, Column, find, match, runs, union, without

ADDRESS = {4: IPv4Address, 6: IPv6Address}
both_families = pytest.mark.parametrize("version", FAMILIES)


def addresses(version: int, numbers: list[int]) -> Column:
    return FAMILIES[version].addresses(
        b"".join(number.to_bytes(FAMILIES[version].width // 8, "big") for number in numbers)
    )


def some_numbers(version: int, rng: Random) -> list[int]:
    """Ends, and numbers with zero bytes at their end, which numpy takes for no bytes."""
    width = FAMILIES[version].width
    found = [0, 1, (1 << width) - 1, 1 << width - 1, 256, (1 << width) - 256]
    return found + [rng.getrandbits(width) >> (rest := rng.randrange(width)) << rest for _ in range(200)]


def some_ranges(version: int, rng: Random) -> list[tuple[int, int]]:
    top = (1 << FAMILIES[version].width) - 1
    found = [(0, top), (0, 0), (top, top), (0, top - 1), (1, top), (1, top - 1), (4, 7), (5, 8)]
    for _ in range(1000):
        home, wrong_bits = rng.choice((0, top, rng.randint(0, top))), rng.randint(1, FAMILIES[version].width)
        first, last = sorted(home ^ rng.getrandbits(wrong_bits) for _ in range(2))
        found.append((first, last))
    return found


@both_families
def test_addresses_are_what_they_were(version: int) -> None:
    family, numbers = FAMILIES[version], some_numbers(version, Random(1))
    made = addresses(version, numbers)
    assert made.dtype == family.address_type
    assert family.ints(made) == numbers
    assert family.ints(family.of_words(family.words(made))) == numbers
    assert [family.ints(family.address(number)) for number in numbers] == [[number] for number in numbers]
    assert sorted(numbers) == family.ints(np.sort(made)), "columns sort as numbers do"


@both_families
def test_a_key_says_what_its_prefix_is(version: int) -> None:
    family, rng = FAMILIES[version], Random(2)
    numbers = some_numbers(version, rng)
    lengths = [rng.randint(0, family.width) for _ in numbers]
    keys = family.keys(addresses(version, numbers), np.array(lengths, np.uint8))
    networks = [
        ip_network((number, length), strict=False)
        for number, length in zip(map(ADDRESS[version], numbers), lengths, strict=True)
    ]
    firsts = family.without_host_bits(keys)
    assert keys.dtype == family.key_type
    assert family.ints(firsts) == [int(network.network_address) for network in networks]
    keys = family.keys(firsts, np.array(lengths, np.uint8))
    assert family.ints(family.firsts(keys)) == family.ints(firsts)
    assert family.ints(family.lasts(keys)) == [int(network.broadcast_address) for network in networks]
    assert family.lengths(keys).tolist() == lengths
    assert family.masks(keys) == b"".join(network.netmask.packed for network in networks)
    assert family.ints(family.host_masks(keys)) == [int(network.hostmask) for network in networks]
    for length in (0, 1, 9, family.width // 2 + 1, family.width):
        longer = keys[family.lengths(keys) >= length]
        wider = [network.supernet(new_prefix=length) for network in networks if network.prefixlen >= length]
        assert prefixes_in(version, family.shortened(longer, length)) == [
            (int(network.network_address), length) for network in wider
        ]


@both_families
def test_keys_ascend_as_prefixes_nest(version: int) -> None:
    rng = Random(3)
    width = FAMILIES[version].width
    prefixes = []
    for number in some_numbers(version, rng):
        length = rng.randint(0, width)
        prefixes.append((number >> width - length << width - length, length))
    assert prefixes_in(version, column(version, prefixes)) == sorted(set(prefixes))
    shuffled = column(version, prefixes)
    rng.shuffle(order := list(range(len(shuffled))))
    assert np.array_equal(np.sort(shuffled[order]), column(version, prefixes))


@both_families
def test_ranges_are_split_into_the_fewest_prefixes(version: int) -> None:
    family, ranges = FAMILIES[version], some_ranges(version, Random(4))
    firsts, lasts = (addresses(version, list(ends)) for ends in zip(*ranges, strict=True))
    keys = family.range_keys(firsts, lasts)
    assert keys.dtype == family.range_type
    assert list(zip(*map(family.ints, family.ends_of_ranges(keys)), strict=True)) == ranges
    assert family.ints(family.behind(firsts, lasts)) == [last - first for first, last in ranges]
    rows, pieces = family.split(firsts, lasts)
    found: dict[int, list[tuple[int, int]]] = {}
    for row, piece in zip(rows.tolist(), prefixes_in(version, pieces), strict=True):
        found.setdefault(row, []).append(piece)
    for row, (first, last) in enumerate(ranges):
        expected = summarize_address_range(ADDRESS[version](first), ADDRESS[version](last))
        assert found[row] == [(int(network.network_address), network.prefixlen) for network in expected]
    by_key = sorted(zip(prefixes_in(version, pieces), rows.tolist(), strict=True))
    assert list(zip(prefixes_in(version, pieces), rows.tolist(), strict=True)) == by_key


@both_families
def test_nothing_is_split_into_nothing(version: int) -> None:
    family = FAMILIES[version]
    rows, keys = family.split(addresses(version, []), addresses(version, []))
    assert len(rows) == len(keys) == 0
    assert keys.dtype == family.key_type


@both_families
def test_a_chain_is_what_holds_a_prefix(version: int) -> None:
    family = FAMILIES[version]
    number = some_numbers(version, Random(5))[-1] | 1
    for length in (0, 7, family.width):
        chain = prefixes_in(version, family.chain(number, length, [0, 1, 7, 8, family.width]))
        rest = family.width
        assert chain == [(number >> rest - bits << rest - bits, bits) for bits in (0, 1, 7, 8, rest) if bits <= length]


@both_families
def test_columns_are_sets(version: int) -> None:
    rng, width = Random(6), FAMILIES[version].width
    for turn in range(300):
        common = {(rng.getrandbits(width), width) for _ in range(rng.choice((0, 1, 5, 30)))}
        ones, others = (
            common | {(rng.getrandbits(width), width) for _ in range(rng.choice((0, 0, 1, 3)))} for _ in range(2)
        )
        one, other = column(version, list(ones)), column(version, list(others))
        assert prefixes_in(version, without(one, other)) == sorted(ones - others), turn
        assert prefixes_in(version, union(one[:0], one, other)) == sorted(ones | others)
        mine, theirs = match(one, other)
        assert prefixes_in(version, one[mine]) == prefixes_in(version, other[theirs])
        assert set(prefixes_in(version, one[mine])) == ones & others
        rows, found = find(one, other)
        assert found.tolist() == [prefix in ones for prefix in sorted(others)]
        assert np.array_equal(one[rows[found]], other[found])
    assert without(one, one).tolist() == []


def test_runs_are_all_rows_of_stretches() -> None:
    starts, stops = np.array([3, 7, 5, 0]), np.array([5, 7, 4, 2])
    assert runs(starts, stops).tolist() == [3, 4, 0, 1]
    assert runs(starts[:0], stops[:0]).tolist() == []
    assert runs(starts[1:2], stops[1:2]).tolist() == []
