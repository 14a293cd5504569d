"""Interfaces and the filter: what is wanted is attached, what is gone or no longer wanted is let go.

The choice is interfaces.py's, the attachment filter.py's; here is what happens in which order, and what is said of it.
"""

from dataclasses import replace

from xdropd.errors import CompileError, KernelError, NotAttachable
from xdropd.filter import interfaces
from xdropd.filter.filter import Filter
from xdropd.host.log import WARNING
from xdropd.host.netlink import Interface, Netlink
from xdropd.host.telling import Telling
from xdropd.kernel.attachment import Attachment
from xdropd.kernel.hooks import HOOKS


class Attaching:
    """The interfaces of one daemon. `names` are those there are, by index, as of the last look."""

    def __init__(self, kernel: Filter, netlink: Netlink, telling: Telling) -> None:
        self._filter = kernel
        self._netlink = netlink
        self._telling = telling
        self._wanted: tuple[tuple[str, ...] | None, str] | None = None
        self._stuck: dict[int, tuple[str, str]] = {}  # by index: the mode that was refused, and a sentence on it
        self.names: dict[int, str] = {}

    def name_of(self, ifindex: int) -> str:
        """An interface's name, also of one that is gone."""
        return self.names.get(ifindex, f"index {ifindex}")

    def sync(self, wanted_names: tuple[str, ...] | None, mode: str) -> dict[str, str]:
        """Make the filter's interfaces those that are wanted. Sentences on the ones that failed, by name.

        An interface cannot be in two modes at once, so another mode is the one change with a gap. What fails of it is
        undone, and not tried again until yet another mode is asked for: each try is a gap.
        """
        there = self._netlink.interfaces()
        routes = self._netlink.default_route_interfaces() if wanted_names is None else set()
        names_before, mode_before = self._wanted or (wanted_names, mode)
        self._wanted = wanted_names, mode
        self._stuck = {ifindex: stuck for ifindex, stuck in self._stuck.items() if stuck[0] == mode}
        held_on_to = self._filter.attachments.keys() if names_before == wanted_names else ()
        choice = interfaces.choose(wanted_names, there, routes, held_on_to)
        self.names.update({index: interface.name for index, interface in there.items()})
        changing: dict[int, str] = {}
        for ifindex, kept in list(self._filter.attachments.items()):
            if ifindex not in choice.wanted or not _is_filtered(there[ifindex], kept):
                self._let_go(ifindex)
            elif ifindex not in self._stuck and (
                mode not in ("auto", kept.mode) or (mode == "auto" != mode_before and kept.mode != next(iter(HOOKS)))
            ):
                changing[ifindex] = kept.mode
        # The kernel takes no program on a port whose master has one, but the other way round it does.
        for master in {there[ifindex].master for ifindex in changing} & self._filter.attachments.keys():
            changing.setdefault(master, self._filter.attachments[master].mode)
        failures = {name: f"{name}: {reason}" for name, reason in choice.refused.items()}
        if changing and (reason := self._why_not_attachable()):
            for ifindex, before in changing.items():
                name = there[ifindex].name
                failures[name] = f"{name}: stays in {before} mode: {reason}"
            self._wanted = wanted_names, mode_before  # so that it is tried again
            changing = {}
        for ifindex in changing:
            self._let_go(ifindex)
            there[ifindex] = replace(there[ifindex], xdp_program=0)
        self.names = {index: interface.name for index, interface in there.items()}
        masters = {interface.master for interface in there.values()}
        for ifindex in sorted(
            choice.wanted - self._filter.attachments.keys(), key=lambda index: (index in masters, index)
        ):
            name = there[ifindex].name
            failure = self._attach(there[ifindex], mode)
            if failure and ifindex in changing and not self._attach(there[ifindex], changing[ifindex]):
                self._stuck[ifindex] = mode, f"{name}: stays in {changing[ifindex]} mode: {failure}"
            elif failure:
                failures[name] = f"{name}: {failure}"
        failures |= {there[ifindex].name: sentence for ifindex, (_, sentence) in self._stuck.items()}
        self._say(choice.absent, failures)
        if wanted_names is None:
            self._say_what_auto_leaves_alone([there[ifindex] for ifindex in sorted(routes & there.keys())], failures)
        return failures

    def _why_not_attachable(self) -> str:
        """Why whatever is let go now could not be attached again; "" if it could."""
        try:
            self._filter.attachable()
        except (NotAttachable, KernelError, CompileError) as refusal:
            return str(refusal)
        return ""

    def _say(self, absent: tuple[str, ...], failures: dict[str, str]) -> None:
        for name in absent:
            message = f"{name}: no such interface yet, it is filtered as soon as it appears"
            self._telling.once(f"absent {name}", WARNING, "interface", message, interface=name)
        for name in set(self.names.values()) - failures.keys():
            self._telling.unsay(f"absent {name}")

    def _say_what_auto_leaves_alone(self, with_route: list[Interface], failures: dict[str, str]) -> None:
        for interface in with_route:
            if reason := interfaces.why_not(interface):
                message = f"{interface.name}: has a default route and is left alone: {reason}"
                self._telling.once(f"unfit {interface.name}", WARNING, "interface", message, interface=interface.name)
        if not with_route and not self._filter.attachments and not failures:
            message = "no interface has a default route yet, the first one that gets one is filtered"
            self._telling.once("no route", WARNING, "interface", message)
        else:
            self._telling.unsay("no route")

    def _let_go(self, ifindex: int) -> None:
        self._filter.release(ifindex)
        self._stuck.pop(ifindex, None)
        self._telling.log.notice("detach", f"{self.name_of(ifindex)}: let go", interface=self.name_of(ifindex))

    def _attach(self, interface: Interface, mode: str) -> str:
        """Why it failed; "" if it did not."""
        occupant: dict[str, object] = {"id": interface.xdp_program} if interface.xdp_program else {}
        try:
            reason = self._filter.attach(interface.index, mode, occupant)
        except NotAttachable as refusal:
            return refusal.message
        except (KernelError, CompileError) as refusal:
            return str(refusal)
        got = self._filter.attachments[interface.index].mode
        self._telling.log.notice("attach", f"{interface.name}: attached in {got} mode", interface=interface.name)
        if reason:
            message = f"{interface.name}: generic mode, which is slower: the driver refuses native mode ({reason})"
            self._telling.log.warning("attach", message, interface=interface.name)
        return ""


def _is_filtered(interface: Interface, kept: Attachment) -> bool:
    """Whether the link is on this interface: its own may have moved away and left its index to it."""
    return kept.is_attached and interface.xdp_program == kept.root_id
