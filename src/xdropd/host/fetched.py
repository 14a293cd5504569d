"""What is to be fetched, and what has come: two small files in JSON that the daemon and xdropd-fetch share.

The daemon writes the wish, `fetch.json`, in its runtime folder; xdropd-fetch writes what has come into a folder of its
own, two files a URL: NAME.list, the content that was fetched well last, unpacked, and NAME.json, how the URL fares.
Each is replaced whole (rename(2)), so nobody reads half of one. Neither side trusts the other one's file: what does
not fit is as good as absent. Knows no network and no list.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from xdropd.host.files import read_file

WANTED_FILE = "/run/xdropd/fetch.json"
FETCHED_FOLDER = "/var/lib/xdropd-fetch"

_VERSION = 1
_SCHEMES = ("http://", "https://")
_WISH_BYTES_AT_MOST = 16 << 20
_STATE_BYTES_AT_MOST = 1 << 16
_BESIDE = re.compile(r"\.[0-9a-f]{32}\.json\.new")
_PUBLIC = 0o644  # the other side is another user
_LATEST_S = 253_402_300_799  # with the year 9999, RFC 3339 ends


class Wanted(NamedTuple):
    """One URL that is to be fetched."""

    url: str
    every_s: int
    headers: str | None = None
    """The file with the lines of headers that go with the request."""
    sha256: str | None = None
    asked: str | None = None
    """When somebody asked for it last, RFC 3339; a State repeats it once that has been done."""


@dataclass(slots=True)
class State:
    """How a URL fares. Times are seconds since the epoch, and RFC 3339 in the file."""

    url: str
    fetched_at: float | None = None
    """When it was fetched well last, "not modified" included."""
    changed_at: float | None = None
    """When it brought another content last."""
    tried_at: float | None = None
    next_at: float | None = None
    """When it is due."""
    interval_s: int = 0
    """Its interval, or the longer one that the server asked for."""
    failures: int = 0
    """In a row."""
    failures_total: int = 0
    failure: str | None = None
    """Why it could not be fetched the last time."""
    etag: str | None = None
    last_modified: str | None = None
    sha256: str | None = None
    """Of what came last, as it was sent; none: nothing is said of what lies there."""
    sha256_coded: str | None = None
    """Of the same with its Content-Encoding."""
    setting: str = ""
    """What was wanted of it the last time; another setting makes it due."""
    asked: str | None = None
    """The last wish of somebody's that has been carried out."""
    unwanted_since: float | None = None

    def has_sum(self, sha256: str) -> bool:
        """Whether what came last has this SHA-256, with its Content-Encoding or without."""
        return sha256.lower() in (self.sha256, self.sha256_coded)


_MOMENTS = {"fetched_at", "changed_at", "tried_at", "next_at", "unwanted_since"}
_KINDS: dict[str, tuple[type, ...]] = {
    "interval_s": (int,),
    "failures": (int,),
    "failures_total": (int,),
    "setting": (str,),
    "url": (str,),
}


def name_of(url: str) -> str:
    """The name of a URL's files, without what tells them apart."""
    import hashlib  # here: the daemon decides first whose it is

    return hashlib.sha256(url.encode(errors="surrogateescape")).hexdigest()[:32]


def list_path(folder: Path, url: str) -> Path:
    """Where the content of a URL is, once it has come."""
    return folder / f"{name_of(url)}.list"


def state_path(folder: Path, url: str) -> Path:
    """Where it is told how a URL fares."""
    return folder / f"{name_of(url)}.json"


def moment(seconds: float | None) -> str | None:
    """RFC 3339 in UTC."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def read_wanted(path: Path) -> tuple[Wanted, ...] | None:
    """What is wanted; None if nobody says so. Raises OSError, and ValueError if the file is not what it should be."""
    try:
        data, _ = read_file(path, _WISH_BYTES_AT_MOST)
    except FileNotFoundError:
        return None
    try:
        told = json.loads(data)
    except RecursionError as problem:
        raise ValueError("it is nested too deeply") from problem
    if not isinstance(told, dict) or told.get("version") != _VERSION or not isinstance(told.get("wanted"), list):
        raise ValueError(f"it is not of version {_VERSION}")
    return tuple(map(_wanted, told["wanted"]))


def _wanted(told: object) -> Wanted:
    if not isinstance(told, dict):
        raise ValueError("something in it is no object")  # noqa: TRY004  # one kind of error for a file that does not fit
    url, every_s, *rest = (told.get(name) for name in Wanted._fields)
    if not isinstance(url, str) or not url.startswith(_SCHEMES) or type(every_s) is not int or every_s <= 0:
        raise ValueError("something in it has no URL, or no interval")
    if not all(each is None or isinstance(each, str) for each in rest):
        raise ValueError(f"what it says of {url} makes no sense")
    return Wanted(url, every_s, *rest)


def write_wanted(path: Path, wanted: tuple[Wanted, ...]) -> None:
    """Say what is wanted; nothing: no file. Raises OSError."""
    if wanted:
        replace(path, _as_json({"version": _VERSION, "wanted": [each._asdict() for each in wanted]}))
    else:
        path.unlink(missing_ok=True)


def read_state(folder: Path, url: str) -> State | None:
    """How a URL fares; None if that is not known."""
    return _state_in(state_path(folder, url), url)


def left_behind(folder: Path) -> Iterator[Path]:
    """What a process that was killed while it wrote here has left, and nothing of anybody else's."""
    return (path for path in folder.glob(".*.new") if _BESIDE.fullmatch(path.name))


def is_at_work(folder: Path) -> bool:
    """Whether a fetcher holds the folder (flock(2)). Raises OSError where there is none."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def read_states(folder: Path) -> list[State]:
    """The same of every URL that there is anything of."""
    found = (_state_in(path, None) for path in sorted(folder.glob("*.json")))
    return [state for state in found if state is not None]


def _state_in(path: Path, url: str | None) -> State | None:
    try:
        told = json.loads(read_file(path, _STATE_BYTES_AT_MOST, follows_links=False)[0])
        if not isinstance(told, dict) or path.name != f"{name_of(str(told.get('url')))}.json":
            return None
        state = State(**{each.name: _value(each.name, told[each.name]) for each in fields(State) if each.name in told})
    except (OSError, ValueError, RecursionError):
        return None
    return state if url in (None, state.url) else None


def _value(name: str, told: object) -> Any:  # noqa: ANN401  # as JSON has it
    """What is told under a name, if it is of the right kind. Raises ValueError."""
    if name in _KINDS:
        if type(told) not in _KINDS[name] or (type(told) is int and not 0 <= told < 1 << 53):
            raise ValueError(name)
        return told
    if told is None:
        return None
    if not isinstance(told, str):
        raise ValueError(name)  # noqa: TRY004  # one kind of error for a file that does not fit
    if name not in _MOMENTS:
        return told
    when = datetime.fromisoformat(told)
    if when.tzinfo is None or not 0 <= when.timestamp() <= _LATEST_S:  # in UTC, which is how it is told again
        raise ValueError(name)
    return when.timestamp()


def write_state(folder: Path, state: State) -> None:
    """Tell how a URL fares. Raises OSError."""
    told = {name: moment(value) if name in _MOMENTS else value for name, value in asdict(state).items()}
    replace(state_path(folder, state.url), _as_json(told))


def _as_json(told: dict[str, Any]) -> bytes:
    return (json.dumps(told, indent=1) + "\n").encode()


def replace(path: Path, data: bytes) -> None:
    """Replace a file that everybody may read, or leave the old one as it was. Raises OSError."""
    beside = path.with_name(f".{path.name}.new")
    try:
        beside.unlink(missing_ok=True)
        with beside.open("xb") as file:  # whatever somebody else has put there is not written through
            file.write(data)
        publish(beside, path)
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def publish(written: Path, path: Path) -> None:
    """Have a written file take the place of another one, on disk and readable for everybody. Raises OSError."""
    descriptor = os.open(written, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fchmod(descriptor, _PUBLIC)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    written.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
