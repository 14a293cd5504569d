"""Generations: what is counted stays through every change, and what the kernel refuses leaves nothing behind."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import suppress

import numpy as np
import pytest
from frames import from_source
from verdicts import Verdicts, key_of, state, state_of

from xdropd.columns.prefixes import FAMILIES
from xdropd.commands.exits import UNAVAILABLE, code_for
from xdropd.errors import KernelError, ProgramRefused
from xdropd.filter.counting import Counting, directly
from xdropd.filter.lists import Lists
from xdropd.filter.proof import Proof
from xdropd.filter.saved import SavedCounters
from xdropd.filter.store import Store, Stored
from xdropd.host.systemd import Systemd
from xdropd.kernel import abi, libbpf
from xdropd.kernel.abi import Stats, Volume
from xdropd.kernel.compiler import Blueprint
from xdropd.kernel.generation import VERDICT_PROGRAM, Generation, Sizes, load
from xdropd.kernel.retry import retried
from xdropd.rules.plan import plan
from xdropd.rules.winners import State
from xdropd.text.addresses import parse_span

BLOCK = (
    "203.0.113.9",
    "203.0.113.10",
    "198.51.100.0/24",
    "10.1.0.5-10.1.0.70",
    "10.2.0.5-10.2.0.70",
    "2001:db8:bad::9",
    "2001:db8:cafe::/48",
    "2001:db8:f00d::5-2001:db8:f00d::8:0:1",
)
HITS = {
    "203.0.113.9": "203.0.113.9",
    "198.51.100.77": "198.51.100.0/24",
    "10.1.0.33": "10.1.0.5-10.1.0.70",
    "2001:db8:bad::9": "2001:db8:bad::9",
    "2001:db8:cafe::77": "2001:db8:cafe::/48",
    "2001:db8:f00d::7:ffff:1": "2001:db8:f00d::5-2001:db8:f00d::8:0:1",
}
MORE = tuple(f"192.0.{at >> 8}.{at & 255}" for at in range(1100))  # than fit into the smallest maps


def hit(verdicts: Verdicts, *sources: str) -> None:
    """One frame of 100 bytes from each source."""
    for source in sources:
        assert verdicts.drops(from_source(source).ljust(100, b"\0")), source


def packets(verdicts: Verdicts, *entries: str) -> list[int]:
    found = [verdicts.stats(entry) for entry in entries]
    assert all(found), entries
    return [each.packets for each in found]


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def in_steps(step: object) -> Generator:
    """As in another thread: the daemon goes on, and may die, before and after."""
    yield
    result = step()
    yield
    return result


class Compiled:
    """A program that is at hand."""

    stamp = ""
    wants_replies = passes_replies = False
    why_no_replies = ""

    def __init__(self, verdicts: Verdicts) -> None:
        self._verdicts = verdicts

    def is_made_from(self, stamp: str) -> bool:
        return stamp == self.stamp

    def prepare(self) -> None:
        pass

    def waits(self, _seconds: float) -> bool:
        return False

    def blueprint(self) -> Blueprint:
        return self._verdicts.blueprint


class Daemon:
    """What decides between a change in place and a swap, without systemd: the store is this process."""

    def __init__(self, verdicts: Verdicts, store: Store | None = None) -> None:
        self.verdicts = verdicts
        self.store = store or Store(Systemd())
        for name, descriptor in verdicts.shared.items():
            self.store.adopt_shared(name, descriptor)
        self.state = State()
        self.counting = Counting(self.store, in_steps)
        self.counting.generation = verdicts.generation
        self.proof = Proof(self.store)
        self.lists = Lists(self.store, self.counting, self.proof, Compiled(verdicts), self.put_in_force, in_steps)
        self.lists.number_after(verdicts.generation.number)

    def put_in_force(self, new: Generation, _: Generation | None) -> None:
        self.verdicts.generation = new

    def changing(self, wanted: State, now_s: float) -> Iterator[None]:
        yield from self.lists.change(plan(self.state, wanted), now_s, in_steps)
        self.state = wanted

    def change(self, wanted: State, now_s: float) -> None:
        for _ in self.changing(wanted, now_s):
            pass

    def stats(self, *entries: str) -> list[Stats | None]:
        keys = [key_of(parse_span(entry)) for entry in entries]
        return [self.counting.stats(kind, 1, key) for kind, key in keys]

    def packets(self, *entries: str) -> list[int]:
        return [each.packets if each else 0 for each in self.stats(*entries)]

    def after_a_crash(self) -> "Daemon":
        """Another process that takes over what the store has, and so what it has of counters."""
        new = Daemon(self.verdicts)
        if self.store._saved:
            new.counting.saved = new.store.adopt_saved({self.store._saved[0]: os.dup(self.store._saved[1])})
        new.state = self.state
        new.counting.retired = list(self.counting.retired)
        return new


@pytest.fixture
def daemon(verdicts: Verdicts) -> Daemon:
    return Daemon(verdicts)


# ---- changes in place ----


def test_what_was_put_is_read_back(verdicts: Verdicts) -> None:
    wanted = state(BLOCK, ["198.51.100.128/25", "2001:db8:cafe:1::/64"])
    verdicts.put(wanted)
    assert verdicts.holds_just(wanted)
    assert not verdicts.holds_just(state(BLOCK))
    used = {name: table.used for name, table in verdicts.generation.records.items()}
    counts = {name: sum(len(keys) for keys, _ in table.read()) for name, table in verdicts.generation.records.items()}
    assert used == counts
    assert used["addresses4"] == 2
    assert used["addresses6"] == 1
    assert verdicts.generation.ranges.used == 3


def test_counters_stay_while_the_list_changes_around_them(verdicts: Verdicts) -> None:
    first, second = state(BLOCK), state(["192.0.2.1", *BLOCK, "192.0.2.0/24", "10.0.0.0/8", "10.0.0.0-10.255.0.0"])
    verdicts.put(first)
    hit(verdicts, *HITS)
    verdicts.put(second, first)
    hit(verdicts, *HITS)
    verdicts.put(first, second)
    hit(verdicts, *HITS)
    assert packets(verdicts, *HITS.values()) == [3] * len(HITS)
    assert verdicts.generation.volumes.get(1) == Volume(3 * len(HITS), 300 * len(HITS))


def test_an_address_keeps_its_counts_when_a_network_closes_in_on_it(verdicts: Verdicts) -> None:
    """The address remains credited, its neighbours are the network's."""
    alone, within = state(["203.0.113.9"]), state(["203.0.113.9", "203.0.113.0/24"])
    verdicts.put(alone)
    hit(verdicts, "203.0.113.9")
    verdicts.put(within, alone)
    hit(verdicts, "203.0.113.9", "203.0.113.10")
    assert packets(verdicts, "203.0.113.9", "203.0.113.0/24") == [2, 1]
    verdicts.put(state(["203.0.113.0/24"]), within)
    hit(verdicts, "203.0.113.9")
    assert packets(verdicts, "203.0.113.0/24") == [2]
    assert verdicts.stats("203.0.113.9") is None


def test_a_network_replaced_by_its_addresses_and_back(verdicts: Verdicts) -> None:
    network, addresses = state(["192.0.2.0/24"]), state([f"192.0.2.{at}" for at in range(256)])
    verdicts.put(network)
    hit(verdicts, "192.0.2.0", "192.0.2.255")
    verdicts.put(addresses, network)
    hit(verdicts, "192.0.2.0", "192.0.2.255", "192.0.2.255")
    assert packets(verdicts, "192.0.2.0", "192.0.2.1", "192.0.2.255") == [1, 0, 2]
    verdicts.put(network, addresses)
    hit(verdicts, "192.0.2.0")
    assert packets(verdicts, "192.0.2.0/24") == [1]
    assert verdicts.holds_just(network)


def test_an_address_that_becomes_a_piece_or_an_exemption_changes_its_table(verdicts: Verdicts) -> None:
    """And back. Of both tables that of addresses is asked first: what stayed there would go on to decide."""
    states = [
        state(["10.0.0.5", "10.0.0.5-10.0.0.6"]),
        state(["10.0.0.5-10.0.0.6"]),
        state(["10.0.0.0/24"], ["10.0.0.5"]),
        state(["10.0.0.5", "10.0.0.0/24"]),
        state(["10.0.0.0/24", "10.0.0.5"], ["10.0.0.5"]),
    ]
    for before, after in [(one, other) for one in states for other in states]:
        verdicts.put(before)
        verdicts.put(after, before)
        assert verdicts.holds_just(after)
        verdicts.put(State(), after)
    assert verdicts.generation.used == 0


def test_what_was_deleted_passes_and_what_is_added_again_starts_anew(daemon: Daemon) -> None:
    verdicts, listed, unlisted = daemon.verdicts, state(BLOCK), state()
    for after in (listed, unlisted) * 3:
        daemon.change(after, 1)
        for source in HITS:
            assert verdicts.drops(from_source(source)) == (after is listed), source
    daemon.change(listed, 2)
    assert daemon.stats(*BLOCK) == [Stats(0, 0, 0, since_s=2)] * len(BLOCK)
    assert daemon.counting.volume(1).packets == 3 * len(HITS), "a source's total outlives its entries"


def test_an_entry_that_something_exempts_keeps_its_counts_for_its_return(daemon: Daemon) -> None:
    daemon.change(state(BLOCK), 1)
    hit(daemon.verdicts, *HITS)
    before = daemon.stats(*HITS.values())
    daemon.change(state(BLOCK, ["0.0.0.0/0", "2001:db8::/32"]), 2)
    assert not any(daemon.verdicts.drops(from_source(source)) for source in HITS)
    assert daemon.stats(*HITS.values()) == before
    daemon.change(state(BLOCK), 3)
    assert daemon.stats(*HITS.values()) == before
    hit(daemon.verdicts, *HITS)
    assert daemon.packets(*HITS.values()) == [2] * len(HITS)


# ---- swaps ----


def test_counts_stay_through_a_growth_of_the_maps(daemon: Daemon) -> None:
    first, verdicts = daemon.counting.generation, daemon.verdicts
    daemon.change(state(BLOCK), 1)
    hit(verdicts, *HITS)
    before = daemon.stats(*BLOCK)
    daemon.change(state([*BLOCK, *MORE]), 2)
    assert daemon.counting.generation is not first
    assert daemon.counting.retired == []
    assert daemon.stats(*BLOCK) == before, "and since when they are listed"
    assert daemon.stats(*MORE[:2]) == [Stats(0, 0, 0, since_s=2)] * 2
    hit(verdicts, *HITS)
    assert daemon.packets(*HITS.values()) == [2] * len(HITS)
    assert daemon.counting.volume(1) == Volume(2 * len(HITS), 200 * len(HITS))
    assert verdicts.holds_just(state([*BLOCK, *MORE]))


def test_what_is_counted_during_a_swap_counts(daemon: Daemon) -> None:
    """Whichever generation packets meet, at each moment at which the daemon has other things to do."""
    verdicts, rounds = daemon.verdicts, 0
    daemon.change(state(BLOCK), 1)
    for _ in daemon.changing(state([*BLOCK, *MORE]), 2):
        hit(verdicts, *HITS)
        rounds += 1
        assert daemon.packets(*HITS.values()) == [rounds] * len(HITS)
    assert rounds > 4
    assert daemon.packets(*HITS.values()) == [rounds] * len(HITS)
    assert daemon.counting.volume(1) == Volume(rounds * len(HITS), rounds * 100 * len(HITS))


class DiesBeforeItDrops(Store):
    """The last moment at which a generation is there whose counts are saved."""

    def drop_generation(self, generation: Stored) -> None:  # noqa: ARG002
        raise SystemExit


@pytest.mark.parametrize("steps", range(9))
def test_a_process_that_dies_during_a_swap_counts_nothing_twice_and_loses_nothing(
    verdicts: Verdicts, steps: int
) -> None:
    daemon, wanted = Daemon(verdicts, DiesBeforeItDrops(Systemd())), state([*BLOCK, *MORE])
    daemon.change(state(BLOCK), 1)
    hit(verdicts, *HITS)
    before = daemon.stats(*HITS.values())
    work = daemon.changing(wanted, 2)
    with suppress(SystemExit):
        for _ in range(steps):
            next(work)
        if steps == 8:
            for _ in work:
                pass
    new = daemon.after_a_crash()
    assert new.counting.saved.merged in (0, 1)
    for _ in new.counting.merge_retired(wanted):
        pass
    assert new.stats(*HITS.values()) == before
    assert new.counting.volume(1) == Volume(len(HITS), 100 * len(HITS))
    new.change(wanted, 3)
    assert new.stats(*HITS.values()) == before


class LacksDescriptors(Store):
    """Where what is counted cannot be written down, for a while."""

    lacks = False

    def keep_saved(self, saved: SavedCounters) -> None:
        if self.lacks:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        super().keep_saved(saved)


def test_what_is_refused_once_the_list_is_in_force_is_no_failure_and_loses_nothing(verdicts: Verdicts) -> None:
    """Whoever hears of a failure takes the change back, and packets would meet what nobody knows of."""
    store = LacksDescriptors(Systemd())
    daemon, wanted = Daemon(verdicts, store), state([*BLOCK, *MORE])
    daemon.change(state(BLOCK), 1)
    hit(verdicts, *HITS)
    before = daemon.stats(*HITS.values())
    store.lacks = True
    daemon.change(wanted, 2)
    assert verdicts.holds_just(wanted)
    assert daemon.stats(*HITS.values()) == before
    store.lacks = False
    daemon.change(state(BLOCK), 3)
    assert daemon.stats(*HITS.values()) == before
    assert daemon.counting.retired == []


def test_a_change_in_place_that_turns_out_not_to_fit_counts_nothing_twice(daemon: Daemon) -> None:
    """What leaves the maps and stays listed is saved; here it does not leave, for there is a swap instead."""
    verdicts = daemon.verdicts
    daemon.change(state(BLOCK), 1)
    hit(verdicts, *HITS)
    table = verdicts.generation.maps["addresses4"]
    for at in range(1022):  # nobody knows of these
        libbpf.update(table, at.to_bytes(8, "big"), bytes(abi.STATS.itemsize))
    first = daemon.counting.generation
    daemon.change(state([*BLOCK, *MORE[:100]], ["203.0.113.9", "198.51.100.77", "2001:db8:bad::9"]), 2)
    assert daemon.counting.generation is not first, "a swap"
    assert daemon.packets(*HITS.values()) == [1] * len(HITS)
    assert daemon.counting.volume(1) == Volume(len(HITS), 100 * len(HITS))


def test_a_change_that_the_kernel_refuses_counts_nothing_twice(daemon: Daemon) -> None:
    """The record of what something exempts is still there, and counts."""
    verdicts = daemon.verdicts
    daemon.change(state(BLOCK), 1)
    hit(verdicts, *HITS)
    table = verdicts.generation.records["networks4"]
    kept, table.descriptor = table.descriptor, verdicts.generation.program
    with pytest.raises(KernelError):
        daemon.change(state(BLOCK, ["203.0.113.9", "198.51.100.77"]), 2)
    table.descriptor = kept
    assert daemon.packets(*HITS.values()) == [1] * len(HITS)
    assert verdicts.drops(from_source("203.0.113.9"))
    daemon.change(state(BLOCK, ["203.0.113.9", "198.51.100.77"]), 3)
    assert daemon.packets(*HITS.values()) == [1 + (entry == "203.0.113.9") for entry in HITS.values()]


def test_a_swap_after_most_of_the_ranges_went_fits_into_smaller_maps(daemon: Daemon) -> None:
    """Ranges are numbered as they come; those that stay may have numbers above what the smaller map holds."""
    verdicts = daemon.verdicts
    many = [f"10.{at >> 8}.{at & 255}.1-10.{at >> 8}.{at & 255}.2" for at in range(2000)]
    daemon.change(state(many), 1)
    hit(verdicts, "10.7.207.1")
    daemon.change(state(many[-3:]), 2)
    assert verdicts.generation.ranges.room == 2501, "the same maps still"
    hit(verdicts, "10.7.207.1")
    daemon.change(state([*many[-3:], *MORE]), 3)
    assert verdicts.generation.ranges.room == 1024
    hit(verdicts, "10.7.207.2", "10.7.206.1")
    assert daemon.packets(*many[-3:]) == [0, 1, 3]


def test_more_entries_than_one_batch_are_counted(daemon: Daemon) -> None:
    sources = [f"192.0.2.{at}" for at in range(256)] + [f"2001:db8:1::{at:x}" for at in range(256)]
    networks = [f"10.{at}.0.0/24" for at in range(200)]
    daemon.change(state(sources + networks), 1)
    hit(daemon.verdicts, *sources, *(network.replace(".0/24", ".9") for network in networks))
    everything = state([*sources, *networks, *MORE])
    daemon.change(everything, 2)
    assert set(daemon.packets(*sources, *networks)) == {1}
    found = daemon.counting.all_stats()
    assert sum(int(stats["packets"].sum()) for _, stats in found.values()) == len(sources) + len(networks)
    assert sum(len(keys) for keys, _ in found.values()) == len({*sources, *networks, *MORE})


# ---- what fits ----


def fits(verdicts: Verdicts, wanted: State, before: State | None = None) -> bool:
    return verdicts.generation.fits(plan(before or State(), wanted).changes)


def test_the_maps_hold_as_much_as_fits_says(blueprint: Blueprint) -> None:
    verdicts = Verdicts(blueprint, Sizes(addresses4=2, addresses6=2, networks4=2, networks6=2, ranges=2))
    full = ["1.1.1.1", "1.1.1.2", "::1", "::2", "2.0.0.0/8", "3.0.0.0/8", "8::/16", "9::/16"]
    assert fits(verdicts, state(full))
    for one_more in ("1.1.1.3", "::3", "4.0.0.0/8", "7::/16"):
        assert not fits(verdicts, state([*full, one_more])), one_more
    assert not fits(verdicts, state(["2.0.0.1-2.0.0.6"])), "four prefixes"
    assert fits(verdicts, state(["2.0.0.1-2.0.0.2"]))
    assert not fits(verdicts, state(["2.0.0.1-2.0.0.2", "2::1-2::2"])), "two ranges, of which one is never used"
    empty, full_state = State(), state(full)
    for _ in range(3):
        verdicts.put(full_state, empty)
        verdicts.put(empty, full_state)
    verdicts.put(full_state, empty)
    assert verdicts.holds_just(full_state)
    exchanged = state([full[0], "1.1.1.3", *full[2:]])
    assert not fits(verdicts, exchanged, full_state), "additions come before removals"
    verdicts.close()


def test_as_many_ranges_as_fit_says_can_come_and_go(blueprint: Blueprint) -> None:
    verdicts = Verdicts(blueprint, Sizes(ranges=4))
    some = [state([f"2.{at}.0.1-2.{at}.0.2" for at in range(turn, turn + 3)]) for turn in range(4)]
    for wanted in some:
        assert fits(verdicts, wanted)
        verdicts.put(wanted)
        verdicts.put(State(), wanted)
        for version, number in verdicts.generation.ranges.owners:
            verdicts.generation.ranges.remove((version, number), verdicts.generation.ranges.keys_of((version, number)))
    verdicts.put(some[0])
    assert verdicts.holds_just(some[0])
    verdicts.close()


def test_a_source_number_that_has_no_counter_does_not_fit(verdicts: Verdicts) -> None:
    for entry in ("1.1.1.1", "1.1.1.0/24", "::1", "::/64", "1.1.1.1-1.1.1.3"):
        assert fits(verdicts, state_of([parse_span(entry)], number=63))
        assert not fits(verdicts, state_of([parse_span(entry)], number=64))


def test_a_full_map_refuses_and_what_both_lists_have_stays_in_force(blueprint: Blueprint) -> None:
    verdicts = Verdicts(blueprint, Sizes(addresses4=16))
    before = state(f"10.0.0.{at}" for at in range(10))
    after = state(f"10.0.0.{at}" for at in range(5, 40))
    verdicts.put(before)
    with pytest.raises(KernelError) as refusal:
        verdicts.put(after, before)
    assert refusal.value.errno == errno.E2BIG
    for at in range(5, 10):
        assert verdicts.drops(from_source(f"10.0.0.{at}"))
    for at in range(40, 60):
        assert not verdicts.drops(from_source(f"10.0.0.{at}"))
    verdicts.close()


# ---- what was there before ----


def test_an_adopted_generation_learns_what_is_in_its_maps(verdicts: Verdicts) -> None:
    wanted = state(BLOCK, ["198.51.100.128/25"])
    verdicts.put(wanted)
    hit(verdicts, *HITS)
    first = verdicts.generation
    adopted = verdicts.generation = Generation(first.number, "", dict(first.maps), first.program)
    daemon = Daemon(verdicts)
    for _ in daemon.lists.begin(wanted, 1, directly):
        pass
    assert daemon.counting.generation is adopted, "nothing differs"
    daemon.state = wanted
    assert adopted.used == first.used
    assert adopted.ranges.used == 3
    daemon.change(state([*BLOCK, "192.0.2.0/24", "192.0.2.1", "192.0.3.1-192.0.3.5"]), 2)
    hit(verdicts, *HITS, "192.0.2.1", "192.0.2.2", "192.0.3.3")
    assert daemon.packets(*HITS.values()) == [2] * len(HITS)
    assert daemon.packets("192.0.2.0/24", "192.0.2.1", "192.0.3.1-192.0.3.5") == [1, 1, 1]


def test_what_somebody_else_did_to_the_maps_is_mended(daemon: Daemon) -> None:
    verdicts, wanted = daemon.verdicts, state(BLOCK, ["198.51.100.128/25"])
    daemon.change(wanted, 1)
    hit(verdicts, *HITS)
    tables = verdicts.generation.records
    for kind, key in map(key_of, map(parse_span, ("203.0.113.9", "2001:db8:cafe::/48"))):
        is_address = FAMILIES[kind.version].lengths(key)[0] == FAMILIES[kind.version].width
        table = tables[f"{'addresses' if is_address else 'networks'}{kind.version}"]
        assert libbpf.delete(table.descriptor, table._pack(key))
    foreign = FAMILIES[4].key(5, 32)
    for name in ("addresses4", "networks4"):
        value = np.zeros(1, tables[name].value_type)
        libbpf.update(tables[name].descriptor, tables[name]._pack(foreign), value.tobytes())
    repair = daemon.lists.repair(wanted, 2, directly)
    with pytest.raises(StopIteration) as mended:
        next(repair)
    assert mended.value.value == 4
    assert verdicts.holds_just(wanted)
    hit(verdicts, *HITS)


def test_fill_puts_many_records_each_with_its_own_since(verdicts: Verdicts) -> None:
    wanted = state([f"1.0.{at >> 8}.{at & 255}" for at in range(900)])
    records = wanted.records(4)
    since = np.where(np.arange(900) < 100, 6, 5).astype(np.uint32)
    assert sum(verdicts.generation.fill(4, records, since)) == 900
    assert verdicts.holds_just(wanted)
    assert [verdicts.stats(entry).since_s for entry in ("1.0.0.0", "1.0.0.200")] == [6, 5]
    hit(verdicts, "1.0.0.0", "1.0.3.131")
    assert not verdicts.drops(from_source("1.0.3.132"))


# ---- what the kernel refuses ----


@pytest.mark.threat_model
@pytest.mark.parametrize("sizes", [Sizes(addresses4=1 << 31), Sizes(networks6=1 << 31), Sizes(ranges=(1 << 32) - 1)])
def test_maps_beyond_any_memory_are_refused_and_leave_nothing_behind(verdicts: Verdicts, sizes: Sizes) -> None:
    before = descriptors()
    with pytest.raises(KernelError) as refusal:
        Generation.build(verdicts.blueprint, 2, sizes, verdicts.shared)
    assert refusal.value.errno in (errno.ENOMEM, errno.E2BIG)
    assert descriptors() == before


def test_generations_that_come_and_go_leave_nothing_behind(blueprint: Blueprint) -> None:
    before = descriptors()
    for _ in range(5):
        verdicts = Verdicts(blueprint)
        daemon = Daemon(verdicts)
        daemon.change(state(BLOCK), 1)
        hit(verdicts, *HITS)
        daemon.change(state([*BLOCK, *MORE]), 1)
        daemon.change(state(BLOCK), 1)
        verdicts.close()
        number, saved = daemon.store._saved
        daemon.store.drop({f"saved.{number}": saved})
        os.close(daemon.proof.descriptor)
    assert descriptors() == before


def test_what_may_yet_succeed_is_tried_again() -> None:
    def tries_of_a_step_that_fails(times: int, number: int) -> list[int]:
        tries: list[int] = []

        def step() -> int:
            tries.append(len(tries))
            if len(tries) <= times:
                raise KernelError("step", number, os.strerror(number))
            return len(tries)

        try:
            retried(step)
        except KernelError:
            return [*tries, -1]
        return tries

    assert tries_of_a_step_that_fails(0, errno.ENOMEM) == [0]
    assert tries_of_a_step_that_fails(2, errno.ENOMEM) == [0, 1, 2]
    assert tries_of_a_step_that_fails(100, errno.ENOMEM) == [0, 1, 2, 3, -1]
    assert tries_of_a_step_that_fails(1, errno.E2BIG) == [0, 1], "once more, for a refusal that was not meant"
    assert tries_of_a_step_that_fails(100, errno.E2BIG) == [0, 1, -1]


def test_a_batch_that_is_deleted_in_part_is_deleted_in_the_end(verdicts: Verdicts) -> None:
    """The kernel stops at a key that is not there."""
    addresses = state(f"10.0.0.{at}" for at in range(200))
    verdicts.put(addresses)
    for at in (0, 1, 77, 150, 199):
        assert libbpf.delete(verdicts.generation.maps["addresses4"], bytes([0, 0, 0, 0, 10, 0, 0, at]))
    verdicts.put(State(), addresses)
    assert verdicts.holds_just(State())


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


def test_a_load_that_signals_cut_off_is_not_the_verifiers_word(verdicts: Verdicts) -> None:
    """As while somebody traces the process: the kernel gives up, and the same program may be taken the next time.

    It is loaded by this thread, for other tests may have left some that would take the signals.
    """
    maps = {**verdicts.generation.maps, **verdicts.shared}
    fitted = {"last_address_word": 0, "last_prefix_word": 0, "pass_replies": 0}
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 1e-3, 1e-3)
    try:
        with pytest.raises(KernelError) as refused:
            load(verdicts.blueprint, VERDICT_PROGRAM, maps, fitted)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert refused.value.errno == errno.EAGAIN
    assert not isinstance(refused.value, ProgramRefused)


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
