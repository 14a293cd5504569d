"""The files: the blocklist, the list files it includes, and the last good version of each.

Reads them, only what changed, and decides which version counts. A blocklist with a problem is refused whole; a list
file that turned bad, or whose file system does not answer, keeps its last good version. What has been read is kept file
by file, so that a reading that was given up goes on where it was when it begins anew (fileworker.py).
Knows the state folder; knows neither kernel nor clock.
"""

import contextlib
import gc
import glob
import hashlib
import os
import shlex
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path
from typing import Any

from xdropd import memory
from xdropd.columns.listing import Listing
from xdropd.errors import Problem, RefusedFile
from xdropd.host.fetched import FETCHED_FOLDER, list_path, read_state, state_path
from xdropd.host.files import Signature, read_file, signature_of
from xdropd.host.fileworker import NoAnswer, touch
from xdropd.host.globs import matching
from xdropd.host.guest import Guest
from xdropd.host.statefolder import StateFolder, name_for
from xdropd.rules.desired import Desired, Written
from xdropd.sources import databases, trust
from xdropd.text import blocklist, listfiles, names
from xdropd.text.blocklist import Before, Blocklist
from xdropd.text.formats import mmdb
from xdropd.text.formats.mmdb import Facts
from xdropd.text.includes import Include
from xdropd.text.listfiles import How, ListFile
from xdropd.text.runs import Place
from xdropd.text.unchanged import Known

_GOOD_BLOCKLIST = "last-good/blocklist.yaml"
_GOOD_LISTS = "last-good/lists"

_ROOM_A_BYTE = 4  # of text: columns, and those that they are sorted from


@dataclass(frozen=True, slots=True)
class _Look:
    """What a file was when it was read: its content as a hash where the signature alone would prove nothing."""

    signature: Signature
    digest: bytes | None

    @classmethod
    def at(cls, data: bytes, signature: Signature) -> "_Look":
        return cls(signature, None if signature.is_settled else _digest(data))

    def is_current(self, path: str) -> bool:
        """Whether the file need not be read to know that it is still the same."""
        return self.signature.is_settled and signature_of(path) == self.signature

    def settled(self, path: str) -> "_Look":
        """The same, with a signature that proves something, if that can be had now."""
        if self.signature.is_settled:
            return self
        try:
            data, signature = read_file(Path(path))
        except OSError:
            return self
        return _Look.at(data, signature) if self.is_same(data, signature) else self

    def as_told(self) -> list[Any]:
        """Fit for JSON."""
        return [*astuple(self.signature), self.digest.hex() if self.digest else None]

    @classmethod
    def of(cls, told: list[Any]) -> "_Look":
        """The inverse."""
        *signature, digest = told
        return cls(Signature(*signature), None if digest is None else bytes.fromhex(digest))

    def is_same(self, data: bytes, signature: Signature) -> bool:
        """Whether a new reading found the same."""
        return signature == self.signature if self.digest is None else _digest(data) == self.digest


@dataclass(slots=True)
class _Known:
    """The version of a file that counts, and what the file itself was when it was last looked at (None: no telling)."""

    content: ListFile
    how: How
    """What the include asks of the reading."""
    data: bytes | None
    look: _Look | None
    is_saved: bool
    trouble: str = ""  # why the file as it is now does not count
    was_good: bool = True  # False: it never was, this is nothing
    is_awaited: bool = False  # a URL of which nothing has been fetched


@dataclass(frozen=True, slots=True)
class Reading:
    """What all files say now. `troubles` are reasons for being degraded; `warnings` are worth a line in the log."""

    blocklist: Blocklist
    lists: tuple[tuple[str, ListFile, Include], ...]  # absolute path as it is told, content, what includes it
    troubles: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    name: str
    """The blocklist's absolute path as it is told."""
    is_partial: bool = False
    """A glob got no answer, and what it stands for is not known from before."""
    awaited: tuple[str, ...] = ()
    """URLs of which there is no file, for they have not been fetched."""

    def urls(self) -> dict[str, Include]:
        """Each URL that is included, with the include that counts for it."""
        return {include.pattern: include for _, _, include in self.lists if include.fetch is not None}

    def desired(self) -> Desired:
        """What the files want, whatever others want beside them."""
        lists = [
            Written(path, content.listing, include.reason, action=include.action)
            for path, content, include in self.lists
        ]
        allow = (Written(self.name, self.blocklist.allow), *(each for each in lists if each.action == "allow"))
        block = (Written(self.name, self.blocklist.block), *(each for each in lists if each.action != "allow"))
        return Desired(allow=allow).having("files", block)


@dataclass(slots=True)
class Catalogue:
    """The blocklist at `path` (as the user gave it) and everything it includes. `state` None: nothing outlives us.

    `absolute` is its absolute path: found at the beginning, for the current folder may be removed.
    """

    path: str
    state: StateFolder | None
    fetched: Path = Path(FETCHED_FOLDER)
    """Where xdropd-fetch puts what came of a URL."""
    absolute: str = field(init=False)
    _lists: dict[str, _Known] = field(default_factory=dict)  # by absolute path, or URL
    _blocklist: tuple[_Look, Blocklist] | None = None
    _unsaved: bytes | None = None
    _matched: dict[str, tuple[str, ...] | None] = field(default_factory=dict)  # by glob pattern; None: not known
    _seen: dict[Path, Signature | None] = field(default_factory=dict)
    _unlike: set[str] = field(default_factory=set)  # URLs of which it is not told that they have the wanted SHA-256

    def __post_init__(self) -> None:
        self.absolute = os.path.abspath(self.path)

    @property
    def name(self) -> str:
        """The blocklist's absolute path as it is told: its source name."""
        return names.shown(self.absolute)

    def read(self, accept: str | None = None) -> Reading:
        """Read what changed. `accept` is the path of a list file to be taken as it is.

        Raises RefusedFile with every problem of the blocklist; everything stays as it was then.
        """
        with _undisturbed():
            document = self._read_blocklist()
            return self._reading(document, accept)

    def read_last_good(self) -> Reading | None:
        """The last good blocklist from the state folder, with the list files as they are now, or None without one."""
        data = _quietly_loaded(self.state, _GOOD_BLOCKLIST)
        if data is None:
            return None
        try:
            with _undisturbed():
                return self._reading(blocklist.read(data, names.shown(self.path), None, Guest()), None)
        except RefusedFile:
            return None

    def followed(self) -> tuple[frozenset[Path], frozenset[str]]:
        """The files and glob patterns that matter at the moment."""
        lists = map(Path, (self.absolute, *map(self._place, self._lists)))
        # The list is there before its sum is told, so that one is waited for as well.
        states = (state_path(self.fetched, url) for url in self._unlike)
        return frozenset((*lists, *states)), frozenset(self._matched)

    def includes(self, name: str) -> bool:
        """Whether that is the absolute path of a list file that matters at the moment, or the URL of one."""
        return name in self._lists

    def _place(self, name: str) -> str:
        """Where a list is read that goes by an absolute path or a URL."""
        return name if name.startswith("/") else str(list_path(self.fetched, name))

    def signatures(self) -> dict[Path, Signature | None]:
        """What each file was when it was last read, in force or refused; None: it could not be read."""
        return self._seen

    def save(self) -> None:
        """Keep the versions that count in the state folder. Raises OSError; what could not be saved is tried again."""
        if self.state is None:
            return
        if self._unsaved is not None:
            self.state.save(_GOOD_BLOCKLIST, self._unsaved)
            self._unsaved = None
        for path, known in self._lists.items():
            if not known.is_saved and known.data is not None:
                self.state.save(f"{_GOOD_LISTS}/{name_for(path)}", known.data)
                known.data, known.is_saved = None, True

    # ---- asking ----

    def facts_of(self, version: int, address: int) -> Facts:
        """What the databases that are included say of an address, of each thing the first one that says something.

        By the versions that count: as they are kept in the state folder, where nobody cuts a file that is mapped.
        """
        found: list[Facts] = []
        for path, known in self._lists.items():
            if known.how.select and known.was_good:
                kept: bytes | Path | None = known.data
                if kept is None and self.state is not None:
                    kept = self.state.path / _GOOD_LISTS / name_for(path)
                with contextlib.suppress(OSError, mmdb.Unfit):
                    found.append(databases.facts(kept or b"", version, address))
        firsts = (next((each for each in some if each is not None), None) for some in zip(*found, strict=True))
        return Facts(*firsts) if found else Facts()

    # ---- for the process after this one ----

    def told(self, number_of: Callable[[Listing], int]) -> dict[str, Any]:
        """What has been read, fit for JSON, but for what is not kept in the state folder yet. Touches files."""
        lists = {}
        for path, known in self._lists.items():
            if known.look is not None and known.data is None:
                known.look, content = known.look.settled(self._place(path)), known.content
                warnings = [astuple(warning) for warning in content.warnings]
                counts = [number_of(content.listing), content.lines, content.unparsed, warnings]
                lists[path] = [known.look.as_told(), counts, known.how, known.is_saved, known.trouble, known.was_good]
        found: dict[str, Any] = {"lists": lists, "matched": self._matched}
        if self._blocklist is not None and self._unsaved is None:
            look, document = self._blocklist
            look = look.settled(self.absolute)
            self._blocklist = look, document
            listings = [number_of(document.block), number_of(document.allow)]
            found["blocklist"] = [self.absolute, look.as_told(), listings, document.includes, document.runs]
        return found

    def recall(self, told: dict[str, Any], listings: Sequence[Listing]) -> None:
        """The inverse, in another process: what is still the same is not read again."""
        for path, (look, content, (widest, select), is_saved, trouble, was_good) in told["lists"].items():
            number, lines, unparsed, warnings = content
            file = ListFile(listings[number], lines, unparsed, tuple(Problem(*each) for each in warnings))
            how = How(tuple(widest), tuple(select))
            self._lists[path] = _Known(file, how, None, _Look.of(look), is_saved, trouble, was_good)
        self._matched = {pattern: None if found is None else tuple(found) for pattern, found in told["matched"].items()}
        path, look, (block, allow), includes, runs = told.get("blocklist") or ("", None, (0, 0), (), ())
        if path == self.absolute:
            known = tuple(Known(section, Place(*place)) for section, place in runs)
            included = tuple(map(Include.of, includes))
            document = Blocklist(listings[block], listings[allow], included, known)
            self._blocklist = _Look.of(look), document

    def _read_blocklist(self) -> Blocklist:
        try:
            if self._blocklist is not None and self._blocklist[0].is_current(self.absolute):
                self._seen[Path(self.absolute)] = self._blocklist[0].signature
                return self._blocklist[1]
            data, signature = _read_with_room(self.absolute)
        except OSError as problem:
            self._seen[Path(self.absolute)] = None
            raise RefusedFile([Problem(names.shown(self.path), 0, 0, _cannot_read(self.path, problem))]) from problem
        self._seen[Path(self.absolute)] = signature
        look = _Look.at(data, signature)
        if self._blocklist is not None and self._blocklist[0].is_same(data, signature):
            document = self._blocklist[1]
        else:
            document = blocklist.read(data, names.shown(self.path), self._before(), Guest())
            self._unsaved = data
        self._blocklist = (look, document)
        return document

    def _before(self) -> Before | None:
        """The text of the blocklist that counts, where it can be had."""
        if self._blocklist is None or not self._blocklist[1].runs:
            return None
        text = self._unsaved if self._unsaved is not None else _quietly_loaded(self.state, _GOOD_BLOCKLIST)
        return None if text is None else Before(text, self._blocklist[1])

    def _reading(self, document: Blocklist, accept: str | None) -> Reading:
        wanted, troubles, idle = self._included(document.includes)
        is_partial = None in self._matched.values()
        lists = []
        warnings = list(_loose_permissions([self.absolute, *map(self._place, wanted)]))
        for path, include in wanted.items():
            known = self._look_at(path, include, accept)
            lists.append((names.shown(path), known.content, include))
            if known.trouble:
                troubles[path] = known.trouble
            warnings += known.content.warnings
        warnings += idle
        for path in self._lists.keys() - wanted.keys():
            del self._lists[path]
            self._seen.pop(Path(self._place(path)), None)
            self._unlike.discard(path)
        if self.state is not None and not is_partial:
            with contextlib.suppress(OSError):  # whatever ails the folder is told when something is kept there
                self.state.keep_only(_GOOD_LISTS, {name_for(path) for path in wanted})
        problems = (Problem(names.shown(path), 0, 0, trouble) for path, trouble in troubles.items())
        awaited = tuple(name for name in wanted if self._lists[name].is_awaited)
        return Reading(document, tuple(lists), tuple(problems), tuple(warnings), self.name, is_partial, awaited)

    def _included(self, includes: Iterable[Include]) -> tuple[dict[str, Include], dict[str, str], list[Problem]]:
        """By absolute path or URL, in order, what includes it; what is wrong, by glob pattern; and what does nothing.

        What is said of a file that is named holds, whatever is said of a glob that stands for it as well; of what is
        named again the first word holds.
        """
        folder = os.path.dirname(self.absolute)
        wanted: dict[str, Include] = {}
        named: set[str] = set()
        matched: dict[str, tuple[str, ...] | None] = {}
        troubles: dict[str, str] = {}
        idle: list[Problem] = []
        for include in includes:
            pattern = include.pattern
            if include.fetch is None:
                pattern = os.path.normpath(os.path.join(folder, include.pattern))
            found: tuple[str, ...] | None = (pattern,)
            if include.fetch is None and glob.has_magic(include.pattern):
                try:
                    found = tuple(sorted(matching(pattern)))
                except NoAnswer as problem:
                    found = self._matched.get(pattern)
                    troubles[pattern] = f"cannot be looked for: {problem.strerror}"
                matched[pattern] = found
            elif pattern not in named:
                named.add(pattern)
                wanted[pattern] = include
            elif (first := wanted[pattern]) != include._replace(line=first.line, column=first.column):
                said = f"this does nothing, for line {first.line} includes {names.shown(include.pattern)} already"
                idle.append(Problem(names.shown(self.path), include.line, include.column, said, "warning"))
            for path in found or ():
                wanted.setdefault(path, include)
        self._matched = matched
        return wanted, troubles, idle

    def _look_at(self, path: str, include: Include, accept: str | None) -> _Known:
        known, how = self._lists.get(path), How(include.widest, include.select)
        if known is not None and known.how != how:
            known = self._read_otherwise(path, how, known)
        place = self._place(path)
        try:
            is_alike = self._objection_to_sum(path, include) is None
            if known and known.look and is_alike and known.look.is_current(place) and accept != path:
                self._seen[Path(place)] = known.look.signature
                return known
            # Of a URL: whoever has taken over the fetcher could have any file quoted in warnings that we may read.
            data, signature = _read_with_room(place, follows_links=place == path)
            unlike = self._objection_to_sum(path, include)  # again: what was told was of what lay there before, perhaps
        except OSError as problem:
            self._seen[Path(place)] = None
            if place != path and isinstance(problem, FileNotFoundError):
                self._unlike.discard(path)
                return self._await(path, how, known)
            return self._keep(path, how, known, None, _cannot_read(place, problem))
        self._seen[Path(place)] = signature
        if unlike is not None:
            return self._keep(path, how, known, None, unlike) if unlike else self._await(path, how, known)
        look = _Look.at(data, signature)
        if known and known.look and known.look.is_same(data, signature) and accept != path:
            known.look, known.is_awaited = look, False
            return known
        content = listfiles.read(data, names.shown(path), how)
        if known is None:
            kept = self._kept(path)
            if kept == data and not content.unfit:  # what counted when it was kept, accepted perhaps, counts on
                self._lists[path] = _Known(content, how, None, look, is_saved=True)
                return self._lists[path]
            known = _as_kept(kept, path, how)
        last = known.content.tally.entries if known and known.was_good else None
        objection = content.unfit or trust.objection(content.tally, last)
        if objection and (content.unfit or accept != path):
            return self._keep(path, how, known, look, objection)
        is_asked = self.state is not None or how.select  # a database is, for what it says of an address
        self._lists[path] = _Known(content, how, data if is_asked else None, look, is_saved=False)
        return self._lists[path]

    def _objection_to_sum(self, url: str, include: Include) -> str | None:
        """Why what was fetched is not the content that is wanted; "" if that is not told yet, None if it is."""
        wanted = include.fetch.sha256 if include.fetch else ""
        self._unlike.discard(url)
        if not wanted:
            return None
        path = state_path(self.fetched, url)
        signature = signature_of(str(path))
        state = read_state(self.fetched, url)
        if state is not None and state.has_sum(wanted):
            self._seen.pop(path, None)
            return None
        self._unlike.add(url)
        self._seen[path] = signature
        if state is None or state.sha256 is None:
            return ""
        return f"what has come has the SHA-256 {state.sha256} and not the one that 'sha256' says"

    def _read_otherwise(self, path: str, how: How, known: _Known) -> _Known | None:
        """The version that counts, as another include has it read; None where it is not kept."""
        if known.data is None or not known.was_good:
            return self._last_good(path, how)
        content = listfiles.read(known.data, names.shown(path), how)
        return None if content.unfit else replace(known, content=content, how=how, look=None)

    def _keep(self, path: str, how: How, known: _Known | None, look: _Look | None, trouble: str) -> _Known:
        kept = known or self._last_good(path, how)
        if kept is None:
            nothing = listfiles.read(b"", names.shown(path))
            kept = _Known(nothing, how, None, None, is_saved=True, was_good=False)
        if kept.was_good:
            trouble += f"; its last good version with {kept.content.listing.count} entries stays in force"
        else:
            trouble += "; there is no last good version, so it gives nothing"
        kept.look, kept.trouble, kept.is_awaited = look, trouble, False
        self._lists[path] = kept
        return kept

    def _await(self, url: str, how: How, known: _Known | None) -> _Known:
        """What has not been fetched: no trouble yet. It gives what it gave, or nothing."""
        kept = self._keep(url, how, known, None, "")
        kept.trouble, kept.is_awaited = "", True
        return kept

    def _last_good(self, path: str, how: How) -> _Known | None:
        return _as_kept(self._kept(path), path, how)

    def _kept(self, path: str) -> bytes | None:
        """The last good version, as it was written."""
        return _quietly_loaded(self.state, f"{_GOOD_LISTS}/{name_for(path)}")


def _as_kept(data: bytes | None, path: str, how: How) -> _Known | None:
    if data is None:
        return None
    content = listfiles.read(data, names.shown(path), how)
    return None if content.unfit else _Known(content, how, None, None, is_saved=True)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Without looks for cycles: none are made here, and to go through millions of entries holds up every thread."""
    gc.collect()  # so that no cycle is among what is left alone from now on
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _read_with_room(path: str, *, follows_links: bool = True) -> tuple[bytes, Signature]:
    """A file, if there is room for what its reading takes besides. Raises MemoryError, OSError.

    numpy (2.2) does not always survive that there is none, so that is found out before.
    """
    data, signature = read_file(Path(path), follows_links=follows_links)
    memory.see_room_for(_ROOM_A_BYTE * len(data))
    return data, signature


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data).digest()


def _quietly_loaded(state: StateFolder | None, name: str) -> bytes | None:
    try:
        return state.load(name) if state else None
    except OSError:
        return None  # as good as never saved; what matters is the file itself


def _cannot_read(path: str, problem: OSError) -> str:
    if isinstance(problem, FileNotFoundError):
        return "there is no such file"
    if isinstance(problem, PermissionError):
        return f"cannot be read by this service, {_how_to_let_in(os.path.abspath(path))}"
    return f"cannot be read: {problem.strerror or problem}"


def _how_to_let_in(path: str) -> str:
    folders = reversed(Path(path).parents)
    closed = next((str(folder) for folder in folders if not touch(path, os.access, folder, os.X_OK)), None)
    if closed in ("/home", "/root", "/run/user"):  # ProtectHome= in the unit, whatever their modes are
        return "which sees no home folders; keep it in /etc/xdrop/lists.d"
    if closed:
        return f"mend it with: chmod o+x {shlex.quote(names.shown(closed))}"
    return f"mend it with: chgrp _xdropd {shlex.quote(names.shown(path))} && chmod 640 {shlex.quote(names.shown(path))}"


def _loose_permissions(paths: Iterable[str]) -> list[Problem]:
    found = []
    for path in paths:
        try:
            mode = touch(path, os.stat, path).st_mode
        except OSError:
            continue  # told when it is read
        if mode & stat.S_IWOTH:
            message = (
                f"everybody on this machine may write it, mend it with: chmod o-w {shlex.quote(names.shown(path))}"
            )
            found.append(Problem(names.shown(path), 0, 0, message, "warning"))
    return found
