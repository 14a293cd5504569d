"""The command: which groups to measure, and where the figures go. scripts/bench runs it."""

import argparse
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import (
    block,
    cost,
    countries,
    drop_rate,
    edit,
    fleet,
    growth,
    growth_picture,
    hot_packet,
    in_force,
    load,
    many_interfaces,
    memory,
    picture,
    real,
    start,
    stories,
    telling,
)
from bench.figures import RELOADS, Effort, Report
from xdropd.errors import XdropdError

_GROUPS: dict[str, Callable[[Report, Effort], None]] = {
    "cost": cost.measure,
    "hot-packet": hot_packet.measure,
    "drop-rate": drop_rate.measure,
    "load": load.measure,
    "edit": edit.measure,
    "block": block.measure,
    "memory": memory.measure,
    "start": start.measure,
    "kinds": stories.measure,
    "real-lists": real.measure,
    "countries": countries.measure,
    "fleet": fleet.measure,
    "in-force": in_force.measure,
    "interfaces": many_interfaces.measure,
    "growth": growth.measure,
}


def main(arguments: Sequence[str]) -> int:
    """0: every figure is reached; 1: one is missed, or could not be taken."""
    chosen = _parser().parse_args(arguments)
    if chosen.from_json:
        report, where = telling.from_json(*(file.read_text(encoding="utf-8") for file in chosen.from_json))
    else:
        report, where = (
            Report(lambda figure: print(telling.line(figure), file=sys.stderr, flush=True)),
            telling.machine(),
        )
        effort = Effort(chosen.quick, chosen.reloads, chosen.lists)
        for name in chosen.group or _GROUPS:
            _measure(name, report, effort)
    print(telling.table(report.figures))
    for failure in report.failures:
        print(f"\n{failure}")
    if chosen.json:
        chosen.json.write_text(telling.to_json(report, where), encoding="utf-8")
    if chosen.readme:
        _write_down(report, where)
    return 0 if report.is_good else 1


def _write_down(report: Report, where: telling.Machine) -> None:
    """Into the tree."""
    (telling.REPOSITORY / telling.PICTURE).write_text(picture.draw(report), encoding="utf-8")
    (telling.REPOSITORY / telling.GROWTH_PICTURE).write_text(growth_picture.draw(report), encoding="utf-8")
    (telling.REPOSITORY / telling.PAGE).write_text(telling.page(report, where), encoding="utf-8")
    readme = telling.REPOSITORY / "README.md"
    readme.write_text(telling.readme(readme.read_text(encoding="utf-8"), report, where), encoding="utf-8")


def _measure(name: str, report: Report, effort: Effort) -> None:
    """One group. What goes wrong in it is told at the end, and the others are measured all the same."""
    print(f"{name}:", file=sys.stderr, flush=True)
    try:
        _GROUPS[name](report, effort)
    except subprocess.CalledProcessError as failure:
        report.failures.append(f"{name} FAILED: {failure}\n{failure.stderr or failure.stdout or ''}".rstrip())
    except (OSError, subprocess.SubprocessError, XdropdError) as failure:
        report.failures.append(f"{name} FAILED: {failure}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measure xdropd and its peers in one run. Exit status 1: a figure is missed or could not be taken.",
    )
    names = ", ".join(_GROUPS)
    parser.add_argument("group", nargs="*", choices=[*_GROUPS, []], help=f"what to measure: {names} (default: all)")
    parser.add_argument("--quick", action="store_true", help="see that everything runs; the figures say little")
    parser.add_argument("--reloads", type=int, default=RELOADS, help="reloads in a row, for memory (%(default)s)")
    parser.add_argument(
        "--lists",
        type=Path,
        metavar="FOLDER",
        help="real list files (default: the corpus of the tests; for memory, generated ones)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument(
        "--from-json", type=Path, metavar="FILE", action="append", help="take the figures from there (repeatable)"
    )
    parser.add_argument("--readme", action="store_true", help="put tables and picture into README.md and docs/")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
