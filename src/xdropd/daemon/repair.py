"""Reconciliation: what packets meet is compared with what they should meet, and mended, or made a plan of.

Part by part of the address space, so that other work is done in between and there are never two whole lists in memory.
Knows a generation's maps and a ruleset; does not know interfaces, files or the clock.
"""

from array import array
from bisect import bisect_right
from collections.abc import Generator, Iterable, Mapping
from itertools import chain

from xdropd.kernel.generation import Generation
from xdropd.kernel.shapes import History
from xdropd.rules.plan import Plan, difference
from xdropd.rules.ruleset import EVERYTHING, VERSIONS, Layout, Region, Ruleset
from xdropd.text.addresses import Span

_KEYS_A_PART = 16_000
_SAMPLED_ONE_IN = 1_000
_KEYS_A_STEP = 20_000


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
            yield from generation.mark(wanted.addresses, wanted.prefixes)
            if plan := difference(there, wanted):
                for _ in generation.carry_out(plan, since_s, known):
                    yield
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


def _parts(generation: Generation, ruleset: Ruleset) -> Generator[tuple[Layout, Layout] | None, None, None]:
    """What is in the maps and what should be, part by part; None: nothing yet, but some work was done."""
    networks = yield from generation.networks()
    yield networks, (yield from ruleset.layout_in_steps(Region(windows=set(EVERYTHING.values()))))
    for version in VERSIONS:
        keys, sources = yield from _addresses_there(generation, version)
        starts = _starts(keys, ruleset.sample(version, _SAMPLED_ONE_IN))
        parts = yield from _by_part(starts, keys, sources)
        del keys, sources
        ends = [start - 1 for start in starts[1:]] + [EVERYTHING[version].last]
        windows = [Span(version, first, last) for first, last in zip(starts, ends, strict=True)]
        for part, wanted in zip(parts, ruleset.addresses_by_window(version, windows), strict=True):
            yield _layout(version, part), _layout(version, wanted)
            part.clear()


def _joined(whole: Layout, part: Layout) -> Layout:
    """A layout that has grown by another part of the address space; its dictionaries are those of `whole`."""
    for version in VERSIONS:
        whole.addresses[version].update(part.addresses[version])
    return Layout(whole.addresses, whole.prefixes | part.prefixes, whole.cells | part.cells)


def _addresses_there(
    generation: Generation, version: int
) -> Generator[None, None, tuple["array[int] | list[int]", "array[int]"]]:
    """What is in the maps, in no order, and the numbers of the sources."""
    keys: array[int] | list[int] = array("I") if version == 4 else []
    sources = array("I")
    for some, numbers in generation.address_batches(version):
        keys.extend(some)
        sources.extend(numbers)
        yield
    generation.count_addresses(version, len(keys))
    return keys, sources


def _starts(keys: "array[int] | list[int]", sample: Iterable[int]) -> list[int]:
    """Where parts begin so that none is large, however unevenly a list lies in the address space."""
    ascending = sorted(chain(keys[::_SAMPLED_ONE_IN], sample))
    step = _KEYS_A_PART // _SAMPLED_ONE_IN
    return [0, *sorted({*ascending[step::step]} - {0})]


def _by_part(
    starts: list[int], keys: "array[int] | list[int]", sources: "array[int]"
) -> Generator[None, None, list[dict[int, int]]]:
    parts: list[dict[int, int]] = [{} for _ in starts]
    for at in range(0, len(keys), _KEYS_A_STEP):
        end = at + _KEYS_A_STEP
        for key, source in zip(keys[at:end], sources[at:end], strict=True):
            parts[bisect_right(starts, key) - 1][key] = source
        yield
    return parts


def _layout(version: int, addresses: dict[int, int]) -> Layout:
    return Layout({4: {}, 6: {}, version: addresses})
