"""Evidence: whether what an interface received met the program, by the kernel's count and the program's own.

The kernel counts what a device received, however it is filtered (IFLA_STATS_LINK_64, uapi/linux/if_link.h). Where that
goes on and the program's count stands still, packets pass by it: a driver that has lost it, or a device whose packets
never come that way. Both are compared since the program saw a frame for the last time, so a busy minute an hour ago
proves nothing. Pure: it is given both counts and the time.

When there is no telling. Drivers bring their count up to date every two seconds or so, so the kernel may still be
counting what the program saw long ago: what it counts for some seconds behind the last frame is set aside. A count that
falls begins anew. And a few packets are none: some devices count what they hand to nobody, a pause frame for instance.
"""

from dataclasses import dataclass, field
from enum import Enum

PACKETS = 100
"""So many that no frame of theirs was seen are no accident."""

_SET_ASIDE_S = 5.0
_AGAIN_AFTER_S = 600.0


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


class Remedy(Enum):
    """What is to be done about an interface whose packets pass by the program."""

    ATTACH_ANEW = "it is attached anew"
    ATTACH_GENERIC = "it is attached in generic mode"
    GIVE_UP = "and none after it was attached anew either, so it is not protected"


@dataclass(slots=True)
class Doubt:
    """The evidence on one interface, and what has been tried already."""

    sentence: str = ""
    """What is wrong, without the name of the interface; "" if nothing is."""
    _evidence: Evidence = field(default_factory=Evidence)
    _seen: int = 0
    _tried: list[Remedy] = field(default_factory=list)
    _again_at: float = 0.0

    def look(self, received: int, seen: int, now_s: float, *, may_be_generic: bool) -> Remedy | None:
        """What is to be done now, if anything is. `may_be_generic`: it is filtered natively, and need not be."""
        if self.sentence and seen > self._seen:
            self.sentence, self._tried = "", []
        self._seen = seen
        unseen = self._evidence.look(received, seen, now_s)
        if not unseen or (Remedy.GIVE_UP in self._tried and now_s < self._again_at):
            return None
        remedy = self._next(may_be_generic=may_be_generic)
        self._tried.append(remedy)
        self.sentence = f"{unseen:,} packets came in and the filter saw none of them, {remedy.value}"
        if remedy is Remedy.GIVE_UP:
            self._again_at = now_s + _AGAIN_AFTER_S
        else:
            self._evidence = Evidence()
            self._seen = 0  # from where the next attachment counts
        return remedy

    def _next(self, *, may_be_generic: bool) -> Remedy:
        if Remedy.GIVE_UP in self._tried:
            self._tried.clear()
        if Remedy.ATTACH_ANEW not in self._tried:
            return Remedy.ATTACH_ANEW
        if may_be_generic and Remedy.ATTACH_GENERIC not in self._tried:
            return Remedy.ATTACH_GENERIC
        return Remedy.GIVE_UP
