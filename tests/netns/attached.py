"""What an interface carries, as the kernel tells it: packets through its XDP program, and the maps behind it.

bpf(2) as in uapi/linux/bpf.h, with nothing of xdropd's in between.
"""

import ctypes
import ipaddress
import json
import os
import platform
import struct
import subprocess
import sys
from collections.abc import Iterator

from netns import inside

_BPF = {"x86_64": 321, "aarch64": 280}[platform.machine()]
_MAP_LOOKUP, _MAP_NEXT_KEY, _TEST_RUN, _PROGRAM_BY_ID, _MAP_BY_ID, _INFO = 1, 4, 10, 13, 14, 15
_ATTRIBUTE_BYTES = 128
_XDP_DROP, _XDP_PASS = 1, 2
_PROGRAM_ARRAY = 3  # enum bpf_map_type

_libc = ctypes.CDLL(None, use_errno=True)


def _bpf(command: int, form: str, *fields: int) -> bytes:
    attribute = ctypes.create_string_buffer(struct.pack(f"={form}", *fields), _ATTRIBUTE_BYTES)
    result = _libc.syscall(_BPF, command, attribute, _ATTRIBUTE_BYTES)
    if result < 0:
        raise OSError(ctypes.get_errno(), f"bpf command {command}: {os.strerror(ctypes.get_errno())}")
    return struct.pack("=i", result) + attribute.raw


def _descriptor(command: int, number: int) -> int:
    return int(struct.unpack_from("=i", _bpf(command, "I", number))[0])


def _info(descriptor: int, given: bytes = b"") -> bytes:
    info = ctypes.create_string_buffer(given, 256)
    _bpf(_INFO, "IIQ", descriptor, len(info), ctypes.addressof(info))
    return info.raw


def frame(address: str) -> bytes:
    """An Ethernet frame from this source."""
    source = ipaddress.ip_address(address).packed
    if len(source) == 4:
        return bytes(12) + b"\x08\x00" + b"\x45" + bytes(11) + source + bytes(30)
    return bytes(12) + b"\x86\xdd" + b"\x60" + bytes(7) + source + bytes(22)


FRAME_BYTES = len(frame("::"))
assert len(frame("0.0.0.0")) == FRAME_BYTES


class Attached:
    """The program of an interface in a namespace, which is looked up anew with `look`."""

    def __init__(self, namespace: str, device: str) -> None:
        self._namespace, self._device = namespace, device
        self._program = -1
        self._ifindex = 0
        self._number = 0

    def close(self) -> None:
        """Let go of the program."""
        if self._program >= 0:
            os.close(self._program)
        self._program, self._number = -1, 0

    def look(self) -> None:
        """Find the program that packets meet. Fails where there is none."""
        with inside(self._namespace):
            said = subprocess.run(["ip", "-j", "link", "show", self._device], capture_output=True, check=True).stdout
        link = json.loads(said)[0]
        assert "xdp" in link, f"nothing is attached to {self._device}"
        if link["xdp"]["prog"]["id"] != self._number:
            self.close()
            self._number = link["xdp"]["prog"]["id"]
            self._program = _descriptor(_PROGRAM_BY_ID, self._number)
            self._ifindex = link["ifindex"]

    def drops(self, packets: dict[str, int]) -> dict[str, bool]:
        """Send so many frames from each of these sources: whether they were dropped. They count like any other."""
        found = {}
        with inside(self._namespace):  # the interface that they come from is one of this thread's namespace
            for address, times in packets.items():
                data = ctypes.create_string_buffer(frame(address), FRAME_BYTES)
                context = ctypes.create_string_buffer(struct.pack("=6I", 0, FRAME_BYTES, 0, self._ifindex, 0, 0))
                place, where = ctypes.addressof(data), ctypes.addressof(context)
                fields = (self._program, 0, FRAME_BYTES, 0, place, 0, times, 0, 24, 0, where, 0)
                verdict = struct.unpack_from("=I", _bpf(_TEST_RUN, "4I2Q4I2Q", *fields), 8)[0]
                assert verdict in (_XDP_DROP, _XDP_PASS), verdict
                found[address] = verdict == _XDP_DROP
        return found

    def maps(self, *names: str) -> dict[str, dict[bytes, bytes]]:
        """The content of maps by name: of the program that the interface knows, and of those behind it."""
        found: dict[str, dict[bytes, bytes]] = {}
        programs = [os.dup(self._program)]
        while programs:
            program = programs.pop()
            for kind, name, content in _maps_of(program):
                if kind == _PROGRAM_ARRAY:
                    numbers = (int.from_bytes(value[:4], sys.byteorder) for _, value in content)
                    programs += [_descriptor(_PROGRAM_BY_ID, number) for number in numbers]
                elif name in names:
                    found[name] = dict(content)
            os.close(program)
        return found


def _maps_of(program: int) -> Iterator[tuple[int, str, Iterator[tuple[bytes, bytes]]]]:
    count = struct.unpack_from("=I", _info(program), 52)[0]
    numbers = (ctypes.c_uint32 * count)()
    _info(program, struct.pack("=52xIQ", count, ctypes.addressof(numbers)))
    for number in numbers:
        descriptor = _descriptor(_MAP_BY_ID, number)
        try:
            kind, _, key_bytes, value_bytes, _, _, name = struct.unpack_from("=6I16s", _info(descriptor))
            yield kind, name.rstrip(b"\0").decode(), _content(descriptor, key_bytes, value_bytes)
        finally:
            os.close(descriptor)


def _content(descriptor: int, key_bytes: int, value_bytes: int) -> Iterator[tuple[bytes, bytes]]:
    key, after = ctypes.create_string_buffer(key_bytes), ctypes.create_string_buffer(key_bytes)
    value = ctypes.create_string_buffer(value_bytes)
    place = 0
    while True:
        try:
            _bpf(_MAP_NEXT_KEY, "I4xQQ", descriptor, place, ctypes.addressof(after))
        except FileNotFoundError:
            return
        key.raw, place = after.raw, ctypes.addressof(key)
        try:
            _bpf(_MAP_LOOKUP, "I4xQQ", descriptor, place, ctypes.addressof(value))
        except FileNotFoundError:  # an empty slot of a program array
            continue
        yield key.raw, value.raw
