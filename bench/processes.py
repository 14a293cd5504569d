"""Processes: from starting one to its end, and what one that runs takes."""

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from netns import inside


def seconds(command: Sequence[str], namespace: str, stdin: Path | None = None) -> float:
    """Run a command in a network namespace and wait for its end. Raises CalledProcessError with what it said."""
    read, write = os.pipe2(os.O_CLOEXEC)
    given = os.open(stdin or os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    actions = [(os.POSIX_SPAWN_DUP2, given, 0), *((os.POSIX_SPAWN_DUP2, write, number) for number in (1, 2))]
    with inside(namespace):
        begun = time.monotonic()
        process = os.posix_spawnp(command[0], list(command), os.environ, file_actions=actions)
    os.close(write)
    os.close(given)
    with os.fdopen(read, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(process, 0)
    taken = time.monotonic() - begun
    if code := os.waitstatus_to_exitcode(status):
        raise subprocess.CalledProcessError(code, list(command), said.decode(errors="replace"))
    return taken


def peak_bytes(command: Sequence[str], namespace: str, stdin: Path | None = None) -> int:
    """The same, but for the most memory that it had resident at once.

    By time(1), which forks: the peak of a process that was spawned from here includes ours.
    """
    with tempfile.NamedTemporaryFile("r") as told:
        seconds(("/usr/bin/time", "--format=%M", f"--output={told.name}", *command), namespace, stdin)
        return int(told.read()) * 1024


class Memory(NamedTuple):
    """Resident memory of a process: now, and at most so far."""

    now_bytes: int
    peak_bytes: int


def memory(process_id: int) -> Memory:
    """What it has resident."""
    status = Path("/proc", str(process_id), "status").read_text(encoding="ascii")
    found = dict(re.findall(r"^(VmRSS|VmHWM):\s*(\d+) kB", status, re.MULTILINE))
    return Memory(int(found["VmRSS"]) * 1024, int(found["VmHWM"]) * 1024)


def forget_peak(process_id: int) -> None:
    """What was at most resident is counted from now on."""
    Path("/proc", str(process_id), "clear_refs").write_text("5", encoding="ascii")


def cpu_seconds(process_id: int) -> float:
    """What it has taken of all CPUs since it began, with the kernel on its behalf."""
    behind_name = Path("/proc", str(process_id), "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return sum(map(int, behind_name[11:13])) / os.sysconf("SC_CLK_TCK")
