"""xdropctl as a process, against a daemon that says what the test wants; and the pieces it is made of."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from spoken import ROW, STATUS, XDROPCTL, Spoken, environment
from terminal import Terminal

from waiting import wait_until
from xdropd import errors
from xdropd.commands import arguments, batch, exits, reports, tables, top
from xdropd.commands.arguments import WrongLine
from xdropd.commands.tables import Column, Rows, Screen
from xdropd.errors import Problem, RefusedFile
from xdropd.host.control import Reply

NOW = datetime(2026, 12, 1, 3, 0, tzinfo=UTC)
WIDE = Screen(None, has_colours=False, has_unicode=True)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Spoken]:
    with Spoken(tmp_path / "control.sock") as spoken:
        yield spoken


def run(path: Path, *words: str, stdin: bytes = b"", **more: Any) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*XDROPCTL, "--socket", path, *words], input=stdin, capture_output=True, env=environment(), check=False, **more
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


# ---- the command line ----


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("15m", 900), ("2h", 7200), ("7d", 604800), ("3600", 3600), ("1", 1), ("-1", None), ("none", None)],
)
def test_durations(text: str, seconds: int | None) -> None:
    assert arguments.duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "0", "0s", "s", "-2", "1.5h", "1h30m", "2 h", "2w", "forever", "²", "40000d", "9" * 40]
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="write"):
        arguments.duration(text)


def test_options_stand_anywhere_and_take_both_forms() -> None:
    chosen = arguments.read(
        ["block", "--for=2h", "192.0.2.1", "--json", "--reason", "-x-", "192.0.2.2", "--socket", "/s"]
    )
    assert (chosen.verb, chosen.operands) == ("block", ["192.0.2.1", "192.0.2.2"])
    assert chosen.options == {"for": 7200, "reason": "-x-"}
    assert (chosen.json, chosen.socket) == (True, "/s")


def test_a_negative_duration_is_a_value_and_not_an_option() -> None:
    assert arguments.read(["block", "192.0.2.1", "--for", "-1"]).options == {"for": None}


def test_two_dashes_end_the_options() -> None:
    assert arguments.read(["lookup", "--", "--for"]).operands == ["--for"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("", "a verb is missing"),
        ("blcok 192.0.2.1", "no verb 'blcok', did you mean block?"),
        ("conquer", "no verb 'conquer', there are status, list, "),
        ("block", "block wants ENTRY..."),
        ("lookup", "lookup wants ADDRESS"),
        ("lookup 192.0.2.1 192.0.2.2", "lookup does not take '192.0.2.2'"),
        ("lookup 192.0.2.0/24", "lookup takes a single address"),
        ("lookup example.org", "names are not looked up"),
        ("status now", "status does not take 'now'"),
        ("flush", "flush wants --source NAME"),
        ("list --for 2h", "list has no option '--for'"),
        ("list --sourc x", "list has no option '--sourc', did you mean --source?"),
        ("--verbose status", "no option '--verbose'"),
        ("status -x", "status has no option '-x'"),
        ("block 192.0.2.1 --for", "--for wants a value"),
        ("block 192.0.2.1 --for soon", "'soon' is no duration"),
        ("block 192.0.2.1 --source a/b", "a word without a slash"),
        (f"block 192.0.2.1 --source {'a' * 1001}", "a word without a slash"),
        (f"block 192.0.2.1 --reason {'a' * 1001}", "at most 1000 printable characters"),
        ("block 192.0.2.1 --reason \x1b[2J", "'\\x1b[2J' is no reason"),
        ("top --once=yes", "--once takes no value"),
        ("top --by name", "packets, bytes or rate"),
        ("top --count 0", "1 to 1000"),
        ("block 10.0.0.0/08", "write 10.0.0.0/8"),
        ("unblock 10.0", "10.0"),
        ("exporter --listen nowhere", "127.0.0.1:9792"),
        ("exporter --listen ::1:9792", "[::1]:9792"),
    ],
)
def test_wrong_usage(line: str, says: str, tmp_path: Path) -> None:
    done = run(tmp_path / "nobody", *line.split())
    assert (done.returncode, done.stdout) == (exits.WRONG_USAGE, "")
    assert says in done.stderr
    assert done.stderr.startswith("xdropctl: error: ")
    assert "usage: xdropctl" in done.stderr


def test_wrong_usage_in_json(tmp_path: Path) -> None:
    done = run(tmp_path / "nobody", "--json", "block", "10.0")
    assert (done.returncode, done.stderr) == (exits.WRONG_USAGE, "")
    assert json.loads(done.stdout).keys() == {"error"}


@pytest.mark.parametrize("verb", ["", *arguments.VERBS])
def test_help_is_complete(verb: str, tmp_path: Path) -> None:
    done = run(tmp_path / "nobody", *verb.split(), "--help")
    assert (done.returncode, done.stderr) == (0, "")
    wanted = [f"--{name}" for name in arguments.VERBS[verb].options] if verb else [*arguments.VERBS, "--version"]
    assert [word for word in (*wanted, "--socket", "--json") if word not in done.stdout] == []
    assert max(map(len, done.stdout.splitlines())) <= 120


def test_the_version(tmp_path: Path) -> None:
    assert re.fullmatch(r"xdropctl \d+\.\d+\.\d+\n", run(tmp_path / "nobody", "--version").stdout)


# ---- entries ----


def test_standard_input_is_one_batch(daemon: Spoken) -> None:
    daemon.answers["block"] = {"result": {"blocked": 3, "warnings": []}}
    text = "\ufeff# from the night shift\n192.0.2.1\r\n\n  2001:db8::/32   # with a remark\n\t198.51.100.7-198.51.100.9"
    done = run(daemon.path, "block", "-", stdin=text.encode())
    assert (done.returncode, done.stdout, done.stderr) == (0, "3 entries blocked\n", "")
    (request,) = daemon.requests
    assert request["entries"] == ["192.0.2.1", "2001:db8::/32", "198.51.100.7-198.51.100.9"]


def test_what_only_the_daemon_can_judge_is_passed_on_as_it_was_written(daemon: Spoken) -> None:
    """A network with host bits and a mapped address are taken for what they mean, and remarked on."""
    remark = "'10.0.0.1/8' has bits set behind its prefix, it is taken as 10.0.0.0/8"
    daemon.answers["block"] = {"result": {"blocked": 2, "warnings": [remark]}}
    done = run(daemon.path, "block", "10.0.0.1/8", "-", stdin=b"::ffff:192.0.2.1\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "2 entries blocked\n", f"xdropctl: warning: {remark}\n")
    found = {"address": "192.0.2.1", "blocked": True, "kept_by": None, **ROW, "remarks": ["as IPv4"]}
    daemon.answers = {"lookup": {"result": found}, "status": {"result": {"state": "enforcing"}}}
    assert run(daemon.path, "lookup", "::ffff:192.0.2.1").stderr == "xdropctl: warning: as IPv4\n"
    block, lookup, _ = daemon.requests
    assert (block["entries"], lookup["address"]) == (["10.0.0.1/8", "::ffff:192.0.2.1"], "::ffff:192.0.2.1")


def test_a_line_that_does_not_parse_refuses_the_batch(daemon: Spoken) -> None:
    done = run(daemon.path, "block", "-", stdin=b"192.0.2.1\n\n  10.0.0.1/33 # x\n192.0.2.\xff\nexample.org\n")
    assert (done.returncode, done.stdout) == (exits.BAD_INPUT, "")
    first, second, third = done.stderr.splitlines()
    assert first.startswith("standard input:3:3: error: '10.0.0.1/33'")
    assert second.startswith("standard input:4:1: error: ")
    assert third.startswith("standard input:5:1: error: 'example.org'")
    assert daemon.requests == []


def test_a_refused_batch_in_json(daemon: Spoken) -> None:
    done = run(daemon.path, "--json", "unblock", "-", stdin=b"192.0.2.1\n10.0\n")
    assert (done.returncode, done.stderr) == (exits.BAD_INPUT, "")
    said = json.loads(done.stdout)
    (problem,) = said["problems"]
    assert (problem["file"], problem["line"], problem["column"]) == ("standard input", 2, 1)
    assert said.keys() == {"error", "problems"}


def test_an_empty_batch_is_done(daemon: Spoken) -> None:
    done = run(daemon.path, "block", "-", stdin=b"# nobody today\n")
    assert (done.returncode, done.stdout, daemon.requests) == (0, "0 entries blocked\n", [])


def test_a_bad_argument_beside_a_good_one_changes_nothing(daemon: Spoken) -> None:
    assert run(daemon.path, "block", "192.0.2.1", "192.0.2.256").returncode == exits.WRONG_USAGE
    assert daemon.requests == []


def test_columns_count_characters() -> None:
    with pytest.raises(RefusedFile) as refusal:
        batch.entries(["-"], "block", _Bytes("  \u00e4\u00f6 1.2.3.4\n".encode()))
    assert [(each.line, each.column) for each in refusal.value.problems] == [(1, 3)]


class _Bytes:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self) -> bytes:
        return self._data


# ---- what is asked, what is answered ----


@pytest.mark.parametrize(
    ("words", "request_"),
    [
        ("status", {"verb": "status"}),
        ("list", {"verb": "list"}),
        ("list --source fail2ban", {"verb": "list", "source": "fail2ban"}),
        ("list --source /etc/xdrop/../xdrop/a.txt", {"verb": "list", "source": "/etc/xdrop/a.txt"}),
        ("lookup 192.0.2.1", {"verb": "lookup", "address": "192.0.2.1"}),
        ("block 192.0.2.1", {"verb": "block", "entries": ["192.0.2.1"]}),
        (
            "block 192.0.2.1 --for 2h --source f2b --reason ssh",
            {"verb": "block", "entries": ["192.0.2.1"], "seconds": 7200, "source": "f2b", "reason": "ssh"},
        ),
        ("block 192.0.2.1 --for none", {"verb": "block", "entries": ["192.0.2.1"]}),
        ('block 192.0.2.1 --reason a"b\\c', {"verb": "block", "entries": ["192.0.2.1"], "reason": 'a"b\\c'}),
        ("block 192.0.2.1 --reason \u00fcbel", {"verb": "block", "entries": ["192.0.2.1"], "reason": "\u00fcbel"}),
        ("unblock 192.0.2.1 --source f2b", {"verb": "unblock", "entries": ["192.0.2.1"], "source": "f2b"}),
        ("flush --source f2b", {"verb": "flush", "source": "f2b"}),
        ("reload", {"verb": "reload"}),
        ("reload --accept /x/../list.txt", {"verb": "reload", "accept": "/list.txt"}),
        ("top --once", {"verb": "top", "by": "packets", "count": 20}),
        ("top --once --by bytes --count 5", {"verb": "top", "by": "bytes", "count": 5}),
    ],
)
def test_requests(daemon: Spoken, words: str, request_: dict[str, Any]) -> None:
    daemon.answers = {
        "status": {"result": STATUS},
        "list": [{"row": ROW}, {"result": {}}],
        "top": [{"row": ROW}, {"result": {}}],
        "lookup": {"result": {"address": "192.0.2.1", "blocked": True, "kept_by": None, **ROW}},
        "block": {"result": {"blocked": 1, "warnings": []}},
        "unblock": {"result": {"unblocked": 1, "remarks": []}},
        "flush": {"result": {"unblocked": 7}},
        "reload": {"result": {"ok": True, "problems": [], "troubles": [], "status": "enforcing"}},
    }
    done = run(daemon.path, *words.split())
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout
    assert daemon.requests[0] == {"version": 1, **request_}
    daemon.requests.clear()
    done = run(daemon.path, "--json", *words.split())
    assert (done.returncode, done.stderr) == (0, "")
    assert isinstance(json.loads(done.stdout), dict)
    assert daemon.requests == [{"version": 1, **request_}]


def test_watch_goes_on_where_the_daemon_restarted(daemon: Spoken) -> None:
    """From the last place on; and ends when that is gone."""
    happened = {"cursor": "a.2", "source": "f2b", "entry": "192.0.2.1", "at": "2026-12-01T02:00:00Z"}
    answers = iter(
        [
            [
                {"row": {"event": "cursor", "cursor": "a.1"}},
                {"row": {"event": "block", **happened, "until": "2026-12-01T03:00:00Z", "reason": "ssh"}},
                {"row": {"event": "unblock", **happened}},
            ],
            [{"row": {"event": "end", "cursor": "a.3", "source": "f2b", "entry": "192.0.2.2"}}],
            [{"error": "it is gone", "kind": "Lost"}],
        ]
    )
    daemon.answers["watch"] = lambda _request: iter(next(answers))
    done = run(daemon.path, "watch", "--source", "f*")
    assert (done.returncode, done.stderr) == (1, "xdropctl: error: it is gone\n")
    assert done.stdout.splitlines() == [
        "2026-12-01T02:00:00Z 192.0.2.1 blocked by f2b until 2026-12-01T03:00:00Z: ssh",
        "2026-12-01T02:00:00Z 192.0.2.1 taken back by f2b",
        "192.0.2.2 of f2b has ended",
    ]
    asked = [{key: request.get(key) for key in ("source", "cursor")} for request in daemon.requests]
    assert asked == [{"source": "f*", "cursor": cursor} for cursor in (None, "a.2", "a.3")]


def test_entries_with_ends_follow_the_request(daemon: Spoken) -> None:
    received: list[bytes] = []

    def answer(request: Mapping[str, Any]) -> Iterator[Reply | None]:
        received.extend(request["entries"].pieces())
        yield {"result": {"blocked": 2, "warnings": []}}

    daemon.answers["block"] = answer
    lines = b'{"entry":"192.0.2.1","until":"2090-01-01T00:00:00Z","reason":"\xc3\xa4","packets":7}\n192.0.2.2 # x\n'
    done = run(daemon.path, "block", "-", "--reason", "of all", stdin=lines)
    assert (done.returncode, done.stdout, done.stderr) == (0, "2 entries blocked\n", "")
    assert b"".join(received).decode() == "192.0.2.1\t2090-01-01T00:00:00Z\tä\n192.0.2.2\n"
    assert daemon.requests[0]["reason"] == "of all"
    del received[:]
    assert run(daemon.path, "block", "-", stdin=b"192.0.2.1\n" * 1001).returncode == 0
    assert b"".join(received) == b"192.0.2.1\n" * 1001


@pytest.mark.parametrize(
    ("said", "end"),
    [
        ('"until":null', "none"),  # as `list` prints it
        ('"for":-1', "none"),
        ('"for":"none"', "none"),
        ('"until":"none","for":null', "none"),
        ('"for":null', ""),
        ('"until":5,"for":null', "5"),
        ('"reason":"x"', ""),
    ],
)
def test_a_line_that_says_for_good_is_for_good_whatever_the_options_say(daemon: Spoken, said: str, end: str) -> None:
    received: list[bytes] = []

    def answer(request: Mapping[str, Any]) -> Iterator[Reply | None]:
        received.extend(request["entries"].pieces())
        yield {"result": {"blocked": 2, "warnings": []}}

    daemon.answers["block"] = answer
    lines = f'{{"entry":"192.0.2.1",{said}}}\n{{"entry":"192.0.2.2","until":7,"reason":"y"}}\n'
    assert run(daemon.path, "block", "-", "--for", "1h", stdin=lines.encode()).returncode == 0
    first, _ = b"".join(received).decode().splitlines()
    assert f"{first}\t\t".split("\t")[:2] == ["192.0.2.1", end]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"entry":"192.0.2.1"', "not JSON"),
        ('{"entry":7}', '"entry"'),
        ('{"until":"2090-01-01T00:00:00Z"}', '"entry"'),
        ('{"entry":"192.0.2.1","ends":5}', "'ends'"),
        ('{"entry":"192.0.2.1","until":"soon"}', "soon"),
        ('{"entry":"192.0.2.1","until":true}', "True"),
        ('{"entry":"192.0.2.1","until":[]}', "[]"),
        ('{"entry":"192.0.2.1","until":5,"for":"2h"}', "both"),
        ('{"entry":"192.0.2.1","for":"2y"}', "2y"),
        ('{"entry":"192.0.2.1","for":{}}', "{}"),
        ('{"entry":"192.0.2.1","reason":5}', '"reason"'),
        ('{"entry":"192.0.2.1","reason":"a\\u0007"}', "reason"),
    ],
)
def test_json_lines_that_make_no_sense(daemon: Spoken, line: str, says: str) -> None:
    done = run(daemon.path, "block", "-", stdin=f"192.0.2.9\n {line}\n".encode())
    assert done.returncode == 78
    assert done.stderr.startswith("standard input:2:2: error: ")
    assert says in done.stderr
    assert daemon.requests == []


def test_replace_of_nothing_is_said_on_purpose(daemon: Spoken) -> None:
    counts = {"added": 0, "removed": 3, "changed": 0, "kept": 0, "without_effect": 0, "ended": 0, "too_wide": 0}
    daemon.answers["replace"] = {"result": {**counts, "warnings": ["beware"]}}
    for words in (["replace", "--source", "x", "-"], ["replace", "--source", "x", "192.0.2.1"], ["replace", "-"]):
        done = run(daemon.path, *words, stdin=b"# nothing\n")
        assert done.returncode == (78 if words[-2:] == ["x", "-"] else 2), words
    assert daemon.requests == []
    done = run(daemon.path, "replace", "--source", "x", "--empty", "-", stdin=b"")
    assert (done.returncode, done.stdout) == (0, "0 added, 3 removed, 0 changed, 0 kept\n")
    assert done.stderr == "xdropctl: warning: beware\n"
    assert daemon.requests[0]["source"] == "x"


def test_a_relative_list_file_is_accepted_where_the_user_stands(daemon: Spoken, tmp_path: Path) -> None:
    daemon.answers["reload"] = {"result": {"ok": True, "problems": [], "troubles": [], "status": "enforcing"}}
    run(daemon.path, "reload", "--accept", "drop.txt", cwd=tmp_path)
    assert daemon.requests[0]["accept"] == str(tmp_path / "drop.txt")


def test_warnings_and_remarks_are_said_and_it_is_done(daemon: Spoken) -> None:
    daemon.answers["block"] = {"result": {"blocked": 1, "warnings": ["10.0.0.0/8 is narrowed by allow 10.1.0.0/16"]}}
    done = run(daemon.path, "block", "10.0.0.0/8")
    assert (done.returncode, done.stdout) == (0, "1 entry blocked\n")
    assert done.stderr == "xdropctl: warning: 10.0.0.0/8 is narrowed by allow 10.1.0.0/16\n"


def test_a_reload_warns_of_what_it_cuts_off_and_is_done(daemon: Spoken) -> None:
    said = "/f lists 192.0.2.7: 1 open connection of this host is with it (ssh from 192.0.2.7)"
    done_so = {"ok": True, "problems": [], "warnings": [said], "troubles": [], "status": "enforcing"}
    daemon.answers["reload"] = {"result": done_so}
    done = run(daemon.path, "reload")
    assert (done.returncode, done.stdout, done.stderr) == (0, "enforcing\n", f"xdropctl: warning: {said}\n")


def test_lookup_of_what_is_not_blocked_is_a_plain_no(daemon: Spoken) -> None:
    nothing = dict.fromkeys(ROW)
    keeper = {"kind": "allow", "entry": "192.0.2.0/24", "source": "/etc/xdrop/blocklist.yaml", "line": 9}
    daemon.answers["status"] = {"result": STATUS}
    daemon.answers["lookup"] = {"result": {"address": "192.0.2.1", "blocked": False, "kept_by": keeper, **nothing}}
    done = run(daemon.path, "lookup", "192.0.2.1")
    assert (done.returncode, done.stderr) == (exits.NO, "")
    assert done.stdout == "192.0.2.1 is not blocked, it is allowed: 192.0.2.0/24 in /etc/xdrop/blocklist.yaml:9\n"
    assert run(daemon.path, "--json", "lookup", "192.0.2.1").returncode == exits.NO


def test_a_refused_reload_tells_the_problems(daemon: Spoken) -> None:
    problem = {"file": "/etc/xdrop/blocklist.yaml", "line": 3, "column": 5, "message": "'10.0' is no address"}
    daemon.answers["reload"] = {
        "result": {"ok": False, "problems": [problem], "troubles": ["t"], "status": "enforcing"}
    }
    done = run(daemon.path, "reload")
    assert done.returncode == exits.BAD_INPUT
    assert done.stderr.splitlines()[0] == "/etc/xdrop/blocklist.yaml:3:5: error: '10.0' is no address"
    done = run(daemon.path, "reload", "--json")
    assert done.returncode == exits.BAD_INPUT
    said = json.loads(done.stdout)
    assert said["problems"] == [problem]
    assert said["error"]


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.Refused, exits.NO),
        (errors.BadRequest, exits.WRONG_USAGE),
        (errors.Unavailable, exits.UNAVAILABLE),
        (errors.XdropdError, exits.UNAVAILABLE),
    ],
)
def test_an_error_of_the_daemon_has_its_exit_status(daemon: Spoken, kind: type[errors.XdropdError], code: int) -> None:
    def refuse(_request: Mapping[str, Any]) -> Iterator[Reply | None]:
        raise kind("it cannot be done", "do something else")
        yield None

    daemon.answers["status"] = refuse
    done = run(daemon.path, "status")
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr == "xdropctl: error: it cannot be done (do something else)\n"
    done = run(daemon.path, "--json", "status")
    assert (done.returncode, json.loads(done.stdout)) == (code, {"error": "it cannot be done (do something else)"})


def test_a_bug_of_the_daemon_is_a_bug(tmp_path: Path) -> None:
    spoken = Spoken(tmp_path / "control.sock")
    with pytest.raises(AssertionError), spoken:
        done = run(spoken.path, "status")  # no such answer: a KeyError over there
    assert done.returncode == exits.BUG
    assert [type(bug) for bug in spoken.bugs] == [KeyError]


def test_an_answer_that_makes_no_sense_is_a_bug_as_well(daemon: Spoken) -> None:
    daemon.answers = {"status": {"result": {"state": "enforcing"}}, "block": {"result": None}}
    done = run(daemon.path, "status")
    assert (done.returncode, done.stdout) == (exits.BUG, "")
    assert "Traceback" in done.stderr
    done = run(daemon.path, "--json", "block", "192.0.2.1")
    assert done.returncode == exits.BUG
    assert json.loads(done.stdout)["error"].startswith("a bug in xdropctl")
    assert "Traceback" in done.stderr


def test_nothing_of_an_answer_reaches_the_terminal_as_a_command(daemon: Spoken) -> None:
    evil = {**ROW, "reason": "\x1b]0;owned\x07\x1b[2J", "source": "a\nb", "line": None}
    daemon.answers = {
        "list": [{"row": evil}, {"result": {}}],
        "block": {"result": {"blocked": 1, "warnings": ["\x1b[2J"]}},
    }
    for words in (["list"], ["block", "192.0.2.1"], ["list", "--json"]):
        done = run(daemon.path, *words)
        assert "\x1b" not in done.stdout + done.stderr
        assert "\x07" not in done.stdout


# ---- a daemon that is away ----


def test_it_waits_for_a_daemon_that_restarts(tmp_path: Path) -> None:
    spoken = Spoken(tmp_path / "control.sock")
    spoken.answers["block"] = {"result": {"blocked": 1, "warnings": []}}
    command = [*XDROPCTL, "--socket", spoken.path, "block", "192.0.2.1"]
    with Terminal(command, 100, 24, environment()) as terminal:
        wait_until(lambda: f"waiting for xdropd on {spoken.path}" in terminal.output, within_s=4)
        with spoken:
            assert terminal.end() == 0
        assert terminal.output.endswith("1 entry blocked\r\n")


def test_it_asks_again_where_the_daemon_hung_up_without_a_word(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        with subprocess.Popen(
            [*XDROPCTL, "--socket", path, "status", "--json"], stdout=subprocess.PIPE, env=environment()
        ) as asking:
            for _ in range(3):
                listener.accept()[0].close()
            peer, _ = listener.accept()
            with peer:
                peer.sendall(b'{"result":{"state":"enforcing"}}\n')
            assert json.loads(asking.communicate(timeout=5)[0]) == {"state": "enforcing"}


def test_it_gives_up_after_five_seconds_and_says_what_to_do(tmp_path: Path) -> None:
    begun = time.monotonic()
    done = run(tmp_path / "control.sock", "status")
    assert 5 <= time.monotonic() - begun < 7
    assert done.returncode == exits.UNAVAILABLE
    assert f"{tmp_path / 'control.sock'}" in done.stderr
    assert "systemctl start xdropd" in done.stderr


def test_an_answer_cut_short_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        with subprocess.Popen(
            [*XDROPCTL, "--socket", path, "list", "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
        ) as asking:
            peer, _ = listener.accept()
            with peer:
                peer.sendall(json.dumps({"row": ROW}).encode() + b'\n{"row":{"en')
            printed, said = asking.communicate(timeout=10)
    assert asking.returncode == exits.UNAVAILABLE
    first, last = map(json.loads, printed.splitlines())
    assert first == ROW
    assert "hung up" in last["error"]
    assert said == b""


def test_no_permission_says_what_to_do(daemon: Spoken) -> None:
    if os.geteuid() == 0:
        daemon.path.chmod(0o600)
        for folder in daemon.path.parents[:3]:
            folder.chmod(0o711)
        who = {"user": 65534, "group": 65534, "extra_groups": []}
    else:
        daemon.path.chmod(0)
        who = {}
    done = run(daemon.path, "status", **who)
    assert (done.returncode, done.stdout) == (exits.NOT_PERMITTED, "")
    assert "sudo" in done.stderr
    assert "_xdropd" in done.stderr


def test_work_that_takes_long_is_waited_for(daemon: Spoken) -> None:
    def slowly(_request: Mapping[str, Any]) -> Iterator[Reply | None]:
        for at in range(3):
            yield {"progress": f"{at} of 3"}
            yield None
        yield {"result": {"ok": True, "problems": [], "troubles": [], "status": "enforcing"}}

    daemon.answers["reload"] = slowly
    done = run(daemon.path, "reload")
    assert (done.returncode, done.stdout, done.stderr) == (0, "enforcing\n", "")


# ---- output ----


def test_a_closed_pipe_is_no_error(daemon: Spoken) -> None:
    daemon.answers["list"] = [{"row": ROW}] * 20000 + [{"result": {}}]
    for words in (["list"], ["list", "--json"]):
        with subprocess.Popen(
            [*XDROPCTL, "--socket", daemon.path, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
        ) as listing:
            assert listing.stdout
            assert listing.stderr
            assert listing.stdout.readline()
            listing.stdout.close()
            assert listing.stderr.read() == b""
        assert listing.returncode == 0


def test_a_full_disk_is_an_error(daemon: Spoken) -> None:
    daemon.answers["list"] = [{"row": ROW}, {"result": {}}]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*XDROPCTL, "--socket", daemon.path, "list"],
            stdout=full,
            stderr=subprocess.PIPE,
            env=environment(),
            check=False,
        )
    assert done.returncode == exits.UNAVAILABLE, "and not a plain no: nothing was answered"
    assert b"No space left" in done.stderr


def test_an_input_that_cannot_be_read_is_an_error(daemon: Spoken, tmp_path: Path) -> None:
    with (tmp_path / "write-only").open("wb") as file:
        done = subprocess.run(
            [*XDROPCTL, "--socket", daemon.path, "--json", "block", "-"],
            stdin=file,
            capture_output=True,
            env=environment(),
            check=False,
        )
    assert (done.returncode, done.stderr) == (exits.UNAVAILABLE, b"")
    assert "standard input cannot be read" in json.loads(done.stdout)["error"]
    assert daemon.requests == []


def test_closed_streams_are_borne(daemon: Spoken) -> None:
    daemon.answers["block"] = {"result": {"blocked": 1, "warnings": ["w"]}}
    line = f'"$@" --socket {daemon.path} block 192.0.2.1 <&- >&- 2>&-'
    assert subprocess.run(["sh", "-c", line, "sh", *XDROPCTL], env=environment(), check=False).returncode == 0


def test_an_interrupt_ends_it_quietly(daemon: Spoken) -> None:
    def never(_request: Mapping[str, Any]) -> Iterator[Reply | None]:
        while True:
            yield None

    daemon.answers["reload"] = never
    with subprocess.Popen(
        [*XDROPCTL, "--socket", daemon.path, "reload"], stderr=subprocess.PIPE, env=environment()
    ) as waiting:
        wait_until(lambda: daemon.requests, within_s=5)
        waiting.send_signal(signal.SIGINT)
        assert waiting.communicate(timeout=5)[1] == b""
    assert waiting.returncode == 130


def test_a_ban_loads_nothing_that_it_does_not_need(daemon: Spoken) -> None:
    daemon.answers["block"] = {"result": {"blocked": 1, "warnings": []}}
    look = "import sys; before = set(sys.modules); from xdropd.commands.xdropctl import main; main(sys.argv[1:])"
    look += "; print(*sorted(set(sys.modules) - before))"
    command = [
        sys.executable,
        "-c",
        look,
        "--socket",
        daemon.path,
        "block",
        "192.0.2.1",
        "--for",
        "1h",
        "--reason",
        "ssh",
    ]
    loaded = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True).stdout.splitlines()[
        -1
    ]
    assert [name for name in loaded.split() if not name.startswith("xdropd")] == ["__future__", "_socket"]


def test_list_is_aligned_and_complete(daemon: Spoken) -> None:
    daemon.answers["list"] = [
        {"row": ROW},
        {"row": {**ROW, "entry": "2001:db8::1", "source": "fail2ban", "line": None, "reason": None, "packets": 7}},
        {"result": {}},
    ]
    head, first, second = run(daemon.path, "list").stdout.splitlines()
    assert head.split() == ["ENTRY", "PACKETS", "BYTES", "LAST", "SEEN", "UNTIL", "SOURCE", "REASON"]
    assert first.startswith("203.0.113.0/24    1,234  57 kB")
    assert first.endswith("/etc/xdrop/blocklist.yaml:12  ssh brute force")
    assert second.startswith("2001:db8::1           7  57 kB")
    assert head.index("SOURCE") == first.index("/etc") == second.index("fail2ban")


def test_status_says_what_matters_first() -> None:
    degraded = {
        **STATUS,
        "degraded": True,
        "troubles": ["the blocklist is refused, the list before stays in force"],
        "reload": {
            "at": "2026-12-01T02:59:00Z",
            "ok": False,
            "problems": [{"file": "/etc/xdrop/blocklist.yaml", "line": 3, "column": 5, "message": "what is this"}],
        },
        "narrowed": ["10.0.0.0/8 of a is narrowed by the guard"],
    }
    first, *rest = reports.status(degraded, WIDE, NOW)
    assert first == "xdropd 1.0.0 is enforcing, degraded: not all that was asked for is in force"
    text = "\n".join(rest)
    assert rest[0].split(maxsplit=1) == ["degraded", "the blocklist is refused, the list before stays in force"]
    assert "eth0, native mode, program 42" in text
    assert "1,204 IPv4 addresses, 1 IPv6 address, 3 networks and ranges; 2 allowed" in text
    assert "dropped 1,234 (57 kB)" in text
    assert "1m ago, refused" in text
    assert "/etc/xdrop/blocklist.yaml:3:5: error: what is this" in text
    assert "narrowed by the guard" in text


def test_replies_are_told_where_there_are_any() -> None:
    assert "replies" not in "\n".join(reports.status(STATUS, WIDE, NOW))
    counted = {key: {**STATUS[key], "replies": 4321} for key in ("packets", "bytes")}
    assert "replies 4,321 (4.3 kB)" in "\n".join(reports.status({**STATUS, **counted}, WIDE, NOW))


def test_monitoring_never_reads_as_if_something_were_dropped() -> None:
    text = "\n".join(reports.status({**STATUS, "state": "monitoring"}, WIDE, NOW))
    assert "is monitoring: it counts and drops nothing" in text
    assert "would drop 1,234" in text
    reply = {"address": "203.0.113.9", "blocked": True, "kept_by": None, **ROW}
    assert "would be blocked" in next(reports.lookup(reply, "monitoring", WIDE, NOW))


def test_waiting_never_reads_as_if_something_were_dropped() -> None:
    waiting = {**STATUS, "state": "waiting", "interfaces": [], "waiting": ["bond0 has no port yet"]}
    first, *rest = reports.status(waiting, WIDE, NOW)
    assert first == "xdropd 1.0.0 is waiting: no interface is filtered"
    assert [line.split(maxsplit=1) for line in rest[:1]] == [["interfaces", "none is filtered"]]
    assert "waiting for  bond0 has no port yet" in rest[1]
    reply = {"address": "203.0.113.9", "blocked": True, "kept_by": None, **ROW}
    assert "would be blocked: xdropd is waiting" in next(reports.lookup(reply, "waiting", WIDE, NOW))


def test_status_says_why_an_interface_is_filtered() -> None:
    carrier = {"name": "eth0", "mode": "native", "program_id": 42, "why": "carries br0, which has a default route"}
    text = "\n".join(reports.status({**STATUS, "interfaces": [carrier]}, WIDE, NOW))
    assert "eth0, native mode, program 42: carries br0, which has a default route" in text


def test_lookup_tells_the_whole_story() -> None:
    reply = {"address": "203.0.113.9", "blocked": True, "kept_by": None, **ROW, "until": "2026-12-01T05:30:00Z"}
    assert list(reports.lookup(reply, "enforcing", WIDE, NOW)) == [
        "203.0.113.9 is blocked",
        "  by      203.0.113.0/24",
        "  from    /etc/xdrop/blocklist.yaml:12",
        "  reason  ssh brute force",
        "  since   2026-12-01T02:00:00Z, 1h ago",
        "  until   2026-12-01T05:30:00Z, in 2h30m",
        "  seen    1,234 packets, 57 kB, last 2026-12-01T02:59:56Z, 4s ago",
    ]


def test_lookup_tells_what_monitors_and_what_databases_say() -> None:
    row = {**ROW, "entry": "country=KP", "source": "/geo/world.mmdb", "line": None, "action": "monitor"}
    where = {"country": "KP", "continent": None, "asn": 64496}
    reply = {"address": "203.0.113.9", "blocked": False, "kept_by": None, **row, **where}
    assert list(reports.lookup(reply, "enforcing", WIDE, NOW)) == [
        "203.0.113.9 is not blocked: its packets pass, and are counted",
        "  listed as  country=KP",
        "  from       /geo/world.mmdb",
        "  action     monitor: it counts, and drops nothing",
        "  reason     ssh brute force",
        "  since      2026-12-01T02:00:00Z, 1h ago",
        "  until      for good",
        "  seen       1,234 packets, 57 kB, last 2026-12-01T02:59:56Z, 4s ago",
        "  databases  country KP, AS 64496",
    ]


def test_a_table_tells_what_monitors() -> None:
    rows = [{**ROW, "action": action} for action in ("block", "monitor")]
    columns = {key: [row[key] for row in rows] for key in ROW}
    _, *lines = reports.entries([columns], WIDE, NOW, with_rates=False)
    assert ["blocklist.yaml:12 (monitor)" in line for line in lines] == [False, True]


def test_status_tells_how_much_is_only_monitored() -> None:
    reply = {**STATUS, "entries": {**STATUS["entries"], "monitored": 1204}}
    assert "2 allowed; 1,204 only monitored" in "\n".join(reports.status(reply, WIDE, NOW))


def test_lookup_names_what_keeps_an_address_out() -> None:
    keeper = {"kind": "guard", "entry": "203.0.113.9", "source": "address of this host", "line": None}
    reply = {"address": "203.0.113.9", "blocked": False, "kept_by": keeper, **ROW}
    first, second, *_ = reports.lookup(reply, "enforcing", WIDE, NOW)
    assert first.startswith(
        "203.0.113.9 is not blocked, the guard keeps it out: 203.0.113.9 is an address of this host"
    )
    assert second == "  listed as  203.0.113.0/24"


# ---- tables ----

COLUMNS = (Column("ENTRY"), Column("N", is_number=True), Column("SOURCE", cut="start"), Column("REASON", cut="end"))
CELLS = ("2001:db8:1234:5678::/64", "12", "/etc/xdrop/lists.d/firehol_level1.netset:12345", "seen \u6f22\u5b57 " * 9)
LONG = Rows([[cell] for cell in CELLS], [""])


@pytest.mark.parametrize("width", [10, 40, 60, 79, 200])
def test_a_table_fits_the_terminal(width: int) -> None:
    lines = list(tables.table(COLUMNS, [LONG], Screen(width, has_colours=False, has_unicode=True)))
    assert max(map(tables.width_of, lines)) <= width
    if width >= 60:
        assert "2001:db8:1234:5678::/64  12  \u2026" in lines[1] or width == 200


def test_what_a_narrow_terminal_shows_of_list_and_top() -> None:
    """By which line of which list comes before the reason and before how long ago."""
    row = {**ROW, "source": "/etc/xdrop/lists.d/firehol_level1.netset", "line": 12345, "entry": "198.51.100.128/29"}
    for width, has_reason in ((80, False), (120, True)):
        screen = Screen(width, has_colours=False, has_unicode=True)
        columns = {key: [value] for key, value in {**row, "rate": 5.0}.items()}
        head, line = reports.entries([columns], screen, NOW, with_rates=True)
        assert ("REASON" in head, "ssh brute force" in line) == (has_reason, has_reason)
        assert re.search(r"…?\S*t:12345", line)
        board = top.Board()
        for at in range(20):
            board.learn([{**row, "packets": 1000 * at}], float(at))
        head, line = board.lines("packets", 2, None, screen, NOW)
        assert ("REASON" in head, "LAST SEEN" in head) == (has_reason, has_reason)
        assert "█" * 16 in line
        assert re.search(r"…?\S*l1\.netset", line)
        assert max(map(tables.width_of, (head, line))) <= width


def test_long_texts_are_wrapped_between_words_on_a_terminal() -> None:
    said = "198.51.100.0/26 of /etc/xdrop/blocklist.yaml is narrowed by the guard: it is us"
    lines = list(reports.status({**STATUS, "narrowed": [said]}, Screen(60, has_colours=False, has_unicode=True), NOW))
    assert max(map(len, lines)) <= 60
    (at,) = (at for at, line in enumerate(lines) if line.startswith("  guard "))
    assert [line[15:] for line in lines[at : at + 2]] == [
        "198.51.100.0/26 of",
        "  /etc/xdrop/blocklist.yaml is narrowed by",
    ]
    reply = {"address": "203.0.113.9", "blocked": True, "kept_by": None, **ROW}
    first, second, *_ = reports.lookup(reply, "monitoring", Screen(40, has_colours=True, has_unicode=True), NOW)
    assert [first, second] == [
        "\x1b[33m203.0.113.9 is listed, and would be\x1b[0m",
        "\x1b[33mblocked: xdropd is monitoring and drops\x1b[0m",
    ]


def test_a_table_in_a_file_is_not_cut() -> None:
    head, line = tables.table(COLUMNS, [LONG], WIDE)
    assert all(cell.strip() in line for cell in CELLS)
    assert head.split() == ["ENTRY", "N", "SOURCE", "REASON"]


def test_a_million_rows_are_not_waited_for() -> None:
    taken = []

    def rows() -> Iterator[Rows]:
        for at in range(100_000):
            taken.extend(range(10))
            yield Rows([[str(at)] * 10, ["1"] * 10, ["s"] * 10, ["r"] * 10], [""] * 10)

    lines = tables.table(COLUMNS, rows(), WIDE)
    next(lines)
    assert len(taken) <= 1000


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.4, "0s"),
        (59.6, "1m"),
        (61, "1m1s"),
        (3600, "1h"),
        (5400, "1h30m"),
        (90061, "1d1h"),
        (86400 * 400, "400d"),
        (-3, "0s"),
    ],
)
def test_spans_of_time(seconds: float, text: str) -> None:
    assert tables.span_of_time(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (56789, "57 kB"), (999999, "1.0 MB"), (10**18, "1.0 EB")],
)
def test_sizes(number: int, text: str) -> None:
    assert tables.size(number) == text


def test_until() -> None:
    assert tables.until(None, NOW) == "-"
    assert tables.until((NOW + timedelta(hours=2)).isoformat(), NOW) == "in 2h"
    assert tables.until((NOW + timedelta(days=100)).isoformat(), NOW) == "2027-03-11"
    assert tables.until((NOW - timedelta(hours=2)).isoformat(), NOW) == "over"


# ---- a terminal ----


def test_colours_only_on_a_terminal_that_wants_them(daemon: Spoken) -> None:
    daemon.answers["list"] = [{"row": ROW}, {"result": {}}]
    for more, coloured in (({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)):
        with Terminal([*XDROPCTL, "--socket", daemon.path, "list"], 60, 24, environment(**more)) as terminal:
            assert terminal.end() == 0
            assert ("\x1b[" in terminal.output) is coloured
            shown = re.sub(r"\x1b\[[0-9;]*m", "", terminal.output).splitlines()
            assert [line for line in shown if tables.width_of(line) > 60] == []
            assert any("203.0.113.0/24" in line for line in shown)


def _busy(daemon: Spoken) -> None:
    """Three entries: the first has most packets, the second most bytes, the third grows fastest."""
    begun = time.monotonic()

    def busiest(request: Mapping[str, Any]) -> Iterator[Reply | None]:
        passed = time.monotonic() - begun
        rows = [
            {**ROW, "entry": "192.0.2.1", "packets": 90000, "bytes": 90000},
            {**ROW, "entry": "192.0.2.2", "packets": 20000, "bytes": 20000000},
            {**ROW, "entry": "192.0.2.3", "packets": 100 + int(passed * 5000), "bytes": 100},
        ]
        for row in rows:
            yield {"row": row}
        yield {"result": {}}

    def listed(request: Mapping[str, Any]) -> Iterator[Reply | None]:
        yield {"row": {**ROW, "entry": request["entry"], "source": request["source"], "reason": "a closer look"}}
        yield {"result": {}}

    daemon.answers = {"top": busiest, "list": listed, "status": {"result": STATUS}}


def _entries_shown(terminal: Terminal) -> list[str]:
    return [match[0] for line in terminal.frame if (match := re.search(r"192\.0\.2\.\d", line))]


def test_top_live(daemon: Spoken) -> None:
    _busy(daemon)
    with Terminal([*XDROPCTL, "--socket", daemon.path, "top"], 100, 24, environment()) as terminal:
        wait_until(lambda: _entries_shown(terminal) == ["192.0.2.1", "192.0.2.2", "192.0.2.3"], within_s=5)
        assert "1,234 packets dropped" in terminal.frame[0]
        assert len(terminal.frame) == 24
        assert max(map(tables.width_of, terminal.frame)) <= 100
        terminal.type("b")
        wait_until(lambda: _entries_shown(terminal) == ["192.0.2.2", "192.0.2.1", "192.0.2.3"], within_s=5)
        terminal.type("r")
        wait_until(lambda: _entries_shown(terminal)[:1] == ["192.0.2.3"], within_s=5)
        wait_until(lambda: re.search(r"192\.0\.2\.3 +[345],\d\d\d .*[▁-█]", "\n".join(terminal.frame)), within_s=5)
        assert daemon.requests[-2]["by"] == "recent"
        terminal.type("\x1b[B")
        wait_until(lambda: any(line.startswith("> 192.0.2.3") for line in terminal.frame), within_s=5)
        terminal.type("\x1b[Bk\r")  # down, up again, enter
        wait_until(lambda: "a closer look" in "\n".join(terminal.frame), within_s=5)
        terminal.type("\x1b")
        wait_until(lambda: len(_entries_shown(terminal)) == 3, within_s=5)
        terminal.type("q")
        assert terminal.end() == 0
        assert terminal.modes() == terminal.before
        assert terminal.output.endswith("\x1b[?25h\x1b[?1049l")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_top_leaves_the_terminal_as_it_was(daemon: Spoken, number: signal.Signals) -> None:
    _busy(daemon)
    with Terminal([*XDROPCTL, "--socket", daemon.path, "top"], 100, 24, environment()) as terminal:
        wait_until(lambda: _entries_shown(terminal), within_s=5)
        (child,) = Path(f"/proc/{terminal.process.pid}/task/{terminal.process.pid}/children").read_text().split() or [
            ""
        ]
        os.kill(int(child or terminal.process.pid), number)
        assert terminal.end() == 128 + number
        assert terminal.modes() == terminal.before
        assert terminal.output.endswith("\x1b[?25h\x1b[?1049l")


def test_top_goes_on_while_the_daemon_is_away(tmp_path: Path) -> None:
    spoken = Spoken(tmp_path / "control.sock")
    _busy(spoken)
    with Terminal([*XDROPCTL, "--socket", spoken.path, "top"], 100, 24, environment()) as terminal:
        with spoken:
            wait_until(lambda: _entries_shown(terminal), within_s=5)
        wait_until(lambda: "does not answer" in terminal.frame[0], within_s=10)
        assert _entries_shown(terminal)
        again = Spoken(spoken.path)
        _busy(again)
        with again:
            wait_until(lambda: "packets dropped" in terminal.frame[0], within_s=10)
            terminal.type("q")
            assert terminal.end() == 0


def test_top_that_never_met_a_daemon_says_so(tmp_path: Path) -> None:
    with Terminal([*XDROPCTL, "--socket", tmp_path / "nobody", "top"], 100, 24, environment()) as terminal:
        assert terminal.end() == exits.UNAVAILABLE
        assert "systemctl start xdropd" in terminal.output
        assert terminal.modes() == terminal.before


# ---- what top knows ----


def _hit(entry: str, packets: int, source: str = "a") -> dict[str, Any]:
    return {**ROW, "entry": entry, "source": source, "packets": packets, "bytes": packets}


def test_rates_come_from_two_answers() -> None:
    board = top.Board()
    board.learn([_hit("192.0.2.1", 100), _hit("192.0.2.2", 1000)], 10.0)
    board.learn([_hit("192.0.2.1", 500), _hit("192.0.2.2", 1010)], 12.0)
    assert [(one.row["entry"], one.rate) for one in board.ordered("rate")] == [("192.0.2.1", 200.0), ("192.0.2.2", 5.0)]
    assert [one.row["entry"] for one in board.ordered("packets")] == ["192.0.2.2", "192.0.2.1"]


def test_what_left_is_forgotten_and_equal_entries_of_two_sources_are_two() -> None:
    board = top.Board()
    board.learn([_hit("192.0.2.1", 1), _hit("192.0.2.1", 5, "b"), _hit("192.0.2.9", 3)], 1.0)
    board.learn([_hit("192.0.2.1", 2), _hit("192.0.2.1", 9, "b")], 2.0)
    assert [(one.row["source"], one.rate) for one in board.ordered("rate")] == [("b", 4.0), ("a", 1.0)]


def test_counts_that_start_anew_are_no_negative_rate() -> None:
    board = top.Board()
    board.learn([_hit("192.0.2.1", 1000)], 1.0)
    board.learn([_hit("192.0.2.1", 3)], 2.0)
    board.learn([_hit("192.0.2.1", 13)], 3.0)
    (one,) = board.ordered("rate")
    assert list(one.rates) == [0.0, 10.0]


@pytest.mark.parametrize(("has_unicode", "line"), [(True, " ▁▄█"), (False, " _-#")])
def test_sparklines(has_unicode: bool, line: str) -> None:
    assert tables.sparkline([0, 1, 4, 8], Screen(80, has_colours=False, has_unicode=has_unicode)) == line


# ---- check, which needs no daemon ----


def test_check_prints_every_problem(tmp_path: Path) -> None:
    blocklist = tmp_path / "blocklist.yaml"
    blocklist.write_text("block:\n  - 203.0.113.9/8\n  - 10.0\n")
    done = run(tmp_path / "nobody", "check", str(blocklist))
    assert done.returncode == exits.BAD_INPUT
    assert [line.partition(" ")[0] for line in done.stderr.splitlines()] == [f"{blocklist}:2:5:", f"{blocklist}:3:5:"]
    done = run(tmp_path / "nobody", "--json", "check", str(blocklist))
    assert done.returncode == exits.BAD_INPUT
    assert [problem["line"] for problem in json.loads(done.stdout)["problems"]] == [2, 3]
    blocklist.write_text("block: []\n")
    done = run(tmp_path / "nobody", "check", str(blocklist))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert json.loads(run(tmp_path / "nobody", "--json", "check", str(blocklist)).stdout)["ok"] is True


def test_problems_have_the_place_of_the_contract() -> None:
    assert str(Problem("standard input", 3, 7, "what", "error")) == "standard input:3:7: error: what"
    with pytest.raises(WrongLine):
        batch.entries(["10.0"], "block", _Bytes(b""))


# ---- a current folder that is gone ----

_GONE = ("sh", "-c", 'mkdir gone && cd gone && rmdir ../gone && exec "$@"', "sh")
_WHY = "the current folder has been removed; change to another one, or write the path from / on"
_XDROPD = (sys.executable, "-m", "xdropd.commands.xdropd")


@pytest.mark.parametrize(
    "command",
    [
        (*XDROPCTL, "check", "x"),
        (*XDROPCTL, "reload", "--accept", "x"),
        (*XDROPCTL, "list", "--source", "./x"),
        (*_XDROPD, "--check", "--blocklist", "x"),
        (*_XDROPD, "--check", "--settings", "x"),
        (*_XDROPD, "--blocklist", "x"),
        (*_XDROPD, "--settings", "x"),
    ],
    ids=lambda command: " ".join(command[2:]),
)
def test_a_relative_path_in_a_folder_that_is_gone(tmp_path: Path, command: tuple[str, ...]) -> None:
    done = subprocess.run(
        [*_GONE, *command], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == exits.BAD_INPUT
    assert f"x: error: {_WHY}\n" in done.stderr
    assert done.stdout == ""


def test_an_absolute_path_in_a_folder_that_is_gone(tmp_path: Path) -> None:
    (tmp_path / "blocklist.yaml").write_text("block: []\n")
    command = [*_GONE, *_XDROPD, "--check", "--blocklist", str(tmp_path / "blocklist.yaml")]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
