"""Memory that goes back: all threads share the heap that malloc_trim(3) can shorten."""

import os
import subprocess
import sys

_HEAPS = """
import ctypes, threading
from xdropd.host import libc
{first}
together = threading.Barrier(4)
def allocate():
    kept = bytearray(1 << 16)
    together.wait()
threads = [threading.Thread(target=allocate) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
C = ctypes.CDLL(None)
C.fdopen.restype = ctypes.c_void_p
out = ctypes.c_void_p(C.fdopen(1, b"w"))
C.malloc_info(0, out)
C.fflush(out)
"""


def heaps(first: str) -> int:
    """How many there are behind four threads that were there at once, by malloc_info(3)."""
    script = _HEAPS.format(first=first)
    told = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONMALLOC": "malloc"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return told.count("<heap nr=")


def test_threads_share_one_heap() -> None:
    assert heaps("pass") > 1
    assert heaps("libc.use_one_arena()") == 1
