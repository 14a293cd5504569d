"""Real lists, included as their publishers write them.

From the folder that --lists names, or from the corpus that the tests use, unpacked at $XDROPD_CORPUS.
"""

import os
from pathlib import Path

from bench import included
from bench.figures import Effort, Report
from xdropd.errors import Unavailable
from xdropd.text import listfiles

_GROUP = "real lists"
_LARGEST = 8
_ENTRIES_AT_LEAST = 1_000


def measure(report: Report, effort: Effort) -> None:
    """The largest lists of a folder, each with all its entries. Raises Unavailable where there is none."""
    folder = effort.lists or Path(os.environ.get("XDROPD_CORPUS", "/nonexistent")) / "lists"
    files = [file for file in folder.rglob("*") if file.is_file()]
    counts = {file: listfiles.read(file.read_bytes(), file.name).listing.count for file in files}
    found = [file for file in sorted(files, key=counts.__getitem__, reverse=True) if counts[file] >= _ENTRIES_AT_LEAST]
    if not found:
        raise Unavailable(f"there is no large list in {folder}, name a folder with --lists")
    for file in found[: 2 if effort.is_quick else _LARGEST]:
        name = f"{file.parent.name}/{file.name}"
        included.measure(report, effort, _GROUP, name, counts[file], f'"{file.resolve()}"')
