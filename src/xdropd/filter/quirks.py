"""Drivers that take native mode and do harm then: which, in which kernels, and what to do about it."""

import os
import re

from xdropd.host.netlink import Interface

# virtio_net before Linux 6.3 holds a frame in one page natively. It takes a larger MTU all the same, loses what does
# not fit, listed or not, and cannot be detached until the MTU is small again (seen with 6.1.0-50 of Debian's).
_VIRTIO_IS_FINE_FROM = (6, 3)
_VIRTIO_BYTES_AT_MOST = 3500

COUNT_MORE = frozenset({"wireguard", "bridge", "bond"})
"""Kinds that in generic mode count what they never hand on, so that their count proves nothing: handshakes, keepalives
(wg_packet_consume_data_done), what rules or VLANs of a bridge drop (br_pass_frame_up), LACP (bond_handle_frame). And
there is no driver in between that could lose the program.
"""

COUNT_APART = frozenset({"team"})
"""Kinds that do not count among what they received what came in on a port that is not the active one, as all others do
(team_handle_frame).
"""


def why_generic(interface: Interface) -> str:
    """Why "auto" had better not be native there, as a clause; "" if it may."""
    if not _holds_a_page(interface) or 0 < interface.mtu_at_most <= _VIRTIO_BYTES_AT_MOST:
        return ""
    return (
        f"natively this kernel's virtio loses frames above {_VIRTIO_BYTES_AT_MOST} bytes once its MTU is raised;"
        " where that stays at 1500, 'xdp_mode: native' is safe"
    )


def loss(interface: Interface) -> str:
    """What is lost on a device that is filtered natively, as a sentence on it; "" if nothing is."""
    if not _holds_a_page(interface) or interface.mtu <= _VIRTIO_BYTES_AT_MOST:
        return ""
    return (
        f"frames above {_VIRTIO_BYTES_AT_MOST} bytes are lost, listed or not: natively this kernel's virtio cannot have"
        f" an MTU of {interface.mtu}; set it to 1500, then 'xdp_mode: generic', then raise it again"
    )


def _holds_a_page(interface: Interface) -> bool:
    version = re.match(r"(\d+)\.(\d+)", os.uname().release)
    is_old = version is not None and (int(version[1]), int(version[2])) < _VIRTIO_IS_FINE_FROM
    return interface.parent[0] == "virtio" and is_old
