"""The watcher where no event comes: bind mounts in a mount namespace, inotify limits in a user namespace.

Both are real; neither is felt outside. The reader runs in a process of its own there and is driven over a pipe.
"""

import os
import select
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

UNIT = Path(__file__).parent.parent / "unit"

DRIVEN_READER = """
import sys
from pathlib import Path
from test_watch import Reader

path = Path(sys.argv[1])
reader = Reader(path)
reader.idle(0.1)
print("ready", flush=True)
for command, argument in map(str.split, sys.stdin):
    if command in {"sees", "hears"}:
        print("at work", flush=True)
        getattr(reader, command)(path, argument.encode())
    elif command == "later":
        reader.ahead_s += float(argument)
        reader.idle(0.1)
    print(reader.watcher.problem or "no problem", flush=True)
"""


class DrivenReader:
    """A reader of one file behind `unshare` and its options."""

    def __init__(self, path: Path, *unshare: str) -> None:
        self._child = subprocess.Popen(
            ["unshare", *unshare, sys.executable, "-c", DRIVEN_READER, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            env={**os.environ, "PYTHONPATH": os.pathsep.join((str(UNIT), *sys.path))},
        )
        assert self._answer() == "ready"

    def close(self) -> None:
        self._child.kill()
        self._child.communicate()

    def _say(self, command: str) -> str:
        self._child.stdin.write(command + "\n")
        return self._answer()

    def _answer(self) -> str:
        assert select.select([self._child.stdout], [], [], 10)[0], "no answer"
        return self._child.stdout.readline().strip()

    def run(self, *command: str) -> None:
        """In its mount namespace."""
        subprocess.run(["nsenter", "-t", str(self._child.pid), "-m", "--", *command], check=True)

    def sysctl(self, name: str, value: int) -> None:
        """In its user namespace, whose limits these files show."""
        write = ["sh", "-c", f"echo {value} > /proc/sys/user/{name}"]
        subprocess.run(
            ["nsenter", "-t", str(self._child.pid), "-U", "--preserve-credentials", "--", *write], check=True
        )

    def sees(self, content: str, change: Callable[[], object], *, by_ear: bool = False) -> str:
        """Make a change; its content has to be read within a second, or at once by events alone. The problem then."""
        assert self._say(f"{'hears' if by_ear else 'sees'} {content}") == "at work"
        change()
        return self._answer()

    def hears(self, content: str, change: Callable[[], object]) -> None:
        """As `sees`, by events alone, and without a problem."""
        assert self.sees(content, change, by_ear=True) == "no problem"

    def later(self, seconds: float) -> str:
        """Put its clock forward; the watcher's problem then."""
        return self._say(f"later {seconds}")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "etc" / "blocklist.yaml"
    path.parent.mkdir()
    path.write_bytes(b"old")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "list").write_bytes(b"mounted")
    return path


@pytest.fixture
def driven(file):
    readers = []

    def start(*unshare: str) -> DrivenReader:
        readers.append(DrivenReader(file, *unshare))
        return readers[-1]

    yield start
    for reader in readers:
        reader.close()


def rename_over(path: Path, content: bytes) -> None:
    new = path.with_name(path.name + ".new")
    new.write_bytes(content)
    new.rename(path)


def test_a_file_mounted_over_the_file(driven, file, tmp_path):
    reader = driven("--mount", "--propagation", "private")
    other = tmp_path / "other" / "list"
    reader.sees("mounted", lambda: reader.run("mount", "--bind", str(other), str(file)))
    # No event ever tells of a write to the mounted file: its folder is not the one that is watched.
    reader.sees("in-place", lambda: other.write_bytes(b"in-place"))
    reader.sees("old", lambda: reader.run("umount", str(file)))
    reader.hears("new", lambda: rename_over(file, b"new"))


def test_a_folder_mounted_over_the_folder(driven, file, tmp_path):
    reader = driven("--mount", "--propagation", "private")
    other = tmp_path / "other" / "blocklist.yaml"
    other.write_bytes(b"mounted")
    reader.sees("mounted", lambda: reader.run("mount", "--bind", str(other.parent), str(file.parent)))
    reader.hears("renamed", lambda: rename_over(other, b"renamed"))
    reader.sees("old", lambda: reader.run("umount", str(file.parent)))
    reader.hears("new", lambda: rename_over(file, b"new"))


def test_a_file_system_that_is_unmounted(driven, file):
    reader = driven("--mount", "--propagation", "private")
    folder = str(file.parent)
    fill = f"mount -t tmpfs none {folder} && echo -n new > {file}"
    reader.sees("new", lambda: reader.run("sh", "-c", fill))
    reader.sees("old", lambda: reader.run("umount", folder))
    reader.hears("newer", lambda: rename_over(file, b"newer"))


@pytest.mark.parametrize(
    ("limit", "problem"),
    [
        (
            "max_inotify_watches",
            "inotify watches are used up: changes are noticed within a second; raise fs.inotify.max_user_watches",
        ),
        (
            "max_inotify_instances",
            "inotify instances are used up: changes are noticed within a second; raise fs.inotify.max_user_instances",
        ),
    ],
)
def test_inotify_exhausted(driven, file, limit, problem):
    """Every change is found by stat alone, the operator is told why that takes longer, and it ends by itself.

    It is tried again more and more rarely, for each failure costs watchdog a few descriptors.
    """
    set_and_go = f'echo 0 > /proc/sys/user/{limit}; exec "$@"'
    reader = driven("--user", "--map-root-user", "sh", "-c", set_and_go, "sh")
    for number, save in enumerate((rename_over, Path.write_bytes, rename_over)):
        content = f"new{number}"
        assert reader.sees(content, lambda save=save, text=content: save(file, text.encode())) == problem
    descriptors = len(list(Path("/proc", str(reader._child.pid), "fd").iterdir()))
    for _ in range(60):
        assert reader.later(61) == problem
    assert len(list(Path("/proc", str(reader._child.pid), "fd").iterdir())) <= descriptors + 6 * 3

    reader.sysctl(limit, 100)
    assert reader.later(86_401) == "no problem"
    reader.hears("newest", lambda: rename_over(file, b"newest"))
