"""Frames that a driver hands over in pieces: what is not in the first one is fetched, and counts.

BPF_PROG_TEST_RUN makes them since Linux 6.18, where `data_end` of the context given says how much is linear.
"""

import ctypes as ct
import os
import struct

import pytest
from frames import (
    DOT1AD,
    DOT1Q,
    IPV4,
    IPV6,
    PPP_IPV4,
    PPP_IPV6,
    ethernet,
    from_source,
    ipv4_header,
    ipv6_header,
    over_pppoe,
)
from verdicts import XDP_DROP, XDP_PASS, Verdicts, state

from xdropd.kernel import libbpf
from xdropd.kernel.abi import Volume

BAD4, GOOD4 = "203.0.113.9", "203.0.113.8"
BAD6, GOOD6 = "2001:db8:bad::9", "2001:db8:bad::8"
PAYLOAD = bytes(100)

FRAMES = {
    f"{name}, {len(tags)} tags": (ethernet(kind, header + PAYLOAD, tags), dropped)
    for tags in ((), (DOT1Q,), (DOT1AD, DOT1Q), (DOT1Q,) * 4)
    for name, kind, header, dropped in (
        ("bad IPv4", IPV4, ipv4_header(BAD4), True),
        ("good IPv4", IPV4, ipv4_header(GOOD4), False),
        ("bad IPv6", IPV6, ipv6_header(BAD6), True),
        ("good IPv6", IPV6, ipv6_header(GOOD6), False),
    )
}
FRAMES |= {
    f"{name}, over PPPoE, {len(tags)} tags": (over_pppoe(protocol, header + PAYLOAD, tags), dropped)
    for tags in ((), (DOT1Q,) * 4)
    for name, protocol, header, dropped in (
        ("bad IPv4", PPP_IPV4, ipv4_header(BAD4), True),
        ("good IPv6", PPP_IPV6, ipv6_header(GOOD6), False),
        ("bad IPv6", PPP_IPV6, ipv6_header(BAD6), True),
    )
}
HEADERS_BYTES = 14 + 4 * 4 + 8 + 40


def run_in_pieces(program: int, frame: bytes, linear_bytes: int) -> int:
    """What the program returns for a frame of which only the first bytes are linear."""
    context = struct.pack("=IIIIII", 0, linear_bytes, 0, 0, 0, 0)  # struct xdp_md (uapi/linux/bpf.h)
    options = libbpf._TestRunOpts(
        sz=ct.sizeof(libbpf._TestRunOpts),
        data_in=ct.cast(ct.c_char_p(frame), ct.c_void_p),
        data_size_in=len(frame),
        ctx_in=ct.cast(ct.c_char_p(context), ct.c_void_p),
        ctx_size_in=len(context),
        repeat=1,
    )
    libbpf._check(libbpf._test_run(program, ct.byref(options)), "test-run a program on a frame in pieces")
    return int(options.retval)


@pytest.fixture
def listing(verdicts: Verdicts) -> Verdicts:
    if tuple(map(int, os.uname().release.split(".")[:2])) < (6, 18):
        pytest.skip("BPF_PROG_TEST_RUN makes frames in pieces since Linux 6.18")
    verdicts.put(state([BAD4, BAD6]))
    return verdicts


@pytest.mark.parametrize("name", FRAMES)
def test_the_headers_may_be_in_any_piece(listing: Verdicts, name: str) -> None:
    frame, dropped = FRAMES[name]
    for linear_bytes in range(14, HEADERS_BYTES + 1):
        answer = run_in_pieces(listing.program, frame, linear_bytes)
        assert answer == (XDP_DROP if dropped else XDP_PASS), f"{linear_bytes} of {len(frame)} bytes linear"
    assert listing.totals()["malformed"] == Volume(0, 0)


@pytest.mark.parametrize(
    ("source", "verdict"), [(BAD4, "dropped"), (GOOD4, "passed"), (BAD6, "dropped"), (GOOD6, "passed")]
)
@pytest.mark.parametrize("linear_bytes", [14, 64, 1000])
def test_all_pieces_count(listing: Verdicts, source: str, verdict: str, linear_bytes: int) -> None:
    header = ipv4_header(source, total=4028) if "." in source else ipv6_header(source, payload=4008)
    frame = ethernet(IPV4 if "." in source else IPV6, header + bytes(4008))
    run_in_pieces(listing.program, frame, linear_bytes)
    assert listing.totals()[verdict] == Volume(1, len(frame))


@pytest.mark.parametrize("source", [BAD4, BAD6])
def test_a_frame_that_ends_in_its_headers_is_malformed_in_pieces_as_well(listing: Verdicts, source: str) -> None:
    whole = from_source(source, tags=(DOT1Q, DOT1Q))
    for end in range(16, 14 + 8 + (20 if "." in source else 40)):
        assert run_in_pieces(listing.program, whole[:end], 14) == XDP_DROP, f"{end} bytes"
        assert listing.totals()["dropped"] == Volume(0, 0)
