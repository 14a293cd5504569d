"""xdropd: the daemon's command line. Builds the pieces and maps what goes wrong to exit codes, see xdropd(8)."""

from __future__ import annotations

import argparse
import faulthandler
import gc
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import xdropd
from xdropd.commands import exits, paths
from xdropd.errors import Problem, RefusedFile, XdropdError, sentence_of
from xdropd.host.fetched import FETCHED_FOLDER
from xdropd.text import names

if TYPE_CHECKING:
    from xdropd.sources.catalogue import Reading

SETTINGS = "/etc/xdrop/xdropd.yaml"
BLOCKLIST = "/etc/xdrop/blocklist.yaml"
RUNTIME = "/run/xdropd"

# A request takes some twenty calls that give way to the thread that reads lists, which then holds the interpreter for
# this long: Python's own 5 ms would make a tenth of a second of it.
_SWITCH_SECONDS = 0.0005
_STANDARD_ERROR = 2
_LAST_WORDS_SECONDS = 1.0  # for somebody to read them
# Lists are millions of objects without cycles, and a look at all of them stops everything for a quarter of a second.
_COLLECTED_AFTER = (700, 10, 1000)


def parser() -> argparse.ArgumentParser:
    """The command line of xdropd(8)."""
    line = argparse.ArgumentParser(
        prog="xdropd", description="Drop every packet of a listed source in XDP, before the network stack sees it."
    )
    line.add_argument("--settings", metavar="FILE", default=SETTINGS, help="settings file (default: %(default)s)")
    line.add_argument("--blocklist", metavar="FILE", default=BLOCKLIST, help="blocklist (default: %(default)s)")
    line.add_argument("--socket", metavar="PATH", help=f"control socket (default: {RUNTIME}/control.sock)")
    line.add_argument(
        "--state",
        metavar="FOLDER",
        help="folder for what outlives a restart (default: $STATE_DIRECTORY, and none where that is not set)",
    )
    line.add_argument(
        "--fetched",
        metavar="FOLDER",
        default=FETCHED_FOLDER,
        help="what xdropd-fetch has fetched (default: %(default)s)",
    )
    line.add_argument(
        "--interface",
        metavar="NAME",
        action="append",
        help="filter this interface (repeatable; overrides the settings)",
    )
    line.add_argument("--check", action="store_true", help="read both files, print every problem, and exit")
    line.add_argument("--version", action="version", version=f"xdropd {xdropd.__version__}")
    return line


def main(arguments: list[str] | None = None) -> int:
    """Run; the exit status of xdropd(8)."""
    _take_standard_streams()
    chosen = parser().parse_args(arguments)
    try:
        if chosen.check:
            return check(chosen.settings, chosen.blocklist, chosen.socket or f"{RUNTIME}/control.sock", chosen.fetched)
        return serve(chosen)
    except XdropdError as problem:
        print(f"xdropd: error: {problem}", file=sys.stderr)  # noqa: T201  # there may be no log yet
        return exits.code_for(problem)


def _take_standard_streams() -> None:
    """Where one is closed (`2>&-`), the next file that is opened would be taken for it and written to."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STANDARD_ERROR:
        pass
    os.close(descriptor)


def check(settings: str, blocklist: str, socket: str, fetched: str = FETCHED_FOLDER) -> int:
    """Print every problem of both files and of the lists they include. No privileges, no bcc."""
    problems, warnings = problems_of(settings, blocklist, socket, fetched)
    for problem in (*problems, *warnings):
        print(problem, file=sys.stderr)  # noqa: T201  # this is what was asked for
    return exits.BAD_INPUT if problems else exits.DONE


def problems_of(
    settings: str, blocklist: str, socket: str, fetched: str = FETCHED_FOLDER
) -> tuple[list[Problem], list[Problem]]:
    """Why the two files and the lists they include cannot be taken as they are, and warnings about them.

    Where a daemon answers at the socket, it knows what is in force already, and what its guard protects.
    """
    from xdropd.host.fetched import read_state
    from xdropd.host.files import read_file
    from xdropd.sources.catalogue import Catalogue
    from xdropd.text import settings as settings_text

    problems: list[Problem] = []
    warnings: list[Problem] = []
    passes_replies = False
    try:
        paths.absolute(settings)
        said = settings_text.read(read_file(Path(settings))[0], names.shown(settings))
        passes_replies = said.replies == "pass"
    except FileNotFoundError:
        if settings != SETTINGS:
            problems.append(Problem(names.shown(settings), 0, 0, "there is no such file"))
    except OSError as failure:
        problems.append(Problem(names.shown(settings), 0, 0, f"cannot be read: {failure.strerror}"))
    except RefusedFile as refusal:
        problems += refusal.problems
    try:
        paths.absolute(blocklist)
        reading = Catalogue(blocklist, None, Path(paths.absolute(fetched))).read()
        problems += reading.troubles
        warnings += (*reading.warnings, *_severed(reading, socket, passes_replies))
        urls = reading.urls()
        for url in reading.awaited:
            state = read_state(Path(fetched), url)
            why = f"has not come yet: {state.failure}" if state and state.failure else "has not come yet"
            include = urls[url]
            warnings.append(Problem(names.shown(blocklist), include.line, include.column, f"{url} {why}", "warning"))
    except RefusedFile as refusal:
        problems += refusal.problems
    return problems, warnings


def _severed(reading: Reading, socket: str, passes_replies: bool) -> list[Problem]:
    """On connections of this host that the lists would cut off."""
    from xdropd.daemon.severed import severed

    numbers: dict[str, int] = {}
    state = reading.desired().state(time.time(), lambda name: numbers.setdefault(name, len(numbers) + 1), None)
    found = severed(
        None, state, is_new=lambda address: not _is_settled(socket, str(address)), passes_replies=passes_replies
    )
    return [Problem(each.source, each.line, 1, f"lists {each}", "warning") for each in found]


def _is_settled(socket: str, address: str) -> bool:
    """Whether the daemon, if one answers, blocks an address already or keeps it out of every list."""
    from xdropd.commands import client

    try:
        told = client.ask(socket, {"verb": "lookup", "address": address}, wait_s=0.0)
    except XdropdError:
        return False
    return bool(told["blocked"] or (told["kept_by"] and told["kept_by"]["kind"] == "guard"))


def _state_folder(chosen: str | None) -> Path | None:
    """The state folder that the command line or the unit names: never the service's own by default.

    For whoever tries something out beside the service would overwrite what that one starts from.
    """
    named = chosen or os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return Path(named) if named else None


def serve(chosen: argparse.Namespace) -> int:
    """Be the daemon until told to stop."""
    sys.modules.setdefault("_hashlib", None)  # type: ignore[arg-type]  # OpenSSL, 3 MB: Python's own hashes do
    from xdropd.control.requests import Requests
    from xdropd.daemon.loop import Loop
    from xdropd.daemon.parts import Parts, Places
    from xdropd.daemon.restart_backoff import RestartBackoff
    from xdropd.host import libc
    from xdropd.host.control import ControlServer
    from xdropd.host.log import Log
    from xdropd.host.systemd import Systemd
    from xdropd.kernel import libbpf

    faulthandler.enable(_STANDARD_ERROR)
    for given in (chosen.settings, chosen.blocklist):
        paths.absolute(given)  # what begins at a folder that is gone leads nowhere
    sys.setswitchinterval(_SWITCH_SECONDS)
    gc.set_threshold(*_COLLECTED_AFTER)
    libc.keep_columns_apart()
    log = Log()
    runtime = Path(os.environ.get("RUNTIME_DIRECTORY", RUNTIME))
    socket = Path(chosen.socket) if chosen.socket else runtime / "control.sock"
    places = Places(
        chosen.settings,
        chosen.blocklist,
        _state_folder(chosen.state),
        tuple(map(names.given, chosen.interface)) if chosen.interface else None,
        socket.parent / "fetch.json",
        Path(paths.absolute(chosen.fetched)),
    )
    systemd = Systemd()
    backoff = RestartBackoff(systemd, runtime)
    parts: Parts | None = None
    try:
        libbpf.probe()  # before anything else: without powers, the store would look as if nothing in it fitted
        parts = Parts(places, systemd, log)
        Loop(parts).run(ControlServer(socket, Requests(parts), log.bug))
    except XdropdError as problem:
        log.error("exit", str(problem))
        why, status = str(problem), exits.code_for(problem)
    except OSError as problem:
        why = sentence_of(problem)
        log.error("exit", why)
        status = exits.NOT_PERMITTED if isinstance(problem, PermissionError) else exits.UNAVAILABLE
    except Exception as bug:  # noqa: BLE001  # whatever it is, the log tells all of it and the exit status says "bug"
        log.bug(bug)
        why, status = f"a bug, {type(bug).__name__}", exits.BUG  # what it says may differ each time
    else:
        why, status = "", exits.DONE
    ready_for_s = parts.progress.ready_for_s if parts is not None else 0.0
    if status not in (exits.DONE, exits.BAD_INPUT, exits.TOO_OLD):  # with these it is not started again
        backoff.failed(why, ready_for_s)
    elif ready_for_s:
        backoff.succeeded()
    systemd.flush(_LAST_WORDS_SECONDS)
    log.flush(_LAST_WORDS_SECONDS)
    return status


if __name__ == "__main__":
    sys.exit(main())
