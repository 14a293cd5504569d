"""A guest: a process without any powers that scans a part of a large text, on another CPU, while we scan the rest.

It gets the text in memory and hands back columns. Whatever becomes of it, whoever asked does the work himself then.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import xdropd
from xdropd.text import packedruns
from xdropd.text.runs import Run

_SECONDS_AT_MOST = 60.0


class Guest:
    """One at a time."""

    @contextlib.contextmanager
    def scanning(self, part: bytes) -> Iterator[Callable[[], list[Run] | None]]:
        """As text/runs.py has it. The process is gone when the context is left."""
        with contextlib.ExitStack() as stack:
            try:
                text, answer = (stack.enter_context(_memory(name)) for name in ("text", "runs"))
                _write(text, part)
                guest = _started(text, answer)
            except OSError:  # no memory, no process
                yield lambda: None
                return
            try:
                yield lambda: _answered(guest, answer, len(part))
            finally:
                guest.kill()
                guest.wait()


@contextlib.contextmanager
def _memory(name: str) -> Iterator[int]:
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _write(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def _started(text: int, answer: int) -> "subprocess.Popen[bytes]":
    package_root = str(Path(xdropd.__file__).parent.parent)
    return subprocess.Popen(
        [sys.executable, "-s", "-m", "xdropd.host.guest_child", str(text), str(answer), str(os.getpid())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=[text, answer],
        cwd="/",
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": package_root},
    )


def _answered(guest: "subprocess.Popen[bytes]", answer: int, part_bytes: int) -> list[Run] | None:
    try:
        if guest.wait(_SECONDS_AT_MOST) != 0:
            return None
        return packedruns.unpack(os.pread(answer, os.fstat(answer).st_size, 0), part_bytes)
    except (subprocess.TimeoutExpired, OSError, ValueError):
        return None
