"""Random histories of lists: however a state was reached, it is the one that starting afresh would give.

Each history changes one state into the next as the daemon does, and applies the changes to tables that do as they are
told. After every step the tables must hold what a start with the same texts would put there, and every address must get
the answer of a model that shares nothing with the product: it paints all entries over the addresses, the one that
decides last.

Texts may monitor, and one of them is a database: what is selected of it is an entry in all worlds together.

Many small worlds of a few addresses lie side by side in one history, each with a history of its own, so that
thousands of them cost as much as a few. A failure prints the shortest history that fails, to be pasted into `play`.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from random import Random
from typing import NamedTuple

import numpy as np
import pytest

from extent import IS_FULL
from xdropd.columns.listing import Builder, Listing, Members, Row, Selections, combined, without
from xdropd.columns.prefixes import FAMILIES
from xdropd.columns.prefixes import order as order_of
from xdropd.columns.versions import SELECTED
from xdropd.rules.allow import Exempt, Exempting
from xdropd.rules.plan import plan
from xdropd.rules.winners import EXEMPT, MONITORS, Records, Source, State

WORLD = 16  # addresses a family
WORLDS = 1000
BATCHES = 200 if IS_FULL else 20
STEPS = 6
ALONE = 4000 if IS_FULL else 150  # histories of one world: columns of no or one row are a case of their own

TEXTS = ("blocklist", "a", "b")
DATABASE = "db"
CALLERS = ("fail2ban", "xdropctl")
FILES = (*TEXTS, DATABASE)
NUMBERS = {name: number for number, name in enumerate((*FILES, *CALLERS), start=1)}
CODES = tuple(1 << 32 | number for number in (7, 1 << 17, 9))  # of selections, in no order of theirs


class Line(NamedTuple):
    """An entry, by the places of its addresses in its world; from -1 to -1 are all addresses there are."""

    version: int
    first: int
    last: int
    until: float | None = None


class Said(NamedTuple):
    """What texts say of one world now, and what callers ask for: (caller, whether to block, entry)."""

    texts: dict[str, tuple[Line, ...]]
    allow: tuple[Line, ...] = ()
    requests: tuple[tuple[str, bool, Line], ...] = ()
    cells: tuple[int, ...] = ()
    """What the database says of each address, IPv4 before IPv6: a bit for each selection that holds it."""


class Step(NamedTuple):
    """The time, the texts that there are in their order, and what is said, by world; who monitors, what is selected."""

    now_s: float
    order: tuple[str, ...]
    worlds: dict[int, Said]
    monitoring: tuple[str, ...] = ()
    select: tuple[int, ...] = ()


class Setting(NamedTuple):
    """Where the worlds lie: `start` is the share of all addresses that come before them."""

    start: float
    count: int

    def base(self, version: int) -> int:
        return int(self.start * 16) * ((1 << FAMILIES[version].width) - self.count * WORLD) // 16

    def span(self, world: int, line: Line) -> tuple[int, int]:
        """First and last address."""
        if line.first < 0:
            return 0, (1 << FAMILIES[line.version].width) - 1
        base = self.base(line.version) + world * WORLD
        return base + line.first, base + line.last

    def painted(self, cells: list, version: int, first: int, last: int, answer: object) -> None:
        """Put one answer over all addresses of the worlds that are in a span."""
        base = self.base(version)
        first, last = max(first - base, 0), min(last - base, len(cells) - 1)
        if first <= last:
            cells[first : last + 1] = [answer] * (last + 1 - first)

    def clean(self) -> list:
        return [None] * (self.count * WORLD)

    def selected(self, version: int, step: Step, bit: int) -> Iterator[tuple[int, int]]:
        """First and last addresses of all that one selection holds."""
        for world, said in step.worlds.items():
            cells = said.cells[WORLD:] if version == 6 else said.cells[:WORLD]
            base = self.base(version) + world * WORLD
            at = 0
            for held, run in groupby(cells, lambda cell: cell >> bit & 1):
                start, at = at, at + len(list(run))
                if held:
                    yield base + start, base + at - 1


# ---- what the daemon does, without a kernel ----


class Player:
    """States, and tables that do what plans say: by version, prefix (first address, length) to (source, range)."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.state = State()
        self.tables: dict[int, dict] = {4: {}, 6: {}}
        self.blocked = {caller: Listing.empty() for caller in CALLERS}
        self.texts: dict[str, tuple[list, Listing]] = {}

    def take(self, step: Step) -> tuple[int, int]:
        """How many entries came and went."""
        for world, said in step.worlds.items():
            for caller, is_block, line in said.requests:
                one = listing([Row(line.version, *self.setting.span(world, line), 0, "", line.until)])
                self.blocked[caller] = (combined if is_block else without)(self.blocked[caller], one)
        written = {name: self.text(name, step) for name in step.order} | self.blocked
        sources = [
            self.source(name, text.in_force(step.now_s), text, "monitor" if name in step.monitoring else "block")
            for name, text in written.items()
        ]
        allow = self.text("allow", step).in_force(step.now_s)
        after = State(sources, Exempt([Exempting("allow", "blocklist", allow)]))
        change = plan(self.state, after)
        for version, each in change.changes.items():
            for key in as_dict(version, each.removed):
                del self.tables[version][key]
            self.tables[version] |= as_dict(version, each.written)
        self.state = after
        return change.counted.added, change.counted.removed

    def text(self, name: str, step: Step) -> Listing:
        """Of a text that did not change the daemon has the same object as before, too."""
        said: list = [(world, lines_in(name, each)) for world, each in step.worlds.items()]
        if name == DATABASE:
            said = [step.select, *((world, each.cells) for world, each in step.worlds.items())]
            if name not in self.texts or self.texts[name][0] != said:
                self.texts[name] = said, self.selections(step)
        if name not in self.texts or self.texts[name][0] != said:
            lines = [(world, line) for world, lines in said for line in lines]
            rows = [
                Row(line.version, *self.setting.span(world, line), number, "", line.until)
                for number, (world, line) in enumerate(lines, start=1)
            ]
            self.texts[name] = said, listing(rows)
        return self.texts[name][1]

    def selections(self, step: Step) -> Listing:
        codes = sorted(CODES[bit] for bit in step.select)
        members = {}
        for version, family in FAMILIES.items():
            keys, rows = [family.empty_keys()], [np.zeros(0, np.uint32)]
            for bit in step.select:
                for first, last in self.setting.selected(version, step, bit):
                    keys.append(family.split(family.address(first), family.address(last))[1])
                    rows.append(np.full(len(keys[-1]), codes.index(CODES[bit]), np.uint32))
            places = order_of(np.concatenate(keys))
            members[version] = Members(np.concatenate(keys)[places], np.concatenate(rows)[places])
        lines = [1 + [CODES[bit] for bit in step.select].index(code) for code in codes]
        return Listing.of_selections(Selections.of(np.array(codes, np.uint64), np.array(lines, np.uint32), members))

    def source(self, name: str, now: Listing, text: Listing, action: str) -> Source:
        for known in self.state.sources:
            if known.name == name and known.written is text and known.listing.count == now.count:
                return known if known.action == action else replace(known, action=action)
        return Source(name, NUMBERS[name], now, action=action, written=text)

    def answers(self, version: int) -> list:
        """Who is credited with each address, by longest match: (name, monitors, first, last); None: it passes."""
        cells, family = self.setting.clean(), FAMILIES[version]
        names = {number: name for name, number in NUMBERS.items()}
        for (first, length), (number, ends) in sorted(self.tables[version].items(), key=lambda each: each[0][1]):
            last = first + (1 << family.width - length) - 1
            who = names.get(number & ~int(MONITORS)), number >= MONITORS
            answer = None if number == EXEMPT else (*who, *(ends or (first, last)))
            self.setting.painted(cells, version, first, last, answer)
        return cells


def lines_in(name: str, said: Said) -> tuple[Line, ...]:
    return said.allow if name == "allow" else said.texts.get(name, ())


def listing(rows: list[Row]) -> Listing:
    builder = Builder()
    for row in rows:
        builder.add(row)
    return builder.listing()


def as_dict(version: int, records: Records) -> dict:
    family = FAMILIES[version]
    prefixes = zip(family.ints(family.firsts(records.keys)), family.lengths(records.keys).tolist(), strict=True)
    ranges = zip(*map(family.ints, family.ends_of_ranges(records.ranges)), strict=True)
    codes = family.selections_in(records.ranges).tolist()
    ends = ((code, code) if code else ends if any(ends) else None for code, ends in zip(codes, ranges, strict=True))
    answers = zip(records.sources.tolist(), ends, strict=True)
    return dict(zip(prefixes, answers, strict=True))


# ---- what the contract says ----


class Model:
    """The texts as they are, and until when callers block what."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.blocked: dict[str, dict[tuple[int, int, int], float | None]] = {caller: {} for caller in CALLERS}
        self.entries: dict[str, set] = {}
        self.step = Step(0, (), {})

    def take(self, step: Step) -> tuple[int, int]:
        """How many entries came and went; one that is listed twice by one source is one."""
        self.step = step
        for world, said in step.worlds.items():
            for caller, is_block, line in said.requests:
                place = (line.version, *self.setting.span(world, line))
                if is_block:
                    self.blocked[caller][place] = line.until
                else:
                    self.blocked[caller].pop(place, None)
        before, self.entries = self.entries, {name: set() for name in NUMBERS}
        for *_, name, entry, _, _, _ in self.in_force():
            self.entries[name].add(entry)
        self.entries[DATABASE] = {CODES[bit] for bit in step.select} if DATABASE in step.order else set()
        came, went = (
            sum(len(new - old.get(name, set())) for name, new in now.items())
            for now, old in ((self.entries, before), (before, self.entries))
        )
        return came, went

    def lasts(self, until: float | None) -> bool:
        return until is None or until > self.step.now_s

    def text(self, name: str) -> Iterator[tuple[int, int, int, int]]:
        """What lasts of a text: line, version, first and last address."""
        number = 0
        for world, said in self.step.worlds.items():
            for line in lines_in(name, said):
                number += 1
                if self.lasts(line.until):
                    yield number, line.version, *self.setting.span(world, line)

    def in_force(self) -> Iterator[tuple]:
        """Every part of every entry, in whose order the first decides; no two are alike.

        Whether it monitors, size, place of its source, line, whether it is a range; name and entry; version, first and
        last address. What callers block has no lines: there a network comes before a range.
        """
        for order, name in enumerate((*self.step.order, *CALLERS)):
            monitors = name in self.step.monitoring
            if name == DATABASE:
                for line, bit in enumerate(self.step.select):
                    parts = [
                        (version, *part)
                        for version in FAMILIES
                        for part in self.setting.selected(version, self.step, bit)
                    ]
                    size = sum(last - first + 1 for _, first, last in parts)
                    for part in parts:
                        yield monitors, size, order, line, True, name, (SELECTED, CODES[bit], CODES[bit]), *part
                continue
            if name in TEXTS:
                found = self.text(name)
            else:
                found = ((0, *place) for place, until in self.blocked[name].items() if self.lasts(until))
            for line, *entry in found:
                _, first, last = entry
                differing = first ^ last
                is_range = bool(differing & (differing + 1) or first & differing)
                yield monitors, last - first + 1, order, line, is_range, name, tuple(entry), *entry

    def answers(self, version: int, *, is_allowed: bool = True) -> list:
        """Who is credited with each address; `is_allowed`: those that are allowed pass."""
        cells = self.setting.clean()
        for monitors, *_, name, entry, family, first, last in sorted(self.in_force(), reverse=True):
            if family == version:
                self.setting.painted(cells, version, first, last, (name, monitors, *entry[1:]))
        if is_allowed:
            for _, family, first, last in self.text("allow"):
                if family == version:
                    self.setting.painted(cells, version, first, last, None)
        return cells


# ---- both, side by side ----


def play(setting: Setting, history: list[Step]) -> tuple[str, int]:
    """What is wrong first, and in which world; "" if all is right."""
    player, model, rng = Player(setting), Model(setting), Random(0)
    for number, step in enumerate(history, start=1):
        try:
            counted, expected_counts = player.take(step), model.take(step)
        except Exception as problem:  # noqa: BLE001  # whatever it is, it is to be made shorter and shown
            return f"step {number}: {type(problem).__name__}: {problem}", 0
        if counted != expected_counts:
            return f"step {number}: {counted} entries came and went, not {expected_counts}", 0
        for version in FAMILIES:
            fresh = as_dict(version, player.state.records(version))
            if player.tables[version] != fresh:
                first, length = place = min(player.tables[version].items() ^ fresh.items())[0]
                held, wanted = player.tables[version].get(place), fresh.get(place)
                at = max(0, min(first - setting.base(version), setting.count * WORLD - 1))
                problem = f"at {first}/{length} the tables hold {held}, a fresh start has {wanted}"
                return f"step {number}: {problem}", at // WORLD
            expected, said = model.answers(version), player.answers(version)
            listed = model.answers(version, is_allowed=False)
            asked = range(len(said)) if setting.count == 1 else rng.sample(range(len(said)), 10)
            for at in asked:
                address = setting.base(version) + at
                held = player.state.holder(version, address)
                found = held and (held[0].name, held[0].monitors, held[1].first, held[1].last)
                if found != listed[at]:
                    problem = f"lookup of IPv{version} address {at} says {found}, not {listed[at]}"
                    return f"step {number}: {problem}", at // WORLD
            for at, (one, other) in enumerate(zip(said, expected, strict=True)):
                if one != other:
                    return f"step {number}: IPv{version} address {at} is {one}'s, not {other}'s", at // WORLD
    return "", 0


def must_be_right(setting: Setting, history: list[Step], seed: int) -> None:
    problem, world = play(setting, history)
    if problem:
        setting, history = shortened(setting, history, world)
        steps = "".join(f"    {step},\n" for step in history)
        pytest.fail(
            f"history {seed} fails: {problem}\nso does\n{setting}, [\n{steps}]\n{play(setting, history)[0]}",
            pytrace=False,
        )


# ---- making histories, and making them shorter ----


class World:
    """One world's part of a history. Each has its own taste: some are all addresses, some all networks."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.versions = rng.choice(((4, 6), (4, 6), (4,), (6,)))
        self.size = rng.choice((2, 4, 8, WORLD, WORLD))
        self.wide_share = rng.choice((0, 0.4, 0.8))
        self.says = rng.choice(((None,), (None, None, None, 1.5, 3.5)))
        self.said = Said({name: self.lines(5) for name in TEXTS}, self.lines(1), (), self.recorded((0,) * 2 * WORLD))

    def next(self) -> Said:
        """Mostly as before."""
        (texts, allow, _, cells), requests = self.said, []
        texts = dict(texts)
        match self.rng.choice(("text", "text", "text", "cells", "allow", "block", "block", "unblock", "nothing")):
            case "cells":
                cells = self.recorded(cells)
            case "text":
                name = self.rng.choice(TEXTS)
                texts[name] = self.edited(texts[name])
            case "allow":
                allow = self.edited(allow)[:3]
            case "block":
                requests += [(self.rng.choice(CALLERS), True, line) for line in self.lines(2)]
            case "unblock":
                requests += [(self.rng.choice(CALLERS), False, line) for line in (*self.lines(3), *texts["a"])]
        self.said = Said(texts, allow, (), cells)
        return Said(texts, allow, tuple(requests), cells)

    def recorded(self, cells: tuple[int, ...]) -> tuple[int, ...]:
        """What another version of the database says: some networks have other records."""
        new = list(cells)
        for _ in range(self.rng.randint(0, 3)):
            height = self.rng.randint(0, 4)
            first = self.rng.randrange(self.size) >> height << height
            first += WORLD * (self.rng.choice(self.versions) == 6)
            new[first : first + (1 << height)] = [self.rng.choice((0, 1, 2, 4, 3, 6))] * (1 << height)
        return tuple(new)

    def edited(self, before: tuple[Line, ...]) -> tuple[Line, ...]:
        lines = list(before)
        if not lines:
            return self.lines(5)
        place, other = (self.rng.randrange(len(lines)) for _ in range(2))
        match self.rng.choice(("insert", "remove", "copy", "new", "swap", "move", "halve", "again", "anew", "end")):
            case "insert":
                lines[place:place] = self.lines(4)
            case "remove":
                del lines[place]
            case "copy":
                lines[place] = lines[other]
            case "new":
                lines[place : place + 1] = self.lines(1)
            case "anew":
                lines[:] = self.lines(len(lines))
            case "swap":
                lines[place], lines[other] = lines[other], lines[place]
            case "move":
                lines.insert(other, lines.pop(place))
            case "halve":
                del lines[: len(lines) // 2]
            case "again":
                lines.insert(other, lines[place])
            case "end":
                lines[place] = lines[place]._replace(until=self.rng.choice(self.says))
        return tuple(lines[:10])

    def lines(self, at_most: int) -> tuple[Line, ...]:
        return tuple(self.line() for _ in range(self.rng.randint(0, at_most)))

    def line(self) -> Line:
        first = last = self.rng.randrange(self.size)
        if self.rng.random() < self.wide_share:
            last = self.rng.randrange(first, self.size)
            if self.rng.random() < 0.4:  # a network
                height = self.rng.randint(1, 4)
                first = first >> height << height
                last = first + (1 << height) - 1
        return Line(self.rng.choice(self.versions), first, last, self.rng.choice(self.says))


def written(seed: int, count: int) -> tuple[Setting, list[Step]]:
    """A history of so many worlds."""
    rng = Random(seed)
    worlds = [World(rng) for _ in range(count)]
    share = rng.choice((1, 1, 0.1, 2 / count))  # of the worlds that a step changes
    order, now_s = rng.choice((TEXTS, FILES)), 0.0
    monitoring = rng.choice(((), (), ("a",), ("a", "b"), (DATABASE,), ("b", DATABASE)))
    select = (0, 1, 2)
    history = [Step(now_s, order, {at: world.said for at, world in enumerate(worlds)}, monitoring, select)]
    for _ in range(STEPS):
        match rng.choice(("order", "come or go", "wait", "everything", "monitor", "select", "", "", "", "")):
            case "order":
                order = (order[0], *rng.sample(order[1:], len(order) - 1))
            case "come or go":
                order = (TEXTS[0], *rng.sample(FILES[1:], rng.randint(0, 3)))
            case "monitor":
                monitoring = tuple(rng.sample(FILES[1:], rng.randint(0, 3)))
            case "select":
                select = tuple(rng.sample((0, 1, 2), rng.randint(1, 3)))
            case "wait":
                now_s = now_s + 1
            case "everything":
                one = rng.choice(worlds)
                line = Line(rng.choice((4, 6)), -1, -1)
                one.said = one.said._replace(texts={**one.said.texts, "a": (*one.said.texts["a"], line)})
        said = {at: world.next() if rng.random() < share else world.said for at, world in enumerate(worlds)}
        history.append(Step(now_s, order, said, monitoring, select))
    return Setting(rng.choice((0, 0.25, 1)), count), history


def shortened(setting: Setting, history: list[Step], world: int) -> tuple[Setting, list[Step]]:
    """A history that fails, of which nothing can be left out."""
    alone = [step._replace(worlds={0: step.worlds[world]}) for step in history]
    if setting.count > 1 and play(setting._replace(count=1), alone)[0]:
        setting, history = setting._replace(count=1), alone
    if setting.count == 1:  # else it takes too long
        while shorter := next((each for each in without_something(history) if play(setting, each)[0]), None):
            history = shorter
    return setting, history


def without_something(history: list[Step]) -> Iterator[list[Step]]:
    for at, step in enumerate(history):
        yield history[:at] + history[at + 1 :]
        for name in step.monitoring:
            fewer = tuple(each for each in step.monitoring if each != name)
            yield [*history[:at], step._replace(monitoring=fewer), *history[at + 1 :]]
        for bit in step.select[1:]:
            yield [
                *history[:at],
                step._replace(select=tuple(each for each in step.select if each != bit)),
                *history[at + 1 :],
            ]
        for world, (texts, allow, requests, cells) in step.worlds.items():

            def saying(said: Said, at: int = at, world: int = world) -> list[Step]:
                step = history[at]
                return [*history[:at], step._replace(worlds={**step.worlds, world: said}), *history[at + 1 :]]

            for name, lines in texts.items():
                yield from (saying(Said({**texts, name: less}, allow, requests, cells)) for less in without_one(lines))
            yield from (saying(Said(texts, less, requests, cells)) for less in without_one(allow))
            yield from (saying(Said(texts, allow, less, cells)) for less in without_one(requests))
            for place, cell in enumerate(cells):
                if cell:
                    yield saying(Said(texts, allow, requests, (*cells[:place], 0, *cells[place + 1 :])))


def without_one(items: tuple) -> Iterator[tuple]:
    return ((*items[:at], *items[at + 1 :]) for at in range(len(items)))


@pytest.mark.parametrize("batch", range(BATCHES))
def test_thousands_of_histories_give_what_starting_afresh_gives(batch: int) -> None:
    must_be_right(*written(batch, WORLDS), batch)


def test_histories_of_a_small_world_give_what_starting_afresh_gives() -> None:
    for seed in range(ALONE):
        must_be_right(*written(seed, 1), seed)


def test_an_address_that_left_a_list_with_duplicates_is_gone() -> None:
    a, b = (Line(4, at, at) for at in range(2))
    texts = [(a, a, b), (a, b, b), (b, b)]
    history = [Step(0, TEXTS, {0: Said({"a": lines})}) for lines in texts]
    assert play(Setting(0, 1), history) == ("", 0)


def test_a_shorter_history_still_fails() -> None:
    """What makes histories shorter is needed only when something is wrong; a caller that nobody knows is."""
    said = Said({"a": (Line(4, 1, 1),)}, (), (("nobody", True, Line(4, 2, 2)), ("fail2ban", True, Line(4, 3, 3))))
    history = [Step(0, TEXTS, {0: Said({}), 1: Said({})}), Step(0, TEXTS, {0: Said({}), 1: said})]
    _, shortest = shortened(Setting(0, 2), history, 1)
    assert shortest == [Step(0, TEXTS, {0: Said({"a": ()}, (), said.requests[:1])})]
