"""What xdropd promises, as a program of a page: which entries are in force, and which of them a packet is credited to.

Written from the manual alone, and it shares nothing with the daemon. It is told what happens (files written, a reload,
a block, time) and answers what must be the case then.
"""

import copy
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network, summarize_address_range
from pathlib import Path

Span = tuple[int, int, int]  # version, first and last address as numbers

ALWAYS_GUARDED = ("127.0.0.0/8", "::1", "0.0.0.0", "::", "fe80::/10")
NAME_SERVERS = re.findall(r"^nameserver\s+([0-9A-Fa-f:.]+)", Path("/etc/resolv.conf").read_text(), re.MULTILINE)


@functools.lru_cache(maxsize=1 << 16)
def span(text: str) -> Span:
    """Of an address, a network or a range. Raises ValueError."""
    if "-" in text:
        first, last = map(ip_address, text.split("-"))
    else:
        network = ip_network(text)
        first, last = network[0], network[-1]
    return first.version, int(first), int(last)


@functools.lru_cache(maxsize=1 << 16)
def canonical(of: Span) -> str:
    """As `list` writes it: a range that is exactly a network is one."""
    kind = {4: "0.0.0.0", 6: "::"}[of[0]]
    first, last = ip_address(kind) + of[1], ip_address(kind) + of[2]
    if first == last:
        return str(first)
    networks = list(summarize_address_range(first, last))  # type: ignore[type-var]
    return str(networks[0]) if len(networks) == 1 else f"{first}-{last}"


def holds(of: Span, address: Span) -> bool:
    """Whether an address, or all of a span, is in it."""
    return of[0] == address[0] and of[1] <= address[1] and address[2] <= of[2]


@dataclass(frozen=True)
class Item:
    """An entry of the blocklist as written; `until` in seconds since the epoch."""

    entry: str
    reason: str = ""
    until: int | None = None


@dataclass(frozen=True)
class Include:
    """Path or glob, relative to the blocklist, with the reason of all its entries; and whether they only monitor."""

    pattern: str
    reason: str = ""
    monitors: bool = False


@dataclass(frozen=True)
class Blocklist:
    """blocklist.yaml: the line of `block:`, its items, one a line, then `allow:` and `include:` likewise."""

    block: tuple[Item, ...] = ()
    allow: tuple[Item, ...] = ()
    include: tuple[Include, ...] = ()
    is_broken: bool = False


@dataclass(frozen=True)
class Entry:
    """One entry in force."""

    span: Span
    source: str
    line: int | None = None
    reason: str | None = None
    until: float | None = None
    monitors: bool = False

    @property
    def key(self) -> tuple[str, Span]:
        """What makes it the same entry from one list to the next: its counters go on."""
        return self.source, self.span

    @property
    def size(self) -> int:
        """How many addresses it has."""
        return self.span[2] - self.span[1] + 1


@dataclass
class Model:
    """Files are named by their paths from `folder`, in which the blocklist is; tuples are lines of list files."""

    folder: str
    now: float = 0.0
    disk: dict[str, Blocklist | tuple[str, ...]] = field(default_factory=dict)
    blocklist: Blocklist = field(default_factory=Blocklist)
    included: dict[str, Include] = field(default_factory=dict)
    lists: dict[str, tuple[str, ...]] = field(default_factory=dict)
    blocks: dict[str, dict[Span, Entry]] = field(default_factory=dict)
    troubles: set[str] = field(default_factory=set)
    own: set[str] = field(default_factory=set)
    gateways: set[str] = field(default_factory=set)
    guard: bool = True
    monitor: bool = False
    counts: dict[tuple[str, Span], int] = field(default_factory=dict)

    @property
    def good(self) -> dict[str, Blocklist | tuple[str, ...]]:
        """The versions that count, by path."""
        return {"blocklist.yaml": self.blocklist, **self.lists}

    def copy(self) -> "Model":
        """As it is now."""
        return copy.deepcopy(self)

    # ---- what happens ----

    def reload(self, *, at_start: bool = False) -> bool:
        """Every file is read; whether the blocklist was taken. If not, all stays, or at a start all but the lists."""
        wanted = self.disk.get("blocklist.yaml")
        if isinstance(wanted, Blocklist) and not wanted.is_broken:
            self.blocklist, self.troubles = wanted, set()
        else:
            self.troubles.add("blocklist.yaml")
            if not at_start:
                return False
            self.troubles = {"blocklist.yaml"}
        self.included = self._included()
        before, self.lists = self.lists, {}
        for path in self.included:
            known, lines = before.get(path), self.disk.get(path)
            if isinstance(lines, tuple) and _is_good(lines, known):
                self.lists[path] = lines
            else:
                self.troubles.add(path)
                if known is not None:
                    self.lists[path] = known
        return "blocklist.yaml" not in self.troubles

    def block(self, source: str, entries: list[str], seconds: int | None, reason: str) -> int:
        """The exit status."""
        if any(self.covered(span(entry)) for entry in entries):
            return 1
        for each in map(span, entries):
            until = None if seconds is None else self.now + seconds
            known = self.block_of(source, each)
            if known is not None:
                until = None if known.until is None or until is None else max(until, known.until)
            said = reason or (known.reason if known else None)
            self.blocks.setdefault(source, {})[each] = Entry(each, source, None, said or None, until)
        return 0

    def unblock(self, source: str, entries: list[str]) -> int:
        """The exit status."""
        if not all(self.block_of(source, span(entry)) for entry in entries):
            return 1
        for entry in entries:
            self.blocks[source].pop(span(entry), None)
        return 0

    def replace(self, source: str, items: list[Item]) -> int:
        """The exit status. `until` of an item counts from the moment of asking."""
        self.blocks[source] = {each.span: each for each in self._asked(source, items)}
        return 0

    def change(self, source: str, items: list[Item], gone: list[str]) -> int:
        """The exit status."""
        known = self.blocks.setdefault(source, {})
        for entry in gone:
            known.pop(span(entry), None)
        known.update({each.span: each for each in self._asked(source, items)})
        return 0

    def _asked(self, source: str, items: list[Item]) -> list[Entry]:
        """Of several with one span the one that ends last, and the first of those."""
        found: dict[Span, Entry] = {}
        for item in items:
            until = None if item.until is None else self.now + item.until
            entry, known = (
                Entry(span(item.entry), source, None, item.reason or None, until),
                found.get(span(item.entry)),
            )
            if known is None or (known.until is not None and (until is None or until > known.until)):
                found[entry.span] = entry
        return list(found.values())

    def flush(self, source: str) -> int:
        """The exit status."""
        self.blocks.pop(source, None)
        return 0

    def credit(self, entry: Entry, packets: int) -> None:
        """Packets that an entry dropped, or would have."""
        self.counts[entry.key] = self.counts.get(entry.key, 0) + packets

    def forget(self) -> None:
        """The counts of what is no longer listed."""
        listed = {entry.key for entry in self.entries()}
        self.counts = {key: count for key, count in self.counts.items() if key in listed}

    # ---- what must be the case ----

    def _included(self) -> dict[str, Include]:
        """Paths in order, each once, with what is said of them: by their name, whatever is said of a glob."""
        found: dict[str, Include] = {}
        for include in self.blocklist.include:
            folder, star, suffix = include.pattern.partition("*")
            matching = sorted(path for path in self.disk if path.startswith(folder) and path.endswith(suffix))
            for path in matching if star else [include.pattern]:
                found.setdefault(path, include)
        for include in reversed(self.blocklist.include):
            if include.pattern in found:
                found[include.pattern] = include
        return found

    def entries(self) -> list[Entry]:
        """In order, each span of a source once."""
        found: dict[tuple[str, Span], Entry] = {}
        for entry in self.written():
            found.setdefault(entry.key, entry)
        return list(found.values())

    def written(self) -> list[Entry]:
        """The same with those that a source lists again."""
        return [entry for entry in self._written() if entry.until is None or entry.until > self.now]

    def _written(self) -> Iterator[Entry]:
        name = f"{self.folder}/blocklist.yaml"
        for line, item in enumerate(self.blocklist.block, start=2):
            yield Entry(span(item.entry), name, line, item.reason or None, item.until)
        for path, include in self.included.items():
            for line, text in enumerate(self.lists.get(path, ()), start=1):
                if (read := read_line(text)) not in (None, "bad"):
                    name = f"{self.folder}/{path}"
                    yield Entry(span(str(read)), name, line, include.reason or None, monitors=include.monitors)
        for entries in self.blocks.values():
            yield from entries.values()

    def drops(self, address: Span, entries: list[Entry]) -> bool:
        """Whether a packet is dropped, but for the setting that none is."""
        return not self.covered(address) and any(not entry.monitors for entry in self.credited(address, entries))

    def block_of(self, source: str, of: Span) -> Entry | None:
        """What a source blocks as such, and has not ended."""
        found = self.blocks.get(source, {}).get(of)
        return found if found and (found.until is None or found.until > self.now) else None

    def keepers(self) -> list[tuple[str, Span]]:
        """What is never blocked, and why."""
        allowed = [span(item.entry) for item in self.blocklist.allow if item.until is None or item.until > self.now]
        guarded = map(span, (*ALWAYS_GUARDED, *NAME_SERVERS, *self.own, *self.gateways)) if self.guard else ()
        return [*(("allow", each) for each in allowed), *(("guard", each) for each in guarded)]

    def covered(self, of: Span) -> bool:
        """Whether allow and guard hold all of it, together."""
        at = of[1]
        for _, (version, first, last) in sorted(self.keepers(), key=lambda keeper: keeper[1]):
            if version == of[0] and first <= at <= last:
                at = last + 1
        return at > of[2]

    def credited(self, address: Span, entries: list[Entry]) -> list[Entry]:
        """Those entries to which a packet may be credited: one, but for equals among blocks. None: it is not listed.

        One that monitors is, where no other one holds the address.
        """
        holding = [entry for entry in entries if holds(entry.span, address)]
        holding = [entry for entry in holding if not entry.monitors] or holding
        fewest = min((entry.size for entry in holding), default=0)
        first, *others = [entry for entry in holding if entry.size == fewest] or [None]
        if first is None:
            return []
        return [first] + ([other for other in others if other] if first.line is None else [])


def read_line(text: str) -> str | None:
    """The entry in a line of a list file; "bad" for a line that does not parse, None for one that says nothing."""
    words = text.partition("#")[0].split()
    if not words:
        return None
    try:
        span(words[0])
    except ValueError:
        return "bad"
    return words[0]


def _is_good(lines: tuple[str, ...], known: tuple[str, ...] | None) -> bool:
    """Neither empty, nor foreign to over a tenth, nor shorter by over a half of a hundred or more."""
    read = [entry for entry in map(read_line, lines) if entry]
    good = len(read) - read.count("bad")
    before = sum(read_line(line) not in (None, "bad") for line in known or ())
    return good > 0 and 10 * read.count("bad") <= len(read) and not (before >= 100 and 2 * good < before)
