"""Histories that wait for the return of their entries."""

import os

from xdropd.daemon.parked import Parked
from xdropd.kernel.shapes import History
from xdropd.rules.ruleset import Region
from xdropd.text.addresses import parse_span

FIRST, SECOND, SIXTH = (4, 1, 7), (4, 2, 7), (6, (1 << 128) - 1, 8)
HISTORIES = {
    key: History(1 + at, 1 << 40, (1 << 63) + at, 1_700_000_000, key[2])
    for at, key in enumerate((FIRST, SECOND, SIXTH))
}


def test_a_snapshot_holds_everything() -> None:
    parked = Parked()
    assert parked.is_saved
    for key, history in HISTORIES.items():
        parked.keep(key, history)
    assert not parked.is_saved
    descriptor = parked.snapshot()
    assert parked.is_saved
    assert dict(Parked.in_file(descriptor)) == HISTORIES
    os.ftruncate(descriptor, os.fstat(descriptor).st_size - 1)
    assert dict(Parked.in_file(descriptor)).keys() == {FIRST, SECOND}
    os.close(descriptor)


def test_what_left_the_list_is_forgotten_where_a_change_touched_it() -> None:
    parked = Parked(HISTORIES)
    region = Region()
    region.add([parse_span("0.0.0.1"), parse_span("0.0.0.2"), parse_span("0.0.0.3")])
    parked.forget_unlisted(region, lambda version, key, number: (version, key, number) != FIRST)
    assert parked.keys() == {SECOND, SIXTH}
    assert not parked.is_saved
    parked.forget_unlisted(Region(), lambda *_: False)
    assert parked.keys() == {SECOND, SIXTH}
    parked.forget_unlisted(None, lambda *_: False)
    assert len(parked) == 0


def test_what_returned_is_forgotten_here_and_still_in_the_snapshot() -> None:
    """In the maps it counts on; the snapshot is older then, and gives way to what is in the maps."""
    parked = Parked(HISTORIES)
    parked.forget_returned({4: {1: 7, 2: 8}, 6: {}})
    assert parked.keys() == {SECOND, SIXTH}
    assert parked.is_saved
