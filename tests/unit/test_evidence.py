"""Evidence is never a false alarm, and speaks within ten seconds of a hundred packets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdropd.filter.evidence import PACKETS, Doubt, Evidence, Remedy

EVERY_S = 1.0
LATE_S = 3  # by how many seconds the count of a driver is behind at most, with what a busy machine adds


def alarm_at(rates, *, seen_until_s=float("inf"), late_s=0, begun_at=0, weight=1, merged=1):
    """The second in which it speaks; None if it never does.

    `rates` are packets by second, all at its beginning. The program sees those of the first `seen_until_s` seconds, one
    of its own for `merged`, and each counts for `weight`. The kernel's count is brought up to date every `late_s`.
    """
    evidence = Evidence()
    received = seen = counted = 0
    for second, packets in enumerate(rates):
        received += packets
        if second < seen_until_s:
            seen += -(-packets // merged)
        if not late_s or second % late_s == 0:
            counted = received
        if evidence.look(begun_at + counted, weight * seen, 1000.0 + second * EVERY_S):
            return second
    return None


@pytest.mark.parametrize("rate", [1, 10, 100, 1_000_000])
@pytest.mark.parametrize("late_s", [0, 2, LATE_S])
def test_it_speaks_within_ten_seconds_of_a_hundred_packets(rate, late_s):
    hundred = -(-PACKETS // rate)
    assert alarm_at([rate] * (hundred + 30), seen_until_s=0, begun_at=12_345, late_s=late_s) <= hundred + 10
    assert alarm_at([rate] * (hundred + 60), seen_until_s=20, late_s=late_s) <= 20 + hundred + 10


@pytest.mark.parametrize("pause_s", range(1, 12))
@pytest.mark.parametrize("late_s", [0, 2, LATE_S])
def test_a_burst_is_told_however_soon_it_follows_what_was_seen(pause_s, late_s):
    """And nothing comes behind it. The few that were seen may be among those that the kernel counts late."""
    before = [0] * 10 + [3] + [0] * (pause_s - 1)
    burst_at = len(before)
    spoken_at = alarm_at([*before, PACKETS + 3, *[0] * 30], seen_until_s=burst_at, late_s=late_s)
    assert spoken_at is not None
    assert spoken_at <= burst_at + 10


def test_a_burst_that_may_have_been_seen_is_no_alarm():
    """A thousand were, and are counted late: two seconds behind the last look at which the program had seen more."""
    evidence = Evidence()
    counts = [(0, 0)] * 6 + [(0, 1000)] * 2 + [(1000, 1000)] * 20
    for second, (received, seen) in enumerate(counts):
        assert not evidence.look(received, seen, 50.0 + second)


def test_what_came_before_it_was_attached_is_no_alarm_whenever_the_kernel_counts_it():
    evidence = Evidence()
    for second, received in enumerate([0, 0, 5000, *[5000] * 20]):
        assert not evidence.look(received, 1 if second > 1 else 0, 50.0 + second)


def test_a_packet_a_minute_that_is_seen_is_no_alarm():
    assert alarm_at(([1] + [0] * 59) * 300) is None


def test_a_packet_a_minute_that_is_not_seen_is_one_after_a_hundred_minutes():
    second = alarm_at(([1] + [0] * 59) * 300, seen_until_s=0)
    assert PACKETS - 2 <= second / 60 <= PACKETS + 2


RATES = st.lists(st.one_of(st.just(0), st.integers(0, 10), st.integers(0, 10**6)), min_size=1, max_size=120)


@given(RATES, st.integers(0, LATE_S), st.integers(0, 2**40))
def test_what_is_seen_is_no_alarm_whenever_the_kernel_counts_it(rates, late_s, begun_at):
    assert alarm_at(rates, late_s=late_s, begun_at=begun_at) is None


@given(RATES, st.integers(0, LATE_S), st.integers(1, 64))
def test_nor_if_it_was_put_together_of_many(rates, late_s, merged):
    """As in generic mode, where the octets count: no packet has fewer than one."""
    assert alarm_at(rates, late_s=late_s, merged=merged, weight=merged) is None


@given(RATES, st.lists(st.sampled_from([0.1, 1.0, 1.5, 3.0, 4.5, 60.0]), min_size=120, max_size=120))
def test_nor_if_looks_are_far_apart(rates, pauses):
    """The kernel is late by as long as everything stood still, and by two seconds more."""
    evidence, now_s, received, seen = Evidence(), 70.0, [(0.0, 0)], 0
    for packets, pause_s in zip(rates, pauses, strict=False):
        seen += packets
        received.append((now_s, seen))
        counted = max(count for at_s, count in received if at_s <= now_s - min(pause_s, LATE_S))
        assert not evidence.look(counted, seen, now_s)
        now_s += pause_s


def test_a_device_that_counts_more_than_it_hands_on_is_no_trouble_while_it_hands_on_any():
    evidence = Evidence()
    for second in range(600):
        assert not evidence.look(1000 * second, second, 50.0 + second)


def test_counts_that_were_set_back_do_not_hide_what_comes_then():
    evidence = Evidence()
    for second in range(20):
        assert not evidence.look(10**9, 5, 1000.0 + second)
    spoken = [evidence.look(PACKETS * second, 5, 1020.0 + second) for second in range(10)]
    assert spoken[-1] >= PACKETS


def test_counts_that_are_away_for_a_moment_are_no_alarm():
    """As where they are summed up over queues, while their number changes."""
    evidence = Evidence()
    for second in range(60):
        assert not evidence.look(10**9 if second % 7 else 10**8, 5, 1000.0 + second)


def test_fewer_than_a_hundred_are_none():
    assert alarm_at([PACKETS - 1] + [0] * 100, seen_until_s=0) is None


def remedies(seconds, *, may_be_generic, seen_from_s=float("inf")):
    """What is done in which second about a device that receives a thousand packets a second, none of them seen."""
    doubt, done = Doubt(), []
    for second in range(seconds):
        seen = max(0, second - seen_from_s) * 1000 if second > seen_from_s else 0
        is_native = may_be_generic and Remedy.ATTACH_GENERIC not in [each for _, each in done]
        remedy = doubt.look(1000 * second, int(seen), 50.0 + second, may_be_generic=is_native)
        if remedy:
            done.append((second, remedy))
    return done, doubt.sentence


def test_it_is_attached_anew_then_in_generic_mode_then_given_up_and_tried_again_later():
    done, sentence = remedies(60, may_be_generic=True)
    assert [remedy for _, remedy in done] == [Remedy.ATTACH_ANEW, Remedy.ATTACH_GENERIC, Remedy.GIVE_UP]
    seconds = [second for second, _ in done]
    assert all(later - earlier <= 10 for earlier, later in zip([0, *seconds], seconds, strict=False))
    assert sentence.endswith("packets came in and the filter saw none of them, " + Remedy.GIVE_UP.value)
    done, _ = remedies(700, may_be_generic=False)
    assert [remedy for _, remedy in done] == [Remedy.ATTACH_ANEW, Remedy.GIVE_UP] * 2


def test_a_device_whose_packets_are_seen_again_is_no_trouble():
    done, sentence = remedies(60, may_be_generic=True, seen_from_s=8)
    assert [remedy for _, remedy in done] == [Remedy.ATTACH_ANEW]
    assert sentence == ""


def test_an_attachment_that_counts_from_zero_has_seen_nothing_yet():
    """A driver that lost its program in the midst of things: what it had seen is not what it sees again."""
    doubt, done, seen = Doubt(), [], 5000
    for second in range(60):
        remedy = doubt.look(5000 + 1000 * second, seen, 50.0 + second, may_be_generic=not done[1:])
        if remedy:
            done.append(remedy)
            seen = 0
    assert done == [Remedy.ATTACH_ANEW, Remedy.ATTACH_GENERIC, Remedy.GIVE_UP]
    assert doubt.sentence


@pytest.mark.parametrize("seen_before", [4, 5000])
def test_an_attachment_that_has_seen_no_more_than_the_one_before_it_is_mended_all_the_same(seen_before):
    doubt, seen = Doubt(), seen_before
    for second in range(30):
        if doubt.look(1000 * second, seen, 50.0 + second, may_be_generic=True):
            seen = 4  # by the time of the next look, and none from then on
            break
    doubt.look(1000 * second + 4, seen, 51.0 + second, may_be_generic=True)
    assert doubt.sentence == ""
