"""The ways to attach: where packets meet the entry stub. Each is a file here and a line in the table."""

from typing import Protocol

from xdropd.kernel.hooks import xdp


class Hook(Protocol):
    """One way. A link is a descriptor; when the last one of it closes, the kernel detaches."""

    @property
    def root_program(self) -> str:
        """The name of the program that is attached, in bpf/xdrop.bpf.c."""

    def attach(self, program: int, ifindex: int) -> int:
        """Attach an entry stub; the link. Raises KernelError."""

    def why_not(self, program: int, ifindex: int) -> str:
        """What the kernel says in words of an attachment that it has just refused; "" where it has none."""

    def target(self, link: int) -> tuple[int, int]:
        """What a link holds: (id of the program, index of the interface); the latter is 0 once that is gone."""


HOOKS: dict[str, Hook] = {"native": xdp.NATIVE, "generic": xdp.GENERIC}
"""By mode. "auto" takes the first one that the kernel takes."""
