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

# What no host can do without: packets to itself; a DHCP client asks from 0.0.0.0, duplicate address detection asks from
# :: (RFC 4862, section 5.4.2), and routers and neighbours speak from link-local addresses (RFC 4861).
LOOPBACK = (parse_span("127.0.0.0/8"), parse_span("::1"))
UNSPECIFIED = (Span(4, 0, 0), Span(6, 0, 0))
LINK_LOCAL = (parse_span("fe80::/10"),)

PRIVATE = tuple(
    map(
        parse_span,
        ("10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"),
    )
)
"""Set aside by RFC 1918, RFC 6598, RFC 3927 and RFC 4193."""


@dataclass(frozen=True, slots=True)
class Written:
    """What one text or caller lists, whether or not it has ended."""

    name: str
    listing: Listing
    reason: str = ""
    is_file: bool = True
    action: str = "block"
    """Or "monitor": what it lists passes and is counted. What is allowed stands elsewhere."""


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
    def weight(self) -> int:
        """Rows of all sources, whether or not they have ended."""
        return sum(each.listing.weight for each in self.sources)

    def state(self, now_s: float, number_of: Callable[[str], int], before: State | None) -> State:
        """What is in force of it. Of `before`, what is still the same is used again."""
        known = {source.number: source for source in before.sources} if before else {}
        sources = []
        for each in self.sources:
            number = number_of(each.name)
            source = known.get(number)
            if source is None or not source.is_of(each.listing, now_s):
                listing, since_s = each.listing.in_force(now_s), each.listing.last_end_s(now_s)
                source = Source(
                    each.name, number, listing, each.reason, each.is_file, each.action, each.listing, since_s
                )
            elif (source.reason, source.action) != (each.reason, each.action):
                source = replace(source, reason=each.reason, action=each.action)
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


def guard_of(
    own: Iterable[Span],
    gateways: Iterable[Span],
    name_servers: Iterable[Span],
    connected: Iterable[Span],
    private: Iterable[Span],
) -> Listing:
    """What is never blocked, whatever a list says; the reason of each entry says what it is."""
    kinds = (
        ("loopback", LOOPBACK),
        ("unspecified address", UNSPECIFIED),
        ("link-local network", LINK_LOCAL),
        ("address of this host", own),
        ("gateway", gateways),
        ("name server", name_servers),
        ("connected network", connected),
        ("private network", private),
    )
    return Listing.of(Row(*span, reason=what) for what, spans in kinds for span in sorted(spans))


def article(what: str) -> str:
    """What the guard protects, as part of a sentence."""
    if what == "loopback":
        return "the loopback network"
    if what in ("unspecified address", "link-local network"):
        return f"the {what}"
    return f"an {what}" if what[0] in "aeiou" else f"a {what}"
