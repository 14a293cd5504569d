"""One line of the blocklist edited, the file renamed over the old one: how long until the first packet is dropped.

Packets of the source that is about to be listed go to a socket of the host, one after the other. The first one that
does not arrive tells when: both moments are the sender's.
"""

import socket
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from bench import lists, peers
from bench.daemon import Daemon
from bench.figures import XDROPD, Demand, Effort, Figure, Report, in_turns
from netns import Net, inside
from xdropd.errors import Unavailable

_GROUP = "edit"
_ROUNDS = 7
_BOUNDS_S = {10_000: 0.05, 100_000: 0.15, 1_000_000: 1.5}
_SETTLED_S = 2.0
_LOST_AFTER_S = 0.02
_DROPPED_WITHIN_S = 30.0
_PORT = 9


def measure(report: Report, effort: Effort) -> None:
    """Beside nftables and ipset, which take an edited file by loading all of it anew and changing over."""
    for count in effort.sizes(*_BOUNDS_S):
        _measure(report, count, effort.rounds(_ROUNDS))


def _measure(report: Report, count: int, rounds: int) -> None:
    keys = lists.addresses(count, seed=1)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        net, beside = stack.enter_context(peers.host()), stack.enter_context(peers.host())
        daemon = stack.enter_context(Daemon(net.host, folder, net.device))
        nft, ipset = (
            peers.NftLoad(beside, folder, peers.texts(keys)),
            peers.IpsetLoad(beside, folder, peers.texts(keys)),
        )
        daemon.blocklist.write_text(lists.text(keys), encoding="utf-8")
        daemon.start()
        nft.seconds(keep=True)
        ipset.seconds(keep=True)

        def edited(address: str) -> str:
            others[len(others) // 2] = int.from_bytes(socket.inet_aton(address), "big")
            return lists.text(others)

        others = list(keys)
        editing = Editing(net, daemon, edited)
        contenders = {XDROPD: editing.seconds, "nft -f": nft.replace, "ipset restore, swap": ipset.replace}
        found = in_turns(contenders, rounds)
        what = "one line, from the rename to the first packet dropped"
        report.add(Figure(_GROUP, what, count, "s", found, (Demand(_BOUNDS_S[count]),)))


class Editing:
    """Edits one line, to another address of the peer each time: `edited` is the blocklist with that address in it."""

    def __init__(self, net: Net, daemon: Daemon, edited: Callable[[str], str]) -> None:
        self._net, self._daemon, self._edited = net, daemon, edited
        self._next_host = 10

    def seconds(self) -> float:
        """One edit."""
        time.sleep(_SETTLED_S)  # what the edit before has left to do is not part of this one
        address = f"{self._net.peer_address.rpartition('.')[0]}.{self._next_host}"
        self._next_host += 1
        self._net.address(self._net.peer, f"{address}/{self._net.length}")
        rename = self._daemon.new_blocklist(self._edited(address))
        with inside(self._net.host):
            receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with inside(self._net.peer):
            sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with receiver, sender:
            receiver.bind((self._net.host_address, _PORT))
            receiver.settimeout(_LOST_AFTER_S)
            sender.bind((address, 0))
            sender.connect((self._net.host_address, _PORT))
            if not _arrives(sender, receiver):
                raise Unavailable(f"packets of {address} do not arrive, although it is not listed yet")
            return _until_dropped(sender, receiver, rename)


def _arrives(sender: socket.socket, receiver: socket.socket) -> bool:
    sender.send(b"?")
    try:
        receiver.recv(16)
    except TimeoutError:
        return False
    return True


def _until_dropped(sender: socket.socket, receiver: socket.socket, rename: Callable[[], None]) -> float:
    rename()
    begun = time.monotonic()
    while (sent := time.monotonic()) < begun + _DROPPED_WITHIN_S:
        if not _arrives(sender, receiver):
            return sent - begun
    raise Unavailable(f"the edited line lets packets pass for {_DROPPED_WITHIN_S:g} s after it was listed")
