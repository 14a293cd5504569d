"""Imports climb a ladder, from part to part and within each part, and each foreign world has one door.

Read from the syntax trees, so that an import inside a function or under a condition counts as well.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "src" / "xdropd"
FILES = sorted(file.relative_to(PACKAGE).as_posix() for file in PACKAGE.rglob("*.py"))

# The first part of a module's name below xdropd, and its rung. A part imports itself and what is on lower rungs, so
# kernel and host stand side by side and do not know of each other, as sources, filter, fetch and fleet do. The package
# itself imports nothing of its own.
LADDER = (
    ("__init__",),
    ("errors", "memory"),
    ("columns",),
    ("text",),
    ("rules",),
    ("kernel", "host"),
    ("sources", "filter", "fetch", "fleet"),
    ("daemon",),
    ("control",),
    ("commands",),
)
RUNGS = {part: rung for rung, parts in enumerate(LADDER) for part in parts}

# The same within the parts in which much comes together: who stands here imports nothing of its part but what stands on
# lower steps. In the others it is enough that there is no circle.
STEPS = {
    "kernel": (
        ("__init__", "beside", "retry", "tables/__init__", "typeinformation"),
        ("libbpf",),
        ("abi", "compile_child", "hooks/xdp"),
        ("compiler", "hooks/__init__", "tables/hints", "tables/ranges", "tables/records", "tables/volumes"),
        ("generation",),
        ("attachment",),
    ),
    "filter": (
        ("__init__", "carriers", "evidence", "firstversion", "numbers", "program", "saved"),
        ("bonds", "interfaces", "quirks", "remedies", "store"),
        ("counting", "nextprogram", "proof"),
        ("lists",),
        ("filter",),
        ("attaching", "samples"),
    ),
    "daemon": (
        (
            "__init__",
            "backoff",
            "changes",
            "failures",
            "progress",
            "reactor",
            "restart_backoff",
            "severed",
            "watching",
        ),  # know no list
        ("following", "handover", "keeping", "results", "routing"),
        ("announcing", "blocking", "fetching", "settling", "wanted"),
        ("onwards", "ownhost", "proving", "reconciling", "trust"),
        ("expiry", "health"),
        ("parts",),
        ("reloads",),
        ("startup",),
        ("loop",),
    ),
    "control": (
        ("__init__", "moments", "pauses", "sentences", "sharedstats", "waiting"),
        ("fields", "rows"),
        ("asking", "watch"),
        ("answers", "fetches", "operations"),
        ("requests",),
    ),
}
PLACES = {
    f"{part}/{file}.py": place for part, steps in STEPS.items() for place, files in enumerate(steps) for file in files
}

# The C library is a leaf that knows nothing of us; the compile child gives up its powers with it.
SIDEWAYS = {("kernel/compile_child.py", "xdropd.host.libc")}

# A foreign world, and the files that may open its door; a folder stands for every file in it.
DOORS = {
    "bcc": ("kernel/compile_child.py",),
    "ctypes": ("kernel/libbpf.py", "host/libc.py"),
    "maxminddb": ("text/formats/mmdb.py",),
    "prometheus_client": ("commands/exporter.py",),
    "urllib3": ("fetch/download.py", "fleet/localapi.py"),
    "watchdog": ("host/watch.py",),
    "yaml": ("text/yamlnodes.py",),
}


def _imported(file: str, text: str) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of everything that a file's text imports; `from a import b` is a.b."""
    package = ["xdropd", *Path(file).parts[:-1]]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{origin}.{alias.name}") for alias in node.names)


def _file_of(name: str) -> str | None:
    """The file that an import has read first of all, if it is one of ours: `xdropd.a.b` may be a name in a.py."""
    parts = name.split(".")[1:] if name.split(".")[0] == "xdropd" else []
    stems = ("/".join(parts[:end]) for end in (len(parts), len(parts) - 1) if end)
    return next((file for stem in stems for file in (f"{stem}.py", f"{stem}/__init__.py") if file in FILES), None)


def _violations(file: str, text: str) -> list[str]:
    """Each import of a file that the ladder, the steps of its part or a door forbids, as a sentence."""
    here = Path(file).with_suffix("").parts[0]
    found = []
    for line, name in _imported(file, text):
        other = _file_of(name)
        if other in PLACES and other.startswith(f"{here}/") and PLACES[other] >= PLACES.get(file, -1):
            found.append(f"{file}:{line}: {other} stands on no lower step of {here}")
        world, *rest = name.split(".")
        if world == "xdropd" and rest and rest[0] in RUNGS:
            climbs = RUNGS[rest[0]] < RUNGS[here] or rest[0] == here
            if not climbs and not any(file == who and (name + ".").startswith(what + ".") for who, what in SIDEWAYS):
                found.append(f"{file}:{line}: {here} must not import {name}")
        if world in DOORS and not file.startswith(DOORS[world]):
            found.append(f"{file}:{line}: {world} is imported in {' and '.join(DOORS[world])} only")
    return found


def _circle(texts: dict[str, str]) -> list[str]:
    """Files, by name with their texts, of which each imports the next and the last one the first; none: []."""
    imports = {
        file: {_file_of(name) for _, name in _imported(file, text)} & texts.keys() for file, text in texts.items()
    }
    while leaves := [file for file, others in imports.items() if not others & imports.keys()]:
        for file in leaves:
            del imports[file]
    path: list[str] = []
    while imports and (file := min(imports if not path else imports[path[-1]] & imports.keys())) not in path:
        path.append(file)
    return path[path.index(file) :] if path else []


def test_there_is_something_to_look_at() -> None:
    assert {"errors.py", "kernel/compile_child.py", "host/libc.py"} <= set(FILES)


@pytest.mark.parametrize("file", FILES)
def test_imports_climb_and_use_the_doors(file: str) -> None:
    assert _violations(file, (PACKAGE / file).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("file", FILES)
def test_each_part_has_a_rung(file: str) -> None:
    assert Path(file).with_suffix("").parts[0] in RUNGS


def test_each_file_of_a_part_with_steps_stands_on_one() -> None:
    assert sorted(PLACES) == [file for file in FILES if file.split("/")[0] in STEPS]
    assert len(PLACES) == sum(len(files) for steps in STEPS.values() for files in steps), "on one, and not on two"


def test_no_imports_go_round_in_a_circle() -> None:
    assert _circle({file: (PACKAGE / file).read_text(encoding="utf-8") for file in FILES}) == []


def test_a_circle_is_found() -> None:
    texts = {
        "host/files.py": "from xdropd.host import log",
        "host/log.py": "def f():\n    from ..host.watch import Watcher",
        "host/watch.py": "import xdropd.host.files\nfrom xdropd.host import libc",
        "host/libc.py": "import ctypes",
        "host/netlink.py": "from xdropd.host.watch import Watcher",
    }
    assert _circle(texts) == ["host/files.py", "host/log.py", "host/watch.py"]
    del texts["host/libc.py"], texts["host/log.py"]
    assert _circle(texts) == []


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("text/blocklist.py", "from xdropd.rules import plan"),
        ("text/blocklist.py", "from xdropd import kernel"),
        ("text/blocklist.py", "from .. import host"),
        ("rules/plan.py", "import xdropd.kernel.libbpf"),
        ("kernel/libbpf.py", "def f():\n    from xdropd.host import files"),
        ("kernel/libbpf.py", "from xdropd.host import libc"),
        ("host/socket.py", "from ..kernel import libbpf"),
        ("filter/filter.py", "from xdropd.sources.blocks import Blocks"),
        ("daemon/loop.py", "from xdropd.control.requests import Requests"),
        ("daemon/reactor.py", "from xdropd.daemon.reloads import Reloads"),
        ("daemon/reloads.py", "from xdropd.daemon import startup"),
        ("daemon/blocking.py", "from .settling import rest"),
        ("filter/lists.py", "from .filter import Filter"),
        ("control/rows.py", "def f():\n    import xdropd.control.fields"),
        ("kernel/tables/records.py", "from xdropd.kernel.generation import Generation"),
        ("kernel/abi.py", "from .tables import ranges"),
        ("columns/listing.py", "from xdropd.text.addresses import Span"),
        ("__init__.py", "from xdropd import errors"),
        ("errors.py", "if True:\n    import xdropd.text.addresses"),
        ("kernel/compiler.py", "from bcc import BPF"),
        ("host/libbpf.py", "import ctypes.util as u"),
        ("daemon/top.py", "import prometheus_client.core"),
    ],
)
def test_a_wrong_import_is_found(file: str, text: str) -> None:
    assert len(_violations(file, text)) == 1


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("kernel/compile_child.py", "from xdropd.host import libc"),
        ("kernel/compile_child.py", "from xdropd.host.libc import CAP_BPF"),
        ("kernel/compiler.py", "import xdropd"),
        ("kernel/abi.py", "from xdropd.columns.prefixes import Column"),
        ("filter/lists.py", "from xdropd.rules.plan import Plan"),
        ("control/answers.py", "from xdropd.daemon.parts import Parts"),
        ("filter/filter.py", "from .lists import Lists\nfrom xdropd.rules import plan"),
        ("daemon/loop.py", "from xdropd.daemon.reloads import Reloads"),
        ("kernel/generation.py", "from xdropd.kernel.tables.ranges import RangeTables"),
        ("commands/exporter.py", "from prometheus_client import core"),
    ],
)
def test_a_right_import_is_left_alone(file: str, text: str) -> None:
    assert _violations(file, text) == []


@pytest.mark.parametrize("program", ["xdropctl", "xdropd_crowdsec", "xdropd_fetch"])
def test_programs_that_compute_no_columns_take_neither_numpy_nor_bcc(program: str) -> None:
    """Which are 15 MB and a twentieth of a second, and more."""
    code = f"import sys, xdropd.commands.{program}; print(*{{'numpy', 'bcc', 'watchdog'}} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "\n"
