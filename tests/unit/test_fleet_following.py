"""One turn after another against a small server that does what only newer servers and broken ones do."""

import threading
import time
from collections.abc import Iterator

import pytest

from localserver import LocalServer
from xdropd.control.fields import TAG_CHARACTERS_AT_MOST
from xdropd.errors import LocalApiError, RefusedFile, Unavailable
from xdropd.fleet.following import Following
from xdropd.fleet.localapi import USER_AGENT, Identity, LocalApi
from xdropd.host.log import Log
from xdropd.text import crowdsec
from xdropd.text.crowdsec import Configuration


def item(number, entry):
    return (
        f'{{"duration":"4h0m0s","id":{number},"origin":"cscli","scenario":"manual","scope":"Ip","type":"ban",'
        f'"uuid":"5f3c-{number}","value":"{entry}"}}'
    )


def answer(new=(), deleted=()):
    return f'{{"deleted":[{",".join(deleted)}],"new":[{",".join(new)}]}}'.encode()


ONE, TWO = item(1, "192.0.2.1"), item(2, "192.0.2.2")


def cut(handler):
    """Less than the length that was announced."""
    body = answer([ONE])
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body) + 100))
    handler.end_headers()
    handler.wfile.write(body)


def cut_in_chunks(handler):
    """No last chunk."""
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.wfile.write(b"10\r\n" + answer([ONE])[:16] + b"\r\n")


def ended_properly_but_short(handler):
    """As newer servers do where their database fails half-way."""
    body = answer([ONE])[:-5]
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.wfile.write(f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n")


def hung_up(_handler):
    """Not a word."""


class Daemon:
    """What xdropd would have in force, of what it is told."""

    def __init__(self):
        self.entries, self.verbs, self.is_away, self.is_ready = {}, [], False, True

    def ask(self, request, follow=None):
        if self.is_away:
            raise Unavailable("xdropd does not answer")
        verb, source = request["verb"], request.get("source")
        if verb == "status":
            tag = "xdropd-crowdsec crowdsec"
            known = self.entries.items() if self.is_ready else ()
            return {
                "ready": self.is_ready,
                "sources": [{"name": name, "tag": tag, "entries": len(each)} for name, each in known],
            }
        assert self.is_ready, "it would be waited for"
        self.verbs.append(verb)
        lines = b"".join(follow or ()).decode().splitlines()
        there = set() if verb == "replace" else set(self.entries.get(source, ()))
        gone = {line[1:] for line in lines if line.startswith("-")}
        self.entries[source] = (there | {line.split("\t")[0] for line in lines} - {f"-{each}" for each in gone}) - gone
        return {"added": 0, "removed": 0, "changed": 0, "kept": 0, "warnings": []}

    @property
    def blocked(self):
        return set().union(*self.entries.values())


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with LocalServer() as made:
        yield made


@pytest.fixture
def daemon():
    return Daemon()


@pytest.fixture
def following(server, daemon):
    configuration = Configuration(api_url=server.url, update_frequency=0.1, timeout=0.5, origins=("cscli", "CAPI"))
    return Following(configuration, LocalApi(configuration, Identity("key")), daemon, Log("test"))


def turns(following, server, *answers):
    """How each of the requests was: whole or not."""
    server.answers, server.asked = list(answers), []
    for _ in answers:
        following.turn()
    return ["startup" in query for query, _ in server.asked]


def test_two_complete_answers_and_then_changes(server, following, daemon):
    answers = (answer([ONE, TWO]), answer([ONE, TWO]), answer(), answer(deleted=[TWO]))
    assert turns(following, server, *answers) == [True, True, False, False]
    assert daemon.blocked == {"192.0.2.1"}
    assert daemon.verbs == ["change", "replace", "change"]


def test_the_longest_name_of_a_source_fits_in_its_tag():
    longest = crowdsec.read(b"source: " + b"s" * 180, "crowdsec.yaml")
    assert len(Following(longest, None, None, Log("test"))._tag) <= TAG_CHARACTERS_AT_MOST
    with pytest.raises(RefusedFile):
        crowdsec.read(b"source: " + b"s" * 181, "crowdsec.yaml")


def test_what_is_asked(server, following):
    turns(following, server, answer())
    ((query, headers),) = server.asked
    assert query == {"startup": ["true"], "dedup": ["false"], "scopes": ["ip,range"], "origins": ["cscli,CAPI"]}
    assert headers["X-Api-Key"] == "key"
    assert headers["User-Agent"] == USER_AGENT
    assert USER_AGENT.count("/") == 1


@pytest.mark.parametrize(
    "broken",
    [
        cut,
        cut_in_chunks,
        ended_properly_but_short,
        hung_up,
        (500, b'{"message":"x"}'),
        (403, b'{"message":"access forbidden"}'),
        (200, b"<html>"),
        (200, b"{}"),
        (302, b""),
    ],
)
def test_after_a_failure_all_there_is_is_asked_for_and_nothing_goes(server, following, daemon, broken):
    turns(following, server, answer([ONE, TWO]), answer([ONE, TWO]))
    assert turns(following, server, broken, broken, answer([TWO]), answer([TWO, ONE]), answer()) == [
        *(False, True, True),
        *(True, False),
    ]
    assert daemon.blocked == {"192.0.2.1", "192.0.2.2"}


def test_a_server_that_says_nothing_is_not_waited_for_without_end(server, following, daemon):
    ended = threading.Event()
    turns(following, server, answer([ONE]), answer([ONE]))
    turns(following, server, lambda _: ended.wait(10))
    ended.set()
    assert "has not answered for 0.5 seconds" in following.status
    assert daemon.blocked == {"192.0.2.1"}


def test_a_restart_of_the_companion_takes_nothing_back_at_once(server, following, daemon):
    daemon.entries["crowdsec:cscli"] = {"192.0.2.9"}
    daemon.entries["crowdsec:CAPI"] = {"192.0.2.8"}
    turns(following, server, answer([ONE]))
    assert daemon.blocked == {"192.0.2.1", "192.0.2.8", "192.0.2.9"}
    turns(following, server, answer([ONE]))
    assert daemon.blocked == {"192.0.2.1"}


def test_most_of_what_was_there_is_not_given_up_for_an_empty_database(server, following, daemon):
    daemon.entries["crowdsec:cscli"] = {f"10.0.0.{number}" for number in range(200)}
    assert turns(following, server, answer([ONE]), answer(), answer()) == [True, False, False]
    assert len(daemon.blocked) == 201


def test_an_answer_that_lacks_most_is_not_agreed_with_before_its_time(server, following, daemon):
    many = [item(number, f"10.0.0.{number}") for number in range(1, 201)]
    turns(following, server, answer(many), answer(many))
    assert turns(following, server, hung_up, answer(), hung_up, answer(), answer()) == [False, True, False, True, False]
    assert len(daemon.blocked) == 200, "a server that fails once more, such as for a restart, is asked for all at once"
    turns(following, server, hung_up, answer(many[1:]), answer(many[1:]))
    assert len(daemon.blocked) == 199, "most of it is back, so what is missing now is missing for a reason"


def test_nor_after_a_restart_of_the_companion(server, following, daemon):
    daemon.entries["crowdsec:cscli"] = {f"10.0.0.{number}" for number in range(200)}
    turns(following, server, answer([ONE]), hung_up, answer([ONE]), hung_up, answer([ONE]))
    assert len(daemon.blocked) == 201


@pytest.mark.parametrize("why", ["is_away", "is_ready"])
def test_nor_where_xdropd_did_not_say_at_first_what_was_there(server, following, daemon, why):
    """It is away, or it answers and has not read its blocks yet."""
    daemon.entries["crowdsec:cscli"] = {f"10.0.0.{number}" for number in range(200)}
    setattr(daemon, why, why == "is_away")
    turns(following, server, answer(), answer())
    assert following.status.startswith("xdropd ")
    setattr(daemon, why, why != "is_away")
    assert turns(following, server, answer([ONE]), answer([ONE])) == [True, False]
    assert len(daemon.blocked) == 201


def test_what_is_still_missing_when_its_time_has_come_goes(server, following, daemon, monkeypatch):
    many = [item(number, f"10.0.0.{number}") for number in range(1, 201)]
    turns(following, server, answer(many), answer(many), hung_up, answer(), hung_up, answer())
    assert len(daemon.blocked) == 200
    later = time.monotonic() + 2 * 3600
    monkeypatch.setattr("xdropd.fleet.following.time.monotonic", lambda: later)
    assert turns(following, server, answer()) == [True]
    assert daemon.blocked == set()


def test_a_gap_in_the_numbers_has_all_there_is_asked_for_soon(server, following, daemon, monkeypatch, capfd):
    turns(following, server, answer([ONE]), answer([ONE]))
    other = item(3, "192.0.2.3").replace('"ban"', '"captcha"')  # none of ours, and no gap
    four, six = item(4, "192.0.2.4"), item(6, "192.0.2.6")
    assert turns(following, server, answer([TWO], [other]), answer([four]), answer()) == [False, False, False]
    assert "are skipped" not in capfd.readouterr().err
    assert turns(following, server, answer([six]), answer()) == [False, False]
    assert "numbers of decisions are skipped: " in capfd.readouterr().err
    later = time.monotonic() + 20
    monkeypatch.setattr("xdropd.fleet.following.time.monotonic", lambda: later)
    all_there_is = answer([ONE, TWO, four, item(5, "192.0.2.5"), six])
    assert turns(following, server, all_there_is, answer()) == [True, False]
    assert daemon.blocked == {f"192.0.2.{number}" for number in (1, 2, 4, 5, 6)}
    assert "1 of them the server had not told before" in capfd.readouterr().err


def test_xdropd_that_is_away_is_told_everything_later(server, following, daemon):
    turns(following, server, answer([ONE]), answer([ONE]))
    daemon.is_away = True
    turns(following, server, answer([TWO]), answer(deleted=[ONE]))
    assert following.status == "xdropd does not answer"
    daemon.is_away = False
    turns(following, server, answer())
    assert daemon.blocked == {"192.0.2.2"}
    assert daemon.verbs[-1] == "replace"


@pytest.mark.parametrize("shift_s", [86_400, -86_400])
def test_a_clock_of_this_host_that_is_set_has_all_ends_told_anew(server, following, daemon, monkeypatch, shift_s):
    """Set forward, all that was told has ended in xdropd; set back, it would last for too long."""
    turns(following, server, answer([ONE]), answer([ONE]), answer())
    daemon.entries["crowdsec:cscli"] = set()
    really = time.time
    monkeypatch.setattr("xdropd.fleet.following.time.time", lambda: really() + shift_s)
    assert turns(following, server, answer([ONE]), answer()) == [True, False]
    assert daemon.blocked == {"192.0.2.1"}
    ((ban,),) = following.bans.entries("cscli").values()
    assert abs(ban.until_s - (really() + shift_s + 4 * 3600)) < 5


def test_a_certificate_that_cannot_be_read_is_told(tmp_path):
    (tmp_path / "cert").write_text("x")
    configuration = Configuration(api_url="https://127.0.0.1/")
    with pytest.raises(LocalApiError, match="a certificate or its key cannot be used"):
        LocalApi(configuration, Identity("", f"{tmp_path}/cert", f"{tmp_path}/cert"))
