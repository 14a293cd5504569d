"""The verdict program in the kernel, fed with frames by BPF_PROG_TEST_RUN: no interface, no packets on any wire."""

import os
import struct
from array import array
from collections.abc import Iterable

from xdropd.kernel import libbpf, shapes
from xdropd.kernel.compiler import Blueprint
from xdropd.kernel.generation import INTERFACE_MAPS, SHARED_MAPS, Generation, Sizes, create
from xdropd.kernel.shapes import Volume
from xdropd.rules.plan import Plan, difference
from xdropd.rules.ruleset import VERSIONS, Exemption, Exemptions, Layout, Ruleset, source_of
from xdropd.text.addresses import Span, parse_span
from xdropd.text.entries import Column, Entry, Listing

XDP_DROP, XDP_PASS = 1, 2


def listing(spans: Iterable[Span]) -> Listing:
    """What a text would list: plain addresses in columns, networks and ranges as entries."""
    columns = {4: Column(array("I"), array("I")), 6: Column([], array("I"))}
    entries = []
    for line, span in enumerate(spans, start=1):
        if span.is_address:
            columns[span.version].append(span.first, line)
        else:
            entries.append(Entry(span, line))
    return Listing(columns[4], columns[6], tuple(entries))


def ruleset_of(blocked: Iterable[Span], allowed: Iterable[Span] = ()) -> Ruleset:
    """One source, number 1, and exemptions."""
    exemptions = Exemptions(Exemption(span, "allow", "blocklist.yaml", 1) for span in allowed)
    return Ruleset([source_of("blocklist.yaml", 1, listing(blocked), 0)], exemptions)


def ruleset(block: Iterable[str] = (), allow: Iterable[str] = ()) -> Ruleset:
    """The same from texts."""
    return ruleset_of(map(parse_span, block), map(parse_span, allow))


def sizes_for(plan: Plan, wanted: Ruleset) -> Sizes:
    """Maps as the daemon would make them for a list, put in place by a plan."""
    counts = {"cells": len(plan.cells_added)}
    for version in VERSIONS:
        counts[f"addresses{version}"] = plan.new_addresses[version]
        counts[f"networks{version}"] = plan.new_prefixes[version]
    return Sizes.to_hold(counts, max((source.number for source in wanted.sources), default=0))


class Verdicts:
    """One generation and one make-believe interface."""

    def __init__(self, blueprint: Blueprint, sizes: Sizes | None = None) -> None:
        self.blueprint = blueprint
        self.shared = {name: create(blueprint, name) for name in SHARED_MAPS}
        self.interface = {name: create(blueprint, name) for name in INTERFACE_MAPS}
        self.generation = Generation.build(blueprint, 1, sizes or Sizes(), self.shared)
        self.choose()

    @classmethod
    def holding(cls, blueprint: Blueprint, wanted: Ruleset) -> "Verdicts":
        """A list in maps of its size."""
        plan = difference(Layout(), wanted.whole_layout())
        made = cls(blueprint, sizes_for(plan, wanted))
        made.generation.apply(plan, since_s=1)
        return made

    def choose(self, *, log_interval_ns: int = 0, monitor: bool = False, pass_malformed: bool = False) -> None:
        value = shapes.settings(log_interval_ns, monitor, pass_malformed)
        libbpf.update(self.shared["settings"], shapes.number(0), value)

    def put(self, wanted: Ruleset, before: Ruleset | None = None) -> Plan:
        """Put a list in force in place of another."""
        plan = difference(before.whole_layout() if before else Layout(), wanted.whole_layout())
        self.generation.apply(plan, since_s=1)
        return plan

    @property
    def program(self) -> int:
        return self.generation.verdict_program("test", self.shared, self.interface)

    def drops(self, frame: bytes) -> bool:
        value = libbpf.test_run(self.program, frame)
        assert value in (XDP_DROP, XDP_PASS), value
        return value == XDP_DROP

    def verdict(self, frame: bytes) -> str:
        """What the program decided, by the counter that it raised; its return value must agree."""
        before = self.totals()
        dropped = self.drops(frame)
        changed = [name for name, total in self.totals().items() if total != before[name]]
        assert len(changed) == 1, f"one verdict a frame, not {changed}"
        assert dropped == (changed != ["passed"])
        return changed[0]

    def verdicts(self, frames: Iterable[bytes]) -> list[str]:
        """The same for many frames. Malformed ones are told from blocked ones by letting them pass."""
        program = self.program
        answers = []
        for pass_malformed in (False, True):
            self.choose(pass_malformed=pass_malformed)
            answers.append([libbpf.test_run(program, frame) for frame in frames])
        self.choose()
        names = {(XDP_PASS, XDP_PASS): "passed", (XDP_DROP, XDP_DROP): "dropped", (XDP_DROP, XDP_PASS): "malformed"}
        return [names.get(answer, f"return values {answer}") for answer in zip(*answers, strict=True)]

    def totals(self) -> dict[str, Volume]:
        return shapes.sum_of_tallies(self._tallies())

    def _tallies(self) -> bytes:
        size = shapes.TALLY_BYTES * libbpf.possible_cpus()
        return libbpf.lookup(self.interface["tallies"], shapes.number(0), size) or b""

    def samples(self) -> list[shapes.Sample]:
        """What waits for the log, taken out."""
        found = []
        while data := libbpf.pop(self.shared["samples"], shapes.SAMPLE_BYTES):
            found.append(shapes.read_sample(data))
        return found

    def allow_sample_now(self) -> None:
        """As if the interval since the last sample were over, and each CPU had yet to look at the clock."""
        size, clock = shapes.TALLY_BYTES, bytes(16)
        found = self._tallies()
        unaware = [found[at : at + size - len(clock)] + clock for at in range(0, len(found), size)]
        libbpf.update(self.interface["tallies"], shapes.number(0), b"".join(unaware))
        libbpf.update(self.shared["next_sample_ns"], shapes.number(0), struct.pack("=Q", 0))

    def close(self) -> None:
        self.generation.close()
        for descriptor in (*self.shared.values(), *self.interface.values()):
            os.close(descriptor)
