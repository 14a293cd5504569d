"""Saved counters against dictionaries, and the files that they are kept in."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

import numpy as np
import pytest
from columns import texts

from xdropd.columns.listing import KINDS, SELECTIONS, Kind, Listing
from xdropd.columns.prefixes import FAMILIES, Column
from xdropd.filter.saved import SavedCounters
from xdropd.kernel.abi import STATS, Stats, Volume

ADDRESSES4 = Kind(4, is_range=False)
Expected = dict[tuple[Kind, int, int], Stats]


def key(kind: Kind, number: int) -> Column:
    """An entry of a kind by a small number; many end in zero bytes."""
    if kind == SELECTIONS:
        return np.array([1 << 32 | number << 8], kind.key_type)
    family = FAMILIES[kind.version]
    first = number << family.width // 2
    return family.range_key(first, first + 5) if kind.is_range else family.key(first, family.width)


def keys(kind: Kind, numbers: list[int]) -> Column:
    return np.concatenate([np.zeros(0, kind.key_type), *(key(kind, number) for number in numbers)])


def stats(*each: Stats) -> Column:
    return np.array([(*one, 9) for one in each], STATS)


def some_stats(rng: Random) -> Stats:
    return Stats(rng.randrange(1 << 40), rng.randrange(1 << 50), rng.randrange(100), rng.randrange(1, 100))


def filled(rng: Random, turns: int) -> tuple[SavedCounters, Expected]:
    saved, expected = SavedCounters(), {}
    for _ in range(turns):
        kind, source = rng.choice(KINDS), rng.randint(1, 3)
        numbers = sorted(rng.sample(range(40), rng.randrange(6)))
        new = [some_stats(rng) for _ in numbers]
        saved.add(kind, source, keys(kind, numbers), stats(*new))
        for number, each in zip(numbers, new, strict=True):
            before = expected.get((kind, source, number))
            expected[kind, source, number] = before.plus(each) if before else each
    return saved, expected


def all_of(saved: SavedCounters) -> Expected:
    return {
        (kind, source, number): found
        for kind in KINDS
        for source in range(1, 4)
        for number in range(40)
        if (found := saved.get(kind, source, key(kind, number)))
    }


@contextmanager
def in_memory(data: bytes) -> Iterator[int]:
    descriptor = os.memfd_create("test", os.MFD_CLOEXEC)
    os.write(descriptor, data)
    yield descriptor
    os.close(descriptor)


def snapshot(saved: SavedCounters) -> bytes:
    descriptor = saved.snapshot()
    data = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    os.close(descriptor)
    return data


def test_counts_add_up_and_the_first_since_stays() -> None:
    for seed in range(30):
        saved, expected = filled(Random(seed), 40)
        assert all_of(saved) == expected
        for _, _, known in saved.tables():
            assert bool((known.keys[1:] > known.keys[:-1]).all())


def test_what_counts_now_comes_on_top_of_what_is_saved() -> None:
    saved = SavedCounters()
    saved.add(ADDRESSES4, 1, keys(ADDRESSES4, [2, 4]), stats(Stats(1, 10, 50, 7), Stats(2, 20, 0, 8)))
    live = stats(Stats(100, 1000, 40, 30), Stats(200, 2000, 60, 31), Stats(300, 3000, 70, 32))
    total = saved.added_to(ADDRESSES4, 1, keys(ADDRESSES4, [4, 3, 2]), live)
    assert total.tolist() == [(102, 1020, 40, 8, 9), (200, 2000, 60, 31, 9), (301, 3010, 70, 7, 9)]
    assert live["packets"].tolist() == [100, 200, 300], "what was given stays as it is"
    assert saved.added_to(ADDRESSES4, 2, keys(ADDRESSES4, [4, 3, 2]), live) is live


def test_what_is_not_listed_any_more_is_forgotten() -> None:
    saved = SavedCounters()
    for source in (1, 2):
        saved.add(ADDRESSES4, source, keys(ADDRESSES4, [1, 2, 3]), stats(*[Stats(source, 1, 1, 1)] * 3))
        saved.add_volume(source, Volume(3, 3))
    snapshot(saved)
    everything = texts(*(f"0.{number}.0.0" for number in range(1, 4)))
    saved.keep_listed({1: everything, 2: everything})
    assert saved.is_stored, "nothing is different"
    saved.keep_listed({1: texts("0.3.0.0", "0.1.0.0", "9.9.9.9")})
    assert all_of(saved).keys() == {(ADDRESSES4, 1, 1), (ADDRESSES4, 1, 3)}
    assert not saved.is_stored
    saved.keep_listed({1: Listing.empty()})
    assert list(saved.tables()) == []
    assert saved.volume(2) == Volume(3, 3), "a source's total outlives its entries"
    snapshot(saved)
    saved.forget_sources([5])
    assert saved.is_stored
    saved.forget_sources([2])
    assert saved.volume(2) == Volume(0, 0)
    assert not saved.is_stored


def test_a_copy_goes_its_own_way() -> None:
    saved, expected = filled(Random(1), 20)
    copy = saved.copy()
    copy.add(ADDRESSES4, 1, keys(ADDRESSES4, [1]), stats(Stats(1, 1, 1, 1)))
    copy.add_volume(1, Volume(1, 1))
    copy.merged = 7
    assert all_of(saved) == expected
    assert saved.volume(1) == Volume(0, 0)
    assert saved.merged == 0
    assert all_of(copy) != expected


@pytest.mark.parametrize("turns", [0, 1, 60])
def test_a_snapshot_holds_all_of_it(turns: int) -> None:
    saved, expected = filled(Random(turns), turns)
    saved.add_volume(3, Volume(1 << 60, 1 << 61))
    saved.merged = 12
    data = snapshot(saved)
    assert saved.is_stored
    with in_memory(data) as descriptor:
        found = SavedCounters.in_file(descriptor)
    assert all_of(found) == expected
    assert found.volume(3) == Volume(1 << 60, 1 << 61)
    assert found.merged == 12
    assert found.is_stored
    assert snapshot(found) == data
    found.add(ADDRESSES4, 1, keys(ADDRESSES4, [1]), stats(Stats(1, 1, 1, 1)))
    assert not found.is_stored


def test_a_file_that_is_cut_off_anywhere_is_no_snapshot() -> None:
    saved, _ = filled(Random(5), 12)
    data = snapshot(saved)
    for length in range(len(data)):
        with in_memory(data[:length]) as descriptor, pytest.raises((ValueError, KeyError, TypeError)):
            SavedCounters.in_file(descriptor)


HEAD = {"format": 1, "merged": 0, "tables": [], "volumes": []}


@pytest.mark.parametrize(
    "head",
    [
        [],
        None,
        7,
        {},
        HEAD,
        {**HEAD, "format": 2},
        {**HEAD, "merged": None},
        {**HEAD, "tables": [[5, False, 1, 0]]},
        {**HEAD, "tables": [[4, False, 1]]},
        {**HEAD, "tables": [[4, False, 1, -1]]},
        {**HEAD, "tables": [[4, False, [], 1]]},
        {**HEAD, "tables": [[4, False, 1, "x"]]},
        {**HEAD, "volumes": [[1, [2]]]},
        {**HEAD, "volumes": {"1": [2, 3]}},
    ],
    ids=json.dumps,
)
def test_a_file_that_says_something_else_is_no_snapshot(head: object) -> None:
    data = json.dumps(head).encode() + b"\n" + bytes(400)
    with in_memory(data) as descriptor, pytest.raises((ValueError, KeyError, TypeError)):
        SavedCounters.in_file(descriptor)
