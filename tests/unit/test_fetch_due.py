"""When a URL is due."""

import pytest

from xdropd.fetch import due
from xdropd.host.fetched import State, Wanted

URL = "https://lists.example/drop.txt"
NOW_S = 1_800_000_000.0
WANTED = Wanted(URL, 3600)
NO_ANSWER_S, ANSWER_S = due.first_pause_s(False, False), due.first_pause_s(True, False)


def _state(**changes: object) -> State:
    usual = {"tried_at": NOW_S - 100, "next_at": NOW_S + 3500, "setting": due.setting_of(WANTED), "interval_s": 3600}
    return State(URL, **{**usual, **changes})


@pytest.mark.parametrize(
    ("state", "wanted", "has_come", "is_due"),
    [
        (None, WANTED, False, True),
        (_state(), WANTED, True, False),
        (_state(next_at=NOW_S), WANTED, True, True),
        (_state(), WANTED, False, True),  # somebody removed the file
        (_state(failures=1), WANTED, False, False),  # it never came: its pause counts
        (_state(), WANTED._replace(asked="a"), True, True),
        (_state(asked="a"), WANTED._replace(asked="a"), True, False),
        (_state(asked="a"), WANTED._replace(asked="b"), True, True),
        (_state(), WANTED._replace(every_s=600), True, True),
        (_state(failures=3), WANTED._replace(sha256="00"), True, True),
        (_state(tried_at=NOW_S + 7200, next_at=NOW_S + 9000), WANTED, True, True),  # the clock was set back
        (_state(next_at=NOW_S + 20 * 86_400), WANTED, True, False),  # the server asked for it
    ],
)
def test_is_due(state: State | None, wanted: Wanted, has_come: bool, is_due: bool) -> None:
    assert due.is_due(wanted, state, has_come, NOW_S) == is_due


def test_pauses_grow_and_spread() -> None:
    pauses = [due.pause_after_failure_s(86_400, failures, NO_ANSWER_S, 0, 0.0) for failures in range(1, 12)]
    assert pauses == [60, 120, 240, 480, 960, 1920, 3840, 7680, 15360, 21600, 21600]
    assert due.pause_after_failure_s(86_400, 1, ANSWER_S, 0, 0.0) == 300, "who answered is not asked again at once"
    assert due.pause_after_failure_s(86_400, 1, ANSWER_S, 0, 1.0) == 375
    assert due.pause_after_failure_s(600, 10_000, ANSWER_S, 0, 0.0) == 600, "no longer than the interval"


def test_who_is_sent_away_comes_back_once_an_hour_at_most() -> None:
    """Or as often as the operator wants it."""
    first_s = due.first_pause_s(True, True)
    assert due.pause_after_failure_s(86_400, 1, first_s, 0, 0.0) == 3600
    assert due.pause_after_failure_s(600, 1, first_s, 0, 0.0) == 600


def test_what_the_server_asks_for_counts() -> None:
    assert due.pause_after_failure_s(600, 1, ANSWER_S, 7200, 0.0) == 7200
    assert 7200 < due.pause_after_failure_s(600, 1, ANSWER_S, 7200, 1.0) <= 7200 * 1.05, "not all in the same second"
    assert due.interval_s(3600, 0) == 3600
    assert due.interval_s(3600, 7200) == 7200
    assert due.interval_s(3600, 10**10) == 30 * 86_400, "but not for good"
    assert 3600 <= due.pause_after_success_s(3600, 0.5) <= 3600 * 1.05
