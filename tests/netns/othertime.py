"""A clock of its own for one process: CLOCK_REALTIME as if somebody had set it, without setting the machine's.

The C library's clock_gettime(2) is wrapped (LD_PRELOAD) and adds what a shared file says, at any time. Programs in Go
do not ask the C library but the vDSO, which the kernel names in the auxiliary vector (vdso(7), getauxval(3)): on x86-64
those that are linked with the C library, such as Debian's crowdsec, are given another one.
"""

import subprocess
from pathlib import Path

from preloaded import Preloaded

_FUNCTION = r"""
#define _GNU_SOURCE
#include <time.h>
#define SHIFT_S 0x510000000000UL /* two pages where nothing else is */
#define REALLY 0x510000001000UL

int NAME(clockid_t clock, struct timespec *now)
{
	int result = (*(int (**)(clockid_t, struct timespec *))REALLY)(clock, now);

	if (result == 0 && clock == CLOCK_REALTIME)
		now->tv_sec += *(volatile long *)SHIFT_S;
	return result;
}
"""

_WRAPPER = r"""
#define NAME clock_gettime
%s
#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>

static void *mapped(void *at, int length, int protection, int flags, const char *name)
{
	return mmap(at, length, protection, flags, name ? open(getenv(name), O_RDONLY | O_CLOEXEC) : -1, 0);
}

__attribute__((constructor)) static void begin(int argc, char **argv, char **environment)
{
	Elf64_auxv_t *each;

	mapped((void *)SHIFT_S, 8, PROT_READ, MAP_SHARED | MAP_FIXED, "OTHERTIME");
	mapped((void *)REALLY, 8, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, NULL);
	*(void **)REALLY = dlsym(RTLD_NEXT, "clock_gettime");
	while (*environment)
		environment++;
	for (each = (Elf64_auxv_t *)(environment + 1); each->a_type != AT_NULL; each++)
		if (each->a_type == AT_SYSINFO_EHDR)
			each->a_un.a_val = (unsigned long)mapped(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, "OTHERTIME_VDSO");
}
"""

_VERSIONS = "LINUX_2.6 { global: __vdso_clock_gettime; local: *; };"
# A file that is mapped as it is: code and tables in its first page, and at the addresses that they have in the file.
_AS_A_VDSO = ("-shared", "-fPIC", "-O", "-nostdlib", "-Wl,--hash-style=both", "-Wl,-z,noseparate-code")


class OtherTime(Preloaded):
    """Start a process with `environment`; `shift` its clock whenever you like."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "othertime", _WRAPPER % _FUNCTION)
        text, vdso, versions = (folder / name for name in ("vdso.c", "vdso.so", "versions"))
        text.write_text(f"#define NAME __vdso_clock_gettime\n{_FUNCTION}")
        versions.write_text(_VERSIONS)
        command = ("cc", *_AS_A_VDSO, f"-Wl,--version-script={versions}", "-o", vdso, text)
        subprocess.run(command, check=True)
        self.environment["OTHERTIME_VDSO"] = str(vdso)

    def shift(self, seconds: int) -> None:
        """By so many seconds in all, against the machine's clock."""
        self.say(seconds)
