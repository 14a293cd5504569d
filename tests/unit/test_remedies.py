"""What to do where the kernel refuses native mode: its own words, and the device, lead to a remedy."""

import pytest

from xdropd.filter.remedies import remedy
from xdropd.host.netlink import ARPHRD_ETHER, Interface


def device(index: int, name: str, kind: str = "", link: int = 0) -> Interface:
    return Interface(index, name, kind, ARPHRD_ETHER, True, False, 0, 1500, 0, link=link)


LINKS = {each.index: each for each in (device(2, "eth0"), device(3, "eth0.5", "vlan", 2), device(4, "bond0", "bond"))}


# Sentences of Linux 6.1 to 6.12, some of them shortened.
@pytest.mark.parametrize(
    ("index", "said", "found"),
    [
        (2, "virtio_net: XDP requires MTU less than 4064", "MTU of eth0"),
        (2, "igb: The RX buffer size is too small for the frame size", "lower the MTU of eth0 first"),
        (2, "veth: Peer MTU is too large to set XDP", "MTU of eth0, or of its peer"),
        (2, "virtio_net: Can't set XDP while host is implementing GRO_HW/CSUM, disable it first", "guest_tso4=off"),
        (2, "mlx5_core: can't set XDP while HW-LRO is on, disable HW-LRO first", "ethtool -K eth0 lro off"),
        (2, "veth: XDP expects number of rx queues not less than peer tx queues", "ethtool -l eth0"),
        (4, "No native XDP support for the current bonding mode", "802.3ad"),
        (4, "Slave device does not support XDP", "each port's driver"),
        (4, "Operation not supported", "each port's driver"),
        (3, "Underlying driver does not support XDP in native mode", "eth0 below it"),
        (2, "Underlying driver does not support XDP in native mode", ""),
        (2, "Device or resource busy", ""),
        (3, "another XDP program is attached, id 42 (xdp_dispatcher); it is left alone", "unload eth0.5 --all"),
        (2, "another XDP program is attached, id 42 (balancer); it is left alone", ""),
        (2, "another XDP program is attached, id 42; it is left alone", "'bpftool prog' tells whose it is"),
    ],
)  # fmt: skip
def test_what_was_said_leads_to_a_remedy(index: int, said: str, found: str) -> None:
    told = remedy(LINKS[index], said if "is attached" in said else f"the kernel refuses native mode: {said}", LINKS)
    assert found in told
    assert bool(found) == bool(told)


def test_below_a_device_whose_parent_is_in_another_namespace_there_is_nothing() -> None:
    assert remedy(device(7, "eth0", "macvlan", 0), "the kernel refuses native mode", {}) == ""
