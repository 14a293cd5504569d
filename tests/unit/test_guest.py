"""A guest scans a part of a text: what comes back is what would be found here, or nothing, whatever becomes of it."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waiting import wait_until
from xdropd.host import guest
from xdropd.host.guest import Guest
from xdropd.text import blocklist, packedruns, runs

ORDER = random.Random(3)
LINES = [
    *(f"  - 192.0.{at >> 8}.{at & 255}" for at in range(3000)),
    *(f"  - 2001:db8::{at:x}/128" for at in range(3000)),
    *(f"  - 10.{at >> 8}.{at & 255}.7-10.{at >> 8}.{at & 255}.99" for at in range(3000)),
    *(f"  - address: 203.0.{at >> 8}.{at & 255}\n    reason: number {at % 7}" for at in range(3000)),
    *(f"  - address: 198.51.{at >> 8}.{at & 255}\n    until: 2027-01-01T00:00:{at % 60:02d}Z" for at in range(3000)),
]
TEXT = ("block:\n" + "\n".join(LINES) + "\n").encode()
PACKED = b"".join(packedruns.pack(list(runs.scan(TEXT, 0, len(TEXT)))))


@pytest.fixture(autouse=True)
def _large_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "_WORTH_BYTES", 1)
    monkeypatch.setattr(runs, "_HEAD_START_BYTES", 0)


class Watched(Guest):
    """Whose process somebody does something to, as soon as it is there."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, harm: Callable[["subprocess.Popen[bytes]"], object]) -> None:
        self.answers = 0
        started = guest._started

        def and_harmed(text: int, answer: int) -> "subprocess.Popen[bytes]":
            process = started(text, answer)
            harm(process)
            return process

        answered = guest._answered

        def and_counted(process: "subprocess.Popen[bytes]", answer: int, size: int) -> list[runs.Run] | None:
            found = answered(process, answer, size)
            self.answers += found is not None
            return found

        monkeypatch.setattr(guest, "_started", and_harmed)
        monkeypatch.setattr(guest, "_answered", and_counted)


def same(one: blocklist.Blocklist, other: blocklist.Blocklist) -> bool:
    """Whether they say the same, line by line. Where runs begin depends on where the text was cut."""
    return list(one.block.rows()) == list(other.block.rows()) and abs(len(one.runs) - len(other.runs)) <= 1


def test_what_a_guest_finds_is_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, lambda _: None)
    assert same(blocklist.read(TEXT, "f", None, watched), blocklist.read(TEXT, "f"))
    assert watched.answers == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_guest_that_ends_or_stops_is_done_without(monkeypatch: pytest.MonkeyPatch, number: signal.Signals) -> None:
    monkeypatch.setattr(guest, "_SECONDS_AT_MOST", 0.5)
    watched = Watched(monkeypatch, lambda process: os.kill(process.pid, number))
    assert same(blocklist.read(TEXT, "f", None, watched), blocklist.read(TEXT, "f"))
    assert watched.answers == 0


def test_where_no_process_can_be_had_it_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent")
    assert same(blocklist.read(TEXT, "f", None, Guest()), blocklist.read(TEXT, "f"))


def test_it_has_no_powers_and_is_gone_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    processes: list[subprocess.Popen[bytes]] = []

    def look(process: "subprocess.Popen[bytes]") -> None:
        processes.append(process)
        status = Path(f"/proc/{process.pid}/status")
        wait_until(lambda: "NoNewPrivs:\t1" in status.read_text(), within_s=10, what="it gives up its powers")
        wait_until(lambda: "CapPrm:\t0000000000000000" in status.read_text(), within_s=10, what="all of them")
        os.kill(process.pid, signal.SIGSTOP)
        seen.extend(str(each.readlink()) for each in Path(f"/proc/{process.pid}/fd").iterdir())
        os.kill(process.pid, signal.SIGCONT)

    large = TEXT * 1 + b"".join(f"  - 100.64.{at >> 8}.{at & 255}\n".encode() for at in range(60_000))
    blocklist.read(large, "f", None, Watched(monkeypatch, look))
    assert [process.returncode for process in processes] == [0]
    assert sorted(set(seen)) == ["/dev/null", "/memfd:runs (deleted)", "/memfd:text (deleted)"]


@given(st.data())
def test_no_bytes_are_taken_for_runs_that_cannot_be(data: st.DataObject) -> None:
    """Cut short, made longer, or with a number changed: refused, or runs of the shapes that runs have."""
    packed = bytearray(PACKED)
    match data.draw(st.sampled_from(["shorter", "longer", "a number", "a byte"])):
        case "shorter":
            del packed[data.draw(st.integers(0, len(packed) - 1)) :]
        case "longer":
            packed += data.draw(st.binary(min_size=1, max_size=9))
        case "a number":
            at = 8 * data.draw(st.integers(0, 400))
            packed[at : at + 8] = data.draw(st.integers(-(2**63), 2**63 - 1)).to_bytes(8, "little", signed=True)
        case _:
            packed[data.draw(st.integers(0, len(packed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        found = packedruns.unpack(bytes(packed), len(TEXT))
    except ValueError:
        return
    assert all(0 <= place.start <= place.second <= place.last <= place.end <= len(TEXT) for place, _ in found)
    assert all(1 <= place.second_line <= place.last_line <= len(TEXT) for place, _ in found)
    for _, inner in found:
        assert isinstance(inner, runs.Items)
        for read in (*inner.words.prefixes.values(), *inner.words.ranges.values()):
            assert len(inner.lines[read.rows]) == len(read.keys)
        if inner.reasons is not None:
            known, numbers = inner.reasons
            assert {known.texts[number] for number in numbers.tolist()} <= set(known.texts)
