"""The desired state: what all files and callers list, less what `allow` and the guard exempt, as of now.

Puts together what was read, what callers have blocked and what the host says of itself, and knows when the next entry
ends. Makes values and changes none; knows neither the kernel nor the log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from xdropd.columns.listing import Listing, Row
from xdropd.rules.allow import Exempt, Exempting
from xdropd.rules.winners import Source, State
from xdropd.text.addresses import Span, parse_span

LOOPBACK = (parse_span("127.0.0.0/8"), parse_span("::1"))


@dataclass(frozen=True, slots=True)
class Written:
    """What one text or caller lists, whether or not it has ended."""

    name: str
    listing: Listing
    reason: str = ""
    is_file: bool = True


ORIGINS = ("files", "callers")
"""Where sources come from, each a file in sources/; in the order that decides between equals."""


@dataclass(frozen=True, slots=True)
class Desired:
    """Everything that a state is made of: what sources list, by origin and in their order, and what is exempt."""

    by_origin: Mapping[str, tuple[Written, ...]] = field(default_factory=dict)
    allow: tuple[Written, ...] = ()
    guard: Listing | None = None

    def having(self, origin: str, sources: Iterable[Written]) -> Desired:
        """The same with what one origin has now."""
        return replace(self, by_origin={**self.by_origin, origin: tuple(sources)})

    @property
    def sources(self) -> Iterator[Written]:
        """All of them in their order."""
        for origin in ORIGINS:
            yield from self.by_origin.get(origin, ())

    @property
    def count(self) -> int:
        """Entries of all sources, whether or not they have ended."""
        return sum(each.listing.count for each in self.sources)

    def state(self, now_s: float, number_of: Callable[[str], int], before: State | None) -> State:
        """What is in force of it. Of `before`, what is still the same is used again."""
        known = {source.number: source for source in before.sources} if before else {}
        sources = []
        for each in self.sources:
            number = number_of(each.name)
            source = known.get(number)
            if source is None or not source.is_of(each.listing, now_s):
                listing, since_s = each.listing.in_force(now_s), each.listing.last_end_s(now_s)
                source = Source(each.name, number, listing, each.reason, each.is_file, each.listing, since_s)
            elif source.reason != each.reason:
                source = replace(source, reason=each.reason)
            sources.append(source)
        exempting = [Exempting("allow", each.name, each.listing.in_force(now_s)) for each in self.allow]
        if self.guard is not None:
            exempting.append(Exempting("guard", "", self.guard))
        if before is not None and _are_alike(before.exempt.sources, exempting):
            return State(sources, before.exempt)
        return State(sources, Exempt(exempting))


def _are_alike(before: Iterable[Exempting], after: Iterable[Exempting]) -> bool:
    ones, others = ([(each.kind, each.source, id(each.listing)) for each in which] for which in (before, after))
    return ones == others


def guard_of(own: Iterable[Span], gateways: Iterable[Span]) -> Listing:
    """What is never blocked, whatever a list says; the reason of each entry says what it is."""
    kinds = (("loopback", LOOPBACK), ("address of this host", sorted(own)), ("gateway", sorted(gateways)))
    return Listing.of(Row(*span, reason=what) for what, spans in kinds for span in spans)


def article(what: str) -> str:
    """What the guard protects, as part of a sentence."""
    return "the loopback network" if what == "loopback" else f"an {what}" if what[0] in "aeiou" else f"a {what}"
