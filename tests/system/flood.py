"""A flood from a blocked source, an innocent ping beside it, and what of both arrives behind the filter.

    with Flood(machine) as flood:
        machine.run("systemctl", "restart", "xdropd.service")
    assert flood.outcome.passed == 0

The cable is wire.py's. Frames are bounded in rate and time; everything ends with the context.
"""

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import installation
import wire
from machine import Machine

RATE = 150_000
AT_LEAST_A_SECOND = 100_000
_PINGS_EVERY_S = 0.01
_SECONDS_AT_MOST = 900
_HERE = Path(__file__).parent
_FOLDER = "/root/flood"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was sent and what came through. `met` counts the frames that the device handed to an XDP program."""

    seconds: float
    sent: int
    met: int
    passed: int
    pings: int
    lost: int

    @property
    def rate(self) -> float:
        """Frames of the flood in a second."""
        return self.sent / self.seconds

    def __str__(self) -> str:
        return (
            f"{self.seconds:.1f} s, {self.sent} frames at {self.rate:.0f}/s, {self.met} met an XDP program; "
            f"blocked packets passed: {self.passed}; innocent packets lost: {self.lost} of {self.pings}"
        )


def prepare(machine: Machine) -> None:
    """Lay the cable if it is not there, and have both ends take frames the way that XDP transmits them."""
    if machine.run("ip", "link", "show", wire.DEVICE, check=False).returncode:
        wire.lay(machine)
    for where, device in ((), wire.DEVICE), (("ip", "netns", "exec", wire.PEER), "eth0"):
        machine.run(*where, "ethtool", "--features", device, "gro", "on")
    for script in (_HERE / "sender.py", _HERE / "bystander.py", _HERE.parent / "liveframes.py"):
        machine.copy_in(script, f"{_FOLDER}/{script.name}")
    # The sender's own copy of the package: tests replace the installed one under its feet.
    machine.run("cp", "--archive", installation.MODULES, _FOLDER)


class Flood:
    """See the module. `outcome` is there after the context."""

    outcome: Outcome

    def __init__(self, machine: Machine, rate: int = RATE) -> None:
        self._machine = machine
        self._rate = rate
        self._children: dict[str, subprocess.Popen[str]] = {}
        self._pids: dict[str, str] = {}
        self._met_before = 0

    def __enter__(self) -> Self:
        machine = self._machine
        ours, theirs = wire.hardware_address(machine), wire.hardware_address(machine, "-n", wire.PEER)
        at_peer = ("ip", "netns", "exec", wire.PEER)
        sender = (
            "nice",
            "--adjustment=-15",
            "python3",
            f"{_FOLDER}/sender.py",
            "eth0",
            theirs,
            ours,
            wire.VILLAIN,
            wire.ADDRESS,
        )
        ping = ("ping", "-q", "-n", f"-i{_PINGS_EVERY_S}", f"-w{_SECONDS_AT_MOST}", "-I", wire.NEIGHBOUR, wire.ADDRESS)
        self._met_before = self._met()
        try:
            self._start("bystander", "python3", f"{_FOLDER}/bystander.py", wire.DEVICE, wire.VILLAIN)
            bystander = self._children["bystander"].stdout
            assert bystander is not None
            assert bystander.readline() == "ready\n"
            self._start("sender", *at_peer, *sender, str(self._rate), str(_SECONDS_AT_MOST))
            self._start("ping", *at_peer, *ping)
        except BaseException:
            self._end_all()
            raise
        return self

    def _start(self, name: str, *command: str) -> None:
        """Start it with its process id, as the machine sees it, for a first line."""
        child = self._machine.start("sh", "-c", 'echo $$; exec "$@"', "sh", *command)
        self._children[name] = child
        assert child.stdout is not None
        self._pids[name] = child.stdout.readline().strip()

    def _end(self, name: str, how: str) -> str:
        self._machine.run("kill", f"-{how}", self._pids.pop(name), check=False)
        said, _ = self._children.pop(name).communicate(timeout=20)
        return said

    def _end_all(self) -> None:
        for name in list(self._pids):
            self._end(name, "KILL")

    def _met(self) -> int:
        """Frames that XDP programs on the device have seen, by the driver's count."""
        said = self._machine.run("ethtool", "--statistics", wire.DEVICE).stdout
        return sum(map(int, re.findall(r"rx_queue_\d+_xdp_packets: (\d+)", said)))

    def __exit__(self, *_: object) -> None:
        try:
            pinged = self._end("ping", "INT")
            sent = json.loads(self._end("sender", "TERM"))
            passed = int(self._end("bystander", "TERM"))
        finally:
            self._end_all()
        transmitted, received = map(int, re.findall(r"(\d+) packets transmitted, (\d+) received", pinged)[0])
        self.outcome = Outcome(
            sent["seconds"], sent["frames"], self._met() - self._met_before, passed, transmitted, transmitted - received
        )
