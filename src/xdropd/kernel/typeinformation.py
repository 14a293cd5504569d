"""BTF for one program: its name, and that it takes a struct xdp_md. What others need who trace it (bpftool, xdpdump).

The format is Documentation/bpf/btf.rst of the kernel's. bcc gives none of the programs it compiles, only of maps.
"""

import struct

_MAGIC, _VERSION, _HEADER_BYTES = 0xEB9F, 1, 24
_INT, _POINTER, _STRUCT, _FUNCTION, _PROTOTYPE = 1, 2, 4, 12, 13  # BTF_KIND_…
_SIGNED_32 = 1 << 24 | 32
_AT = {"int": 1, "xdp_md": 2, "context": 3, "prototype": 4}  # types by number, from 1

FUNCTION_TYPE = 5
"""The number of the function's type in `of_xdp_program`."""


def of_xdp_program(name: str) -> bytes:
    """Types of a program `int NAME(struct xdp_md *context)`, in the host's byte order."""
    strings = bytearray(1)

    def named(text: str) -> int:
        at = len(strings)
        strings.extend(text.encode() + b"\0")
        return at

    types = b"".join(
        (
            _type(_INT, named("int"), 4) + struct.pack("=I", _SIGNED_32),
            _type(_STRUCT, named("xdp_md"), 0),  # by its name the kernel knows it
            _type(_POINTER, 0, _AT["xdp_md"]),
            _type(_PROTOTYPE, 0, _AT["int"], 1) + struct.pack("=II", named("context"), _AT["context"]),
            _type(_FUNCTION, named(name), _AT["prototype"]),
        )
    )
    header = struct.pack("=HBBIIIII", _MAGIC, _VERSION, 0, _HEADER_BYTES, 0, len(types), len(types), len(strings))
    return header + types + bytes(strings)


def _type(kind: int, name_at: int, size_or_type: int, count: int = 0) -> bytes:
    """struct btf_type."""
    return struct.pack("=III", name_at, kind << 24 | count, size_or_type)
