"""Whether there is memory for what is about to begin.

For what does not take it well that there is none: better not begun than half done. It is a look, no promise: another
thread may take the memory meanwhile, so there has to be more of it than is needed.
"""

import mmap
import resource
import threading

# Of one thread besides its stack: its first frame, and where Python or malloc have to grow for it.
_ROOM_A_THREAD = 4 << 20
_STACK_BYTES = 8 << 20  # pthread_attr_init(3): of a thread where the limit for stacks is none, and more than that takes


def see_room_for(size_bytes: int) -> None:
    """Raise MemoryError where so much cannot be had. What is mapped and not written to takes no memory."""
    if size_bytes:
        try:
            mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
        except OSError as problem:
            raise MemoryError(problem.strerror) from problem


def see_room_for_threads(count: int = 1) -> None:
    """Raise MemoryError where so many threads might not come to life.

    A thread that gets its stack and no memory for its first frame ends without a word (CPython 3.11: thread_run in
    _threadmodule.c), and Thread.start() waits for ever to hear that it has begun.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_STACK)
    stack = threading.stack_size() or (_STACK_BYTES if limit == resource.RLIM_INFINITY else limit)
    see_room_for(count * (stack + _ROOM_A_THREAD))


def start(thread: threading.Thread) -> None:
    """Start a thread, or raise MemoryError."""
    see_room_for_threads()
    try:
        thread.start()
    except RuntimeError as problem:  # no more threads
        raise MemoryError(str(problem)) from problem
