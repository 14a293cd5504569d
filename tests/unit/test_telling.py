"""What the operator is told, and how often."""

import pytest

from xdropd.host.log import WARNING, Log
from xdropd.host.telling import Telling


@pytest.fixture
def telling(capfd: pytest.CaptureFixture[str]) -> Telling:
    return Telling(Log())


def said(capfd: pytest.CaptureFixture[str]) -> list[str]:
    return capfd.readouterr().err.splitlines()


def test_a_reason_is_told_when_it_comes_and_when_it_is_over(
    telling: Telling, capfd: pytest.CaptureFixture[str]
) -> None:
    for _ in range(3):
        telling.trouble("settings", "the settings are refused")
    assert telling.is_degraded
    assert telling.all_troubles() == ["the settings are refused"]
    for _ in range(3):
        telling.clear("settings")
    assert not telling.is_degraded
    assert said(capfd) == [
        "xdropd: error: the settings are refused",
        "xdropd: notice: settings: no longer a problem",
    ]


def test_of_several_things_each_is_told_by_itself(telling: Telling, capfd: pytest.CaptureFixture[str]) -> None:
    telling.trouble("lists", {"/a": "/a: empty", "/b": "/b: empty"}, "list", "file")
    telling.trouble("lists", {"/a": "/a: foreign"}, "list", "file")
    assert telling.all_troubles() == ["/a: foreign"]
    telling.trouble("lists", {}, "list", "file")
    assert said(capfd) == [
        "xdropd: error: /a: empty",
        "xdropd: error: /b: empty",
        "xdropd: error: /a: foreign",
        "xdropd: notice: /b: no longer a problem",
        "xdropd: notice: /a: no longer a problem",
    ]


def test_what_ended_otherwise_than_by_being_solved_is_told_so(
    telling: Telling, capfd: pytest.CaptureFixture[str]
) -> None:
    telling.trouble("interfaces", {"a": "a: taken", "b": "b: taken", "c": "c: taken"})
    endings = {"a": "a: gone", "b": "", "c": "c: gone"}
    telling.trouble("interfaces", {"c": "c: taken"}, endings=endings)
    assert said(capfd)[3:] == ["xdropd: notice: a: gone", "xdropd: notice: b: no longer a problem"]


def test_once_means_until_something_else_is_said_under_that_key(
    telling: Telling, capfd: pytest.CaptureFixture[str]
) -> None:
    for message in ("a", "a", "b", "a"):
        telling.once("key", WARNING, "list", message)
    assert [line.rpartition(" ")[2] for line in said(capfd)] == ["a", "b", "a"]


def test_of_many_messages_those_are_told_that_the_last_ones_did_not_have(
    telling: Telling, capfd: pytest.CaptureFixture[str]
) -> None:
    for messages in (["a", "b"], ["b", "c"], ["a"]):
        telling.each_once("narrowed", WARNING, "guard", {message: {"entry": message} for message in messages})
    assert [line.rpartition(" ")[2] for line in said(capfd)] == ["a", "b", "c", "a"]
