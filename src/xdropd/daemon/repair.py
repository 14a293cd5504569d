"""Reconciliation: what packets meet is compared with what they should meet, and mended, or made a plan of.

Part by part of the address space, so that other work is done in between and there are never two whole lists in memory.
Knows a generation's maps and a ruleset; does not know interfaces, files or the clock.
"""

from array import array
from collections.abc import Generator, Iterator, Mapping

from xdropd.kernel.generation import Generation
from xdropd.kernel.shapes import History
from xdropd.rules.plan import Plan, difference
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
    bits = generation.hint_bits()
    yield
    for part in _parts(generation, ruleset):
        if part is not None:
            there, wanted = part
            generation.mark(wanted)
            if plan := difference(there, wanted):
                generation.apply(plan, since_s, known)
                differing += plan.steps
        yield
    return differing + generation.hint_bits() - bits


def comparison(generation: Generation, ruleset: Ruleset) -> Generator[None, None, Plan]:
    """The plan that makes the maps what they should be. Yields now and then. Raises KernelError."""
    there, wanted = Layout(), Layout()
    for part in _parts(generation, ruleset):
        if part is not None and part[0] != part[1]:
            there, wanted = _joined(there, part[0]), _joined(wanted, part[1])
        yield
    return difference(there, wanted)


def _parts(generation: Generation, ruleset: Ruleset) -> Iterator[tuple[Layout, Layout] | None]:
    """What is in the maps and what should be, part by part; None: nothing yet, but some work was done."""
    yield generation.networks(), ruleset.layout(Region(windows=set(EVERYTHING.values())))
    for version in VERSIONS:
        there = yield from _addresses_there(generation, version)
        windows = [_part(version, number) for number in range(1 << _PART_BITS)]
        for number, wanted in enumerate(ruleset.addresses_by_window(version, windows)):
            keys, sources = there.pop(number, _NOBODY)
            if keys or wanted:
                yield _layout(version, dict(zip(keys, sources, strict=True))), _layout(version, wanted)
            else:
                yield None


def _joined(whole: Layout, part: Layout) -> Layout:
    """A layout that has grown by another part of the address space; its dictionaries are those of `whole`."""
    for version in VERSIONS:
        whole.addresses[version].update(part.addresses[version])
    return Layout(whole.addresses, whole.prefixes | part.prefixes, whole.cells | part.cells)


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
