"""libbpf.so.1: one function a call, each raises KernelError.

The only file that knows ctypes. Structures are named and laid out as in libbpf's bpf.h and the kernel's
uapi/linux/bpf.h; every `*_opts` structure starts with its own size, so that a library of any 1.x version reads
just what it knows. Descriptors are plain integers; `close` is os.close.
"""

import ctypes as ct
import errno
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from xdropd.errors import KernelError, KernelTooOld, NotPermitted, ProgramRefused
from xdropd.kernel.retry import TRIES

# enum bpf_map_type (uapi/linux/bpf.h)
MAP_HASH = 1
MAP_ARRAY = 2
MAP_PROG_ARRAY = 3
MAP_PERCPU_HASH = 5
MAP_PERCPU_ARRAY = 6
MAP_QUEUE = 22

# enum bpf_prog_type, enum bpf_attach_type
PROG_TYPE_XDP = 6
ATTACH_TYPE_XDP = 37

# Flags of BPF_MAP_UPDATE_ELEM
_ANY = 0  # whether the key is there or not

# Flags of BPF_PROG_LOAD
F_XDP_HAS_FRAGS = 1 << 5

# Flags of BPF_OBJ_GET
_F_RDONLY = 1 << 3

# Flags of BPF_PROG_TEST_RUN
F_TEST_XDP_LIVE_FRAMES = 1 << 1

# Flags of an XDP attachment (uapi/linux/if_link.h)
_XDP_FLAGS_UPDATE_IF_NOEXIST = 1 << 0
XDP_FLAGS_SKB_MODE = 1 << 1
XDP_FLAGS_DRV_MODE = 1 << 2

# struct bpf_insn
INSN_BYTES = 8
LD_IMM64 = 0x18
PSEUDO_MAP_FD = 1
PSEUDO_FITTED_NUMBER = 15  # FITTED_NUMBER in xdrop.bpf.c: ours, and gone before the kernel sees it

# Capabilities (uapi/linux/capability.h)
_CAPABILITIES = {"CAP_BPF": 39, "CAP_NET_ADMIN": 12, "CAP_PERFMON": 38}
_CAP_SYS_ADMIN = 21

# Programs to try: `r0 = XDP_PASS; exit`, and `r0 = r1; exit`, which returns a pointer: for CAP_PERFMON only.
_PASSES = bytes.fromhex("b700000002000000 9500000000000000")
_RETURNS_POINTER = bytes.fromhex("bf10000000000000 9500000000000000")

_KEYS_A_BATCH = 4096
_VERIFIER_LOG_BYTES = 1 << 22  # kernels before 6.4 keep the beginning of a log that does not fit; the end tells
_VERIFIER_LINES_TOLD = 6


class _MapCreateOpts(ct.Structure):
    _fields_ = [
        ("sz", ct.c_size_t),
        ("btf_fd", ct.c_uint32),
        ("btf_key_type_id", ct.c_uint32),
        ("btf_value_type_id", ct.c_uint32),
        ("btf_vmlinux_value_type_id", ct.c_uint32),
        ("inner_map_fd", ct.c_uint32),
        ("map_flags", ct.c_uint32),
        ("map_extra", ct.c_uint64),
        ("numa_node", ct.c_uint32),
        ("map_ifindex", ct.c_uint32),
    ]


class _ProgLoadOpts(ct.Structure):
    _fields_ = [
        ("sz", ct.c_size_t),
        ("attempts", ct.c_int),
        ("expected_attach_type", ct.c_int),
        ("prog_btf_fd", ct.c_uint32),
        ("prog_flags", ct.c_uint32),
        ("prog_ifindex", ct.c_uint32),
        ("kern_version", ct.c_uint32),
        ("attach_btf_id", ct.c_uint32),
        ("attach_prog_fd", ct.c_uint32),
        ("attach_btf_obj_fd", ct.c_uint32),
        ("fd_array", ct.c_void_p),
        ("func_info", ct.c_void_p),
        ("func_info_cnt", ct.c_uint32),
        ("func_info_rec_size", ct.c_uint32),
        ("line_info", ct.c_void_p),
        ("line_info_cnt", ct.c_uint32),
        ("line_info_rec_size", ct.c_uint32),
        ("log_level", ct.c_uint32),
        ("log_size", ct.c_uint32),
        ("log_buf", ct.c_char_p),
    ]


class _FuncInfo(ct.Structure):
    """struct bpf_func_info."""

    _fields_ = [("insn_off", ct.c_uint32), ("type_id", ct.c_uint32)]


class _LinkCreateOpts(ct.Structure):
    _fields_ = [
        ("sz", ct.c_size_t),
        ("flags", ct.c_uint32),
        ("iter_info", ct.c_void_p),
        ("iter_info_len", ct.c_uint32),
        ("target_btf_id", ct.c_uint32),
        ("reserved", ct.c_uint64 * 4),
    ]


class _XdpAttachOpts(ct.Structure):
    _fields_ = [("sz", ct.c_size_t), ("old_prog_fd", ct.c_int)]


class _TestRunOpts(ct.Structure):
    _fields_ = [
        ("sz", ct.c_size_t),
        ("data_in", ct.c_void_p),
        ("data_out", ct.c_void_p),
        ("data_size_in", ct.c_uint32),
        ("data_size_out", ct.c_uint32),
        ("ctx_in", ct.c_void_p),
        ("ctx_out", ct.c_void_p),
        ("ctx_size_in", ct.c_uint32),
        ("ctx_size_out", ct.c_uint32),
        ("retval", ct.c_uint32),
        ("repeat", ct.c_int),
        ("duration", ct.c_uint32),
        ("flags", ct.c_uint32),
        ("cpu", ct.c_uint32),
        ("batch_size", ct.c_uint32),
    ]


class _BatchOpts(ct.Structure):
    _fields_ = [("sz", ct.c_size_t), ("elem_flags", ct.c_uint64), ("flags", ct.c_uint64)]


class _ObjGetOpts(ct.Structure):
    _fields_ = [("sz", ct.c_size_t), ("file_flags", ct.c_uint32), ("path_fd", ct.c_int)]


class _MapInfo(ct.Structure):
    _fields_ = [
        ("type", ct.c_uint32),
        ("id", ct.c_uint32),
        ("key_size", ct.c_uint32),
        ("value_size", ct.c_uint32),
        ("max_entries", ct.c_uint32),
        ("map_flags", ct.c_uint32),
        ("name", ct.c_char * 16),
        ("ifindex", ct.c_uint32),
        ("unused", ct.c_uint32 * 9),
    ]


class _ProgInfo(ct.Structure):
    _fields_ = [
        ("type", ct.c_uint32),
        ("id", ct.c_uint32),
        ("tag", ct.c_uint8 * 8),
        ("unused", ct.c_uint8 * 48),
        ("name", ct.c_char * 16),
    ]


class _LinkInfo(ct.Structure):
    _fields_ = [
        ("type", ct.c_uint32),
        ("id", ct.c_uint32),
        ("prog_id", ct.c_uint32),
        ("pad", ct.c_uint32),
        ("xdp_ifindex", ct.c_uint32),
        ("unused", ct.c_uint32 * 11),
    ]


_library = ct.CDLL("libbpf.so.1", use_errno=True)


def _declare(name: str, *arguments: type) -> "ct._NamedFuncPointer":
    function = getattr(_library, name)
    function.argtypes = list(arguments)
    function.restype = ct.c_int
    return function  # type: ignore[no-any-return]  # CDLL attributes are untyped


_map_create = _declare(
    "bpf_map_create", ct.c_int, ct.c_char_p, ct.c_uint32, ct.c_uint32, ct.c_uint32, ct.POINTER(_MapCreateOpts)
)
_prog_load = _declare(
    "bpf_prog_load", ct.c_int, ct.c_char_p, ct.c_char_p, ct.c_char_p, ct.c_size_t, ct.POINTER(_ProgLoadOpts)
)
_btf_load = _declare("bpf_btf_load", ct.c_char_p, ct.c_size_t, ct.c_void_p)
_link_create = _declare("bpf_link_create", ct.c_int, ct.c_int, ct.c_int, ct.POINTER(_LinkCreateOpts))
_update = _declare("bpf_map_update_elem", ct.c_int, ct.c_char_p, ct.c_char_p, ct.c_uint64)
_lookup = _declare("bpf_map_lookup_elem", ct.c_int, ct.c_char_p, ct.c_void_p)
_delete = _declare("bpf_map_delete_elem", ct.c_int, ct.c_char_p)
_pop = _declare("bpf_map_lookup_and_delete_elem", ct.c_int, ct.c_char_p, ct.c_void_p)
_update_batch = _declare(
    "bpf_map_update_batch", ct.c_int, ct.c_void_p, ct.c_void_p, ct.POINTER(ct.c_uint32), ct.POINTER(_BatchOpts)
)
_delete_batch = _declare("bpf_map_delete_batch", ct.c_int, ct.c_void_p, ct.POINTER(ct.c_uint32), ct.POINTER(_BatchOpts))
_lookup_batch = _declare(
    "bpf_map_lookup_batch",
    ct.c_int,
    ct.c_void_p,
    ct.c_void_p,
    ct.c_void_p,
    ct.c_void_p,
    ct.POINTER(ct.c_uint32),
    ct.POINTER(_BatchOpts),
)
_obj_get = _declare("bpf_obj_get_opts", ct.c_char_p, ct.POINTER(_ObjGetOpts))
_program_by_id = _declare("bpf_prog_get_fd_by_id", ct.c_uint32)
_info = _declare("bpf_obj_get_info_by_fd", ct.c_int, ct.c_void_p, ct.POINTER(ct.c_uint32))
_test_run = _declare("bpf_prog_test_run_opts", ct.c_int, ct.POINTER(_TestRunOpts))

_xdp_attach = _declare("bpf_xdp_attach", ct.c_int, ct.c_int, ct.c_uint32, ct.c_void_p)
_xdp_detach = _declare("bpf_xdp_detach", ct.c_int, ct.c_uint32, ct.POINTER(_XdpAttachOpts))

# libbpf 1.x speaks on standard error unless told not to; every failure is raised here anyway. A va_list is handed over
# by its address, or is one, wherever Linux runs.
_Print = ct.CFUNCTYPE(ct.c_int, ct.c_int, ct.c_char_p, ct.c_void_p)
_library.libbpf_set_print.argtypes = [ct.c_void_p]
_library.libbpf_set_print(None)
_vsnprintf = ct.CDLL(None).vsnprintf
_vsnprintf.argtypes = [ct.c_char_p, ct.c_size_t, ct.c_char_p, ct.c_void_p]
_SAID_BY_KERNEL = "Kernel error message: "  # libbpf's words before an extended acknowledgement (its nlattr.c)


def _check(result: int, call: str) -> int:
    """The result of a call that returns -1 with errno, or a negated errno."""
    if result >= 0:
        return result
    number = ct.get_errno() if result == -1 else -result
    if number in (errno.EPERM, errno.EACCES):
        raise NotPermitted(call, number, os.strerror(number), "needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON")
    raise KernelError(call, number, os.strerror(number))


@dataclass(frozen=True, slots=True)
class MapShape:
    """What the kernel tells of a map. Sizes in bytes; what user space sees of a per-CPU value is larger."""

    name: str
    type: int
    key_bytes: int
    value_bytes: int
    max_entries: int
    flags: int


@dataclass(frozen=True, slots=True)
class ProgramShape:
    """What the kernel tells of a program. `tag` is a hash of its instructions (without map addresses)."""

    type: int
    id: int
    name: str
    tag: str


@cache
def possible_cpus() -> int:
    """How many values a per-CPU map has for each key (highest possible CPU number + 1)."""
    ranges = Path("/sys/devices/system/cpu/possible").read_text(encoding="ascii").strip()
    return int(ranges.split(",")[-1].split("-")[-1]) + 1


def create_map(shape: MapShape) -> int:
    """BPF_MAP_CREATE. A new descriptor, close-on-exec."""
    options = _MapCreateOpts(sz=ct.sizeof(_MapCreateOpts), map_flags=shape.flags)
    name = shape.name[:15].encode()
    return _check(
        _map_create(shape.type, name, shape.key_bytes, shape.value_bytes, shape.max_entries, ct.byref(options)),
        f"create map {shape.name} of {shape.max_entries} entries",
    )


def probe() -> None:
    """Find out whether the kernel lets us make a filter, by having it accept the smallest programs that need as much.

    For what counts is what it accepts: CAP_SYS_ADMIN stands for all three capabilities, and those of a user namespace
    count for nothing. Raises NotPermitted with the ones that are missing, KernelTooOld, KernelError where there is no
    bpf(2).
    """
    try:
        os.close(create_map(MapShape("probe", MAP_HASH, 4, 4, 1, 0)))
        os.close(load_xdp_program("probe", _PASSES))
    except NotPermitted as refusal:
        raise _not_permitted(refusal.errno, _missing_capabilities()) from refusal
    try:
        os.close(load_xdp_program("probe", _RETURNS_POINTER))
    except (NotPermitted, ProgramRefused) as refusal:
        raise _not_permitted(refusal.errno, ["CAP_PERFMON"]) from refusal
    try:
        os.close(load_xdp_program("probe", _PASSES, F_XDP_HAS_FRAGS))
    except KernelError as refusal:
        if refusal.errno == errno.EINVAL:
            raise KernelTooOld from refusal
        raise


def _missing_capabilities() -> list[str]:
    """Those of the three that this process does not hold, nor CAP_SYS_ADMIN in their place."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    held = int(status.partition("CapEff:")[2].split(maxsplit=1)[0], 16)
    if held >> _CAP_SYS_ADMIN & 1:
        return []
    return [name for name, number in _CAPABILITIES.items() if not held >> number & 1]


def _not_permitted(number: int, missing: list[str]) -> NotPermitted:
    if not missing:
        reason = "the kernel refuses it although the capabilities are there"
        hint = "those of a user namespace do not count; else a seccomp filter or a security module forbids it"
        return NotPermitted("use bpf(2)", number, reason, hint)
    options = " ".join(f"--cap-add={name.removeprefix('CAP_')}" for name in missing)
    return NotPermitted(
        "use bpf(2)",
        number,
        f"without {', '.join(missing)}",
        f"run it as root; in a unit, add AmbientCapabilities={' '.join(missing)}; to a container, {options}",
    )


@dataclass(frozen=True, slots=True)
class TypeInformation:
    """BTF of a program: the object's descriptor, and the number of the type of its only function."""

    descriptor: int
    function: int


def load_types(types: bytes) -> int:
    """BPF_BTF_LOAD: a new descriptor."""
    return _check(_btf_load(types, len(types), None), "load type information")


def load_xdp_program(name: str, instructions: bytes, flags: int = 0, types: TypeInformation | None = None) -> int:
    """BPF_PROG_LOAD. `instructions` are whole struct bpf_insn. Raises ProgramRefused where the verifier gives a reason.

    EACCES is then the verifier's word for an access that the program must not make, not ours for a missing capability;
    for that it has EPERM. While a signal waits for this thread it gives up with EAGAIN (do_check in its verifier.c),
    which says nothing of the program; libbpf tries that again a few times.
    """
    options = _ProgLoadOpts(sz=ct.sizeof(_ProgLoadOpts), expected_attach_type=ATTACH_TYPE_XDP, prog_flags=flags)
    if types is not None:
        function = _FuncInfo(0, types.function)
        options.prog_btf_fd, options.func_info_rec_size = types.descriptor, ct.sizeof(_FuncInfo)
        options.func_info, options.func_info_cnt = ct.cast(ct.pointer(function), ct.c_void_p), 1
    count = len(instructions) // INSN_BYTES
    descriptor = _prog_load(PROG_TYPE_XDP, name[:15].encode(), b"GPL", instructions, count, ct.byref(options))
    if descriptor >= 0:
        return int(descriptor)
    refusal = ct.get_errno()
    log = ct.create_string_buffer(_VERIFIER_LOG_BYTES)
    options.log_level, options.log_size, options.log_buf = 1, len(log), ct.cast(log, ct.c_char_p)
    descriptor = _prog_load(PROG_TYPE_XDP, name[:15].encode(), b"GPL", instructions, count, ct.byref(options))
    if descriptor >= 0:
        return int(descriptor)
    said = log.value.decode(errors="replace").strip().splitlines()[-_VERIFIER_LINES_TOLD:]
    if said and refusal not in (errno.EPERM, errno.EAGAIN):
        lines = "".join(f"\n  verifier: {line}" for line in said)
        raise ProgramRefused(f"load program {name}", refusal, f"the verifier of this kernel refuses it{lines}")
    ct.set_errno(refusal)
    return _check(-1, f"load program {name}")


def attach_xdp(program: int, ifindex: int, flags: int) -> int:
    """BPF_LINK_CREATE. The attachment lives exactly as long as descriptors of the link returned do."""
    options = _LinkCreateOpts(sz=ct.sizeof(_LinkCreateOpts), flags=flags)
    return _check(
        _link_create(program, ifindex, ATTACH_TYPE_XDP, ct.byref(options)), f"attach to interface index {ifindex}"
    )


def why_not_xdp(program: int, ifindex: int, flags: int) -> str:
    """What the kernel says of a program that it has just refused to attach: its own sentence, "" where it has none.

    A link tells no more than an error number; over netlink the kernel answers in words. If it takes the program this
    time, that comes off again.
    """
    said = []

    def note(_level: int, form: bytes, arguments: int) -> int:
        text = ct.create_string_buffer(1 << 10)
        _vsnprintf(text, len(text), form, arguments)
        said.append(text.value.decode(errors="replace").strip())
        return 0

    callback = _Print(note)
    _library.libbpf_set_print(callback)
    try:
        if _xdp_attach(ifindex, program, flags | _XDP_FLAGS_UPDATE_IF_NOEXIST, None) == 0:
            _xdp_detach(ifindex, flags, ct.byref(_XdpAttachOpts(ct.sizeof(_XdpAttachOpts), program)))
    finally:
        _library.libbpf_set_print(None)
    sentences = [text.partition(_SAID_BY_KERNEL)[2] for text in said if _SAID_BY_KERNEL in text]
    return " · ".join(filter(None, sentences))


def update(map_fd: int, key: bytes, value: bytes) -> None:
    """BPF_MAP_UPDATE_ELEM; `key` and `value` are exactly as long as the map's."""
    _check(_update(map_fd, key, value, _ANY), "update map")


def set_program(array_fd: int, index: int, program: int) -> None:
    """Put a program into a slot of a program array: one atomic step for every packet."""
    _check(
        _update(array_fd, index.to_bytes(4, sys.byteorder), program.to_bytes(4, sys.byteorder), _ANY),
        "write the program array",
    )


def lookup(map_fd: int, key: bytes, value_bytes: int) -> bytes | None:
    """BPF_MAP_LOOKUP_ELEM: the value, or None where the key is not there."""
    value = ct.create_string_buffer(value_bytes)
    if _lookup(map_fd, key, value) == 0:
        return value.raw
    if ct.get_errno() == errno.ENOENT:
        return None
    _check(-1, "look up in map")
    return None


def delete(map_fd: int, key: bytes) -> bool:
    """BPF_MAP_DELETE_ELEM: whether the key was there."""
    if _delete(map_fd, key) == 0:
        return True
    if ct.get_errno() == errno.ENOENT:
        return False
    _check(-1, "delete from map")
    return False


def pop(queue_fd: int, value_bytes: int) -> bytes | None:
    """The oldest value of a queue, taken out, or None where it is empty."""
    value = ct.create_string_buffer(value_bytes)
    if _pop(queue_fd, None, value) == 0:
        return value.raw
    if ct.get_errno() == errno.ENOENT:
        return None
    _check(-1, "pop from queue")
    return None


def update_batch(map_fd: int, keys_blob: bytes, values_blob: bytes, count: int) -> None:
    """BPF_MAP_UPDATE_BATCH of `count` keys and values, each blob packed without gaps.

    On an error some of them may have been written; writing all of them again is the way on.
    """
    options = _BatchOpts(sz=ct.sizeof(_BatchOpts), elem_flags=_ANY)
    written = ct.c_uint32(count)
    _check(_update_batch(map_fd, keys_blob, values_blob, ct.byref(written), ct.byref(options)), "update map in a batch")


def delete_batch(map_fd: int, keys_blob: bytes, count: int) -> None:
    """BPF_MAP_DELETE_BATCH of `count` packed keys. A key that is not there is passed over, where the kernel stops.

    On an error some of them may be gone; deleting all of them again is the way on.
    """
    key_bytes = len(keys_blob) // count
    options = _BatchOpts(sz=ct.sizeof(_BatchOpts))
    done = 0
    while done < count:
        deleted = ct.c_uint32(count - done)
        result = _delete_batch(map_fd, keys_blob[done * key_bytes :], ct.byref(deleted), ct.byref(options))
        if result >= 0:
            return
        if ct.get_errno() != errno.ENOENT or deleted.value >= count - done:  # the kernel did not even begin
            _check(result, "delete from map in a batch")
        done += deleted.value + 1


def batches(map_fd: int, key_bytes: int, value_bytes: int) -> Iterator[tuple[bytes, bytes, int]]:
    """Everything in a hash or array, as (packed keys, packed values, count), by BPF_MAP_LOOKUP_BATCH.

    `value_bytes` is the size that user space sees. Each batch is a copy taken at its own moment. A call that the
    kernel refuses is made again a few times.
    """
    size = 0
    keys_blob = values_blob = ct.create_string_buffer(0)
    untouched = b"\xff" * max(key_bytes, 8)
    start: object = None
    refused = 0
    wanted = _KEYS_A_BATCH
    options = _BatchOpts(sz=ct.sizeof(_BatchOpts))
    while True:
        if size != wanted:  # buffers are used again: new ones are new pages from the kernel each time
            size = wanted
            keys_blob, values_blob = (
                ct.create_string_buffer(key_bytes * size),
                ct.create_string_buffer(value_bytes * size),
            )
        position = ct.create_string_buffer(untouched, len(untouched))
        count = ct.c_uint32(size)
        result = _lookup_batch(map_fd, start, position, keys_blob, values_blob, ct.byref(count), ct.byref(options))
        problem = 0 if result >= 0 else ct.get_errno()
        if problem == errno.ENOSPC and size < 1 << 20:  # one bucket of the hash holds more than was asked for
            wanted = 2 * size
            continue
        did_nothing = position.raw == untouched and count.value == size
        if problem and (problem != errno.ENOENT or did_nothing):
            refused += 1
            if refused < TRIES:
                continue
            _check(result, "read map in a batch")
        refused = 0
        if count.value:
            keys, values = memoryview(keys_blob), memoryview(values_blob)
            yield bytes(keys[: count.value * key_bytes]), bytes(values[: count.value * value_bytes]), count.value
        if problem:  # ENOENT: this was the last batch
            return
        start = position


def map_shape(map_fd: int) -> MapShape:
    """BPF_OBJ_GET_INFO_BY_FD of a map."""
    info, size = _MapInfo(), ct.c_uint32(ct.sizeof(_MapInfo))
    _check(_info(map_fd, ct.byref(info), ct.byref(size)), "ask about a map")
    return MapShape(info.name.decode(), info.type, info.key_size, info.value_size, info.max_entries, info.map_flags)


def program_shape(program: int) -> ProgramShape:
    """BPF_OBJ_GET_INFO_BY_FD of a program."""
    info, size = _ProgInfo(), ct.c_uint32(ct.sizeof(_ProgInfo))
    _check(_info(program, ct.byref(info), ct.byref(size)), "ask about a program")
    return ProgramShape(info.type, info.id, info.name.decode(), bytes(info.tag).hex())


def program_name(number: int) -> str:
    """The name of the program with this id; "" if it has none, is gone, or may not be asked for: CAP_SYS_ADMIN may."""
    descriptor = int(_program_by_id(number))
    if descriptor < 0:
        return ""
    try:
        return program_shape(descriptor).name
    finally:
        os.close(descriptor)


def link_target(link: int) -> tuple[int, int]:
    """BPF_OBJ_GET_INFO_BY_FD of an XDP link: (program id, interface index); index 0 once the interface is gone."""
    info, size = _LinkInfo(), ct.c_uint32(ct.sizeof(_LinkInfo))
    _check(_info(link, ct.byref(info), ct.byref(size)), "ask about a link")
    return info.prog_id, info.xdp_ifindex


def pinned_program(path: bytes) -> int:
    """BPF_OBJ_GET of a program: a new descriptor. Read access to the file suffices.

    Raises FileNotFoundError, PermissionError or another OSError where it cannot be got, ValueError with a sentence
    where it is something else.
    """
    options = _ObjGetOpts(sz=ct.sizeof(_ObjGetOpts), file_flags=_F_RDONLY)
    descriptor = int(_obj_get(path, ct.byref(options)))
    if descriptor < 0:
        number = ct.get_errno()
        if number == errno.EACCES and os.access(path, os.R_OK):  # what it says of any other file (kernel/bpf/inode.c)
            raise ValueError("this is a file, and nothing is pinned there")
        raise OSError(number, os.strerror(number), path)
    if not Path(f"/proc/self/fd/{descriptor}").readlink().name.endswith("bpf-prog"):
        os.close(descriptor)
        raise ValueError("a map or a link is pinned there, and no program")
    return descriptor


def program_in(array_fd: int, index: int) -> int:
    """The id of the program in a slot of a program array; 0 for an empty slot."""
    found = lookup(array_fd, index.to_bytes(4, sys.byteorder), 4)
    return int.from_bytes(found, sys.byteorder) if found else 0


def test_run(program: int, packet: bytes, repeat: int = 1, flags: int = 0, batch_size: int = 0) -> int:
    """BPF_PROG_TEST_RUN on a packet of 14 bytes or more: what the program returned.

    With F_TEST_XDP_LIVE_FRAMES what the program decides is done, in batches of `batch_size`; the result says nothing.
    """
    options = _TestRunOpts(
        sz=ct.sizeof(_TestRunOpts),
        data_in=ct.cast(ct.c_char_p(packet), ct.c_void_p),
        data_size_in=len(packet),
        repeat=repeat,
        flags=flags,
        batch_size=batch_size,
    )
    _check(_test_run(program, ct.byref(options)), "test-run a program")
    return int(options.retval)


def references(instructions: bytes, pseudo: int) -> list[tuple[int, int]]:
    """Where a program loads an immediate of a kind: (offset of the instruction, the number that stands in it)."""
    found = []
    for at in range(0, len(instructions), INSN_BYTES):
        source_register = instructions[at + 1] >> 4 if sys.byteorder == "little" else instructions[at + 1] & 15
        if instructions[at] == LD_IMM64 and source_register == pseudo:
            found.append((at, int.from_bytes(instructions[at + 4 : at + 8], sys.byteorder)))
    return found


def set_reference(instructions: bytearray, at: int, number: int) -> None:
    """Let an instruction of `references` load another number of the same kind."""
    instructions[at + 4 : at + 8] = number.to_bytes(4, sys.byteorder)


def set_constant(instructions: bytearray, at: int, number: int) -> None:
    """Let an instruction of `references` load a plain number."""
    set_reference(instructions, at, number)
    instructions[at + 1] &= 0x0F if sys.byteorder == "little" else 0xF0
