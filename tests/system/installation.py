"""xdropd on a machine: built from this tree as a Debian package, and installed as everybody installs it.

The one place that knows where the package puts things; everything else uses what the contract names.
"""

import contextlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import service
from machine import Machine

from packaged import build

SHARE = "/usr/share/xdropd"
MODULES = f"{SHARE}/xdropd"
PROGRAM_TEXT = f"{SHARE}/bpf/xdrop.bpf.c"

# What a package of the first version is made of, commit c4c2d26: a clone need not have the history.
_FIRST_VERSION = Path(__file__).with_name("first_version.tar.xz")


def build_previous(tree: Path, to: Path) -> Path:
    """The package of an older version, whose program cannot be handed over as it is: an upgrade has to swap it."""
    older = Path(shutil.copytree(tree, to / "older"))
    changelog = older / "debian" / "changelog"
    changelog.write_text(re.sub(r"\((.+)\)", r"(\1~previous)", changelog.read_text(), count=1))
    with (older / "bpf" / "xdrop.bpf.c").open("a") as source:
        source.write("// as of the previous version\n")
    return build(older, to / "previous")


def build_first(to: Path) -> Path:
    """The package of the first version, which kept other maps, in the way that firstversion.py tells."""
    first = to / "first"
    first.mkdir()
    subprocess.run(["tar", "--extract", "--xz", "--file", _FIRST_VERSION, "--directory", first], check=True)
    changelog = first / "debian" / "changelog"
    changelog.write_text(re.sub(r"\((.+)\)", r"(\1~first)", changelog.read_text(), count=1))
    return build(first, to / "package")


@contextlib.contextmanager
def machine_with(package: Path, cache: Path, suite: str, purpose: str = "machine") -> Iterator[Machine]:
    """A machine of that suite with the package installed and not started."""
    with Machine(cache, suite, purpose) as made:
        install(made, package)
        yield made


def install(machine: Machine, package: Path) -> None:
    """Install it. Unlike on other machines nothing runs afterwards, and nothing starts at boot."""
    machine.copy_in(package, "/root/xdropd.deb")
    machine.run("dpkg", "--install", "/root/xdropd.deb")
    machine.run("systemctl", "disable", "--now", "--quiet", service.UNIT)
    machine.run("rm", "--recursive", "--force", service.STATE)
