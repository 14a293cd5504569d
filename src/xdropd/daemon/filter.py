"""The filter in the kernel: the generation in force, the interfaces that carry it, and what systemd keeps of both.

Laws of this file. The link and the program array of an interface never leave the store while the interface is
filtered. What a swap brings is in the store before the first packet meets it, and the old names go when their counts
have been carried over. So at any instant a process that starts finds everything that keeps the filter attached, and
can tell what is in force: the highest generation that an interface runs, and below it what is yet to be carried over.
Whatever else it finds is left from an end between two steps, and goes.

A filter that was taken over may run a generation that cannot be read: its maps are another version's, or not all there.
Packets meet it all the same. Then `generation` is None while there are attachments, and everything here knows what that
means: nothing is known of entries, nothing small can be changed, and the next list that is put in force replaces it.

Store names: shared.MAP, if.INDEX.MAP, if.INDEX.link.MODE, gen.NUMBER.STAMP.MAPS.PART (MAPS: how many it has), sources
and sources.NUMBER, parked.NUMBER. Of what is numbered the highest counts. And blocks.NUMBER, which is logcopy.py's.
"""

import contextlib
import errno
import os
import stat
import time
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace

from xdropd.daemon.parked import Parked
from xdropd.daemon.repair import comparison, repair
from xdropd.daemon.sources import SourceNumbers
from xdropd.errors import KernelError, NotAttachable, NotKept
from xdropd.host.log import Log
from xdropd.host.systemd import Systemd
from xdropd.kernel import attachment, libbpf, shapes
from xdropd.kernel.attachment import Attachment
from xdropd.kernel.compiler import Blueprint
from xdropd.kernel.generation import (
    INTERFACE_MAPS,
    MAP_KINDS,
    ORDER_PROGRAMS,
    SHARED_MAPS,
    VERDICT_PROGRAM,
    Generation,
    Sizes,
    create,
    insist,
    is_map,
    is_program,
    make_room,
)
from xdropd.kernel.libbpf import MapShape
from xdropd.kernel.shapes import History, Volume
from xdropd.rules.plan import Plan, difference
from xdropd.rules.ruleset import EVERYTHING, VERSIONS, Layout, Listed, Region, Ruleset

_GRACE_SECONDS = 0.02  # after a swap, until no CPU runs the old program any more; a program runs for microseconds
_WORTH_EXPECTING = 50_000
_LARGE_MAPS = ("addresses4", "addresses6", "networks4", "networks6", "cells")
_LOOK_EVERY_SECONDS = 0.005
_PARKED_AT_ONCE = 50_000
_STALE_SHARE = 4  # a fresh generation once one key in so many was removed: hints are only ever set


@dataclass(slots=True)
class _Found:
    """What the store gave back, sorted by what it belongs to."""

    shared: dict[str, int] = field(default_factory=dict)
    interfaces: dict[int, dict[str, int]] = field(default_factory=dict)
    generations: dict[tuple[int, str, int], dict[str, int]] = field(default_factory=dict)
    sources: dict[int, int] = field(default_factory=dict)
    parked: dict[int, int] = field(default_factory=dict)
    useless: list[tuple[str, int]] = field(default_factory=list)

    @classmethod
    def in_store(cls, inherited: Mapping[str, list[int]]) -> "_Found":
        found = cls()
        for name, descriptors in inherited.items():
            for spare in descriptors[:-1]:
                os.close(spare)
            found.sort_in(name, descriptors[-1])
        return found

    def sort_in(self, name: str, descriptor: int) -> None:
        """Put one descriptor where its name says."""
        match name.split("."):
            case ["shared", part]:
                self.shared[part] = descriptor
            case ["if", index, *part] if index.isdigit():
                self.interfaces.setdefault(int(index), {})[".".join(part)] = descriptor
            case ["gen", number, stamp, maps, *part] if number.isdigit() and maps.isdigit():
                self.generations.setdefault((int(number), stamp, int(maps)), {})[".".join(part)] = descriptor
            case ["sources"]:
                self.sources[0] = descriptor
            case ["sources", number] if number.isdecimal():
                self.sources[int(number)] = descriptor
            case ["parked", number] if number.isdigit():
                self.parked[int(number)] = descriptor
            case _:
                self.useless.append((name, descriptor))


class Filter:
    """See the module. `blueprint` is called when maps or programs must be made, which may never be."""

    def __init__(
        self,
        systemd: Systemd,
        log: Log,
        stamp: str,
        blueprint: Callable[[], Blueprint],
    ) -> None:
        self._systemd = systemd
        self._log = log
        self._stamp = stamp
        self._blueprint = blueprint
        self._shared: dict[str, int] = {}
        self._retired: list[Generation] = []
        self._next_number = 1
        self._room: Future[int] | None = None
        self._steps = self._steps_done = 0
        self._parked = Parked()
        self._parked_file: tuple[int, int] | None = None  # its number and descriptor
        self.generation: Generation | None = None
        self.attachments: dict[int, Attachment] = {}
        self.sources = SourceNumbers()
        self._sources_file = 0  # its number

    # ---- taking over ----

    def adopt(self, inherited: Mapping[str, list[int]]) -> bool:
        """Take over what the store kept; whatever does not fit is let go.

        True if packets meet a filter, which must not end then, whether it can be read or not. The other way round,
        there may be a generation with its counts and no interface for now.
        """
        found = _Found.in_store(inherited)
        for name, descriptor in found.useless:
            self._drop({name: descriptor})
        self._shared = {name: at for name, at in found.shared.items() if is_map(at, name)}
        self._drop({f"shared.{name}": found.shared[name] for name in found.shared.keys() - self._shared.keys()})
        self._adopt_sources(found.sources)
        if found.sources:
            self._adopt_parked(found.parked)
        else:
            self._drop({f"parked.{number}": descriptor for number, descriptor in found.parked.items()})
        self._adopt_interfaces(found)
        self._adopt_generations(found)
        if not found.sources:
            self._systemd.store({_sources_name(self._sources_file): self.sources.descriptor})
        return bool(self.attachments)

    def _adopt_sources(self, files: dict[int, int]) -> None:
        """Leaves in `files` what is taken over."""
        usable = [number for number, at in files.items() if stat.S_ISREG(os.fstat(at).st_mode)]
        for number in files.keys() - {max(usable, default=-1)}:
            self._drop({_sources_name(number): files.pop(number)})
        for self._sources_file, descriptor in files.items():
            self.sources = SourceNumbers(descriptor)

    def _adopt_parked(self, files: dict[int, int]) -> None:
        if files:
            last = max(files)
            self._parked_file = last, files.pop(last)
            self._parked = Parked.in_file(self._parked_file[1])
        self._drop({f"parked.{number}": descriptor for number, descriptor in files.items()})

    def _adopt_interfaces(self, found: _Found) -> None:
        for ifindex, parts in found.interfaces.items():
            useless = set(parts)
            for mode in attachment.MODE_FLAGS:
                names = {*INTERFACE_MAPS, f"link.{mode}"}
                if ifindex in self.attachments or not names <= parts.keys():
                    continue
                maps = {name: parts[name] for name in INTERFACE_MAPS}
                candidate = Attachment(ifindex, mode, parts[f"link.{mode}"], maps)
                if candidate.is_sound:
                    self.attachments[ifindex] = candidate
                    useless -= names
            self._drop({f"if.{ifindex}.{name}": parts[name] for name in useless})
        if found.interfaces.keys() - self.attachments.keys():
            # While a link that is let go lasts, nothing else can be attached in its place. If it lasts all the same,
            # attaching fails and is tried again.
            self._systemd.barrier()

    def _adopt_generations(self, found: _Found) -> None:
        in_force = {kept.in_force for kept in self.attachments.values()}
        self._next_number = max((number for number, _, _ in found.generations), default=0) + 1
        for number, stamp, map_count in sorted(found.generations, reverse=True):
            parts = found.generations[number, stamp, map_count]
            programs = {name: parts[name] for name in parts if name.startswith("xdrop_")}
            maps = {name: parts[name] for name in parts.keys() - programs.keys()}
            is_sound = bool(found.sources) and len(maps) == map_count and self._is_sound(maps, programs)
            if is_sound and self.generation is None and (not in_force or in_force & _verdict_ids(programs)):
                self.generation = Generation(None, number, stamp, maps, programs)
            elif is_sound and self.generation is not None:
                self._retired.append(Generation(None, number, stamp, maps, programs))
            else:
                self._drop({f"gen.{number}.{stamp}.{map_count}.{name}": at for name, at in parts.items()})
        if self.generation is None:
            return
        for generation in (self.generation, *self._retired):
            for name in list(generation.programs):
                program, _, ifindex = name.partition(".")
                if program == VERDICT_PROGRAM and ifindex not in map(str, self.attachments):
                    self._systemd.forget([_name(generation, name)])
                    generation.forget_interface(ifindex)

    def _is_sound(self, maps: Mapping[str, int], programs: Mapping[str, int]) -> bool:
        """Whether everything is there, and such as this version's structures describe."""
        return (
            self._shared.keys() >= SHARED_MAPS
            and maps.keys() >= MAP_KINDS.keys() - SHARED_MAPS - INTERFACE_MAPS
            and programs.keys() >= ORDER_PROGRAMS
            and all(is_map(descriptor, name) for name, descriptor in maps.items())
            and all(is_program(descriptor, name.partition(".")[0]) for name, descriptor in programs.items())
        )

    def _drop(self, named: Mapping[str, int]) -> None:
        self._systemd.forget(named)
        for descriptor in named.values():
            os.close(descriptor)

    # ---- the list ----

    @property
    def is_current(self) -> bool:
        """Whether the generation in force was made from this version's program text."""
        return self.generation is not None and self.generation.stamp == self._stamp

    def expect(self, addresses: int) -> None:
        """Begin to make room for about so many IPv4 addresses while somebody else still reads them."""
        if self.generation is None and addresses >= _WORTH_EXPECTING:
            self._room = ThreadPoolExecutor(max_workers=1).submit(make_room, addresses)

    def _room_for(self, addresses: int) -> dict[str, int]:
        """The map that was expected, if it suits."""
        expected, self._room = self._room, None
        if expected is None or expected.exception() is not None:
            return {}
        descriptor = expected.result()
        if addresses <= libbpf.map_shape(descriptor).max_entries <= 2 * addresses:
            return {"addresses4": descriptor}
        os.close(descriptor)
        return {}

    def begin(self, ruleset: Ruleset, still_listed: Callable[[int, int, int], bool], now_s: float) -> Iterator[None]:
        """Put a list in force where only the maps, if they can be read, tell what was before.

        Yields and raises as `change` does. Interfaces that run what cannot be read change over without a gap.
        """
        if self.generation is None:
            yield from self._build(ruleset, now_s)
        else:
            plan = yield from comparison(self.generation, ruleset)
            yield from self.change(plan, still_listed, now_s)

    def renew(self, now_s: float) -> Iterator[None]:
        """Have what is in force, whatever it is, read by this version's programs. Yields and raises as `change` does.

        What cannot be read stays as it is.
        """
        if self.generation is not None and not self.is_current:
            layout = self.generation.layout()
            yield from self.change(difference(layout, layout), lambda *_: False, now_s, Region())

    def _build(self, ruleset: Ruleset, now_s: float) -> Iterator[None]:
        """A list where there is none to go on from: build, fill. Interfaces are attached after."""
        if self.attachments:
            self._insist_on_store()
        blueprint = self._blueprint()
        self._make_shared(blueprint)
        bulk = {version: list(ruleset.bulk(version)) for version in VERSIONS}
        counts = {f"addresses{version}": sum(len(keys) for _, keys in bulk[version]) for version in VERSIONS}
        wide = difference(Layout(), _without_addresses(ruleset))
        counts.update({f"networks{version}": wide.new_prefixes[version] for version in VERSIONS})
        counts["cells"] = len(wide.cells_added)
        self._steps, self._steps_done = sum(counts.values()), 0
        sizes = Sizes.to_hold(counts, self.sources.highest)
        room = self._room_for(counts["addresses4"])
        room = yield from self._large_maps(blueprint, sizes, room)
        generation = Generation.build(blueprint, self._new_number(), sizes, self._shared, self._stamp, room)
        try:
            for version in VERSIONS:
                for number, keys in bulk[version]:
                    for put in generation.fill(version, number, keys, int(now_s)):
                        self._steps_done += put
                        yield
            yield from self._counted(generation.carry_out(wide, int(now_s)))
            yield from self._make_verdicts(generation)
        except (KernelError, MemoryError):
            generation.close()
            raise
        self._put_in_force(generation)

    def change(
        self, plan: Plan, still_listed: Callable[[int, int, int], bool], now_s: float, touched: Region | None = None
    ) -> Iterator[None]:
        """Carry out a plan on the list in force, in place or by a swap. Yields now and then.

        `still_listed(version, key, source number)` says whether an entry goes out of the maps without leaving the
        list (something exempts or precedes it), so that its history is kept for its return; `touched` is where entries
        may have left the list (None: anywhere). Raises KernelError, with the old list in force, the new one, or, if
        the kernel refuses for good, at least what is in both.
        """
        generation = self.generation
        assert generation
        self.agree()
        yield from self._carry_over()
        self._parked.forget_unlisted(touched, still_listed)
        self._steps, self._steps_done = plan.steps, 0
        yield from self._park(generation, plan, still_listed)
        if not plan and self.is_current:
            return
        crowded = generation.removed_since_built * _STALE_SHARE > sum(generation.used.values()) + 4096
        if self.is_current and not crowded and generation.fits(plan):
            try:
                yield from self._counted(generation.carry_out(plan, int(now_s), self._parked))
            except KernelError as refusal:
                if refusal.errno != errno.E2BIG:
                    raise
            else:
                self._parked.forget_returned(plan.addresses_set)
                return
        yield from self._swap(generation, plan, still_listed, now_s)
        self._parked.forget_returned(plan.addresses_set)

    def _park(
        self, generation: Generation, plan: Plan, still_listed: Callable[[int, int, int], bool]
    ) -> Iterator[None]:
        for version in VERSIONS:
            for leaving in (plan.addresses_removed[version], plan.addresses_reowned[version]):
                for at, (key, number) in enumerate(leaving.items(), start=1):
                    history = generation.address_history(version, key) if still_listed(version, key, number) else None
                    if history and history.source == number:
                        self._parked.keep((version, key, number), history)
                    if at % _PARKED_AT_ONCE == 0:
                        yield
        if not self._parked.is_saved:
            self._save_parked()

    def _save_parked(self) -> None:
        """Into the store before it leaves the maps. Raises NotKept, and is not saved then."""
        self._insist_on_store()
        before = self._parked_file
        number = before[0] + 1 if before else 1
        self._parked_file = number, self._parked.snapshot()
        self._systemd.store({f"parked.{number}": self._parked_file[1]})
        if before:
            self._drop({f"parked.{before[0]}": before[1]})
        try:
            self._insist_on_store()
        except NotKept:
            self._parked.is_saved = False
            raise

    def _insist_on_store(self) -> None:
        """Wait until all that was sent is in the store. Raises NotKept.

        Asked before work begins as well, for as long as nobody answers it would be done in vain at every try. A manager
        that never gave or answered anything, unlike systemd, has no store, and then there is nothing to insist on.
        """
        if not self._systemd.barrier() and self._systemd.keeps:
            raise NotKept("have what comes into force kept", errno.ETIMEDOUT, "the service manager does not answer")

    def _swap(
        self, old: Generation, plan: Plan, still_listed: Callable[[int, int, int], bool], now_s: float
    ) -> Iterator[None]:
        """Another generation with the plan carried out, and what it takes to put it in force without a gap."""
        self._insist_on_store()
        blueprint = self._blueprint()
        self._make_shared(blueprint)
        plan = old.hand_over(plan, int(now_s), self._parked)
        sizes = Sizes.to_hold(old.counts_after(plan), self.sources.highest)
        room = yield from self._large_maps(blueprint, sizes, {})
        new = Generation.build(blueprint, self._new_number(), sizes, self._shared, self._stamp, room)
        try:
            self._steps, self._steps_done = plan.steps + sum(old.used.values()), 0
            yield from self._counted(new.clone_from(old))
            yield from self._counted(new.carry_out(plan, int(now_s), self._returning(plan, old)))
            new.removed_since_built = 0
            yield from self._make_verdicts(new)
        except (KernelError, MemoryError):
            new.close()
            raise
        self._put_in_force(new)
        yield
        time.sleep(_GRACE_SECONDS)
        yield from self._park(old, plan, still_listed)  # once more, with what was counted since
        yield from self._carry_over()

    def _returning(self, plan: Plan, old: Generation) -> dict[tuple[int, int, int], History]:
        """Histories to begin with, but for those that a change given up half-way has put into the old maps already."""
        return {
            (version, key, number): history
            for (version, key, number), history in self._parked.items()
            if plan.addresses_set[version].get(key) == number and old.address_history(version, key) is None
        }

    def _counted(self, work: Iterator[int]) -> Iterator[None]:
        for done in work:
            self._steps_done += done
            yield

    @property
    def percent(self) -> int:
        """How far the change under way is."""
        return min(100, 100 * self._steps_done // max(self._steps, 1))

    def _new_number(self) -> int:
        self._next_number += 1
        return self._next_number - 1

    def _make_verdicts(self, generation: Generation) -> Iterator[None]:
        for ifindex, kept in self.attachments.items():
            yield
            generation.verdict_program(str(ifindex), self._shared, kept.maps)

    def _large_maps(
        self, blueprint: Blueprint, sizes: Sizes, made: dict[str, int]
    ) -> Generator[None, None, dict[str, int]]:
        """What is made and the other maps that the kernel takes long over, created by a thread meanwhile."""
        large = {name: size for name in _LARGE_MAPS if (size := getattr(sizes, name)) >= _WORTH_EXPECTING}
        try:
            for name in large.keys() - made.keys():
                with ThreadPoolExecutor(max_workers=1) as pool:
                    work = pool.submit(insist, create, blueprint, name, large[name])
                    while not work.done():
                        wait([work], timeout=_LOOK_EVERY_SECONDS)
                        yield
                    made[name] = work.result()
        except (KernelError, MemoryError):
            for descriptor in made.values():
                os.close(descriptor)
            raise
        return made

    def _put_in_force(self, new: Generation) -> None:
        """Let packets meet a complete generation on every interface, or on none if the kernel refuses.

        If it refuses the way back as well, interfaces differ until `agree` succeeds; either list is in force on each.
        """
        old = self.generation
        self._systemd.store(_named(new))
        changed: list[Attachment] = []
        try:
            if self.attachments:
                self._insist_on_store()
            for ifindex, kept in self.attachments.items():
                kept.put_in_force(new.programs[f"{VERDICT_PROGRAM}.{ifindex}"])
                changed.append(kept)
        except KernelError:
            if self._went_back(old, changed):
                self._systemd.forget(_named(new))
                new.close()
                raise
            self._succeed(old, new)
            raise
        self._succeed(old, new)

    def _succeed(self, old: Generation | None, new: Generation) -> None:
        self.generation = new
        if old is not None:
            self._retired.append(old)

    def _went_back(self, old: Generation | None, changed: list[Attachment]) -> bool:
        try:
            for kept in changed:
                if old is None:
                    return False
                kept.put_in_force(old.programs[f"{VERDICT_PROGRAM}.{kept.ifindex}"])
        except KernelError:
            return False
        return True

    def _carry_over(self) -> Iterator[None]:
        """Add what retired generations have counted to the one in force, and let them go.

        What is added here is cleared there, step by step. So the next process goes on where this one died; a step that
        it died in may count twice and never gets lost. Refused by the kernel, it is tried again with the next change.
        """
        assert self.generation
        if self._retired:
            time.sleep(_GRACE_SECONDS)
        try:
            while self._retired:
                yield from self.generation.carry_from(self._retired[-1])
                retired = self._retired.pop()
                self._systemd.forget(_named(retired))
                retired.close()
        except KernelError as refusal:
            self._log.warning("counts", f"what the list before has counted is not carried over yet: {refusal}")

    def _make_shared(self, blueprint: Blueprint) -> None:
        """Whatever is not there, or not as this version has it. What is there goes once there is another."""
        for name in sorted(SHARED_MAPS):
            before = self._shared.get(name)
            if before is not None and _fits(libbpf.map_shape(before), blueprint.maps[name]):
                continue
            made = insist(create, blueprint, name)
            if before is not None:
                self._drop({f"shared.{name}": before})
            self._shared[name] = made
            self._systemd.store({f"shared.{name}": made})

    def repair(self, ruleset: Ruleset, now_s: float) -> Generator[None, None, int]:
        """Compare all that packets meet with what it should be, and mend it; in how many places it differed.

        Only this version's programs are known to read maps as they should be; before, there is nothing to compare.
        """
        if self.generation is None or not self.is_current:
            return 0
        self.agree()
        return (yield from repair(self.generation, ruleset, self._parked, int(now_s)))

    def forget_sources(self, listed: Collection[str], now_s: float) -> Iterator[None]:
        """Forget sources that left the list a day ago, and what they have counted. Right behind `repair`.

        Nothing in the maps mentions their numbers then. What waits to return, or to be carried over, may: so that goes
        first. Another source that gets such a number begins at nothing.
        """
        self.sources.note_listed(listed, now_s)
        over = self.sources.over(now_s)
        if over and self.generation is not None and self.is_current and not self._retired:
            if self._parked_file is not None:
                self._parked.forget_sources(set(over.values()))
                self._save_parked()
            for name, number in over.items():
                self.generation.clear_source(number)
                self.sources.forget(name)
                yield
        if self.sources.wants_renewal:
            self._renew_sources()

    def _renew_sources(self) -> None:
        before = {_sources_name(self._sources_file): self.sources.descriptor}
        fresh = self.sources.renewed()
        named = {_sources_name(self._sources_file + 1): fresh.descriptor}
        self._systemd.store(named)
        try:
            self._insist_on_store()
        except NotKept:
            self._drop(named)
            raise
        self._sources_file, self.sources = self._sources_file + 1, fresh
        self._drop(before)

    def choose(self, *, log_interval_ns: int, monitor: bool, pass_malformed: bool) -> bool:
        """Put settings in force; whether that made a difference. What cannot be read keeps those that it has."""
        if self.generation is None:
            return False
        value = shapes.settings(log_interval_ns, monitor, pass_malformed)
        if libbpf.lookup(self._shared["settings"], shapes.number(0), len(value)) == value:
            return False
        libbpf.update(self._shared["settings"], shapes.number(0), value)
        return True

    # ---- interfaces ----

    def attachable(self) -> tuple[Generation, Blueprint]:
        """What an interface would be given. Raises NotAttachable, KernelError or CompileError where nothing is."""
        if self.generation is None or not self.is_current:
            raise NotAttachable("there is no list of this version's making in force yet")
        return self.generation, self._blueprint()

    def attach(self, ifindex: int, mode: str, occupant: Mapping[str, object]) -> str:
        """Filter an interface. The generation in force is behind the root program before the first packet meets it.

        Returns the kernel's reason where "auto" fell back to generic mode, else "". Raises as `attachable` does.
        """
        generation, blueprint = self.attachable()
        generation.give_blueprint(blueprint)
        prepared = attachment.prepare(blueprint)
        key = str(ifindex)
        try:
            program = generation.verdict_program(key, self._shared, prepared.maps)
            insist(libbpf.set_program, prepared.maps["in_force"], 0, program)
        except KernelError:
            prepared.close()
            generation.forget_interface(key)
            raise
        # The link comes last: with it in the store, everything that tells what it runs is there.
        named = {f"if.{ifindex}.{name}": descriptor for name, descriptor in prepared.maps.items()}
        named[_name(generation, f"{VERDICT_PROGRAM}.{ifindex}")] = program
        self._systemd.store(named)
        try:
            kept, reason = attachment.attach(prepared, ifindex, mode, occupant)
        except NotAttachable:
            self._systemd.forget(named)
            generation.forget_interface(key)
            raise
        self.attachments[ifindex] = kept
        self._systemd.store(_named_attachment(kept))
        # An interface that would not stay filtered without us is better than one that is not filtered at all. The loop
        # tells of a manager that does not answer.
        self._systemd.barrier()
        return reason

    def release(self, ifindex: int) -> None:
        """Let go of an interface: it is gone, or no longer wanted."""
        kept = self.attachments.pop(ifindex)
        self._systemd.forget(_named_attachment(kept))
        kept.close()
        for generation in (self.generation, *self._retired):
            if generation is not None:
                self._systemd.forget([_name(generation, f"{VERDICT_PROGRAM}.{ifindex}")])
                generation.forget_interface(str(ifindex))

    def agree(self) -> None:
        """See that every interface has the generation in force, as an interrupted swap may have left them apart."""
        generation = self.generation
        if generation is None:
            return
        for ifindex, kept in self.attachments.items():
            name = f"{VERDICT_PROGRAM}.{ifindex}"
            if name not in generation.programs:
                if not self.is_current:
                    continue  # what takes over from it soon has a program for each interface
                generation.give_blueprint(self._blueprint())
                program = generation.verdict_program(str(ifindex), self._shared, kept.maps)
                self._systemd.store({_name(generation, name): program})
                self._systemd.barrier()  # answered or not: packets that do not meet the list in force are worse
            if kept.in_force != libbpf.program_shape(generation.programs[name]).id:
                kept.put_in_force(generation.programs[name])
                message = f"interface index {ifindex} did not meet the list in force, which was repaired"
                self._log.warning("reconcile", message)

    def problems(self) -> list[str]:
        """What is wrong with the filter, by looking at it: for the watchdog. Cheap."""
        found = [
            f"interface index {ifindex} is not filtered any more"
            for ifindex, kept in self.attachments.items()
            if not kept.is_attached or not kept.in_force
        ]
        settings = self._shared.get("settings")
        if settings is not None and libbpf.lookup(settings, shapes.number(0), shapes.SETTINGS_BYTES) is None:
            found.append("the maps cannot be read")
        return found

    # ---- what it counted ----

    def history_of(self, version: int, key: int, number: int) -> History | None:
        """What is known of an address entry of a source, credited now or kept for its return."""
        history = self.generation.address_history(version, key) if self.generation else None
        return history if history and history.source == number else self._parked.get((version, key, number))

    def history_of_network(self, listed: Listed) -> History | None:
        """What is known of a network or range."""
        return self.generation.cell_history(listed) if self.generation else None

    def listed_in(self, cell: int) -> Listed | None:
        """The network or range that a sample names by its cell."""
        return self.generation.listed_in(cell) if self.generation else None

    def source_volume(self, number: int) -> Volume:
        """What was dropped on behalf of a source, by entries that are gone as well."""
        return self.generation.source_volume(number) if self.generation else Volume(0, 0)

    def samples(self) -> Iterator[shapes.Sample]:
        """Sampled drops since the last call. If the kernel refuses, there are none, and nothing else depends on it."""
        queue = self._shared.get("samples")
        with contextlib.suppress(KernelError):
            while queue is not None and (found := libbpf.pop(queue, shapes.SAMPLE_BYTES)) is not None:
                yield shapes.read_sample(found)


def _without_addresses(ruleset: Ruleset) -> Layout:
    return ruleset.layout(Region(windows=set(EVERYTHING.values())))


def _verdict_ids(programs: Mapping[str, int]) -> set[int]:
    return {libbpf.program_shape(programs[name]).id for name in programs if name.startswith(VERDICT_PROGRAM)}


def _fits(there: MapShape, wanted: MapShape) -> bool:
    return replace(there, name="") == replace(wanted, name="")


def _sources_name(number: int) -> str:
    return f"sources.{number}" if number else "sources"


def _name(generation: Generation, part: str) -> str:
    return f"gen.{generation.number}.{generation.stamp}.{len(generation.maps)}.{part}"


def _named(generation: Generation) -> dict[str, int]:
    return {_name(generation, part): at for part, at in {**generation.maps, **generation.programs}.items()}


def _named_attachment(kept: Attachment) -> dict[str, int]:
    parts = {**kept.maps, f"link.{kept.mode}": kept.link}
    return {f"if.{kept.ifindex}.{part}": descriptor for part, descriptor in parts.items()}
