"""Packets of devices without Ethernet, which start with their IP header: the interface's slot says so."""

from collections.abc import Iterator

import pytest
from frames import from_source, ipv4_header, ipv6_header
from hypothesis import given, settings
from hypothesis import strategies as st
from test_fragments import run_in_pieces
from test_hypothesis import in_the_kernel
from verdict_reference import DROPPED, MALFORMED, PASSED, Lists, interval, verdict
from verdicts import TEST_RUN_IFINDEX, XDP_DROP, XDP_PASS, Verdicts, state

from xdropd.kernel import abi
from xdropd.kernel.compiler import Blueprint

BLOCK = ("203.0.113.9", "198.51.100.0/24", "8.0.0.0/8", "2001:db8:bad::9", "2001:db8:cafe::/48")
BAD4, GOOD4 = "203.0.113.9", "203.0.113.8"
BAD6, GOOD6 = "2001:db8:bad::9", "2001:db8:bad::8"


@pytest.fixture(scope="module")
def device(blueprint: Blueprint) -> Iterator[Verdicts]:
    made = Verdicts(blueprint, starts_with_ip=True)
    made.put(state(BLOCK))
    yield made
    made.close()


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (ipv4_header(BAD4), DROPPED),
        (ipv4_header(GOOD4), PASSED),
        (ipv4_header("8.0.9.9"), DROPPED),
        (ipv4_header(BAD4)[:19], MALFORMED),
        (ipv4_header(BAD4, first_byte=0x4F), DROPPED),
        (ipv6_header(BAD6), DROPPED),
        (ipv6_header("2001:db8:cafe::1") + bytes(8), DROPPED),
        (ipv6_header(GOOD6), PASSED),
        (ipv6_header(BAD6)[:39], MALFORMED),
        (ipv4_header(BAD4, first_byte=0x55), PASSED),
        (ipv4_header(GOOD4, protocol=4) + ipv4_header(BAD4), PASSED),
        (bytes(64), PASSED),
    ],
)
def test_the_first_byte_says_what_it_is(device: Verdicts, packet: bytes, expected: str) -> None:
    assert device.verdict(packet) == expected
    assert verdict(packet, Lists.of(map(interval, BLOCK)), starts_with_ip=True) == expected


def test_without_ethernet_no_bytes_are_taken_for_its_header(blueprint: Blueprint, device: Verdicts) -> None:
    """8.0 in the place of a source reads like the EtherType of IPv4 to whoever expects Ethernet."""
    packet = ipv4_header("8.0.9.9") + bytes(8) + ipv4_header(GOOD4)
    ethernet = Verdicts(blueprint)
    ethernet.put(state(BLOCK))
    try:
        assert ethernet.verdict(from_source(BAD4)) == DROPPED
        assert ethernet.verdict(packet) != DROPPED
    finally:
        ethernet.close()
    assert device.verdict(packet) == DROPPED


@pytest.mark.parametrize("is_behind", [False, True])
def test_a_slot_that_another_device_left_says_what_the_next_one_is(blueprint: Blueprint, *, is_behind: bool) -> None:
    """Wherever the slot is: another interface that had the place may have gone meanwhile."""
    made = Verdicts(blueprint)
    made.put(state(BLOCK))
    if is_behind:
        made.slots.take_back(TEST_RUN_IFINDEX)
        made.slots.give(TEST_RUN_IFINDEX + abi.SLOTS)
        made.slots.give(TEST_RUN_IFINDEX)
        made.slots.take_back(TEST_RUN_IFINDEX + abi.SLOTS)
    try:
        assert made.verdict(from_source(BAD4)) == DROPPED
        made.slots.give(TEST_RUN_IFINDEX, starts_with_ip=True)
        assert made.verdict(ipv4_header(BAD4)) == DROPPED
        made.slots.give(TEST_RUN_IFINDEX, starts_with_ip=True)
        assert made.totals()["dropped"].packets == 1
        made.slots.give(TEST_RUN_IFINDEX)
        assert made.verdict(from_source(BAD4)) == DROPPED
        made.slots.take_back(TEST_RUN_IFINDEX)
        assert not made.slots.has(TEST_RUN_IFINDEX)
    finally:
        made.close()


@settings(in_the_kernel, max_examples=300)
@given(st.binary(min_size=14, max_size=80))
@pytest.mark.threat_model
def test_any_bytes_get_an_answer(device: Verdicts, packet: bytes) -> None:
    assert device.verdict(packet) == verdict(packet, Lists.of(map(interval, BLOCK)), starts_with_ip=True)


@pytest.mark.parametrize(("packet", "answer"), [(ipv4_header(BAD4), XDP_DROP), (ipv6_header(GOOD6), XDP_PASS)])
def test_the_header_may_be_in_any_piece(device: Verdicts, packet: bytes, answer: int) -> None:
    for linear_bytes in range(14, 60):
        assert run_in_pieces(device.program, packet + bytes(100), linear_bytes) == answer
    assert device.slots.seen(TEST_RUN_IFINDEX)["passed" if answer == XDP_PASS else "dropped"].packets >= 46
