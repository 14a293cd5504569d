"""Memory that outlives the process: a text is valid or is not, and what no text names costs nothing."""

import os

import numpy as np
import pytest
from columns import listing, texts

from xdropd.columns.listing import KINDS, Listing, Row
from xdropd.columns.packing import packed, unpacked
from xdropd.host.memoryfile import MemoryFile


def text_in(file: MemoryFile, text: bytes, *named: tuple[int, int]) -> None:
    file.declare(file.append([np.frombuffer(text, np.uint8)]), named)


def reopened(file: MemoryFile) -> MemoryFile:
    return MemoryFile(os.dup(file.descriptor))


def kilobytes(file: MemoryFile) -> int:
    return os.fstat(file.descriptor).st_blocks // 2


def test_a_text_is_valid_until_it_is_withdrawn() -> None:
    file = MemoryFile()
    assert file.text is None
    text_in(file, b"one")
    assert reopened(file).text == b"one"
    text_in(file, b"another")
    assert reopened(file).text == b"another"
    file.withdraw()
    assert reopened(file).text is None


def test_what_no_text_names_gives_its_memory_back_and_the_rest_stays_as_it_is() -> None:
    file, million = MemoryFile(), np.arange(1 << 20, dtype=np.uint64)
    places = [file.append([million + np.uint64(at)]) for at in range(3)]
    text_in(file, b"all", *places)
    assert kilobytes(file) > 3 << 13
    text_in(file, b"the middle one", places[1])
    assert 1 << 13 <= kilobytes(file) < (1 << 13) + 32
    assert (reopened(file).read(places[1][0], million.dtype, len(million)) == million + 1).all()
    text_in(file, b"none")
    assert kilobytes(file) <= 32


def test_what_does_not_lie_within_the_file_is_not_read() -> None:
    file = MemoryFile()
    place = file.append([np.arange(4)])
    with pytest.raises(ValueError, match="ends too early"):
        file.read(place[0], np.dtype("i8"), 5)


def all_of(one: Listing) -> list[object]:
    return [list(one.rows()), [one.table(kind).keys.dtype for kind in KINDS]]


@pytest.mark.parametrize(
    "one",
    [
        Listing.empty(),
        texts(
            "192.0.2.1", "10.0.0.0/8", "10.0.0.1-10.0.0.9", "2001:db8::1", "2001:db8::/32", "2001:db8::5-2001:db8::8"
        ),
        listing(Row(4, 1, 1, 3, "why", 5e9), Row(4, 1, 1, 4, "", 6e9), Row(4, 9, 12, 5), Row(6, 7, 7, 6, "\udcff")),
    ],
    ids=["empty", "every kind", "reasons and ends"],
)
def test_a_listing_is_the_same_when_it_comes_back(one: Listing) -> None:
    file = MemoryFile()
    head, columns = packed(one)
    at, _ = file.append(columns)

    def take(kind: "np.dtype[object]", count: int) -> "np.ndarray":
        nonlocal at
        found = file.read(at, kind, count)
        at += found.nbytes
        return found

    assert all_of(unpacked(head, take)) == all_of(one)
