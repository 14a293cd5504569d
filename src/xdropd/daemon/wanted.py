"""Reloads that somebody wants and that are not begun. Two that would read the same are one."""

from dataclasses import dataclass

from xdropd.daemon.results import ReloadResult


@dataclass(slots=True)
class ReloadRequest:
    """A reload that somebody wants. `accept` is the path of a list file to be taken as it is; `result` comes last."""

    accept: str | None = None
    result: ReloadResult | None = None


class WantedReloads:
    """One daemon's, in their order."""

    def __init__(self) -> None:
        self._waiting: list[ReloadRequest] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def ask(self, accept: str | None = None) -> ReloadRequest:
        """Have a reload done, or wait for one that is not begun; what is returned has its result once it is."""
        waiting = next((request for request in self._waiting if request.accept == accept), None)
        if waiting is None:
            waiting = ReloadRequest(accept)
            self._waiting.append(waiting)
        return waiting

    def ask_for_any(self) -> None:
        """Something changed, which any reload that is not begun will find."""
        if not self._waiting:
            self.ask()

    def take(self) -> ReloadRequest:
        """The next one, which begins now."""
        return self._waiting.pop(0)
