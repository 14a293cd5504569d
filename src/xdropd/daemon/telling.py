"""What the operator is told: each thing once, and what is wrong for as long as it is wrong.

`troubles` are the reasons for being degraded, by what they concern. Knows the log; decides nothing.
"""

from xdropd.host.systemd import ERROR, Log


class Telling:
    """One daemon's log, and what it has said already."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.troubles: dict[str, tuple[str, ...]] = {}
        self._said: dict[str, str] = {}

    @property
    def is_degraded(self) -> bool:
        """Whether something that was asked for is not in force."""
        return bool(self.troubles)

    def once(self, key: str, level: int, event: str, message: str, **fields: str | int) -> None:
        """Log a message unless it was the last one said under this key."""
        if self._said.get(key) != message:
            self._said[key] = message
            self.log.event(level, event, message, **fields)

    def unsay(self, key: str) -> None:
        """What was said under this key is over: say it anew when it comes back."""
        self._said.pop(key, None)

    def trouble(self, what: str, sentences: tuple[str, ...], event: str = "trouble") -> None:
        """Be degraded for these reasons, or no longer where there are none. Each new one is logged as an error."""
        for sentence in sentences:
            if sentence not in self.troubles.get(what, ()):
                self.log.event(ERROR, event, sentence)
        if sentences:
            self.troubles[what] = sentences
        elif self.troubles.pop(what, None):
            self.log.notice(event, f"{what}: well again")

    def all_troubles(self) -> list[str]:
        """Every reason for being degraded."""
        return [sentence for sentences in self.troubles.values() for sentence in sentences]
