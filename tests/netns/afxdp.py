"""An AF_XDP socket that only receives, by copy: frames that an XDP program redirects to it come here and nowhere else.

The rings are those of Documentation/networking/af_xdp.rst, the numbers and structures uapi/linux/if_xdp.h's.
"""

import ctypes
import mmap
import os
import socket
import struct
from collections.abc import Iterator

_AF_XDP, _SOL_XDP = 44, 283
_MMAP_OFFSETS, _RX_RING, _UMEM_REG, _FILL_RING, _COMPLETION_RING = 1, 2, 4, 5, 6
_FILL_RING_AT = 0x1_0000_0000
_COPY = 1 << 1
_FRAMES, _FRAME_BYTES = 512, 4096
_DESCRIPTOR_BYTES = {"rx": 16, "fill": 8}
_libc = ctypes.CDLL(None, use_errno=True)


class XdpSocket:
    """Bound to the first queue of a device of this namespace. It takes some hundreds of frames, and then no more."""

    def __init__(self, device: str) -> None:
        self._socket = socket.socket(_AF_XDP, socket.SOCK_RAW)
        self._frames = mmap.mmap(-1, _FRAMES * _FRAME_BYTES)
        at = ctypes.addressof(ctypes.c_char.from_buffer(self._frames))
        region = struct.pack("=QQIII4x", at, len(self._frames), _FRAME_BYTES, 0, 0)
        self._socket.setsockopt(_SOL_XDP, _UMEM_REG, region)
        for ring in (_FILL_RING, _COMPLETION_RING, _RX_RING):
            self._socket.setsockopt(_SOL_XDP, ring, _FRAMES)
        # Of each ring: where the producer's and the consumer's index are, the descriptors, and flags.
        offsets = struct.unpack("=16Q", self._socket.getsockopt(_SOL_XDP, _MMAP_OFFSETS, 128))
        self._rx_at, fill_at = offsets[0:4], offsets[8:12]
        self._rx = self._mapped(self._rx_at[2] + _FRAMES * _DESCRIPTOR_BYTES["rx"], 0)
        fill = self._mapped(fill_at[2] + _FRAMES * _DESCRIPTOR_BYTES["fill"], _FILL_RING_AT)
        for number in range(_FRAMES):
            struct.pack_into("=Q", fill, fill_at[2] + number * _DESCRIPTOR_BYTES["fill"], number * _FRAME_BYTES)
        struct.pack_into("=I", fill, fill_at[0], _FRAMES)
        address = struct.pack("=HHIII", _AF_XDP, _COPY, socket.if_nametoindex(device), 0, 0)
        if _libc.bind(self._socket.fileno(), address, len(address)) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"bind an AF_XDP socket: {os.strerror(number)}")

    def fileno(self) -> int:
        return self._socket.fileno()

    def frames(self) -> Iterator[bytes]:
        """Those that have come since the last call."""
        consumer, producer = (struct.unpack_from("=I", self._rx, at)[0] for at in (self._rx_at[1], self._rx_at[0]))
        for number in range(consumer, producer):
            place = self._rx_at[2] + number % _FRAMES * _DESCRIPTOR_BYTES["rx"]
            at, length = struct.unpack_from("=QI", self._rx, place)
            yield self._frames[at : at + length]
        struct.pack_into("=I", self._rx, self._rx_at[1], producer)

    def _mapped(self, size: int, offset: int) -> mmap.mmap:
        return mmap.mmap(self._socket.fileno(), size, mmap.MAP_SHARED | mmap.MAP_POPULATE, offset=offset)
