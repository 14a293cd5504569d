"""The linters are tests: one command checks everything. Their configuration is in pyproject.toml."""

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PYTHON_PLACES = ("src", "bench", "tests")


def _must_be_content(*command: str) -> None:
    """Run a tool of this interpreter over the tree; what it says is the failure."""
    done = subprocess.run([sys.executable, "-m", *command], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.fail(done.stdout + done.stderr, pytrace=False)


def test_ruff_finds_nothing() -> None:
    _must_be_content("ruff", "check", "--no-cache", "--output-format=concise", *PYTHON_PLACES)


def test_ruff_would_format_nothing() -> None:
    _must_be_content("ruff", "format", "--no-cache", "--check", *PYTHON_PLACES)


def test_mypy_finds_nothing(cache: Path) -> None:
    _must_be_content("mypy", "--strict", f"--cache-dir={cache / 'mypy'}", "src", "bench")


def _shell_scripts() -> list[Path]:
    files = [*(REPOSITORY / "scripts").iterdir(), *(REPOSITORY / ".ci").iterdir()]
    starts = (b"#!/usr/bin/env bash", b"# shellcheck shell=bash")  # what is run, and what is sourced
    return [file for file in files if file.is_file() and file.read_bytes().startswith(starts)]


@pytest.mark.parametrize("script", _shell_scripts(), ids=lambda script: script.name)
def test_bash_can_read_its_scripts(script: Path) -> None:
    done = subprocess.run(["bash", "-n", script], capture_output=True, text=True, check=False)
    assert done.stderr == ""
