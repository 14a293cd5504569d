"""Runs as bytes and back, for whoever scans a part of a text in another process.

A few numbers a run, and the columns of all runs one after the other, in host byte order. What comes back is looked at
as if anybody had written it: it says what a list says, whatever it holds, and is refused where it cannot be one.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from xdropd.columns.prefixes import FAMILIES, Column
from xdropd.text import bulk
from xdropd.text.runs import Items, Place, Reasons, Run

_ROWS = np.dtype("u4")
_KEYS = [
    (kind, version, np.dtype(each.range_type if kind == "ranges" else each.key_type))
    for kind in ("prefixes", "ranges")
    for version, each in FAMILIES.items()
]
# The columns of a run: rows and keys of each kind of entry, lines, numbers of reasons, ends. -1 stands for None.
_TYPES = [*(dtype for _, _, keys in _KEYS for dtype in (_ROWS, keys)), _ROWS, _ROWS, np.dtype("f8")]
_PLACE_NUMBERS = len(Place._fields)


def pack(runs: Sequence[Run]) -> Iterator[bytes]:
    """In pieces. The runs are of one scan, all of them new."""
    inner = [run.inner for run in runs if isinstance(run.inner, Items)]
    if len(inner) < len(runs):
        raise ValueError("what is unchanged is not packed")
    texts = next((items.reasons[0].texts for items in inner if items.reasons is not None), [])
    columns = [_columns_of(items) for items in inner]
    lengths = [[-1 if column is None else len(column) for column in each] for each in columns]
    reasons = b"\n".join(texts)
    yield np.array([len(runs), len(texts), len(reasons)], np.int64).tobytes()
    yield np.array([run.place for run in runs], np.int64).tobytes()
    yield np.array(lengths, np.int64).tobytes()
    yield reasons
    for number, dtype in enumerate(_TYPES):
        for each in columns:
            if (column := each[number]) is not None:
                yield np.ascontiguousarray(column, dtype).tobytes()


def unpack(data: bytes, part_bytes: int) -> list[Run]:
    """The inverse, for a part of a text of that size. Raises ValueError where it is not what `pack` gives."""
    parts = _Parts(data)
    count, text_count, text_bytes = parts.take(np.dtype("i8"), 3).tolist()
    places = parts.take(np.dtype("i8"), count * _PLACE_NUMBERS).reshape(count, _PLACE_NUMBERS)
    _see_that_they_are_places(places, part_bytes)
    lengths = parts.take(np.dtype("i8"), count * len(_TYPES)).reshape(count, len(_TYPES))
    texts = parts.take(np.dtype("u1"), text_bytes).tobytes().split(b"\n") if text_count else []
    if len(texts) != text_count or len(set(texts)) != text_count:
        raise ValueError("these are not the reasons that there should be")
    reasons = Reasons(texts)
    columns = []
    for number, dtype in enumerate(_TYPES):
        of_each = np.maximum(lengths[:, number], 0)
        whole = parts.take(dtype, int(of_each.sum()))
        ends = [0, *np.cumsum(of_each).tolist()]
        columns.append([whole[start:end] for start, end in pairwise(ends)])
    if parts.left:
        raise ValueError("there is more than there should be")
    return [
        Run(Place(*place), _items_of([column[at] for column in columns], lengths[at].tolist(), reasons))
        for at, place in enumerate(places.tolist())
    ]


def _see_that_they_are_places(places: Column, part_bytes: int) -> None:
    """One after the other within the part, with no more lines than octets between two of their offsets."""
    offsets, lines = places[:, :4], places[:, 4:7]
    in_order = np.concatenate(([0], offsets.ravel(), [part_bytes]))
    if (in_order[1:] < in_order[:-1]).any() or (places[:, 7] < 1).any():
        raise ValueError("these are no places in the text")
    if (lines < 1).any() or (lines[:, 0] > offsets[:, 0] + 1).any():
        raise ValueError("these are no lines of the text")
    between = np.diff(lines, axis=1)
    if (between < 0).any() or (between > np.diff(offsets, axis=1)[:, :2]).any():
        raise ValueError("these are no lines of the text")


class _Parts:
    """What is taken from some bytes one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, dtype: "np.dtype[np.generic]", count: int) -> Column:
        if not 0 <= count * dtype.itemsize <= self.left:
            raise ValueError("it ends too early")
        at, self._at = self._at, self._at + count * dtype.itemsize
        return np.frombuffer(self._data, dtype, count, at)


def _columns_of(items: Items) -> list[Column | None]:
    found: list[Column | None] = []
    for kind, version, _ in _KEYS:
        read = getattr(items.words, kind).get(version)
        found += (None, None) if read is None else read
    return [*found, items.lines, None if items.reasons is None else items.reasons[1], items.untils]


def _items_of(columns: list[Column], lengths: list[int], reasons: Reasons) -> Items:
    *words, lines, numbers, untils = columns
    kinds: dict[str, dict[int, bulk.Read]] = {"prefixes": {}, "ranges": {}}
    for at, (kind, version, _) in enumerate(_KEYS):
        rows, keys = words[2 * at : 2 * at + 2]
        if lengths[2 * at] >= 0:
            kinds[kind][version] = bulk.Read(rows, keys)
        if len(rows) != len(keys) or (rows >= len(lines)).any():
            raise ValueError("rows and keys do not belong together")
    has_reasons, has_untils = lengths[-2] >= 0, lengths[-1] >= 0
    for is_there, column in ((has_reasons, numbers), (has_untils, untils)):
        if is_there and len(column) != len(lines):
            raise ValueError("there is not one of each for a line")
    if has_reasons and (numbers >= len(reasons.texts)).any():
        raise ValueError("there is no such reason")
    return Items(
        bulk.Words(kinds["prefixes"], kinds["ranges"], []),
        lines,
        (reasons, numbers) if has_reasons else None,
        untils if has_untils else None,
    )
