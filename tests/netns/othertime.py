"""A clock of its own for one process: CLOCK_REALTIME as if somebody had set it, without setting the machine's.

The C library's clock_gettime(2) is wrapped (LD_PRELOAD) and adds what a shared file says, at any time.
"""

import mmap
import struct
import subprocess
from pathlib import Path

_WRAPPER = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

static volatile long *shift_s;

__attribute__((constructor)) static void begin(void)
{
	int file = open(getenv("OTHERTIME"), O_RDONLY | O_CLOEXEC);

	shift_s = mmap(NULL, sizeof(*shift_s), PROT_READ, MAP_SHARED, file, 0);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
	int (*really)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
	int result = really(clock, now);

	if (result == 0 && clock == CLOCK_REALTIME)
		now->tv_sec += *shift_s;
	return result;
}
"""


class OtherTime:
    """Start a process with `environment`; `shift` its clock whenever you like."""

    def __init__(self, folder: Path) -> None:
        source, library, shift = folder / "othertime.c", folder / "othertime.so", folder / "shift"
        source.write_text(_WRAPPER)
        subprocess.run(["cc", "-shared", "-fPIC", "-O", "-o", library, source, "-ldl"], check=True)
        shift.write_bytes(bytes(8))
        with shift.open("r+b") as file:
            self._shift = mmap.mmap(file.fileno(), 8)
        self.environment = {"LD_PRELOAD": str(library), "OTHERTIME": str(shift)}

    def shift(self, seconds: int) -> None:
        """By so many seconds in all, against the machine's clock."""
        self._shift[:] = struct.pack("=q", seconds)
