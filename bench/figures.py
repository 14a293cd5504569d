"""What was measured, and what it must reach.

A figure has one value for each contender, taken in turns; the first contender is xdropd. A demand compares xdropd's
median with a peer's or with a bound. Not here: any measuring.
"""

import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

XDROPD = "xdropd"
RELOADS = 1_000


@dataclass(frozen=True, slots=True)
class Spread:
    """Several measurements of one thing."""

    low: float
    median: float
    high: float
    rounds: int = 1

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        """The spread of one value or more."""
        kept = list(values)
        return cls(min(kept), statistics.median(kept), max(kept), len(kept))

    def above(self, zero: float) -> "Spread":
        """Measured from another zero."""
        return Spread(self.low - zero, self.median - zero, self.high - zero, self.rounds)


@dataclass(frozen=True, slots=True)
class Demand:
    """At most, or at least, `factor` times the peer's median; without a peer, `factor` itself."""

    factor: float
    peer: str = ""
    is_floor: bool = False

    def limit(self, measured: Mapping[str, Spread]) -> float:
        """The value to stay at or below (or above)."""
        return self.factor * measured[self.peer].median if self.peer else self.factor

    def is_reached(self, measured: Mapping[str, Spread]) -> bool:
        """Whether xdropd's median does."""
        ours, limit = measured[XDROPD].median, self.limit(measured)
        return ours >= limit if self.is_floor else ours <= limit


@dataclass(frozen=True, slots=True)
class Figure:
    """One row: `what`, with a list of so many addresses. `note` says what a reader must know to believe it."""

    group: str
    what: str
    listed: int
    unit: str
    measured: Mapping[str, Spread]
    demands: tuple[Demand, ...] = ()
    note: str = ""

    @property
    def ours(self) -> Spread:
        """What xdropd reached."""
        return self.measured[XDROPD]

    @property
    def is_reached(self) -> bool:
        """Whether every demand is."""
        return all(demand.is_reached(self.measured) for demand in self.demands)


@dataclass(slots=True)
class Report:
    """All figures of a run, and what kept others from being taken: a peer that is not there is a failure.

    `told` is called with each figure as soon as it is there.
    """

    told: Callable[[Figure], None]
    figures: list[Figure] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def add(self, figure: Figure) -> None:
        """Take a figure in."""
        self.figures.append(figure)
        self.told(figure)

    @property
    def is_good(self) -> bool:
        """Nothing missed, nothing missing."""
        return not self.failures and all(figure.is_reached for figure in self.figures)


@dataclass(frozen=True, slots=True)
class Effort:
    """How much of everything to do. A quick run sees whether everything runs; its figures say little."""

    is_quick: bool = False
    reloads: int = RELOADS
    lists: Path | None = None

    def rounds(self, usual: int) -> int:
        """How often to measure."""
        return min(usual, 2) if self.is_quick else usual

    def sizes(self, *usual: int) -> tuple[int, ...]:
        """Which lists to measure with, by their number of addresses."""
        return tuple(size for size in usual if size <= 10_000) if self.is_quick else usual


def in_turns(contenders: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, Spread]:
    """Measure each contender once a round, A B C A B C: what disturbs the machine for a while disturbs all of them."""
    values: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, measure in contenders.items():
            values[name].append(measure())
    return {name: Spread.of(found) for name, found in values.items()}
