"""Each claim of docs/threat-model.md names the tests that show it: they are there, marked, and run in CI."""

import os
import re
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
_NAMED = re.compile(r"`(?:(\w+/test_\w+\.py))?::(test_\w+)`")


def _named() -> set[str]:
    named, file = set(), ""
    for other, test in _NAMED.findall((REPOSITORY / "docs" / "threat-model.md").read_text(encoding="utf-8")):
        file = other or file  # `::test_x` is of the file that was named last
        named.add(f"{file}::{test}")
    return named


def _marked() -> set[str]:
    """The tests that pytest would run, as far as they are marked."""
    environment = {name: value for name, value in os.environ.items() if name not in ("XDROPD_FULL", "PYTEST_ADDOPTS")}
    collect = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--collect-only", "-q", "-m", "threat_model")
    done = subprocess.run(collect, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=True)
    return {match[1] for match in re.finditer(r"^tests/(\S+?::\w+)", done.stdout, re.MULTILINE)}


def test_what_it_names_and_what_is_marked_are_the_same() -> None:
    """So nobody takes away or empties a test without seeing that a promise rests on it."""
    assert len(_named()) > 20
    assert _marked() == _named()


def test_every_cannot_is_shown() -> None:
    """A row that names no test is a claim that nobody looks after."""
    rows = re.findall(r"^\| (.+) \| (.+) \|$", (REPOSITORY / "docs" / "threat-model.md").read_text(), re.MULTILINE)
    claims = [(what, shown) for what, shown in rows if what not in ("what", "---")]
    assert len(claims) > 20
    assert [what for what, shown in claims if not _NAMED.search(shown)] == []
