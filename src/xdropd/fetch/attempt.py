"""One attempt at one URL, in a process of its own: download, unpack, judge.

So whatever a server sends, it can cost no more than this process: its memory, the files that it writes and its time are
bounded, and it ends with its parent. What it makes is left in a folder of its own, and its parent moves it from there.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from xdropd.errors import NotFetched, sentence_of
from xdropd.fetch.download import LIMIT_BYTES, SILENCE_S, Answer, Before, download
from xdropd.fetch.headers import read_headers
from xdropd.fetch.turns import Turns
from xdropd.fetch.unpacking import list_in
from xdropd.host import libc
from xdropd.host.fetched import Wanted

_MEMORY_BYTES = 128 << 20  # beyond what it has at the start
_fork = multiprocessing.get_context("fork")  # what is imported is there at once


class Limits(NamedTuple):
    """What an attempt may take."""

    size_bytes: int = LIMIT_BYTES
    silence_s: float = SILENCE_S
    whole_s: float = 600.0


USUAL = Limits()


class Outcome(NamedTuple):
    """How it went."""

    answer: Answer | None
    """None: it failed."""
    content: Path | None = None
    """A file in the attempt's folder, where another content came."""
    failure: str = ""
    was_answered: bool = False
    was_sent_away: bool = False
    retry_after_s: int = 0


class Attempt:
    """It runs from the beginning. `folder` is its own, on the file system of what has been fetched."""

    def __init__(self, wanted: Wanted, before: Before, folder: Path, limits: Limits, turns: Turns) -> None:
        self.wanted = wanted
        self._limits = limits
        self._folder = folder
        self.receiver, sender = _fork.Pipe(duplex=False)
        arguments = (os.getpid(), wanted, before, folder, limits, turns, sender)
        self._process = _fork.Process(target=_run, args=arguments, daemon=True)
        self._process.start()
        sender.close()
        self.ends_at_s = time.monotonic() + limits.whole_s

    def outcome(self) -> Outcome:
        """To be asked for once `receiver` can be read, or at `ends_at_s`."""
        try:
            if not self.receiver.poll():
                return Outcome(None, failure=f"it took longer than {self._limits.whole_s:g} seconds", was_answered=True)
            found: Outcome = self.receiver.recv()
        except EOFError:  # killed, by the kernel for want of memory more often than not
            self._process.join()
            status = self._process.exitcode
            return Outcome(None, failure=f"the process that fetched it ended with status {status}", was_answered=True)
        return found

    def close(self) -> None:
        """End it, wherever it is, and remove what it left."""
        self._process.kill()
        self._process.join()
        self._process.close()
        self.receiver.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _run(
    parent: int, wanted: Wanted, before: Before, folder: Path, limits: Limits, turns: Turns, sender: Connection
) -> None:
    libc.die_with_parent(parent)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to the parent as well
    _bound(limits)
    try:
        found = _attempted(wanted, before, folder, limits, turns)
    except NotFetched as failure:
        how = (failure.was_answered, failure.was_sent_away, failure.retry_after_s)
        found = Outcome(None, None, failure.message, *how)
    except MemoryError:
        found = Outcome(None, failure="it takes more memory to unpack than a list should", was_answered=True)
    except OSError as problem:
        found = Outcome(None, failure=sentence_of(problem))
    except Exception as problem:  # noqa: BLE001  # a server may send what nobody has thought of, which is its failure
        what = f"it cannot be made sense of: {type(problem).__name__}: {problem}"
        found = Outcome(None, failure=what, was_answered=True)
    sender.send(found)


def _bound(limits: Limits) -> None:
    pages = int(Path("/proc/self/statm").read_bytes().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + _MEMORY_BYTES,) * 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limits.size_bytes + 1,) * 2)


def _attempted(wanted: Wanted, before: Before, folder: Path, limits: Limits, turns: Turns) -> Outcome:
    headers = read_headers(wanted.headers) if wanted.headers else {}
    packed = folder / "sent"
    with packed.open("wb") as into:
        answer = download(
            wanted.url,
            into,
            headers=headers,
            turns=turns,
            before=before,
            limit_bytes=limits.size_bytes,
            silence_s=limits.silence_s,
        )
    if not answer.is_changed:
        return Outcome(answer)
    if wanted.sha256 and wanted.sha256.lower() not in (answer.sha256, answer.sha256_coded):
        raise NotFetched(f"its SHA-256 is {answer.sha256} and not what 'sha256' says")
    return Outcome(answer, list_in(packed, limits.size_bytes))
