"""The picture of how cost grows: seconds of a start over the number of entries, by kind, and over that of interfaces.

Both axes are logarithmic, and a decade is as long on one as on the other: what grows in proportion rises by 45 degrees.
"""

import math
from collections.abc import Iterable, Iterator

from bench.figures import Figure, Report
from bench.kinds import ANNOTATED, KINDS, RANGES
from bench.picture import text

GROUP = "growth"
START = "start"
INTERFACES = "start by interfaces"
SWAP = "swap by interfaces"
UP_TO_A_MILLION = (RANGES, ANNOTATED)
_WHY_NO_FURTHER = (
    "Ranges to a million: ten would be 90 million pieces, 12 GB of maps. With reason and end to a million: "
    "a blocklist is read up to 256 MB."
)

_DECADE = 84
_LEFT, _TOP, _BOTTOM = 64, 84, 84 + 4 * _DECADE
_LOW, _HIGH = -2, 2  # powers of ten of seconds
_PANEL, _BESIDE = 3 * _DECADE + 48, 200
_COLOURS = ("#d1242f", "#0969da", "#8250df", "#1a7f37", "#9a6700", "#bc4c00")
_GREY = "#59636e"
_APART = 15  # between the names of two curves
_INTERFACES = ((INTERFACES, "start"), (SWAP, "a list that outgrows its maps"))


def draw(report: Report) -> str:
    """The picture as SVG."""
    found = [figure for figure in report.figures if figure.group == GROUP]
    by_kind = {kind.name: _points(found, f"{kind.name}: {START}") for kind in KINDS}
    by_count = {name: _points(found, what) for what, name in _INTERFACES}
    second = _LEFT + _PANEL + _BESIDE + 40
    width = second + _PANEL + _BESIDE
    parts = [
        f'<rect width="{width}" height="{_BOTTOM + 60}" rx="8" fill="#ffffff"/>',
        text(24, 28, "How long a start takes, as lists and hosts grow", font_size="16", font_weight="600"),
        text(24, 48, "seconds from the start of the process to everything in force", fill=_GREY),
        text(24, 66, _WHY_NO_FURTHER, fill=_GREY, font_size="11"),
        *_panel(_LEFT, 4, "entries", by_kind),
        *_panel(second, 0, "interfaces", by_count),
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {_BOTTOM + 60}" '
        'font-family="system-ui, sans-serif" font-size="13" fill="#1f2328">\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _points(figures: Iterable[Figure], what: str) -> list[tuple[int, float]]:
    return sorted((figure.listed, figure.ours.median) for figure in figures if figure.what == what)


def _panel(left: float, first: int, unit: str, curves: dict[str, list[tuple[int, float]]]) -> Iterator[str]:
    right = left + _PANEL
    for power in range(_LOW, _HIGH + 1):
        y = _y(10.0**power)
        yield f'<line x1="{left}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="#d1d9e0"/>'
        yield text(left - 8, y + 4, f"{10.0**power:g}", fill=_GREY, text_anchor="end")
    for power in range(first, first + 4):
        yield text(_x(left, first, 10**power), _BOTTOM + 22, f"{10**power:,}", fill=_GREY, text_anchor="middle")
    yield text((left + right) / 2, _BOTTOM + 46, unit, fill=_GREY, text_anchor="middle")
    below = math.inf
    ends = [(points[-1][1], at) for at, points in enumerate(curves.values()) if points]
    names = list(curves)
    for _, at in sorted(ends):  # from the lowest end up, so that no name covers another
        colour, points = _COLOURS[at], curves[names[at]]
        places = [(_x(left, first, size), _y(seconds)) for size, seconds in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
        yield from (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>' for x, y in places)
        below = min(places[-1][1] + 4, below - _APART)
        yield text(right + 8, below, f"{names[at]}, {points[-1][1]:.2g} s", fill=colour)


def _x(left: float, first: int, size: int) -> float:
    return left + 24 + (math.log10(max(size, 1)) - first) * _DECADE


def _y(seconds: float) -> float:
    return _BOTTOM - (math.log10(max(seconds, 10.0**_LOW)) - _LOW) * _DECADE
