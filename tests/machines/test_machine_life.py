"""What happens to a machine in its life, on a kernel of Debian's own: cards come and go, and so does the daemon."""

import re
from pathlib import Path

import pytest
from cable import EVERYBODY, INNOCENTS
from guests import Guest
from images import make_image
from installed import BLOCKLIST, SOON_S, UNIT, address, becomes, configure, mac, start, status, told, way

from waiting import wait_until

_LISTED_WITHIN_S = 5.0  # the contract's second, in an emulated machine


def test_a_kernel_that_is_too_old_gets_one_sentence(cache: Path, package: Path) -> None:
    """Debian 12 with the kernel of Debian 11, by which the service was started at boot."""
    with Guest(make_image(cache, "bookworm", package, "bullseye"), ()) as guest:
        release = guest.do("uname -r").strip()
        assert release.startswith("5.10.")
        sentence = f"Linux {release} is too old: xdropd needs 5.18 or newer"
        shown = guest.run("systemctl", "show", "--property=ExecMainStatus,NRestarts,ActiveState", UNIT).stdout.split()
        assert sorted(shown) == ["ActiveState=failed", "ExecMainStatus=71", "NRestarts=0"]
        assert [each for each in told(guest) if "Linux" in each or "xdrop" in each] == [sentence]
        asked = guest.run("xdropctl", "status", check=False)
        assert asked.returncode == 71
        assert sentence in asked.stderr


@pytest.mark.parametrize("interfaces", ["auto", "[nic0]"])
def test_the_story_of_a_service(guest: Guest, interfaces: str) -> None:
    """Without kernel headers or a compiler in reach."""
    configure(guest, interfaces)
    listed = guest.do(f"cat {BLOCKLIST}")
    guest.write(BLOCKLIST, "block: []\n")
    guest.do(*address("nic0"))
    wire, there = guest.cables[0], way()
    before = _programs(guest)  # such as a driver never gives back: vmxnet3, once its link went down and up
    start(guest)
    assert wire.answered(there, EVERYBODY) == EVERYBODY
    guest.write(BLOCKLIST, listed)
    wait_until(lambda: wire.answered(there) == INNOCENTS, within_s=_LISTED_WITHIN_S)
    assert _programs(guest) > before
    for how in ("reload", "restart"):
        guest.run("systemctl", how, UNIT)
        assert wire.answered(there) == INNOCENTS
    guest.run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", UNIT)
    assert wire.answered(there) == INNOCENTS, "nothing runs, and it filters"
    lookup = ("xdropctl", "lookup", "198.51.100.66")
    wait_until(lambda: guest.run(*lookup, check=False).returncode == 0, within_s=SOON_S)
    assert wire.answered(there) == INNOCENTS, "the next process filters"
    guest.write(BLOCKLIST, "block: []\n")
    wait_until(lambda: wire.answered(there) == EVERYBODY, within_s=_LISTED_WITHIN_S)
    guest.run("systemctl", "stop", UNIT)
    wait_until(lambda: _programs(guest) <= before, within_s=SOON_S)
    assert wire.answered(there, EVERYBODY) == EVERYBODY


def _programs(guest: Guest) -> set[str]:
    """The ids of our own that the kernel has."""
    return set(re.findall(r"^(\d+): xdp +name xdrop", guest.do("bpftool prog show"), re.MULTILINE))


def test_a_card_is_unplugged_and_plugged_in_again(guest: Guest) -> None:
    guest.do(*address("nic0"))
    wire, there = guest.cables[0], way()
    start(guest)
    becomes(guest, nic0="native")
    guest.qmp("device_del", id="card0")
    wait_until(lambda: "nic0" not in guest.do("ls /sys/class/net"), within_s=SOON_S)
    wait_until(lambda: status(guest)["state"] == "waiting", within_s=SOON_S)
    guest.qmp("device_add", driver="virtio-net-pci", id="card0", netdev="net0", mac=mac(0), host_mtu=1500)
    wait_until(lambda: "nic0" in guest.do("ls /sys/class/net"), within_s=SOON_S)
    becomes(guest, nic0="native")
    guest.do(*address("nic0"))
    assert wire.answered(there) == INNOCENTS


def test_a_card_is_renamed_and_its_link_goes_down_and_up(guest: Guest) -> None:
    configure(guest, "[nic0, nic1, uplink]")
    guest.do(*address("nic0"))
    wire, there = guest.cables[0], way()
    start(guest)
    assert wire.answered(there) == INNOCENTS
    guest.do("ip link set nic0 down", "ip link set nic0 name uplink", *address("uplink"))
    becomes(guest, uplink="native", nic1="native")
    assert wire.answered(there) == INNOCENTS
    guest.qmp("set_link", name="net0", up=False)
    guest.qmp("set_link", name="net0", up=True)
    wait_until(lambda: "up" in guest.do("cat /sys/class/net/uplink/operstate"), within_s=SOON_S)
    assert wire.answered(there) == INNOCENTS
    guest.do("ip link set uplink down", "ip link set uplink name nic0")
    becomes(guest, nic0="native", nic1="native")
    assert not any("saw none of them" in each for each in told(guest))


def test_others_can_trace_what_becomes_of_packets(guest: Guest) -> None:
    """With the command of the manual: our programs have types, and what they return is in the capture."""
    guest.do(*address("nic0"))
    wire, there = guest.cables[0], way()
    start(guest)
    becomes(guest, nic0="native")
    guest.run("systemd-run", "--unit=told-dump", *"stdbuf -oL xdpdump -i nic0 --rx-capture exit -x".split())
    wait_until(lambda: "listening on nic0" in _dumped(guest), within_s=SOON_S, what="it listens")
    assert wire.answered(there, INNOCENTS) == INNOCENTS
    wait_until(lambda: {"PASS", "DROP"} <= {*re.findall(r"@exit\[(\w+)\]", _dumped(guest))}, within_s=SOON_S)
    guest.run("systemctl", "stop", "told-dump")
    assert wire.answered(there) == INNOCENTS, "and nothing has changed"


def _dumped(guest: Guest) -> str:
    return guest.do("journalctl --sync; journalctl --output=cat --unit=told-dump")


def test_a_program_of_libxdp_is_left_alone_and_who_takes_it_off_is_told(guest: Guest) -> None:
    guest.do(*address("nic0"), "xdp-filter load nic0")
    wire, there = guest.cables[0], way()
    assert guest.run("systemctl", "start", UNIT, check=False, within_s=120).returncode
    (sentence,) = {each for each in told(guest) if "is attached, id" in each}
    assert sentence.endswith("libxdp's goes with: xdp-loader unload nic0 --all")
    assert wire.answered(there, EVERYBODY) == EVERYBODY
    guest.do("xdp-loader unload nic0 --all")
    start(guest)
    assert wire.answered(there) == INNOCENTS
