"""Files that change in every way that people and programs change them, before a reader that works like the daemon."""

import contextlib
import errno
import gc
import glob
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from watchdog.observers.inotify_c import InotifyEvent

from waiting import wait_until
from xdropd.host.files import Signature, StillBeingWritten, read_file
from xdropd.host.followed import FollowedFile, Hint
from xdropd.host.globs import matching
from xdropd.host.watch import Watcher

AT_ONCE_S = 0.9  # by events alone, less than the pause that bare writes have to make
SOON_S = 1.5  # by stat alone: the second of the contract, and room for a machine that does other things as well


class Reader:
    """Looks when it is woken or when it is time, reads what it is told to, and remembers it."""

    def __init__(self, *files: Path, patterns: tuple[str, ...] = ()) -> None:
        self._woken, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.watcher = Watcher(self.wake)
        self.contents: dict[Path, bytes | None] = {}
        self.ahead_s = 0.0  # of the real clock
        self.told: list[frozenset[Path | str]] = []
        self._signatures: dict[Path, Signature | None] = {}
        self._named = files
        self._patterns = patterns
        self._follow()
        self._look()

    def wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._waker, b"!")

    def close(self) -> None:
        self.watcher.close()
        os.close(self._woken)
        os.close(self._waker)

    def _follow(self) -> None:
        files = {*self._named, *(Path(path) for pattern in self._patterns for path in matching(pattern))}
        for path in files - self.contents.keys():
            self._read(path)
        self.contents = {path: content for path, content in self.contents.items() if path in files}
        self.watcher.follow(files, self._patterns)
        for path in files:
            self.watcher.mark_read(path, self._signatures.get(path))

    def _read(self, path: Path) -> None:
        try:
            self.contents[path], self._signatures[path] = read_file(path)
        except StillBeingWritten:
            pass
        except OSError:
            self.contents[path], self._signatures[path] = None, None

    def _look(self) -> None:
        told = self.watcher.look(time.monotonic() + self.ahead_s)
        if told:
            self.told.append(told)
        if told & {*self._patterns}:
            self._follow()
        for path in told & self.contents.keys():
            self._read(path)
            self.watcher.mark_read(path, self._signatures[path])

    def until(self, true: Callable[[], bool], within_s: float, *, by_ear: bool = False) -> float:
        """Work until it is true; seconds that took. By ear: without the looks that are taken when nothing is heard."""
        start_s = time.monotonic()
        while not true():
            left_s = start_s + within_s - time.monotonic()
            assert left_s > 0, f"it did not happen within {within_s} s; told: {self.told}, read: {self.contents}"
            self._work(left_s, by_ear=by_ear)
        return time.monotonic() - start_s

    def hears(self, path: Path, content: bytes | None) -> float:
        """Work until this is what was read, thanks to events alone."""
        return self.until(lambda: self.contents.get(path) == content, AT_ONCE_S, by_ear=True)

    def sees(self, path: Path, content: bytes | None) -> float:
        """Work until this is what was read."""
        return self.until(lambda: self.contents.get(path) == content, SOON_S)

    def idle(self, seconds: float) -> None:
        """Work that long."""
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0:
            self._work(left_s)

    def _work(self, at_most_s: float, *, by_ear: bool = False) -> None:
        next_s = self.watcher.next_look_s()
        wait_s = at_most_s if by_ear and next_s >= 0.5 else min(at_most_s, next_s)
        if select.select([self._woken], [], [], wait_s)[0]:
            os.read(self._woken, 1 << 16)
        self._look()


@pytest.fixture
def reading():
    readers = []

    def follow(*files: Path, patterns: tuple[str, ...] = ()) -> Reader:
        readers.append(Reader(*files, patterns=patterns))
        # All watches are taken, and what the preparation of the test did is over.
        readers[-1].idle(0.1)
        readers[-1].told.clear()
        return readers[-1]

    yield follow
    for reader in readers:
        reader.close()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "blocklist.yaml"
    path.write_bytes(b"old")
    return path


def rename_over(path: Path, content: bytes) -> None:
    new = path.with_name(path.name + ".new")
    new.write_bytes(content)
    new.rename(path)


# However it is saved


def test_rewritten_in_place(reading, file):
    reader = reading(file)
    file.write_bytes(b"new")
    reader.hears(file, b"new")
    reader.idle(1.2)
    assert reader.told == [{file}]


def test_renamed_over(reading, file):
    reader = reading(file)
    rename_over(file, b"new")
    reader.hears(file, b"new")
    reader.idle(1.2)
    assert reader.told == [{file}]


def test_renamed_over_is_seen_within_milliseconds(reading, file):
    reader = reading(file)
    latencies_s = []
    for number in range(50):
        rename_over(file, b"%d" % number)
        latencies_s.append(reader.hears(file, b"%d" % number))
    assert sorted(latencies_s)[25] < 0.010


def test_moved_in_from_another_folder(reading, file, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    new = tmp_path / "elsewhere" / "new"
    new.write_bytes(b"new")
    reader = reading(file)
    new.rename(file)
    reader.hears(file, b"new")


def test_moved_away_and_written_anew(reading, file, tmp_path):
    """The old one goes to another folder. watchdog waits for the other half of that move, and a look does not."""
    (tmp_path / "backup").mkdir()
    reader = reading(file)
    file.rename(tmp_path / "backup" / "old")
    file.write_bytes(b"new")
    reader.sees(file, b"new")


@pytest.mark.parametrize(
    "command",
    [
        ("sed", "-i", "s/old/new/", "blocklist.yaml"),
        ("vim", "-es", "-u", "NONE", "+set backup writebackup backupcopy=no", "+%s/old/new/", "+wq", "blocklist.yaml"),
        ("vim", "-es", "-u", "NONE", "+set backup writebackup backupcopy=yes", "+%s/old/new/", "+wq", "blocklist.yaml"),
        ("perl", "-pi.bak", "-e", "s/old/new/", "blocklist.yaml"),
        ("sh", "-c", "echo new > blocklist.yaml"),
        ("sh", "-c", "echo new | tee blocklist.yaml"),
        ("sh", "-c", "echo new > .tmp; cp .tmp blocklist.yaml"),
        ("sh", "-c", "echo new > .tmp; cp --remove-destination .tmp blocklist.yaml"),
        ("sh", "-c", "echo new > .tmp; install -m 600 .tmp blocklist.yaml"),
        ("sh", "-c", "echo new > .tmp; mv blocklist.yaml blocklist.yaml~; mv .tmp blocklist.yaml"),
        ("sh", "-c", "echo new > .tmp; ln -sf .tmp blocklist.yaml"),
        ("dd", "if=/dev/stdin", "of=blocklist.yaml", "status=none"),
    ],
    ids=lambda command: " ".join(command)[:60],
)
def test_saved_by(reading, file, command):
    file.write_bytes(b"old\n")
    reader = reading(file)
    subprocess.run(command, cwd=file.parent, check=True, input=b"new\n", stdout=subprocess.DEVNULL)
    reader.hears(file, b"new\n")
    reader.idle(0.2)
    assert reader.contents[file] == b"new\n"


def test_an_editor_never_shows_it_missing_or_empty(reading, file):
    """The old one is moved away, the new one is created empty and written a little later."""
    reader = reading(file)
    seen: set[bytes | None] = set()

    def looked() -> bool:
        seen.add(reader.contents[file])
        return False

    def save() -> None:
        file.rename(file.with_name("blocklist.yaml~"))
        time.sleep(0.15)
        with file.open("wb") as new:
            time.sleep(0.3)
            new.write(b"new")

    saving = threading.Thread(target=save)
    saving.start()
    reader.until(lambda: looked() or reader.contents[file] == b"new", 2)
    saving.join()
    assert seen == {b"old", b"new"}


def test_written_in_pieces_without_close(reading, file):
    """Bare writes are read once they have paused for a second."""
    reader = reading(file)
    with file.open("wb", buffering=0) as writer:
        for _ in range(4):
            writer.write(b"new ")
            reader.idle(0.4)
            assert reader.contents[file] == b"old"
        took_s = reader.sees(file, b"new new new new ")
        assert took_s > 0.4  # a second after the last write, most of which the last idle() took


def test_a_writer_that_stops_half_way_and_goes_on(reading, file):
    reader = reading(file)
    with file.open("wb", buffering=0) as writer:
        writer.write(b"half ")
        reader.sees(file, b"half ")
        writer.write(b"and half")
    reader.hears(file, b"half and half")


def test_a_slow_download_is_not_read_before_it_is_done(reading, file):
    """It only grows, and never pauses for a second: nothing to read until it is closed."""
    reader = reading(file)
    with file.open("wb", buffering=0) as writer:
        for _ in range(12):
            writer.write(b"x" * 1000)
            reader.idle(0.25)
    reader.hears(file, b"x" * 12000)
    assert len(reader.told) == 1


def test_rewritten_a_hundred_times_a_second_by_rename(reading, file):
    reader = reading(file)
    last = rewrite(reader, file, rename_over)
    assert len(reader.told) > 20
    reader.hears(file, last)


def test_rewritten_a_hundred_times_a_second_in_place(reading, file):
    reader = reading(file)
    last = rewrite(reader, file, Path.write_bytes)
    assert len(reader.told) > 20
    reader.hears(file, last)


def test_rewritten_a_hundred_times_a_second_and_never_closed(reading, file):
    reader = reading(file)
    with file.open("r+b", buffering=0) as writer:
        last = rewrite(reader, file, lambda _, content: os.pwrite(writer.fileno(), content, 0), seconds=4.5)
        assert 1 <= len(reader.told) <= 3  # every two seconds
        assert reader.contents[file] != b"old"
    reader.hears(file, last)


def rewrite(reader: Reader, path: Path, save: Callable[[Path, bytes], object], seconds: float = 2) -> bytes:
    """Save a hundred times a second in another thread while the reader works; what was saved last."""
    last = b"old"
    stop = threading.Event()

    def work() -> None:
        nonlocal last
        number = 0
        while not stop.wait(0.01):
            number += 1
            last = b"%08d" % number
            save(path, last)

    thread = threading.Thread(target=work)
    thread.start()
    reader.idle(seconds)
    stop.set()
    thread.join()
    return last


def test_two_saves_within_one_tick(reading, file):
    """Same size, perhaps the same times: a close counts, whatever stat says."""
    reader = reading(file)
    for number in range(200):
        file.write_bytes(b"%08d" % number)
        reader.hears(file, b"%08d" % number)


# Links and folders


def test_a_swapped_link(reading, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "list").write_bytes(b"old")
    (tmp_path / "b" / "list").write_bytes(b"new")
    link = tmp_path / "link"
    link.symlink_to("a/list")
    reader = reading(link)
    new = tmp_path / "new"
    new.symlink_to("b/list")
    new.rename(link)
    reader.hears(link, b"new")
    # The new target's folder is followed as well, and the old one's no longer.
    (tmp_path / "b" / "list").write_bytes(b"newer")
    reader.hears(link, b"newer")
    (tmp_path / "a" / "list").write_bytes(b"nobody cares")
    reader.idle(0.7)
    assert reader.contents[link] == b"newer"


def test_a_chain_of_links(reading, tmp_path):
    for name, target in {"one": "two", "two": "sub/three", "sub/three": "../four"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(target)
    (tmp_path / "four").write_bytes(b"old")
    (tmp_path / "five").write_bytes(b"new")
    reader = reading(tmp_path / "one")
    subprocess.run(["ln", "-sfn", "../five", "sub/three"], cwd=tmp_path, check=True)
    reader.hears(tmp_path / "one", b"new")
    (tmp_path / "five").write_bytes(b"newer")
    reader.hears(tmp_path / "one", b"newer")


def test_a_configmap(reading, tmp_path):
    """Kubernetes: blocklist.yaml -> ..data/blocklist.yaml, ..data -> ..1, and ..data is what is swapped."""
    for number in (1, 2, 3):
        (tmp_path / f"..{number}").mkdir()
        (tmp_path / f"..{number}" / "blocklist.yaml").write_bytes(b"%d" % number)
    (tmp_path / "..data").symlink_to("..1")
    path = tmp_path / "blocklist.yaml"
    path.symlink_to("..data/blocklist.yaml")
    reader = reading(path)
    for number in (2, 3):
        (tmp_path / "..data_tmp").symlink_to(f"..{number}")
        (tmp_path / "..data_tmp").rename(tmp_path / "..data")
        reader.hears(path, b"%d" % number)
        for leftover in (tmp_path / f"..{number - 1}").iterdir():
            leftover.unlink()
        (tmp_path / f"..{number - 1}").rmdir()


def test_a_link_that_dangles_for_a_while(reading, tmp_path):
    link = tmp_path / "link"
    link.symlink_to("sub/list")
    reader = reading(link)
    assert reader.contents[link] is None
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "list").write_bytes(b"new")
    reader.hears(link, b"new")


def test_links_in_a_circle(reading, tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    reader = reading(tmp_path / "a")
    (tmp_path / "b").unlink()
    (tmp_path / "b").write_bytes(b"new")
    reader.hears(tmp_path / "a", b"new")


def test_a_folder_renamed_away_and_back(reading, tmp_path):
    folder = tmp_path / "xdrop"
    folder.mkdir()
    path = folder / "blocklist.yaml"
    path.write_bytes(b"old")
    reader = reading(path)
    folder.rename(tmp_path / "away")
    reader.sees(path, None)
    (tmp_path / "away" / "blocklist.yaml").write_bytes(b"meanwhile")
    reader.idle(0.6)
    assert reader.contents[path] is None
    (tmp_path / "away").rename(folder)
    reader.sees(path, b"meanwhile")
    rename_over(path, b"new")
    reader.hears(path, b"new")


def test_a_folder_replaced_by_another(reading, tmp_path):
    folder = tmp_path / "xdrop"
    for name in ("xdrop", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "blocklist.yaml").write_bytes(name.encode())
    path = folder / "blocklist.yaml"
    reader = reading(path)
    folder.rename(tmp_path / "away")
    (tmp_path / "other").rename(folder)
    reader.sees(path, b"other")
    rename_over(tmp_path / "away" / "blocklist.yaml", b"nobody cares")
    rename_over(path, b"new")
    reader.hears(path, b"new")


def test_a_folder_deleted_and_made_again(reading, tmp_path):
    folder = tmp_path / "xdrop"
    path = folder / "blocklist.yaml"
    folder.mkdir()
    path.write_bytes(b"old")
    reader = reading(path)
    for number in range(3):
        path.unlink()
        folder.rmdir()
        reader.sees(path, None)
        folder.mkdir()
        reader.idle(0.1)
        path.write_bytes(b"%d" % number)
        reader.hears(path, b"%d" % number)
        rename_over(path, b"new")
        reader.hears(path, b"new")


def test_a_file_that_goes_and_comes(reading, file):
    reader = reading(file)
    file.unlink()
    reader.sees(file, None)
    reader.idle(0.6)
    file.write_bytes(b"new")
    reader.hears(file, b"new")
    assert reader.told == [{file}, {file}]


def test_a_file_that_is_not_there_at_first(reading, tmp_path):
    path = tmp_path / "not" / "yet" / "blocklist.yaml"
    reader = reading(path)
    assert reader.contents == {path: None}
    path.parent.mkdir(parents=True)
    path.write_bytes(b"new")
    reader.sees(path, b"new")


def test_a_folder_in_place_of_the_file_is_told_once(reading, file):
    reader = reading(file)
    file.unlink()
    file.mkdir()
    reader.sees(file, None)
    reader.idle(1.2)
    assert len(reader.told) == 1
    file.rmdir()
    file.write_bytes(b"new")
    reader.hears(file, b"new")


def test_names_that_are_no_utf8(reading, tmp_path):
    """As the file itself, as its folder, and as neighbours that make events."""
    folder = tmp_path / os.fsdecode(b"f\xe4lder")
    folder.mkdir()
    path = folder / os.fsdecode(b"l\xefst\xff\n")
    path.write_bytes(b"old")
    reader = reading(path, patterns=(f"{folder}/*.netset",))
    for number in range(20):
        neighbour = os.fsencode(folder) + b"/\xff\xfe%d.netset" % number
        Path(os.fsdecode(neighbour)).write_bytes(b"x")
    rename_over(path, b"new")
    reader.hears(path, b"new")
    reader.until(lambda: len(reader.contents) == 21, SOON_S)
    assert reader.watcher.is_alive()


def test_only_what_is_followed_wakes(reading, file):
    reader = reading(file)
    woken = 0

    def count() -> None:
        nonlocal woken
        woken += 1

    watcher = Watcher(count)
    watcher.follow([file])
    watcher.look(time.monotonic())
    for number in range(50):
        (file.parent / f"neighbour{number}").write_bytes(b"x")
        file.read_bytes()
        os.listdir(file.parent)
    reader.idle(0.3)
    assert woken == 0
    file.write_bytes(b"new")
    reader.until(lambda: woken > 0, AT_ONCE_S, by_ear=True)
    watcher.close()


# Patterns


def test_matches_come_and_go(reading, tmp_path):
    pattern = f"{tmp_path}/lists.d/*.netset"
    folder = tmp_path / "lists.d"
    folder.mkdir()
    (folder / "a.netset").write_bytes(b"a")
    reader = reading(patterns=(pattern,))
    assert reader.contents == {folder / "a.netset": b"a"}
    (folder / "b.netset").write_bytes(b"b")
    (folder / "b.txt").write_bytes(b"x")
    (folder / ".c.netset").write_bytes(b"x")
    reader.until(lambda: reader.contents.get(folder / "b.netset") == b"b", AT_ONCE_S, by_ear=True)
    assert reader.told == [{pattern}]
    (folder / "a.netset").write_bytes(b"A")
    reader.hears(folder / "a.netset", b"A")
    (folder / "b.netset").write_bytes(b"B")
    reader.hears(folder / "b.netset", b"B")
    (folder / "a.netset").unlink()
    reader.until(lambda: reader.contents == {folder / "b.netset": b"B"}, SOON_S)
    reader.idle(0.6)
    assert set(reader.contents) == {folder / "b.netset"}


def test_a_new_match_is_told_when_it_is_written(reading, tmp_path):
    reader = reading(patterns=(f"{tmp_path}/*.netset",))
    path = tmp_path / "a.netset"
    with path.open("wb", buffering=0) as writer:
        for _ in range(6):
            writer.write(b"x")
            reader.idle(0.3)
            assert reader.told == []
    reader.until(lambda: reader.contents == {path: b"xxxxxx"}, AT_ONCE_S, by_ear=True)


def test_a_new_match_that_is_never_closed(reading, tmp_path):
    reader = reading(patterns=(f"{tmp_path}/*.netset",))
    path = tmp_path / "a.netset"
    with path.open("wb", buffering=0) as writer:
        writer.write(b"x")
        took_s = reader.until(lambda: reader.contents == {path: b"x"}, SOON_S, by_ear=True)
        assert 1 <= took_s < 1.4


def test_a_match_that_is_saved_by_an_editor_stays(reading, tmp_path):
    path = tmp_path / "a.netset"
    path.write_bytes(b"old")
    reader = reading(patterns=(f"{tmp_path}/*.netset",))
    path.rename(tmp_path / "a.netset~")
    reader.idle(0.2)
    path.write_bytes(b"new")
    reader.hears(path, b"new")
    reader.idle(0.6)
    assert reader.told == [{path}]


def test_a_pattern_over_folders(reading, tmp_path):
    pattern = f"{tmp_path}/*/lists/[ab]?.txt"
    reader = reading(patterns=(pattern,))
    assert reader.contents == {}
    for folder in ("one", "two"):
        path = tmp_path / folder / "lists" / "a1.txt"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"new")
        reader.until(lambda path=path: reader.contents.get(path) == b"new", SOON_S)
    (tmp_path / "one" / "lists" / "b2.txt").write_bytes(b"new")
    reader.until(lambda: len(reader.contents) == 3, AT_ONCE_S, by_ear=True)
    (tmp_path / "one").rename(tmp_path / ".one")
    reader.until(lambda: set(reader.contents) == {tmp_path / "two" / "lists" / "a1.txt"}, SOON_S)


def test_a_pattern_of_any_number_of_folders(reading, tmp_path):
    """A folder that comes later is listened to as well, however deep it is."""
    reader = reading(patterns=(f"{tmp_path}/lists.d/**/*.txt",))
    path = tmp_path / "lists.d" / "a.txt"
    path.parent.mkdir()
    path.write_bytes(b"0")
    reader.until(lambda: reader.contents == {path: b"0"}, SOON_S)
    for depth in range(1, 5):
        path = path.parent / f"{depth}" / f"{depth}.txt"
        path.parent.mkdir()
        reader.idle(0.6)
        path.write_bytes(b"new")
        reader.until(lambda path=path: reader.contents.get(path) == b"new", AT_ONCE_S, by_ear=True)
    (path.parent / "mine.txt~").write_bytes(b"x")
    shutil.copytree(tmp_path / "lists.d" / "1", tmp_path / "lists.d" / "1.bak")
    reader.idle(0.6)
    assert sorted(path.name for path in reader.contents) == ["1.txt", "2.txt", "3.txt", "4.txt", "a.txt"]
    (tmp_path / "lists.d" / "1" / "2").rename(tmp_path / "lists.d" / ".2")
    reader.until(lambda: sorted(path.name for path in reader.contents) == ["1.txt", "a.txt"], SOON_S)


def test_the_folder_of_a_pattern_is_a_link(reading, tmp_path):
    for name in ("v1", "v2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.netset").write_bytes(name.encode())
    (tmp_path / "lists.d").symlink_to("v1")
    reader = reading(patterns=(f"{tmp_path}/lists.d/*.netset",))
    (tmp_path / "new").symlink_to("v2")
    (tmp_path / "new").rename(tmp_path / "lists.d")
    reader.until(lambda: reader.contents == {tmp_path / "lists.d" / "v2.netset": b"v2"}, SOON_S)
    (tmp_path / "v2" / "more.netset").write_bytes(b"more")
    reader.until(lambda: len(reader.contents) == 2, AT_ONCE_S, by_ear=True)


def test_a_match_between_globbing_and_following_is_not_lost(reading, tmp_path):
    reader = reading(tmp_path / "blocklist.yaml")
    pattern = f"{tmp_path}/*.netset"
    (tmp_path / "late.netset").write_bytes(b"x")
    reader.watcher.follow([], (pattern,))
    reader.until(lambda: {pattern} in reader.told, SOON_S)


NAMES = st.sampled_from(["a", "b.txt", ".c", "x~", "#d#", "e.bak", "[f]"])
PARTS = st.sampled_from(["*", "**", "a", "?", ".*", "*.txt", "[ab]*", "b.txt", ".c", "[[]f]", "**a"])
LEFT = re.compile(r"/(x~|#d#|e\.bak)(?=/|$)")


@settings(max_examples=300)
@given(st.lists(st.lists(NAMES, min_size=1, max_size=4), max_size=12), st.lists(PARTS, min_size=1, max_size=4))
@example([["b.txt"]], ["b.txt", "**"])
def test_matching_is_what_python_makes_of_it(paths, parts):
    """Without folders, links to nowhere, and what is left behind unless it is named; `a/**` of a file `a`, which Python
    finds as `a/`, is nothing here."""
    with tempfile.TemporaryDirectory() as folder:
        for number, path in enumerate(paths):
            with contextlib.suppress(FileExistsError, NotADirectoryError):
                file = Path(folder, *path)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.symlink_to(["nowhere", __file__][number % 4 > 0]) if number % 2 else file.touch(exist_ok=False)
        pattern = "/".join([folder, *parts])
        found = {path for path in glob.glob(pattern, recursive=True) if Path(path).is_file()}  # noqa: PTH207
        assert matching(pattern) == {path for path in found if not LEFT.search(path) and not path.endswith("/")}


def test_what_is_named_is_meant_whatever_it_is_called(tmp_path):
    (tmp_path / "x~" / "a").mkdir(parents=True)
    for path in ("x~/a/b.txt", "x~/a/b.bak"):
        (tmp_path / path).touch()
    assert matching(f"{tmp_path}/x~/*/b.*") == matching(f"{tmp_path}/x~/**") == {f"{tmp_path}/x~/a/b.txt"}
    assert matching(f"{tmp_path}/x~/*/b.bak") == {f"{tmp_path}/x~/a/b.bak"}


def test_links_to_folders_are_followed_and_circles_are_not(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "x.txt").touch()
    (tmp_path / "a" / "b" / "up").symlink_to("..")
    (tmp_path / "a" / "self").symlink_to(".")
    (tmp_path / "other").symlink_to("a/b")
    assert matching(f"{tmp_path}/**/*.txt") == {f"{tmp_path}/{path}" for path in ("a/b/x.txt", "other/x.txt")}


def test_matching_is_a_glob():
    assert matching("/etc/host?") == {"/etc/hosts"}
    assert matching("/etc/hosts") == {"/etc/hosts"}
    assert matching("/nowhere/*") == frozenset()
    assert matching("/etc/\0*") == frozenset()


# What goes wrong with watchdog


def test_it_goes_on_when_its_thread_dies(reading, file, monkeypatch):
    """A wake that raises ends watchdog's thread: the change is found all the same, and the next one is heard again."""
    reader = reading(file)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    monkeypatch.setattr(reader.watcher, "_wake", None)
    rename_over(file, b"new")
    reader.sees(file, b"new")
    monkeypatch.setattr(reader.watcher, "_wake", reader.wake)
    reader.until(reader.watcher.is_alive, SOON_S)
    reader.idle(0.1)
    rename_over(file, b"newer")
    reader.hears(file, b"newer")


def test_it_goes_on_when_the_thread_of_a_folder_dies(reading, file):
    reader = reading(file)
    (emitter,) = reader.watcher._observer.emitters
    emitter.stop()
    emitter.join()
    reader.idle(0.6)
    rename_over(file, b"new")
    reader.hears(file, b"new")


def test_it_goes_on_when_a_watch_has_gone_deaf(reading, file, monkeypatch):
    """All threads live and nothing is heard: a change that only stat saw makes it listen anew."""
    reader = reading(file)
    reader.ahead_s = 11  # it does not doubt a watch that it has just taken
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    (emitter,) = reader.watcher._observer.emitters
    emitter._inotify._inotify.remove_watch(os.fsencode(file.parent))
    reader.idle(0.6)
    assert emitter.is_alive()
    rename_over(file, b"new")
    reader.sees(file, b"new")
    reader.idle(0.1)
    rename_over(file, b"newer")
    reader.hears(file, b"newer")


def test_a_queue_that_overflowed(tmp_path):
    """More events than fs.inotify.max_queued_events while the reader stands still: the last change is found, and the
    following ones are heard again.
    """
    file = tmp_path / "blocklist.yaml"
    file.write_bytes(b"old")
    child = follow_elsewhere(file)
    try:
        assert child.stdout.readline() == "old\n"
        child.send_signal(signal.SIGSTOP)
        most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
        for number in range(most):
            (tmp_path / f"n{number % 2}").touch()
        rename_over(file, b"new")
        start_s = time.monotonic()
        child.send_signal(signal.SIGCONT)
        assert child.stdout.readline() == "new\n"
        assert time.monotonic() - start_s < SOON_S
        start_s = time.monotonic()
        rename_over(file, b"newer")
        assert child.stdout.readline() == "newer\n"
        assert time.monotonic() - start_s < SOON_S
    finally:
        child.kill()
        child.communicate()


def test_a_folder_that_may_not_be_listed(tmp_path):
    """inotify has to read a folder, stat only to pass through it; and closing does not hang. As nobody: root may."""
    folder = tmp_path / "closed"
    folder.mkdir()
    file = folder / "blocklist.yaml"
    file.write_bytes(b"old")
    folder.chmod(0o711)
    for parent in tmp_path.parents:
        if parent.stat().st_uid == os.getuid() and not parent.stat().st_mode & 1:
            parent.chmod(parent.stat().st_mode | 0o11)
    tmp_path.chmod(0o755)
    child = follow_elsewhere(file, "newer", "as-nobody")
    try:
        assert child.stdout.readline() == "old\n"
        for content in ("new", "newer"):
            start_s = time.monotonic()
            rename_over(file, content.encode())
            file.chmod(0o644)
            assert child.stdout.readline() == f"{content}\n"
            assert time.monotonic() - start_s < SOON_S
        assert child.wait(timeout=5) == 0
    finally:
        child.kill()
        child.communicate()


def follow_elsewhere(*arguments: str | Path) -> "subprocess.Popen[str]":
    """follow_and_print in a process of its own."""
    return subprocess.Popen(
        [sys.executable, __file__, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def follow_and_print(path: Path, last: str | None) -> None:
    """Print the content at first and whenever it changes; end after `last`."""
    reader = Reader(path)
    printed: list[bytes | None] = [None]
    while last is None or printed[-1] != last.encode():
        reader.until(lambda: reader.contents[path] not in {printed[-1], None}, 60)
        printed.append(reader.contents[path])
        print(os.fsdecode(printed[-1]), flush=True)
        reader.idle(0.1)
    reader.close()


# The cost


def test_looking_costs_next_to_nothing(reading, tmp_path):
    paths = [tmp_path / f"list{number}.netset" for number in range(300)]
    for path in paths:
        path.write_bytes(b"old")
    reader = reading(*paths, patterns=(f"{tmp_path}/*.netset",))
    assert reader.told == []
    before_s = time.process_time()
    looks = 50
    for _ in range(looks):
        reader.watcher.look(time.monotonic())
    assert (time.process_time() - before_s) / looks < 0.005
    assert reader.watcher.next_look_s() == 0.5


def test_nothing_is_left_behind(tmp_path):
    """No descriptor and no thread, after folders came and went and after the end."""
    folder = tmp_path / "xdrop"
    folder.mkdir()
    path = folder / "blocklist.yaml"
    path.write_bytes(b"old")
    descriptors, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
    watcher = Watcher(lambda: None)
    counts = set()
    for number in range(20):
        watcher.follow([path, folder / str(number)], [f"{tmp_path}/*.{number}"])
        watcher.look(number)
        folder.rename(tmp_path / "away")
        watcher.look(number + 0.3)
        (tmp_path / "away").rename(folder)
        watcher.look(number + 0.6)
        counts.add((len(os.listdir("/proc/self/fd")), threading.active_count()))
    assert len(counts) == 1
    watcher.close()
    watcher.close()
    assert not watcher.is_alive()
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == (descriptors, threads)


def test_memory_does_not_grow_with_renames(reading, file):
    """watchdog keeps what it heard of each move for as long as a watch lives."""
    reader = reading(file)
    for number in range(2500):
        rename_over(file, b"%d" % number)
        if number % 100 == 0:
            reader.idle(0.01)
    reader.hears(file, b"2499")

    def has_let_go() -> bool:
        reader.idle(0.1)  # it may hear of moves for a while yet
        return sum(isinstance(thing, InotifyEvent) for thing in gc.get_objects()) < 1500

    wait_until(has_let_go, within_s=10)
    rename_over(file, b"new")
    reader.hears(file, b"new")


# Reading


def test_read_file(file):
    content, signature = read_file(file)
    assert content == b"old"
    assert signature == Signature.of(file.stat())


def test_reading_what_has_no_size():
    content, signature = read_file(Path("/proc/self/mounts"))
    assert signature.size == 0
    assert content == Path("/proc/self/mounts").read_bytes()


def test_reading_a_large_file(file):
    content = os.urandom(1 << 20) * 5
    file.write_bytes(content)
    assert read_file(file)[0] == content
    assert read_file(file, len(content))[0] == content
    with pytest.raises(OSError, match=f"it has 5 MiB, and at most {len(content) - 1} bytes are read") as refusal:
        read_file(file, len(content) - 1)
    assert refusal.value.errno == errno.EFBIG


def test_reading_what_is_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_file(tmp_path / "nothing")
    with pytest.raises(IsADirectoryError):
        read_file(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", Path("/dev/null"), Path("/dev/zero")):
        with pytest.raises(OSError, match="it is no regular file but a (fifo|device)"):
            read_file(path)
    with pytest.raises(OSError, match="Not a path"):
        read_file(tmp_path / "nul\0")
    with pytest.raises(OSError, match="Not a path"):
        read_file(tmp_path / "lone\ud800")


def test_reading_what_never_rests(file):
    """The file grows all the time: no attempt sees it unchanged."""
    os.truncate(file, 100_000_000)
    stop = threading.Event()
    appending = subprocess.Popen(
        [sys.executable, "-c", "import sys\nf = open(sys.argv[1], 'ab', 0)\nwhile True: f.write(b'x')", str(file)]
    )
    try:
        size = file.stat().st_size
        while file.stat().st_size == size:
            stop.wait(0.01)
        with pytest.raises(StillBeingWritten, match="Still being written"):
            read_file(file)
    finally:
        appending.kill()
        appending.wait()


def test_odd_paths_are_followed_like_missing_ones(reading, tmp_path):
    reader = reading(
        tmp_path / "nul\0",
        tmp_path / "lone\ud800",
        patterns=(
            f"{tmp_path}/\0*",
            f"{tmp_path}/[",
        ),
    )
    reader.idle(0.6)
    assert set(reader.contents.values()) == {None}


# When a writer is done: the order of events without any file


def looks(content: int, inode: int = 1, size: int | None = None) -> Signature:
    size = content if size is None else size
    return Signature(device=1, inode=inode, size=size, mtime_ns=content, ctime_ns=content)


def judged(*steps: tuple[float, Signature | None, Hint | None]) -> list[float]:
    """Times at which a file of content 1 that goes through these steps may be read, looked at every 0.05 s besides."""
    file = FollowedFile("/f", read=looks(1), told=looks(1), seen=looks(1))
    ready = []
    now_s, current = 0.0, file.read
    for at_s, then, hint in (*steps, (steps[-1][0] + 5, None, "end")):
        while now_s < at_s - 1e-9:
            if file.judge(current, None, False, now_s):
                ready.append(round(now_s, 2))
            now_s += 0.05
        if hint == "end":
            break
        current = then
        if file.judge(current, hint, False, now_s):
            ready.append(round(now_s, 2))
    return ready


TOUCHED, DONE = Hint.TOUCHED, Hint.DONE


@pytest.mark.parametrize(
    ("steps", "ready"),
    [
        pytest.param([(1.0, looks(2), DONE)], [1.0], id="closed"),
        pytest.param([(1.0, looks(1), DONE)], [1.0], id="closed, looks the same"),
        pytest.param([(1.0, looks(1), TOUCHED)], [], id="touched, looks the same"),
        pytest.param([(1.0, looks(2, inode=2), DONE)], [1.0], id="renamed over"),
        pytest.param([(1.0, looks(2), TOUCHED)], [2.0], id="written"),
        pytest.param([(1.0, looks(2), TOUCHED), (1.5, looks(3), TOUCHED)], [2.5], id="written twice"),
        pytest.param([(1.0, looks(2), TOUCHED), (1.5, looks(3), DONE)], [1.5], id="written and closed"),
        pytest.param([(1.0, looks(2), None)], [1.4], id="written unheard"),
        pytest.param([(1.0, looks(2, inode=2), None)], [1.05], id="swapped unheard"),
        pytest.param([(1.0, looks(2, inode=2), None), (1.04, looks(2, inode=2), TOUCHED)], [2.0], id="created"),
        pytest.param([(1.0, None, TOUCHED)], [1.4], id="gone"),
        pytest.param([(1.0, None, None), (1.2, looks(1), None)], [], id="gone and back"),
        pytest.param([(1.0, None, DONE)], [1.4], id="renamed here and gone"),
        pytest.param([(1.0, looks(2), TOUCHED), (1.5, looks(1), TOUCHED)], [], id="taken back"),
        pytest.param([(1 + n / 10, looks(2 + n, size=9), TOUCHED) for n in range(50)], [3.0, 5.1, 6.9], id="restless"),
        pytest.param(
            [(1 + n / 10, looks(2 + n, size=9), None) for n in range(50)], [3.0, 5.1, 6.3], id="restless, deaf"
        ),
        pytest.param([(1 + n / 2, looks(2 + n), TOUCHED) for n in range(50)], [26.5], id="growing"),
        pytest.param([(1 + n / 2, looks(2 + n), TOUCHED) for n in range(90)], [31.0, 46.5], id="growing for long"),
    ],
)
def test_when_it_may_be_read(steps, ready):
    assert judged(*steps) == pytest.approx(ready, abs=0.11)


if __name__ == "__main__":
    if sys.argv[3:] == ["as-nobody"]:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    follow_and_print(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)
