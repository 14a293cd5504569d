"""xdropd-fetch: fetches the lists that the blocklist names by URL, see xdropd-fetch(8)."""

import argparse
import os
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

import xdropd
from xdropd.commands import exits
from xdropd.errors import sentence_of
from xdropd.fetch.fetcher import Fetcher
from xdropd.host.fetched import FETCHED_FOLDER, WANTED_FILE, Wanted, read_wanted
from xdropd.host.files import signature_of
from xdropd.host.log import Log

_EVERY_S = 86_400  # of a URL that the daemon does not ask for
_LOOK_SECONDS = 1.0
_ROUND_SECONDS = 60.0
_LAST_WORDS_SECONDS = 1.0  # for somebody to read them


def parser() -> argparse.ArgumentParser:
    """The command line of xdropd-fetch(8)."""
    line = argparse.ArgumentParser(
        prog="xdropd-fetch", description="Fetch the lists that the blocklist of xdropd names by URL."
    )
    line.add_argument(
        "--wanted", metavar="FILE", default=WANTED_FILE, help="what the daemon wants fetched (default: %(default)s)"
    )
    line.add_argument(
        "--fetched", metavar="FOLDER", default=FETCHED_FOLDER, help="what has come (default: %(default)s)"
    )
    line.add_argument(
        "--once",
        metavar="URL",
        nargs="*",
        type=_url,
        help="fetch what is due, or these, due or not, and exit: 0, or 69 if one failed",
    )
    line.add_argument("--version", action="version", version=f"xdropd-fetch {xdropd.__version__}")
    return line


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
    except ValueError as problem:
        raise argparse.ArgumentTypeError(f"{text!r} is no URL: {problem}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise argparse.ArgumentTypeError(f"{text!r} is no URL of http or https")
    return text


def main(arguments: list[str] | None = None) -> int:
    """Run; the exit status of xdropd-fetch(8)."""
    chosen = parser().parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    log = Log("xdropd-fetch")
    fetcher = Fetcher(Path(chosen.fetched), log)
    wanted = Path(chosen.wanted)
    try:
        if chosen.once is None:
            _follow(fetcher, wanted, log)
        return _once(fetcher, wanted, chosen.once)
    except OSError as problem:
        log.error("exit", sentence_of(problem))
        return exits.NOT_PERMITTED if isinstance(problem, PermissionError) else exits.UNAVAILABLE
    except ValueError as problem:
        log.error("exit", f"{wanted}: {problem}")
        return exits.BAD_INPUT
    except Exception as bug:  # noqa: BLE001  # whatever it is, the log tells all of it and the exit status says "bug"
        log.bug(bug)
        return exits.BUG
    finally:
        log.flush(_LAST_WORDS_SECONDS)


def _stop(_number: int, _frame: object) -> NoReturn:
    sys.exit(exits.DONE)


def _once(fetcher: Fetcher, wanted: Path, urls: list[str]) -> int:
    with fetcher.alone():
        if urls:
            known = {each.url: each for each in read_wanted(wanted) or ()}
            results = fetcher.fetch(known.get(url, Wanted(url, _EVERY_S)) for url in urls)
            for url, failure in results.items():
                print(f"{url}: {failure or 'fetched'}")  # noqa: T201  # whoever asked by hand
        else:
            results = _round(fetcher, wanted)
    return exits.UNAVAILABLE if any(results.values()) else exits.DONE


def _round(fetcher: Fetcher, wanted: Path) -> dict[str, str]:
    """Fetch what is due, and what is asked for meanwhile: no path unit looks while its service runs."""
    results: dict[str, str] = {}
    done: set[Wanted] = set()
    while (all_wanted := read_wanted(wanted)) is not None:
        due = [each for each in fetcher.due(all_wanted) if each not in done]  # whatever became of it: once in a round
        if not due:
            fetcher.forget(all_wanted)
            break
        results |= fetcher.fetch(due)
        done.update(due)
    return results


def _follow(fetcher: Fetcher, wanted: Path, log: Log) -> NoReturn:
    told = ""
    while True:
        before = signature_of(os.fspath(wanted))
        trouble = ""
        try:
            with fetcher.alone():
                _round(fetcher, wanted)
        except OSError as problem:  # such as a full disk, which may have room again
            trouble = sentence_of(problem)
        except ValueError as problem:
            trouble = f"{wanted}: {problem}"
        if trouble and trouble != told:
            log.error("wanted", trouble)
        told = trouble
        next_round_s = time.monotonic() + _ROUND_SECONDS
        while time.monotonic() < next_round_s and signature_of(os.fspath(wanted)) == before:
            time.sleep(_LOOK_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
