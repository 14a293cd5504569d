"""scripts/demo shows what it promises, and leaves nothing behind however it ends."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from waiting import wait_until

DEMO = Path(__file__).parents[2] / "scripts" / "demo"


@pytest.fixture
def temporary(tmp_path: Path) -> Iterator[Path]:
    """Where the demo puts its files; nothing of it is left there, nor a namespace or a process, when the test ends."""
    yield tmp_path
    assert list(tmp_path.iterdir()) == []
    namespaces = subprocess.run(["ip", "netns", "list"], check=True, capture_output=True, text=True).stdout
    assert "xdrop-demo-" not in namespaces
    assert not _processes_that_mention(str(tmp_path))


def _processes_that_mention(text: str) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = process.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended meanwhile
        if text in command:
            found.append(command)
    return found


def _start(temporary: Path, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        # A runner that ignores SIGINT hands that down, and a shell cannot trap what it was started ignoring.
        ["env", "--default-signal=INT", DEMO, *arguments],
        env={**os.environ, "TMPDIR": str(temporary)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_the_ping_arrives_stops_and_arrives_again(temporary: Path) -> None:
    demo = _start(temporary)
    said, _ = demo.communicate(timeout=60)
    assert demo.returncode == 0, said
    losses = [line.partition("received, ")[2].partition(" packet loss")[0] for line in said.splitlines()]
    assert [loss for loss in losses if loss] == ["0%", "100%", "100%", "0%"], said
    assert "blocklist: 1 added, 0 removed, 1 in force" in said
    assert "blocklist: 0 added, 1 removed, 0 in force" in said


def test_keep_lets_the_reader_edit_until_ctrl_c(temporary: Path) -> None:
    demo = _start(temporary, "--keep")
    said = []
    assert demo.stdout is not None
    for line in demo.stdout:
        said.append(line)
        if line.startswith("The log, until Ctrl-C"):
            break
    (path,) = {line.strip() for line in said if line.startswith("    ") and line.endswith("blocklist.yaml\n")}
    Path(path).write_text("block:\n  - 192.0.2.66\n")
    for line in demo.stdout:
        if "dropped" in line and "from 192.0.2.66" in line:
            break
    demo.send_signal(signal.SIGINT)
    rest, _ = demo.communicate(timeout=20)
    assert demo.returncode == 0, "".join(said) + rest


def test_interrupted_half_way_it_tidies_up(temporary: Path) -> None:
    demo = _start(temporary)
    wait_until(lambda: _processes_that_mention(f"{temporary}/"), within_s=20, what="the daemon runs")
    demo.send_signal(signal.SIGTERM)
    demo.communicate(timeout=20)
    assert demo.returncode == 128 + signal.SIGTERM


def test_wrong_usage_says_how_it_is_used() -> None:
    done = subprocess.run([DEMO, "--stay"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--keep" in done.stdout
