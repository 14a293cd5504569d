"""xdropd-crowdsec: has the decisions of a CrowdSec server in force, see xdropd-crowdsec(8)."""

from __future__ import annotations

import argparse
import gc
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import xdropd
from xdropd.commands import client, exits
from xdropd.commands.arguments import SOCKET
from xdropd.errors import RefusedFile, XdropdError, sentence_of
from xdropd.fleet.following import Following
from xdropd.fleet.identity import read_configuration
from xdropd.fleet.localapi import LocalApi
from xdropd.fleet.reporting import Reporting
from xdropd.fleet.reports import Reports
from xdropd.fleet.usage import Usage
from xdropd.host.log import Log
from xdropd.host.statefolder import StateFolder
from xdropd.host.systemd import Systemd

CONFIGURATION = "/etc/xdrop/crowdsec.yaml"

_PROGRAM = "xdropd-crowdsec"
# Decisions are objects without cycles, and a look at all of them takes longer than to read them.
_COLLECTED_AFTER = (50_000, 50, 1000)
_LAST_WORDS_SECONDS = 1.0  # for somebody to read them


def parser() -> argparse.ArgumentParser:
    """The command line of xdropd-crowdsec(8)."""
    line = argparse.ArgumentParser(
        prog=_PROGRAM, description="Have xdropd block what a CrowdSec server decides, and tell it what is blocked here."
    )
    line.add_argument("--config", metavar="FILE", default=CONFIGURATION, help="configuration (default: %(default)s)")
    line.add_argument("--socket", metavar="PATH", default=SOCKET, help="of xdropd (default: %(default)s)")
    line.add_argument("--check", action="store_true", help="read the configuration, print every problem, and exit")
    line.add_argument("--version", action="version", version=f"{_PROGRAM} {xdropd.__version__}")
    return line


def main(arguments: list[str] | None = None) -> int:
    """Run; the exit status of xdropd-crowdsec(8)."""
    chosen = parser().parse_args(arguments)
    if chosen.check:
        return _check(chosen.config)
    gc.set_threshold(*_COLLECTED_AFTER)
    log = Log(_PROGRAM)
    systemd = Systemd()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    try:
        _follow(chosen, log, systemd)
    except XdropdError as problem:
        log.error("exit", str(problem))
        return exits.code_for(problem)
    except OSError as problem:
        log.error("exit", sentence_of(problem))
        return exits.NOT_PERMITTED if isinstance(problem, PermissionError) else exits.UNAVAILABLE
    except Exception as bug:  # noqa: BLE001  # whatever it is, the log tells all of it and the exit status says "bug"
        log.bug(bug)
        return exits.BUG
    finally:
        systemd.flush(_LAST_WORDS_SECONDS)
        log.flush(_LAST_WORDS_SECONDS)


def _check(path: str) -> int:
    try:
        read_configuration(path, os.environ)
    except RefusedFile as refusal:
        for problem in refusal.problems:
            print(problem, file=sys.stderr)  # noqa: T201  # this is what was asked for
        return exits.BAD_INPUT
    return exits.DONE


def _follow(chosen: argparse.Namespace, log: Log, systemd: Systemd) -> NoReturn:
    """Turn after turn. Blocks stay when this process ends: they are xdropd's, with their ends."""
    hangup = _Hangup()
    signal.signal(signal.SIGHUP, hangup.note)
    named = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    begin = partial(_begin, chosen.config, _Daemon(chosen.socket), StateFolder(Path(named)) if named else None, log)
    work = begin()
    is_ready = False
    while True:
        if hangup.is_noted:
            hangup.is_noted = False
            systemd.reloading()
            is_ready = False
            work = _begin_anew(begin, work, log)
        wait_s = work.turn()
        if is_ready:
            systemd.status(work.following.status)
        else:
            systemd.ready(work.following.status)
            is_ready = True
        hangup.wait(wait_s)


class _Work(NamedTuple):
    """What a configuration wants done."""

    following: Following
    usage: Usage | None
    reporting: Reporting | None

    def turn(self) -> float:
        """Take one; seconds until the next one is due."""
        wait_s = self.following.turn()
        if self.reporting:
            self.reporting.turn()
        if self.usage and self.following.is_answered:
            self.usage.turn(self.following.bans)
        return wait_s


def _begin(path: str, daemon: _Daemon, folder: StateFolder | None, log: Log) -> _Work:
    """Raises XdropdError."""
    configuration, identity, machine = read_configuration(path, os.environ)
    if configuration.insecure_skip_verify and configuration.api_url.startswith("https:"):
        log.warning("server", "insecure_skip_verify: whoever answers at api_url decides what is blocked here")
    api = LocalApi(configuration, identity)
    following = Following(configuration, api, daemon, log)
    usage = Usage(configuration, api, daemon, folder, log) if configuration.usage_metrics else None
    if machine is None:
        return _Work(following, usage, None)
    reports = Reports(configuration.report, configuration.source, machine.login)
    if folder is None:
        log.warning("report", "there is no state folder, so reports do not outlive this process")
    return _Work(following, usage, Reporting(reports, machine, api, daemon, folder, log))


def _begin_anew(begin: Callable[[], _Work], work: _Work, log: Log) -> _Work:
    """With the configuration as it is now; with the one before where that has problems."""
    try:
        begun = begin()
    except XdropdError as problem:
        log.error("configuration", f"{problem}\nthe configuration stays as it was")
        work.following.again()
        return work
    if work.reporting:
        work.reporting.close()
    log.notice("configuration", "the configuration is read again")
    return begun


class _Daemon:
    """xdropd, as those want it who have work to do."""

    def __init__(self, path: str) -> None:
        self._path = path

    def ask(self, request: Mapping[str, object], follow: Iterable[bytes] | None = None) -> dict[str, Any]:
        return client.ask(self._path, request, follow=follow)

    def rows(self, request: Mapping[str, object]) -> Iterator[dict[str, Any]]:
        return client.rows(self._path, request)

    def metrics(self) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        return client.whole(self._path, {"verb": "metrics"})


class _Hangup:
    """SIGHUP, which ends a wait."""

    def __init__(self) -> None:
        self.is_noted = False

    def note(self, _number: int, _frame: object) -> None:
        self.is_noted = True

    def wait(self, seconds: float) -> None:
        """Until it comes, at most so long. One that comes just before costs a part of the wait, and no more."""
        ends_s = time.monotonic() + seconds
        while not self.is_noted and (left_s := ends_s - time.monotonic()) > 0:
            time.sleep(min(left_s, 1.0))


def _stop(_number: int, _frame: object) -> NoReturn:
    sys.exit(exits.DONE)


if __name__ == "__main__":
    sys.exit(main())
