"""How reloads went: the last one for whoever asks, and numbers for metrics."""

import time
from dataclasses import dataclass, field

from xdropd.daemon.failures import Failure, reason_of
from xdropd.errors import Problem


@dataclass(frozen=True, slots=True)
class ReloadResult:
    """How a reload went."""

    at_s: float
    is_ok: bool
    problems: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()
    """On what it cuts off."""


@dataclass(slots=True)
class Results:
    """Of one daemon's reloads. `blocklist` is how the file is told that a failure is credited to."""

    blocklist: str
    last: ReloadResult = field(default_factory=lambda: ReloadResult(0.0, is_ok=False))
    ok: int = 0
    refused: int = 0
    failed: int = 0
    last_reload_s: float | None = None
    last_success_s: float = 0.0

    def ended(self, refusals: list[Problem], warnings: tuple[str, ...] = ()) -> ReloadResult:
        """A reading has come to its end, refused or not."""
        self.last = ReloadResult(time.time(), not refusals, tuple(refusals), warnings)
        if refusals:
            self.refused += 1
        else:
            self.ok += 1
            self.last_success_s = time.time()
        return self.last

    def of_failure(self, failure: Failure) -> ReloadResult:
        """The result of something that failed half-way."""
        return ReloadResult(time.time(), False, (Problem(self.blocklist, 0, 0, reason_of(failure)),))
