"""A report in words: a line as each figure comes, a table, JSON, and the README's part."""

import dataclasses
import json
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from bench.figures import XDROPD, Demand, Figure, Report, Spread

REPOSITORY = Path(__file__).parents[1]
PICTURE = "docs/cost.svg"
GROWTH_PICTURE = "docs/growth.svg"
PAGE = "docs/figures.md"

_MARKS = "<!-- figures -->", "<!-- end of figures -->"
_HEAD = ("figure", "xdropd", "beside it", "must reach", "")
_PEERS = ("nftables", "ipset", "xdp-tools")  # Debian packages

_NEED_NO_NAME = ("processor", "memory", "system")

Machine = dict[str, str]


def machine() -> Machine:
    """What it was measured on."""
    release = Path("/etc/os-release").read_text(encoding="utf-8")
    cpu = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    memory = re.search(r"^MemTotal: *(\d+) kB", Path("/proc/meminfo").read_text(encoding="ascii"), re.MULTILINE)
    named = re.search(r'^PRETTY_NAME="?([^"\n]*)', release, re.MULTILINE)
    found = {
        "processor": f"{cpu[1] if cpu else platform.machine()}, {os.cpu_count()} CPUs",
        "memory": f"{int(memory[1]) >> 20} GiB" if memory else "unknown",
        "system": named[1] if named else "unknown",
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
    found.update({name: version for name, version in ((name, _version(name)) for name in _PEERS) if version})
    return found


def _version(package: str) -> str:
    query = ["dpkg-query", "--show", "--showformat=${Version}", package]
    return subprocess.run(query, capture_output=True, text=True, check=False).stdout


def number(value: float) -> str:
    """Three digits that count."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


def _span(spread: Spread) -> str:
    return f" ({number(spread.low)}–{number(spread.high)})" if spread.rounds > 1 else ""


def title(figure: Figure) -> str:
    """What a row is about."""
    return f"{figure.what}, {figure.listed:,} listed" if figure.listed >= 0 else figure.what


def _peers(figure: Figure) -> str:
    return ", ".join(f"{name} {number(found.median)}" for name, found in figure.measured.items() if name != XDROPD)


def _demand(demand: Demand, figure: Figure) -> str:
    sign = "≥" if demand.is_floor else "≤"
    limit = number(demand.limit(figure.measured))
    return f"{sign} {limit} = {demand.factor:g} × {demand.peer}" if demand.peer else f"{sign} {limit}"


def _verdict(figure: Figure) -> str:
    if not figure.demands:
        return ""
    return "reached" if figure.is_reached else "MISSED"


def _row(figure: Figure) -> tuple[str, ...]:
    ours = f"{number(figure.ours.median)}{_span(figure.ours)} {figure.unit}"
    demands = ", ".join(_demand(demand, figure) for demand in figure.demands)
    return title(figure), ours, _peers(figure), demands, _verdict(figure)


def line(figure: Figure) -> str:
    """One figure as it comes."""
    what, *rest = (part for part in _row(figure) if part)
    return f"{figure.group}: {what}: {'; '.join(rest)}"


def table(figures: Sequence[Figure]) -> str:
    """Markdown that reads well on a terminal too. Medians; in brackets the least and the most."""
    rows = [_HEAD, *((f"{figure.group}: {row[0]}", *row[1:]) for figure in figures for row in [_row(figure)])]
    widths = [max(len(row[at]) for row in rows) for at in range(len(_HEAD))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    lines.insert(1, "| " + " | ".join("-" * max(width, 3) for width in widths) + " |")
    notes = [f"* {title(figure)}: {figure.note}" for figure in figures if figure.note]
    return "\n".join([*lines, *(["", *notes] if notes else [])])


def to_json(report: Report, where: Machine) -> str:
    """Everything that was measured, for another program."""
    figures = [
        {
            **dataclasses.asdict(figure),
            "demands": [
                {**dataclasses.asdict(demand), "limit": demand.limit(figure.measured)} for demand in figure.demands
            ],
            "reached": figure.is_reached if figure.demands else None,
        }
        for figure in report.figures
    ]
    return json.dumps({"machine": where, "figures": figures, "failures": report.failures}, indent=1) + "\n"


def from_json(*texts: str) -> tuple[Report, Machine]:
    """The inverse of `to_json`, for groups that were measured one by one on one machine as well."""
    runs = [json.loads(text) for text in texts]
    report = Report(lambda _: None, failures=[failure for run in runs for failure in run["failures"]])
    for found in (figure for run in runs for figure in run["figures"]):
        demands = tuple(Demand(item["factor"], item["peer"], item["is_floor"]) for item in found.pop("demands"))
        measured = {name: Spread(**values) for name, values in found.pop("measured").items()}
        del found["reached"]
        report.add(Figure(**found, measured=measured, demands=demands))
    return report, runs[0]["machine"]


def page(report: Report, where: Machine) -> str:
    """docs/figures.md: everything."""
    head = (
        "# Figures\n\nMade by `sudo scripts/bench --readme`; what each row is and how it was taken is told in `bench/`."
    )
    growth = f"![How long a start takes, as lists and hosts grow]({Path(GROWTH_PICTURE).name})"
    return f"{head}\n\nMeasured on {_told(where)}.\n\n{growth}\n\n{table(report.figures)}\n"


def readme(text: str, report: Report, where: Machine) -> str:
    """The README with the picture and the figures that must reach something between its marks."""
    begin, end = _MARKS
    head, _, rest = text.partition(begin)
    _, _, tail = rest.partition(end)
    picture = f"![What a packet from an unlisted source costs, over the size of the list]({PICTURE})"
    demanded = table([figure for figure in report.figures if figure.demands])
    part = f"{picture}\n\nMeasured on {_told(where)}; [the other rows]({PAGE}).\n\n{demanded}"
    return f"{head}{begin}\n{part}\n{end}{tail}"


def _told(where: Machine) -> str:
    return ", ".join(value if key in _NEED_NO_NAME else f"{key} {value}" for key, value in where.items())
