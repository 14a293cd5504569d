"""What systemd's file descriptor store keeps of the filter: the only file that knows the names in there.

sources.NUMBER, saved.NUMBER, proof, shared.MAP, if.INDEX.in_force, if.INDEX.tallies, if.INDEX.link.MODE, and of a
generation gen.NUMBER.STAMP.PARTS.PART (PARTS: how many it has); and blocks.NUMBER, which is logcopy.py's. `tallies` is
for a downgrade: the first version knows an interface by it, and numbers of sources by `sources`, without a number. Of
what is numbered the highest counts. What does not fit is let go, by name, so nothing piles up.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from xdropd.errors import NotKept
from xdropd.filter.numbers import SourceNumbers
from xdropd.filter.saved import SavedCounters
from xdropd.host.systemd import Systemd
from xdropd.kernel import abi
from xdropd.kernel.attachment import Attachment
from xdropd.kernel.compiler import Blueprint
from xdropd.kernel.generation import create
from xdropd.kernel.retry import retried

Named = dict[str, int]
"""Descriptors by name."""


class Stored(Protocol):
    """A generation, as far as the store is concerned; of the first version's there is only what it was found with."""

    number: int
    stamp: str

    @property
    def parts(self) -> Named:
        """Its descriptors by name."""

    @property
    def part_count(self) -> int:
        """The number that stands in their names."""

    def close(self) -> None:
        """Let go of them."""


@dataclass(slots=True)
class Found:
    """What the store gave back, sorted by what it belongs to."""

    shared: Named = field(default_factory=dict)
    interfaces: dict[int, Named] = field(default_factory=dict)
    generations: dict[tuple[int, str, int], Named] = field(default_factory=dict)
    sources: dict[int, int] = field(default_factory=dict)
    saved: dict[int, int] = field(default_factory=dict)
    parked: dict[int, int] = field(default_factory=dict)
    proof: int | None = None
    useless: Named = field(default_factory=dict)

    @classmethod
    def given_back(cls, inherited: Mapping[str, list[int]]) -> Found:
        """Of several with one name the last."""
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
            case ["gen", number, stamp, parts, *part] if number.isdigit() and parts.isdigit():
                self.generations.setdefault((int(number), stamp, int(parts)), {})[".".join(part)] = descriptor
            case ["sources"]:
                self.sources[0] = descriptor
            case ["sources", number] if number.isdecimal():
                self.sources[int(number)] = descriptor
            case ["saved", number] if number.isdigit():
                self.saved[int(number)] = descriptor
            case ["parked", number] if number.isdigit():
                self.parked[int(number)] = descriptor
            case ["proof"] if stat.S_ISREG(os.fstat(descriptor).st_mode):
                self.proof = descriptor
            case _:
                self.useless[name] = descriptor


class Store:
    """See the module. Without systemd nothing is kept, and the last reference to everything is this process."""

    def __init__(self, systemd: Systemd) -> None:
        self._systemd = systemd
        self._shared: Named = {}
        self._saved: tuple[int, int] | None = None  # its number and descriptor
        self._sources_number = 0

    def insist(self) -> None:
        """Wait until all that was sent is in the store. Raises NotKept.

        Asked before work begins as well, for as long as nobody answers it would be done in vain at every try. A manager
        that never gave or answered anything, unlike systemd, has no store, and then there is nothing to insist on.
        """
        if not self._systemd.barrier() and self._systemd.keeps:
            raise NotKept("have what comes into force kept", errno.ETIMEDOUT, "the service manager does not answer")

    def barrier(self) -> None:
        """Wait for it, and go on in any case: where filtering at all matters more than being kept."""
        self._systemd.barrier()

    def drop(self, named: Mapping[str, int]) -> None:
        """Let go of descriptors, here and there."""
        self._systemd.forget(named)
        for descriptor in named.values():
            os.close(descriptor)

    # ---- maps that all share ----

    @property
    def shared_maps(self) -> Mapping[str, int]:
        """By name; those that were made or found so far."""
        return self._shared

    def adopt_shared(self, name: str, descriptor: int) -> None:
        """It was found, and is what its name says."""
        self._shared[name] = descriptor

    def shared(self, blueprint: Callable[[], Blueprint]) -> Mapping[str, int]:
        """All of them; what is missing is made."""
        for name in sorted(abi.SHARED_MAPS - self._shared.keys()):
            self._shared[name] = retried(create, blueprint(), name)
            self._systemd.store({f"shared.{name}": self._shared[name]})
        return self._shared

    # ---- generations and counters ----

    def keep_generation(self, generation: Stored) -> None:
        """Before the first packet meets it."""
        self._systemd.store(_named_generation(generation))

    def drop_generation(self, generation: Stored) -> None:
        """When no packet meets it any more."""
        self._systemd.forget(_named_generation(generation))
        generation.close()

    def keep_saved(self, saved: SavedCounters) -> None:
        """Counters, before what counted them goes. Raises NotKept, and they are not stored then."""
        if saved.is_stored:
            return
        before = self._saved
        self._saved = before[0] + 1 if before else 1, saved.snapshot()
        self._systemd.store({f"saved.{self._saved[0]}": self._saved[1]})
        if before:
            self.drop({f"saved.{before[0]}": before[1]})
        try:
            self.insist()
        except NotKept:
            saved.is_stored = False
            raise

    def keep_proof(self, descriptor: int) -> None:
        """What proof.py writes there. Nothing depends on it, so nothing waits for it."""
        self._systemd.store({"proof": descriptor})

    def adopt_saved(self, files: Mapping[int, int]) -> SavedCounters:
        """The newest that can be read."""
        for number in sorted(files, reverse=True):
            if self._saved is None:
                with contextlib.suppress(ValueError, KeyError, TypeError, OSError):
                    saved = SavedCounters.in_file(files[number])
                    self._saved = number, files[number]
                    continue
            self.drop({f"saved.{number}": files[number]})
        return saved if self._saved else SavedCounters()

    def adopt_sources(self, files: dict[int, int]) -> SourceNumbers:
        """The newest that can be read, else new ones. Leaves in `files` what is taken over."""
        usable = [number for number, at in files.items() if stat.S_ISREG(os.fstat(at).st_mode)]
        for number in files.keys() - {max(usable, default=-1)}:
            self.drop({_sources_name(number): files.pop(number)})
        for number, descriptor in files.items():
            self._sources_number = number
            return SourceNumbers(descriptor)
        fresh = SourceNumbers()
        self._systemd.store({_sources_name(self._sources_number): fresh.descriptor})
        return fresh

    def renewed_sources(self, before: SourceNumbers) -> SourceNumbers:
        """The same in a file of its own, which is kept in place of the other. Raises NotKept."""
        fresh = before.renewed()
        named = {_sources_name(self._sources_number + 1): fresh.descriptor}
        self._systemd.store(named)
        try:
            self.insist()
        except NotKept:
            self.drop(named)
            raise
        self.drop({_sources_name(self._sources_number): before.descriptor})
        self._sources_number += 1
        return fresh

    # ---- interfaces ----

    def keep_interface(self, ifindex: int, maps: Mapping[str, int]) -> None:
        """What an interface runs, before it is attached."""
        self._systemd.store({f"if.{ifindex}.{name}": descriptor for name, descriptor in maps.items()})

    def forget_interface(self, ifindex: int, maps: Iterable[str]) -> None:
        """It could not be attached."""
        self._systemd.forget(f"if.{ifindex}.{name}" for name in maps)

    def keep_link(self, kept: Attachment) -> None:
        """The attachment itself, last: with it, everything that tells what it runs is there."""
        self._systemd.store({f"if.{kept.ifindex}.link.{kept.mode}": kept.link})

    def drop_attachment(self, kept: Attachment) -> None:
        """The filter goes off the interface."""
        self._systemd.forget(f"if.{kept.ifindex}.{name}" for name in (*kept.maps, f"link.{kept.mode}"))
        kept.close()


def _named_generation(generation: Stored) -> Named:
    start = f"gen.{generation.number}.{generation.stamp}.{generation.part_count}"
    return {f"{start}.{part}": descriptor for part, descriptor in generation.parts.items()}


def _sources_name(number: int) -> str:
    return f"sources.{number}" if number else "sources"
