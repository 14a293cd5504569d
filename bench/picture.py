"""The README's picture: what an innocent packet costs, over the size of the list."""

import math
from xml.sax.saxutils import escape

from bench import cost
from bench.contest import PLAIN, TRIE
from bench.figures import XDROPD, Figure, Report

_WIDTH, _HEIGHT = 720, 380
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 560, 64, 330
_COLOURS = {XDROPD: "#d1242f", PLAIN: "#0969da", TRIE: "#6e7781"}
_STEPS_NS = (10, 30, 100, 300, 1000, 3000)
_NAMES = {0: "empty", 10_000: "10,000", 100_000: "100,000", 1_000_000: "1,000,000"}


def draw(report: Report) -> str:
    """The picture as SVG. Both axes are logarithmic; the empty list stands at the left end."""
    figures = {
        figure.listed: figure
        for figure in report.figures
        if figure.group == "cost" and figure.what.startswith(cost.UNLISTED)
    }
    top_ns = max(_STEPS_NS[3], *(spread.median for figure in figures.values() for spread in figure.measured.values()))
    scale = _Scale(sorted(figures), 4.0, top_ns * 1.2)
    parts = [*_frame(scale), *(line for name in _COLOURS for line in _curve(scale, name, figures))]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="system-ui, sans-serif" font-size="13" fill="#1f2328">\n' + "\n".join(parts) + "\n</svg>\n"
    )


class _Scale:
    """Sizes and nanoseconds to places on the paper."""

    def __init__(self, sizes: list[int], low_ns: float, high_ns: float) -> None:
        self.sizes = sizes
        self._low, self._high = math.log(low_ns), math.log(high_ns)

    def x(self, size: int) -> float:
        """From left to right."""
        steps = max(len(self.sizes) - 1, 1)
        return _LEFT + 24 + self.sizes.index(size) * (_RIGHT - _LEFT - 48) / steps

    def y(self, cost_ns: float) -> float:
        """From the bottom up."""
        share = (math.log(max(cost_ns, 1.0)) - self._low) / (self._high - self._low)
        return _BOTTOM - share * (_BOTTOM - _TOP)

    def steps(self) -> list[int]:
        """Lines across."""
        return [step for step in _STEPS_NS if self._low <= math.log(step) <= self._high]


def text(x: float, y: float, words: str, **style: str) -> str:
    """Words at a place."""
    attributes = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in style.items())
    return f'<text x="{x:.1f}" y="{y:.1f}"{attributes}>{escape(words)}</text>'


def _frame(scale: _Scale) -> list[str]:
    parts = [
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" rx="8" fill="#ffffff"/>',
        text(_LEFT - 40, 28, "What a packet from an unlisted source costs", font_size="16", font_weight="600"),
        text(_LEFT - 40, 48, "nanoseconds above a program that only passes, random sources", fill="#59636e"),
        text((_LEFT + _RIGHT) / 2, _HEIGHT - 10, "addresses listed", fill="#59636e", text_anchor="middle"),
    ]
    for step in scale.steps():
        y = scale.y(step)
        parts.append(f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{_RIGHT}" y2="{y:.1f}" stroke="#d1d9e0"/>')
        parts.append(text(_LEFT - 8, y + 4, f"{step:,}", fill="#59636e", text_anchor="end"))
    for size in scale.sizes:
        name = _NAMES.get(size, f"{size:,}")
        parts.append(text(scale.x(size), _BOTTOM + 22, name, fill="#59636e", text_anchor="middle"))
    return parts


def _curve(scale: _Scale, name: str, figures: dict[int, Figure]) -> list[str]:
    colour = _COLOURS[name]
    places = [
        (scale.x(size), scale.y(figures[size].measured[name].median), figures[size].measured[name].median)
        for size in scale.sizes
    ]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in places)
    width = "3" if name == XDROPD else "2"
    parts = [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>']
    for x, y, cost_ns in places:
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>')
        beside = y + 18 if name == XDROPD else y - 9
        parts.append(text(x, beside, f"{cost_ns:.0f}", fill=colour, text_anchor="middle", font_size="12"))
    x, y, _ = places[-1]
    weight = "600" if name == XDROPD else "400"
    parts.append(text(_RIGHT + 8, y + 4, name, fill=colour, font_weight=weight))
    return parts
