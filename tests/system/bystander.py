"""Runs in a machine, behind the filter: counts the frames of one source that a device lets through.

usage: bystander.py DEVICE SOURCE

A packet socket sees what XDP has passed, before anything else does. Ends by SIGTERM and prints the number.
"""

import ctypes
import signal
import socket
import struct
import sys
import time

_ETH_P_ALL = 3
_SO_ATTACH_FILTER = 26  # asm-generic/socket.h
_SOL_PACKET, _PACKET_STATISTICS = 263, 6  # linux/if_packet.h


class _FilterProgram(ctypes.Structure):
    """struct sock_fprog (uapi/linux/filter.h)."""

    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def _only_from(source: str) -> list[tuple[int, int, int, int]]:
    """Classic BPF as (code, jt, jf, k): IPv4 frames with that source address, for the packet socket."""
    (address,) = struct.unpack("!I", socket.inet_aton(source))
    load_half, load_word, jump_if_equal, return_ = 0x28, 0x20, 0x15, 0x06
    return [
        (load_half, 0, 0, 12),
        (jump_if_equal, 0, 3, 0x0800),
        (load_word, 0, 0, 26),
        (jump_if_equal, 0, 1, address),
        (return_, 0, 0, 64),
        (return_, 0, 0, 0),
    ]


def main(device: str, source: str) -> None:
    """Count until told to stop."""
    going = [True]
    signal.signal(signal.SIGTERM, lambda *_: going.clear())
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in _only_from(source))
    program = ctypes.create_string_buffer(code)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as watching:  # protocol 0: nothing before the filter is in
        watching.setsockopt(
            socket.SOL_SOCKET,
            _SO_ATTACH_FILTER,
            bytes(_FilterProgram(len(code) // 8, ctypes.addressof(program))),
        )
        watching.bind((device, _ETH_P_ALL))
        print("ready", flush=True)
        seen = 0
        while True:
            stop = not going
            # tp_packets counts what did not fit into the queue as well, so nothing need be read; each look resets it.
            packets, _ = struct.unpack("=II", watching.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
            seen += packets
            if stop:
                break
            time.sleep(0.02)
        print(seen)


if __name__ == "__main__":
    main(*sys.argv[1:])
