"""Tables and the words in their cells: how numbers, moments and texts are shown to a person.

Everything that came over the socket goes through `names.printable`: a reason may be written by anybody who may block.
Knows no verb and no socket; whether there is a terminal, how wide it is and whether it shows colours, it asks once.
"""

import math
import os
import textwrap
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from itertools import chain, islice
from typing import NamedTuple, TextIO

from xdropd.text.names import printable

_SAMPLE_ROWS = 1000
_GAP = "  "
_LEAST_WIDTH = 12  # to which a column that can be cut is cut: "…ist.yaml:123"
_UNITS = ("", "k", "M", "G", "T", "P", "E")
_TIME_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
_BARS = "▁▂▃▄▅▆▇█"
_ASCII_BARS = "_.:-=+*#"
_STYLES = {"good": "32", "bad": "31", "warn": "33", "head": "2", "strong": "1"}  # ECMA-48, SGR
_ELLIPSIS = "…"
_FAR_DAYS = 100  # from then on a date says more than a number of days


class Screen(NamedTuple):
    """What the output can show. `width` is None where it is no terminal, and nothing is cut then."""

    width: int | None
    has_colours: bool
    has_unicode: bool

    @classmethod
    def of(cls, output: TextIO, environment: Mapping[str, str]) -> "Screen":
        """Of a stream. NO_COLOR as in https://no-color.org; TERM=dumb shows none either."""
        has_unicode = (output.encoding or "").lower().replace("-", "") in ("utf8", "utf16", "utf32")
        if not output.isatty():
            return cls(None, has_colours=False, has_unicode=has_unicode)
        colours = not environment.get("NO_COLOR") and environment.get("TERM", "dumb") != "dumb"
        columns = environment.get("COLUMNS", "")
        width = int(columns) if columns.isascii() and columns.isdecimal() else os.get_terminal_size(output.fileno())[0]
        return cls(width or 80, colours, has_unicode)

    def styled(self, text: str, style: str) -> str:
        """With a colour, where there are any. `style` is a key of _STYLES, or ""."""
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if style and self.has_colours else text


class Column(NamedTuple):
    """Where a terminal is too narrow cells are cut, and then whole columns left out.

    `cut` says which end of a cell goes, "end", "start", or "" for none; `goes` which column: the lowest first, 0 stays.
    """

    title: str
    is_number: bool = False
    cut: str = ""
    goes: int = 0


class Rows(NamedTuple):
    """Some lines of a table: the cells of each column, and how each line is shown, see `Screen.styled`."""

    cells: Sequence[Sequence[str]]
    styles: Sequence[str]


def table(columns: Sequence[Column], rows: Iterable[Rows], screen: Screen) -> Iterator[str]:
    """Lines, without their ends. Widths are those of the first thousand rows, for there may be a million."""
    waiting = iter(rows)
    sample = [Rows([[column.title] for column in columns], ["head"])]
    while sum(len(some.styles) for some in sample) <= _SAMPLE_ROWS and (more := next(waiting, None)):
        sample.append(more)
    firsts = (chain.from_iterable(cells) for cells in zip(*(some.cells for some in sample), strict=True))
    widths = {at: max(map(width_of, islice(cells, 1 + _SAMPLE_ROWS))) for at, cells in enumerate(firsts)}
    if screen.width is not None:
        widths = _fitted(widths, columns, screen.width)
    filled = _GAP.join(f"%{'' if columns[at].is_number else '-'}{width}s" for at, width in widths.items())
    for some in chain(sample, waiting):
        shown = [some.cells[at] for at in widths]
        for at, (cells, style) in enumerate(zip(zip(*shown, strict=True), some.styles, strict=True)):
            line = (filled % cells).rstrip()
            if screen.width is not None or not line.isascii():
                line = _line([column[at] for column in some.cells], columns, widths, screen)
            yield screen.styled(line, style) if style else line


def _fitted(widths: Mapping[int, int], columns: Sequence[Column], available: int) -> dict[int, int]:
    """Widths by column that fit: cells are cut, then columns left out; no more can be done for what is wider still."""
    fitted = dict(widths)
    over = sum(fitted.values()) + len(_GAP) * (len(fitted) - 1) - available
    flexible = [at for at in fitted if columns[at].cut]
    while over > 0 and flexible:
        widest = max(flexible, key=lambda at: fitted[at])
        if fitted[widest] <= _LEAST_WIDTH:
            break
        fitted[widest] -= 1
        over -= 1
    if over > 0 and (expendable := [at for at in fitted if columns[at].goes]):
        first = min(expendable, key=lambda at: columns[at].goes)
        return _fitted({at: width for at, width in widths.items() if at != first}, columns, available)
    return fitted


def _line(cells: Sequence[str], columns: Sequence[Column], widths: Mapping[int, int], screen: Screen) -> str:
    shown = []
    for at, width in widths.items():
        cell, column = cells[at], columns[at]
        text = cut(cell, width, column.cut) if screen.width is not None and column.cut else cell
        fill = " " * (width - width_of(text))
        shown.append(fill + text if column.is_number else text + fill)
    line = _GAP.join(shown).rstrip()
    return cut(line, screen.width, "end") if screen.width is not None else line


def wrapped(text: str, screen: Screen, indent: int) -> Iterator[str]:
    """A text on as many lines as the terminal needs if so many columns stand before it, broken between words."""
    if screen.width is None or width_of(text) <= screen.width - indent:
        yield text
        return
    room = max(_LEAST_WIDTH, screen.width - indent)
    yield from textwrap.wrap(text, room, break_on_hyphens=False)


def width_of(text: str) -> int:
    """Columns that a text takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def cut(text: str, width: int, end: str) -> str:
    """At most so many columns of a text; without its start or end, if need be."""
    if width_of(text) <= width:
        return text
    kept = text[::-1] if end == "start" else text
    while width_of(kept) > width - 1:
        kept = kept[:-1]
    return _ELLIPSIS + kept[::-1] if end == "start" else kept + _ELLIPSIS


def count(number: float) -> str:
    """A number for reading: exact with thousands set apart."""
    return f"{number:,.0f}"


@lru_cache(maxsize=1024)
def size(number: float) -> str:
    """Bytes for reading, in powers of a thousand: 1.2 MB."""
    at = 0
    while number >= 999.5 and at < len(_UNITS) - 1:
        number /= 1000
        at += 1
    digits = f"{number:.1f}" if at and number < 9.95 else f"{number:.0f}"
    return f"{digits} {_UNITS[at]}B"


@lru_cache(maxsize=1024)
def moment(text: str | None) -> datetime | None:
    """A time of the protocol, which is RFC 3339."""
    return datetime.fromisoformat(text) if text else None


def span_of_time(seconds: float) -> str:
    """In the two largest units: 4s, 3m12s, 5h, 2d7h."""
    left = max(0, round(seconds))
    for at, (unit, length) in enumerate(_TIME_UNITS):
        if left >= length:
            rest = left % length
            smaller = "".join(f"{rest // each}{name}" for name, each in _TIME_UNITS[at + 1 : at + 2] if rest >= each)
            return f"{left // length}{unit}{smaller}"
    return "0s"


@lru_cache(maxsize=1024)
def ago(text: str | None, now: datetime) -> str:
    """How long something is past; "-" if it never was."""
    then = moment(text)
    return f"{span_of_time((now - then).total_seconds())} ago" if then else "-"


@lru_cache(maxsize=1024)
def until(text: str | None, now: datetime) -> str:
    """How long something lasts; "-" if for good."""
    then = moment(text)
    if then is None:
        return "-"
    if then <= now:
        return "over"
    return f"in {span_of_time((then - now).total_seconds())}" if (then - now).days < _FAR_DAYS else f"{then:%Y-%m-%d}"


def now() -> datetime:
    """The time of day."""
    return datetime.now(UTC)


def sparkline(values: Sequence[float], screen: Screen) -> str:
    """A small history, one character a value, the highest of them full, nothing for nothing."""
    bars = _BARS if screen.has_unicode else _ASCII_BARS
    highest = max(values, default=0)
    return "".join(bars[math.ceil(value / highest * len(bars)) - 1] if value > 0 else " " for value in values)


def place(source: str, line: int | None) -> str:
    """Who lists an entry: FILE:LINE, or the caller of `block`."""
    return f"{printable(source)}:{line}" if line else printable(source)
