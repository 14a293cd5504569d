"""The C library: what Python does not wrap. Linux only."""

import ctypes as ct
import os
import signal
import time

_libc = ct.CDLL(None, use_errno=True)

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION_3 = 0x20080522  # uapi/linux/capability.h
CAP_SYS_ADMIN = 21
CAP_BPF = 39
_SYS_MEMBARRIER = {"x86_64": 324, "aarch64": 283, "riscv64": 283}
_MEMBARRIER_CMD_GLOBAL = 1
_M_ARENA_MAX, _M_MMAP_THRESHOLD = -8, -3  # malloc.h
_COLUMN_BYTES = 1 << 20
_NAP_SECONDS = 0.02
_FALLOC_FL_KEEP_SIZE, _FALLOC_FL_PUNCH_HOLE = 1, 2  # uapi/linux/falloc.h


class _CapHeader(ct.Structure):
    _fields_ = [("version", ct.c_uint32), ("pid", ct.c_int)]


class _CapData(ct.Structure):
    _fields_ = [("effective", ct.c_uint32), ("permitted", ct.c_uint32), ("inheritable", ct.c_uint32)]


def _check(result: int, call: str) -> None:
    if result != 0:
        number = ct.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")


def keep_columns_apart() -> None:
    """mallopt(3): one heap for all threads, and mappings of their own for large columns. Before any thread is there.

    Of the heaps that others get, malloc_trim(3) gives nothing back that is free at their end (mtrim in glibc's
    malloc.c): after a list of a million networks 48 MB stayed. And left alone, malloc raises the size from which
    something is mapped to that of the largest column that was freed; among small objects columns leave holes, 10 MB
    for a million addresses.
    """
    _libc.mallopt(_M_ARENA_MAX, 1)
    _libc.mallopt(_M_MMAP_THRESHOLD, _COLUMN_BYTES)


def give_back_memory() -> None:
    """malloc_trim(3): return to the system what a large reload used."""
    _libc.malloc_trim(0)


def punch_hole(descriptor: int, at: int, length: int) -> None:
    """fallocate(2): give the memory of a part of a file back; it reads as zeros then. Raises OSError."""
    mode = _FALLOC_FL_KEEP_SIZE | _FALLOC_FL_PUNCH_HOLE
    _check(_libc.fallocate(descriptor, mode, ct.c_int64(at), ct.c_int64(length)), "fallocate")


def wait_for_readers() -> None:
    """Until no CPU runs a program, or looks at a map, that it found before this call.

    membarrier(2), MEMBARRIER_CMD_GLOBAL, waits for a grace period (kernel/sched/membarrier.c), and so for all of them.
    Where it is refused, a nap: a program runs for microseconds.
    """
    number = _SYS_MEMBARRIER.get(os.uname().machine)
    if number is None or _libc.syscall(number, _MEMBARRIER_CMD_GLOBAL, 0, 0) != 0:
        time.sleep(_NAP_SECONDS)


def die_with_parent(parent: int) -> None:
    """PR_SET_PDEATHSIG; `parent` is the process id that the caller expects, for it may be gone already."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def keep_only_one_capability(*numbers: int) -> None:
    """Drop every capability but the first of these that there is, and the means to gain others."""
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl(PR_SET_NO_NEW_PRIVS)")
    header = _CapHeader(_CAPABILITY_VERSION_3, 0)
    held = (_CapData * 2)()
    _check(_libc.capget(ct.byref(header), held), "capget")
    kept = (_CapData * 2)()
    for word, bit in (divmod(number, 32) for number in numbers):
        if mask := held[word].permitted & 1 << bit:
            kept[word].permitted = kept[word].effective = mask
            break
    _check(_libc.capset(ct.byref(header), kept), "capset")
