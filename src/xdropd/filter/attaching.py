"""Interfaces and the filter: what is wanted is attached, what is gone or no longer wanted is let go.

The choice is interfaces.py's, the attachment filter.py's; here is what happens in which order, and what is said of it.
First everything is let go that has to be, then the kernel has settled that, then the rest is attached from below: the
kernel takes no program on a device while one above it has one, but the other way round it does.
"""

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from xdropd.errors import CompileError, KernelError, NotAttachable
from xdropd.filter import interfaces, quirks
from xdropd.filter.bonds import Gathering
from xdropd.filter.carriers import BONDS, STACKED, Surroundings
from xdropd.filter.filter import Filter
from xdropd.filter.interfaces import Choice
from xdropd.filter.remedies import remedy
from xdropd.host import pppoe
from xdropd.host.log import WARNING
from xdropd.host.netlink import Interface, Netlink, Routes
from xdropd.host.telling import Fields, Telling
from xdropd.kernel.attachment import Attachment
from xdropd.kernel.hooks import HOOKS

_NATIVE = next(iter(HOOKS))
_SETTLED_WITHIN_SECONDS = 0.25
_LOOK_SECONDS = 0.002


@dataclass(frozen=True, slots=True)
class Undone:
    """What a look could not bring about: sentences by the name of the interface."""

    attaching: dict[str, str] = field(default_factory=dict)
    following: dict[str, str] = field(default_factory=dict)
    """Default routes that lead to nothing that can be filtered."""


class Attaching:
    """The interfaces of one daemon. `names` are those there are, by index, as of the last look."""

    def __init__(self, kernel: Filter, netlink: Netlink, telling: Telling) -> None:
        self._filter = kernel
        self._netlink = netlink
        self._telling = telling
        self._wanted: tuple[tuple[str, ...] | None, str] | None = None
        self._choice = Choice()
        # By index: the mode that was refused, and a sentence on it. Those that are filtered in another one, with their
        # MTU of then; and those for which others above were let go in vain, as they were then.
        self._stuck: dict[int, tuple[str, int, str]] = {}
        self._refused: dict[int, tuple[str, Interface, str]] = {}
        self._routed: set[int] = set()
        self._had_route: dict[int, str] = {}  # their names as well
        self._carriers: dict[int, frozenset[int]] = {}  # of each of these, as long as it was there
        self._gathering = Gathering()
        self._bond_of: dict[int, int] = {}  # by the index of a port
        self.names: dict[int, str] = {}
        self.losing: frozenset[int] = frozenset()
        """Those that lose packets because they are filtered, which is told."""
        self.unproven: frozenset[int] = frozenset()
        """Those whose count of packets is no evidence."""
        self.counting_apart: frozenset[int] = frozenset()
        """Those whose count of packets is without what they hand to nobody."""
        self.again_at = float("inf")
        """When to look again though nothing is news: a bond will have its ports, as far as can be told; or an interface
        could not be attached anew.
        """

    def name_of(self, ifindex: int) -> str:
        """An interface's name, also of one that is gone."""
        return self.names.get(ifindex, f"index {ifindex}")

    def place_of(self, ifindex: int) -> tuple[str, str]:
        """Where a packet came in: the interface that is filtered, and its port where that is a bond."""
        bond = self._bond_of.get(ifindex)
        return (self.name_of(ifindex), "") if bond is None else (self.name_of(bond), self.name_of(ifindex))

    def ports_of(self, ifindex: int) -> list[int]:
        """Whose drivers run the program of an interface that is filtered natively, each by itself; none of most."""
        return [port for port, above in self._bond_of.items() if above == ifindex]

    def why(self, ifindex: int) -> str:
        """For which device an interface is filtered, as a sentence on it; "" if it was named itself."""
        return self._choice.wanted.get(ifindex, "")

    @property
    def waiting(self) -> list[str]:
        """Sentences on what is filtered as soon as there is something to filter."""
        return list(self._choice.waiting.values())

    def tell(self, what: str, troubles: Mapping[str, str]) -> None:
        """Be degraded for these, by the name of the interface; of those before, say how they ended."""
        endings = {name: self.what_became_of(name) for name in self._telling.troubles.get(what, {})}
        self._telling.trouble(what, troubles, "interface", "interface", endings)

    def what_became_of(self, name: str) -> str:
        """Why it is no failure any more that an interface is not filtered; "" if it is filtered."""
        if name not in self.names.values():
            return f"{name}: there is no such interface any more"
        if any(self.names.get(ifindex) == name for ifindex in self._filter.attachments):
            return ""
        is_wanted = any(self.names.get(ifindex) == name for ifindex in self._choice.wanted)
        return f"{name}: is not attached any more" if is_wanted else f"{name}: need not be filtered any more"

    def sync(self, wanted_names: tuple[str, ...] | None, mode: str, routes: Routes) -> Undone:
        """Make the filter's interfaces those that are wanted, by `routes` where they decide; what failed.

        An interface cannot be in two modes at once, so another mode is a change with a gap, and so is a program on a
        device that stands below it. What fails of it is undone, and not tried again until another mode is asked for:
        each try is a gap.
        """
        there: Mapping[int, Interface] = self._netlink.interfaces()
        names_before, mode_before = self._wanted or (wanted_names, mode)
        held: set[int] = set()
        around = Surroundings(there, pppoe.devices() if wanted_names is None else ())
        if wanted_names is None:
            self._routed = routes.interfaces({link.table for link in there.values()} - {0})
            self._remember_routes(there, is_from_names=names_before is not None)
            held = self._held(around)
        self._wanted = wanted_names, mode
        self._choice = choice = interfaces.choose(wanted_names, around, self._routed, held, mode)
        self._leave_for_now(choice, mode, around)
        self._forget_refusals(mode, there)
        self.names.update({index: interface.name for index, interface in there.items()})
        released = self._let_go(
            ifindex
            for ifindex, kept in self._filter.attachments.items()
            if ifindex not in choice.wanted or not _is_filtered(there[ifindex], kept)
        )
        freed = {there[ifindex].master for ifindex in released if ifindex in there}
        freed = {ifindex for ifindex in freed & there.keys() if there[ifindex].kind in BONDS}
        changing = self._changing(mode, mode_before, freed, there)
        above = self._in_the_way({*choice.wanted} - self._filter.attachments.keys(), changing, around)
        before = changing | above
        failures = dict(choice.refused)
        if before and (reason := self._why_not_attachable()):
            for ifindex in changing:
                name = there[ifindex].name
                failures[name] = f"{name}: stays in {before[ifindex]} mode: {reason}"
            self._wanted = wanted_names, mode_before  # so that it is tried again
            before = {}
        released |= self._let_go(before)
        self.names = {index: interface.name for index, interface in there.items()}
        if released:
            there = self._settled(released)
        failures |= self._attach_all(choice.wanted, mode, before, around, there)
        failures |= self._losses(there)
        self._count_for_bonds(around)
        self._telling.each_once("waiting", WARNING, "interface", _with_fields(choice.waiting))
        return Undone(failures, choice.unfollowed)

    def attach_anew(self, ifindex: int, mode: str) -> None:
        """Take the program off an interface and put it there again, and off whatever is filtered above it meanwhile.

        What fails is told and tried with the next look, which is due then.
        """
        around = Surroundings(self._netlink.interfaces())
        if ifindex not in around.links or ifindex not in self._filter.attachments:
            return
        if reason := self._why_not_attachable():
            name = around.links[ifindex].name
            self._telling.log.error("attach", f"{name}: is left as it is: {reason}", interface=name)
            return
        modes = {**self._in_the_way(set(), [ifindex], around), ifindex: mode}
        there = self._settled(self._let_go(modes))
        for each in around.lowest_first(modes):
            if each in there and (failure := self._attach(there[each], modes[each], there)):
                self._telling.log.error("attach", f"{there[each].name}: {failure}", interface=there[each].name)
                self.again_at = 0.0
        self._count_for_bonds(around)

    def _count_for_bonds(self, around: Surroundings) -> None:
        """And for what hands its program on to another device likewise (netvsc_vf_setxdp in netvsc_bpf.c)."""
        self._bond_of = {
            port: ifindex
            for ifindex, kept in self._filter.attachments.items()
            if kept.mode == _NATIVE and ifindex in around.links
            for port in around.ports(ifindex)
        }
        kinds = {
            ifindex: around.links[ifindex].kind
            for ifindex, kept in self._filter.attachments.items()
            if kept.mode != _NATIVE and ifindex in around.links
        }
        self.unproven = frozenset(ifindex for ifindex, kind in kinds.items() if kind in quirks.COUNT_MORE)
        self.counting_apart = frozenset(ifindex for ifindex, kind in kinds.items() if kind in quirks.COUNT_APART)
        for ifindex in {*self._bond_of.values()}:
            self._filter.count_ports(ifindex, [port for port, bond in self._bond_of.items() if bond == ifindex])

    def _remember_routes(self, there: Mapping[int, Interface], *, is_from_names: bool) -> None:
        """Which interfaces have a default route or had one: auto does not let go because a route flaps.

        What was taken over had one, as far as is known; what other settings asked for goes with them. One that is made
        anew under its name gets its route back before long.
        """
        if is_from_names:
            self._had_route = {}
        elif self._wanted is None:
            self._had_route = dict.fromkeys(self._filter.attachments, "")
        lost = {name: index for index, name in self._had_route.items() if index not in there}
        for index, link in there.items():
            if index in self._routed or index in self._had_route or link.name in lost:
                self._had_route.pop(lost.get(link.name, 0), None)
                self._had_route[index] = link.name

    def _held(self, around: Surroundings) -> set[int]:
        """What had a route; and what carried it, where that itself has gone: a session is dialled again."""
        present = self._had_route.keys() & around.links.keys()
        self._carriers = {
            **{ifindex: found for ifindex, found in self._carriers.items() if ifindex in self._had_route},
            **{ifindex: around.carriers(ifindex) for ifindex in present},
        }
        return present.union(*(self._carriers.get(ifindex, ()) for ifindex in self._had_route.keys() - present))

    def _leave_for_now(self, choice: Choice, mode: str, around: Surroundings) -> None:
        """Bonds that are just being put together, unless they are filtered already."""
        gathering = self._gathering.look(around, time.monotonic())
        coming = choice.wanted.keys() - self._filter.attachments.keys() if mode != "generic" else set()
        for ifindex in gathering.keys() & coming:
            del choice.wanted[ifindex]
        self.again_at = min((gathering[ifindex] for ifindex in gathering.keys() & coming), default=float("inf"))

    def _changing(
        self, mode: str, mode_before: str, freed: Collection[int], there: Mapping[int, Interface]
    ) -> dict[int, str]:
        """What is filtered and is to be so in another mode, with the one that it has.

        Of auto this is not known before it is tried: when it is new, and on bonds of whose ports a program has gone
        (`freed`), which kept them from native mode.
        """
        return {
            ifindex: kept.mode
            for ifindex, kept in self._filter.attachments.items()
            if ifindex not in self._stuck
            and (
                (wanted := _mode_for(there[ifindex], mode, there)) not in ("auto", kept.mode)
                or (wanted == "auto" and kept.mode != _NATIVE and (mode_before != "auto" or ifindex in freed))
            )
        }

    def _losses(self, there: Mapping[int, Interface]) -> dict[str, str]:
        """Sentences on interfaces that lose packets because they are filtered, by name."""
        natively = [index for index, kept in self._filter.attachments.items() if kept.mode == _NATIVE]
        found = {
            index: next(filter(None, map(quirks.loss, _drivers(there[index], there))), "")
            for index in natively
            if index in there
        }
        self.losing = frozenset(index for index, sentence in found.items() if sentence)
        return {there[index].name: f"{there[index].name}: {found[index]}" for index in self.losing}

    def _forget_refusals(self, mode: str, there: Mapping[int, Interface]) -> None:
        """Of another mode; and where a device has changed, which may be what was lacking."""
        mtus = {ifindex: link.mtu for ifindex, link in there.items()}
        self._stuck = {ifindex: each for ifindex, each in self._stuck.items() if each[:2] == (mode, mtus.get(ifindex))}
        self._refused = {
            ifindex: each
            for ifindex, each in self._refused.items()
            if each[:2] == (mode, there.get(ifindex)) and ifindex in self._choice.wanted
        }

    def _in_the_way(self, coming: set[int], changing: Collection[int], around: Surroundings) -> dict[int, str]:
        """What is filtered above something that is to be attached, and has to be attached after it; with its mode.

        Not above what is refused for another reason in any case.
        """
        found: dict[int, str] = {}
        waiting = [*changing, *(each for each in coming - self._refused.keys() if not around.links[each].xdp_program)]
        while waiting:
            for ifindex in around.above(waiting.pop()):
                kept = self._filter.attachments.get(ifindex)
                if kept is not None and ifindex not in changing and ifindex not in found:
                    found[ifindex] = kept.mode
                    waiting.append(ifindex)
        return found

    def _why_not_attachable(self) -> str:
        """Why whatever is let go now could not be attached again; "" if it could."""
        try:
            self._filter.attachable()
        except (NotAttachable, KernelError, CompileError) as refusal:
            return str(refusal)
        return ""

    def _let_go(self, indexes: Iterable[int]) -> dict[int, int]:
        """The id of the program that each of them had."""
        released: dict[int, int] = {}
        for ifindex in list(indexes):
            released[ifindex] = self._filter.attachments[ifindex].root_id
            self._filter.release(ifindex)
            self._stuck.pop(ifindex, None)
            name = self.name_of(ifindex)
            self._telling.log.notice("detach", f"{name}: let go", interface=name)
        return released

    def _settled(self, released: Mapping[int, int]) -> Mapping[int, Interface]:
        """What is there once programs that were let go are gone: the service manager closes its copies aside."""
        self._filter.settle()
        due_s = time.monotonic() + _SETTLED_WITHIN_SECONDS
        while True:
            there = self._netlink.interfaces()
            remaining = [index for index in released.keys() & there if there[index].xdp_program == released[index]]
            if not remaining or time.monotonic() >= due_s:
                return there
            time.sleep(_LOOK_SECONDS)

    def _attach_all(
        self,
        wanted: Collection[int],
        mode: str,
        before: Mapping[int, str],
        around: Surroundings,
        there: Mapping[int, Interface],
    ) -> dict[str, str]:
        """Attach what is not, from below. `before` has the modes of those that were let go for this.

        Sentences on the ones that failed, by name.
        """
        failures: dict[int, str] = {}
        for ifindex in around.lowest_first({*wanted} - self._filter.attachments.keys()):
            link = there.get(ifindex)
            above = {*around.above(ifindex)}
            if link is None or (ifindex in self._refused and above & self._filter.attachments.keys()):
                continue
            failure = self._attach(link, mode, there)
            if failure and ifindex in before and not self._attach(link, before[ifindex], there):
                self._stuck[ifindex] = mode, link.mtu, f"{link.name}: stays in {before[ifindex]} mode: {failure}"
            elif failure:
                failures[ifindex] = f"{link.name}: {failure}"
                if above & before.keys():
                    self._refused[ifindex] = mode, link, failures[ifindex]
        if failures:  # what has gone meanwhile is news, and no failure
            there = self._netlink.interfaces()
        failures |= {ifindex: sentence for ifindex, (*_, sentence) in self._stuck.items()}
        failures |= {ifindex: sentence for ifindex, (*_, sentence) in self._refused.items()}
        return {there[ifindex].name: sentence for ifindex, sentence in failures.items() if ifindex in there}

    def _attach(self, interface: Interface, mode: str, there: Mapping[int, Interface]) -> str:
        """Why it failed; "" if it did not."""
        is_packet = interfaces.starts_with_ip(interface)
        try:
            reason = self._filter.attach(
                interface.index, _mode_for(interface, mode, there), interface.xdp_program, starts_with_ip=is_packet
            )
        except NotAttachable as refusal:
            return _with_remedy(refusal.message, interface, there)
        except (KernelError, CompileError) as refusal:
            return str(refusal)
        self._refused.pop(interface.index, None)
        got = self._filter.attachments[interface.index].mode
        self._telling.log.notice("attach", f"{interface.name}: attached in {got} mode", interface=interface.name)
        if mode == "auto" and (quirk := _why_generic(interface, there)):
            message = f"{interface.name}: generic mode, which is slower: {quirk}"
            self._telling.log.warning("attach", message, interface=interface.name)
        elif reason:
            sentence = f"the driver refuses native mode ({reason})"
            remedied = _with_remedy(sentence, interface, there)
            if remedied != sentence and interface.kind not in STACKED:
                remedied += "; to be asked again, it takes 'xdp_mode: native'"
            message = f"{interface.name}: generic mode, which is slower: {remedied}"
            self._telling.log.warning("attach", message, interface=interface.name)
        return ""


def _is_filtered(interface: Interface, kept: Attachment) -> bool:
    """Whether the link is on this interface: its own may have moved away and left its index to it."""
    return kept.is_attached and interface.xdp_program == kept.root_id


def _mode_for(interface: Interface, mode: str, there: Mapping[int, Interface]) -> str:
    """In which mode to try an interface, given what the settings say."""
    is_generic = interfaces.starts_with_ip(interface) or (mode == "auto" and _why_generic(interface, there))
    return "generic" if is_generic else mode


def _why_generic(interface: Interface, there: Mapping[int, Interface]) -> str:
    return next(filter(None, map(quirks.why_generic, _drivers(interface, there))), "")


def _drivers(interface: Interface, there: Mapping[int, Interface]) -> list[Interface]:
    """In whose drivers a program is run natively: of a bond, its ports."""
    ports = [each for each in there.values() if each.master == interface.index]
    return ports if interface.kind in BONDS else [interface]


def _with_remedy(sentence: str, interface: Interface, there: Mapping[int, Interface]) -> str:
    """`sentence` is without the interface's name, in which anything may stand."""
    what = remedy(interface, sentence, there)
    return f"{sentence}: {what}" if what else sentence


def _with_fields(sentences: Mapping[str, str]) -> dict[str, Fields]:
    return {sentence: {"interface": name} if name else {} for name, sentence in sentences.items()}
