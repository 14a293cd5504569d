"""Completion as the shells do it: bash, zsh and fish, with a daemon behind `unblock`."""

import os
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from spoken import ROW, XDROPCTL, Spoken, environment
from terminal import Terminal

from waiting import wait_until
from xdropd.commands import arguments, xdropd_crowdsec, xdropd_fetch
from xdropd.host.control import Reply

COMPLETIONS = Path(__file__).parents[2] / "completions"
BLOCKED = {"xdropctl": ["192.0.2.1", "192.0.2.64/26", "2001:db8::1", "2001:db8::2"], "f2b": ["203.0.113.9"]}

Complete = Callable[[str], list[str]]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Spoken]:
    def listed(request: Mapping[str, Any]) -> Iterator[Reply | None]:
        for entry in BLOCKED.get(request["source"], []):
            yield {"row": {**ROW, "entry": entry, "source": request["source"], "line": None}}
        yield {"result": {}}

    with Spoken(tmp_path / "s") as spoken:
        spoken.answers["list"] = listed
        yield spoken


@pytest.fixture
def shells(tmp_path: Path) -> dict[str, str]:
    """The environment of a shell that finds xdropctl on its PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("xdropctl", "xdropd-crowdsec", "xdropd-fetch"):  # the latter two are not asked anything
        program = folder / name
        program.write_text(f'#!/bin/sh\nexec {shlex.join(XDROPCTL)} "$@"\n')
        program.chmod(0o755)
    return environment(PATH=f"{folder}:{os.environ['PATH']}", HOME=str(tmp_path), LC_ALL="C.UTF-8")


def _bash(line: str, shells: dict[str, str]) -> list[str]:
    words = shlex.split(line) + ([""] if line.endswith(" ") else [])
    program = words[0]
    script = (
        'compopt() { COMPREPLY=($(compgen -f -- "${COMP_WORDS[-1]}")); };'  # as bash does for -o default
        'source "$1"; COMP_LINE=$2 COMP_POINT=${#2}; shift 2; COMP_WORDS=("$@") COMP_CWORD=$(($# - 1));'
        f'_{program.replace("-", "_")} {program} "${{!#}}" "${{COMP_WORDS[-2]}}"; printf "%s\\n" "${{COMPREPLY[@]}}"'
    )
    command = ["bash", "--norc", "-c", script, "bash", COMPLETIONS / f"{program}.bash", line, *words]
    done = subprocess.run(command, env=shells, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    found = done.stdout.split()
    typed, colon, _ = words[-1].rpartition(":")
    return sorted(f"{typed}{colon}{each}" for each in found)  # bash itself puts what is before the colon in front


def _fish(line: str, shells: dict[str, str]) -> list[str]:
    script = f"source {COMPLETIONS / shlex.split(line)[0]}.fish; complete -C {shlex.quote(line)}"
    done = subprocess.run(["fish", "--no-config", "-c", script], env=shells, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return sorted(each.partition("\t")[0] for each in done.stdout.splitlines())


def _zsh(line: str, shells: dict[str, str]) -> list[str]:
    """By its own hand: a shell on a terminal, and the key that asks for completion."""
    set_up = (
        f"PS1='REA''DY> '; fpath=({COMPLETIONS} $fpath); autoload -Uz compinit; compinit -u -D; "
        "unsetopt automenu; setopt noalwayslastprompt; LISTMAX=1000; bindkey '^I' list-choices; "
        "zstyle ':completion:*' verbose no"
    )
    with Terminal(["zsh", "-f", "-i"], 200, 50, {**shells, "TERM": "dumb"}) as terminal:
        terminal.type(f"{set_up}\n")
        wait_until(lambda: "READY> " in terminal.output, within_s=20)
        before = len(terminal.output)
        terminal.type(f"{line}\t")
        wait_until(lambda: f"READY> {line}" in terminal.output[before:], within_s=20)
        shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.output[before:])
    listed = shown.partition("\n")[2].rpartition("READY> ")[0]
    return sorted(listed.split())


SHELLS = {"bash": _bash, "fish": _fish, "zsh": _zsh}


@pytest.fixture(params=SHELLS)
def complete(request: pytest.FixtureRequest, shells: dict[str, str]) -> Complete:
    return lambda line: SHELLS[request.param](line, shells)


def test_verbs(complete: Complete) -> None:
    assert set(complete("xdropctl ")) >= set(arguments.VERBS)
    assert set(complete("xdropctl l")) == {"list", "lookup"}


@pytest.mark.parametrize("verb", arguments.VERBS)
def test_options_of_a_verb(complete: Complete, verb: str) -> None:
    wanted = {f"--{name}" for name in (*arguments.VERBS[verb].options, "socket", "json", "help")}
    found = {each for each in complete(f"xdropctl {verb} --") if each.startswith("--")}
    assert found == wanted


def test_entries_in_force_for_unblock(complete: Complete, daemon: Spoken) -> None:
    assert complete(f"xdropctl --socket {daemon.path} unblock ") == sorted(BLOCKED["xdropctl"])
    assert complete(f"xdropctl --socket {daemon.path} unblock 2001:db8::") == ["2001:db8::1", "2001:db8::2"]


def test_entries_of_the_source_that_is_named(complete: Complete, daemon: Spoken) -> None:
    assert "203.0.113.9" in " ".join(complete(f"xdropctl --socket {daemon.path} unblock --source f2b "))
    assert daemon.requests[-1]["source"] == "f2b"


def test_what_top_sorts_by(complete: Complete) -> None:
    assert complete("xdropctl top --by ") == ["bytes", "packets", "rate"]


@pytest.mark.parametrize(("program", "module"), [("xdropd-crowdsec", xdropd_crowdsec), ("xdropd-fetch", xdropd_fetch)])
def test_options_of_the_companions(complete: Complete, program: str, module: ModuleType) -> None:
    options = {option for action in module.parser()._actions for option in action.option_strings} - {"-h"}
    assert {each for each in complete(f"{program} --") if each.startswith("--")} == options


@pytest.mark.parametrize("line", ["xdropd-crowdsec --config ", "xdropd-fetch --wanted "])
def test_what_is_a_file(complete: Complete, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    (tmp_path / "some.file").touch()
    monkeypatch.chdir(tmp_path)
    found = complete(line)
    assert "some.file" in found
    assert not any(each.startswith("--") for each in found)


def test_a_folder_of_what_has_come(complete: Complete, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fetched").mkdir()
    monkeypatch.chdir(tmp_path)
    assert any(each.startswith("fetched") for each in complete("xdropd-fetch --fetched "))


def test_each_is_installed() -> None:
    installed = (COMPLETIONS.parent / "debian" / "xdropd.install").read_text(encoding="utf-8")
    assert [file.name for file in COMPLETIONS.iterdir() if f"completions/{file.name} " not in installed] == []
