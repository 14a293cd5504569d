"""Numbers of sources: kept for a day after a source left, across the end of the process, and then given to others."""

import os

import pytest

from xdropd.filter import numbers as module
from xdropd.filter.numbers import SourceNumbers

NOW_S = 1_800_000_000.0
DAY_S = 86400


def again(numbers: SourceNumbers) -> SourceNumbers:
    """What the next process makes of the file."""
    return SourceNumbers(os.dup(numbers.descriptor))


def test_a_source_keeps_its_number() -> None:
    numbers = SourceNumbers()
    assert [numbers.number_of(name) for name in ("a", "b", "a", "c")] == [1, 2, 1, 3]
    after = again(numbers)
    assert dict(after) == {"a": 1, "b": 2, "c": 3}
    assert after.number_of("b") == 2
    assert after.number_of("d") == 4


def test_a_source_that_left_is_over_after_a_day() -> None:
    numbers = SourceNumbers()
    for name in ("a", "b"):
        numbers.number_of(name)
    numbers.note_listed({"a"}, NOW_S)
    numbers.note_listed({"a"}, NOW_S + DAY_S / 2)  # its day has begun before
    numbers = again(numbers)
    assert numbers.over(NOW_S + DAY_S - 1) == {}
    assert numbers.over(NOW_S + DAY_S) == {"b": 2}
    assert dict(numbers) == {"a": 1, "b": 2}


@pytest.mark.parametrize("how", ["asked for", "noted"])
def test_a_source_that_came_back_has_its_day_anew(how: str) -> None:
    numbers = SourceNumbers()
    numbers.number_of("a")
    numbers.note_listed((), NOW_S)
    if how == "noted":
        numbers.note_listed({"a"}, NOW_S + DAY_S - 1)
    else:
        assert numbers.number_of("a") == 1
    numbers = again(numbers)
    numbers.note_listed((), NOW_S + DAY_S)
    assert numbers.over(NOW_S + DAY_S) == {}
    assert numbers.over(NOW_S + 2 * DAY_S) == {"a": 1}


def test_a_clock_that_was_set_back_begins_the_day_anew() -> None:
    numbers = SourceNumbers()
    numbers.number_of("a")
    numbers.note_listed((), NOW_S + 10 * DAY_S)
    numbers.note_listed((), NOW_S)
    assert numbers.over(NOW_S + DAY_S) == {"a": 1}


def test_the_number_of_what_is_forgotten_is_the_next_ones() -> None:
    numbers = SourceNumbers()
    for name in ("a", "b", "c"):
        numbers.number_of(name)
    numbers.note_listed({"c"}, NOW_S)
    for name in numbers.over(NOW_S + DAY_S):
        numbers.forget(name)
    for known in (numbers, again(numbers)):
        assert dict(known) == {"c": 3}
        assert known.highest == 3
    after = again(numbers)
    assert [after.number_of(name) for name in ("x", "a", "y")] == [1, 2, 4]
    assert dict(again(after)) == {"c": 3, "x": 1, "a": 2, "y": 4}
    assert again(after).over(NOW_S + 9 * DAY_S) == {}


def test_a_torn_line_is_passed_over() -> None:
    numbers = SourceNumbers()
    numbers.number_of("a")
    os.pwrite(numbers.descriptor, b'\n[2, "b', os.fstat(numbers.descriptor).st_size)
    after = again(numbers)
    assert after.number_of("c") == 2
    assert dict(again(after)) == {"a": 1, "c": 2}


def test_a_file_that_says_little_is_written_anew() -> None:
    numbers = SourceNumbers()
    for name in ("a", "b"):
        numbers.number_of(name)
    numbers.note_listed({"a"}, NOW_S)
    assert not numbers.wants_renewal
    for _ in range(module._LINES_AT_LEAST):
        numbers.note_listed((), NOW_S)
        numbers.number_of("a")
    assert numbers.wants_renewal
    fresh = numbers.renewed()
    assert not fresh.wants_renewal
    assert os.fstat(fresh.descriptor).st_size < 100
    for known in (fresh, again(fresh)):
        assert dict(known) == {"a": 1, "b": 2}
        assert known.over(NOW_S + DAY_S) == {"b": 2}
