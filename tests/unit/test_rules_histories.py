"""Random histories of the lists: however a state was reached, it is the one that starting afresh would give.

Each history is played on what the daemon composes its lists with, and on maps that do what plans say. After every
step the maps must hold what a start with the same texts would put there, and now and then every address of a small
world is looked up and compared with a reading of the contract that goes through the texts line by line. What holds
only because of what was asked before shows as well: whether the sorted addresses are there is part of a history.

A failure prints the shortest history that fails, as a list that can be pasted into `play`.
"""

from collections.abc import Iterator
from functools import lru_cache
from itertools import chain, count
from random import Random
from typing import NamedTuple

import pytest
from layouts import answer, apply

from extent import IS_FULL
from xdropd.daemon.blocks import Blocks
from xdropd.daemon.catalogue import Reading
from xdropd.daemon.logcopy import LogCopy
from xdropd.daemon.wanted import Wanted
from xdropd.host.blocklog import Record
from xdropd.host.netlink import Netlink
from xdropd.host.systemd import Systemd
from xdropd.rules.plan import difference
from xdropd.rules.ruleset import VERSIONS, Layout, Region, Ruleset, at_once
from xdropd.text.addresses import WIDTH, Span
from xdropd.text.blocklist import Blocklist
from xdropd.text.entries import Column, Entry, Listing
from xdropd.text.listfiles import ListFile

HISTORIES = 200_000 if IS_FULL else 10_000
STEPS_AT_MOST = 8
WORLD = 8  # addresses a family, the last ones
BLOCKLIST = "/blocklist"
FILES = ("/a", "/b", "/c")
CALLERS = ("fail2ban", "xdropctl")
EDITS = ("insert", "remove", "copy", "new", "swap", "move", "halve", "again", "anew")
FOR_GOOD = float("inf")


class Line(NamedTuple):
    """An entry of a text; `until` None: it says nothing but its span."""

    version: int
    first: int
    last: int
    until: float | None

    @property
    def span(self) -> Span:
        base = (1 << WIDTH[self.version]) - WORLD
        return Span(self.version, base + self.first, base + self.last)


class Reload(NamedTuple):
    """The blocklist, with what it allows, and the list files in their order, as they are now."""

    block: tuple[Line, ...]
    allow: tuple[Line, ...]
    files: tuple[tuple[str, tuple[Line, ...]], ...]


class Block(NamedTuple):
    """Entries of one request have one end; that of the lines themselves is passed over."""

    source: str
    lines: tuple[Line, ...]
    until: float | None


class Unblock(NamedTuple):
    source: str
    lines: tuple[Line, ...]


class Wait(NamedTuple):
    """Until so many seconds since the start."""

    until: float


class Sort(NamedTuple):
    """The sorted addresses are asked for, as the daemon does in a quiet moment."""


class Look(NamedTuple):
    """Every address is looked up."""


Step = Reload | Block | Unblock | Wait | Sort | Look


# ---- what the daemon does ----


_MEMORY = LogCopy(Systemd())  # what is logged is never read


class Player:
    """The daemon's lists without a kernel: what it composes, and maps that do as they are told."""

    def __init__(self, netlink: Netlink) -> None:
        self.numbers: dict[str, int] = {}
        numbers = count(1)
        self.blocks = Blocks(None, _MEMORY)
        self.wanted = Wanted(self.blocks, netlink, lambda name: self.numbers.setdefault(name, next(numbers)))
        self.now_s = 0.0
        self.texts = Reload((), (), ())
        self.maps = Layout()
        self.reload(self.texts)

    def reload(self, texts: Reload) -> None:
        self.texts = texts
        before = self.wanted.ruleset or Ruleset()
        fresh = self.wanted.ruleset is None
        after, change = self.wanted.compose(reading(texts), BLOCKLIST, self.now_s, guard=False, fresh=fresh)
        change.region.update(before.exempt_changes(after))
        self.carry_out(before.layout(change.region), after.layout(change.region))
        self.wanted.ruleset = after

    def carry_out(self, before: Layout, after: Layout) -> None:
        self.maps = apply(self.maps, difference(before, after))

    def change(self, spans: list[Span], steps: Iterator[None]) -> None:
        """As Daemon.change."""
        region = Region()
        region.add(spans)
        before = self.wanted.ruleset.layout(region)
        for _ in steps:
            pass
        self.carry_out(before, self.wanted.ruleset.layout(region))

    def record(self, records: list[Record], spans: list[Span]) -> None:
        with self.blocks.logged(at_once(self.blocks.batch(records))) as take_effect:
            self.change(spans, chain(take_effect(), self.wanted.follow_blocks(records[0].source)))

    def end_what_is_over(self) -> None:
        """As the daemon's own."""
        over = at_once(self.wanted.over(self.now_s))
        self.change([span for _, span in over], self.wanted.end(over, self.now_s))
        if self.wanted.allow_ends_s <= self.now_s:
            self.reload(self.texts)

    def take(self, step: Step) -> None:
        match step:
            case Reload():
                self.reload(step)
            case Block(source, lines, until):
                spans = [line.span for line in lines]
                self.record(self.blocks.later(source, spans, until, "", self.now_s), spans)
            case Unblock(source, lines):
                records = [Record("unblock", source, str(line.span), None, "", self.now_s) for line in lines]
                self.record(records, [line.span for line in lines])
            case Wait(until):
                self.now_s = max(until, self.now_s)
                self.end_what_is_over()
            case Sort():
                for source in self.wanted.ruleset.sources:
                    for members in source.members.values():
                        _ = members.sorted


@lru_cache(maxsize=256)
def listing(lines: tuple[Line, ...]) -> Listing:
    """Of a text that did not change the daemon has the same object as before, too."""
    plain = {version: Column.empty(version) for version in VERSIONS}
    entries = []
    for number, line in enumerate(lines, start=1):
        if line.first == line.last and line.until is None:
            plain[line.version].append(line.span.first, number)
        else:
            entries.append(entry(line, number))
    return Listing(plain[4], plain[6], tuple(entries))


def entry(line: Line, number: int) -> Entry:
    return Entry(line.span, number, until=None if line.until in (None, FOR_GOOD) else line.until)


def reading(texts: Reload) -> Reading:
    allow = tuple(entry(line, number) for number, line in enumerate(texts.allow, start=1))
    files = tuple((name, ListFile(listing(lines), len(lines), 0), "") for name, lines in texts.files)
    return Reading(Blocklist(listing(texts.block), allow, ()), files, (), ())


# ---- what the contract says ----


class Model:
    """The texts as they are, and what callers have blocked, by span in the order in which it was."""

    def __init__(self) -> None:
        self.texts = Reload((), (), ())
        self.blocks: dict[str, dict[tuple[int, int, int], float]] = {}
        self.now_s = 0.0

    def take(self, step: Step) -> None:
        match step:
            case Reload():
                self.texts = step
            case Block(source, lines, until):
                known = self.blocks.setdefault(source, {})
                for line in lines:
                    known[line[:3]] = max(known.get(line[:3], 0), FOR_GOOD if until is None else until)
            case Unblock(source, lines):
                for line in lines:
                    self.blocks.get(source, {}).pop(line[:3], None)
            case Wait(until):
                self.now_s = max(until, self.now_s)
                for source, known in self.blocks.items():
                    self.blocks[source] = {place: end for place, end in known.items() if end > self.now_s}
        self.blocks = {source: known for source, known in self.blocks.items() if known}  # to come back as the last one

    def in_force(self) -> Iterator[tuple[str, int, Line]]:
        """Everything that is listed and not over, the first among equals first: source, line, entry."""
        for name, lines in ((BLOCKLIST, self.texts.block), *self.texts.files):
            yield from ((name, number, line) for number, line in enumerate(lines, start=1) if self.lasts(line))
        for name, known in self.blocks.items():
            yield from ((name, 0, Line(*place, end)) for place, end in known.items())

    def lasts(self, line: Line) -> bool:
        return line.until is None or line.until > self.now_s

    def is_allowed(self, version: int, at: int) -> bool:
        return any(holds(line, version, at) for line in self.texts.allow if self.lasts(line))

    def decides(self, version: int, at: int) -> tuple[str, int, Span] | None:
        """Who decides on an address, allowed or not: the fewest addresses, then the first."""
        holding = [found for found in self.in_force() if holds(found[2], version, at)]
        if not holding:
            return None
        source, number, line = min(holding, key=lambda found: found[2].last - found[2].first)
        return source, number, line.span


def holds(line: Line, version: int, at: int) -> bool:
    return line.version == version and line.first <= at <= line.last


# ---- both, side by side ----


def play(history: list[Step], netlink: Netlink) -> str:
    """The first thing that is wrong, "" if all is right."""
    player, model = Player(netlink), Model()
    for number, step in enumerate((*history, Look()), start=1):
        try:
            player.take(step)
            model.take(step)
            wrong = compared_with_a_fresh_start(player)
            if not wrong and isinstance(step, Look):
                wrong = compared_with_the_model(player, model)
        except Exception as problem:  # noqa: BLE001  # whatever it is, it is to be made shorter and shown
            wrong = f"{type(problem).__name__}: {problem}"
        if wrong:
            return f"step {number}: {wrong}"
    return ""


def compared_with_a_fresh_start(player: Player) -> str:
    wanted = Wanted(player.blocks, player.wanted._netlink, player.numbers.__getitem__)
    fresh, _ = wanted.compose(reading(player.texts), BLOCKLIST, player.now_s, guard=False, fresh=True)
    expected = fresh.whole_layout()
    if player.maps != expected:
        return f"the maps hold\n  {player.maps}, a fresh start has\n  {expected}"
    return ""


def compared_with_the_model(player: Player, model: Model) -> str:
    ruleset = player.wanted.ruleset
    names = {number: name for name, number in player.numbers.items()}
    for version in VERSIONS:
        for at in range(WORLD):
            key = (1 << WIDTH[version]) - WORLD + at
            expected = model.decides(version, at)
            held = ruleset.holder(version, key)
            said = held and (held[0].name, held[1].line, held[1].span)
            if said != expected:
                return f"lookup of IPv{version} address {at} says {said}, not {expected}"
            is_allowed = model.is_allowed(version, at)
            if ruleset.exemptions.holds(version, key) != is_allowed:
                return f"IPv{version} address {at} is {'not ' * is_allowed}taken for allowed"
            met = answer(player.maps, version, key)
            credited = met and (names[met[1]], met[0])
            if credited != (expected[::2] if expected and not is_allowed else None):
                return f"a packet of IPv{version} address {at} is credited to {credited}, not {expected}"
            owner = ruleset.owner(version, key)
            if (owner and owner.name) != (credited[0] if credited and credited[1].is_address else None):
                return f"IPv{version} address {at} is owned by {owner and owner.name}, and credited to {credited}"
    return ""


# ---- making histories, and making them shorter ----


class Author:
    """Makes one history. Each has its own taste: some write about two addresses only, some about networks only."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.versions = self.rng.choice((VERSIONS, VERSIONS, (4,), (6,)))
        self.world = self.rng.randint(2, WORLD)
        self.wide_share = self.rng.choice((0, 0.4, 0.8))
        self.says = self.rng.choice(((None,), (None, None, None, FOR_GOOD, 2.0, 4.0)))
        self.edits_at_most = self.rng.choice((1, 3))
        self.reloads_share = self.rng.choice((0.5, 0.9))

    def history(self) -> list[Step]:
        texts = Reload((), (), ((FILES[0], self.lines(6)),))
        history: list[Step] = [texts]
        for _ in range(self.rng.randint(1, STEPS_AT_MOST)):
            if self.rng.random() < self.reloads_share:
                texts = self.rewritten(texts)
                history.append(texts)
            else:
                history.append(self.something_else(history))
        return history

    def something_else(self, history: list[Step]) -> Step:
        match self.rng.choice(("block", "unblock", "wait", "sort", "look")):
            case "block":
                return Block(self.rng.choice(CALLERS), self.lines(3), self.rng.choice((None, 2.0, 4.0)))
            case "unblock":
                known = [line for step in history if isinstance(step, Block) for line in step.lines]
                return Unblock(self.rng.choice(CALLERS), (self.rng.choice(known or self.lines(1)),))
            case "wait":
                return Wait(self.rng.randint(1, 5))
            case "sort":
                return Sort()
        return Look()

    def rewritten(self, texts: Reload) -> Reload:
        block, allow, files = texts
        match self.rng.choice(("block", "file", "file", "file", "allow", "come", "go", "order")):
            case "block":
                block = self.edited(block)
            case "allow":
                allow = self.edited(allow)[:4]
            case "come":
                absent = [name for name in FILES if name not in dict(files)]
                if absent:
                    files = (*files, (self.rng.choice(absent), self.edited(())))
            case "go" if files:
                files = tuple(self.rng.sample(files, len(files) - 1))
            case "order":
                files = tuple(self.rng.sample(files, len(files)))
            case _:
                changed = self.rng.choice(FILES)
                files = tuple((name, self.edited(lines) if name == changed else lines) for name, lines in files)
        return Reload(block, allow, files)

    def edited(self, before: tuple[Line, ...]) -> tuple[Line, ...]:
        lines = list(before)
        for _ in range(self.rng.randint(1, self.edits_at_most)):
            if not lines:
                lines += self.lines(6)
                continue
            place, other = (self.rng.randrange(len(lines)) for _ in range(2))
            match self.rng.choice(EDITS):
                case "insert":
                    lines[place:place] = self.lines(4)
                case "remove":
                    del lines[place]
                case "copy":
                    lines[place] = lines[other]
                case "new":
                    lines[place] = self.line()
                case "anew":
                    lines = [self.line() for _ in lines]
                case "swap":
                    lines[place], lines[other] = lines[other], lines[place]
                case "move":
                    lines.insert(other, lines.pop(place))
                case "halve":
                    del lines[: len(lines) // 2]
                case "again":
                    lines.insert(other, lines[place])
        return tuple(lines[:12])

    def lines(self, at_most: int) -> tuple[Line, ...]:
        return tuple(self.line() for _ in range(self.rng.randint(1, at_most)))

    def line(self) -> Line:
        first = self.rng.randrange(self.world)
        last = self.rng.randrange(first, self.world) if self.rng.random() < self.wide_share else first
        return Line(self.rng.choice(self.versions), first, last, self.rng.choice(self.says))


def shortened(history: list[Step], netlink: Netlink) -> list[Step]:
    """A history that fails, of which nothing can be left out."""
    for shorter in without_something(history):
        if play(shorter, netlink):
            return shortened(shorter, netlink)
    return history


def without_something(history: list[Step]) -> Iterator[list[Step]]:
    for at, step in enumerate(history):
        before, after = history[:at], history[at + 1 :]
        yield before + after
        match step:
            case Reload(block, allow, files):
                yield from ([*before, Reload(less, allow, files), *after] for less in without_one(block))
                yield from ([*before, Reload(block, less, files), *after] for less in without_one(allow))
                yield from ([*before, Reload(block, allow, less), *after] for less in without_one(files))
                for number, (name, lines) in enumerate(files):
                    for less in without_one(lines):
                        changed = (*files[:number], (name, less), *files[number + 1 :])
                        yield [*before, Reload(block, allow, changed), *after]
            case Block(source, lines, until) if len(lines) > 1:
                yield from ([*before, Block(source, less, until), *after] for less in without_one(lines))


def without_one(items: tuple) -> Iterator[tuple]:
    return ((*items[:at], *items[at + 1 :]) for at in range(len(items)))


@pytest.fixture(scope="module")
def netlink() -> Netlink:
    """Composing takes one; it is not asked anything while the guard is off."""
    return Netlink()


def test_whatever_happened_before_the_lists_are_those_of_a_fresh_start(netlink: Netlink) -> None:
    for seed in range(HISTORIES):
        history = Author(seed).history()
        if play(history, netlink):
            shortest = shortened(history, netlink)
            steps = "".join(f"    {step},\n" for step in shortest)
            pytest.fail(f"history {seed} fails, and so does\n[\n{steps}]\n{play(shortest, netlink)}", pytrace=False)


def test_an_address_that_left_a_list_with_duplicates_is_gone(netlink: Netlink) -> None:
    a, b = (Line(4, at, at, None) for at in range(2))
    history = [Sort(), Reload((a, a, b), (), ()), Sort(), Reload((a, b, b), (), ()), Reload((b, b), (), ())]
    assert play(history, netlink) == ""
