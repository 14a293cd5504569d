"""Guests for the machines suite: one of each kernel for all of it, booted when it is first wanted.

Without --full a test runs on the kernel that its mark `always` names, and not at all without one: the machine is
emulated, and takes a minute for what others do in a second.
"""

from collections.abc import Generator, Iterator
from pathlib import Path

import installed
import pytest
from guests import Guest
from images import make_image

from extent import IS_FULL
from roots import SUITES

VIRTIO = "virtio-net-pci,host_mtu=1500"
"""As of a hypervisor that says which MTU its network has, as most do: a card without that is nic5."""
CARDS = (VIRTIO, VIRTIO, "e1000e", "vmxnet3", f"{VIRTIO},mq=on,vectors=6", "virtio-net-pci")
"""nic0 to nic5."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is for --full; pytest counts it as deselected."""
    left_out = [item for item in items if item.path.parent == Path(__file__).parent and not _is_wanted(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def _is_wanted(item: pytest.Item) -> bool:
    mark = item.get_closest_marker("always")
    parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    return IS_FULL or (mark is not None and parameters.get("machine") in mark.args)


@pytest.fixture(scope="session", params=SUITES)
def machine(request: pytest.FixtureRequest, cache: Path, package: Path) -> Iterator[Guest]:
    """One that runs, with xdropd installed as the package does."""
    with Guest(make_image(cache, request.param, package), CARDS) as guest:
        installed.ready(guest)
        yield guest


@pytest.fixture
def guest(machine: Guest) -> Guest:
    """The same with nothing but its cards, which are down; xdropd is stopped, under `auto`, and VILLAINS are listed."""
    installed.clear(machine)
    return machine


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that fails shows what the guest last said."""
    report = yield
    guests = [each for each in getattr(item, "funcargs", {}).values() if isinstance(each, Guest)]
    for machine in guests[:1] if report.failed else ():
        told = machine.run("journalctl", "--no-pager", "--lines=60", "--output=short-monotonic", check=False).stdout
        report.sections.append(("the guest's journal", told))
        links = machine.run("sh", "-c", "ip -d address; ip route show table all; xdropctl status", check=False).stdout
        report.sections.append(("the guest's devices", links))
    return report
