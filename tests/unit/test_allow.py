"""What is exempt, address by address."""

from random import Random

import numpy as np
import pytest
from columns import bases, column, listing, spans, texts

from xdropd.columns.listing import Row, prefix_length
from xdropd.columns.prefixes import FAMILIES
from xdropd.rules.allow import Exempt, Exempting

both_families = pytest.mark.parametrize("version", FAMILIES)


def narrow_before_wide(version: int, first: int, last: int) -> tuple[int, bool, int]:
    """Of two that are as wide a network comes before a range."""
    return last - first, prefix_length(version, first, last) is None, first


@both_families
def test_exemptions_are_those_of_every_address(version: int) -> None:
    rng = Random(version)
    width = FAMILIES[version].width
    for _ in range(150):
        base = rng.choice(bases(version))
        sources = [spans(version, rng, rng.randrange(5), base) for _ in range(3)]
        exempt = Exempt(
            Exempting("allow", str(number), listing(*(Row(version, *ends) for ends in sorted(set(some)))))
            for number, some in enumerate(sources)
        )
        addresses = {at for some in sources for first, last in some for at in range(first, last + 1)}
        keys = column(version, [(at, width) for at in range(base, base + 16)])
        assert exempt.holds(version, keys).tolist() == [at in addresses for at in range(base, base + 16)]
        firsts, lasts = (
            FAMILIES[version].ints(part(exempt.prefixes[version]))
            for part in (FAMILIES[version].firsts, FAMILIES[version].lasts)
        )
        assert all(last < first for last, first in zip(lasts, firsts[1:], strict=False)), "disjoint and ascending"
        asked = set(spans(version, rng, 8, base))
        held = {ends: addresses & set(range(ends[0], ends[1] + 1)) for ends in asked}
        effect = exempt.effect(listing(*(Row(version, *ends) for ends in sorted(asked))))
        covered = {ends for ends in asked if len(held[ends]) == ends[1] - ends[0] + 1}
        assert {row[1:3] for row in effect.covered.rows()} == covered
        assert {row[1:3] for row in effect.narrowed.rows()} == {ends for ends in asked - covered if held[ends]}
        for first, last in asked:
            assert exempt.covers(version, first, last) == (set(range(first, last + 1)) <= addresses)
            keepers = [
                (int(each.source), each.row.first, each.row.last) for each in exempt.keepers(version, first, last)
            ]
            assert keepers == [
                (number, *ends)
                for number, some in enumerate(sources)
                for ends in sorted(set(some), key=lambda ends: narrow_before_wide(version, *ends))
                if ends[0] <= first and last <= ends[1]
            ]
            touching = {
                (int(each.source), each.row.first, each.row.last) for each in exempt.touching(version, first, last)
            }
            assert touching == {
                (number, *ends)
                for number, some in enumerate(sources)
                for ends in some
                if ends[0] <= last and first <= ends[1]
            }


@both_families
def test_everything_and_all_but_the_ends_of_it(version: int) -> None:
    top = (1 << FAMILIES[version].width) - 1
    everything = Exempt([Exempting("allow", "file", listing(Row(version, 0, top)))])
    assert everything.covers(version, 0, top)
    assert everything.covers(version, top, top)
    inner = Exempt([Exempting("allow", "file", listing(Row(version, 1, top - 1)))])
    assert inner.covers(version, 1, top - 1)
    assert not inner.covers(version, 0, top)
    assert not inner.covers(version, top, top)
    assert len(inner.prefixes[version]) == 2 * FAMILIES[version].width - 2
    nothing = Exempt()
    assert not nothing.covers(version, 0, 0)
    assert list(nothing.keepers(version, 0, top)) == nothing.touching(version, 0, top) == []


def test_the_guard_says_what_it_protects() -> None:
    guard = Exempting("guard", "", listing(Row(4, 10 << 24, (11 << 24) - 1, 0, "the gateway of eth0")))
    allow = Exempting("allow", "blocklist.yaml", texts("10.1.0.0/16", "10.1.2.0/24"))
    exempt = Exempt([allow, guard])
    address = (10 << 24) + (1 << 16) + (2 << 8) + 3
    kept = [(keeper.kind, keeper.source, keeper.row.line) for keeper in exempt.keepers(4, address, address)]
    assert kept == [("allow", "blocklist.yaml", 2), ("allow", "blocklist.yaml", 1), ("guard", "the gateway of eth0", 0)]


def test_of_many_that_are_touched_a_few_are_named() -> None:
    exempt = Exempt([Exempting("allow", "file", texts(*(f"10.0.{at}.1" for at in range(200))))])
    assert 0 < len(exempt.touching(4, 10 << 24, (11 << 24) - 1)) <= 20


def test_a_list_with_a_hundred_thousand_exemptions_is_asked_in_no_time() -> None:
    """By its columns: nothing here goes through all of them one by one."""
    family = FAMILIES[4]
    keys = family.keys(np.arange(1 << 17, dtype=np.uint64) << np.uint64(12), 24)
    rows = [Row(4, first, first + 255) for first in family.ints(family.firsts(keys))]
    exempt = Exempt([Exempting("allow", "file", listing(*rows))])
    assert exempt.holds(4, keys).all()
    assert not exempt.holds(4, keys + np.uint64(1 << 16)).any()
    assert exempt.covers(4, 1 << 12, (1 << 12) + 255)
    assert not exempt.covers(4, 1 << 12, (1 << 12) + 256)
