"""What the operator is told: each thing once, and what is wrong for as long as it is wrong.

`troubles` are the reasons for being degraded, by what they concern. Knows the log; decides nothing.
"""

from collections.abc import Mapping
from types import MappingProxyType

from xdropd.host.log import ERROR, Log

Fields = Mapping[str, str | int]  # of the journal, without their prefix


class Telling:
    """One daemon's log, and what it has said already."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.troubles: dict[str, dict[str, str]] = {}
        self._said: dict[str, str] = {}
        self._said_of: dict[str, frozenset[str]] = {}

    @property
    def is_degraded(self) -> bool:
        """Whether something that was asked for is not in force."""
        return bool(self.troubles)

    def once(self, key: str, level: int, event: str, message: str, **fields: str | int) -> None:
        """Log a message unless it was the last one said under this key."""
        if self._said.get(key) != message:
            self._said[key] = message
            self.log.event(level, event, message, **fields)

    def each_once(self, what: str, level: int, event: str, messages: Mapping[str, Fields]) -> None:
        """Log those of these messages, with their fields, that were not among the last ones of this kind."""
        before, self._said_of[what] = self._said_of.get(what, frozenset()), frozenset(messages)
        for message, fields in messages.items():
            if message not in before:
                self.log.event(level, event, message, **fields)

    def trouble(
        self,
        what: str,
        reasons: str | Mapping[str, str],
        event: str = "trouble",
        field: str = "",
        endings: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Be degraded for a reason, or for one for each of several things; or no longer where there is none.

        Each is told when it comes and when it is over. `field` is the journal field for the names of these things;
        `endings` are sentences on those that ended otherwise than by being solved.
        """
        now = ({"": reasons} if reasons else {}) if isinstance(reasons, str) else dict(reasons)
        before = self.troubles.pop(what, {})
        if now:
            self.troubles[what] = now
        for thing, sentence in now.items():
            if before.get(thing) != sentence:
                self.log.event(ERROR, event, sentence, **({field: thing} if field else {}))
        for thing in (each for each in before if each not in now):
            ending = endings.get(thing) or f"{thing or what}: no longer a problem"
            self.log.notice(event, ending, **({field: thing} if field else {}))

    def clear(self, what: str) -> None:
        """Be degraded for this no longer; told, if it was."""
        self.trouble(what, {})

    def all_troubles(self) -> list[str]:
        """Every reason for being degraded."""
        return [sentence for reasons in self.troubles.values() for sentence in reasons.values()]
