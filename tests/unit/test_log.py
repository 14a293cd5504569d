"""The log, written to somebody who reads, does not read for a while, or is gone."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from xdropd.host import log
from xdropd.host.log import Log


@pytest.fixture
def on_pipe() -> Iterator[Callable[[], int]]:
    """Makes standard error a pipe, and returns its reading end, which does not block."""
    kept = os.dup(2)
    reading, writing = os.pipe()
    os.set_blocking(reading, False)

    def begin() -> int:
        os.dup2(writing, 2)
        os.close(writing)
        return reading

    yield begin
    os.dup2(kept, 2)
    for descriptor in (kept, reading):
        os.close(descriptor)


def read(descriptor: int) -> str:
    came = b""
    try:
        while chunk := os.read(descriptor, 1 << 16):
            came += chunk
    except BlockingIOError:
        pass
    return came.decode()


def test_a_pipe_that_nobody_reads_loses_what_does_not_fit_and_says_so(on_pipe: Callable[[], int]) -> None:
    reading = on_pipe()
    told = Log()
    count = 5000
    for number in range(count):
        told.info("test", f"line {number:05} {'.' * 100}")
    came = read(reading)
    while told._waiting:
        told.flush()
        came += read(reading)
    told.flush()
    came += read(reading)
    *lines, last = came.splitlines()
    assert lines == [f"xdropd: info: line {number:05} {'.' * 100}" for number in range(len(lines))]
    assert log._WAITING_AT_MOST < len(lines) < count
    assert last == f"xdropd: warning: {count - len(lines):,} lines of this log were not written, for nobody read it"
    told.info("test", "and goes on")
    assert read(reading) == "xdropd: info: and goes on\n"


def test_the_pipe_stays_as_others_who_write_to_it_know_it(on_pipe: Callable[[], int]) -> None:
    on_pipe()
    Log().info("test", "line")
    assert os.get_blocking(2)


def test_a_line_longer_than_a_pipe_takes_at_once_comes_whole(on_pipe: Callable[[], int]) -> None:
    reading = on_pipe()
    told = Log()
    for _ in range(20):
        told.info("test", "ä" * 7000)
    came = read(reading)
    while told._waiting:
        told.flush()
        came += read(reading)
    assert came == f"xdropd: info: {'ä' * 7000}\n" * 20


def test_a_reader_that_is_gone_is_no_failure(on_pipe: Callable[[], int]) -> None:
    reading = on_pipe()
    os.dup2(os.open("/dev/null", os.O_RDONLY), reading)
    told = Log()
    told.info("test", "line")
    told.flush(0.05)


@pytest.mark.parametrize(
    ("message", "lines"),
    [
        ("two\nlines", ["two", "lines"]),
        (
            "caf\udce9.netset: \x1b[2J\u2028 all of it on one line",
            [r"caf\xe9.netset: \x1b[2J\xe2\x80\xa8 all of it on one line"],
        ),
        ("x" * 10_000, ["x" * 7999 + "…"]),
    ],
)
def test_any_text_comes_out(message: str, lines: list[str], on_pipe: Callable[[], int]) -> None:
    reading = on_pipe()
    Log().error("test", message)
    assert read(reading).splitlines() == [f"xdropd: error: {line}" for line in lines]


def test_a_file_is_appended_to_where_others_are(tmp_path: Path) -> None:
    """As with `xdropd 2> log`, where the shell and its children share one offset."""
    script = "from xdropd.host.log import Log; Log().info('test', 'ours')"
    with (tmp_path / "log").open("w+b", buffering=0) as file:
        file.write(b"before\n")
        subprocess.run([sys.executable, "-c", script], stderr=file, check=True)
        file.write(b"after\n")
        file.seek(0)
        assert file.read() == b"before\nxdropd: info: ours\nafter\n"


@pytest.mark.parametrize("descriptor", [0, 1, 2])
def test_no_file_is_taken_for_a_standard_stream_that_is_closed(descriptor: int) -> None:
    script = """
import os
from xdropd.commands.xdropd import main
assert main(["--check", "--blocklist", "/nowhere"]) == 78
os._exit(os.open("/dev/null", os.O_RDONLY) <= 2)
"""
    command = f'exec "$0" -c "$1" {descriptor}>&-'
    assert subprocess.run(["sh", "-c", command, sys.executable, script], check=False).returncode == 0
