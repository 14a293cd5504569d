"""`pip install .`, as the contract promises it: into a fresh environment that sees the system's packages."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from packaged import REPOSITORY, copy_of_the_tree

SOURCES = REPOSITORY / "src" / "xdropd"

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with xdropd in it, made with the two commands that the contract names."""
    folder = tmp_path_factory.mktemp("install")
    tree = copy_of_the_tree(folder)
    made = folder / "venv"
    subprocess.run(["/usr/bin/python3", "-m", "venv", "--system-site-packages", made], check=True)
    subprocess.run([made / "bin" / "pip", "install", "--quiet", "."], cwd=tree, check=True, env=_clean_environment())
    return made


def _clean_environment() -> dict[str, str]:
    """As a user has it: nothing points at the source tree."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


@pytest.fixture
def run(environment: Path, tmp_path: Path) -> Run:
    """Run an installed command in a folder of its own."""

    def _run(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [environment / "bin" / name, *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=_clean_environment(), capture_output=True, text=True, check=False
        )

    return _run


@pytest.mark.parametrize("name", ["xdropd", "xdropctl"])
def test_both_commands_tell_their_version(run: Run, name: str) -> None:
    done = run(name, "--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{name} ")


def test_check_accepts_and_refuses(run: Run, tmp_path: Path) -> None:
    settings, blocklist = tmp_path / "xdropd.yaml", tmp_path / "blocklist.yaml"
    settings.write_text("interfaces: [eth0]\n")
    check = ("xdropd", "--check", "--settings", settings, "--blocklist", blocklist)

    blocklist.write_text("block:\n  - 203.0.113.9\n")
    done = run(*check)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    blocklist.write_text("block:\n  - 203.0.113.9/8\n")
    done = run(*check)
    assert done.returncode == 78
    assert done.stderr.startswith(f"{blocklist}:2:5: error: ")


def test_everything_of_the_source_is_installed(environment: Path) -> None:
    (installed,) = environment.glob("lib/python3*/site-packages/xdropd")
    there = {file.relative_to(installed).as_posix() for file in installed.rglob("*") if file.is_file()}
    wanted = {file.relative_to(SOURCES).as_posix() for file in SOURCES.rglob("*") if file.suffix in {".py", ".json"}}
    wanted |= {file.relative_to(REPOSITORY).as_posix() for file in (REPOSITORY / "bpf").rglob("*.[ch]")}
    assert {file for file in there if not file.endswith(".pyc")} == wanted


def test_the_installed_source_compiles_where_it_is(environment: Path, run: Run) -> None:
    """The programs come from the installed files, with no kernel headers and nothing of the source tree."""
    say = (
        "from xdropd.kernel import compiler\n"
        "folder = compiler.source_folder()\n"
        "print(folder)\n"
        "print(*sorted(compiler.compile_blueprint(folder).programs))\n"
    )
    done = run("python", "-c", say)
    assert done.returncode == 0, done.stderr
    folder, programs = done.stdout.splitlines()
    assert Path(folder).is_relative_to(environment)
    assert {"xdrop_root", "xdrop_verdict"} <= set(programs.split())
