"""What /proc tells of the descriptors of a living process, which opens and closes some meanwhile."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path


def fdinfos(pid: int) -> list[str]:
    """What the kernel says of each descriptor of the process, as proc_pid_fdinfo(5) has it."""
    return _of_each(Path(f"/proc/{pid}/fdinfo"), Path.read_text)


def held_open(pid: int) -> list[str]:
    """What each descriptor of the process refers to, as proc_pid_fd(5) has it."""
    return _of_each(Path(f"/proc/{pid}/fd"), os.readlink)


def _of_each(folder: Path, tell: Callable[[Path], str]) -> list[str]:
    told = []
    for file in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed since the folder was read
            told.append(tell(file))
    return told
