"""scripts/demo shows what it promises, and leaves nothing behind however it ends."""

import os
import re
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
    before = _namespaces()  # another demo may be up, or one may have been killed without a chance to tidy up
    yield tmp_path
    assert list(tmp_path.iterdir()) == []
    assert _namespaces() <= before
    assert not _processes_that_mention(str(tmp_path))


def _namespaces() -> set[str]:
    listed = subprocess.run(["ip", "netns", "list"], check=True, capture_output=True, text=True).stdout
    return {line.split()[0] for line in listed.splitlines() if line.startswith("xdrop-demo-")}


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


def test_a_ban_on_one_host_of_a_fleet_is_a_ban_on_all_of_them(temporary: Path) -> None:
    demo = _start(temporary, "--fleet")
    said, _ = demo.communicate(timeout=120)
    assert demo.returncode == 0, said
    told = re.findall(r"from 192\.0\.2\.([123]): .*: (the last answer|answered|answered again), \d", said)
    order = ("answered", "the last answer", "answered again", "the last answer", "answered again")
    assert told == [(host, what) for what in order for host in "123"], said
    assert "reason  knocking (cscli)" in said
    assert "reason  fail2ban-sshd@web2 (xdropd)" in said


def test_a_fleet_that_is_interrupted_tidies_up_as_well(temporary: Path) -> None:
    demo = _start(temporary, "--fleet", "--keep")

    def companions() -> list[str]:
        return [command for command in _processes_that_mention(f"{temporary}/") if "xdropd_crowdsec" in command]

    wait_until(companions, within_s=60, what="a companion runs")
    demo.send_signal(signal.SIGINT)
    demo.communicate(timeout=20)
    assert demo.returncode == 128 + signal.SIGINT


@pytest.mark.parametrize("arguments", [["--stay"], ["--keep", "--stay"]])
def test_wrong_usage_says_how_it_is_used(arguments: list[str]) -> None:
    done = subprocess.run([DEMO, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--keep" in done.stdout
