"""Machines for the system suite: a real systemd, thrown away after the tests of one file."""

import threading
from collections.abc import Generator, Iterator
from pathlib import Path

import installation
import pytest
from machine import ENOUGH_SUITES, OTHER_SUITES, Machine

from places import cache_folder
from roots import SUITES, make_root


def pytest_collection_finish(session: pytest.Session) -> None:
    """Begin to make the roots that will be wanted; who needs one that is not there yet waits for it."""
    if session.config.option.collectonly:
        return
    wanted = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    roots = [("machine", suite) for suite in SUITES] if "machine" in wanted else []
    roots += [("build", suite) for suite in OTHER_SUITES] if "builder" in wanted else []
    roots += [("fail2ban", suite) for suite in SUITES] if "with_fail2ban" in wanted else []
    for purpose, suite in roots:
        threading.Thread(target=make_root, args=(cache_folder(), suite, purpose)).start()


@pytest.fixture(scope="session", params=OTHER_SUITES)
def builder(request: pytest.FixtureRequest, cache: Path) -> Path:
    """A root with what it takes to build the package, of a Debian that this machine does not run."""
    return make_root(cache, request.param, "build")


@pytest.fixture(scope="module", params=ENOUGH_SUITES)
def machine(request: pytest.FixtureRequest, cache: Path, package: Path) -> Iterator[Machine]:
    """A Debian with xdropd installed and not started. One in CI; files that want each of them always say so."""
    with installation.machine_with(package, cache, request.param) as made:
        yield made


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that fails shows what the machine's journal last said."""
    report = yield
    for machine in getattr(item, "funcargs", {}).values():
        if report.failed and isinstance(machine, Machine) and machine.is_running:
            last = machine.run("journalctl", "--no-pager", "--lines=60", "--output=short-monotonic", check=False).stdout
            report.sections.append(("the machine's journal", last))
    return report
