"""Frames, made by hand."""

import struct
from ipaddress import ip_address

IPV4, IPV6, ARP = 0x0800, 0x86DD, 0x0806
DOT1Q, DOT1AD = 0x8100, 0x88A8
PPPOE, PPP_IPV4, PPP_IPV6, PPP_LCP = 0x8864, 0x0021, 0x0057, 0xC021
TCP, UDP, GRE, ESP, ICMPV6 = 6, 17, 47, 50, 58
HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION_OPTIONS = 0, 43, 44, 60

HERE4, HERE6 = "192.0.2.1", "2001:db8::1"


def ethernet(ethertype: int, payload: bytes = b"", tags: tuple[int, ...] = ()) -> bytes:
    """A frame with VLAN tags of these types, the outermost first."""
    control = b"".join(struct.pack(">HH", tag, number) for number, tag in enumerate(tags, start=1))
    return b"\x02\0\0\0\0\1" + b"\x02\0\0\0\0\2" + control + struct.pack(">H", ethertype) + payload


def over_pppoe(protocol: int, packet: bytes, tags: tuple[int, ...] = ()) -> bytes:
    """A frame of session 1."""
    header = struct.pack(">BBHHH", 0x11, 0, 1, 2 + len(packet), protocol)
    return ethernet(PPPOE, header + packet, tags)


def ipv4_header(
    source: str | int,
    destination: str | int = HERE4,
    *,
    protocol: int = UDP,
    first_byte: int = 0x45,
    offset: int = 0,
    total: int = 28,
) -> bytes:
    """20 bytes; `offset` is the field of fragment flags and offset, `total` the length of the packet."""
    ends = packed(source, 4), packed(destination, 4)
    return struct.pack(">BBHHHBBH4s4s", first_byte, 0, total, 7, offset, 64, protocol, 0, *ends)


def ipv6_header(
    source: str | int,
    destination: str | int = HERE6,
    *,
    next_header: int = UDP,
    first_byte: int = 0x60,
    payload: int = 8,
) -> bytes:
    """40 bytes; `payload` is the length of what follows."""
    ends = packed(source, 6), packed(destination, 6)
    return struct.pack(">B3xHBB16s16s", first_byte, payload, next_header, 64, *ends)


def packed(address: str | int, version: int) -> bytes:
    number = address if isinstance(address, int) else int(ip_address(address))
    return number.to_bytes({4: 4, 6: 16}[version], "big")


def from_source(source: str | int, version: int | None = None, tags: tuple[int, ...] = ()) -> bytes:
    """A plain packet of 8 bytes of UDP."""
    if (version or ip_address(source).version) == 4:
        return ethernet(IPV4, ipv4_header(source) + bytes(8), tags)
    return ethernet(IPV6, ipv6_header(source) + bytes(8), tags)
