"""Live frames: a program that sends what it is run on through a device, as a driver's transmit queue would.

Run it by BPF_PROG_TEST_RUN with F_TEST_XDP_LIVE_FRAMES. Also copied into machines, beside what sends there.
"""

import contextlib
import os
import socket
import struct
from collections.abc import Iterator

from xdropd.kernel import libbpf

BATCH = 64

# struct bpf_insn (uapi/linux/bpf.h): r1 = interface index, r2 = 0, call bpf_redirect, exit.
_MOVE, _CALL, _EXIT, _REDIRECT = 0xB7, 0x85, 0x95, 23


@contextlib.contextmanager
def redirecting(device: str) -> Iterator[int]:
    """The program for a device of this namespace."""
    program = libbpf.load_xdp_program(
        "live_frames",
        _instruction(_MOVE, 1, socket.if_nametoindex(device))
        + _instruction(_MOVE, 2)
        + _instruction(_CALL, 0, _REDIRECT)
        + _instruction(_EXIT),
    )
    # A test run registers its program with the XDP dispatcher and waits 30 ms for RCU each time, unless the program is
    # registered already, as one that is attached somewhere is (kernel/bpf/dispatcher.c).
    registration = libbpf.attach_xdp(program, socket.if_nametoindex("lo"), libbpf.XDP_FLAGS_SKB_MODE)
    try:
        yield program
    finally:
        os.close(registration)
        os.close(program)


def _instruction(code: int, register: int = 0, value: int = 0) -> bytes:
    return struct.pack("=BBhi", code, register, 0, value)
