"""Cards, by their drivers: in which mode each is filtered, and whether it stays so whatever is done to it."""

import re
import time

import pytest
from cable import EVERYBODY, INNOCENTS
from guests import Guest
from installed import BLOCKLIST, SOON_S, address, filtered, start, status, told, way

from waiting import wait_until

_SPEAKS_WITHIN_S = 10.0
"""The contract's, of a hundred packets."""

_CARDS = [
    pytest.param(0, id="virtio"),
    pytest.param(4, id="virtio with two queues"),
    pytest.param(2, id="e1000e"),
    pytest.param(3, id="vmxnet3"),
]


def _has_native(guest: Guest, number: int) -> bool:
    """virtio always; vmxnet3 from Linux 6.6 on; e1000e never."""
    release = tuple(int(part) for part in guest.do("uname -r").split("-")[0].split(".")[:2])
    return number in (0, 4) or (number == 3 and release >= (6, 6))


def _is_up(guest: Guest, number: int) -> bool:
    """Some take seconds to have a carrier."""
    return "up" in guest.do(f"cat /sys/class/net/nic{number}/operstate")


def _routed(number: int) -> list[str]:
    """The routes, which go with a link that is set down."""
    device = f"nic{number}"
    return [
        f"ip route replace default via 192.0.2.254 dev {device}",
        f"ip address replace 2001:db8::1/64 dev {device} nodad",
        f"ip route replace default via 2001:db8::fe dev {device}",
    ]


_TREATMENTS = {
    "down and up": "ip link set {0} down; ip link set {0} up",
    "another MTU": "ip link set {0} mtu 1400",
    "another ring": "ethtool -G {0} rx 512",
}


@pytest.mark.parametrize("number", _CARDS)
def test_a_card_is_filtered_whatever_is_done_to_it(guest: Guest, number: int) -> None:
    guest.do(*address(f"nic{number}"))
    wait_until(lambda: _is_up(guest, number), within_s=SOON_S)
    wire, there = guest.cables[number], way(number)
    assert wire.answered(there, EVERYBODY) == EVERYBODY
    start(guest)
    assert filtered(guest) == {f"nic{number}": "native" if _has_native(guest, number) else "generic"}
    assert wire.answered(there) == INNOCENTS
    if number == 3 and _has_native(guest, number):
        return  # its story is the next test
    for treatment in _TREATMENTS.values():
        guest.do(treatment.format(f"nic{number}"), check=False)  # not every driver has rings of another size
        guest.do(*_routed(number))
        wait_until(lambda: _is_up(guest, number), within_s=SOON_S)
        assert wire.answered(there) == INNOCENTS
    assert not any("saw none of them" in each for each in told(guest))
    assert status(guest)["degraded"] is False


def test_every_queue_is_filtered(guest: Guest) -> None:
    """What is sent by many goes to all of them."""
    guest.write(BLOCKLIST, "block: [10.1.0.0/16]\n")
    guest.do(*address("nic4"))
    wire, there = guest.cables[4], way(4)
    start(guest)
    assert filtered(guest) == {"nic4": "native"}
    before = _received_by_queue(guest)
    for number in range(1, 101):
        wire.send(there.frame(wire.echo(f"10.1.0.{number}", there.addresses[4], number)))
    wait_until(lambda: status(guest)["packets"]["dropped"] == 100, within_s=SOON_S)
    assert all(now > then for now, then in zip(_received_by_queue(guest), before, strict=True))


def _received_by_queue(guest: Guest) -> list[int]:
    """Packets, by the driver's own count."""
    said = guest.do("ethtool -S nic4")
    found = [
        int(line.rpartition(":")[2])
        for line in said.splitlines()
        if re.search(r"rx_?queue_\d+_packets|rx\d+_packets", line)
    ]
    assert len(found) == 2, said
    return found


@pytest.mark.always("trixie")
@pytest.mark.parametrize("machine", ["trixie"], indirect=True)
@pytest.mark.parametrize("treatment", list(_TREATMENTS))
def test_a_driver_that_has_lost_the_program_is_found_out_and_cured(guest: Guest, treatment: str) -> None:
    """vmxnet3 of Linux 6.6 to 6.12 at least no longer runs it then, and says nothing."""
    guest.do(*address("nic3"))
    wire, there = guest.cables[3], way(3)
    assert wire.answered(there, EVERYBODY) == EVERYBODY
    start(guest)
    assert filtered(guest) == {"nic3": "native"}
    assert wire.answered(there) == INNOCENTS

    guest.do(_TREATMENTS[treatment].format("nic3"), *_routed(3))
    wait_until(lambda: _is_up(guest, 3), within_s=SOON_S)
    assert wire.answered(there, EVERYBODY) == EVERYBODY, "the driver has learned to keep the program: rejoice"
    wire.flood(there, min(INNOCENTS), 100)
    begun = time.monotonic()
    wait_until(lambda: any("saw none of them" in each for each in told(guest)), within_s=_SPEAKS_WITHIN_S)
    print(f"told {time.monotonic() - begun:.1f} s after the hundredth packet")
    wait_until(lambda: wire.answered(there) == INNOCENTS, within_s=SOON_S)
    wait_until(lambda: not status(guest)["degraded"], within_s=SOON_S)
