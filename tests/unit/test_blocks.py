"""Blocks, their log on a real disk and the copy in memory: what is confirmed stays, whatever becomes of the file."""

import os
from pathlib import Path
from random import Random

import pytest

from xdropd.columns.differing import Difference, among, difference
from xdropd.columns.listing import Listing, Row, combined, without
from xdropd.errors import XdropdError
from xdropd.host.blocklog import BlockLog, decoded, record_in
from xdropd.host.statefolder import StateFolder
from xdropd.host.systemd import Systemd
from xdropd.sources.blocks import Blocks, Change
from xdropd.sources.logcopy import LogCopy
from xdropd.text.addresses import Span, parse_span

NOW_S = 1_790_000_000.0
VILLAIN, NEIGHBOUR, OTHER = "192.0.2.7", "203.0.113.0/24", "2001:db8::1"


def rows_of(blocks: Blocks) -> dict[str, list[Row]]:
    return {source: list(listing.rows()) for source, listing in blocks.by_source.items()}


def entries_of(blocks: Blocks) -> set[str]:
    return {str(Span(*row[:3])) for rows in rows_of(blocks).values() for row in rows}


def change_of(blocks: Blocks, operation: str, source: str, *rows: Row, tag: str | None = None) -> Change:
    """What becomes of a source where these entries are blocked, or taken back, as the daemon makes it."""
    before, asked = blocks.by_source.get(source, Listing.empty()), Listing.of(rows)
    if operation == "unblock":
        gone = among(before, asked)
        return Change(source, Difference(Listing.empty(), gone, 0, 0), without(before, gone), tag)
    different = difference(among(before, asked), asked)
    return Change(source, different, combined(before, different.put), tag)


def take(blocks: Blocks, change: Change) -> None:
    batch = blocks.batch(change, NOW_S)
    blocks.append(batch)
    blocks.take(batch)


class Life:
    """One process after the other, in one folder. `copy` is what systemd's store keeps between two."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "blocks.log"
        self._folder = folder
        self._state: StateFolder | None = None
        self.copy: LogCopy | None = None
        self.blocks = Blocks(None, LogCopy(Systemd()))
        self.warnings: list[str] = []

    def begin(self, *, after_a_boot: bool = False) -> Blocks:
        if self._state is not None and self._state._lock is not None:
            os.close(self._state._lock)
        self._state = StateFolder(self._folder)
        before = None if after_a_boot else self.copy
        self.copy = LogCopy(Systemd())
        inherited = {f"blocks.{before.number}": [before._descriptor]} if before else {}
        self.copy.adopt(inherited)
        assert not inherited
        self.blocks = Blocks(BlockLog(self._state), self.copy)
        self.warnings = self.blocks.load(self.blocks.read(), NOW_S)
        return self.blocks

    def do(self, operation: str, *entries: str, until: float | None = None) -> None:
        rows = [Row(*parse_span(entry), until=until) for entry in entries]
        take(self.blocks, change_of(self.blocks, operation, "xdropctl", *rows))

    def listed(self) -> set[str]:
        return entries_of(self.blocks)

    def damage(self, *lines: int) -> bytes:
        """Flip a bit in lines of the file; what it is then."""
        data = self.file.read_bytes().splitlines(keepends=True)
        for line in lines:
            data[line] = data[line].replace(b"block", b"blocj")
        self.file.write_bytes(b"".join(data))
        return b"".join(data)


@pytest.fixture
def life(tmp_path: Path) -> Life:
    made = Life(tmp_path / "state")
    made.begin()
    made.do("block", VILLAIN)
    made.do("block", NEIGHBOUR, OTHER)
    return made


@pytest.mark.parametrize("after_a_boot", [True, False])
def test_they_outlive_the_process(life: Life, after_a_boot: bool) -> None:
    life.do("unblock", OTHER)
    life.do("block", "198.51.100.1", until=NOW_S - 1)
    blocks = life.begin(after_a_boot=after_a_boot)
    assert life.listed() == {VILLAIN, NEIGHBOUR}
    assert (blocks.troubles(), life.warnings) == ({}, [])


def test_without_a_disk_they_outlive_it_in_the_store() -> None:
    copy = LogCopy(Systemd())
    before = Blocks(None, copy)
    take(before, change_of(before, "block", "xdropctl", Row(*parse_span(VILLAIN))))
    after = Blocks(None, copy)
    after.load(after.read(), NOW_S)
    assert entries_of(after) == {VILLAIN}
    assert after.troubles() == {}


def test_a_file_that_cannot_be_read(life: Life) -> None:
    """What was in force stays, nothing is changed, and it is over when the file can be read."""
    aside = life.file.rename(life.file.with_name("elsewhere"))
    life.file.mkdir()  # root, who runs this, may read any file
    blocks = life.begin()
    assert life.listed() == {VILLAIN, NEIGHBOUR, OTHER}
    (trouble,) = blocks.troubles().values()
    assert f"{life.file}: Is a directory; 3 of its entries that were in force stay so" in trouble
    with pytest.raises(XdropdError, match=r"^nothing was changed, .*Is a directory"):
        life.do("block", "192.0.2.8")
    assert life.listed() == {VILLAIN, NEIGHBOUR, OTHER}
    assert not blocks.try_again()
    life.file.rmdir()
    aside.rename(life.file)
    assert blocks.try_again()
    blocks.load(blocks.read(), NOW_S)
    assert blocks.troubles() == {}
    life.do("unblock", VILLAIN)
    life.begin(after_a_boot=True)
    assert life.listed() == {NEIGHBOUR, OTHER}


def test_what_is_in_a_file_that_can_be_read_late_comes_into_force(life: Life) -> None:
    aside = life.file.rename(life.file.with_name("elsewhere"))
    life.file.mkdir()
    blocks = life.begin(after_a_boot=True)
    assert life.listed() == set()
    life.file.rmdir()
    aside.rename(life.file)
    assert blocks.try_again()
    blocks.load(blocks.read(), NOW_S)
    assert life.listed() == {VILLAIN, NEIGHBOUR, OTHER}
    assert blocks.troubles() == {}


def test_a_damaged_file_is_set_aside_and_the_rest_counts(life: Life) -> None:
    damaged = life.damage(2)
    blocks = life.begin(after_a_boot=True)
    assert life.listed() == {VILLAIN, OTHER}
    kept = life.file.with_name("blocks.log.damaged-1")
    assert kept.read_bytes() == damaged
    for _ in range(2):  # for the next process as well
        ((what, trouble),) = blocks.troubles().items()
        assert what == str(kept)
        assert "1 of its entries could not be read" in trouble
        assert str(kept) in trouble
        blocks = life.begin(after_a_boot=True)
        assert life.listed() == {VILLAIN, OTHER}
    life.do("block", "192.0.2.8")
    life.damage(0)
    assert len(life.begin(after_a_boot=True).troubles()) == 2, "never one in the place of another"
    for file in life.file.parent.glob("*.damaged-*"):
        file.unlink()
    assert blocks.troubles() == {}


def test_what_was_in_force_outlives_damage(life: Life) -> None:
    """Also that something was taken back: what the copy says goes before what is left of the file."""
    life.do("unblock", VILLAIN)
    data = life.file.read_bytes().splitlines(keepends=True)
    life.file.write_bytes(b"".join([*data[:2], data[2].replace(b"block", b"blocj"), data[3], b"\x1e damaged\n"]))
    assert life.begin().troubles()
    assert life.listed() == {NEIGHBOUR, OTHER}
    assert not life.warnings
    life.begin(after_a_boot=True)
    assert life.listed() == {NEIGHBOUR, OTHER}


@pytest.mark.parametrize("cut", [None, 0, 40])
def test_a_file_that_somebody_removes_or_cuts(life: Life, cut: int | None) -> None:
    if cut is None:
        life.file.unlink()
    else:
        os.truncate(life.file, cut)
    life.begin()
    assert life.listed() == {VILLAIN, NEIGHBOUR, OTHER}
    assert life.warnings == ["the log of blocks lacked 3 entries that were in force"]
    if cut is None:
        life.file.unlink()
    else:
        os.truncate(life.file, cut)
    life.do("block", "192.0.2.8")  # and while it runs
    life.begin(after_a_boot=True)
    assert life.listed() == {VILLAIN, NEIGHBOUR, OTHER, "192.0.2.8"}


def test_what_is_taken_back_is_as_it_was(life: Life) -> None:
    """A change that could not be put in force: entries, tag, log and its copy are as before."""
    before, rows = life.file.read_bytes(), rows_of(life.blocks)
    for change in (
        change_of(life.blocks, "block", "xdropctl", Row(*parse_span(VILLAIN), 0, "again", NOW_S + 9), tag="new"),
        change_of(life.blocks, "block", "somebody", Row(*parse_span(VILLAIN))),
        change_of(life.blocks, "unblock", "xdropctl", Row(*parse_span(OTHER))),
    ):
        life.blocks.append(life.blocks.batch(change, NOW_S))
        assert life.file.read_bytes().startswith(before)
        assert len(life.file.read_bytes()) > len(before)
        life.blocks.take_back()
        assert (rows_of(life.blocks), life.blocks.tagged(NOW_S)) == (rows, {})
        assert life.file.read_bytes() == before
    life.do("block", "192.0.2.8")
    for after_a_boot in (False, True):
        life.begin(after_a_boot=after_a_boot)
        assert life.listed() == {VILLAIN, NEIGHBOUR, OTHER, "192.0.2.8"}


def test_a_batch_that_cannot_be_taken_back_is_told_and_tried_again(life: Life) -> None:
    """The file is gone from under the daemon, with what was put into it; and comes back."""
    aside = life.file.with_name("elsewhere")

    def vanish() -> None:
        life.file.rename(aside)
        life.file.mkdir()

    life.blocks.append(
        life.blocks.batch(change_of(life.blocks, "block", "xdropctl", Row(*parse_span("192.0.2.8"))), NOW_S)
    )
    vanish()
    life.blocks.take_back()
    assert life.listed() == {VILLAIN, NEIGHBOUR, OTHER}
    (trouble,) = life.blocks.troubles().values()
    assert "a change that was refused stands in" in trouble
    life.blocks.try_again()
    assert life.blocks.troubles()
    life.file.rmdir()
    aside.rename(life.file)
    life.blocks.try_again()
    assert life.blocks.troubles() == {}
    life.begin(after_a_boot=True)
    assert life.listed() == {VILLAIN, NEIGHBOUR, OTHER}


def compacted(blocks: Blocks, now_s: float = NOW_S) -> int:
    """Steps."""
    return sum(1 for _ in blocks.compact(now_s))


def test_it_is_not_compacted_again_where_nothing_came(life: Life) -> None:
    """Also where what counts are long lines, and what was done lately are many short ones."""
    rows = [Row(*parse_span(f"10.{at >> 8}.{at & 255}.0/24"), reason="r" * 1000) for at in range(800)]
    take(life.blocks, change_of(life.blocks, "block", "long", *rows))
    many = [f"10.{at >> 8}.{at & 255}.0/24" for at in range(5000)]
    while not life.blocks.wants_compaction:
        life.do("block", *many)
        life.do("unblock", *many)
    compacted(life.blocks)
    assert life.file.stat().st_size > 1 << 20
    assert not life.blocks.wants_compaction


def test_it_is_compacted_by_what_is_over_and_never_half(life: Life) -> None:
    many = [f"10.{at >> 8}.{at & 255}.0/24" for at in range(5000)]
    life.do("block", *many)
    rounds = 0
    while not life.blocks.wants_compaction:
        life.do("unblock", *many)
        life.do("block", *many)
        rounds += 1
    assert rounds < 5
    life.do("unblock", *many[1:])
    size, data = life.file.stat().st_size, life.file.read_bytes()
    unfinished = life.blocks.compact(NOW_S)
    next(unfinished, None)
    assert life.file.read_bytes() == data
    unfinished.close()  # type: ignore[attr-defined]
    life.do("block", many[0])
    for after_a_boot in (False, True):
        life.begin(after_a_boot=after_a_boot)
        assert life.listed() == {VILLAIN, NEIGHBOUR, OTHER, many[0]}
    life.do("block", *many)
    assert compacted(life.blocks) > 1, "in steps"
    assert not life.blocks.wants_compaction
    assert life.file.stat().st_size < size / 2
    assert max(map(len, life.file.read_bytes().splitlines())) < 200
    contents = decoded(life.file.read_bytes())
    assert len(set(map(record_in, contents.bodies))) >= len(many) + 3
    assert len(contents.bodies) < len(many) + 5000, "what was done lately is there once more, within a bound"
    life.do("unblock", VILLAIN)
    for after_a_boot in (False, True):
        life.begin(after_a_boot=after_a_boot)
        assert life.listed() == {NEIGHBOUR, OTHER, *many}
        assert not life.warnings
        assert not life.blocks.troubles()


def test_what_has_ended_by_a_clock_that_is_set_back_survives_a_compaction(life: Life) -> None:
    ends_s = NOW_S + 4 * 3600
    rows = [Row(*parse_span(f"10.{at >> 8}.{at & 255}.0/24"), reason="r" * 100, until=ends_s) for at in range(12_000)]
    take(life.blocks, change_of(life.blocks, "block", "many", *rows))
    for later_s, is_kept in ((8 * 3600, True), (2 * 86_400, False)):
        life.blocks.load(life.blocks.read(), NOW_S + later_s)
        assert "many" not in life.blocks.by_source
        assert life.blocks.wants_compaction
        compacted(life.blocks, NOW_S + later_s)
        life.blocks.load(life.blocks.read(), NOW_S)
        assert (life.blocks.by_source["many"].count == len(rows)) == is_kept


def test_what_ended_and_was_then_blocked_anew_and_taken_back_does_not_come_back(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xdropd.sources.blocks._HISTORY_BYTES", 0)
    life.do("block", "192.0.2.1", "192.0.2.2", until=NOW_S + 60)
    life.blocks.let_end(life.blocks.without_ended(NOW_S + 61), NOW_S + 61)
    life.do("block", "192.0.2.1")
    life.do("unblock", "192.0.2.1")
    compacted(life.blocks, NOW_S + 62)
    for after_a_boot in (False, True):
        life.begin(after_a_boot=after_a_boot)
        assert life.listed() == {VILLAIN, NEIGHBOUR, OTHER, "192.0.2.2"}


def test_a_process_that_ends_between_both_copies_leaves_the_same_entries(life: Life) -> None:
    """The file is compacted, the copy is not yet."""
    life.do("unblock", OTHER)
    assert life.copy is not None
    before = os.dup(life.copy._descriptor)
    compacted(life.blocks)
    life.copy._descriptor = before
    assert life.begin().troubles() == {}
    assert life.listed() == {VILLAIN, NEIGHBOUR}
    assert not life.warnings


# ---- what a change makes of what is listed ----

_PLACES = [
    VILLAIN,
    NEIGHBOUR,
    OTHER,
    "192.0.2.8",
    "203.0.113.4-203.0.113.9",
    "2001:db8::/64",
    "2001:db8::1-2001:db8::5",
]


def _rows(rng: Random) -> list[Row]:
    return [
        Row(
            *parse_span(place),
            0,
            rng.choice(("", "ssh", "Größe")),
            rng.choice((None, NOW_S + rng.randrange(9))),
        )
        for place in rng.sample(_PLACES, rng.randint(1, 5))
    ]


def test_histories_are_those_of_dictionaries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it runs, in the next life from the log, also from one that is written anew; and without what is over."""
    monkeypatch.setattr("xdropd.sources.blocks._HISTORY_BYTES", 0)  # which would tell what a log written anew forgot
    for seed in range(20):
        life, rng = Life(tmp_path / str(seed)), Random(seed)
        blocks, expected, tags = life.begin(), dict[tuple[str, Span], Row](), dict[str, str]()
        for _ in range(12):
            operation, source = rng.choice(("block", "block", "unblock")), rng.choice(("a", "b"))
            rows, tag = _rows(rng), rng.choice((None, None, "", "1", "2"))
            before, change = rows_of(blocks), change_of(blocks, operation, source, *rows, tag=tag)
            found = blocks.batch(change, NOW_S)
            assert rows_of(blocks) == before, "a batch that is ready changes nothing"
            blocks.append(found)
            assert rows_of(blocks) == before, "nor does one that is logged and not in force yet"
            blocks.take(found)
            for row in rows:
                if operation == "block":
                    expected[source, Span(*row[:3])] = row
                else:
                    expected.pop((source, Span(*row[:3])), None)
            if tag is not None:
                tags[source] = tag
            assert _by_place(blocks) == expected
            if rng.random() < 0.1:
                compacted(blocks)
        wanted = {source: tag for source, tag in tags.items() if tag}
        assert {source: tag.text for source, tag in blocks.tagged(NOW_S).items()} == wanted
        now_s = NOW_S + 4
        lasting = {place: row for place, row in expected.items() if row.until is None or row.until > now_s}
        blocks.let_end(blocks.without_ended(now_s), now_s)
        assert _by_place(blocks) == lasting
        assert blocks.by_source.keys() == {source for source, _ in lasting}, "who lists nothing is not there"
        if rng.random() < 0.5:
            compacted(blocks, now_s)
        assert _by_place(life.begin(after_a_boot=True)) == {
            place: row for place, row in expected.items() if row.until is None or row.until > NOW_S
        }
        assert {source: tag.text for source, tag in life.blocks.tagged(NOW_S).items()} == wanted


def _by_place(blocks: Blocks) -> dict[tuple[str, Span], Row]:
    return {(source, Span(*row[:3])): row for source, rows in rows_of(blocks).items() for row in rows}


def test_what_is_written_is_what_differs(life: Life) -> None:
    """Of 20,000 entries that are said anew, ten of which are others: ten records."""
    rows = [Row(4, at, at, 0, "many", NOW_S + 900) for at in range(1 << 24, (1 << 24) + 20_000)]
    take(life.blocks, change_of(life.blocks, "block", "many", *rows))
    before = life.file.stat().st_size
    same = change_of(life.blocks, "block", "many", *rows)
    for blocks in (life.blocks, Blocks(None, LogCopy(Systemd()))):
        assert blocks.batch(same, NOW_S).records == 0
    others = [*rows[:-10], *(row._replace(until=NOW_S + 901) for row in rows[-10:])]
    take(life.blocks, change_of(life.blocks, "block", "many", *others))
    assert 0 < life.file.stat().st_size - before < 10 * 150


def test_a_tag_is_forgotten_a_day_after_its_source_has_nothing_left(life: Life) -> None:
    take(life.blocks, change_of(life.blocks, "block", "cs", Row(4, 1, 1), tag="42"))
    take(life.blocks, change_of(life.blocks, "unblock", "cs", Row(4, 1, 1)))
    assert life.begin().tagged(NOW_S + 86_000) == {"cs": ("42", NOW_S)}
    assert life.blocks.tagged(NOW_S + 87_000) == {}
    take(life.blocks, change_of(life.blocks, "block", "cs", Row(4, 1, 1)))
    assert life.blocks.tagged(NOW_S + 87_000) == {"cs": ("42", NOW_S)}
    compacted(life.blocks, NOW_S + 87_000)
    assert life.begin().tagged(NOW_S + 87_000) == {"cs": ("42", NOW_S)}
