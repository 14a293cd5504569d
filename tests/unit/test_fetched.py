"""The files between the daemon and xdropd-fetch."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from xdropd.host import fetched
from xdropd.host.fetched import State, Wanted

URL = "https://lists.example/drop.txt"
STATE = State(URL, 1_800_000_000.25, 1.5, 2.0, 3.0, 3600, 2, 7, "no answer", '"etag"', "a date", "00", "01", "", "x")


def test_what_is_wanted_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "fetch.json"
    assert fetched.read_wanted(path) is None
    wanted = (Wanted(URL, 3600), Wanted("http://other.example/", 300, "/etc/h", "00" * 32, "2026-11-29T18:00:00Z"))
    before = os.umask(0o077)
    try:
        fetched.write_wanted(path, wanted)
    finally:
        os.umask(before)
    assert fetched.read_wanted(path) == wanted
    assert path.stat().st_mode & 0o777 == 0o644
    assert json.loads(path.read_bytes())["version"] == 1
    fetched.write_wanted(path, ())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"version": 2, "wanted": []}',
        '{"version": 1, "wanted": 3}',
        '{"version": 1, "wanted": [3]}',
        '{"version": 1, "wanted": [{"url": "http://a/"}]}',
        '{"version": 1, "wanted": [{"url": "http://a/", "every_s": true}]}',
        '{"version": 1, "wanted": [{"url": "http://a/", "every_s": 3, "headers": 3}]}',
        '{"version": 1, "wanted": [{"url": "file:///etc/passwd", "every_s": 300}]}',
        pytest.param("[" * 100_000, id="deep"),
    ],
)
def test_what_makes_no_sense_is_an_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "fetch.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="."):
        fetched.read_wanted(path)


def test_a_state_comes_back(tmp_path: Path) -> None:
    fetched.write_state(tmp_path, STATE)
    assert fetched.read_state(tmp_path, URL) == STATE
    assert fetched.read_states(tmp_path) == [STATE]
    assert fetched.read_state(tmp_path, "http://other.example/") is None
    told = json.loads(fetched.state_path(tmp_path, URL).read_bytes())
    assert told["fetched_at"] == "2027-01-15T08:00:00.250000Z"


@pytest.mark.parametrize(
    "change",
    [
        {"url": "http://other.example/"},
        {"failures": -1},
        {"failures": "many"},
        {"failures_total": 1.5},
        {"interval_s": 1 << 60},
        {"fetched_at": "yesterday"},
        {"fetched_at": "2026-11-29T18:00:00"},
        {"fetched_at": 3},
        {"fetched_at": "0001-01-01T00:00:00+23:59"},
        {"next_at": "9999-12-31T23:59:59-23:59"},
        {"failure": []},
        {"setting": None},
    ],
)
def test_a_state_that_does_not_fit_is_none(tmp_path: Path, change: dict[str, object]) -> None:
    fetched.write_state(tmp_path, STATE)
    path = fetched.state_path(tmp_path, URL)
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **change}))
    assert fetched.read_state(tmp_path, URL) is None
    assert fetched.read_states(tmp_path) == []


def test_a_key_of_a_later_version_does_no_harm(tmp_path: Path) -> None:
    fetched.write_state(tmp_path, STATE)
    path = fetched.state_path(tmp_path, URL)
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "later": 1}))
    assert fetched.read_state(tmp_path, URL) == STATE
    fetched.write_state(tmp_path, replace(STATE, failures=3))
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
