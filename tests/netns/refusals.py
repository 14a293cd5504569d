"""A kernel that refuses bpf(2), or in whose midst a process dies: calls are counted, and the n-th does not happen.

The C library's syscall(2), through which libbpf calls, is wrapped (LD_PRELOAD). It reads what to do from a shared file,
at any time: what strace --inject does, in microseconds.
"""

import mmap
import struct
import subprocess
from pathlib import Path

_WRAPPER = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static volatile struct { long calls, first, last, error, unknown_flags; } *order;

#define PROG_LOAD 5 /* enum bpf_cmd, uapi/linux/bpf.h */
#define PROG_FLAGS 44 /* of union bpf_attr: where prog_flags are */

__attribute__((constructor)) static void begin(void)
{
	int file = open(getenv("REFUSALS"), O_RDWR | O_CLOEXEC);

	order = mmap(NULL, sizeof(*order), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	close(file);
}

long syscall(long number, ...)
{
	static long (*really)(long, ...);
	long given[6];
	va_list list;

	va_start(list, number);
	for (int at = 0; at < 6; at++)
		given[at] = va_arg(list, long);
	va_end(list);
	if (!really)
		really = dlsym(RTLD_NEXT, "syscall");
	if (number == SYS_bpf && given[0] == PROG_LOAD && *(unsigned *)(given[1] + PROG_FLAGS) & order->unknown_flags) {
		errno = EINVAL;
		return -1;
	}
	if (number == SYS_bpf && ++order->calls >= order->first && order->calls <= order->last) {
		if (!order->error)
			kill(getpid(), SIGKILL);
		errno = order->error;
		return -1;
	}
	return really(number, given[0], given[1], given[2], given[3], given[4], given[5]);
}
"""

FOR_EVER = 1 << 40
_ORDER = "=5q"
_SIZE = struct.calcsize(_ORDER)


class Refusals:
    """Start a process with `environment`. `folder` holds the library."""

    def __init__(self, folder: Path) -> None:
        source, library, order = folder / "refusals.c", folder / "refusals.so", folder / "refusals"
        source.write_text(_WRAPPER)
        subprocess.run(["cc", "-shared", "-fPIC", "-O", "-o", library, source, "-ldl"], check=True)
        order.write_bytes(bytes(_SIZE))
        with order.open("r+b") as file:
            self._order = mmap.mmap(file.fileno(), _SIZE)
        self.environment = {"LD_PRELOAD": str(library), "REFUSALS": str(order)}
        self.relent()

    def refuse(self, first: int, last: int, error: int) -> None:
        """The calls from the `first` to the `last` from now on, counted from 1, fail with this errno."""
        self._order[:] = struct.pack(_ORDER, 0, first, last, error, 0)

    def kill_at(self, call: int) -> None:
        """Instead of this call, counted from 1, the process is killed."""
        self._order[:] = struct.pack(_ORDER, 0, call, call, 0, 0)

    def know_no_flags(self, flags: int) -> None:
        """Programs with any of these flags are refused, as by a kernel that is older than they are."""
        self._order[:] = struct.pack(_ORDER, 0, FOR_EVER, 0, 0, flags)

    def relent(self) -> None:
        """Every call is made again."""
        self._order[:] = struct.pack(_ORDER, 0, FOR_EVER, 0, 0, 0)
