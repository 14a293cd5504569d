"""Work that mostly waits for the kernel, done beside other work, on another CPU where there is one."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager


@contextmanager
def beside(work: Callable[[], None]) -> Iterator[None]:
    """Over when both are: `work` and what is done in the context. Raises what that raises, or else what `work` does."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        try:
            doing = thread.submit(work)
        except RuntimeError as problem:  # there is no room for a thread's stack
            raise MemoryError from problem
        yield
        doing.result()
