"""The program that passed packets go on to: somebody else's, pinned by its owner, in a slot that the verdict jumps to.

Such an array takes only programs that were loaded as its first one was (bpf_prog_map_compatible in the kernel's
kernel/bpf/core.c): for XDP, and for frames in fragments.
"""

import errno
import os

from xdropd.errors import KernelError
from xdropd.filter.store import Store
from xdropd.host.fileworker import touch
from xdropd.kernel import abi, libbpf
from xdropd.kernel.retry import retried

_MAP = "next_program"


def pinned(path: str) -> int | str | None:
    """The program at a path, as a descriptor; None if nothing is there; or a sentence on why that cannot be told."""
    try:
        return touch(path, libbpf.pinned_program, os.fsencode(path))
    except ValueError as reason:
        return str(reason)
    except FileNotFoundError:
        return None
    except PermissionError:
        return f"it may not be read, user {os.geteuid()} needs 'r' on it and 'x' on the folders above it"
    except OSError as problem:
        return f"it cannot be read: {problem.strerror}"


class NextProgram:
    """The slot. In the store it outlives the daemon, and so does what stands in it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def id(self) -> int:
        """Of the program in the slot; 0: none, packets pass."""
        return libbpf.program_in(self._store.shared_maps[_MAP], 0) if _MAP in self._store.shared_maps else 0

    def put(self, program: int) -> str:
        """Have packets go on to this one, in one step; a sentence on why it does not fit, else "".

        Raises KernelError where it may fit another time.
        """
        shape = libbpf.program_shape(program)
        if shape.id == self.id:  # each write has the kernel change the instructions of the verdict
            return ""
        if shape.type != libbpf.PROG_TYPE_XDP:
            return f"program {shape.id} ({shape.name}) is not an XDP program"
        try:
            retried(libbpf.set_program, self._store.shared_maps[_MAP], 0, program)
        except KernelError as refusal:
            if refusal.errno != errno.EINVAL:
                raise
            return (
                f"the kernel does not let packets go on to program {shape.id} ({shape.name}):"
                ' it has to be loaded for frames in fragments, as with SEC("xdp.frags"), and for no single device'
            )
        return ""

    def leave_out(self) -> None:
        """Have packets pass."""
        if self.id:
            retried(libbpf.delete, self._store.shared_maps[_MAP], abi.number(0))
