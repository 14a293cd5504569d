"""The verdict program in the kernel, fed with frames by BPF_PROG_TEST_RUN: no interface, no packets on any wire."""

import os
import struct
from collections.abc import Iterable, Iterator

import numpy as np

from xdropd.columns.listing import Builder, Kind, Listing, Row, prefix_length
from xdropd.columns.prefixes import FAMILIES, Column
from xdropd.kernel import abi, libbpf
from xdropd.kernel.abi import Stats, Volume
from xdropd.kernel.compiler import Blueprint
from xdropd.kernel.generation import Generation, Sizes, counts_of, create
from xdropd.kernel.tables.volumes import InterfaceSlots
from xdropd.rules.allow import Exempt, Exempting
from xdropd.rules.plan import Plan, plan
from xdropd.rules.winners import Source, State
from xdropd.text.addresses import Span, parse_span

XDP_DROP, XDP_PASS = 1, 2

# The interface of a test run: the loopback device of the namespace (bpf_prog_test_run_xdp, net/bpf/test_run.c).
TEST_RUN_IFINDEX = 1


def listing(spans: Iterable[Span]) -> Listing:
    """What a text would list."""
    builder = Builder()
    for line, span in enumerate(spans, start=1):
        builder.add(Row(*span, line))
    return builder.listing()


def state_of(blocked: Iterable[Span], allowed: Iterable[Span] = (), number: int = 1) -> State:
    """One source, number 1 unless another is given, and what is exempt."""
    exempt = Exempt([Exempting("allow", "blocklist.yaml", listing(allowed))])
    return State([Source("blocklist.yaml", number, listing(blocked))], exempt)


def state(block: Iterable[str] = (), allow: Iterable[str] = ()) -> State:
    """The same from texts."""
    return state_of(map(parse_span, block), map(parse_span, allow))


def key_of(span: Span) -> tuple[Kind, Column]:
    """How columns name an entry."""
    family, length = FAMILIES[span.version], prefix_length(*span)
    if length is None:
        return Kind(span.version, is_range=True), family.range_key(span.first, span.last)
    return Kind(span.version, is_range=False), family.key(span.first, length)


class Verdicts:
    """One generation and one make-believe interface."""

    def __init__(
        self,
        blueprint: Blueprint,
        sizes: Sizes | None = None,
        *,
        starts_with_ip: bool = False,
        pass_replies: bool = False,
    ) -> None:
        self.blueprint = blueprint
        self.shared = {name: create(blueprint, name) for name in abi.SHARED_MAPS}
        self.interface = {abi.INTERFACE_MAP: create(blueprint, abi.INTERFACE_MAP)}
        self.slots = InterfaceSlots(self.shared["interfaces"], self.shared["more_interfaces"])
        self.slots.give(TEST_RUN_IFINDEX, starts_with_ip=starts_with_ip)
        self.generation = Generation.build(blueprint, 1, sizes or Sizes(), self.shared, pass_replies=pass_replies)
        self.choose()

    @classmethod
    def holding(cls, blueprint: Blueprint, wanted: State) -> "Verdicts":
        """A list in maps of its size, filled as the daemon fills them at its start."""
        records = {version: wanted.records(version) for version in FAMILIES}
        made = cls(blueprint, Sizes.to_hold(counts_of(records), 1))
        for version, each in records.items():
            assert sum(made.generation.fill(version, each, since_s=1)) >= len(each.keys)
        return made

    def choose(self, *, log_interval_ns: int = 0, monitor: bool = False, pass_malformed: bool = False) -> None:
        value = abi.settings(log_interval_ns, monitor=monitor, pass_malformed=pass_malformed)
        libbpf.update(self.shared["settings"], abi.number(0), value)

    def put(self, wanted: State, before: State | None = None) -> Plan:
        """Put a list in force in place of another."""
        change = plan(before or State(), wanted)
        for _ in self.generation.carry_out(change.changes, since_s=1):
            pass
        return change

    def putting(self, wanted: State, before: State) -> Iterator[int]:
        """The same, stopping after each of its steps."""
        return self.generation.carry_out(plan(before, wanted).changes, since_s=1)

    def holds_just(self, wanted: State) -> bool:
        """Whether the maps hold what they should, and nothing else."""
        found = [(self.generation.read(version), wanted.records(version)) for version in FAMILIES]
        return all(
            strays == 0 and all(np.array_equal(one, other) for one, other in zip(there, records, strict=True))
            for (there, strays), records in found
        )

    def stats(self, entry: str) -> Stats | None:
        """What is known of an entry of the source."""
        kind, key = key_of(parse_span(entry))
        return self.generation.stats(kind, 1, key)

    @property
    def program(self) -> int:
        return self.generation.program

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
        assert dropped == (changed[0] not in ("passed", "replies"))
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
        return self.slots.seen(TEST_RUN_IFINDEX)

    def samples(self) -> list[abi.Sample]:
        """What waits for the log, taken out."""
        found = []
        while data := libbpf.pop(self.shared["samples"], abi.SAMPLE.itemsize):
            found.append(abi.read_sample(data))
        return found

    def allow_sample_now(self) -> None:
        """As if the interval since the last sample were over, and each CPU had yet to look at the clock."""
        size = abi.SEEN.itemsize * libbpf.possible_cpus()
        slot = abi.number(TEST_RUN_IFINDEX)
        seen = np.frombuffer(libbpf.lookup(self.shared["interfaces"], slot, size) or b"", abi.SEEN).copy()
        seen["tick"] = seen["now_ns"] = 0
        libbpf.update(self.shared["interfaces"], slot, seen.tobytes())
        libbpf.update(self.shared["next_sample_ns"], abi.number(0), struct.pack("=Q", 0))

    def close(self) -> None:
        self.generation.close()
        for descriptor in (*self.shared.values(), *self.interface.values()):
            os.close(descriptor)
