"""Enforcing is proven: where packets come in and the program sees none, that is told, and remedies are tried."""

from xdropd.filter.attaching import Attaching
from xdropd.filter.evidence import Doubt, Remedy
from xdropd.filter.filter import Filter
from xdropd.host.netlink import Netlink
from xdropd.sources.settingsfile import SettingsFile

_EVERY_SECONDS = 2.0


class Proving:
    """One daemon's."""

    def __init__(self, kernel: Filter, attaching: Attaching, netlink: Netlink, settings: SettingsFile) -> None:
        self._filter = kernel
        self._attaching = attaching
        self._netlink = netlink
        self._settings = settings
        self._doubts: dict[int, Doubt] = {}
        self._due_at = 0.0

    def look_after(self, now: float) -> None:
        """Look whether it is time again. Raises KernelError."""
        if now < self._due_at or not self._filter.can_count:
            return
        self._due_at = now + _EVERY_SECONDS
        received = self._netlink.received()
        filtered = dict(self._filter.attachments)
        self._doubts = {ifindex: self._doubts.get(ifindex, Doubt()) for ifindex in filtered}
        chosen = self._settings.in_force.xdp_mode
        for ifindex in filtered.keys() & received.keys():
            seen = sum(volume.packets for volume in self._filter.totals(ifindex).values())
            mode = filtered[ifindex].mode
            may_be_generic = mode != "generic" and chosen == "auto"
            remedy = self._doubts[ifindex].look(received[ifindex], seen, now, may_be_generic=may_be_generic)
            if remedy in (Remedy.ATTACH_ANEW, Remedy.ATTACH_GENERIC):
                self._tell()  # before what comes of it
                self._attaching.attach_anew(ifindex, "generic" if remedy is Remedy.ATTACH_GENERIC else mode)
        self._tell()

    def _tell(self) -> None:
        names = {ifindex: self._attaching.name_of(ifindex) for ifindex in self._doubts}
        sentences = {
            names[ifindex]: f"{names[ifindex]}: {doubt.sentence}"
            for ifindex, doubt in self._doubts.items()
            if doubt.sentence
        }
        self._attaching.tell("evidence", sentences)
