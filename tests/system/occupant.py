"""Runs in a machine: somebody else's XDP program, which passes everything and holds a device.

usage: occupant.py DEVICE

Prints its program's id once it is attached, and holds on until SIGTERM.
"""

import signal
import socket
import struct
import sys

from xdropd.kernel import libbpf

_PASS = struct.pack("=BBhi", 0xB7, 0, 0, 2) + struct.pack("=BBhi", 0x95, 0, 0, 0)  # r0 = XDP_PASS; exit


def main(device: str) -> None:
    """Attach and wait."""
    program = libbpf.load_xdp_program("somebody_else", _PASS)
    link = libbpf.attach_xdp(program, socket.if_nametoindex(device), libbpf.XDP_FLAGS_DRV_MODE)
    print(libbpf.link_target(link)[0], flush=True)
    signal.sigwait([signal.SIGTERM])


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    main(*sys.argv[1:])
