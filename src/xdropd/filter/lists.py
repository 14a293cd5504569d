"""The list in force, and how it becomes what is desired: in place, or by a swap of generations.

Knows generations; does not know interfaces: `put_in_force` makes packets meet a program on all of them. A change is a
generator, so that other events have their turn; its long steps go through `aside`, which may do them in another thread.
One change at a time.
"""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from functools import partial
from typing import Protocol

from xdropd import memory
from xdropd.columns.listing import Kind
from xdropd.columns.prefixes import FAMILIES, match, without
from xdropd.errors import KernelError, ProgramRefused, Unavailable
from xdropd.filter.counting import Aside, Counting, Entries, since_of
from xdropd.filter.proof import Proof
from xdropd.filter.store import Store
from xdropd.kernel.compiler import Blueprint
from xdropd.kernel.generation import Generation, Sizes, counts_of
from xdropd.rules.desired import Desired
from xdropd.rules.plan import Changed, Counted, Plan, changed, difference, plan
from xdropd.rules.winners import Records, State

NO_LIST_YET = "no list could be put in force since xdropd started, what was in force before stays in force"

_ROOM_A_ROW = 64  # bytes, for the arithmetic
_STALE_SHARE = 4  # a fresh generation once one record in so many was removed: hints are only ever set
_MOST = 0.75  # of the records: exempt ones stay, when all that is listed goes
_REFUSALS = (KernelError, OSError, MemoryError)
_SWAP_OVER = 1 << 16  # removing so many records one by one takes longer than starting without them


class Programs(Protocol):
    """Where the program comes from, when maps or a program must be made, which may never be."""

    wants_replies: bool
    why_no_replies: str

    @property
    def passes_replies(self) -> bool:
        """Whether it lets replies pass."""

    @property
    def stamp(self) -> str:
        """Equal stamps, equal programs."""

    def is_made_from(self, stamp: str) -> bool:
        """Whether a program with this stamp was made from the same text, whatever was chosen."""

    def prepare(self) -> None:
        """Have `blueprint` answer soon."""

    def waits(self, seconds: float) -> bool:
        """Whether it would not, after so many seconds at most."""

    def blueprint(self) -> Blueprint:
        """The program. Raises CompileError."""


class Lists:
    """See the module. `state` is what is in force, None before there was any list that this process put there or knows.

    `put_in_force(new, old)` raises KernelError where the kernel refuses and everything is as it was before. `say` is
    told what is being done, and "" at the end.
    """

    def __init__(
        self,
        store: Store,
        counting: Counting,
        proof: Proof,
        program: Programs,
        put_in_force: Callable[[Generation, Generation | None], None],
        aside: Aside,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.desired = Desired()
        self.state: State | None = None
        self.next_end_s = float("inf")
        self.is_doubtful = False
        """Whether a change failed half-way, so that the kernel may hold something else."""
        self._store = store
        self._counting = counting
        self._proof = proof
        self._program = program
        self._put_in_force = put_in_force
        self._aside = aside
        self._say = say
        self._next_number = 1
        self._steps = self._done = 0

    @property
    def count(self) -> int:
        """How many entries are in force."""
        return self.state.count if self.state else 0

    @property
    def source_names(self) -> set[str]:
        """Of all that lists something."""
        return {source.name for source in self.state.sources} if self.state else set()

    def known(self) -> State:
        """The state. Raises Unavailable where only the kernel knows it."""
        if self.state is None:
            raise Unavailable(NO_LIST_YET, "xdropctl status tells why")
        return self.state

    @property
    def is_current(self) -> bool:
        """Whether packets meet the program that they should, made from this version's text and as it is chosen."""
        generation = self._counting.generation
        return generation is not None and generation.stamp == self._program.stamp

    @property
    def is_of_this_version(self) -> bool:
        """Whether the generation in force was made from this version's program text."""
        generation = self._counting.generation
        return generation is not None and self._program.is_made_from(generation.stamp)

    def number_after(self, highest: int) -> None:
        """New generations get higher numbers than those that were found."""
        self._next_number = highest + 1

    # ---- changing ----

    def change_to(self, desired: Desired, now_s: float, aside: Aside | None = None) -> Generator[None, None, Counted]:
        """Put in force what is desired, whatever was before; how many entries came and went.

        Raises KernelError, CompileError, MemoryError or OSError where that fails; nothing here has changed then.
        """
        aside = aside or self._aside
        before = self.state
        self._say("comparing the lists with those in force")

        def compare() -> tuple[State, Plan | None, Counted]:
            memory.see_room_for(_ROOM_A_ROW * desired.weight)  # numpy (2.2) does not always survive that there is none
            after = desired.state(now_s, self._counting.sources.number_of, before)
            change = changed(before or State(), after)
            if before is None or self.is_doubtful or self._is_most(change):
                return after, None, change.counted
            return after, plan(before, after, change), change.counted

        after, change, counted = yield from aside(compare)
        if change is not None:
            work, what = self.change(change, now_s, aside), f"{change.count} changes"
        else:
            yield from self.await_program()
            is_known = before is not None and not self.is_doubtful
            work = self.replace(after, now_s, aside) if is_known else self.begin(after, now_s, aside)
            what = f"{after.count} entries"
        for _ in work:
            self._say(f"putting {what} in force: {min(100, 100 * self._done // max(self._steps, 1))} %")
            yield
        self._say("")
        self.desired, self.state = desired, after
        self.next_end_s = after.next_end_s
        return counted

    def prepare_program(self) -> None:
        """Have it compiled meanwhile, where something must be made of it."""
        if not self.is_current:
            self._program.prepare()

    def await_program(self) -> Iterator[None]:
        """Until it is compiled, where something must be made of it."""
        self.prepare_program()
        while self._program.waits(0.05):
            self._say("compiling the BPF program")
            yield

    def begin(self, after: State, now_s: float, aside: Aside) -> Iterator[None]:
        """Put a list in force where only the maps, if they can be read, tell what was before. Raises as `change`."""
        generation = self._counting.generation
        if generation is None:
            yield from self._swap(after, now_s)
        else:
            change, _ = yield from aside(lambda: self._compared(generation, after))
            yield from self.change(change, now_s, aside)

    def renew(self) -> Iterator[None]:
        """Have what is in force, whatever it is, read by this version's program. Raises as `change` does.

        What cannot be read stays as it is.
        """
        yield from self.await_program()
        generation = self._counting.generation
        if generation is not None and not self.is_current:
            records = yield from self._aside(lambda: _found_in(generation))
            yield from self._swap(None, time.time(), records)

    def replace(self, after: State, now_s: float, aside: Aside) -> Iterator[None]:
        """Put a list in force that has little in common with the one before it. Raises as `change`."""
        if self._counting.retired:
            yield from self._counting.merge_retired(self.state)
        yield from self._swap(after, now_s)
        yield from self._tidied(after, aside)

    def change(self, change: Plan, now_s: float, aside: Aside) -> Iterator[None]:
        """Make one state of another, in place or by a swap.

        Raises KernelError, CompileError or MemoryError, with the old list in force, the new one, or, if the kernel
        refuses for good, at least what is in both.
        """
        generation = self._counting.generation
        assert generation
        if self._counting.retired:
            yield from self._counting.merge_retired(change.before)
        if change.count or not self.is_current:
            is_done = False
            if self._is_in_place(generation, change):
                leaving = yield from aside(lambda: self._counting.live(change.leaving()))
                saved = self._counting.saved_with(leaving)
                self._store.keep_saved(saved)  # a process that ends from here on may count twice, and loses nothing
                is_done = yield from aside(lambda: self._is_carried_out(generation, change, now_s, leaving))
                self._counting.saved = saved if is_done else self._counting.saved
            if not is_done:
                yield from self._swap(change.after, now_s)
        yield from self._tidied(change.after, aside)

    def repair(self, state: State, now_s: float, aside: Aside) -> Generator[None, None, int]:
        """Compare all that packets meet with what it should be, and mend it; in how many places it differed.

        Only this version's program is known to read maps as they should be; before, there is nothing to compare.
        """
        generation = self._counting.generation
        if generation is None or not self.is_of_this_version:
            return 0
        yield from self._counting.merge_retired(state)
        change, differing = yield from aside(lambda: self._compared(generation, state))
        if change.count:
            yield from self.change(change, now_s, aside)
        return differing + change.count

    def _compared(self, generation: Generation, state: State) -> tuple[Plan, int]:
        """What makes the maps hold a state, whatever they hold; and in how many places hints and ranges differed."""
        changes, differing = {}, 0
        generation.ranges.learn()
        for version in FAMILIES:
            wanted = state.records(version)
            there, strays = generation.read(version)
            differing += strays + generation.mend_hints(version, wanted)
            changes[version] = difference(there, wanted)
        return Plan(state, state, changes, Counted()), differing

    def _is_most(self, change: Changed) -> bool:
        """Whether so much changes that it takes less to begin anew than to find out what stays."""
        generation = self._counting.generation
        return generation is None or change.count > max(_SWAP_OVER, _MOST * generation.used)

    def _is_in_place(self, generation: Generation, change: Plan) -> bool:
        used = generation.used
        is_crowded = (generation.removed_since_built + change.removed) * _STALE_SHARE > used + (1 << 14)
        has_little_left = change.removed > _SWAP_OVER and 2 * change.removed > used
        return self.is_current and not is_crowded and not has_little_left and generation.fits(change.changes)

    def _is_carried_out(self, generation: Generation, change: Plan, now_s: float, leaving: list[Entries]) -> bool:
        """Change the maps in force; False if they turn out too small, with part of the change done.

        What the kernel refuses to take out goes on counting where it is: then only what is gone is saved.
        """
        self._steps, self._done = change.count, 0
        self._proof.withdraw()
        try:
            for done in generation.carry_out(change.changes, int(now_s)):
                self._done += done
        except KernelError as refusal:
            gone = []
            for kind, source, keys, stats in leaving:
                rows = match(keys, without(keys, generation.stats_of(kind.version, source, keys)[0]))[0]
                gone.append((kind, source, keys[rows], stats[rows]))
            self._counting.saved = self._counting.saved_with(gone)
            self._counting.saved.is_stored &= not leaving
            if refusal.errno != errno.E2BIG:
                raise
            return False
        return True

    def _swap(self, after: State | None, now_s: float, records: Mapping[int, Records] | None = None) -> Iterator[None]:
        """Another generation with all of a state, and what it takes to put it in force without a gap.

        Without a state, with `records`, whatever they are of.
        """
        self._store.insist()
        blueprint = self._program.blueprint()
        shared = self._store.shared(self._program.blueprint)
        new = yield from self._aside(lambda: self._built(blueprint, shared, records or _records_of(after), int(now_s)))
        old = self._counting.generation
        try:
            self._store.keep_generation(new)
            self._put_in_force(new, old)
        except (KernelError, MemoryError):
            self._store.drop_generation(new)
            raise
        self._counting.generation = new
        if old is not None:
            self._counting.retired.append(old)
        with contextlib.suppress(*_REFUSALS):  # the list is in force; its predecessor is read where it is until then
            yield from self._counting.merge_retired(after)

    def _built(
        self, blueprint: Blueprint, shared: Mapping[str, int], records: Mapping[int, Records], now_s: int
    ) -> Generation:
        highest = max((int(each.numbers.max()) for each in records.values() if len(each.sources)), default=0)
        sizes = Sizes.to_hold(counts_of(records), highest)
        program = self._program

        def fill(new: Generation) -> None:
            self._steps, self._done = sum(len(each.keys) for each in records.values()), 0
            for version, each in records.items():
                for done in new.fill(version, each, since_of(version, each, self._counting.readable, now_s)):
                    self._done += done

        self._next_number += 1
        build = partial(Generation.build, blueprint, self._next_number - 1, sizes, shared, fill=fill)
        try:
            return build(program.stamp, pass_replies=program.passes_replies)
        except ProgramRefused as refusal:
            if not program.passes_replies or refusal.errno == errno.ENOMEM:
                raise
            program.why_no_replies = str(refusal)  # this kernel gets the program that drops them
        return build(program.stamp)

    def _tidied(self, after: State, aside: Aside) -> Iterator[None]:
        with contextlib.suppress(*_REFUSALS):  # it is in force; what is left is let go after the next change
            yield from aside(lambda: self._forget_unlisted(after))

    def _forget_unlisted(self, state: State) -> None:
        """Let go of the counters of entries that are not listed any more."""
        listings = {source.number: source.listing for source in state.sources}
        self._counting.saved.keep_listed(listings)
        if self._counting.generation:
            ranges = self._counting.generation.ranges
            for version, number in ranges.owners:
                known = ranges.keys_of((version, number))
                kind = Kind(version, is_range=True)
                listed = listings[number].table(kind).keys if number in listings else known[:0]
                if len(gone := without(known, listed)):
                    self._proof.withdraw()
                    ranges.remove((version, number), gone)


def _found_in(generation: Generation) -> dict[int, Records]:
    """What its maps hold. Without knowing the ranges, their pieces would be read as nobody's."""
    generation.ranges.learn()
    return {version: generation.read(version)[0] for version in FAMILIES}


def _records_of(state: State | None) -> dict[int, Records]:
    return {version: (state or State()).records(version) for version in FAMILIES}
