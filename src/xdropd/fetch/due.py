"""When a URL is due: its interval, what the server asks for, and growing pauses after failures. Knows no clock.

`chance` is a number from 0 to 1, for jitter: the hosts that fetch a list shall not all come at the same second.
"""

from xdropd.host.fetched import State, Wanted

_SPREAD = 0.05  # of an interval
_SPREAD_OF_PAUSES = 0.25
_FIRST_PAUSE_S = 60  # nobody answered: a network that is not up yet, more often than not
_FIRST_PAUSE_AFTER_ANSWER_S = 300  # somebody did, and may not want to be asked again at once
_FIRST_PAUSE_AFTER_SENT_AWAY_S = 3600  # some block for good who asks more than once an hour
_LONGEST_PAUSE_S = 6 * 3600
_CLOCK_SLACK_S = 60
_LEAST_S_AT_MOST = 30 * 86_400  # however long a server wants to be left alone


def setting_of(wanted: Wanted) -> str:
    """What is wanted of a URL, as a text that differs when that does."""
    return f"{wanted.every_s} {wanted.headers or ''} {wanted.sha256 or ''}"


def is_due(wanted: Wanted, state: State | None, has_come: bool, now_s: float) -> bool:
    """Whether it is to be fetched now: asked for, its time has come, or it is wanted in another way than before.

    A clock that was set back makes it due as well.
    """
    if state is None or state.next_at is None or state.tried_at is None or (not has_come and not state.failures):
        return True
    if wanted.asked is not None and wanted.asked != state.asked:
        return True
    if state.setting != setting_of(wanted):
        return True
    return now_s >= state.next_at or now_s < state.tried_at - _CLOCK_SLACK_S


def interval_s(every_s: int, least_s: int) -> int:
    """How often it is fetched, if the server says that what it sent is fresh for `least_s`."""
    return max(every_s, min(least_s, _LEAST_S_AT_MOST))


def pause_after_success_s(interval_s: int, chance: float) -> float:
    """How long to wait, all being well."""
    return interval_s * (1 + _SPREAD * chance)


def first_pause_s(was_answered: bool, was_sent_away: bool) -> int:
    """How long to wait after a first failure, if the interval is no shorter."""
    if was_sent_away:
        return _FIRST_PAUSE_AFTER_SENT_AWAY_S
    return _FIRST_PAUSE_AFTER_ANSWER_S if was_answered else _FIRST_PAUSE_S


def pause_after_failure_s(every_s: int, failures: int, first_s: int, retry_after_s: int, chance: float) -> float:
    """How long to wait after so many failures in a row: longer each time, and no less than the server asks for.

    `first_s`: the pause after the first one, in seconds.
    """
    pause = min(first_s << min(failures - 1, 20), every_s, _LONGEST_PAUSE_S)
    asked_for = min(retry_after_s, _LEAST_S_AT_MOST) * (1 + _SPREAD * chance)
    return max(pause * (1 + _SPREAD_OF_PAUSES * chance), asked_for)
