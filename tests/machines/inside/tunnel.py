"""Runs in a guest: the other end of a tun device. Arguments: the device, and a card.

IP packets that come in on the card on their own, with an Ethertype that is free for experiments, come out of the
device, and what goes into it goes out there (uapi/linux/if_tun.h).
"""

import fcntl
import os
import select
import socket
import struct
import sys

_ETHERTYPE = 0x88B5
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 1, 0x1000


def main(device: str, card: str) -> None:
    """Until it is killed."""
    tun = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tun, _TUNSETIFF, struct.pack("16sH22x", device.encode(), _IFF_TUN | _IFF_NO_PI))
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETHERTYPE))
    wire.bind((card, _ETHERTYPE))
    macs = b"\x02\x00\x00\x00\xfe\x01" + wire.getsockname()[4]
    while True:
        for ready in select.select([tun, wire], [], [])[0]:
            if ready is wire:
                frame, (_, _, direction, _, _) = wire.recvfrom(1 << 16)
                if direction != socket.PACKET_OUTGOING:
                    os.write(tun, frame[14:])
            else:
                wire.send(macs + struct.pack("!H", _ETHERTYPE) + os.read(tun, 1 << 16))


main(*sys.argv[1:])
