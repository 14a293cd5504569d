"""What callers did, followed from any place, while the log grows, is written anew, and is read by another process."""

from pathlib import Path
from random import Random

import pytest
from test_blocks import NOW_S, Life, change_of, take

from xdropd.columns.listing import Row
from xdropd.errors import BadRequest, Lost
from xdropd.sources.history import Follower

Event = tuple[str, str, str]


def _events(follower: Follower) -> list[Event]:
    found = []
    while follower.has_news:
        found += [(record.operation, record.source, record.entry) for _, record in follower.read() if record.entry]
    return found


@pytest.mark.parametrize("seed", range(3))
def test_everybody_hears_everything_behind_its_place_or_is_told(tmp_path: Path, seed: int) -> None:
    life, rng = Life(tmp_path / "state"), Random(seed)
    life.begin()
    happened: list[Event] = []
    known = [(Follower(life.blocks, None), 0)]
    cursors = [(known[0][0].cursor, 0)]
    lost = heard = 0
    for at in range(60):
        source, operation = rng.choice(("a", "b")), rng.choice(("block", "block", "unblock"))
        first, count = rng.randrange(50), rng.choice((1, 1, 3, 400))
        rows = [Row(4, number, number, 0, "why", NOW_S + at) for number in range(first, first + count)]
        change = change_of(life.blocks, operation, source, *rows, tag=rng.choice((None, None, str(at))))
        take(life.blocks, change)
        for verb, some in (("block", change.difference.put), ("unblock", change.difference.gone)):
            happened += [(verb, source, f"0.0.{row.first >> 8}.{row.first & 255}") for row in some.rows()]
        if rng.random() < 0.1:
            for _ in life.blocks.compact(NOW_S):
                pass
        if rng.random() < 0.1:
            life.begin(after_a_boot=rng.random() < 0.5)
            known = []
        for follower, place in rng.sample(known, min(len(known), 2)):
            known.remove((follower, place))
            try:
                assert _events(follower) == happened[place:]
            except Lost:
                lost += 1
                continue
            known.append((follower, len(happened)))
            cursors.append((follower.cursor, len(happened)))
        cursor, place = rng.choice(cursors)
        try:
            follower = Follower(life.blocks, cursor)
            assert _events(follower) == happened[place:]
            heard += 1
        except Lost:
            lost += 1
        known.append((Follower(life.blocks, None), len(happened)))
        cursors.append((known[-1][0].cursor, len(happened)))
    assert heard > 20, (heard, lost)


@pytest.mark.parametrize("after_a_boot", [True, False])
def test_a_place_before_anything_was_done_outlives_the_process(tmp_path: Path, after_a_boot: bool) -> None:
    life = Life(tmp_path / "state")
    life.begin()
    cursor = Follower(life.blocks, None).cursor
    life.begin(after_a_boot=after_a_boot)
    follower = Follower(life.blocks, cursor)
    assert not follower.has_news
    life.do("block", "192.0.2.1")
    assert _events(follower) == [("block", "xdropctl", "192.0.2.1")]
    with pytest.raises(Lost):
        Follower(life.blocks, cursor)


def test_a_place_behind_what_was_lost_is_none_before_anything_was_done(tmp_path: Path) -> None:
    life = Life(tmp_path / "state")
    life.begin()
    life.do("block", "192.0.2.1", "192.0.2.2")
    life.damage(1)
    life.begin(after_a_boot=True)
    cursor = Follower(life.blocks, None).cursor
    life.file.unlink()
    life.begin(after_a_boot=True)
    with pytest.raises(Lost):
        Follower(life.blocks, cursor)


def test_one_whose_place_is_gone_is_told(tmp_path: Path) -> None:
    life = Life(tmp_path / "state")
    life.begin()
    life.do("block", "192.0.2.1")
    early, cursor = Follower(life.blocks, None), Follower(life.blocks, None).cursor
    for at in range(6):
        many = [f"10.{at}.{number >> 8}.{number & 255}" for number in range(1000)]
        life.do("block", *many)
        life.do("unblock", *many)
    for _ in life.blocks.compact(NOW_S):
        pass
    with pytest.raises(Lost):
        list(early.read())
    with pytest.raises(Lost):
        Follower(life.blocks, cursor)
    late = Follower(life.blocks, Follower(life.blocks, None).cursor)
    assert not late.has_news
    life.file.write_bytes(life.file.read_bytes().replace(b"192.0.2.1", b"192.0.2.2", 1))  # damaged
    life.begin()
    with pytest.raises(Lost):
        Follower(life.blocks, late.cursor)


@pytest.mark.parametrize("cursor", ["", ".", "x", "0.0", "1.x", "x.-1", "x.٣", "x." + "9" * 99])
def test_what_is_no_cursor(tmp_path: Path, cursor: str) -> None:
    life = Life(tmp_path / "state")
    life.begin()
    with pytest.raises((BadRequest, Lost)):
        Follower(life.blocks, cursor)
