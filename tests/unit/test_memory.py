"""Memory that goes back: all threads share the heap that malloc_trim(3) can shorten, and columns are mapped."""

import os
import subprocess
import sys

_TOLD = """
C = ctypes.CDLL(None)
C.fdopen.restype = ctypes.c_void_p
out = ctypes.c_void_p(C.fdopen(1, b"w"))
C.malloc_info(0, out)
C.fflush(out)
"""
_THREADS = """
together = threading.Barrier(4)
def allocate():
    kept = bytearray(1 << 16)
    together.wait()
threads = [threading.Thread(target=allocate) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""
_COLUMNS = """
column = bytearray(8 << 20)
del column
another = bytearray(8 << 20)
"""


def told(*steps: str) -> str:
    """What malloc_info(3) says behind these steps in a process of their own."""
    script = "\n".join(("import ctypes, threading", "from xdropd.host import libc", *steps, _TOLD))
    return subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONMALLOC": "malloc"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_threads_share_one_heap() -> None:
    assert told(_THREADS).count("<heap nr=") > 1
    assert told("libc.keep_columns_apart()", _THREADS).count("<heap nr=") == 1


def test_a_column_leaves_no_hole_in_the_heap() -> None:
    assert '<total type="mmap" count="0"' in told(_COLUMNS)
    assert '<total type="mmap" count="1"' in told("libc.keep_columns_apart()", _COLUMNS)
