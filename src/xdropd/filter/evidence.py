"""Evidence: whether what an interface received met the program, by the kernel's count and the program's own.

The kernel counts what a device received, however it is filtered (IFLA_STATS64, uapi/linux/if_link.h). Where that goes
on and the program's count stands still, packets pass by it: a driver that has lost it, or a device whose packets never
come that way. Both are compared since the program saw a frame for the last time, so a busy minute an hour ago proves
nothing. Pure: it is given both counts and the time.

When there is no telling. Drivers bring their count up to date every two seconds or so, so the kernel may still be
counting what the program saw long ago: what it counts for some seconds behind the last frame is set aside. A count that
falls begins anew. And a few packets are none: some devices count what they hand to nobody, a pause frame for instance.
"""

from dataclasses import dataclass

PACKETS = 100
"""So many that no frame of theirs was seen are no accident."""

_SET_ASIDE_S = 5.0


@dataclass(slots=True)
class Evidence:
    """Of one interface, as it is filtered now."""

    _seen: int = -1
    _received: int = 0
    """What the kernel had counted when it was last set aside."""
    _moved_at: float = 0.0

    def look(self, received: int, seen: int, now_s: float) -> int:
        """How many packets the kernel counted that the program cannot have seen; 0 while there is no telling.

        `received` and `seen`: all packets so far, by the kernel and by the program; `now_s` of a monotonic clock.
        """
        if seen != self._seen:
            self._seen, self._moved_at = seen, now_s
        if now_s - self._moved_at < _SET_ASIDE_S or received < self._received:
            self._received = received
        unseen = received - self._received
        return unseen if unseen >= PACKETS else 0
