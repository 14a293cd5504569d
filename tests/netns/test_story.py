"""The main job on real packets, as a story with controls: passes, add, blocked, the neighbour still passes, remove,
passes. Once for each way in which people and programs save a file.
"""

import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from foreground import Daemon

from netns import Net
from waiting import wait_until

VILLAIN = "198.51.100.66"
EMPTY = "block: []\n"
LISTED = f"block:\n  - {VILLAIN}\n"

# The contract's second for a change to be in force, and one for the ping that finds out.
CHANGE_WITHIN_S = 2.0


@pytest.fixture
def net() -> Iterator[Net]:
    """Two hosts, the peer with a second address: the villain's."""
    with Net() as made:
        made.address(made.peer, f"{VILLAIN}/{made.length}")
        yield made


def in_place(file: Path, text: str) -> None:
    """`echo … > file`."""
    file.write_text(text)


def renamed_over(file: Path, text: str) -> None:
    """As configuration management does."""
    new = file.with_name(f".{file.name}.new")
    new.write_text(text)
    new.replace(file)


def as_sed_does(file: Path, text: str) -> None:
    """The whole file becomes its first line, and that the text."""
    subprocess.run(["sed", "--in-place", f"1s/.*/{text.strip().replace(chr(10), chr(92) + 'n')}/;1q", file], check=True)


def as_vim_does(file: Path, text: str) -> None:
    """With `backupcopy=no`: the old file becomes the backup, a new one is written, the backup goes."""
    backup = file.with_name(file.name + "~")
    file.rename(backup)
    file.write_text(text)
    backup.unlink()


def slowly(file: Path, text: str) -> None:
    """A writer who takes a while and never leaves the file whole until the end."""
    with file.open("w") as out:
        for character in text:
            out.write(character)
            out.flush()


def by_swapping_a_link(file: Path, text: str) -> None:
    """As Kubernetes mounts a ConfigMap: the name stays, what it points at is another file."""
    generations = file.parent / "generations"
    generations.mkdir(exist_ok=True)
    target = generations / str(len(list(generations.iterdir())))
    target.write_text(text)
    new = file.with_name("new-link")
    new.symlink_to(target)
    new.replace(file)


def by_renaming_the_folder(file: Path, text: str) -> None:
    """The folder goes away, the file changes there, the folder comes back."""
    away = file.parent.with_name("away")
    file.parent.rename(away)
    (away / file.name).write_text(text)
    away.rename(file.parent)


def by_making_the_folder_anew(file: Path, text: str) -> None:
    """Another folder takes the old one's place."""
    new = file.parent.with_name("new")
    new.mkdir()
    (new / file.name).write_text(text)
    for other in file.parent.iterdir():
        other.unlink()
    new.rename(file.parent)


@pytest.mark.parametrize(
    "save",
    [
        in_place,
        renamed_over,
        as_sed_does,
        as_vim_does,
        slowly,
        by_swapping_a_link,
        by_renaming_the_folder,
        by_making_the_folder_anew,
    ],
)
def test_the_story(net: Net, tmp_path: Path, save: Callable[[Path, str], None]) -> None:
    assert net.answers(VILLAIN)
    with Daemon(net, tmp_path) as daemon:
        assert net.answers(VILLAIN)
        for round_ in (1, 2):  # what is deaf after the first change is found out by the second
            save(daemon.blocklist, LISTED)
            wait_until(lambda: not net.answers(VILLAIN), within_s=CHANGE_WITHIN_S, what=f"blocked, {round_}")
            assert net.answers(net.peer_address)
            save(daemon.blocklist, EMPTY)
            wait_until(lambda: net.answers(VILLAIN), within_s=CHANGE_WITHIN_S, what=f"let in again, {round_}")
            assert net.answers(net.peer_address)
        assert "blocklist: 1 added, 0 removed, 1 in force" in daemon.log
        assert "blocklist: 0 added, 1 removed, 0 in force" in daemon.log


@pytest.mark.parametrize(
    ("how", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 0), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_nothing_is_left_after_any_exit(net: Net, tmp_path: Path, how: signal.Signals, status: int) -> None:
    with Daemon(net, tmp_path, LISTED) as daemon:
        assert "xdp" in net.run(net.host, "ip", "link", "show", net.device)
        assert not net.answers(VILLAIN)
        assert daemon.stop(how) == status
    wait_until(lambda: "xdp" not in net.run(net.host, "ip", "link", "show", net.device), within_s=1)
    assert net.answers(VILLAIN)
    assert not daemon.socket.exists() or how is signal.SIGKILL


def test_a_hangup_reloads_at_once(net: Net, tmp_path: Path) -> None:
    with Daemon(net, tmp_path, LISTED) as daemon:
        assert not net.answers(VILLAIN)
        daemon.blocklist.write_text(EMPTY)
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: net.answers(VILLAIN), within_s=CHANGE_WITHIN_S)


@pytest.mark.threat_model
def test_what_is_refused_leaves_the_list_in_force(net: Net, tmp_path: Path) -> None:
    with Daemon(net, tmp_path, LISTED) as daemon:
        daemon.blocklist.write_text(f"block:\n  - {net.peer_address}\n  - 10.0.0.1/8\n")
        wait_until(lambda: f"{daemon.blocklist}:3:5: error: " in daemon.log, within_s=CHANGE_WITHIN_S)
        assert not net.answers(VILLAIN)
        assert net.answers(net.peer_address)
