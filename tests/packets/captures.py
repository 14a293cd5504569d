"""Ethernet frames out of capture files: pcap and pcapng, of either byte order, as far as they can be read.

Formats: https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-06.html and
https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-03.html. A file that breaks off or makes no sense is read up to
there. Link types other than Ethernet are passed over.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

_LINKTYPE_ETHERNET = 1
_PCAP_ORDER = {  # by the first four bytes; timestamps in microseconds or nanoseconds make no difference here
    b"\xd4\xc3\xb2\xa1": "<",
    b"\x4d\x3c\xb2\xa1": "<",
    b"\xa1\xb2\xc3\xd4": ">",
    b"\xa1\xb2\x3c\x4d": ">",
}
_PCAP_HEADER_BYTES, _PCAP_RECORD_BYTES = 24, 16
_SECTION, _INTERFACE, _OLD_PACKET, _SIMPLE_PACKET, _PACKET = 0x0A0D0D0A, 1, 2, 3, 6
_SECTION_START = b"\x0a\x0d\x0d\x0a"
_SECTION_ORDER = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}
_BLOCK_FRAME_BYTES = 12  # type and length before the body, length again behind it


def frames(data: bytes) -> Iterator[bytes]:
    """Every whole Ethernet frame of a capture."""
    if data[:4] in _PCAP_ORDER:
        return _frames_of_pcap(data, _PCAP_ORDER[data[:4]])
    if data[:4] == _SECTION_START:
        return _frames_of_pcapng(data)
    return iter(())


def _frames_of_pcap(data: bytes, order: str) -> Iterator[bytes]:
    if len(data) < _PCAP_HEADER_BYTES:
        return
    (link_type,) = struct.unpack_from(order + "20xI", data)
    if link_type & 0xFFFF != _LINKTYPE_ETHERNET:  # the upper bits tell of a frame check sequence
        return
    at = _PCAP_HEADER_BYTES
    while at + _PCAP_RECORD_BYTES <= len(data):
        (captured_bytes,) = struct.unpack_from(order + "8xI4x", data, at)
        at += _PCAP_RECORD_BYTES
        if captured_bytes > len(data) - at:
            return
        yield data[at : at + captured_bytes]
        at += captured_bytes


class _Interface(NamedTuple):
    link_type: int
    snap_bytes: int  # 0: no limit


def _frames_of_pcapng(data: bytes) -> Iterator[bytes]:
    order = ""
    interfaces: list[_Interface] = []
    at = 0
    while at + _BLOCK_FRAME_BYTES <= len(data):
        if data[at : at + 4] == _SECTION_START:
            order, interfaces = _SECTION_ORDER.get(data[at + 8 : at + 12], ""), []
        if not order:
            return
        kind, length_bytes = struct.unpack_from(order + "II", data, at)
        if length_bytes < _BLOCK_FRAME_BYTES or length_bytes > len(data) - at:
            return
        body = data[at + 8 : at + length_bytes - 4]
        try:
            if kind == _INTERFACE:
                interfaces.append(_Interface(*struct.unpack_from(order + "HxxI", body)))
            elif kind in (_PACKET, _OLD_PACKET, _SIMPLE_PACKET):
                frame = _frame_in(kind, body, order, interfaces)
                if frame is not None:
                    yield frame
        except (struct.error, IndexError):  # a body too short for what it announces, or an interface that is not there
            return
        at += -(-length_bytes // 4) * 4


def _frame_in(kind: int, body: bytes, order: str, interfaces: list[_Interface]) -> bytes | None:
    if kind == _SIMPLE_PACKET:
        (frame_bytes,) = struct.unpack_from(order + "I", body)
        number, header_bytes = 0, 4
        captured_bytes = min(frame_bytes, interfaces[0].snap_bytes or frame_bytes)
    else:
        layout = "I8xI4x" if kind == _PACKET else "H2x8xI4x"
        number, captured_bytes = struct.unpack_from(order + layout, body)
        header_bytes = struct.calcsize(order + layout)
    if interfaces[number].link_type != _LINKTYPE_ETHERNET or header_bytes + captured_bytes > len(body):
        return None
    return body[header_bytes : header_bytes + captured_bytes]
