"""Evidence: whether what an interface received met the program, by the kernel's count and the program's own.

The kernel counts what a device received, however it is filtered (IFLA_STATS_LINK_64, uapi/linux/if_link.h). Where that
goes on and the program's count stands still, packets pass by it: a driver that has lost it, or a device whose packets
never come that way. Pure: it is given both counts and the time.

When there is no telling. While the program sees frames, however few, nothing is held against it: a device also counts
what it hands to nobody, such as pause frames, and a busy minute an hour ago proves nothing. Once the program stands
still, the kernel may still be counting what it has seen, for drivers bring their count up to date every two seconds or
so (round_jiffies in the watchdogs of igb and e1000 makes it three): as many packets as the program counted in the last
seconds before, or as many as the kernel counts within the next ones, whichever is less. A hundred more are no accident.
"""

from collections import deque
from dataclasses import dataclass, field
from enum import Enum

PACKETS = 100
"""So many that no frame of theirs was seen are no accident."""

_LATE_S = 4.0
"""By how much a driver's count is behind at most."""

_AGAIN_AFTER_S = 600.0


@dataclass(slots=True)
class Evidence:
    """Of one interface, as it is filtered now."""

    _looks: deque[tuple[float, int]] = field(default_factory=deque)
    """When it was looked, and what the program had seen: back to one that is `_LATE_S` old, and no further."""
    _received: int = 0
    """By the kernel's count, at the last look."""
    _moved_at: float = 0.0
    """At which look the program had seen more than at the one before."""
    _explained: float = 0.0
    """What the kernel may count without a packet that passed by the program."""

    def look(self, received: int, seen: int, now_s: float) -> int:
        """How many packets the kernel counted that the program cannot have seen; 0 while there is no telling.

        `received`: packets so far, by the kernel. `seen`: as many packets as the program can have seen at most; its own
        count, or where what it meets may have been put together of many, as in generic mode, its octets. It is read
        after `received`. `now_s`: of a monotonic clock.
        """
        is_anew = not self._looks or received < self._received or seen < self._looks[-1][1]
        if is_anew or now_s - self._looks[-1][0] > _LATE_S:  # or all stood still, and the driver may be late by more
            self._looks.clear()
            self._moved_at, self._explained = now_s, float("inf")
        elif seen != self._looks[-1][1]:
            self._moved_at, self._explained = now_s, received + self._late(seen, now_s)
        elif now_s - self._moved_at >= _LATE_S:
            self._explained = min(self._explained, received)
        self._received = received
        self._note(seen, now_s)
        unseen = received - self._explained
        return int(unseen) if unseen >= PACKETS else 0

    def _late(self, seen: int, now_s: float) -> float:
        """How many packets the program has seen that the kernel may not have counted yet."""
        since_s, before = self._looks[0]
        return seen - before if now_s - since_s >= _LATE_S else float("inf")

    def _note(self, seen: int, now_s: float) -> None:
        self._looks.append((now_s, seen))
        while len(self._looks) > 1 and now_s - self._looks[1][0] >= _LATE_S:
            self._looks.popleft()


class Remedy(Enum):
    """What is to be done about an interface whose packets pass by the program."""

    ATTACH_ANEW = "it is attached anew"
    ATTACH_GENERIC = "it is attached in generic mode; 'xdp_mode: native' asks for native mode again"
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
