"""A gap in the numbers of decisions is looked into, soon at first, and ever later where it means nothing."""

import math

import pytest

from xdropd.fleet.skipped import Skipped


@pytest.fixture(params=[1.0, 3.0])
def skipped(request, monkeypatch):
    monkeypatch.setattr(
        "xdropd.fleet.skipped.random.uniform", lambda least, most: {1.0: least, 3.0: most}[request.param]
    )
    made = Skipped()
    whole(made, 1, 2, 3)
    return made


def whole(skipped, *numbers, took_s=0.01, now_s=1000.0):
    skipped.begin(whole=True)
    for number in numbers:
        skipped.hear(number)
    skipped.end(now_s - took_s, now_s)


def news(skipped, *numbers, now_s=1000.0):
    skipped.begin(whole=False)
    for number in numbers:
        skipped.hear(number)
    return skipped.end(now_s - 0.01, now_s)


@pytest.mark.parametrize("numbers", [(), (4,), (4, 5), (5, 4), (4, 4), (1, 3), (2, 4), (None, 4, "5"), (1, 2, 3, 4, 5)])
def test_no_gap(skipped, numbers):
    assert not news(skipped, *numbers)
    assert skipped.look_at_s == math.inf


@pytest.mark.parametrize("numbers", [(5,), (4, 6), (6, 4), (3, 5), (5, 5)])
def test_a_gap(skipped, numbers):
    assert news(skipped, *numbers)
    assert 1005 <= skipped.look_at_s <= 1015
    assert not news(skipped, 9), "that is already looked into"


def test_numbers_go_on_over_answers(skipped):
    assert [news(skipped, 4), news(skipped), news(skipped, 5, 6), news(skipped, 8)] == [False, False, False, True]


def test_after_an_answer_that_broke_off_numbers_count_from_the_complete_one(skipped):
    skipped.begin(whole=False)
    skipped.hear(9)
    whole(skipped, *range(1, 10))
    assert not news(skipped, 10)


def test_a_server_that_begins_anew(skipped):
    whole(skipped, 1)
    assert not news(skipped, 2)


def test_what_a_large_answer_costs_is_a_hundredth_of_the_time(skipped):
    whole(skipped, 1, 2, 3, took_s=0.5)
    news(skipped, 5)
    assert 1050 <= skipped.look_at_s <= 1150


def test_the_wait_grows_while_gaps_mean_nothing(skipped):
    waits = []
    for number in (5, 7, 9):
        news(skipped, number)
        waits.append(skipped.look_at_s - 1000)
        whole(skipped, number)
    assert 5 <= waits[0] <= 15
    assert 10 <= waits[1] <= 30
    assert 20 <= waits[2] <= 60
    whole(skipped, 9)
    news(skipped, 11)
    assert 40 <= skipped.look_at_s - 1000 <= 120, "an answer that comes by itself says nothing on gaps"
    skipped.begin(whole=True)
    skipped.hear(10)
    skipped.take(10)
    skipped.hear(11)
    assert not skipped.end(1000, 1000.01)
    assert skipped.found == 1
    news(skipped, 13)
    assert skipped.look_at_s <= 1015, "one that found something counts from the beginning"
