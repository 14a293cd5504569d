"""The filter in the kernel: the list in force, the interfaces that carry it, and what was taken over of both.

So that at any instant a process that starts finds everything that keeps the filter attached, and can tell what is in
force: the highest generation that an interface runs, and below it what has counted and is not saved yet. Whatever else
it finds is left from an end between two steps, and goes.

A filter that was taken over may run a generation that cannot be read: its maps are another version's, or not all there.
Packets meet it all the same. Then `generation` is None while there are attachments, and everything here knows what that
means: nothing is known of entries, nothing small can be changed, and the next list that is put in force replaces it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import reduce

from xdropd.errors import KernelError, NotAttachable
from xdropd.filter.counting import Aside, Counting
from xdropd.filter.firstversion import FirstVersionsGeneration, parked_counts
from xdropd.filter.interfaces import starts_with_ip
from xdropd.filter.lists import Lists, Programs
from xdropd.filter.nextprogram import NextProgram
from xdropd.filter.proof import Proof, Proven
from xdropd.filter.store import Found, Named, Store
from xdropd.host.log import Log
from xdropd.host.netlink import Netlink
from xdropd.host.systemd import Systemd
from xdropd.kernel import abi, attachment, libbpf
from xdropd.kernel.abi import VERDICTS, Volume
from xdropd.kernel.attachment import INTERFACE_MAPS, Attachment
from xdropd.kernel.compiler import Blueprint
from xdropd.kernel.generation import VERDICT_PROGRAM, Generation, is_map, is_program
from xdropd.kernel.hooks import HOOKS
from xdropd.kernel.tables.volumes import InterfaceSlots
from xdropd.text.settings import Settings


class Filter:
    """See the module. The `program` is asked when maps or programs must be made, which may never be."""

    def __init__(
        self,
        systemd: Systemd,
        log: Log,
        netlink: Netlink,
        program: Programs,
        aside: Aside,
        say: Callable[[str], None],
    ) -> None:
        self._log = log
        self._netlink = netlink
        self._program = program
        self._store = Store(systemd)
        self.proof = Proof(self._store)
        self.proven: Proven | None = None
        """Of the filter that was taken over; None where all has to be compared."""
        self.counting = Counting(self._store, aside)
        self.lists = Lists(self._store, self.counting, self.proof, program, self._put_in_force, aside, say)
        self.next_program = NextProgram(self._store)
        self.attachments: dict[int, Attachment] = {}
        self._ports: dict[int, set[int]] = {}  # of bonds, by index

    @property
    def generation(self) -> Generation | None:
        """What packets meet; None where there is nothing that this version understands."""
        return self.counting.generation

    @property
    def is_of_this_version(self) -> bool:
        """Whether the generation in force was made from this version's program text."""
        return self.lists.is_of_this_version

    # ---- taking over ----

    def adopt(self, inherited: Mapping[str, list[int]]) -> bool:
        """Take over what the store kept; whatever does not fit is let go.

        True if packets meet a filter, which must not end then, whether it can be read or not. The other way round,
        there may be a generation with its counts and no interface for now.
        """
        found = Found.given_back(inherited)
        self._store.drop(found.useless)
        for name, descriptor in found.shared.items():
            if name in abi.SHARED_MAPS and is_map(descriptor, name):
                self._store.adopt_shared(name, descriptor)
            else:
                self._store.drop({f"shared.{name}": descriptor})
        self._adopt_sources(found)
        self._adopt_interfaces(found)
        self._adopt_generations(found)
        self.proven = self.proof.found(found.proof, self.generation if self.attachments else None)
        return bool(self.attachments)

    def _adopt_sources(self, found: Found) -> None:
        """Numbers of sources and saved counters, which mean nothing without them."""
        self.counting.sources = self._store.adopt_sources(found.sources)
        if not found.sources:
            self._store.drop({f"saved.{number}": descriptor for number, descriptor in found.saved.items()})
            self._store.drop({f"parked.{number}": descriptor for number, descriptor in found.parked.items()})
            return
        self.counting.saved = self._store.adopt_saved(found.saved)
        for number, descriptor in sorted(found.parked.items(), reverse=True):
            if number == max(found.parked) and not found.saved:
                for kind, source, key, stats in parked_counts(descriptor):
                    self.counting.saved.add(kind, source, key, stats)
            self._store.drop({f"parked.{number}": descriptor})

    def _adopt_interfaces(self, found: Found) -> None:
        for ifindex, parts in found.interfaces.items():
            useless = set(parts)
            for mode in HOOKS:
                names = {*INTERFACE_MAPS, f"link.{mode}"}
                if ifindex in self.attachments or not names <= parts.keys():
                    continue
                maps = {name: parts[name] for name in INTERFACE_MAPS}
                candidate = Attachment(ifindex, mode, parts[f"link.{mode}"], maps)
                if candidate.is_sound:
                    self.attachments[ifindex] = candidate
                    useless -= names
            self._store.drop({f"if.{ifindex}.{name}": parts[name] for name in useless})
        if found.interfaces.keys() - self.attachments.keys():
            # While a link that is let go lasts, nothing else can be attached in its place. If it lasts all the same,
            # attaching fails and is tried again.
            self._store.barrier()

    def _adopt_generations(self, found: Found) -> None:
        in_force = {kept.in_force for kept in self.attachments.values()}
        for (number, stamp, part_count), parts in sorted(found.generations.items(), reverse=True):
            if found.sources and number > self.counting.saved.merged:
                if self._is_sound(parts, part_count):
                    generation = Generation(number, stamp, _maps_of(parts), parts[VERDICT_PROGRAM])
                    if self.counting.generation is not None:
                        self.counting.retired.append(generation)
                        continue
                    if not in_force or generation.program_id in in_force:
                        self.counting.generation = generation
                        continue
                elif FirstVersionsGeneration.is_one(parts):
                    self.counting.retired.append(FirstVersionsGeneration(number, stamp, part_count, parts))
                    continue
            self._store.drop({f"gen.{number}.{stamp}.{part_count}.{name}": at for name, at in parts.items()})
        numbers = [number for number, _, _ in found.generations]
        self.lists.number_after(max([self.counting.saved.merged, *numbers]))

    def _is_sound(self, parts: Named, part_count: int) -> bool:
        """Whether everything is there, and such as this version's structures describe."""
        return (
            self._store.shared_maps.keys() >= abi.SHARED_MAPS
            and parts.keys() == abi.LIST_MAPS | {VERDICT_PROGRAM}
            and len(parts) == part_count
            and all(is_map(parts[name], name) for name in abi.LIST_MAPS)
            and is_program(parts[VERDICT_PROGRAM], VERDICT_PROGRAM)
        )

    # ---- interfaces ----

    def attachable(self) -> tuple[Generation, Blueprint]:
        """What an interface would be given. Raises NotAttachable, KernelError or CompileError where nothing is."""
        if self.generation is None or not self.is_of_this_version:
            raise NotAttachable("there is no list of this version's making in force yet")
        return self.generation, self._program.blueprint()

    def attach(self, ifindex: int, mode: str, occupant: int, *, starts_with_ip: bool = False) -> str:
        """Filter an interface, whose packets may start with IP. `occupant`: the id of the program that is there, or 0.

        The generation in force is behind the entry stub before the first packet meets it.

        Returns the kernel's reason where "auto" fell back to generic mode, else "". Raises as `attachable` does.
        """
        generation, blueprint = self.attachable()
        prepared = attachment.prepare(blueprint)
        try:
            libbpf.set_program(prepared.maps[abi.INTERFACE_MAP], 0, generation.program)
            self._slots.give(ifindex, starts_with_ip=starts_with_ip)
        except KernelError:
            prepared.close()
            raise
        # The link comes last: with it in the store, everything that tells what it runs is there.
        self._store.keep_interface(ifindex, prepared.maps)
        try:
            kept, reason = attachment.attach(prepared, ifindex, mode, occupant)
        except NotAttachable:
            self._store.forget_interface(ifindex, prepared.maps)
            self._slots.take_back(ifindex)
            raise
        self.attachments[ifindex] = kept
        self._store.keep_link(kept)
        # An interface that would not stay filtered without us is better than one that is not filtered at all. The loop
        # tells of a manager that does not answer.
        self._store.barrier()
        return reason

    def release(self, ifindex: int) -> None:
        """Let go of an interface: it is gone, or no longer wanted."""
        self._store.drop_attachment(self.attachments.pop(ifindex))
        for each in (ifindex, *self._ports.pop(ifindex, ())):
            if each not in self.attachments:
                self._slots.take_back(each)

    def count_ports(self, ifindex: int, ports: Iterable[int]) -> None:
        """Count what comes in on these for a bond: the kernel runs the program that is on it natively on its ports.

        What those have counted that have left it stays with it.
        """
        if not self.can_count:
            return
        known = self._ports.setdefault(ifindex, set())
        for port in set(ports) - known - self.attachments.keys():
            self._slots.give(port)
            known.add(port)

    def settle(self) -> None:
        """Have the service manager let go of what was released as well."""
        self._store.barrier()

    def totals(self, ifindex: int) -> dict[str, Volume]:
        """Frames and bytes by verdict since the interface was attached."""
        before = self.attachments[ifindex].seen_by_first_version
        if not self.can_count:
            return before
        ports = self._ports.get(ifindex, set()) - self.attachments.keys()
        seen = [before, *map(self._slots.seen, (ifindex, *ports))]
        return {verdict: reduce(Volume.plus, (each[verdict] for each in seen)) for verdict in VERDICTS}

    def seen_on_port(self, port: int) -> dict[str, Volume]:
        """Of that, what came in on one of the ports that are counted for an interface."""
        return self._slots.seen(port)

    @property
    def can_count(self) -> bool:
        """Whether what is shared is there and can be read."""
        return self._store.shared_maps.keys() >= abi.SHARED_MAPS

    @property
    def _slots(self) -> InterfaceSlots:
        shared = self._store.shared_maps
        return InterfaceSlots(shared["interfaces"], shared["more_interfaces"])

    def _put_in_force(self, new: Generation, old: Generation | None) -> None:
        """Let packets meet a complete generation on every interface, or on none if the kernel refuses.

        If it refuses the way back as well, interfaces differ until `agree` succeeds; either list is in force on each.
        """
        changed: list[Attachment] = []
        try:
            if self.attachments:
                self._store.insist()
                self._give_slots()
            for kept in self.attachments.values():
                kept.put_in_force(new.program)
                changed.append(kept)
        except KernelError:
            if not changed:
                raise
            if old is None:
                return  # `agree` goes on with it
            for kept in changed:
                with contextlib.suppress(KernelError):
                    kept.put_in_force(old.program)
            raise

    def _give_slots(self) -> None:
        """Those of interfaces that were taken over without what is shared, which has been made anew.

        What each device is, is known before packets meet it: IP that is taken for Ethernet passes.
        """
        without = [ifindex for ifindex in self.attachments if not self._slots.has(ifindex)]
        links = self._netlink.interfaces() if without else {}
        for ifindex in without:
            self._slots.give(ifindex, starts_with_ip=ifindex in links and starts_with_ip(links[ifindex]))

    def agree(self) -> None:
        """See that every interface has the generation in force, as an interrupted swap may have left them apart."""
        generation = self.generation
        if generation is None:
            return
        for ifindex, kept in self.attachments.items():
            if kept.in_force != generation.program_id:
                kept.put_in_force(generation.program)
                message = f"interface index {ifindex} did not meet the list in force, which was repaired"
                self._log.warning("reconcile", message)

    def problems(self) -> list[str]:
        """What is wrong with the filter, by looking at it: for the watchdog. Cheap."""
        found = [
            f"interface index {ifindex} is not filtered any more"
            for ifindex, kept in self.attachments.items()
            if not kept.is_attached or not kept.in_force
        ]
        settings = self._store.shared_maps.get("settings")
        if settings is not None and libbpf.lookup(settings, abi.number(0), abi.SETTINGS.itemsize) is None:
            found.append("the maps cannot be read")
        return found

    # ---- sources ----

    def forget_sources(self, listed: Collection[str], now_s: float) -> Iterator[None]:
        """Forget sources that left the list a day ago, and what they have counted. Right behind a reconciliation.

        Nothing in the maps mentions their numbers then. What is saved, or yet to be saved, may: so that goes first.
        Another source that gets such a number begins at nothing.
        """
        self.counting.sources.note_listed(listed, now_s)
        over = self.counting.sources.over(now_s)
        if over and self.generation is not None and self.is_of_this_version and not self.counting.retired:
            self.counting.forget_sources(over.values())
            for name in over:
                self.counting.sources.forget(name)
                yield
        if self.counting.sources.wants_renewal:
            self.counting.sources = self._store.renewed_sources(self.counting.sources)

    # ---- settings and samples ----

    def choose_program(self, chosen: Settings) -> None:
        """Which program the next list that is put in force has."""
        self._program.wants_replies = chosen.replies == "pass"

    @property
    def passes_replies(self) -> bool:
        """Whether replies to this host's own connections pass."""
        return self._program.passes_replies

    @property
    def why_no_replies(self) -> str:
        """What the kernel said of letting replies pass, where that is chosen; "" where it does, or was not asked."""
        return self._program.why_no_replies if self._program.wants_replies else ""

    def choose(self, chosen: Settings) -> bool:
        """Put settings in force; whether that made a difference. What cannot be read keeps those that it has."""
        if self.generation is None:
            return False
        settings = self._store.shared_maps["settings"]
        per_minute = chosen.log_drops_per_minute
        value = abi.settings(
            log_interval_ns=60_000_000_000 // per_minute if per_minute else 0,
            monitor=chosen.action == "monitor",
            pass_malformed=chosen.malformed == "pass",
        )
        if libbpf.lookup(settings, abi.number(0), len(value)) == value:
            return False
        libbpf.update(settings, abi.number(0), value)
        return True

    def samples(self) -> Iterator[abi.Sample]:
        """Sampled drops since the last call. If the kernel refuses, there are none, and nothing else depends on it."""
        queue = self._store.shared_maps.get("samples")
        with contextlib.suppress(KernelError):
            while queue is not None and (found := libbpf.pop(queue, abi.SAMPLE.itemsize)) is not None:
                yield abi.read_sample(found)


def _maps_of(parts: Named) -> Named:
    return {name: parts[name] for name in abi.LIST_MAPS}
