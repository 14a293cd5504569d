"""What of a text is as it was in an earlier version of it: the runs of items that need not be read again.

One line of a large blocklist is edited, and the rest stays. So the two texts are compared from both ends, and the runs
that stand wholly in what is the same, before or after what differs, are known. Everything else is read anew, the first
and the last item of each run included, by which the reader proves that YAML still takes it for one.
"""

from collections.abc import Sequence
from typing import NamedTuple

from xdropd.text.chunks import CHUNK_BYTES
from xdropd.text.runs import Place, Run, Unchanged

_PIECE_BYTES = 1 << 14  # compared at once; a run is some 128 KiB


class Known(NamedTuple):
    """A run that was read, and the list in which it is."""

    section: str
    place: Place


def find(old: bytes, new: bytes, known: Sequence[Known]) -> tuple[list[Run], list[Run]]:
    """Of the runs of an old text those before and those after what differs in the new one, where they stand now."""
    shorter = min(len(old), len(new))
    head = next((at for at in range(0, shorter, _PIECE_BYTES) if _from_start(old, at) != _from_start(new, at)), shorter)
    left = shorter - head
    tail = next((at for at in range(0, left, _PIECE_BYTES) if _from_end(old, at) != _from_end(new, at)), left)
    before = [Run(place, Unchanged(section, 0)) for section, place in known if place.end <= head]
    # Not where what is the same begins: the end of the line before must be the same as well.
    behind = [each for each in known if each.place.start > len(old) - tail]
    if not behind:
        return before, []
    octets = len(new) - len(old)
    lines = _lines(new, head, len(new) - tail) - _lines(old, head, len(old) - tail)
    return before, [Run(place.moved(octets, lines), Unchanged(section, lines)) for section, place in behind]


def _lines(text: bytes, start: int, end: int) -> int:
    """How many end there. In pieces, for nothing else in this process goes on while bytes are counted."""
    return sum(text.count(b"\n", at, min(at + CHUNK_BYTES, end)) for at in range(start, end, CHUNK_BYTES))


def _from_start(text: bytes, at: int) -> bytes:
    return text[at : at + _PIECE_BYTES]


def _from_end(text: bytes, at: int) -> bytes:
    return text[max(0, len(text) - at - _PIECE_BYTES) : len(text) - at]
