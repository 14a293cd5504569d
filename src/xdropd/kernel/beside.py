"""Work that mostly waits for the kernel, done beside other work, on another CPU where there is one."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from xdropd import memory


@contextmanager
def beside(work: Callable[[], None]) -> Iterator[None]:
    """Over when both are: `work` and what is done in the context. Raises what that raises, or else what `work` does.

    Raises MemoryError where there is no room for a thread.
    """
    problems: list[BaseException] = [MemoryError()]  # without memory a thread may end before it can say so

    def do() -> None:
        try:
            work()
        except BaseException as problem:  # noqa: BLE001  # it is raised where somebody waits for it
            problems[0] = problem
        else:
            problems.clear()

    thread = threading.Thread(target=do, name="beside")
    memory.start(thread)
    try:
        yield
    finally:
        thread.join()
    for problem in problems:
        raise problem
