"""Which version of each file counts: only what changed is read, and what turned bad keeps its last good version."""

import os
import shutil
import socket
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from databases import database
from waiting import wait_until
from xdropd.columns.listing import Row
from xdropd.commands.xdropd import problems_of
from xdropd.errors import RefusedFile
from xdropd.host.fetched import State, list_path, state_path, write_state
from xdropd.host.files import Signature
from xdropd.host.statefolder import StateFolder
from xdropd.sources import catalogue as module
from xdropd.sources.catalogue import Catalogue, Reading
from xdropd.sources.settingsfile import SettingsFile
from xdropd.text.addresses import parse_span

HTML = "<!DOCTYPE html>\n<html><body>\n<h1>502 Bad Gateway</h1>\n</body></html>\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "lists").mkdir()
    (tmp_path / "blocklist.yaml").write_text(
        "block: [192.0.2.1]\ninclude:\n  - lists/*.txt\n  - {path: named.txt, reason: theirs}\n"
    )
    (tmp_path / "lists" / "a.txt").write_text("10.0.0.1\n10.0.0.2\n")
    (tmp_path / "named.txt").write_text("203.0.113.0/24\n")
    return tmp_path


@pytest.fixture
def catalogue(folder: Path) -> Catalogue:
    return Catalogue(str(folder / "blocklist.yaml"), StateFolder(folder / "state"))


def counts(reading: Reading) -> dict[str, int]:
    return {Path(path).name: content.listing.count for path, content, _ in reading.lists}


def entries(reading: Reading) -> list[Row]:
    """Of the blocklist itself."""
    return [*reading.blocklist.block.rows(), *reading.blocklist.allow.rows()]


@pytest.mark.parametrize(
    "name",
    "a.txt~ #a.txt# a.txt.bak a.txt.orig a.txt.swp a.txt.dpkg-old a.txt.rpmsave a.txt.ucf-dist .a.txt".split(),
)
def test_globs_pass_over_what_editors_and_packages_leave_behind(folder: Path, name: str) -> None:
    (folder / "blocklist.yaml").write_text("block: []\ninclude: [lists/*]\n")
    (folder / "lists" / name).write_text("10.0.0.9\n")
    (folder / "lists" / "a folder").mkdir()
    assert counts(Catalogue(str(folder / "blocklist.yaml"), None).read()) == {"a.txt": 2}


def test_an_editors_copy_of_a_list_keeps_nothing_blocked(folder: Path) -> None:
    """Nor does a copied folder, on whatever level."""
    (folder / "blocklist.yaml").write_text("block: []\ninclude: [lists/**, lists/*/*.txt]\n")
    catalogue = Catalogue(str(folder / "blocklist.yaml"), None)
    (folder / "lists" / "a.txt~").write_text("10.0.0.9\n")
    for name in ("old.bak", "feeds", ".hidden"):
        shutil.copytree(folder / "lists", folder / name)
        (folder / name).rename(folder / "lists" / name)
    assert {path: content.listing.count for path, content, _ in catalogue.read().lists} == {
        str(folder / "lists" / "a.txt"): 2,
        str(folder / "lists" / "feeds" / "a.txt"): 2,
    }


def test_a_current_folder_that_is_removed_is_no_reason_to_end(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    catalogue = Catalogue("blocklist.yaml", None)
    assert catalogue.read().blocklist
    shutil.rmtree(folder)
    with pytest.raises(RefusedFile, match=r"blocklist\.yaml: error: there is no such file"):
        catalogue.read()


def old(*files: Path) -> None:
    """As if they had been written a while ago: what was read an instant after a change proves nothing."""
    newest_s = max(file.stat().st_ctime for file in files)
    wait_until(lambda: newest_s < time.time() - 0.05, within_s=2)


def test_only_what_changed_is_read_again(folder: Path, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    read_file = module.read_file

    def recorded(path: Path, *, follows_links: bool = True) -> object:
        opened.append(path.name)
        return read_file(path, follows_links=follows_links)

    monkeypatch.setattr(module, "read_file", recorded)
    old(folder / "lists" / "a.txt", folder / "named.txt")
    first = catalogue.read()
    assert sorted(opened) == ["a.txt", "blocklist.yaml", "named.txt"]
    opened.clear()
    second = catalogue.read()
    assert opened == []
    assert second.blocklist is first.blocklist
    assert [content for _, content, _ in second.lists] == [content for _, content, _ in first.lists]
    (folder / "lists" / "a.txt").write_text("10.0.0.3\n10.0.0.4\n10.0.0.5\n")
    (folder / "lists" / "b.txt").write_text("10.0.0.6\n")
    assert counts(catalogue.read()) == {"a.txt": 3, "b.txt": 1, "named.txt": 1}
    assert sorted(opened) == ["a.txt", "b.txt"]
    (folder / "lists" / "a.txt").unlink()
    reading = catalogue.read()
    assert counts(reading) == {"b.txt": 1, "named.txt": 1}
    assert reading.troubles == (), "a glob that no longer matches is no trouble"
    assert catalogue.followed()[1] == {str(folder / "lists" / "*.txt")}


def test_two_changes_within_one_tick_of_the_clock(
    folder: Path, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Same size, same inode and, as kernels before 6.13 keep them, the same times."""
    monkeypatch.setattr(Signature, "of", lambda _: Signature(1, 2, 3, 4, 5, is_settled=False))
    for number in (1, 1, 2, 3, 3, 1):
        (folder / "named.txt").write_text(f"203.0.113.{number}\n")
        (folder / "blocklist.yaml").write_text(f"block: [192.0.2.{number}]\ninclude: [named.txt]\n")
        reading = catalogue.read()
        for listed in (reading.lists[0][1].listing, reading.blocklist.block):
            assert [row.first & 255 for row in listed.rows()] == [number]


@pytest.mark.parametrize("text", ["", "# nothing\n", HTML])
def test_a_file_that_turns_bad_keeps_its_last_good_version(folder: Path, catalogue: Catalogue, text: str) -> None:
    file = folder / "lists" / "a.txt"
    catalogue.read()
    catalogue.save()
    for _ in range(2):
        file.write_text(text)
        reading = catalogue.read()
        assert counts(reading)["a.txt"] == 2
        (trouble,) = reading.troubles
        assert trouble.file == str(file)
        assert trouble.message.endswith("; its last good version with 2 entries stays in force")
    # Also in another life.
    again = Catalogue(catalogue.path, catalogue.state)
    reading = again.read()
    assert counts(reading)["a.txt"] == 2
    assert len(reading.troubles) == 1
    # Until it is accepted.
    reading = again.read(accept=str(file))
    assert (counts(reading)["a.txt"], reading.troubles) == (0, ())
    again.save()
    # And from then on, in every further life.
    reading = Catalogue(catalogue.path, catalogue.state).read()
    assert (counts(reading)["a.txt"], reading.troubles) == (0, ())
    file.write_text("10.0.0.7\n")
    reading = again.read()
    assert (counts(reading)["a.txt"], reading.troubles) == (1, ())


def test_what_was_never_good_stays_a_trouble(folder: Path, catalogue: Catalogue) -> None:
    file = folder / "named.txt"
    for text in ("", HTML, "# still nothing\n", ""):
        file.write_text(text)
        reading = catalogue.read()
        assert counts(reading)["named.txt"] == 0
        assert [trouble.file for trouble in reading.troubles] == [str(file)]
        assert "there is no last good version, so it gives nothing" in reading.troubles[0].message
    file.unlink()
    (trouble,) = catalogue.read().troubles
    assert trouble.message == "there is no such file; there is no last good version, so it gives nothing"
    file.write_text("203.0.113.0/24\n")
    reading = catalogue.read()
    assert (counts(reading)["named.txt"], reading.troubles) == (1, ())
    file.unlink()
    (trouble,) = catalogue.read().troubles
    assert trouble.message == "there is no such file; its last good version with 1 entries stays in force"


def test_a_list_that_was_let_go_starts_afresh_however_soon_it_comes_back(folder: Path, catalogue: Catalogue) -> None:
    assert counts(catalogue.read())["named.txt"] == 1
    catalogue.save()
    with_it = (folder / "blocklist.yaml").read_text()
    (folder / "blocklist.yaml").write_text("block: []\n")
    assert counts(catalogue.read()) == {}
    (folder / "blocklist.yaml").write_text(with_it)
    (folder / "named.txt").write_text("")
    assert counts(catalogue.read())["named.txt"] == 0
    again = Catalogue(catalogue.path, StateFolder(folder / "state"))
    assert counts(again.read())["named.txt"] == 0


def test_a_file_that_lost_most_of_itself(folder: Path, catalogue: Catalogue) -> None:
    file = folder / "named.txt"
    lines = [f"10.1.{at >> 8}.{at & 255}\n" for at in range(1000)]
    file.write_text("".join(lines))
    assert counts(catalogue.read())["named.txt"] == 1000
    file.write_text("".join(lines[:499]))
    reading = catalogue.read()
    assert counts(reading)["named.txt"] == 1000
    assert "it has 499 entries, and had 1000" in reading.troubles[0].message
    file.write_text("".join(lines[:500]))
    reading = catalogue.read()
    assert (counts(reading)["named.txt"], reading.troubles) == (500, ())


def test_a_refused_blocklist_leaves_everything_as_it_was(folder: Path, catalogue: Catalogue) -> None:
    before = catalogue.read()
    good = (folder / "blocklist.yaml").read_text()
    (folder / "blocklist.yaml").write_text("block: [10.0.0.1/8]\n")
    for _ in range(2):
        with pytest.raises(RefusedFile):
            catalogue.read()
    (folder / "blocklist.yaml").write_text(good)
    after = catalogue.read()
    assert counts(after) == counts(before)
    assert entries(after) == entries(before) != []


def test_the_last_good_blocklist_in_another_life(folder: Path, catalogue: Catalogue) -> None:
    before = catalogue.read()
    catalogue.save()
    (folder / "blocklist.yaml").write_text("")
    again = Catalogue(catalogue.path, catalogue.state)
    with pytest.raises(RefusedFile):
        again.read()
    reading = again.read_last_good()
    assert reading is not None
    assert entries(reading) == entries(before) != []
    assert counts(reading) == {"a.txt": 2, "named.txt": 1}
    assert Catalogue(catalogue.path, StateFolder(folder / "empty")).read_last_good() is None


def test_what_is_said_of_a_named_file_holds_whatever_is_said_of_a_glob(folder: Path, catalogue: Catalogue) -> None:
    (folder / "lists" / "b.txt").write_text("10.0.0.3\n")
    (folder / "blocklist.yaml").write_text(
        "block: []\ninclude:\n  - lists/*.txt\n  - {path: lists/a.txt, action: allow}\n"
        "  - {path: lists/a.txt, reason: no}\n"
    )
    found = {Path(path).name: (include.action, include.reason) for path, _, include in catalogue.read().lists}
    assert found == {"a.txt": ("allow", ""), "b.txt": ("block", "")}


def test_a_list_that_allows_is_as_good_as_entries_under_allow(folder: Path, catalogue: Catalogue) -> None:
    blocklist = folder / "blocklist.yaml"
    blocklist.write_text("block: []\ninclude:\n  - {path: lists/a.txt, action: allow}\n  - lists/b.txt\n")
    desired = catalogue.read().desired()
    assert [Path(each.name).name for each in desired.allow] == ["blocklist.yaml", "a.txt"]
    assert [Path(each.name).name for each in desired.sources] == ["blocklist.yaml", "b.txt"]
    # What it protects stays so when the list turns bad.
    (folder / "lists" / "a.txt").write_text(HTML)
    reading = catalogue.read()
    assert reading.desired().allow[1].listing.count == 2
    assert "its last good version with 2 entries stays in force" in reading.troubles[0].message


def test_reasons_come_with_their_include(folder: Path, catalogue: Catalogue) -> None:
    assert {Path(path).name: include.reason for path, _, include in catalogue.read().lists} == {
        "a.txt": "",
        "named.txt": "theirs",
    }


# What is no file that may be read


def _fifo(path: Path) -> str:
    os.mkfifo(path)
    return "it is no regular file but a fifo"


def _socket(path: Path) -> str:
    folder = os.open(path.parent, os.O_PATH)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"/proc/self/fd/{folder}/{path.name}")  # the path itself may be longer than a socket's
    os.close(folder)
    return "it is no regular file but a socket"


def _device(path: Path) -> str:
    path.symlink_to("/dev/zero")
    return "it is no regular file but a device"


def _sparse(path: Path) -> str:
    with path.open("wb") as file:
        file.truncate(10 << 30)
    return "it has 10240 MiB, and at most 256 MiB are read"


UNFIT = [_fifo, _socket, _device, _sparse]


@contextmanager
def little_memory() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.threat_model
@pytest.mark.parametrize("make", UNFIT)
def test_a_list_that_is_no_file_to_be_read_is_named(
    folder: Path, catalogue: Catalogue, make: Callable[[Path], str]
) -> None:
    """Named, or found by a glob."""
    (folder / "named.txt").unlink()
    why = make(folder / "named.txt")
    make(folder / "lists" / "b.txt")
    with little_memory():
        reading = catalogue.read()
    assert [(trouble.file, trouble.message) for trouble in reading.troubles] == [
        (str(folder / path), f"cannot be read: {why}; there is no last good version, so it gives nothing")
        for path in ("lists/b.txt", "named.txt")
    ]
    assert counts(reading)["a.txt"] == 2


def test_a_glob_passes_over_folders_and_links_to_nowhere(folder: Path, catalogue: Catalogue) -> None:
    (folder / "lists" / "b.txt").mkdir()
    (folder / "lists" / "c.txt").symlink_to("nowhere")
    reading = catalogue.read()
    assert (list(counts(reading)), reading.troubles) == (["a.txt", "named.txt"], ())


@pytest.mark.parametrize("make", UNFIT)
def test_a_blocklist_that_is_no_file_to_be_read_is_refused(
    folder: Path, catalogue: Catalogue, make: Callable[[Path], str]
) -> None:
    (folder / "blocklist.yaml").unlink()
    why = make(folder / "blocklist.yaml")
    with little_memory(), pytest.raises(RefusedFile) as refusal:
        catalogue.read()
    assert refusal.value.problems[0].message == f"cannot be read: {why}"


@pytest.mark.parametrize("make", UNFIT)
def test_check_names_what_is_no_file_to_be_read(folder: Path, make: Callable[[Path], str]) -> None:
    settings = folder / "xdropd.yaml"
    why = make(settings)
    with little_memory():
        problems, _ = problems_of(str(settings), str(folder / "blocklist.yaml"), str(folder / "nobody.sock"))
    assert [(problem.file, problem.message) for problem in problems] == [(str(settings), f"cannot be read: {why}")]
    with pytest.raises(RefusedFile, match=why):
        SettingsFile(str(settings), None).read()


@pytest.mark.parametrize("make", UNFIT)
def test_a_last_good_version_that_is_no_file_to_be_read_is_none(
    folder: Path, catalogue: Catalogue, make: Callable[[Path], str]
) -> None:
    catalogue.read()
    catalogue.save()
    for kept in [path for path in (folder / "state").rglob("*") if path.is_file()]:
        kept.unlink()
        make(kept)
    (folder / "blocklist.yaml").write_text("block: [nonsense]\n")
    (folder / "xdropd.yaml").symlink_to("blocklist.yaml")
    with little_memory():
        again = Catalogue(catalogue.path, catalogue.state)
        assert again.read_last_good() is None
        make(folder / "state" / "last-good" / "xdropd.yaml")
        assert SettingsFile(str(folder / "xdropd.yaml"), catalogue.state).last_good() is None


KP, XX = ({"country_code": code} for code in ("KP", "XX"))


def test_an_include_that_does_nothing_is_told(folder: Path, catalogue: Catalogue) -> None:
    """Another one has named the file, and says something else of it."""
    (folder / "world.mmdb").write_bytes(database({"192.0.2.0/24": KP, "2001:db8::/32": XX}))
    (folder / "blocklist.yaml").write_text(
        "block: []\ninclude:\n  - {path: world.mmdb, select: [country=KP]}\n  - named.txt\n  - named.txt\n"
        "  - {path: ./world.mmdb, select: [country=XX], action: monitor}\n  - '*.txt'\n"
    )
    reading = catalogue.read()
    assert [(include.action, include.select) for _, _, include in reading.lists if include.select] == [
        ("block", ("country=KP",))
    ]
    (warning,) = reading.warnings
    assert str(warning) == (
        f"{folder}/blocklist.yaml:6:12: warning: this does nothing, for line 3 includes ./world.mmdb already"
    )


def test_a_database_keeps_its_last_good_version(folder: Path, catalogue: Catalogue) -> None:
    def include(select: str) -> None:
        text = f"block: []\ninclude:\n  - {{path: world.mmdb, select: [{select}]}}\n"
        (folder / "blocklist.yaml").write_text(text)

    def troubles(reading: Reading) -> list[str]:
        return [problem.message for problem in reading.troubles]

    def facts(which: Catalogue) -> tuple[str | None, ...]:
        return tuple(
            which.facts_of(*parse_span(address)[:2]).country for address in ("192.0.2.7", "2001:db8::1", "::9")
        )

    world = folder / "world.mmdb"
    world.write_bytes(database({"192.0.2.0/24": KP, "2001:db8::/32": XX}))
    include("country=KP, country=QQ")
    reading = catalogue.read()
    assert (counts(reading), troubles(reading)) == ({"world.mmdb": 2}, [])
    assert [warning.message for warning in reading.warnings] == ["there is nothing in it for country=QQ"]
    assert facts(catalogue) == ("KP", "XX", None), "before it is kept"
    catalogue.save()
    world.write_bytes(world.read_bytes()[:-120])
    reading = catalogue.read()
    assert counts(reading) == {"world.mmdb": 2}
    assert "cannot be decoded" in troubles(reading)[0]
    assert "last good version with 2 entries stays in force" in troubles(reading)[0]
    assert facts(catalogue) == ("KP", "XX", None), "what counts is the version that was good"
    again = Catalogue(catalogue.path, catalogue.state)
    assert counts(again.read()) == {"world.mmdb": 2}
    # It is the same version for another selection; where that makes no sense, it gives nothing.
    include("country=XX")
    assert counts(catalogue.read()) == {"world.mmdb": 1}
    include("asn=64496")
    reading = catalogue.read()
    assert counts(reading) == {"world.mmdb": 0}
    # Nor can it be accepted while it cannot be read.
    assert counts(catalogue.read(accept=str(world))) == {"world.mmdb": 0}
    assert facts(Catalogue(catalogue.path, None)) == (None, None, None)


def test_a_database_that_has_shrunk_keeps_its_last_good_version(folder: Path, catalogue: Catalogue) -> None:
    (folder / "blocklist.yaml").write_text("block: []\ninclude:\n  - {path: world.mmdb, select: [country=KP]}\n")
    many = {f"192.0.2.{at}/32": KP for at in range(0, 256, 2)}
    world = folder / "world.mmdb"
    world.write_bytes(database(many))
    assert not catalogue.read().troubles
    world.write_bytes(database(dict(list(many.items())[:50])))
    assert "it has 51 entries, and had 129" in catalogue.read().troubles[0].message
    assert not catalogue.read(accept=str(world)).troubles


# ---- URLs ----

URL = "https://lists.example/drop.txt"


@pytest.fixture
def by_url(folder: Path) -> Catalogue:
    (folder / "fetched").mkdir()
    (folder / "blocklist.yaml").write_text(f"block: []\ninclude:\n  - {{url: {URL}, reason: theirs}}\n  - {URL}\n")
    return Catalogue(str(folder / "blocklist.yaml"), StateFolder(folder / "state"), folder / "fetched")


def test_a_url_is_awaited_then_a_list_called_by_its_name(folder: Path, by_url: Catalogue) -> None:
    reading = by_url.read()
    assert (reading.awaited, reading.troubles) == ((URL,), ())
    assert list(reading.urls()) == [URL]
    file = list_path(folder / "fetched", URL)
    assert file in by_url.followed()[0]
    file.write_text("192.0.2.1\nrubbish\n")
    reading = by_url.read()
    assert reading.awaited == ()
    assert [trouble.file for trouble in reading.troubles] == [URL]
    file.write_text("192.0.2.1\n" * 20 + "rubbish\n192.0.2.2\n")
    reading = by_url.read()
    assert reading.troubles == ()
    assert [(name, include.reason) for name, _, include in reading.lists] == [(URL, "theirs")]
    assert str(reading.warnings[0]).startswith(f"{URL}:21:1: warning: ")
    assert by_url.includes(URL)
    assert not by_url.includes(str(file))


def test_a_database_comes_by_url_as_well(folder: Path, by_url: Catalogue) -> None:
    (folder / "blocklist.yaml").write_text(f"block: []\ninclude:\n  - {{url: {URL}, select: [country=KP]}}\n")
    list_path(folder / "fetched", URL).write_bytes(database({"192.0.2.0/24": KP, "2001:db8::/32": XX}))
    reading = by_url.read()
    assert (reading.troubles, reading.awaited) == ((), ())
    ((name, content, _),) = reading.lists
    assert (name, content.listing.count, content.listing.selections.sizes) == (URL, 1, (256,))


def test_a_list_by_url_is_as_wide_as_its_include_says(folder: Path, by_url: Catalogue) -> None:
    say = "block: []\ninclude: [{{url: {}, widest: {}}}]\n"
    list_path(folder / "fetched", URL).write_text("".join(f"10.{at}.0.0/16\n" for at in range(200)))
    for widest in (16, 24, 16):
        (folder / "blocklist.yaml").write_text(say.format(URL, widest))
        reading = by_url.read()
        assert counts(reading) == {"drop.txt": 200 if widest == 16 else 0}
        assert reading.troubles == (), "another width is no other version of the list"
        by_url.save()


def test_a_url_keeps_its_last_good_version_until_it_is_accepted(folder: Path, by_url: Catalogue) -> None:
    file = list_path(folder / "fetched", URL)
    file.write_text("192.0.2.1\n")
    by_url.read()
    by_url.save()
    file.write_text("# nothing\n")
    (trouble,) = by_url.read().troubles
    assert trouble.file == URL
    assert "it has no entries any more, and had 1; its last good version" in trouble.message
    another = Catalogue(by_url.path, by_url.state, folder / "fetched")
    assert counts(another.read()) == {"drop.txt": 1}
    assert another.read(accept=URL).troubles == ()
    assert counts(another.read()) == {"drop.txt": 0}


def test_what_was_fetched_may_be_removed(folder: Path, by_url: Catalogue) -> None:
    """It comes again; until then what it gave stays, in this process and in the next one."""
    file = list_path(folder / "fetched", URL)
    file.write_text("192.0.2.1\n")
    by_url.read()
    by_url.save()
    file.unlink()
    for each in (by_url, Catalogue(by_url.path, by_url.state, folder / "fetched")):
        reading = each.read()
        assert counts(reading) == {"drop.txt": 1}
        assert (reading.awaited, reading.troubles) == ((URL,), ())
    file.write_text("192.0.2.1\n")
    assert by_url.read().awaited == ()


@pytest.mark.threat_model
def test_with_a_sum_only_what_is_told_to_have_it_is_taken(folder: Path, by_url: Catalogue) -> None:
    """Whatever lies there: the fetcher's word is beside it, and comes a moment later."""
    fetched = folder / "fetched"
    sums = {name: name * 32 for name in ("00", "aa", "bb", "cc")}
    pin = "block: []\ninclude:\n  - {{url: {}, sha256: {}}}\n"
    (folder / "blocklist.yaml").write_text(pin.format(URL, sums["aa"]))
    list_path(fetched, URL).write_text("192.0.2.1\n")
    reading = by_url.read()
    assert (counts(reading), reading.awaited, reading.troubles) == ({"drop.txt": 0}, (URL,), ())
    assert state_path(fetched, URL) in by_url.followed()[0], "it is read again once its sum is told"
    write_state(fetched, State(URL, sha256=sums["00"], sha256_coded=sums["cc"]))
    for accept in (None, URL):
        reading = by_url.read(accept=accept)
        (trouble,) = reading.troubles
        assert trouble.message == (
            f"what has come has the SHA-256 {sums['00']} and not the one that 'sha256' says; "
            "there is no last good version, so it gives nothing"
        )
        assert (counts(reading), reading.awaited) == ({"drop.txt": 0}, ())
    for told in (State(URL, sha256=sums["aa"]), State(URL, sha256=sums["00"], sha256_coded=sums["aa"])):
        write_state(fetched, told)
        reading = by_url.read()
        assert (counts(reading), reading.awaited, reading.troubles) == ({"drop.txt": 1}, (), ())
        assert state_path(fetched, URL) not in by_url.followed()[0]
    by_url.save()
    (folder / "blocklist.yaml").write_text(pin.format(URL, sums["bb"]))
    list_path(fetched, URL).write_text("192.0.2.1\n192.0.2.2\n")
    for each in (by_url, Catalogue(by_url.path, by_url.state, fetched)):
        reading = each.read()
        assert counts(reading) == {"drop.txt": 1}, "what was in force stays until the other one comes"
        assert "its last good version with 1 entries stays" in reading.troubles[0].message
    write_state(fetched, State(URL, sha256=sums["bb"]))
    assert counts(by_url.read()) == {"drop.txt": 2}


def _link(path: Path) -> str:
    secret = path.with_name("secret")
    secret.write_text("192.0.2.1\n" * 20 + "passphrase\n")
    path.symlink_to(secret)
    return "it is no regular file but a symbolic link"


@pytest.mark.threat_model
@pytest.mark.parametrize("make", [_link, _fifo])
def test_what_a_fetcher_puts_there_is_a_file_of_its_own(
    folder: Path, by_url: Catalogue, make: Callable[[Path], str]
) -> None:
    why = make(list_path(folder / "fetched", URL))
    reading = by_url.read()
    (trouble,) = reading.troubles
    assert trouble.message == f"cannot be read: {why}; there is no last good version, so it gives nothing"
    assert counts(reading) == {"drop.txt": 0}
    assert not any(warning.file == URL for warning in reading.warnings)
