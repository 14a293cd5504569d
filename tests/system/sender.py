"""Runs in a machine, in the namespace that the flood comes from: frames of one source at a steady rate.

usage: sender.py DEVICE SOURCE_MAC TARGET_MAC SOURCE TARGET FRAMES_A_SECOND SECONDS_AT_MOST

Frames are live ones (liveframes.py, which lies beside it there). Ends after the time given or by SIGTERM, and prints
{"frames": sent, "seconds": taken}.
"""

import json
import signal
import socket
import struct
import sys
import time

from liveframes import BATCH, redirecting
from xdropd.kernel import libbpf

FRAMES_A_RUN = 2 * BATCH
_PAYLOAD = b"x" * 18


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
    packet = frame(source_mac, target_mac, source, target)
    pause_s = FRAMES_A_RUN / int(rate)
    sent = 0
    with redirecting(device) as program:
        begun = due = time.monotonic()
        while not signal.sigpending() and due < begun + float(seconds):
            libbpf.test_run(program, packet, FRAMES_A_RUN, libbpf.F_TEST_XDP_LIVE_FRAMES, BATCH)
            sent += FRAMES_A_RUN
            now = time.monotonic()
            due = max(due + pause_s, now - 0.2)  # where somebody else took the CPU: catch up
            time.sleep(max(0.0, due - now))
    print(json.dumps({"frames": sent, "seconds": time.monotonic() - begun}))


if __name__ == "__main__":
    main(*sys.argv[1:])
