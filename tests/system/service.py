"""The service on a machine, as an operator and as bpftool see it."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from machine import Machine

from descriptors import fdinfos
from waiting import wait_until

UNIT = "xdropd.service"
BLOCKLIST = "/etc/xdrop/blocklist.yaml"
SETTINGS = "/etc/xdrop/xdropd.yaml"
STATE = "/var/lib/xdropd"

KINDS = ("prog", "map", "link")
_LOOKS_AT_MOST = 10
_OURS = "xdrop"  # how the names of all our programs begin, and no map's


def prop(machine: Machine, name: str) -> str:
    """A property of the unit."""
    return machine.run("systemctl", "show", f"--property={name}", "--value", UNIT).stdout.strip()


def main_pid(machine: Machine) -> int:
    """The daemon's process; 0 for none."""
    return int(prop(machine, "MainPID"))


def stored(machine: Machine) -> int:
    """How many descriptors systemd keeps for the unit."""
    return int(prop(machine, "NFileDescriptorStore"))


def drop_in(machine: Machine, name: str, *lines: str) -> None:
    """Change settings of the unit's service section; nothing restarts."""
    folder = f"/etc/systemd/system/{UNIT}.d"
    machine.run("mkdir", "--parents", folder)
    machine.write(f"{folder}/{name}.conf", "\n".join(["[Service]", *lines]) + "\n")
    machine.run("systemctl", "daemon-reload")


def undo_drop_ins(machine: Machine, name: str = "*") -> None:
    """Take back what `drop_in` changed, or one of it; nothing restarts."""
    machine.run("sh", "-c", f"rm -f /etc/systemd/system/{UNIT}.d/{name}.conf")
    machine.run("systemctl", "daemon-reload")


def held(machine: Machine) -> set[tuple[str, int]]:
    """Kind and id of every BPF object that the daemon holds, from its descriptors in /proc."""
    # A descriptor that is closed meanwhile makes cat fail, and is none that is held.
    said = machine.run("sh", "-c", f"cat /proc/{main_pid(machine)}/fdinfo/*", check=False).stdout
    return {(kind, int(number)) for kind, number in re.findall(r"^(prog|map|link)_id:\s+(\d+)$", said, re.MULTILINE)}


def is_active(machine: Machine) -> bool:
    """Whether it has said READY and still runs."""
    return machine.run("systemctl", "is-active", UNIT, check=False).stdout.strip() in ("active", "reloading")


def wait_for_another(machine: Machine, before: int, within_s: float = 30) -> int:
    """Wait until a process other than `before` is ready, and return its process id."""

    def another() -> int:
        pid = main_pid(machine)
        return pid if pid not in (0, before) and is_active(machine) else 0

    return wait_until(another, within_s=within_s, what="the service runs again")


def status(machine: Machine) -> dict[str, Any]:
    """What `xdropctl status` tells."""
    told: dict[str, Any] = json.loads(machine.run("xdropctl", "--json", "status").stdout)
    return told


def lookup(machine: Machine, address: str) -> dict[str, Any]:
    """What `xdropctl lookup` tells."""
    told: dict[str, Any] = json.loads(machine.run("xdropctl", "--json", "lookup", address, check=False).stdout)
    return told


def blocklist(*entries: str) -> str:
    """A blocklist."""
    return "block:\n" + "".join(f"  - {entry}\n" for entry in entries) if entries else "block: []\n"


def addresses(count: int, second: int = 1) -> Iterator[str]:
    """That many addresses, nobody's, from 10.`second`.0.0 on."""
    for number in range(count):
        yield f"10.{second + (number >> 16)}.{number >> 8 & 255}.{number & 255}"


def in_kernel(machine: Machine) -> dict[str, dict[int, dict[str, Any]]]:
    """Every BPF object there is by its id, as bpftool tells of it."""
    return {kind: {seen["id"]: seen for seen in _shown(machine, kind)} for kind in KINDS}


def _shown(machine: Machine, kind: str) -> list[dict[str, Any]]:
    """bpftool gives up with EAGAIN over an object that goes away while it looks: then it looks again."""
    for _ in range(_LOOKS_AT_MOST):
        done = machine.run("bpftool", "--json", kind, "show", check=False)
        if done.returncode == 0:
            break
    shown: list[dict[str, Any]] = json.loads(done.stdout)
    assert isinstance(shown, list), shown
    return shown


def _held_elsewhere(machine: Machine) -> dict[str, set[int]]:
    """Ids of what processes outside the machine hold: BPF has no namespaces, and there may be other tests."""
    inside = Path(f"/proc/{machine.leader_pid}/ns/pid").readlink()
    found: dict[str, set[int]] = {kind: set() for kind in KINDS}
    for process in Path("/proc").iterdir():
        try:
            if not process.name.isdigit() or (process / "ns" / "pid").readlink() == inside:
                continue
            said = fdinfos(int(process.name))
        except OSError:  # it is gone
            continue
        for kind in KINDS:
            found[kind] |= {
                int(number) for text in said for number in re.findall(rf"^{kind}_id:\s+(\d+)", text, re.MULTILINE)
            }
    return found


def left_over(machine: Machine, before: Mapping[str, Mapping[int, object]]) -> dict[str, list[dict[str, Any]]]:
    """What is in the kernel, was not before, and is not held by anybody outside the machine."""
    now, elsewhere = in_kernel(machine), _held_elsewhere(machine)
    for number, program in now["prog"].items():
        if number in elsewhere["prog"] or number in before["prog"]:
            elsewhere["map"].update(program.get("map_ids", ()))
    return {
        kind: [
            seen
            for number, seen in now[kind].items()
            if number not in before[kind] and number not in elsewhere[kind] and _may_be_ours(kind, seen)
        ]
        for kind in KINDS
    }


def _may_be_ours(kind: str, seen: Mapping[str, Any]) -> bool:
    """Programs of systemd's own (it filters devices and addresses by cgroup) come and go."""
    return kind != "prog" or str(seen.get("name", "")).startswith(_OURS)


def nothing_left(machine: Machine, before: Mapping[str, Mapping[int, object]]) -> bool:
    """Whether all that is new is gone; the kernel frees with some delay."""
    return not any(left_over(machine, before).values())
