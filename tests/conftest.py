"""The rules for all tests: which suites there are, what each needs, and what happens where that is missing.

A suite is a folder of tests. One that cannot run on this machine says why, and in CI (environment CI=true) that is a
failure: a test is not skipped for something that the machine could have.
"""

import functools
import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple, NoReturn

import pytest
from _pytest.terminal import TerminalReporter

import packaged
from extent import IS_FULL
from places import cache_folder

TESTS = Path(__file__).parent

# A shell starts background jobs with SIGINT ignored, and ignored it stays in all that a test starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Capabilities by their number (uapi/linux/capability.h)
_CAP_NET_ADMIN, _CAP_SYS_ADMIN, _CAP_PERFMON, _CAP_BPF = 12, 21, 38, 39
_BPF_POWERS = {"CAP_BPF": _CAP_BPF, "CAP_NET_ADMIN": _CAP_NET_ADMIN, "CAP_PERFMON": _CAP_PERFMON}


class Suite(NamedTuple):
    """What a folder of tests needs: capabilities by name, programs on the PATH, modules of this Python."""

    capabilities: dict[str, int]
    programs: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()


SUITES = {
    "unit": Suite({}),
    "packets": Suite(_BPF_POWERS, ("bpftool",), ("bcc",)),
    "netns": Suite(
        {**_BPF_POWERS, "CAP_SYS_ADMIN": _CAP_SYS_ADMIN},
        ("ip", "ping", "bpftool", "nginx", "openssl"),
        ("bcc", "urllib3"),
    ),
    "system": Suite(
        {**_BPF_POWERS, "CAP_SYS_ADMIN": _CAP_SYS_ADMIN},
        ("debootstrap", "systemd-nspawn", "unshare", "nsenter", "setpriv"),
    ),
    "machines": Suite(
        {**_BPF_POWERS, "CAP_SYS_ADMIN": _CAP_SYS_ADMIN},
        ("debootstrap", "unshare", "setpriv", "mke2fs", "qemu-system-x86_64"),
    ),
}

_closed: dict[str, str] = {}


@functools.cache
def _missing(suite: str) -> str:
    """What keeps a suite from running on this machine; empty if nothing does."""
    needs = SUITES[suite]
    status = Path("/proc/self/status").read_text(encoding="ascii")
    held = int(status.partition("CapEff:")[2].split(maxsplit=1)[0], 16)
    lacking = [name for name, number in needs.capabilities.items() if not held >> number & 1]
    lacking += [f"the program {name}" for name in needs.programs if shutil.which(name) is None]
    lacking += [f"the Python module {name}" for name in needs.modules if importlib.util.find_spec(name) is None]
    return f"needs {', '.join(lacking)}" if lacking else ""


def in_ci() -> bool:
    """Whether something missing is a failure rather than a remark."""
    return os.environ.get("CI") == "true"


def cannot_run(what: str, why: str) -> NoReturn:
    """End the test that is running: as failed in CI, else as not run, with the reason in the summary."""
    _closed[what] = why
    if in_ci():
        pytest.fail(f"{what} cannot run here: {why}", pytrace=False)
    pytest.skip(f"{what} cannot run here: {why}")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Look at what the suite needs before any fixture goes to work."""
    suite = item.path.relative_to(TESTS).parts[0]
    if why := _missing(suite):
        cannot_run(f"suite {suite}", why)


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """Whatever did not run is named once more at the end."""
    for what, why in sorted(_closed.items()):
        terminalreporter.write_line(f"{what} DID NOT RUN: {why}", red=True)


@pytest.fixture(scope="session")
def cache() -> Path:
    """Where downloads and whatever is slow to make are kept."""
    return cache_folder()


@pytest.fixture(scope="session")
def corpus(cache: Path) -> Path:
    """Real lists (`lists/`) and real packets (`pcaps/`), which are not ours to ship: $XDROPD_CORPUS."""
    return _given("the corpus", "XDROPD_CORPUS", cache)


@pytest.fixture(scope="session")
def maxminds(cache: Path) -> Path:
    """MaxMind's test databases (`test-data/`) and what breaks readers (`bad-data/`), likewise: $XDROPD_MMDB."""
    found = _given("the mmdb", "XDROPD_MMDB", cache)
    return found / "mmdb" if (found / "mmdb").is_dir() else found


def _given(what: str, variable: str, cache: Path) -> Path:
    """The folder that a variable of the environment names, or what is in the archive, unpacked once."""
    given = os.environ.get(variable)
    if not given:
        cannot_run(what, f"${variable} is not set")
    path = Path(given)
    if path.is_dir():
        return path
    if not path.is_file():
        cannot_run(what, f"${variable} names {path}, which does not exist")
    folder = cache / f"{path.name.partition('.')[0]}-{hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"
    if not folder.is_dir():
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            whole = Path(scratch, "whole")
            whole.mkdir()
            subprocess.run(["tar", "--extract", "--file", path, "--directory", whole], check=True)
            whole.rename(folder)
    return folder


@pytest.fixture(scope="session")
def full() -> bool:
    """Whether endurance tests run their full counts (scripts/test --full) or a tenth."""
    return IS_FULL


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this tree."""
    return packaged.copy_of_the_tree(tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="session")
def package(tree: Path) -> Path:
    """The Debian package of this tree."""
    return packaged.build(tree, tree.parent / "current")
