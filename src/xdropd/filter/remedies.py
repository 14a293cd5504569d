"""What an operator can do where the kernel refuses a program: by what it says, and by the device. Pure.

What it says are the sentences of drivers and of net/core/dev.c, which Linux may word anew: where none of them is known,
what was said has to do. Not here: asking the kernel.
"""

from collections.abc import Mapping

from xdropd.filter.carriers import BONDS, STACKED
from xdropd.host.netlink import Interface

_OFFLOADS = "turn off what the hypervisor does for {0}: in QEMU guest_tso4=off,guest_tso6=off,guest_ufo=off"
# Parts of a sentence, in lower case, and the remedy for an interface {0}. The first that fits counts.
_REMEDIES = (
    ("(xdp_dispatcher)", "it is libxdp's, which takes it off with: xdp-loader unload {0} --all"),
    ("); it is left alone", ""),  # its name says whose it is
    ("program is attached, id", "'bpftool prog' tells whose it is; libxdp's goes with: xdp-loader unload {0} --all"),
    ("mtu", "lower the MTU of {0}, or of its peer, first"),
    ("frame size", "lower the MTU of {0} first"),
    ("gro_hw", _OFFLOADS),
    ("guest_", _OFFLOADS),
    ("lro", "turn it off first: ethtool -K {0} lro off"),
    ("queue", "see 'ethtool -l {0}', and change their number with 'ethtool -L'"),
    ("channel", "see 'ethtool -l {0}', and change their number with 'ethtool -L'"),
    ("bonding mode", "active-backup, balance-rr, balance-xor and 802.3ad can have it"),
    ("slave", "each port's driver has to know native mode, and no port may have a program of its own"),
)


def remedy(interface: Interface, said: str, links: Mapping[int, Interface]) -> str:
    """A clause on what to do, given what the kernel said, and nothing else; "" where nothing is known."""
    below = links.get(interface.link)
    if interface.kind in STACKED and below is not None and "native mode" in said:
        return f"{below.name} below it may be able to be filtered natively"
    known = said.lower()
    found = next((text.format(interface.name) for part, text in _REMEDIES if part in known), "")
    if not found and interface.kind in BONDS:
        return _REMEDIES[-1][1]
    return found
