"""Per-CPU counts: what was dropped on behalf of each source, and what each interface has seen."""

import errno

import numpy as np

from xdropd.errors import KernelError
from xdropd.kernel import abi, libbpf
from xdropd.kernel.abi import Volume
from xdropd.kernel.retry import retried


class SourceVolumes:
    """One map, by number of the source. Never falls when entries leave."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.room = libbpf.map_shape(descriptor).max_entries
        self._bytes = abi.VOLUME.itemsize * libbpf.possible_cpus()

    def get(self, number: int) -> Volume:
        """What a source's entries dropped since these maps are in force."""
        if number >= self.room:
            return Volume(0, 0)
        return abi.sum_of_volumes(retried(libbpf.lookup, self.descriptor, abi.number(number), self._bytes) or b"")

    def clear(self, number: int) -> None:
        """Begin at nothing."""
        if number < self.room:
            retried(libbpf.update, self.descriptor, abi.number(number), bytes(self._bytes))


class InterfaceSlots:
    """Who counts where: an interface has the slot of its index's low bits, or one in the hash behind."""

    def __init__(self, slots: int, behind: int) -> None:
        self._slots = slots
        self._behind = behind
        self._cpus = libbpf.possible_cpus()

    def has(self, ifindex: int) -> bool:
        """Whether an interface is counted."""
        return self._find(ifindex) is not None

    def give(self, ifindex: int, *, starts_with_ip: bool = False) -> None:
        """Let an interface be counted, from zero unless it has a slot already. Whether its packets start with IP.

        A slot that says otherwise is left of another device that had this index, and begins at zero.
        """
        found = self._find(ifindex)
        if found is not None and np.frombuffer(found, abi.SEEN)["starts_with_ip"][0] == starts_with_ip:
            return
        fresh = np.zeros(self._cpus, abi.SEEN)
        fresh["ifindex"], fresh["starts_with_ip"] = ifindex, starts_with_ip
        if self._owner(ifindex) == (0 if found is None else ifindex):
            retried(libbpf.update, self._slots, _slot(ifindex), fresh.tobytes())
        else:
            retried(libbpf.update, self._behind, abi.number(ifindex), fresh.tobytes())

    def take_back(self, ifindex: int) -> None:
        """Its counts are gone."""
        if self._owner(ifindex) == ifindex:
            retried(libbpf.update, self._slots, _slot(ifindex), bytes(self._size))
        else:
            retried(libbpf.delete, self._behind, abi.number(ifindex))

    def seen(self, ifindex: int) -> dict[str, Volume]:
        """Frames and bytes by verdict since the interface was attached."""
        return abi.volumes_seen(self._find(ifindex) or b"")

    @property
    def _size(self) -> int:
        return abi.SEEN.itemsize * self._cpus

    def _owner(self, ifindex: int) -> int:
        """Whose slot it is that this interface would have; 0: nobody's."""
        found = libbpf.lookup(self._slots, _slot(ifindex), self._size)
        if found is None:
            raise KernelError("look up an interface's slot", errno.ENOENT, "there is none")
        return int(np.frombuffer(found, abi.SEEN)["ifindex"][0])

    def _find(self, ifindex: int) -> bytes | None:
        if self._owner(ifindex) == ifindex:
            return libbpf.lookup(self._slots, _slot(ifindex), self._size)
        return libbpf.lookup(self._behind, abi.number(ifindex), self._size)


def _slot(ifindex: int) -> bytes:
    return abi.number(ifindex % abi.SLOTS)
