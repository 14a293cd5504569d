"""xdropd in a guest, as its operator handles it; and the addresses by which the guest is reached."""

import json
from collections.abc import Sequence
from typing import Any

from cable import VILLAINS, Way
from guests import MAC, Guest

from waiting import wait_until

UNIT = "xdropd.service"
SETTINGS = "/etc/xdrop/xdropd.yaml"
BLOCKLIST = "/etc/xdrop/blocklist.yaml"

ADDRESSES = {4: "192.0.2.1", 6: "2001:db8::1"}
GATEWAYS = {4: "192.0.2.254", 6: "2001:db8::fe"}

# An emulated machine does in seconds what others do in a tenth of one.
SOON_S = 20.0
_STARTED_WITHIN_S = 120


def ready(guest: Guest) -> None:
    """Once in a guest's life. Addresses count at once, and nobody asks who else has them."""
    guest.do(
        "sysctl -q -w net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.all.accept_ra=0",
        "sysctl -q -w net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0",
        "sysctl -q -w net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0 net.ipv4.ip_forward=1",
        "modprobe -a 8021q && modprobe bonding max_bonds=0",
    )


def clear(guest: Guest) -> None:
    """xdropd is stopped, devices that are no cards are gone, and the cards are as they were at boot."""
    guest.do(
        f"systemctl stop {UNIT} 'told-*'",
        "systemctl reset-failed",
        "ip -all netns delete",
        "[ ! -e /sys/class/net/uplink ] || { ip link set uplink down; ip link set uplink name nic0; }",
        "for device in $(ls /sys/class/net | grep -v -x -E 'nic.|lo|bonding_masters'); do",
        # Some come with their module, and stay; others go with what they stand on.
        "  ip link delete $device 2>/dev/null || ip link set $device down 2>/dev/null || true",
        "done",
        "for device in $(cd /sys/class/net && ls -d nic?); do",
        "  ip link set $device down nomaster",
        "  ip address flush dev $device",
        "  ip link set $device mtu 1500",
        "done",
    )
    configure(guest, "auto")
    guest.write(BLOCKLIST, "block:\n" + "".join(f"  - {each}\n" for each in sorted(VILLAINS)))


def configure(guest: Guest, interfaces: str, *more: str) -> None:
    """Write the settings file; a daemon that runs has it in a moment."""
    guest.write(SETTINGS, "\n".join([f"interfaces: {interfaces}", *more]) + "\n")


def start(guest: Guest) -> None:
    """Returns when it is ready: what comes next is filtered already."""
    guest.run("systemctl", "start", UNIT, within_s=_STARTED_WITHIN_S)


def status(guest: Guest) -> dict[str, Any]:
    """What `xdropctl status` tells."""
    told: dict[str, Any] = json.loads(guest.run("xdropctl", "--json", "status").stdout)
    return told


def filtered(guest: Guest) -> dict[str, str]:
    """The mode of each interface that has the filter."""
    return {each["name"]: each["mode"] for each in status(guest)["interfaces"]}


def becomes(guest: Guest, **modes: str) -> None:
    """Wait until exactly these are filtered, each in its mode."""
    wait_until(lambda: filtered(guest) == modes, within_s=SOON_S, what=f"filtered: {modes}, not {filtered(guest)}")


def messages(guest: Guest, event: str = "") -> list[dict[str, Any]]:
    """What it has written to the journal since it was last started, with all fields."""
    since = guest.run("systemctl", "show", "--property=InvocationID", "--value", UNIT).stdout.strip()
    guest.run("journalctl", "--sync")
    matches = [f"_SYSTEMD_INVOCATION_ID={since}", *([f"XDROPD_EVENT={event}"] if event else [])]
    lines = guest.run("journalctl", "--output=json", "--all", *matches).stdout.splitlines()
    return [json.loads(line) for line in lines]


def told(guest: Guest, event: str = "") -> list[str]:
    """The sentences of these."""
    return [str(line["MESSAGE"]) for line in messages(guest, event)]


def mac(number: int) -> str:
    """Of the card with a number."""
    return MAC.format(number)


def way(number: int = 0, **more: Any) -> Way:
    """To the guest's ADDRESSES by a card."""
    return Way(mac(number), ADDRESSES, **more)


def address(device: str, table: int = 0, addresses: dict[int, str] = ADDRESSES, *, routed: bool = True) -> list[str]:
    """Shell lines that bring a device up with the guest's addresses, and with the default routes."""
    where = f" table {table}" if table else ""
    lines = [
        f"ip link set {device} up",
        f"ip address replace {addresses[4]}/24 dev {device}",
        f"ip address replace {addresses[6]}/64 dev {device} nodad",
    ]
    if routed:
        lines += [f"ip route replace default via {gateway} dev {device}{where}" for gateway in GATEWAYS.values()]
    return lines


def namespace(name: str, addresses: dict[int, str], hardware_address: str, to: str) -> list[str]:
    """Shell lines for a guest within the guest: a network namespace whose eth0 is a cable to the device `to`."""
    inside = f"ip -n {name}"
    return [
        f"ip netns add {name}",
        f"ip netns exec {name} sysctl -q -w net.ipv6.conf.default.accept_dad=0",
        f"ip link add {to} type veth peer name eth0 address {hardware_address} netns {name}",
        *(line.replace("ip ", f"{inside} ", 1) for line in address("eth0", addresses=addresses)),
        f"ip link set {to} up",
    ]


def lines(*parts: str | Sequence[str]) -> list[str]:
    """Shell lines in one list."""
    return [line for part in parts for line in ([part] if isinstance(part, str) else part)]
