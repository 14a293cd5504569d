"""Generations: what is counted stays through every change, and what the kernel refuses leaves nothing behind."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from frames import from_source
from verdicts import Verdicts, ruleset

from xdropd.commands.exits import UNAVAILABLE, code_for
from xdropd.errors import KernelError, ProgramRefused
from xdropd.kernel import libbpf, shapes
from xdropd.kernel.compiler import Blueprint
from xdropd.kernel.generation import MAP_KINDS, Generation, Sizes, insist
from xdropd.kernel.shapes import History, Volume
from xdropd.rules.plan import difference
from xdropd.rules.ruleset import Layout, Listed, Ruleset
from xdropd.text.addresses import parse_span

BLOCK = (
    "203.0.113.9",
    "203.0.113.10",
    "198.51.100.0/24",
    "10.1.0.5-10.1.0.70",
    "2001:db8:bad::9",
    "2001:db8:cafe::/48",
)
HITS = ("203.0.113.9", "198.51.100.77", "10.1.0.33", "2001:db8:bad::9", "2001:db8:cafe::77")


def hit(verdicts: Verdicts, *sources: str) -> None:
    """One frame of 100 bytes from each source."""
    for source in sources:
        assert verdicts.drops(from_source(source).ljust(100, b"\0")), source


def seen(generation: Generation, entry: str) -> History:
    span = parse_span(entry)
    if span.is_address:
        history = generation.address_history(span.version, span.first)
    else:
        history = generation.cell_history(Listed(span, 1))
    assert history, f"{entry} is not in the maps"
    return history


def packets(generation: Generation, *entries: str) -> list[int]:
    return [seen(generation, entry).packets for entry in entries]


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def exhaust(steps: Iterator[None]) -> None:
    for _ in steps:
        pass


def build(verdicts: Verdicts, sizes: Sizes | None = None) -> Generation:
    return Generation.build(verdicts.blueprint, 2, sizes or Sizes(), verdicts.shared)


def swap(verdicts: Verdicts, sizes: Sizes | None = None) -> None:
    """As the daemon does it: clone, put in force, carry what was counted meanwhile."""
    old, new = verdicts.generation, build(verdicts, sizes)
    exhaust(new.clone_from(old))
    verdicts.generation = new
    exhaust(new.carry_from(old))
    old.close()


def test_what_was_put_is_read_back(verdicts: Verdicts) -> None:
    wanted = ruleset(BLOCK, ["198.51.100.128/25", "2001:db8:cafe:1::/64"])
    verdicts.put(wanted)
    assert verdicts.generation.layout() == wanted.whole_layout()
    assert verdicts.generation.used == {"addresses4": 2, "addresses6": 1, "networks4": 10, "networks6": 2}


def test_counters_stay_while_the_list_changes_around_them(verdicts: Verdicts) -> None:
    first, second = ruleset(BLOCK), ruleset(["192.0.2.1", *BLOCK, "192.0.2.0/24", "10.0.0.0/8"])
    verdicts.put(first)
    hit(verdicts, *HITS)
    verdicts.put(second, first)
    hit(verdicts, *HITS)
    verdicts.put(first, second)
    hit(verdicts, *HITS)
    entries = ("203.0.113.9", "198.51.100.0/24", "10.1.0.5-10.1.0.70", "2001:db8:bad::9", "2001:db8:cafe::/48")
    assert packets(verdicts.generation, *entries) == [3] * 5
    assert verdicts.generation.source_volume(1) == Volume(15, 1500)


def test_counters_stay_through_a_growth_of_the_maps(verdicts: Verdicts) -> None:
    verdicts.put(ruleset(BLOCK))
    hit(verdicts, *HITS)
    last_seen_ns = seen(verdicts.generation, "203.0.113.9").last_seen_ns
    swap(verdicts, Sizes(addresses4=100_000, networks4=50_000, cells=50_000, address_filter=1 << 14))
    assert seen(verdicts.generation, "203.0.113.9") == History(1, 100, last_seen_ns, since_s=1, source=1)
    assert seen(verdicts.generation, "203.0.113.10") == History(0, 0, 0, since_s=1, source=1)
    hit(verdicts, *HITS)
    entries = ("203.0.113.9", "198.51.100.0/24", "10.1.0.5-10.1.0.70", "2001:db8:bad::9", "2001:db8:cafe::/48")
    assert packets(verdicts.generation, *entries) == [2] * 5
    assert verdicts.generation.source_volume(1) == Volume(10, 1000)
    assert verdicts.generation.layout() == ruleset(BLOCK).whole_layout()


def test_what_is_counted_during_a_swap_is_added_to_what_was(verdicts: Verdicts) -> None:
    verdicts.put(ruleset(BLOCK))
    old, new = verdicts.generation, build(verdicts)
    hit(verdicts, *HITS)
    exhaust(new.clone_from(old))
    hit(verdicts, *HITS)
    verdicts.generation = new
    hit(verdicts, *HITS)
    exhaust(new.carry_from(old))
    assert packets(new, "203.0.113.9", "198.51.100.0/24", "2001:db8:bad::9", "2001:db8:cafe::/48") == [3] * 4
    assert new.source_volume(1) == Volume(15, 1500)
    old.close()


def test_carrying_over_twice_counts_once(verdicts: Verdicts) -> None:
    """A daemon that died in between begins again."""
    verdicts.put(ruleset(BLOCK))
    hit(verdicts, *HITS)
    old, new = verdicts.generation, build(verdicts)
    exhaust(new.clone_from(old))
    next(new.carry_from(old))
    exhaust(new.carry_from(old))
    exhaust(new.carry_from(old))
    assert packets(new, "203.0.113.9", "198.51.100.0/24", "2001:db8:bad::9", "2001:db8:cafe::/48") == [1] * 4
    assert new.source_volume(1) == Volume(5, 500)
    verdicts.generation = new
    old.close()


def test_more_entries_than_one_order_carries(verdicts: Verdicts) -> None:
    sources = [f"192.0.2.{at}" for at in range(256)] + [f"2001:db8:1::{at:x}" for at in range(256)]
    networks = [f"10.{at}.0.0/24" for at in range(200)]
    verdicts.put(ruleset(sources + networks))
    hit(verdicts, *sources, *(network.replace(".0/24", ".9") for network in networks))
    swap(verdicts)
    assert set(packets(verdicts.generation, *sources, *networks)) == {1}


def test_an_address_keeps_its_history_when_a_network_closes_in_on_it(verdicts: Verdicts) -> None:
    """A change of representation: the address remains credited, its neighbours are the network's."""
    alone, within = ruleset(["203.0.113.9"]), ruleset(["203.0.113.9", "203.0.113.0/24"])
    verdicts.put(alone)
    hit(verdicts, "203.0.113.9")
    verdicts.put(within, alone)
    hit(verdicts, "203.0.113.9", "203.0.113.10")
    assert packets(verdicts.generation, "203.0.113.9", "203.0.113.0/24") == [2, 1]
    verdicts.put(ruleset(["203.0.113.0/24"]), within)
    hit(verdicts, "203.0.113.9")
    assert packets(verdicts.generation, "203.0.113.0/24") == [2]
    assert verdicts.generation.address_history(4, parse_span("203.0.113.9").first) is None


def test_a_network_replaced_by_its_addresses_and_back(verdicts: Verdicts) -> None:
    network, addresses = ruleset(["192.0.2.0/24"]), ruleset([f"192.0.2.{at}" for at in range(256)])
    verdicts.put(network)
    hit(verdicts, "192.0.2.0", "192.0.2.255")
    verdicts.put(addresses, network)
    hit(verdicts, "192.0.2.0", "192.0.2.255", "192.0.2.255")
    assert packets(verdicts.generation, "192.0.2.0", "192.0.2.1", "192.0.2.255") == [1, 0, 2]
    verdicts.put(network, addresses)
    hit(verdicts, "192.0.2.0")
    assert packets(verdicts.generation, "192.0.2.0/24") == [1]
    assert verdicts.generation.layout() == network.whole_layout()


def test_known_histories_come_back_with_their_addresses(verdicts: Verdicts) -> None:
    listed, unlisted = ruleset(BLOCK), ruleset()
    verdicts.put(listed)
    hit(verdicts, *HITS)
    known = {(4, key, 1): seen(verdicts.generation, "203.0.113.9") for key in [parse_span("203.0.113.9").first]}
    verdicts.put(unlisted, listed)
    plan = difference(Layout(), listed.whole_layout())
    verdicts.generation.apply(plan, since_s=2, known=known)
    assert packets(verdicts.generation, "203.0.113.9", "2001:db8:bad::9") == [1, 0]
    assert seen(verdicts.generation, "203.0.113.9").since_s == 1
    assert seen(verdicts.generation, "203.0.113.10").since_s == 2


def test_what_was_deleted_passes_and_what_is_added_again_starts_anew(verdicts: Verdicts) -> None:
    listed, unlisted = ruleset(BLOCK), ruleset()
    before = unlisted
    for after in (listed, unlisted) * 3:
        verdicts.put(after, before)
        before = after
        for source in HITS:
            assert verdicts.drops(from_source(source)) == (after is listed), source
    verdicts.put(listed, unlisted)
    assert packets(verdicts.generation, *BLOCK) == [0] * len(BLOCK)
    assert verdicts.generation.source_volume(1).packets == 3 * len(HITS), "a source's total outlives its entries"


def test_the_maps_hold_as_much_as_fits_says(blueprint: Blueprint) -> None:
    verdicts = Verdicts(blueprint, Sizes(addresses4=2, addresses6=2, networks4=2, networks6=2, cells=3))
    empty = ruleset()

    def fits(*block: str) -> bool:
        return verdicts.generation.fits(difference(Layout(), ruleset(block).whole_layout()))

    assert fits("1.1.1.1", "1.1.1.2", "::1", "::2", "2.0.0.0/8", "3.0.0.0/8")
    assert not fits("1.1.1.1", "1.1.1.2", "1.1.1.3")
    assert not fits("::1", "::2", "::3")
    assert not fits("2.0.0.0/8", "3.0.0.0/8", "4.0.0.0/8"), "three cells, of which one is never used"
    assert not fits("2.0.0.0/8", "::/7", "fe00::/8")
    assert not fits("2.0.0.1-2.0.0.6"), "four prefixes"
    full = ruleset(["1.1.1.1", "1.1.1.2", "::1", "::2", "2.0.0.0/8", "3.0.0.0/8"])
    for _ in range(3):
        verdicts.put(full, empty)
        verdicts.put(empty, full)
    verdicts.put(full, empty)
    exchanged = ruleset(["1.1.1.1", "1.1.1.3", "::1", "::2", "2.0.0.0/8", "3.0.0.0/8"])
    plan = difference(full.whole_layout(), exchanged.whole_layout())
    assert not verdicts.generation.fits(plan), "additions come before removals"
    verdicts.close()


def test_a_source_number_that_has_no_counter_does_not_fit(verdicts: Verdicts) -> None:
    def fits(number: int, *block: str) -> bool:
        wanted = ruleset(block)
        for source in wanted.sources:
            source.number = number
        return verdicts.generation.fits(difference(Layout(), Ruleset(wanted.sources).whole_layout()))

    for entry in ("1.1.1.1", "1.1.1.0/24", "::1", "::/64"):
        assert fits(63, entry)
        assert not fits(64, entry)


def test_a_swap_after_most_of_the_networks_went_fits_into_smaller_maps(verdicts: Verdicts) -> None:
    """Cells are numbered as they come; those that stay may have numbers above what the smaller map holds."""
    many = ruleset([f"10.{at >> 8}.{at & 255}.0/24" for at in range(1000)])
    few = ruleset(["10.3.230.0/24", "10.3.231.0/24"])
    verdicts.put(many)
    verdicts.put(few, many)
    hit(verdicts, "10.3.231.9")
    swap(verdicts, Sizes(cells=8, networks4=8))
    hit(verdicts, "10.3.231.9", "10.3.230.9")
    assert packets(verdicts.generation, "10.3.230.0/24", "10.3.231.0/24") == [1, 2]
    assert verdicts.generation.layout() == few.whole_layout()
    more = ruleset(["10.3.230.0/24", "10.3.231.0/24", "10.9.9.0/24"])
    verdicts.put(more, few)
    hit(verdicts, "10.9.9.9")
    assert packets(verdicts.generation, "10.3.230.0/24", "10.3.231.0/24", "10.9.9.0/24") == [1, 2, 1]


def test_an_adopted_generation_learns_what_is_in_its_maps(verdicts: Verdicts) -> None:
    wanted = ruleset(BLOCK, ["198.51.100.128/25"])
    verdicts.put(wanted)
    hit(verdicts, *HITS)
    first = verdicts.generation
    adopted = Generation(verdicts.blueprint, first.number, "", dict(first.maps), dict(first.programs))
    assert adopted.layout() == wanted.whole_layout()
    assert adopted.cells == first.cells
    assert adopted.used == first.used
    verdicts.generation = adopted
    other = ruleset([*BLOCK, "192.0.2.0/24", "192.0.2.1"])
    verdicts.put(other, wanted)
    hit(verdicts, *HITS, "192.0.2.1", "192.0.2.2")
    assert packets(adopted, "203.0.113.9", "198.51.100.0/24", "192.0.2.0/24", "192.0.2.1") == [2, 2, 1, 1]


def test_fill_puts_many_addresses_and_the_last_one_counts(verdicts: Verdicts) -> None:
    keys = list(range(1 << 24, (1 << 24) + 900))
    assert sum(verdicts.generation.fill(4, 1, keys, since_s=5)) == 900
    assert sum(verdicts.generation.fill(4, 2, keys[:100], since_s=6)) == 100
    layout = verdicts.generation.layout()
    assert layout.addresses[4] == {key: 2 if at < 100 else 1 for at, key in enumerate(keys)}
    assert seen(verdicts.generation, "1.0.0.0").since_s == 6
    assert seen(verdicts.generation, "1.0.0.200").since_s == 5
    hit(verdicts, "1.0.0.0", "1.0.3.131")
    assert not verdicts.drops(from_source("1.0.3.132"))


def test_a_full_map_refuses_and_what_both_lists_have_stays_in_force(blueprint: Blueprint) -> None:
    verdicts = Verdicts(blueprint, Sizes(addresses4=16))
    before = ruleset(f"10.0.0.{at}" for at in range(10))
    after = ruleset(f"10.0.0.{at}" for at in range(5, 40))
    verdicts.put(before)
    with pytest.raises(KernelError) as refusal:
        verdicts.put(after, before)
    assert refusal.value.errno == errno.E2BIG
    for at in range(5, 10):
        assert verdicts.drops(from_source(f"10.0.0.{at}"))
    for at in range(40, 60):
        assert not verdicts.drops(from_source(f"10.0.0.{at}"))
    verdicts.close()


@pytest.mark.parametrize("sizes", [Sizes(addresses4=1 << 31), Sizes(networks6=1 << 31), Sizes(cells=(1 << 32) - 1)])
@pytest.mark.threat_model
def test_maps_beyond_any_memory_are_refused_and_leave_nothing_behind(verdicts: Verdicts, sizes: Sizes) -> None:
    before = descriptors()
    with pytest.raises(KernelError) as refusal:
        build(verdicts, sizes)
    assert refusal.value.errno in (errno.ENOMEM, errno.E2BIG)
    assert descriptors() == before


def test_a_generation_that_is_closed_leaves_nothing_behind(blueprint: Blueprint) -> None:
    before = descriptors()
    for _ in range(5):
        verdicts = Verdicts(blueprint)
        verdicts.put(ruleset(BLOCK))
        hit(verdicts, *HITS)
        swap(verdicts)
        verdicts.close()
    assert descriptors() == before


def test_insist_tries_again_what_may_yet_succeed() -> None:
    def step_that_fails(times: int, number: int) -> list[int]:
        tries: list[int] = []

        def step() -> int:
            tries.append(len(tries))
            if len(tries) <= times:
                raise KernelError("step", number, os.strerror(number))
            return len(tries)

        try:
            insist(step)
        except KernelError:
            return [*tries, -1]
        return tries

    assert step_that_fails(0, errno.ENOMEM) == [0]
    assert step_that_fails(2, errno.ENOMEM) == [0, 1, 2]
    assert step_that_fails(100, errno.ENOMEM) == [0, 1, 2, 3, -1]
    assert step_that_fails(1, errno.E2BIG) == [0, 1], "once more, for a refusal that was not meant"
    assert step_that_fails(100, errno.E2BIG) == [0, 1, -1]


def test_a_batch_that_is_deleted_in_part_is_deleted_in_the_end(verdicts: Verdicts) -> None:
    """The kernel stops at a key that is not there."""
    addresses = ruleset(f"10.0.0.{at}" for at in range(200))
    verdicts.put(addresses)
    plan = difference(addresses.whole_layout(), Layout())
    for at in (0, 1, 77, 150, 199):
        assert libbpf.delete(verdicts.generation.maps["addresses4"], bytes([0, 0, 0, 0, 10, 0, 0, at]))
    verdicts.generation.apply(plan, since_s=1)
    assert verdicts.generation.layout().addresses[4] == {}


def test_what_the_verifier_refuses_is_no_missing_capability() -> None:
    """A write through a null pointer: EACCES, as for a file that may not be read, and another remedy altogether."""
    null_write = bytes.fromhex("b701000000000000" "7b11000000000000" "b700000002000000" "9500000000000000")
    with pytest.raises(ProgramRefused) as refused:
        libbpf.load_xdp_program("null_write", null_write)
    assert refused.value.errno == errno.EACCES
    assert code_for(refused.value) == UNAVAILABLE
    first, *lines = str(refused.value).splitlines()
    assert first == "load program null_write: the verifier of this kernel refuses it"
    assert any("R1 invalid mem access" in line for line in lines), lines


def test_a_missing_capability_is_told_as_one() -> None:
    say = (
        "from xdropd.commands import exits\n"
        "from xdropd.errors import NotPermitted\n"
        "from xdropd.kernel import libbpf\n"
        "try:\n"
        "    libbpf.load_xdp_program('pass', bytes.fromhex('b7000000020000009500000000000000'))\n"
        "except NotPermitted as refusal:\n"
        "    print(exits.code_for(refusal), refusal)\n"
    )
    powerless = ("setpriv", "--reuid=65534", "--bounding-set=-all", "--inh-caps=-all", sys.executable, "-c", say)
    said = subprocess.run(powerless, capture_output=True, text=True, check=True).stdout
    assert said == ("77 load program pass: Operation not permitted (needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON)\n")


def test_the_kinds_of_maps_are_those_that_the_program_declares(blueprint: Blueprint) -> None:
    declared = {name: (shape.type, shape.key_bytes, shape.value_bytes) for name, shape in blueprint.maps.items()}
    assert {name: declared[name] for name in MAP_KINDS} == MAP_KINDS
    assert declared.keys() - MAP_KINDS.keys() == {"hints", *shapes.HINT_MAPS}
