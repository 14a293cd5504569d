"""Putting xdropd on a machine. The one place that knows how; everything else uses what the contract names."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from machine import Machine

REPOSITORY = Path(__file__).parents[2]

_PYTHON_FOLDER = "/usr/lib/python3/dist-packages"
_PROGRAM = "#!/usr/bin/python3\nimport sys\n\nfrom xdropd.commands.{name} import main\n\nsys.exit(main())\n"


def copy_of_the_tree(to: Path) -> Path:
    """What building the package needs, in a folder that may be littered."""
    leave_out = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist")
    return Path(shutil.copytree(REPOSITORY, to / "tree", ignore=leave_out))


def build_wheel(to: Path) -> Path:
    """The wheel, made with the setuptools of the interpreter that runs the tests."""
    tree = copy_of_the_tree(to)
    command = ["-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", to, tree]
    subprocess.run([sys.executable, *command], check=True)
    (wheel,) = to.glob("*.whl")
    return wheel


def install(machine: Machine, wheel: Path) -> None:
    """As the package does it: programs, unit, user and configuration are there, and nothing runs yet."""
    unpacked = wheel.parent / "unpacked"
    if not unpacked.is_dir():
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(unpacked)
    machine.copy_in(unpacked, _PYTHON_FOLDER)
    for name in ("xdropd", "xdropctl"):
        machine.write(f"/usr/bin/{name}", _PROGRAM.format(name=name))
        machine.run("chmod", "755", f"/usr/bin/{name}")
    for unit in ("xdropd.service", "xdropd-exporter.service"):
        machine.copy_in(REPOSITORY / "systemd" / unit, f"/usr/lib/systemd/system/{unit}")
    machine.copy_in(REPOSITORY / "systemd" / "xdropd.sysusers", "/usr/lib/sysusers.d/xdropd.conf")
    machine.run("systemd-sysusers")
    machine.copy_in(REPOSITORY / "etc", "/etc/xdrop")
    machine.run("mkdir", "--parents", "/etc/xdrop/lists.d")
    machine.run("systemctl", "daemon-reload")
