"""Memory that goes back: all threads share the heap that malloc_trim(3) can shorten, and columns are mapped.

And memory that is not there: a thread that cannot live is not waited for.
"""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

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


# Each wants one thread more than there are, and returns whatever becomes of that.
_BESIDE = """
from xdropd.kernel.beside import beside
def want():
    with suppress(MemoryError), beside(lambda: None):
        pass
"""
_WATCHER = """
from xdropd.host.watch import Watcher
folder = Path(sys.argv[1])
(folder / "list").touch()
watcher = Watcher(lambda: None)
def want():
    watcher.follow([folder / "list"])
    watcher.look(time.monotonic())
"""
_FILE_WORKER = """
from xdropd.host.fileworker import SILENCE_S, FileWorker, touch
worker = FileWorker(lambda: None)
worker.submit(lambda: touch("/hung", threading.Event().wait))
while worker._thread.path is None:
    time.sleep(0.001)
def want():
    worker.supervise(time.monotonic() + SILENCE_S + 1)
"""
_EXPORTER = """
from xdropd.commands.exporter import _Server
server = _Server(socket.AF_INET, ("127.0.0.1", 0))
asking = socket.create_connection(server.server_address)
def want():
    server.handle_request()
"""
# Each page from where a stack fits and nothing else does; a process that still waits for its thread is killed.
_EACH_LIMIT = """
stack, page = 8 << 20, resource.getpagesize()
threading.stack_size(stack)
waited = []
for pages in range(16):
    child = os.fork()
    if not child:
        {want}
        used = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, ((used + pages) * page + stack, resource.RLIM_INFINITY))
        signal.alarm(2)
        want()
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        waited.append(pages)
sys.exit(f"waited for ever: {{waited}}" if waited else 0)
"""


@pytest.mark.parametrize("want", [_BESIDE, _WATCHER, _FILE_WORKER, _EXPORTER])
def test_nobody_waits_for_a_thread_that_has_no_memory_to_begin(want: str, tmp_path: Path) -> None:
    imports = (
        "import os, resource, signal, socket, sys, threading, time\n"
        "from contextlib import suppress\nfrom pathlib import Path\n"
    )
    script = imports + _EACH_LIMIT.format(want=textwrap.indent(want, " " * 8).strip())
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=False, timeout=90
    )
    assert done.returncode == 0, done.stderr
