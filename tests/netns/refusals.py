"""A kernel that refuses bpf(2), or in whose midst a process dies: calls are counted, and the n-th does not happen.

The C library's syscall(2), through which libbpf calls, is wrapped (LD_PRELOAD), and what writes into files. It reads
what to do from a shared file, at any time: what strace --inject does, in microseconds.
"""

from pathlib import Path

from preloaded import Preloaded

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

static volatile struct { long calls, first, last, error, unknown_flags, writes, last_write, only_slots; } *order;

#define MAP_UPDATE 2 /* enum bpf_cmd, uapi/linux/bpf.h */
#define PROG_LOAD 5
#define OBJ_GET_INFO 15
#define PROG_ARRAY 3 /* enum bpf_map_type */
#define PROG_FLAGS 44 /* of union bpf_attr: where prog_flags are */

__attribute__((constructor)) static void begin(void)
{
	int file = open(getenv("REFUSALS"), O_RDWR | O_CLOEXEC);

	order = mmap(NULL, sizeof(*order), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	close(file);
}

static long (*really)(long, ...);

/* Whether a call of bpf(2) writes a program into the slot of a jump table. */
static int writes_slot(long command, const unsigned *attribute)
{
	unsigned info[64] = { 0 }; /* struct bpf_map_info begins with the type */
	struct { unsigned map, size; unsigned *info; } asked = { 0, sizeof(info), info };

	if (command != MAP_UPDATE)
		return 0;
	asked.map = attribute[0];
	return !really(SYS_bpf, OBJ_GET_INFO, &asked, sizeof(asked)) && info[0] == PROG_ARRAY;
}

long syscall(long number, ...)
{
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
	if (number != SYS_bpf || (order->only_slots && !writes_slot(given[0], (const unsigned *)given[1])))
		return really(number, given[0], given[1], given[2], given[3], given[4], given[5]);
	if (++order->calls >= order->first && order->calls <= order->last) {
		if (!order->error)
			kill(getpid(), SIGKILL);
		errno = order->error;
		return -1;
	}
	return really(number, given[0], given[1], given[2], given[3], given[4], given[5]);
}

static void write_into_a_file(void)
{
	if (++order->writes == order->last_write)
		kill(getpid(), SIGKILL);
}

ssize_t pwrite64(int file, const void *data, size_t size, off64_t at)
{
	write_into_a_file();
	return syscall(SYS_pwrite64, file, data, size, at);
}

int ftruncate64(int file, off64_t size)
{
	write_into_a_file();
	return syscall(SYS_ftruncate, file, size);
}

int fdatasync(int file)
{
	write_into_a_file();
	return syscall(SYS_fdatasync, file);
}
"""

FOR_EVER = 1 << 40


class Refusals(Preloaded):
    """Start a process with `environment`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "refusals", _WRAPPER, words=8)
        self.relent()

    def refuse(self, first: int, last: int, error: int) -> None:
        """The calls from the `first` to the `last` from now on, counted from 1, fail with this errno."""
        self._order(first=first, last=last, error=error)

    def refuse_slots(self, first: int, last: int, error: int) -> None:
        """The same of those calls alone that write a program into the slot of a jump table."""
        self._order(first=first, last=last, error=error, only_slots=1)

    def kill_at(self, call: int) -> None:
        """Instead of this call, counted from 1, the process is killed."""
        self._order(first=call, last=call)

    def kill_at_write(self, call: int) -> None:
        """Instead of the n-th pwrite(2), ftruncate(2) or fdatasync(2), counted from 1, the process is killed."""
        self._order(last_write=call)

    def know_no_flags(self, flags: int) -> None:
        """Programs with any of these flags are refused, as by a kernel that is older than they are."""
        self._order(unknown_flags=flags)

    def relent(self) -> None:
        """Every call is made again."""
        self._order()

    @property
    def counted(self) -> tuple[int, int]:
        """How many calls of bpf(2), those of slots alone if it was about them, and how many writes there were since
        something was said last.
        """
        calls, *_, writes, _, _ = self.words
        return calls, writes

    def _order(
        self,
        first: int = FOR_EVER,
        last: int = 0,
        error: int = 0,
        unknown_flags: int = 0,
        last_write: int = 0,
        only_slots: int = 0,
    ) -> None:
        self.say(0, first, last, error, unknown_flags, 0, last_write, only_slots)
