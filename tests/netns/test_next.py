"""What passes goes on to a pinned program of somebody else's: an AF_XDP application behind the filter, for instance."""

import contextlib
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from afxdp import XdpSocket
from foreground import Daemon
from servicemanager import ServiceManager
from traffic import Traffic

from netns import Net, inside
from waiting import wait_until
from xdropd.kernel import libbpf
from xdropd.kernel.libbpf import MapShape

VILLAIN, NEIGHBOUR = "198.51.100.66", "198.51.100.67"
SOURCES = {"villain": [VILLAIN], "neighbour": [NEIGHBOUR]}
LISTED = f"block:\n  - {VILLAIN}\n"
WITHIN_S = 3.0

_DROPS_ALL = bytes.fromhex("b700000001000000 9500000000000000")  # r0 = XDP_DROP; exit
_PASSES_ALL = bytes.fromhex("b700000002000000 9500000000000000")

# enum bpf_map_type, and struct bpf_insn: r1 = the map, r2 = its index 0, r3 = XDP_DROP, call bpf_redirect_map, exit.
_XSKMAP = 17
_LOAD, _MOVE, _CALL, _EXIT, _REDIRECT_MAP = 0x18, 0xB7, 0x85, 0x95, 51


@pytest.fixture
def net() -> Iterator[Net]:
    with Net(addresses=False) as made:
        yield made


@pytest.fixture
def pins(tmp_path: Path) -> Iterator[Path]:
    """A BPF file system."""
    folder = tmp_path / "bpf"
    folder.mkdir()
    subprocess.run(["mount", "-t", "bpf", "bpf", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def _instruction(code: int, registers: int = 0, value: int = 0) -> bytes:
    return struct.pack("=BBhi", code, registers, 0, value)


@contextlib.contextmanager
def receiving(net: Net) -> Iterator[tuple[XdpSocket, int]]:
    """An AF_XDP socket on the daemon's device, and the program that leads to it."""
    with inside(net.host):
        receiver = XdpSocket(net.device)
    sockets = libbpf.create_map(MapShape("sockets", _XSKMAP, 4, 4, 1, 0))
    instructions = [
        _instruction(_LOAD, libbpf.PSEUDO_MAP_FD << 4 | 1, sockets),
        _instruction(0),
        _instruction(_MOVE, 2, 0),
        _instruction(_MOVE, 3, 1),
        _instruction(_CALL, 0, _REDIRECT_MAP),
        _instruction(_EXIT),
    ]
    program = libbpf.load_xdp_program("to_socket", b"".join(instructions), libbpf.F_XDP_HAS_FRAGS)
    try:
        libbpf.update(sockets, bytes(4), receiver.fileno().to_bytes(4, sys.byteorder))
        yield receiver, program
    finally:
        os.close(program)
        os.close(sockets)


def pin_new(name: str, instructions: bytes, path: Path, flags: int = libbpf.F_XDP_HAS_FRAGS) -> int:
    """Load a program that nothing but its pin holds; its id."""
    program = libbpf.load_xdp_program(name, instructions, flags)
    try:
        return pin(program, path)
    finally:
        os.close(program)


def pin(program: int, path: Path) -> int:
    """Have it pinned there, in one step, whatever is there; its id."""
    number = libbpf.program_shape(program).id
    new = path.with_name("new")
    subprocess.run(["bpftool", "prog", "pin", "id", str(number), new], check=True)
    new.replace(path)
    return number


def passing(net: Net, frames: int = 300) -> dict[str, int]:
    """How many of so many frames, at least, of each group came to the network stack."""
    with Traffic(net, SOURCES, rate=20_000) as traffic:
        traffic.wait_for(frames)
    return traffic.passed


def sources_of(frames: Iterator[bytes]) -> set[str]:
    return {".".join(map(str, frame[26:30])) for frame in frames}


def test_an_af_xdp_socket_gets_what_passes_and_nothing_else(net: Net, tmp_path: Path, pins: Path) -> None:
    (tmp_path / "etc").mkdir()
    settings = tmp_path / "etc" / "xdropd.yaml"
    path = pins / "application"
    settings.write_text(f"interfaces: [{net.device}]\nnext: {path}\n")
    with Daemon(net, tmp_path, LISTED, "--settings", str(settings)) as daemon:
        # Nothing is pinned there yet: it is told, and packets pass as if it was not asked for.
        assert daemon.status()["degraded"]
        assert f"error: next: {path}: nothing is pinned there; packets that pass go no further" in daemon.log
        passed = passing(net)
        assert passed["neighbour"] > 0
        assert passed["villain"] == 0

        with receiving(net) as (receiver, program):
            number = pin(program, path)
            wait_until(lambda: not daemon.status()["degraded"], within_s=WITHIN_S, what=daemon.log)
            assert f"packets that pass go on to program {number}, {path}" in daemon.log
            assert passing(net) == {"villain": 0, "neighbour": 0}
            assert sources_of(receiver.frames()) == {NEIGHBOUR}
            before = daemon.status()["packets"]
            with Traffic(net, SOURCES, rate=20_000) as traffic:
                traffic.wait_for(100)
            after = daemon.status()["packets"]
            assert after["passed"] - before["passed"] == traffic.sent["neighbour"]
            assert after["dropped"] - before["dropped"] == traffic.sent["villain"]

            # A program that does not fit is refused, and the one before it goes on.
            pin_new("unfit", _PASSES_ALL, path, flags=0)
            wait_until(lambda: "for frames in fragments" in daemon.log, within_s=WITHIN_S, what=daemon.log)
            assert f"packets that pass go on to program {number}, as before" in daemon.log
            assert daemon.status()["degraded"]
            assert passing(net) == {"villain": 0, "neighbour": 0}

            # Nor does a map that stands there change anything.
            made = "type array key 4 value 4 entries 1 name some_map".split()
            subprocess.run(["bpftool", "map", "create", pins / "map", *made], check=True)
            (pins / "map").replace(path)
            wait_until(lambda: "a map or a link is pinned there" in daemon.log, within_s=WITHIN_S, what=daemon.log)

        pin_new("drops_all", _DROPS_ALL, path)
        wait_until(lambda: not daemon.status()["degraded"], within_s=WITHIN_S, what=daemon.log)
        assert passing(net) == {"villain": 0, "neighbour": 0}

        path.unlink()
        wait_until(lambda: daemon.status()["degraded"], within_s=WITHIN_S, what=daemon.log)
        assert passing(net)["neighbour"] > 0

        settings.write_text(f"interfaces: [{net.device}]\n")
        wait_until(lambda: not daemon.status()["degraded"], within_s=WITHIN_S, what=daemon.log)
        assert f"settings: next was {path}, is none" in daemon.log


def test_it_stays_over_a_restart_and_goes_with_the_setting(net: Net, tmp_path: Path, pins: Path) -> None:
    (tmp_path / "etc").mkdir()
    settings = tmp_path / "etc" / "xdropd.yaml"
    path = pins / "application"
    settings.write_text(f"interfaces: [{net.device}]\nnext: {path}\n")
    number = pin_new("drops_all", _DROPS_ALL, path)
    with ServiceManager(tmp_path) as manager:
        daemon = Daemon(net, tmp_path, LISTED, "--settings", str(settings), manager=manager)
        with daemon, Traffic(net, {"neighbour": [NEIGHBOUR]}, rate=20_000) as traffic:
            traffic.wait_for(300)
            daemon.stop(signal.SIGKILL)
            traffic.wait_for(300)
            daemon.__enter__()
            traffic.wait_for(300)
            assert f"go on to program {number}, {path}" in daemon.log
        assert traffic.passed["neighbour"] == 0
