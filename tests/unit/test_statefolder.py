"""The state folder: one daemon's at a time, for as long as that lives."""

import os
import subprocess
from pathlib import Path

import pytest

from xdropd.commands import xdropd
from xdropd.host.statefolder import StateFolder


def _released(folder: StateFolder) -> None:
    """What the end of a process does."""
    assert folder._lock is not None
    os.close(folder._lock)


def test_the_folder_is_one_daemons(tmp_path: Path) -> None:
    first, second = StateFolder(tmp_path / "state"), StateFolder(tmp_path / "state")
    first.hold()
    first.hold()
    with pytest.raises(BlockingIOError) as refusal:
        second.hold()
    assert refusal.value.filename == str(second.path)
    with pytest.raises(BlockingIOError):
        second.save("name", b"something")
    first.save("name", b"mine")
    _released(first)
    second.save("name", b"something")
    assert second.load("name") == b"something"


def test_no_child_inherits_the_lock(tmp_path: Path) -> None:
    first = StateFolder(tmp_path)
    first.hold()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False) as child:
        _released(first)
        StateFolder(tmp_path).hold()
        child.communicate()


def test_a_folder_that_was_made_anew_is_locked_anew(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "state")
    folder.hold()
    folder.path.rmdir()
    folder.save("name", b"something")
    with pytest.raises(BlockingIOError):
        StateFolder(folder.path).hold()


@pytest.mark.parametrize(
    ("option", "variable", "folder"),
    [
        (None, None, None),
        (None, "", None),
        (None, "/var/lib/xdropd", Path("/var/lib/xdropd")),
        (None, "/var/lib/xdropd:/var/lib/more", Path("/var/lib/xdropd")),
        ("state", "/var/lib/xdropd", Path("state")),
    ],
)
def test_there_is_one_only_if_somebody_says_so(
    monkeypatch: pytest.MonkeyPatch, option: str | None, variable: str | None, folder: Path | None
) -> None:
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    if variable is not None:
        monkeypatch.setenv("STATE_DIRECTORY", variable)
    assert xdropd._state_folder(option) == folder
