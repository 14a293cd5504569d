"""Minimal Debians in folders, made once by debootstrap and kept in the cache: what machines of all kinds are made of.

Knows nothing of xdropd, nor of how machines run.
"""

import contextlib
import fcntl
import hashlib
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

PACKAGES = Path(__file__).parents[1] / "scripts" / "packages"

# The oldest and the newest Debian that is supported, with their kernel, systemd, bcc and Python.
SUITES = ("bookworm", "trixie")

CLEAN = (
    "env",
    "--ignore-environment",
    "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/root",
    "LANG=C.UTF-8",
    "TERM=dumb",
)
"""Before a command: nothing that our own Python was told reaches it."""


@contextlib.contextmanager
def only_one(lock: Path) -> Iterator[None]:
    """Two runs at once make a thing only once."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def make_root(cache: Path, suite: str, purpose: str = "machine") -> Path:
    """The folder with a minimal Debian of that suite and the packages for a purpose; made if it is not there yet."""
    packages = subprocess.run([PACKAGES, purpose], check=True, capture_output=True, text=True).stdout.split()
    key = hashlib.sha256(" ".join([*CLEAN, *packages]).encode()).hexdigest()[:8]
    folder = cache / f"{suite}-{key}"
    with only_one(folder.with_suffix(".lock")):
        if folder.is_dir():
            return folder
        partial = folder.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        command = ["debootstrap", "--variant=minbase", f"--include={','.join(packages)}", suite, str(partial)]
        # Nothing that our own Python was told may reach that of the packages; and nobody else's tests shall wait.
        patient = ["nice", *CLEAN, *command]
        done = subprocess.run(patient, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode:
            raise AssertionError(f"{shlex.join(command)}\n{done.stdout[-4000:]}")
        (partial / "etc" / "machine-id").write_text("")  # each machine draws its own at boot
        (partial / "etc" / "hostname").unlink(missing_ok=True)
        partial.rename(folder)
    return folder
