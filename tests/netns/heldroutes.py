"""A kernel that takes its time over routes, as it does where there are a million: until a test lets it answer.

The C library's send(2) is wrapped (LD_PRELOAD). Whichever thread asks rtnetlink for routes waits there while a word in
a shared file says so, for fifteen seconds at most; nothing else waits.
"""

from pathlib import Path

from preloaded import Preloaded

_WRAPPER = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static volatile struct { long is_held, waiting; } *order;

__attribute__((constructor)) static void begin(void)
{
	int file = open(getenv("HELD_ROUTES"), O_RDWR | O_CLOEXEC);

	order = mmap(NULL, sizeof(*order), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	close(file);
}

ssize_t send(int fd, const void *data, size_t length, int flags)
{
	ssize_t (*really)(int, const void *, size_t, int) = dlsym(RTLD_NEXT, "send");
	const struct nlmsghdr *asked = data;
	int family = 0;
	socklen_t size = sizeof(family);

	getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &size);
	if (family == AF_NETLINK && length >= sizeof(*asked) && asked->nlmsg_type == RTM_GETROUTE) {
		__atomic_add_fetch(&order->waiting, 1, __ATOMIC_SEQ_CST);
		for (int milliseconds = 0; order->is_held && milliseconds < 15000; milliseconds++)
			usleep(1000);
		__atomic_add_fetch(&order->waiting, -1, __ATOMIC_SEQ_CST);
	}
	return really(fd, data, length, flags);
}
"""


class HeldRoutes(Preloaded):
    """Start a process with `environment`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "held_routes", _WRAPPER, words=2)

    def hold(self) -> None:
        """From now on."""
        self.say(True)

    def let_go(self) -> None:
        """Whoever waits, too."""
        self.say(False)

    @property
    def is_awaited(self) -> bool:
        """Whether somebody has asked, and waits."""
        return bool(self.words[1])
