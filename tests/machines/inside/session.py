"""Runs in a guest: a PPPoE session without daemons, as long as this process. Arguments: number, remote MAC, device.

Made as pppd and its plugin make it once LCP and IPCP are through: a socket that is connected to the session, its
channel, and a unit of it, which is the device ppp0. From uapi/linux/{if_pppox,ppp-ioctl}.h.
"""

import ctypes
import fcntl
import os
import signal
import socket
import struct
import sys

_AF_PPPOX, _PX_PROTO_OE = 24, 0
_GET_CHANNEL, _ATTACH_CHANNEL, _NEW_UNIT, _CONNECT = 0x80047437, 0x40047438, 0xC004743E, 0x4004743A
_INT = struct.Struct("=i")


def _ioctl(descriptor: int, what: int, value: int = 0) -> int:
    return _INT.unpack(fcntl.ioctl(descriptor, what, _INT.pack(value)))[0]


def main(number: str, remote: str, device: str) -> None:
    """Until it is killed."""
    libc = ctypes.CDLL(None, use_errno=True)
    session = libc.socket(_AF_PPPOX, socket.SOCK_STREAM, _PX_PROTO_OE)
    packed = struct.pack("=HI", _AF_PPPOX, _PX_PROTO_OE) + struct.pack("!H", int(number))
    packed += bytes.fromhex(remote.replace(":", "")) + device.encode().ljust(16, b"\0")
    if session < 0 or libc.connect(session, packed, len(packed)):
        raise OSError(ctypes.get_errno(), "the session")
    channel, unit = (os.open("/dev/ppp", os.O_RDWR) for _ in range(2))
    _ioctl(channel, _ATTACH_CHANNEL, _ioctl(session, _GET_CHANNEL))
    made = _ioctl(unit, _NEW_UNIT, -1)
    _ioctl(channel, _CONNECT, made)
    signal.pause()


main(*sys.argv[1:])
