"""Frames and lists of hypothesis' own making: the program and the reference agree, or the smallest difference shows."""

import struct
from collections.abc import Iterator

import pytest
from frames import DOT1AD, DOT1Q, IPV4, IPV6, ethernet, ipv4_header, ipv6_header
from hypothesis import example, given, settings
from hypothesis import strategies as st
from verdict_reference import Interval, Lists, verdict
from verdicts import XDP_DROP, XDP_PASS, Verdicts, state, state_of

from xdropd.kernel import abi, libbpf
from xdropd.kernel.compiler import Blueprint
from xdropd.rules.winners import State
from xdropd.text.addresses import WIDTH, Span

in_the_kernel = settings(deadline=None)

# Neighbourhoods in which entries and sources meet: the ends, the middle, and a place without any pattern.
HOMES = (0, 1 << 31, 0x2A5A_C3D7_F00D_1234_5678_9ABC_DEF0_5A5A, (1 << 128) - 1)


def home(version: int, number: int) -> int:
    return HOMES[number] >> 128 - WIDTH[version] if number > 1 else HOMES[number]


@st.composite
def addresses(draw: st.DrawFn, version: int) -> int:
    """Somewhere near a home: a few of its upper bits are right, and perhaps all of them."""
    width = WIDTH[version]
    wrong_bits = draw(st.integers(0, width))
    return home(version, draw(st.integers(0, 3))) ^ draw(st.integers(0, (1 << wrong_bits) - 1))


@st.composite
def intervals(draw: st.DrawFn) -> Interval:
    version = draw(st.sampled_from((4, 6)))
    address = draw(addresses(version))
    match draw(st.sampled_from(("address", "network", "range"))):
        case "address":
            return Interval(version, address, address)
        case "network":
            rest = WIDTH[version] - draw(st.integers(0, WIDTH[version]))
            return Interval(version, address >> rest << rest, address | ((1 << rest) - 1))
    other = draw(addresses(version))
    return Interval(version, min(address, other), max(address, other))


lists = st.tuples(st.lists(intervals(), max_size=8), st.lists(intervals(), max_size=4))


@st.composite
def frames(draw: st.DrawFn, near: list[Interval]) -> bytes:
    """A frame from the neighbourhood of an entry, whole or cut, or one of any type."""
    tags = tuple(draw(st.lists(st.sampled_from((DOT1Q, DOT1AD)), max_size=5)))
    version = draw(st.sampled_from((4, 6)))
    places = [place for entry in near if entry.version == version for place in (entry.first, entry.last)]
    source = draw(st.sampled_from(places) if places else addresses(version)) + draw(st.integers(-1, 1))
    source %= 1 << WIDTH[version]
    header = ipv4_header(source) if version == 4 else ipv6_header(source)
    ethertype = draw(st.sampled_from(({4: IPV4, 6: IPV6}[version],) * 3 + (draw(st.integers(0, 0xFFFF)),)))
    frame = ethernet(ethertype, header + bytes(draw(st.integers(0, 20))), tags)
    return frame[: draw(st.integers(14, len(frame)))] if draw(st.booleans()) else frame


def state_from(blocked: list[Interval], allowed: list[Interval]) -> State:
    return state_of((Span(*one) for one in blocked), (Span(*one) for one in allowed))


EVERYTHING = state(["0.0.0.0/0", "::/0"])


class Kernel(Verdicts):
    """Maps that serve every example: a new generation costs more than an example."""

    now: State | None = None

    def hold(self, wanted: State) -> None:
        """Put a list in place of the one before, whatever hints that left behind."""
        self.put(wanted, self.now)
        self.now = wanted

    def start_with(self, wanted: State) -> None:
        """Put a list into maps that know nothing of the one before, so that an example can be told from its past."""
        self.hold(state_of([]))
        libbpf.update(self.generation.maps["hints"], abi.number(0), bytes(abi.HINTS.itemsize))
        self.hold(wanted)


@pytest.fixture(scope="module")
def kernel(blueprint: Blueprint) -> Iterator[Kernel]:
    made = Kernel(blueprint)
    yield made
    made.close()


@settings(in_the_kernel, max_examples=200)
@given(data=st.data(), lists=lists)
def test_a_list_and_frames_near_its_entries(
    kernel: Kernel, data: st.DataObject, lists: tuple[list[Interval], list[Interval]]
) -> None:
    blocked, allowed = lists
    kernel.start_with(state_from(blocked, allowed))
    for frame in data.draw(st.lists(frames(blocked + allowed), min_size=1, max_size=8)):
        assert kernel.verdict(frame) == verdict(frame, Lists.of(blocked, allowed))


@in_the_kernel
@given(data=st.data(), versions=st.lists(lists, min_size=2, max_size=5))
def test_one_list_after_another_in_the_same_maps(
    kernel: Kernel, data: st.DataObject, versions: list[tuple[list[Interval], list[Interval]]]
) -> None:
    """Hints of what is gone stay; what is gone must pass all the same, and what came back be dropped."""
    everything = [entry for blocked, allowed in versions for entry in blocked + allowed]
    kernel.start_with(state_of([]))
    for blocked, allowed in versions:
        wanted = state_from(blocked, allowed)
        kernel.hold(wanted)
        assert kernel.holds_just(wanted)
        for frame in data.draw(st.lists(frames(everything), min_size=1, max_size=4)):
            assert kernel.verdict(frame) == verdict(frame, Lists.of(blocked, allowed))


@settings(in_the_kernel, max_examples=200)
@given(frame=st.binary(min_size=14, max_size=200), blocked=st.lists(intervals(), max_size=3))
@example(frame=bytes(12) + struct.pack(">H", IPV4) + bytes(20), blocked=[Interval(4, 0, 0)])
@pytest.mark.threat_model
def test_any_bytes_get_an_answer(kernel: Kernel, frame: bytes, blocked: list[Interval]) -> None:
    kernel.start_with(state_from(blocked, []))
    assert libbpf.test_run(kernel.program, frame) in (XDP_DROP, XDP_PASS)
    assert kernel.verdict(frame) == verdict(frame, Lists.of(blocked))


@settings(in_the_kernel, max_examples=1000)
@given(frame=st.one_of(st.binary(min_size=14, max_size=80), frames([])))
@pytest.mark.threat_model
def test_random_frames_against_everything(kernel: Kernel, frame: bytes) -> None:
    if kernel.now is not EVERYTHING:
        kernel.start_with(EVERYTHING)
    everything = [Interval(4, 0, (1 << 32) - 1), Interval(6, 0, (1 << 128) - 1)]
    assert kernel.verdict(frame) == verdict(frame, Lists.of(everything))
