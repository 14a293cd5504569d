"""Many spans, asked about others: quick, however many there are and however they overlap.

Pure. Knows what a span is, and nothing of what one stands for.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

from xdropd.text.addresses import WIDTH, Span


class Union:
    """All addresses that lie in any of some spans, of both versions.

    Kept as merged intervals, for each version one ascending list [first, last + 1, first, ...]: a place after an odd
    number of bounds lies within an interval.
    """

    def __init__(self, spans: Iterable[Span]) -> None:
        self._bounds: dict[int, list[int]] = {version: [] for version in WIDTH}
        for version, first, last in sorted(spans):
            bounds = self._bounds[version]
            if bounds and first <= bounds[-1]:
                bounds[-1] = max(bounds[-1], last + 1)
            else:
                bounds += (first, last + 1)

    def __iter__(self) -> Iterator[Span]:
        """The merged intervals."""
        for version, bounds in self._bounds.items():
            for first, end in zip(bounds[::2], bounds[1::2], strict=True):
                yield Span(version, first, end - 1)

    def holds(self, version: int, key: int) -> bool:
        """Whether an address is among them."""
        return bisect_right(self._bounds[version], key) & 1 == 1

    def held(self, version: int, keys: Iterable[int]) -> list[int]:
        """Those of many addresses that are among them."""
        bounds = self._bounds[version]
        return [key for key in keys if bisect_right(bounds, key) & 1] if bounds else []

    def covers(self, span: Span) -> bool:
        """Whether all of a span is among them."""
        bounds = self._bounds[span.version]
        at = bisect_right(bounds, span.first)
        return at & 1 == 1 and bounds[at] > span.last

    def met(self, spans: Iterable[Span]) -> Iterator[Span]:
        """Those of many spans that have an address among them."""
        bounds = self._bounds
        return (
            span
            for span in spans
            if (at := bisect_right(bounds[span[0]], span[1])) & 1 or bisect_right(bounds[span[0]], span[2]) > at
        )


class Index:
    """Spans of one version in ascending order, by their place in it.

    A tournament on their last addresses: each level keeps the highest of each two below, so that a search passes over
    whatever ends too early. Takes time for what is found and a few steps more.
    """

    def __init__(self, spans: Sequence[Span]) -> None:
        self._firsts = [span.first for span in spans]
        self._levels = [[span.last for span in spans]]
        while len(below := self._levels[-1]) > 1:
            self._levels.append([max(below[at : at + 2]) for at in range(0, len(below), 2)])

    def covering(self, span: Span) -> Iterator[int]:
        """Those that alone hold all of a span."""
        return self._reaching(span.first, span.last)

    def meeting(self, span: Span) -> Iterator[int]:
        """Those that share an address with a span."""
        return self._reaching(span.last, span.first)

    def _reaching(self, start: int, end: int) -> Iterator[int]:
        """Those that begin at `start` or before, and end at `end` or after."""
        count = bisect_right(self._firsts, start)
        pending = [(len(self._levels) - 1, 0)]
        while pending:
            level, at = pending.pop()
            if at << level >= count or self._levels[level][at] < end:
                continue
            if level == 0:
                yield at
            else:
                below = range(2 * at, min(2 * at + 2, len(self._levels[level - 1])))
                pending += ((level - 1, place) for place in reversed(below))
