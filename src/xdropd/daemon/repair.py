"""Reconciliation: what packets meet is compared with what they should meet, and mended.

Part by part of the address space, so that other work is done in between and there are never two whole lists in memory.
Knows a generation's maps and a ruleset; does not know interfaces, files or the clock.
"""

from array import array
from collections.abc import Generator, Mapping

from xdropd.kernel.generation import Generation
from xdropd.kernel.shapes import History
from xdropd.rules.plan import difference
from xdropd.rules.ruleset import EVERYTHING, VERSIONS, Layout, Region, Ruleset
from xdropd.text.addresses import WIDTH, Span

_PART_BITS = 8  # a list of a million has parts of a few thousand


def repair(
    generation: Generation, ruleset: Ruleset, known: Mapping[tuple[int, int, int], History], since_s: int
) -> Generator[None, None, int]:
    """Make the maps and hints what they should be; in how many places they differed. Yields now and then.

    `known` and `since_s` as in Generation.apply. Raises KernelError.
    """
    differing = 0

    def mend(there: Layout, wanted: Layout) -> None:
        nonlocal differing
        generation.mark(wanted)
        if plan := difference(there, wanted):
            generation.apply(plan, since_s, known)
            differing += plan.steps

    bits = generation.hint_bits()
    yield
    mend(generation.networks(), ruleset.layout(Region(windows=set(EVERYTHING.values()))))
    yield
    for version in VERSIONS:
        there = yield from _addresses_there(generation, version)
        windows = [_part(version, number) for number in range(1 << _PART_BITS)]
        for number, wanted in enumerate(ruleset.addresses_by_window(windows)):
            keys, sources = there.pop(number, _NOBODY)
            if keys or wanted:
                mend(_layout(version, dict(zip(keys, sources, strict=True))), _layout(version, wanted))
                yield
    return differing + generation.hint_bits() - bits


_Addresses = tuple["array[int] | list[int]", "array[int]"]  # and the numbers of their sources
_NOBODY: _Addresses = ([], array("I"))


def _addresses_there(generation: Generation, version: int) -> Generator[None, None, dict[int, _Addresses]]:
    """What is in the maps, by part."""
    parts: dict[int, _Addresses] = {}
    shift = WIDTH[version] - _PART_BITS
    count = 0
    for keys, sources in generation.address_batches(version):
        for key, source in zip(keys, sources, strict=True):
            part = parts.get(key >> shift)
            if part is None:
                part = parts[key >> shift] = (array("I") if version == 4 else [], array("I"))
            part[0].append(key)
            part[1].append(source)
        count += len(keys)
        yield
    generation.count_addresses(version, count)
    return parts


def _part(version: int, number: int) -> Span:
    size = 1 << WIDTH[version] - _PART_BITS
    return Span(version, number * size, (number + 1) * size - 1)


def _layout(version: int, addresses: dict[int, int]) -> Layout:
    return Layout({4: {}, 6: {}, version: addresses})
