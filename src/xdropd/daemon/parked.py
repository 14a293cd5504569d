"""Histories of addresses that are listed and not in the maps: something exempts them, or lists them with precedence.

They wait here for their return, and in a memory file that outlives the process in the store: a new one for each change,
so that none is ever half written.
"""

import os
import struct
from collections.abc import Callable, Collection, Iterator, Mapping
from types import MappingProxyType

from xdropd.kernel.shapes import History
from xdropd.rules.ruleset import Region

_Key = tuple[int, int, int]  # version, address, number of the source
_RECORD = struct.Struct("=B16sIQQQI")  # the key; packets, bytes, last seen, since


class Parked(Mapping[_Key, History]):
    """See the module. By (version, address, source number); `is_saved` tells whether a snapshot has all of them."""

    def __init__(self, histories: Mapping[_Key, History] = MappingProxyType({})) -> None:
        self._histories = dict(histories)
        self.is_saved = True

    def __getitem__(self, key: _Key) -> History:
        return self._histories[key]

    def __iter__(self) -> Iterator[_Key]:
        return iter(self._histories)

    def __len__(self) -> int:
        return len(self._histories)

    def keep(self, key: _Key, history: History) -> None:
        """Have it wait."""
        self._histories[key] = history
        self.is_saved = False

    def forget_returned(self, addresses: Mapping[int, Mapping[int, int]]) -> None:
        """These are in the maps again, by version with the number of their source. A snapshot may know them longer."""
        if self._histories:
            for version, numbers in addresses.items():
                for key, number in numbers.items():
                    self._histories.pop((version, key, number), None)

    def forget_unlisted(self, touched: Region | None, still_listed: Callable[[int, int, int], bool]) -> None:
        """Let go of what has left the list meanwhile: in the region that a change touched, or anywhere (None)."""
        if not self._histories:
            return
        candidates = [key for key in self._histories if touched is None or key[1] in touched.keys[key[0]]]
        for key in candidates:
            if not still_listed(*key):
                del self._histories[key]
                self.is_saved = False

    def forget_sources(self, numbers: Collection[int]) -> None:
        """Let go of all that these sources listed. Until the next snapshot, the last one may know of it."""
        for key in [key for key in self._histories if key[2] in numbers]:
            del self._histories[key]

    def snapshot(self) -> int:
        """A memory file with all of them; the caller closes the descriptor."""
        descriptor = os.memfd_create("xdropd-parked", os.MFD_CLOEXEC)
        with open(descriptor, "wb", closefd=False) as file:
            for (version, key, number), history in self._histories.items():
                file.write(_RECORD.pack(version, key.to_bytes(16, "big"), number, *history[:4]))
        self.is_saved = True
        return descriptor

    @classmethod
    def in_file(cls, descriptor: int) -> "Parked":
        """What a snapshot holds."""
        size = os.fstat(descriptor).st_size
        data = os.pread(descriptor, size - size % _RECORD.size, 0)
        return cls(
            {
                (version, int.from_bytes(key, "big"), number): History(
                    packets, total_bytes, last_seen_ns, since_s, number
                )
                for version, key, number, packets, total_bytes, last_seen_ns, since_s in _RECORD.iter_unpack(data)
            }
        )
