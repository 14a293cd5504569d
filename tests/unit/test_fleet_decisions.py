"""Decisions: what an answer of the local API says, in whatever pieces it comes and however a server writes it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdropd.errors import LocalApiError
from xdropd.fleet import decisions
from xdropd.fleet.decisions import Decision, Reader
from xdropd.text.crowdsec import Configuration
from xdropd.text.godurations import go_seconds

# As version 1.4.6 sent it.
ANSWER = (
    b'{"deleted":[{"duration":"-987.791\xc2\xb5s","id":2,"origin":"cscli","scenario":"manual","scope":"Ip","type":"ban",'
    b'"value":"192.0.2.2"}],"new":[{"duration":"3h59m59.779477367s","id":1,"origin":"cscli","scenario":"manual","scope":'
    b'"Ip","type":"ban","value":"192.0.2.1"}]}'
)


def said(*pieces):
    return [(key, item["id"]) for key, item in decisions.items(pieces)]


def pieces_of(text, size):
    return [text[at : at + size] for at in range(0, len(text), size)]


@pytest.mark.parametrize("size", [1, 2, 7, 100, 1000])
def test_an_answer_is_read_in_any_pieces(size):
    assert said(*pieces_of(ANSWER, size)) == [("deleted", 2), ("new", 1)]


@given(st.integers(1, len(ANSWER) - 1))
def test_an_answer_that_is_cut_anywhere_is_refused(length):
    with pytest.raises(LocalApiError, match="cut short|UTF-8"):
        said(ANSWER[:length])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"deleted":null,"new":null}', []),
        ('{"deleted":[],"new":[]}', []),
        (' { "new" : [ {"id":1} , {"id":2} ] , "links":{"a":[1]}, "deleted":null } ', [("new", 1), ("new", 2)]),
        ('{"new":[{"id":"},{"}],"more":[{"id":7}]}', [("new", "},{")]),
        ('{"new":[null,{"id":1}]}', [("new", 1)]),
    ],
)
def test_lists_may_be_null_or_empty_and_there_may_be_more(text, expected):
    assert said(text.encode()) == expected


@pytest.mark.threat_model
@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "null", "<html>", '{"new":{}', '{"new":[{"id":1}{"id":2}]}', "[" * 5000, '{"new":' + "[" * 100_000),
        *("{}", '{"message":"welcome"}', '{"deleted":null}', '{"new":"","deleted":null}', '{"new":null,"deleted":{}}'),
    ],
)
def test_what_is_no_answer_is_refused(text):
    with pytest.raises(LocalApiError):
        said(text.encode())


def decision(**changes):
    return {
        "duration": "1h",
        "id": 7,
        "origin": "CAPI",
        "scenario": "ssh-bf",
        "scope": "Ip",
        "type": "ban",
        "value": "192.0.2.1",
        **changes,
    }


def read(item, configuration=None, now_s=1000.0):
    return Reader(configuration or Configuration()).read(item, now_s)


@pytest.mark.parametrize(
    ("value", "entry"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1/32", "192.0.2.1"),
        ("192.0.2.9/24", "192.0.2.0/24"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("2001:db8:0:0::1", "2001:db8::1"),
        ("2001:DB8::/32", "2001:db8::/32"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
    ],
)
def test_values_come_as_they_were_stored(value, entry):
    assert read(decision(value=value)) == Decision(7, "CAPI", entry, 4600, "ssh-bf")


@pytest.mark.parametrize("kind", ["ban", "Ban", "BAN"])
def test_a_type_is_meant_in_any_case(kind):
    assert read(decision(type=kind, scope="Range", value="192.0.2.0/24"))


@pytest.mark.parametrize(
    "change", [{"type": "captcha"}, {"type": "simulation:ban"}, {"scope": "Country", "value": "FR"}, {"scope": "AS"}]
)
def test_what_is_no_ban_of_an_address_is_passed_over(change):
    reader = Reader(Configuration())
    assert reader.read(decision(**change), 0.0) is None
    assert reader.senseless == 0


@pytest.mark.parametrize(
    "change",
    [
        {"value": "example.com"},
        {"value": None},
        {"duration": "x"},
        {"duration": None},
        {"id": "x"},
        {"type": 1},
        {"origin": 1},
        {"scenario": None},
    ],
)
def test_what_makes_no_sense_is_counted(change):
    reader = Reader(Configuration())
    assert reader.read(decision(**change), 0.0) is None
    assert reader.senseless == 1


def test_a_family_may_be_left_out():
    assert read(decision(value="::ffff:192.0.2.1"), Configuration(disable_ipv4=True)) is None
    assert read(decision(value="2001:db8::1"), Configuration(disable_ipv4=True))
    assert read(decision(value="2001:db8::1"), Configuration(disable_ipv6=True)) is None


def test_an_end_is_told_from_our_clock_and_never_too_early():
    assert read(decision(duration="500ms")).until_s == 1001
    assert read(decision(duration="-1s")).until_s == 999
    assert read(decision(duration="2562047h47m16s")).until_s > 9e9


def test_an_origin_becomes_part_of_the_name_of_a_source():
    assert read(decision(origin="lists:firehol/level1\n")).origin == "lists:firehol_level1\\x0a"
    assert read(decision(origin="")).origin == "unknown"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("3h59m59.5s", 14399.5),
        ("911.5ms", 0.9115),
        ("-987.791µs", -0.000987791),
        ("99999h59m", 359_999_940),
        ("0s", 0),
        ("0", 0),
        ("1us", 1e-6),
        ("+1m", 60),
        (".5s", 0.5),
        ("1.h", 3600),
    ],
)
def test_durations_are_read_as_go_writes_them(text, seconds):
    assert go_seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "-", "1", "1x", "s", "1h ", " 1h", "1h2", "--1s", "1d", "\u0661s"])
def test_what_go_would_not_read_is_refused(text):
    with pytest.raises(ValueError, match="is no duration"):
        go_seconds(text)


@given(
    st.lists(st.fixed_dictionaries({"id": st.integers(), "value": st.text()}), max_size=5),
    st.integers(1, 50),
    st.booleans(),
)
def test_every_item_of_every_answer_is_read(items, size, is_ascii):
    text = json.dumps({"deleted": None, "new": items}, ensure_ascii=is_ascii).encode(errors="surrogatepass")
    assert [item for _, item in decisions.items(pieces_of(text, size))] == items
