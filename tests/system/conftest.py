"""Machines for the system room: a real systemd, thrown away after the tests of one file."""

from collections.abc import Generator, Iterator
from pathlib import Path

import installation
import pytest
from machine import Machine


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """xdropd as it is in the tree now."""
    return installation.build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def machine(cache: Path, wheel: Path) -> Iterator[Machine]:
    """A Debian 12 with xdropd installed and not started."""
    with Machine(cache, "bookworm") as made:
        installation.install(made, wheel)
        yield made


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that fails shows what the machine's journal last said."""
    report = yield
    machine = getattr(item, "funcargs", {}).get("machine")
    if report.failed and isinstance(machine, Machine) and machine.is_running:
        last = machine.run("journalctl", "--no-pager", "--lines=60", "--output=short-monotonic", check=False).stdout
        report.sections.append(("the machine's journal", last))
    return report
