"""Enforcing is proven: where packets come in and the program sees none, that is told, and remedies are tried."""

import time

from xdropd.filter.attaching import Attaching
from xdropd.filter.evidence import Doubt, Remedy
from xdropd.filter.filter import Filter
from xdropd.host.netlink import Netlink
from xdropd.sources.settingsfile import SettingsFile

_EVERY_SECONDS = 1.0


class Proving:
    """One daemon's."""

    def __init__(self, kernel: Filter, attaching: Attaching, netlink: Netlink, settings: SettingsFile) -> None:
        self._filter = kernel
        self._attaching = attaching
        self._netlink = netlink
        self._settings = settings
        self._doubts: dict[int, Doubt] = {}
        self._watched: dict[int, int] = {}  # interfaces, and ports where each has a program: for which interface
        self._due_at = 0.0

    def look_after(self, now: float) -> None:
        """Look whether it is time again. Raises KernelError."""
        if now < self._due_at or not self._filter.can_count:
            return
        self._due_at = now + _EVERY_SECONDS
        filtered = dict(self._filter.attachments)
        # What is lost is counted as well: a program that was attached anew for that would not see it either.
        believed = filtered.keys() - self._attaching.losing - self._attaching.unproven
        # One port may lose what another one still has, such as the one whose link went down and up.
        self._watched = {
            each: ifindex for ifindex in believed for each in self._attaching.ports_of(ifindex) or [ifindex]
        }
        self._doubts = {each: self._doubts.get(each, Doubt()) for each in self._watched}
        begun = time.monotonic()
        received = self._netlink.received()
        seen = {each: self._seen_at_most(each, filtered[ifindex].mode) for each, ifindex in self._watched.items()}
        if time.monotonic() - begun > _EVERY_SECONDS:
            return  # all stood still meanwhile, so these counts are not of one time
        chosen = self._settings.in_force.xdp_mode
        mended: set[int] = set()
        for each in seen.keys() & received.keys():
            ifindex = self._watched[each]
            if ifindex in mended:  # for another of its ports
                continue
            mode, came, doubt = filtered[ifindex].mode, received[each], self._doubts[each]
            # A driver's program sees what is for nobody as well.
            is_all = mode != "generic" or ifindex in self._attaching.counting_apart
            arrived = came.all if is_all else came.all - came.for_nobody
            may_be_generic = mode != "generic" and chosen == "auto"
            remedy = doubt.look(arrived, seen[each], begun, may_be_generic=may_be_generic)
            if remedy in (Remedy.ATTACH_ANEW, Remedy.ATTACH_GENERIC):
                self._tell()  # before what comes of it
                self._attaching.attach_anew(ifindex, "generic" if remedy is Remedy.ATTACH_GENERIC else mode)
                mended.add(ifindex)
                if remedy is Remedy.ATTACH_GENERIC:
                    self._doubts[ifindex] = doubt  # of a port: it is the bond's from now on
                    self._watched[ifindex] = ifindex
        self._tell()

    def _seen_at_most(self, watched: int, mode: str) -> int:
        """Packets that the program has seen. In generic mode one of its packets may be many (GRO), of an octet each."""
        is_port = self._watched[watched] != watched
        seen = self._filter.seen_on_port(watched) if is_port else self._filter.totals(watched)
        return sum(volume.bytes if mode == "generic" else volume.packets for volume in seen.values())

    def _tell(self) -> None:
        sentences: dict[str, str] = {}
        for each, doubt in self._doubts.items():
            name = self._attaching.name_of(self._watched[each])
            port = f"port {self._attaching.name_of(each)}: " if self._watched[each] != each else ""
            if doubt.sentence:
                sentences[name] = f"{name}: {port}{doubt.sentence}"
        self._attaching.tell("evidence", sentences)
