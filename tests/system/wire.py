"""A cable from a machine to a host beside it, which knocks with more than one address."""

import json
import re
from typing import Self

from machine import Machine

DEVICE = "wan0"
ADDRESS = "198.51.100.1"
NEIGHBOUR = "198.51.100.2"
VILLAIN = "198.51.100.66"
PEER = "peer"
_KNOCKING_SECONDS_AT_MOST = 180


def lay(machine: Machine) -> None:
    """A veth pair: `wan0` in the machine, up, with a default route, and `eth0` in the namespace `peer`.

    Resolved neighbours come with it: an answer to the first ping is then a matter of that ping alone.
    """
    machine.run("ip", "netns", "add", PEER)
    machine.run("ip", "link", "add", DEVICE, "type", "veth", "peer", "name", "eth0", "netns", PEER)
    for source in (NEIGHBOUR, VILLAIN):
        machine.run("ip", "-n", PEER, "address", "add", f"{source}/24", "dev", "eth0")
    machine.run("ip", "-n", PEER, "link", "set", "eth0", "up")
    machine.run("ip", "address", "add", f"{ADDRESS}/24", "dev", DEVICE)
    machine.run("ip", "link", "set", DEVICE, "up")
    machine.run("ip", "route", "add", "default", "via", NEIGHBOUR)
    ours, theirs = hardware_address(machine), hardware_address(machine, "-n", PEER)
    machine.run("ip", "-n", PEER, "neighbour", "add", ADDRESS, "lladdr", ours, "dev", "eth0")
    for source in (NEIGHBOUR, VILLAIN):
        machine.run("ip", "neighbour", "add", source, "lladdr", theirs, "dev", DEVICE)


def hardware_address(machine: Machine, *where: str) -> str:
    """Of the device in the machine, or in its namespace `where`, given as an option of ip(8)."""
    device = "eth0" if where else DEVICE
    (link,) = json.loads(machine.run("ip", "-json", *where, "link", "show", device).stdout)
    return str(link["address"])


def answers(machine: Machine, source: str) -> bool:
    """Whether one ping from that address of the peer comes back."""
    ping = ("ping", "-q", "-c1", "-W0.3", "-I", source, ADDRESS)
    return machine.run("ip", "netns", "exec", PEER, *ping, check=False).returncode == 0


class Knocking:
    """Pings from one address of the peer at a steady rate, without waiting for answers, until `end`."""

    def __init__(self, machine: Machine, source: str, packets_a_second: int) -> None:
        self._machine = machine
        ping = f"ping -q -i{1 / packets_a_second} -w{_KNOCKING_SECONDS_AT_MOST} -I {source} {ADDRESS}"
        self._process = machine.start("sh", "-c", f"echo $$; exec ip netns exec {PEER} {ping}")
        assert self._process.stdout is not None
        self._pid = self._process.stdout.readline().strip()

    def end(self) -> tuple[int, int]:
        """(packets sent, packets answered), as ping sums up when it is interrupted."""
        self._machine.run("kill", "-INT", self._pid)
        said, _ = self._process.communicate(timeout=10)
        (counts,) = re.findall(r"(\d+) packets transmitted, (\d+) received", said)
        return int(counts[0]), int(counts[1])


class Silence:
    """A context in which none of many pings from an address may be answered."""

    def __init__(self, machine: Machine, source: str) -> None:
        self._machine = machine
        self._source = source

    def __enter__(self) -> Self:
        self._knocking = Knocking(self._machine, self._source, packets_a_second=500)
        return self

    def __exit__(self, problem: object, *_: object) -> None:
        sent, answered = self._knocking.end()
        if problem is None:
            assert sent > 0
            assert answered == 0, f"{answered} of {sent} packets of {self._source} passed"
