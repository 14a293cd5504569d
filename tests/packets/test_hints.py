"""Hints in two languages: what hints.py writes is what xdrop.bpf.c looks for.

A missing bit would let a listed source pass, and nothing else would show it. So what is listed here is random, and has
hints of its own only: what one entry leaves behind could hide that another one's are wrong.
"""

import mmap
from collections.abc import Iterator
from pathlib import Path
from random import Random

import numpy as np
import pytest
from frames import from_source
from verdicts import Verdicts, state_of

from xdropd.columns.prefixes import FAMILIES
from xdropd.kernel import libbpf
from xdropd.kernel.compiler import Blueprint
from xdropd.kernel.generation import Sizes
from xdropd.kernel.tables import hints
from xdropd.rules.winners import State
from xdropd.text.addresses import Span

HINT_MAPS = ("hints", "address_filter", "prefix_filter", "lengths4", "lengths6")
FILTER_WORDS = (hints.WORDS_AT_LEAST, 1 << 13, hints.WORDS_AT_MOST)
ROOM = {"addresses4": 4096, "addresses6": 4096}


@pytest.fixture(params=FILTER_WORDS, ids="filters of {} words".format)
def sized(blueprint: Blueprint, request: pytest.FixtureRequest) -> Iterator[Verdicts]:
    made = Verdicts(blueprint, Sizes(**ROOM, address_filter=request.param, prefix_filter=request.param))
    yield made
    made.close()


def forget_hints(verdicts: Verdicts) -> None:
    """As in a new generation, which takes longer to make."""
    for name in HINT_MAPS:
        shape = libbpf.map_shape(verdicts.generation.maps[name])
        with mmap.mmap(verdicts.generation.maps[name], -(-shape.value_bytes // 8) * 8 * shape.max_entries) as memory:
            np.frombuffer(memory, np.uint64).fill(0)


def networks(rng: Random, version: int, length: int) -> list[Span]:
    """A few of one length, anywhere; of all ones and of zeros as well."""
    rest = FAMILIES[version].width - length
    firsts = [rng.getrandbits(FAMILIES[version].width) >> rest << rest for _ in range(6)]
    firsts += [0, ((1 << length) - 1) << rest]
    return [Span(version, first, first + (1 << rest) - 1) for first in firsts]


def passing(verdicts: Verdicts, spans: list[Span], rng: Random) -> list[str]:
    """What is listed and passes."""
    return [
        f"{source:x} of {span}"
        for span in spans
        for source in {span.first, span.last, rng.randint(span.first, span.last)}
        if not verdicts.drops(from_source(source, span.version))
    ]


def random_addresses(rng: Random, version: int) -> list[Span]:
    width = FAMILIES[version].width
    numbers = {rng.getrandbits(width) >> rng.randint(0, width - 1) for _ in range(1000)} | {0, (1 << width) - 1}
    return [Span(version, number, number) for number in numbers]


@pytest.mark.parametrize("version", FAMILIES)
def test_every_listed_address_is_found(sized: Verdicts, version: int) -> None:
    rng = Random(version)
    spans = random_addresses(rng, version)
    sized.put(state_of(spans))
    assert passing(sized, spans, rng) == []


@pytest.mark.parametrize("version", FAMILIES)
def test_every_address_in_a_network_of_any_length_is_found(sized: Verdicts, version: int) -> None:
    rng = Random(version)
    is_large = libbpf.map_shape(sized.generation.maps["prefix_filter"]).max_entries > 1 << 20  # slow to clear
    for length in range(0, FAMILIES[version].width, 7 if is_large else 1):
        wanted = state_of(spans := networks(rng, version, length))
        forget_hints(sized)
        sized.put(wanted)
        assert passing(sized, spans, rng) == []
        sized.put(State(), wanted)


@pytest.mark.parametrize("version", FAMILIES)
@pytest.mark.parametrize("multiplier", ["_FOR_WORD", "_FOR_BITS"])
def test_a_slightly_different_arithmetic_would_hide_what_is_listed(
    verdicts: Verdicts, monkeypatch: pytest.MonkeyPatch, version: int, multiplier: str
) -> None:
    """The tests above can fail."""
    monkeypatch.setattr(hints, multiplier, getattr(hints, multiplier) ^ np.uint64(1 << 33 | 2))
    rng = Random(version)
    spans = random_addresses(rng, version)[:100]
    verdicts.put(state_of(spans))
    assert len(passing(verdicts, spans, rng)) > 20
    for length in (16, 24, FAMILIES[version].width - 1):
        forget_hints(verdicts)
        verdicts.put(state_of(spans := networks(rng, version, length)))
        assert passing(verdicts, spans, rng) != []


def test_what_is_told_of_missing_hints_is_what_was_missing(verdicts: Verdicts) -> None:
    wanted = state_of([Span(4, 1, 1), Span(6, 1, 1), Span(4, 256, 511), Span(6, 1 << 64, (1 << 65) - 1)])
    verdicts.put(wanted)
    for version in FAMILIES:
        assert verdicts.generation.mend_hints(version, wanted.records(version)) == 0
    forget_hints(verdicts)
    for version in FAMILIES:
        assert verdicts.generation.mend_hints(version, wanted.records(version)) == 4, "two filters, granules, lengths"
        assert verdicts.generation.mend_hints(version, wanted.records(version)) == 0


def test_closing_a_generation_unmaps_its_hints(blueprint: Blueprint) -> None:
    def mapped() -> int:
        return Path("/proc/self/maps").read_text(encoding="utf-8").count("bpf-map")

    before = mapped()
    verdicts = Verdicts(blueprint)
    verdicts.put(state_of([Span(4, 1, 1), Span(4, 256, 511)]))
    assert mapped() > before
    verdicts.close()
    assert mapped() == before
