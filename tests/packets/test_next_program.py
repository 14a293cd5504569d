"""What passes goes on to the program in the next slot, whose word is the last; what is dropped never meets it."""

import contextlib
import os
from collections.abc import Iterator

import pytest
from frames import from_source
from verdicts import XDP_DROP, XDP_PASS, Verdicts, state

from xdropd.filter.nextprogram import NextProgram
from xdropd.filter.store import Store
from xdropd.host.systemd import Systemd
from xdropd.kernel import libbpf
from xdropd.kernel.abi import Volume
from xdropd.kernel.generation import Generation, Sizes

LISTED, OTHER = "203.0.113.7", "192.0.2.1"
XDP_ABORTED, XDP_TX = 0, 3
_SOCKET_FILTER = 1  # enum bpf_prog_type


def returning(value: int) -> bytes:
    """r0 = value; exit."""
    return bytes([0xB7, 0, 0, 0, value, 0, 0, 0, 0x95, *bytes(7)])


@contextlib.contextmanager
def loaded(value: int, flags: int = libbpf.F_XDP_HAS_FRAGS) -> Iterator[int]:
    program = libbpf.load_xdp_program(f"returns_{value}", returning(value), flags)
    try:
        yield program
    finally:
        os.close(program)


@pytest.fixture
def slot(verdicts: Verdicts) -> NextProgram:
    store = Store(Systemd())
    for name, descriptor in verdicts.shared.items():
        store.adopt_shared(name, descriptor)
    verdicts.put(state([LISTED]))
    return NextProgram(store)


def run(verdicts: Verdicts, frame: bytes) -> int:
    return libbpf.test_run(verdicts.program, frame)


def test_what_passes_goes_on_and_what_is_dropped_does_not(verdicts: Verdicts, slot: NextProgram) -> None:
    for value in (XDP_TX, XDP_DROP, XDP_ABORTED, XDP_PASS):
        with loaded(value) as program:
            assert slot.put(program) == ""
            assert slot.id == libbpf.program_shape(program).id
        assert run(verdicts, from_source(OTHER)) == value
        assert run(verdicts, bytes(12) + b"\x08\x06" + bytes(28)) == value, "what is no IP passes"
        assert run(verdicts, from_source(LISTED)) == XDP_DROP
        assert run(verdicts, from_source(OTHER)[:20]) == XDP_DROP
    slot.leave_out()
    assert slot.id == 0
    assert run(verdicts, from_source(OTHER)) == XDP_PASS


def test_what_goes_on_is_counted_as_passed(verdicts: Verdicts, slot: NextProgram) -> None:
    with loaded(XDP_DROP) as program:
        slot.put(program)
    frame = from_source(OTHER)
    run(verdicts, frame)
    assert verdicts.totals()["passed"] == Volume(1, len(frame))
    assert verdicts.totals()["dropped"] == Volume(0, 0)


def test_what_only_monitoring_or_choice_lets_pass_goes_on_as_well(verdicts: Verdicts, slot: NextProgram) -> None:
    with loaded(XDP_TX) as program:
        slot.put(program)
    verdicts.choose(monitor=True)
    assert run(verdicts, from_source(LISTED)) == XDP_TX
    verdicts.choose(pass_malformed=True)
    assert run(verdicts, from_source(LISTED)) == XDP_DROP
    assert run(verdicts, from_source(OTHER)[:20]) == XDP_TX


def test_what_does_not_fit_is_told_and_changes_nothing(verdicts: Verdicts, slot: NextProgram) -> None:
    with loaded(XDP_TX) as program, loaded(XDP_DROP, flags=0) as other:
        slot.put(program)
        told = slot.put(other)
        assert f"program {libbpf.program_shape(other).id} (returns_1)" in told
        assert "frames in fragments" in told
    assert run(verdicts, from_source(OTHER)) == XDP_TX


def test_what_is_no_xdp_program_is_told(verdicts: Verdicts, slot: NextProgram) -> None:
    socket_filter = libbpf._prog_load(_SOCKET_FILTER, b"for_sockets", b"GPL", returning(0), 2, None)
    try:
        assert slot.put(socket_filter).endswith("(for_sockets) is not an XDP program")
    finally:
        os.close(socket_filter)
    assert run(verdicts, from_source(OTHER)) == XDP_PASS


def test_another_list_goes_on_to_the_same_program(verdicts: Verdicts, slot: NextProgram) -> None:
    with loaded(XDP_TX) as program:
        slot.put(program)
    with contextlib.closing(Generation.build(verdicts.blueprint, 2, Sizes(), verdicts.shared)) as new:
        assert libbpf.test_run(new.program, from_source(OTHER)) == XDP_TX
