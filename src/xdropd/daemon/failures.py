"""What any work may meet that is no mistake of ours. What was in force stays, and the next try may succeed."""

import contextlib
import errno
import os
from collections.abc import Iterator

from xdropd.errors import CompileError, KernelError, sentence_of

Failure = KernelError | CompileError | MemoryError | OSError
FAILURES = (KernelError, CompileError, MemoryError, OSError)


def reason_of(failure: Failure) -> str:
    """Why work failed, as a sentence."""
    if isinstance(failure, MemoryError):
        return f"hold the lists in memory: {os.strerror(errno.ENOMEM)}"
    if isinstance(failure, OSError):
        return sentence_of(failure)
    return str(failure)


@contextlib.contextmanager
def noting(failed: list[Failure] | None) -> Iterator[None]:
    """Go on behind the block if something in it fails, and note what; None: do not go on."""
    try:
        yield
    except FAILURES as failure:
        if failed is None:
            raise
        failed.append(failure)
