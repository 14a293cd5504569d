"""The Debian package of this tree, as scripts/build-deb makes it."""

import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]

_BUILD_SECONDS_AT_MOST = 120


def copy_of_the_tree(to: Path) -> Path:
    """What building needs, in a folder that may be littered."""
    leave_out = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist")
    return Path(shutil.copytree(REPOSITORY, to / "tree", ignore=leave_out))


def build(tree: Path, to: Path, *prefix: str) -> Path:
    """The package that scripts/build-deb makes of a tree; `prefix` is a command that runs it in other circumstances."""
    command = [*prefix, str(tree / "scripts" / "build-deb"), str(to)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_BUILD_SECONDS_AT_MOST, check=False)
    if done.returncode:
        pytest.fail(done.stdout + done.stderr, pytrace=False)
    (said,) = done.stdout.splitlines()
    return Path(said)
