"""Bans: nothing is lost, and nothing is taken back because of an error, whatever order the server says things in."""

import pytest
from hypothesis import stateful
from hypothesis import strategies as st

from xdropd.fleet.bans import Bans
from xdropd.fleet.decisions import Decision

NOW_S = 1000.0


def decision(number, entry="192.0.2.1", until_s=4600, origin="CAPI", scenario="ssh-bf"):
    return Decision(number, origin, entry, until_s, scenario)


def whole(bans, *said, now_s=NOW_S):
    bans.ask()
    for each in said:
        bans.take(each)
    return bans.whole(now_s)


def lines(found):
    return b"".join(found).decode().splitlines()


def told(bans):
    """What xdropd hears of changes, and that it has."""
    heard = [line for origin in bans.differing for line in lines(bans.changes(origin))]
    for origin in bans.differing:
        bans.told(origin)
    return heard


@pytest.fixture
def bans():
    return Bans()


def test_a_decision_is_an_entry_with_its_end_and_its_reason(bans):
    bans.take(decision(1))
    assert told(bans) == ["192.0.2.1\t4600\tssh-bf (CAPI)"]
    assert told(bans) == []
    assert lines(bans.everything("CAPI")) == ["192.0.2.1\t4600\tssh-bf (CAPI)"]


def test_of_several_decisions_on_an_entry_the_last_one_counts(bans):
    for number, until_s in ((1, 4600), (2, 9000), (3, 5000)):
        bans.take(decision(number, until_s=until_s, scenario=f"s{number}"))
    assert told(bans) == ["192.0.2.1\t9000\ts2 (CAPI)"]
    bans.drop(decision(2))
    assert told(bans) == ["192.0.2.1\t5000\ts3 (CAPI)"]
    bans.drop(decision(3))
    bans.drop(decision(1))
    assert told(bans) == ["-192.0.2.1"]


def test_origins_are_apart(bans):
    bans.take(decision(1))
    bans.take(decision(2, origin="cscli"))
    bans.drop(decision(2, origin="cscli"))
    assert told(bans) == ["192.0.2.1\t4600\tssh-bf (CAPI)", "-192.0.2.1"]
    assert bans.count() == {"CAPI": 1}


def test_a_deletion_that_is_repeated_or_of_something_else_has_no_effect(bans):
    bans.take(decision(1))
    told(bans)
    bans.drop(decision(2))
    bans.drop(decision(1, entry="192.0.2.2"))
    bans.drop(decision(1, origin="cscli"))
    assert told(bans) == []
    bans.drop(decision(1))
    assert told(bans) == ["-192.0.2.1"]
    bans.drop(decision(1))
    assert told(bans) == []


def test_what_a_complete_answer_lacks_goes_when_the_next_one_lacks_it_too(bans):
    assert whole(bans, decision(1), decision(2, entry="192.0.2.2")) == 0
    told(bans)
    assert whole(bans, decision(1)) == 1
    assert told(bans) == []
    assert whole(bans, decision(1)) == 0
    assert told(bans) == ["-192.0.2.2"]


def test_what_comes_back_in_between_stays(bans):
    for said in ([decision(1)], [], [decision(1)], [], [decision(1)]):
        whole(bans, *said)
    assert told(bans) == ["192.0.2.1\t4600\tssh-bf (CAPI)"]


def test_what_came_between_complete_answers_is_missing_only_from_later_ones(bans):
    whole(bans)
    bans.take(decision(1))
    told(bans)
    assert whole(bans) == 1
    assert told(bans) == []


@pytest.mark.threat_model
def test_an_answer_that_broke_off_takes_nothing_back(bans):
    whole(bans, decision(1), decision(2, entry="192.0.2.2"))
    told(bans)
    for _ in range(3):
        bans.ask()
        bans.take(decision(1))  # and there it ended
    assert told(bans) == []
    assert whole(bans, decision(1), decision(2, entry="192.0.2.2")) == 0


def test_a_number_that_is_used_again_by_another_database_takes_nothing_away(bans):
    whole(bans, decision(1))
    bans.take(decision(1, entry="192.0.2.9"))
    assert bans.count() == {"CAPI": 2}


def test_an_end_that_answers_tell_a_little_apart_is_the_same(bans):
    whole(bans, decision(1, until_s=4600))
    told(bans)
    whole(bans, decision(1, until_s=4603))
    assert told(bans) == []
    whole(bans, decision(1, until_s=2000))
    assert told(bans) == ["192.0.2.1\t2000\tssh-bf (CAPI)"]


def test_what_has_ended_is_forgotten_without_a_word(bans):
    whole(bans, decision(1, until_s=1500))
    told(bans)
    assert whole(bans, now_s=1600.0) == 0
    assert bans.count() == {}
    assert told(bans) == []


def test_two_complete_answers_are_needed_before_anything_else_may_go(bans):
    assert not bans.is_confirmed
    whole(bans)
    assert not bans.is_confirmed
    whole(bans)
    assert bans.is_confirmed


def test_before_two_answers_agree_everything_is_added_and_only_what_was_deleted_goes(bans):
    for number, entry in ((1, "192.0.2.1"), (2, "192.0.2.2")):
        bans.take(decision(number, entry=entry))
    told(bans)
    bans.drop(decision(2, entry="192.0.2.2"))
    assert lines(bans.everything_and_changes("CAPI")) == ["192.0.2.1\t4600\tssh-bf (CAPI)", "-192.0.2.2"]
    bans.told("CAPI")
    assert lines(bans.everything_and_changes("CAPI")) == ["192.0.2.1\t4600\tssh-bf (CAPI)"]
    bans.drop(decision(1))
    assert bans.origins == []


def test_lines_can_be_asked_for_again(bans):
    for number in range(10_000):
        bans.take(decision(number, entry=f"10.0.{number >> 8}.{number & 255}"))
    found = bans.changes("CAPI")
    assert len(lines(found)) == len(lines(found)) == 10_000


class Histories(stateful.RuleBasedStateMachine):
    """A server, answers that come or do not, and an xdropd that does as it is told: they agree where they should."""

    numbers = st.integers(1, 6)

    def __init__(self):
        super().__init__()
        self.server = {}
        self.unsaid_new, self.unsaid_deleted = {}, {}
        self.bans = Bans()
        self.xdropd = set()
        self.whole_in_a_row = 0

    def entry(self, number):
        return f"192.0.2.{number % 3}"

    @stateful.rule(number=numbers)
    def decide(self, number):
        self.server[number] = self.unsaid_new[number] = decision(number, entry=self.entry(number))
        self.whole_in_a_row = 0

    @stateful.rule(number=numbers)
    def delete(self, number):
        if number in self.server:
            self.unsaid_deleted[number] = self.server.pop(number)
            self.unsaid_new.pop(number, None)
            self.whole_in_a_row = 0

    @stateful.rule(number=numbers)
    def delete_without_a_word(self, number):
        self.server.pop(number, None)
        self.unsaid_new.pop(number, None)
        self.whole_in_a_row = 0

    @stateful.rule()
    def hear_what_has_changed(self):
        for each in self.unsaid_deleted.values():
            self.bans.drop(each)
        for each in self.unsaid_new.values():
            self.bans.take(each)
        self.unsaid_new, self.unsaid_deleted = {}, {}
        self.put_in_force()
        assert {each.entry for each in self.server.values()} <= self.xdropd or self.is_behind

    @stateful.rule()
    def an_answer_is_lost(self):
        self.unsaid_new, self.unsaid_deleted = {}, {}
        self.is_behind = True

    is_behind = False

    @stateful.rule()
    def hear_everything(self):
        whole(self.bans, *self.server.values())
        self.whole_in_a_row += 1
        self.unsaid_new, self.unsaid_deleted, self.is_behind = {}, {}, False
        self.put_in_force()
        entries = {each.entry for each in self.server.values()}
        assert entries <= self.xdropd
        if self.whole_in_a_row >= 2:
            assert entries == self.xdropd

    @stateful.rule(fraction=st.integers(0, 5))
    def everything_is_cut_short(self, fraction):
        self.bans.ask()
        for each in list(self.server.values())[:fraction]:
            self.bans.take(each)
        self.whole_in_a_row = 0
        self.unsaid_new, self.unsaid_deleted, self.is_behind = {}, {}, True

    def put_in_force(self):
        for line in told(self.bans):
            if line.startswith("-"):
                self.xdropd.discard(line[1:])
            else:
                self.xdropd.add(line.split("\t")[0])


TestHistories = Histories.TestCase
