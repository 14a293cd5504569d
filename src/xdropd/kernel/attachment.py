"""One interface's attachment: a bpf_link to the entry stub, and the program array behind it.

The entry stub never changes while the attachment lives; what is in force is whatever stands in slot 0. The link is
the only thing that keeps the filter on the interface: when its last descriptor closes, the kernel detaches. While it is
there, nobody else can attach or detach by netlink.
"""

import errno
import os
from dataclasses import dataclass

from xdropd.errors import KernelError, NotAttachable
from xdropd.kernel import abi, libbpf
from xdropd.kernel.abi import Volume
from xdropd.kernel.compiler import Blueprint
from xdropd.kernel.generation import create, is_map, load
from xdropd.kernel.hooks import HOOKS
from xdropd.kernel.libbpf import MapShape
from xdropd.kernel.retry import retried

# The first version's program counts in it, ours does not. What it has counted stays true; and after a downgrade that
# version takes over an interface only together with such a map.
_TALLIES = MapShape("tallies", libbpf.MAP_PERCPU_ARRAY, abi.NUMBER_BYTES, abi.TALLIES.itemsize, 1, 0)
INTERFACE_MAPS = frozenset({abi.INTERFACE_MAP, _TALLIES.name})

_TAKEN = (errno.EBUSY, errno.EEXIST)
_GONE = (errno.ENODEV,)


@dataclass(slots=True)
class Attachment:
    """An interface that is filtered. `maps` are its own maps by name; all descriptors belong to it until `close`."""

    ifindex: int
    mode: str
    link: int
    maps: dict[str, int]

    @property
    def in_force(self) -> int:
        """The id of the program in force; 0: none, everything passes."""
        return libbpf.program_in(self.maps[abi.INTERFACE_MAP], 0)

    @property
    def root_id(self) -> int:
        """The id of the entry stub that the link holds."""
        return HOOKS[self.mode].target(self.link)[0]

    @property
    def is_sound(self) -> bool:
        """Whether these descriptors, wherever they come from, are what their names say, and packets meet a program."""
        try:
            tallies = libbpf.map_shape(self.maps[_TALLIES.name])
            are_tallies = (tallies.type, tallies.value_bytes) == (_TALLIES.type, _TALLIES.value_bytes)
            is_whole = is_map(self.maps[abi.INTERFACE_MAP], abi.INTERFACE_MAP) and are_tallies
            return is_whole and bool(self.is_attached and self.in_force)
        except KernelError:
            return False

    @property
    def is_attached(self) -> bool:
        """Whether the interface is still there; a link outlives its interface, attached to nothing."""
        return HOOKS[self.mode].target(self.link)[1] == self.ifindex

    @property
    def seen_by_first_version(self) -> dict[str, Volume]:
        """Frames and bytes by verdict that the first version's program has counted on this interface."""
        size = abi.TALLIES.itemsize * libbpf.possible_cpus()
        found = retried(libbpf.lookup, self.maps[_TALLIES.name], abi.number(0), size)
        return abi.volumes_seen(found or b"", abi.TALLIES)

    def put_in_force(self, program: int) -> None:
        """Let packets meet this program from now on: one atomic step."""
        retried(libbpf.set_program, self.maps[abi.INTERFACE_MAP], 0, program)

    def close(self) -> None:
        """Let go: the filter stays only if somebody else (systemd) holds the link."""
        for descriptor in (self.link, *self.maps.values()):
            os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Prepared:
    """The entry stubs and maps of an interface before it is attached, so that the program in force is there first."""

    roots: dict[str, int]
    """By name: what the ways to attach have in common is loaded once."""
    maps: dict[str, int]

    def close(self) -> None:
        """Give up on it."""
        for descriptor in (*self.roots.values(), *self.maps.values()):
            os.close(descriptor)


def prepare(blueprint: Blueprint) -> Prepared:
    """Make what one interface needs. Raises KernelError."""
    roots: dict[str, int] = {}
    maps: dict[str, int] = {}
    try:
        maps[abi.INTERFACE_MAP] = retried(create, blueprint, abi.INTERFACE_MAP)
        maps[_TALLIES.name] = retried(libbpf.create_map, _TALLIES)
        for program in {hook.root_program for hook in HOOKS.values()}:
            roots[program] = retried(load, blueprint, program, maps)
    except KernelError:
        for descriptor in (*roots.values(), *maps.values()):
            os.close(descriptor)
        raise
    return Prepared(roots, maps)


def attach(prepared: Prepared, ifindex: int, wanted: str, occupant: int) -> tuple[Attachment, str]:
    """Attach a prepared entry stub in the wanted mode, or with "auto" in the first one that the kernel takes.

    Returns the attachment and, where "auto" had to fall back, the kernel's reason. `occupant` is the id of the program
    that holds the place, 0 if it is not known, for the error. Raises NotAttachable; the prepared parts are closed then.
    """
    modes = list(HOOKS) if wanted == "auto" else [wanted]
    reason, numbers = "", []
    try:
        for mode in modes:
            root = prepared.roots[HOOKS[mode].root_program]
            try:
                link = HOOKS[mode].attach(root, ifindex)
            except KernelError as refusal:
                if refusal.errno in _TAKEN and occupant:
                    raise NotAttachable(_who_is_there(occupant)) from refusal
                if refusal.errno in _GONE:
                    raise NotAttachable("the interface is gone") from refusal
                reason = HOOKS[mode].why_not(root, ifindex) or os.strerror(refusal.errno)
                numbers.append(refusal.errno)
                if mode == modes[-1]:
                    raise NotAttachable(_why_none(mode, numbers, reason)) from refusal
            else:
                for spare in prepared.roots.values():
                    os.close(spare)
                return Attachment(ifindex, mode, link, prepared.maps), reason
    except NotAttachable:
        prepared.close()
        raise
    raise AssertionError("unreachable")


def _who_is_there(occupant: int) -> str:
    name = libbpf.program_name(occupant)
    called = f" ({name})" if name else ""
    return f"another XDP program is attached, id {occupant}{called}; it is left alone"


def _why_none(mode: str, numbers: list[int], reason: str) -> str:
    """Why the last of all modes was refused, of which nobody is known to hold the place.

    A driver may be busy for reasons of its own, which do not concern generic mode (dev_xdp_attach in net/core/dev.c):
    that is refused as well where there is another program, or one on a device above.
    """
    is_drivers_own = mode != "generic" and numbers[-1] == errno.EBUSY
    if numbers[-1] not in _TAKEN or is_drivers_own:
        return f"the kernel refuses {mode} mode: {reason}"
    if errno.EBUSY in numbers:
        return "another XDP program is being attached; it is left alone"
    return "the kernel takes no program on it while a device above it, such as its bridge, has one"
