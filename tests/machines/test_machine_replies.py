"""Replies to a host that lists everybody, on Debian's own kernels: they find its sockets as ours does."""

import json
from pathlib import Path

from guests import Guest
from installed import ADDRESSES, BLOCKLIST, SOON_S, address, becomes, configure, filtered, namespace, start, status

from waiting import wait_until

_CONVERSATION = (Path(__file__).parent / "inside" / "conversation.py").read_text(encoding="utf-8")
_THERE = {4: "192.0.2.2", 6: "2001:db8::2"}
_MACS = ("02:00:00:00:09:01", "02:00:00:00:09:02")


def _conversation(guest: Guest, version: int) -> dict[str, bool]:
    talk = ("python3", "-", "peer", ADDRESSES[version], _THERE[version])
    found: dict[str, bool] = json.loads(guest.run(*talk, stdin=_CONVERSATION).stdout)
    return found


def test_a_host_fetches_from_whom_it_lists_and_nobody_there_can_knock(guest: Guest) -> None:
    guest.do(
        *namespace("peer", _THERE, _MACS[1], "link0"),
        f"ip link set link0 address {_MACS[0]}",
        *address("link0", routed=False),
        # To ask for a hardware address is no connection, and is dropped.
        *(f"ip neigh replace {_THERE[version]} lladdr {_MACS[1]} dev link0" for version in (4, 6)),
        *(f"ip -n peer neigh replace {ADDRESSES[version]} lladdr {_MACS[0]} dev eth0" for version in (4, 6)),
    )
    guest.write(BLOCKLIST, "block: [0.0.0.0/0, '::/0']\n")
    configure(guest, "[link0]", "replies: pass")
    start(guest)
    assert filtered(guest) == {"link0": "native"}
    assert not status(guest)["degraded"]
    for version in (4, 6):
        assert _conversation(guest, version) == {"fetched": True, "resolved": True, "knocked": False}
    assert status(guest)["packets"]["replies"] > 0
    configure(guest, "[link0]", "replies: pass", "xdp_mode: generic")
    becomes(guest, link0="generic")
    assert _conversation(guest, 4) == {"fetched": True, "resolved": True, "knocked": False}
    configure(guest, "[link0]", "replies: drop")
    becomes(guest, link0="native")
    assert _conversation(guest, 4) == {"fetched": False, "resolved": False, "knocked": False}
    guest.write(BLOCKLIST, "block: []\n")
    wait_until(lambda: status(guest)["entries"]["networks"] == 0, within_s=SOON_S)
    assert _conversation(guest, 4) == {"fetched": True, "resolved": True, "knocked": True}
