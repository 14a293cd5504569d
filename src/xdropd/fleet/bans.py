"""Bans: what the server has said so far, and what each source of xdropd should therefore block.

Its law: nothing is lost, and nothing is taken back because of an error. A ban leaves when the server says that it is
deleted, when its time is over, or when two complete answers in a row, of all that there is, do not have it. Knows no
socket and no clock.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, partial
from itertools import chain

from xdropd.fleet.decisions import Decision, reason_of

_SAME_END_S = 5  # two answers tell the end of a decision with the time in between that their way took

_LINES_AT_ONCE = 4096


class _Ban:
    """A decision, as far as it is worth keeping: there are hundreds of thousands."""

    __slots__ = ("number", "scenario", "seen", "until_s")

    def __init__(self, decision: Decision, seen: int) -> None:
        self.number = decision.number
        self.until_s = decision.until_s
        self.scenario = decision.scenario
        self.seen = seen


class Bans:
    """See the module. Decisions on one entry, of one origin, are one entry of one source, which ends with the last."""

    def __init__(self) -> None:
        self._by_origin: defaultdict[str, dict[str, tuple[_Ban, ...]]] = defaultdict(dict)
        self._asked = 0  # how often all there is was asked for
        self._answered = 0  # which of these was answered to the end, last
        self.is_confirmed = False
        """Whether there were two complete answers, so that what neither of them had may go."""
        self._differing: defaultdict[str, set[str]] = defaultdict(set)

    # ---- what the server says ----

    def ask(self) -> None:
        """What is taken from now on is what there is, until `whole`; or until this is called anew, where that fails."""
        self._asked += 1

    def take(self, decision: Decision) -> bool:
        """It is in force. Whether that is new."""
        entries = self._by_origin[decision.origin]
        bans = entries.get(decision.entry, ())
        for ban in bans:
            if ban.number == decision.number:
                ban.seen = self._asked
                if abs(ban.until_s - decision.until_s) > _SAME_END_S or ban.scenario != decision.scenario:
                    ban.until_s, ban.scenario = decision.until_s, decision.scenario
                    self._differs(decision.origin, decision.entry)
                return False
        entries[decision.entry] = (*bans, _Ban(decision, self._asked))
        self._differs(decision.origin, decision.entry)
        return True

    def drop(self, decision: Decision) -> None:
        """It is deleted, or its time is over. What is said a second time has no effect."""
        bans = self._by_origin.get(decision.origin, {}).get(decision.entry, ())
        left = tuple(ban for ban in bans if ban.number != decision.number)
        if len(left) < len(bans):
            self._keep(decision.origin, decision.entry, left)
            self._differs(decision.origin, decision.entry)

    def whole(self, now_s: float, *, is_early: bool = False) -> int:
        """An answer has told all there is. How many bans it lacks for the first time; those it lacks again are gone.

        One that comes too early to agree with the one before is like the first of two, for all that it lacks.
        """
        before, self._answered = self._answered, self._asked
        self.is_confirmed = self.is_confirmed or (before > 0 and not is_early)
        doubtful = 0
        for origin, entries in self._by_origin.items():
            for entry, bans in list(entries.items()):
                if all(ban.seen == self._asked and ban.until_s > now_s for ban in bans):
                    continue
                left = tuple(ban for ban in bans if is_early or ban.seen >= before)
                if len(left) < len(bans):
                    self._differs(origin, entry)
                left = tuple(ban for ban in left if ban.until_s > now_s)  # xdropd has ended them by itself
                doubtful += sum(ban.seen < self._asked for ban in left)
                if len(left) < len(bans):
                    self._keep(origin, entry, left)
        return doubtful

    def _keep(self, origin: str, entry: str, bans: tuple[_Ban, ...]) -> None:
        if bans:
            self._by_origin[origin][entry] = bans
        else:
            del self._by_origin[origin][entry]

    def _differs(self, origin: str, entry: str) -> None:
        self._differing[origin].add(entry)

    # ---- what follows for xdropd ----

    @property
    def origins(self) -> list[str]:
        """Of which there are decisions."""
        return [origin for origin, entries in self._by_origin.items() if entries]

    @property
    def differing(self) -> list[str]:
        """Origins of which something has changed since `told`."""
        return list(self._differing)

    def changes(self, origin: str) -> Lines:
        """What has changed since then, as the control socket's `change` takes it."""
        return Lines(self, origin, self._differing.get(origin, ()))

    def everything(self, origin: str) -> Lines:
        """All of it, as `replace` takes it."""
        return Lines(self, origin, self._by_origin.get(origin, {}))

    def everything_and_changes(self, origin: str) -> Lines:
        """All of it, and what is no more, as `change` takes it."""
        entries = self._by_origin.get(origin, {})
        return Lines(self, origin, entries, [each for each in self._differing.get(origin, ()) if each not in entries])

    def told(self, origin: str) -> None:
        """xdropd has it as it is now."""
        self._differing.pop(origin, None)

    def entries(self, origin: str) -> Mapping[str, tuple[_Ban, ...]]:
        """Those of an origin that are banned, with what bans them."""
        return self._by_origin.get(origin, {})

    def count(self) -> Counter[str]:
        """Entries by origin."""
        return Counter({origin: len(entries) for origin, entries in self._by_origin.items() if entries})

    def count_by_type(self) -> Iterator[tuple[str, str, int]]:
        """Entries by origin and family, as the server calls it; of origins that have none any more as well."""
        for origin, entries in self._by_origin.items():
            ipv6 = sum(":" in entry for entry in entries)
            yield origin, "ipv4", len(entries) - ipv6
            yield origin, "ipv6", ipv6


class Lines:
    """Lines for the control socket, some at a time; they may be asked for again where the daemon restarts meanwhile."""

    def __init__(self, bans: Bans, origin: str, entries: Iterable[str], more: Iterable[str] = ()) -> None:
        self._bans = bans
        self._origin = origin
        self._entries = (entries, more)

    def __iter__(self) -> Iterator[bytes]:
        banned = self._bans.entries(self._origin)
        reason = cache(partial(reason_of, origin=self._origin))  # there are few scenarios
        lines: list[str] = []
        for entry in chain(*self._entries):
            lines.append(_line(entry, banned.get(entry), reason))
            if len(lines) >= _LINES_AT_ONCE:
                yield "".join(lines).encode()
                lines.clear()
        if lines:
            yield "".join(lines).encode()


def _line(entry: str, bans: tuple[_Ban, ...] | None, reason: Callable[[str], str]) -> str:
    """An entry, with the end and the reason of the decision that ends last; or that it is to go."""
    if not bans:
        return f"-{entry}\n"
    last = bans[0] if len(bans) == 1 else max(bans, key=lambda ban: ban.until_s)
    return f"{entry}\t{last.until_s}\t{reason(last.scenario)}\n"
