"""Reports: what this host has blocked by itself goes to the server, and nothing else; the queue has a bound."""

import json

import pytest

from xdropd.fleet import reports
from xdropd.fleet.reports import Reports

NOW_S, NOW = 1_796_083_200.0, "2026-12-01T00:00:00Z"
KEY = "fail2ban-sshd", "203.0.113.1"


def event(what="block", entry="203.0.113.1", source="fail2ban-sshd", until="2026-12-01T01:00:00Z", **more):
    said = {"event": what, "cursor": "a.1", "source": source, "entry": entry, "at": NOW, **more}
    return said | ({"until": until, "reason": "3 failures"} if what == "block" else {})


@pytest.fixture
def waiting():
    return Reports(("fail2ban-*", "xdropctl"), "crowdsec", "web1")


def alerts(waiting):
    return [alert for _, alert in waiting.alerts(NOW_S, NOW)]


def test_a_block_becomes_a_decision_for_the_rest_of_its_time(waiting):
    waiting.take(event())
    (alert,) = alerts(waiting)
    assert alert["decisions"] == [
        {
            "value": "203.0.113.1",
            "duration": "3600s",
            "scope": "Ip",
            "type": "ban",
            "scenario": "fail2ban-sshd@web1",
            "origin": "xdropd",
        }
    ]
    assert (alert["start_at"], alert["message"], alert["events_count"]) == (NOW, "3 failures", 1)


def test_networks_have_another_scope_and_what_has_no_end_gets_a_late_one(waiting):
    waiting.take(event(entry="203.0.113.0/24", until=None))
    (alert,) = alerts(waiting)
    assert (alert["decisions"][0]["scope"], alert["decisions"][0]["duration"]) == ("Range", "315360000s")


def test_an_end_that_the_server_would_refuse_is_told_as_for_good(waiting):
    waiting.take(event(until="9999-12-31T23:59:59Z"))
    (alert,) = alerts(waiting)
    assert alert["decisions"][0]["duration"] == "315360000s"


def test_a_range_is_told_and_taken_back_as_the_networks_of_which_it_is_made(waiting):
    entries = ("198.51.100.7-198.51.100.10", "2001:db8::1-2001:db8::2")
    networks = {"198.51.100.7": "Ip", "198.51.100.8/31": "Range", "198.51.100.10": "Ip", "2001:db8::1": "Ip"}
    networks |= {"2001:db8::2": "Ip"}
    for entry in entries:
        waiting.take(event(entry=entry))
    (alert,) = alerts(waiting)
    assert {each["value"]: each["scope"] for each in alert["decisions"]} == networks
    assert alert["events_count"] == 5
    for entry in entries:
        waiting.take(event("unblock", entry=entry))
    deletions = dict(waiting.deletions(blocked_anew=False))
    assert [key[1] for key in deletions] == list(entries)
    assert {which["value"] for each in deletions.values() for which in each} == networks.keys()


@pytest.mark.parametrize("source", ["crowdsec:CAPI", "other", "/var/lib/GeoIP/any.mmdb"])
def test_what_came_from_the_server_or_a_file_or_is_not_named_is_never_reported(source):
    waiting = Reports(("fail2ban-*", "crowdsec*", "*y*"), "crowdsec", "web1")
    waiting.take(event(source=source))
    assert not waiting
    assert waiting.cursor == "a.1"


def test_taking_back_names_this_host(waiting):
    waiting.take(event())
    waiting.take(event("unblock"))
    assert alerts(waiting) == []
    which = {"value": "203.0.113.1", "origin": "xdropd", "scenario": "fail2ban-sshd@web1"}
    assert list(waiting.deletions(blocked_anew=False)) == [(KEY, [which])]
    waiting.taken_back(KEY)
    assert not waiting


def test_what_is_blocked_anew_is_taken_back_first_for_the_later_end_would_win(waiting):
    waiting.take(event())
    (told,) = (list(blocks) for blocks, _ in waiting.alerts(NOW_S, NOW))
    waiting.told(told)
    waiting.take(event("unblock"))
    waiting.take(event(until="2026-12-01T00:10:00Z"))
    assert alerts(waiting) == []
    assert list(waiting.deletions(blocked_anew=False)) == []
    assert [key for key, _ in waiting.deletions(blocked_anew=True)] == [KEY]
    waiting.taken_back(KEY)
    assert [alert["decisions"][0]["duration"] for alert in alerts(waiting)] == ["600s"]
    waiting.take(event("unblock"))
    assert alerts(waiting) == []


@pytest.mark.parametrize(
    ("patterns", "cursor"),
    [(("xdropctl", "fail2ban-*"), "a.1"), (("xdropctl",), "a.1"), (("fail2ban-*", "xdropctl", "web"), None)],
)
def test_where_more_sources_are_reported_all_that_is_there_is_looked_at(waiting, patterns, cursor):
    waiting.take(event())
    again = Reports(patterns, "crowdsec", "web1")
    again.read(waiting.as_bytes())
    assert (again.blocked, again.cursor) == (waiting.blocked, cursor)


def test_what_has_ended_meanwhile_is_told_to_nobody(waiting):
    waiting.take(event(until="2026-11-30T23:59:59Z"))
    assert alerts(waiting) == []
    assert not waiting


def test_ends_and_cursors_are_no_reports(waiting):
    waiting.take(event("end"))
    waiting.take({"event": "cursor", "cursor": "a.2"})
    assert not waiting
    assert waiting.cursor == "a.2"


def test_an_alert_has_a_thousand_at_most(waiting):
    for number in range(2500):
        waiting.take(event(entry=f"10.0.{number >> 8}.{number & 255}"))
    assert [len(alert["decisions"]) for alert in alerts(waiting)] == [1000, 1000, 500]


def test_the_queue_has_a_bound_and_the_oldest_give_way(waiting, monkeypatch):
    monkeypatch.setattr(reports, "WAITING_AT_MOST", 3)
    for number in range(5):
        waiting.take(event(entry=f"203.0.113.{number}"))
    waiting.take(event(entry="203.0.113.2"))
    assert [entry for _, entry in waiting.blocked] == ["203.0.113.3", "203.0.113.4", "203.0.113.2"]
    assert waiting.lost == 2
    for number in range(4):
        waiting.take(event("unblock", entry=f"198.51.100.{number}"))
    assert [entry for _, entry in (*waiting.blocked, *waiting.unblocked)] == [f"198.51.100.{at}" for at in (1, 2, 3)]
    assert waiting.lost == 6


def test_what_waits_outlives_the_process(waiting):
    waiting.take(event())
    waiting.take(event("unblock", entry="203.0.113.2"))
    waiting.take(event(entry="203.0.113.3", until=None))
    again = Reports(("fail2ban-*", "xdropctl"), "crowdsec", "web1")
    again.read(waiting.as_bytes())
    assert list(again.blocked.items()) == list(waiting.blocked.items())
    assert (again.unblocked, again.cursor) == (waiting.unblocked, "a.1")


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[]", b"\xff", json.dumps({"cursor": 1, "patterns": [], "blocked": [[1]], "unblocked": []}).encode()],
)
def test_what_was_kept_may_be_damaged(waiting, data):
    with pytest.raises(ValueError):  # noqa: PT011  # of whichever kind
        waiting.read(data)
