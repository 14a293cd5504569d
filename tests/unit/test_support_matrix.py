"""Each device of docs/support-matrix.md names the tests that have seen it, and they are there."""

import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
MATRIX = (REPOSITORY / "docs" / "support-matrix.md").read_text(encoding="utf-8")
_NAMED = re.compile(r"`(\w+)::(test_\w+)`")


def test_what_it_names_is_there() -> None:
    there = {
        (path.stem.removeprefix("test_machine_"), name)
        for path in (REPOSITORY / "tests" / "machines").glob("test_machine_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert {*_NAMED.findall(MATRIX)} - there == set()


def test_every_device_has_been_seen() -> None:
    table = MATRIX.partition("\n## Devices\n")[2].partition("\n## ")[0]
    _, _, *devices = [line for line in table.splitlines() if line.startswith("|")]
    assert len(devices) > 15
    assert [each for each in devices if not _NAMED.search(each.split(" | ")[2])] == []
