"""Runs in a machine, in the namespace that the flood comes from: frames of one source at a steady rate.

usage: sender.py DEVICE SOURCE_MAC TARGET_MAC SOURCE TARGET FRAMES_A_SECOND SECONDS_AT_MOST

A program that returns bpf_redirect is run on live frames, which the kernel then sends through the device as a driver's
transmit queue would. Ends after the time given or by SIGTERM, and prints {"frames": sent, "seconds": taken}.
"""

import json
import os
import signal
import socket
import struct
import sys
import time

from xdropd.kernel import libbpf

BATCH = 64
FRAMES_A_RUN = 2 * BATCH
_PAYLOAD = b"x" * 18

# struct bpf_insn (uapi/linux/bpf.h): r1 = interface index, r2 = 0, call bpf_redirect, exit.
_MOVE, _CALL, _EXIT, _REDIRECT = 0xB7, 0x85, 0x95, 23


def _instruction(code: int, register: int = 0, value: int = 0) -> bytes:
    return struct.pack("=BBhi", code, register, 0, value)


def frame(source_mac: str, target_mac: str, source: str, target: str) -> bytes:
    """An Ethernet frame with a UDP datagram to the discard port."""
    addresses = socket.inet_aton(source) + socket.inet_aton(target)
    udp = struct.pack("!HHHH", 9, 9, 8 + len(_PAYLOAD), 0) + _PAYLOAD
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, socket.IPPROTO_UDP, 0) + addresses
    total = sum(struct.unpack("!10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    checksum = ~(total + (total >> 16)) & 0xFFFF
    header = header[:10] + struct.pack("!H", checksum) + header[12:]
    macs = bytes.fromhex(target_mac.replace(":", "")) + bytes.fromhex(source_mac.replace(":", ""))
    return macs + b"\x08\x00" + header + udp


def main(device: str, source_mac: str, target_mac: str, source: str, target: str, rate: str, seconds: str) -> None:
    """Send until it is time to end."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # looked for below: it would interrupt a run
    program = libbpf.load_xdp_program(
        "flood",
        _instruction(_MOVE, 1, socket.if_nametoindex(device))
        + _instruction(_MOVE, 2)
        + _instruction(_CALL, 0, _REDIRECT)
        + _instruction(_EXIT),
    )
    # A test run registers its program with the XDP dispatcher and waits 30 ms for RCU each time, unless the program is
    # registered already, as one that is attached somewhere is (kernel/bpf/dispatcher.c).
    registration = libbpf.attach_xdp(program, socket.if_nametoindex("lo"), libbpf.XDP_FLAGS_SKB_MODE)
    packet = frame(source_mac, target_mac, source, target)
    pause_s = FRAMES_A_RUN / int(rate)
    begun = due = time.monotonic()
    sent = 0
    while not signal.sigpending() and due < begun + float(seconds):
        libbpf.test_run(program, packet, FRAMES_A_RUN, libbpf.F_TEST_XDP_LIVE_FRAMES, BATCH)
        sent += FRAMES_A_RUN
        now = time.monotonic()
        due = max(due + pause_s, now - 0.2)  # where somebody else took the CPU: catch up
        time.sleep(max(0.0, due - now))
    os.close(registration)
    print(json.dumps({"frames": sent, "seconds": time.monotonic() - begun}))


if __name__ == "__main__":
    main(*sys.argv[1:])
