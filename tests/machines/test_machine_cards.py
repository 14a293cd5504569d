"""Cards, by their drivers: in which mode each is filtered, and whether it stays so whatever is done to it."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import installed
import pytest
from cable import EVERYBODY, INNOCENTS
from guests import Guest
from images import make_image, newer_emulator
from installed import BLOCKLIST, SOON_S, address, becomes, configure, filtered, start, status, told, way

from roots import SUITES
from waiting import wait_until

_SPEAKS_WITHIN_S = 10.0 + 5.0
"""The contract's, of a hundred packets; and what an emulated machine takes longer to write and to read its journal."""

_LARGE = bytes(8000)

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
    _treat(guest, number)


def _treat(guest: Guest, number: int) -> None:
    """All of _TREATMENTS, and whoever is listed gets no answer after any of them."""
    for treatment in _TREATMENTS.values():
        guest.do(treatment.format(f"nic{number}"), check=False)  # not every driver has rings of another size
        guest.do(*address(f"nic{number}"))
        wait_until(lambda: _is_up(guest, number), within_s=SOON_S)
        assert guest.cables[number].answered(way(number)) == INNOCENTS
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
    assert wire.answered(there, EVERYBODY) == EVERYBODY, "and nobody else"
    assert all(now > then for now, then in zip(_received_by_queue(guest), before, strict=True))


def _received_by_queue(guest: Guest) -> list[int]:
    """Packets that met the program, by the driver's own count (virtio_net.c, whose names for it have changed)."""
    said = guest.do("ethtool -S nic4")
    found = re.findall(r"rx(?:_queue_)?\d+_xdp_packets: (\d+)", said)
    assert len(found) == 2, said
    return list(map(int, found))


def test_virtio_keeps_its_queues_while_it_is_filtered_natively(guest: Guest) -> None:
    """As the manual has it: their number is set first, or in generic mode. That it is refused changes nothing."""
    guest.do(*address("nic4"))
    wire, there = guest.cables[4], way(4)
    start(guest)
    becomes(guest, nic4="native")
    try:
        refused = guest.run("ethtool", "-L", "nic4", "combined", "1", check=False)
        assert refused.returncode
        assert "Invalid argument" in refused.stderr
        assert wire.answered(there) == INNOCENTS
        assert status(guest)["degraded"] is False

        guest.run("systemctl", "stop", installed.UNIT)
        guest.do("ethtool -L nic4 combined 1")
        start(guest)
        becomes(guest, nic4="native")
        assert wire.answered(there) == INNOCENTS

        configure(guest, "auto", "xdp_mode: generic")
        becomes(guest, nic4="generic")
        guest.do("ethtool -L nic4 combined 2")
        assert wire.answered(there) == INNOCENTS
    finally:
        guest.run("systemctl", "stop", installed.UNIT)
        guest.do("ethtool -L nic4 combined 2", check=False)


@pytest.mark.parametrize("machine", ["trixie"], indirect=True)
@pytest.mark.parametrize(
    "treatment",
    [pytest.param("down and up", marks=pytest.mark.always("trixie")), "another MTU", "another ring"],
)
def test_a_driver_that_has_lost_the_program_is_found_out_and_cured(guest: Guest, treatment: str) -> None:
    """vmxnet3 of Linux 6.6 to 6.12 at least no longer runs it then, and says nothing."""
    guest.do(*address("nic3"))
    wire, there = guest.cables[3], way(3)
    assert wire.answered(there, EVERYBODY) == EVERYBODY
    start(guest)
    assert filtered(guest) == {"nic3": "native"}
    assert wire.answered(there) == INNOCENTS

    guest.do(_TREATMENTS[treatment].format("nic3"), *address("nic3"))
    wait_until(lambda: _is_up(guest, 3), within_s=SOON_S)
    assert wire.answered(there, EVERYBODY) == EVERYBODY, "the driver has learned to keep the program: rejoice"

    def is_told() -> bool:
        """While packets go on coming in."""
        wire.flood(there, min(INNOCENTS), 20, rate=40)
        return any("saw none of them" in each for each in told(guest))

    wire.flood(there, min(INNOCENTS), 100, rate=40)
    hundredth = time.monotonic()
    wait_until(is_told, within_s=_SPEAKS_WITHIN_S)
    print(f"told within {time.monotonic() - hundredth:.1f} s of the hundredth packet")
    wait_until(lambda: wire.answered(there) == INNOCENTS, within_s=SOON_S)
    print(f"cured within {time.monotonic() - hundredth:.1f} s of it: {filtered(guest)}")
    wait_until(lambda: not status(guest)["degraded"], within_s=SOON_S)  # though nothing else comes in


def test_virtio_keeps_large_frames_whatever_its_mtu_becomes(guest: Guest) -> None:
    """Before Linux 6.3 it loses them natively, and takes the MTU all the same: auto is generic there, and says why."""
    is_old = tuple(map(int, guest.do("uname -r").split("-")[0].split(".")[:2])) < (6, 3)
    guest.do(*address("nic5"))
    wire, there = guest.cables[5], way(5)
    start(guest)
    becomes(guest, nic5="generic" if is_old else "native")
    assert is_old == any("virtio loses frames above 3500 bytes" in each for each in told(guest))
    guest.do("ip link set nic5 mtu 9000")
    assert wire.answered(there) == INNOCENTS
    assert wire.answered(there, payload=_LARGE) == INNOCENTS
    assert status(guest)["degraded"] is False
    guest.do("ip link set nic5 mtu 1500")
    if not is_old:
        return
    configure(guest, "auto", "xdp_mode: native")
    becomes(guest, nic5="native")
    guest.do("ip link set nic5 mtu 9000")
    wait_until(lambda: any("above 3500 bytes are lost" in each for each in status(guest)["troubles"]), within_s=SOON_S)
    assert not wire.answered(there, within_s=4.0, payload=_LARGE), "this kernel's virtio has learned it: rejoice"
    guest.do("ip link set nic5 mtu 1500")
    wait_until(lambda: not status(guest)["degraded"], within_s=SOON_S)
    configure(guest, "auto")
    becomes(guest, nic5="generic")
    assert wire.answered(there) == INNOCENTS


@pytest.fixture(scope="module", params=SUITES)
def machine_with_igb(request: pytest.FixtureRequest, cache: Path, package: Path) -> Iterator[Guest]:
    """A machine of its own, for the emulator of the others does not know this card."""
    with Guest(make_image(cache, request.param, package), ("igb",), newer_emulator(cache)) as guest:
        installed.ready(guest)
        yield guest


@pytest.fixture
def igb(machine_with_igb: Guest) -> Guest:
    """As `guest`; nic0 is the card."""
    installed.clear(machine_with_igb)
    return machine_with_igb


def test_igb_is_filtered_whatever_is_done_to_it(igb: Guest) -> None:
    igb.do(*address("nic0"))
    wait_until(lambda: _is_up(igb, 0), within_s=SOON_S)
    assert igb.cables[0].answered(way(), EVERYBODY) == EVERYBODY
    start(igb)
    assert filtered(igb) == {"nic0": "native"}
    assert igb.cables[0].answered(way()) == INNOCENTS
    _treat(igb, 0)


def test_igb_has_a_large_mtu_or_native_mode(igb: Guest) -> None:
    """Whichever comes first: the other one is refused, which is told with what to do about it."""
    igb.do(*address("nic0"))
    wire, there = igb.cables[0], way()
    start(igb)
    becomes(igb, nic0="native")
    refused = igb.run("ip", "link", "set", "nic0", "mtu", "9000", check=False)
    assert refused.returncode
    assert wire.answered(there) == INNOCENTS

    igb.run("systemctl", "stop", installed.UNIT)
    igb.do("ip link set nic0 mtu 9000")
    start(igb)
    becomes(igb, nic0="generic")
    (warning,) = [each for each in told(igb) if "generic mode, which is slower" in each]
    assert "lower the MTU of nic0" in warning
    assert wire.answered(there) == INNOCENTS
    assert wire.answered(there, payload=_LARGE) == INNOCENTS
    igb.do("ip link set nic0 mtu 1500")
    configure(igb, "auto", "xdp_mode: native")
    becomes(igb, nic0="native")
    assert wire.answered(there) == INNOCENTS
