"""What should be in force: the lists of all files and callers, less what `allow` and the guard exempt, as of now.

Puts together what the catalogue read, what callers have blocked and what the host says of itself, and knows when the
next entry ends. Knows neither the kernel nor the log.
"""

from collections.abc import Callable, Generator, Iterator
from itertools import islice

from xdropd.daemon.blocks import Blocks
from xdropd.daemon.catalogue import Reading
from xdropd.host.netlink import Netlink
from xdropd.rules.ruleset import (
    Change,
    Exemption,
    Exemptions,
    Region,
    Ruleset,
    Source,
    nothing,
    rearranged,
    source_of,
    successor,
    whole,
)
from xdropd.text.addresses import Span, parse_span
from xdropd.text.entries import Entry

_LOOPBACK = (
    Exemption(parse_span("127.0.0.0/8"), "guard", "loopback", 0),
    Exemption(parse_span("::1"), "guard", "loopback", 0),
)


_ENTRIES_A_STEP = 20_000


class Wanted:
    """`ruleset` is what is wanted now, None before there was any list. `number_of` is the kernel's number for a name.

    Methods that make another ruleset do not take it for the present one: that is done once the kernel has it.
    """

    def __init__(self, blocks: Blocks, netlink: Netlink, number_of: Callable[[str], int]) -> None:
        self.ruleset: Ruleset | None = None
        self.next_end_s = self.allow_ends_s = float("inf")
        self._blocks = blocks
        self._netlink = netlink
        self._number_of = number_of
        self._block_sources: dict[str, Source] = {}

    @property
    def names(self) -> set[str]:
        """The names of all sources."""
        return {source.name for source in self._sources()}

    @property
    def count(self) -> int:
        """How many entries there are."""
        return count(self.ruleset)

    def compose(self, reading: Reading, file: str, now_s: float, *, guard: bool, fresh: bool) -> tuple[Ruleset, Change]:
        """The ruleset of a reading, and what it touches of the present one (not said for a fresh start).

        `file` is the blocklist's absolute path, its source name.
        """
        known = {source.name: source for source in self.ruleset.sources if source.is_file} if self.ruleset else {}
        change = Change()
        sources: list[Source] = []
        texts = [(file, reading.blocklist.block, "")]
        texts += [(path, content.listing, reason) for path, content, reason in reading.lists]
        for name, listing, reason in texts:
            before = known.pop(name, None)
            if before is not None:
                source, touched = successor(before, listing, now_s, reason)
                change.update(touched)
            else:
                source = source_of(name, self._number_of(name), listing, now_s, reason)
                change.added += source.count
                if not fresh:
                    change.region.update(whole(source))
            sources.append(source)
        for gone in known.values():
            change.removed += gone.count
            change.region.update(whole(gone))
        if self.ruleset:
            change.region.update(rearranged(self.ruleset.sources, sources))
        sources += [self.block_source(name) for name in self._blocks.by_source]
        lasting = [entry for entry in reading.blocklist.allow if entry.until is None or entry.until > now_s]
        self.allow_ends_s = min((entry.until for entry in lasting if entry.until is not None), default=float("inf"))
        allow = [Exemption(entry.span, "allow", file, entry.line) for entry in lasting]
        return Ruleset(sources, self._exemptions(allow, guard=guard)), change

    def with_exemptions_renewed(self, *, guard: bool) -> Ruleset:
        """The same lists under what the host says of itself now."""
        assert self.ruleset
        allow = [item for item in self.ruleset.exemptions.items if item.kind == "allow"]
        return Ruleset(self.ruleset.sources, self._exemptions(allow, guard=guard))

    def _exemptions(self, allow: list[Exemption], *, guard: bool) -> Exemptions:
        if not guard:
            return Exemptions(allow)
        own, gateways = sorted(self._netlink.own_addresses()), sorted(self._netlink.gateways())
        guarded = [*_LOOPBACK]
        guarded += (Exemption(span, "guard", "address of this host", 0) for span in own)
        guarded += (Exemption(span, "guard", "gateway", 0) for span in gateways)
        return Exemptions(allow + guarded)

    # ---- blocks ----

    def follow_blocks(self, name: str) -> Iterator[None]:
        """Callers' blocks under this name have changed: what has entries is a source of the ruleset, and nothing else.

        A source whose last entry went comes back as the last one.
        """
        assert self.ruleset
        listed = name in self._blocks.by_source
        known = self._block_sources.get(name)
        if known is not None:
            known.kinds = None
        if known is None and listed:
            sources = (*self.ruleset.sources, self.block_source(name))
        elif known is not None and not listed:
            del self._block_sources[name]
            sources = tuple(source for source in self.ruleset.sources if source is not known)
        else:
            return
        self.ruleset = Ruleset(sources, self.ruleset.exemptions)
        yield

    def go_back(self, ruleset: Ruleset, name: str) -> None:
        """Take back a change of one caller's blocks: `ruleset` is from before it, and they are what they were then."""
        self.ruleset = ruleset
        self._block_sources = {source.name: source for source in ruleset.sources if not source.is_file}
        if name in self._block_sources:
            self._block_sources[name].kinds = None

    def block_source(self, name: str) -> Source:
        """What one caller has blocked."""
        entries = self._blocks.by_source[name]
        known = self._block_sources.get(name)
        if known is None or known.entries is not entries:
            known = Source(name, self._number_of(name), nothing(), entries, is_file=False)
            self._block_sources[name] = known
        return known

    def with_blocks_anew(self) -> tuple[Ruleset, Region]:
        """The same files with what callers have blocked by the log, and what that can touch."""
        assert self.ruleset
        files = [source for source in self.ruleset.sources if source.is_file]
        before = [source for source in self.ruleset.sources if not source.is_file]
        self._block_sources = {}
        blocks = [self.block_source(name) for name in self._blocks.by_source]
        region = Region()
        for source in (*before, *blocks):
            region.update(whole(source))
        return Ruleset((*files, *blocks), self.ruleset.exemptions), region

    def take(self, ruleset: Ruleset) -> Iterator[None]:
        """Take a ruleset for the present one, as the step in the middle of a change."""
        self.ruleset = ruleset
        yield

    # ---- what ends ----

    def note_ends(self) -> Iterator[None]:
        """Find out when the next entry ends. Yields now and then; the list must not change meanwhile."""
        next_end_s = self.allow_ends_s
        for entries in self._stretches():
            next_end_s = min([next_end_s, *(entry.until for _, _, entry in entries if entry.until is not None)])
            yield
        self.next_end_s = next_end_s

    def note_end(self, until: float) -> None:
        """An entry ends then. One that was to end earlier may be gone: then there is nothing to do at its time."""
        self.next_end_s = min(self.next_end_s, until)

    def over(self, now_s: float) -> Generator[None, None, list[tuple[Source, Span]]]:
        """Entries that have ended and are still there. Yields now and then; the list must not change meanwhile."""
        found: list[tuple[Source, Span]] = []
        for entries in self._stretches():
            found += [
                (source, span) for source, span, entry in entries if entry.until is not None and entry.until <= now_s
            ]
            yield
        return found

    def _sources(self) -> tuple[Source, ...]:
        return self.ruleset.sources if self.ruleset else ()

    def _stretches(self) -> Iterator[list[tuple[Source, Span, Entry]]]:
        everything = ((source, span, entry) for source in self._sources() for span, entry in source.entries.items())
        while some := list(islice(everything, _ENTRIES_A_STEP)):
            yield some

    def end(self, over: list[tuple[Source, Span]], now_s: float) -> Iterator[None]:
        """Take out what is over, and callers that have nothing left."""
        by_source: dict[int, tuple[Source, list[Span]]] = {}
        for source, span in over:
            by_source.setdefault(id(source), (source, []))[1].append(span)
        for source, spans in by_source.values():
            source.end(spans, now_s)
            yield
            if not source.is_file and not source.entries:
                self._blocks.by_source.pop(source.name, None)
                yield from self.follow_blocks(source.name)

    # ---- what the guard takes off ----

    def narrowed(self, at_most: int) -> dict[str, dict[str, str]]:
        """A sentence on each entry that the guard narrows, with the entry and its source; and on those beyond."""
        assert self.ruleset
        narrowed = self.ruleset.narrowed_by_guard()
        found = {
            f"{span} of {source.name} is narrowed by the guard: {guard.span} is {_article(guard.source)}": {
                "entry": str(span),
                "source": source.name,
            }
            for source, span, guard in islice(narrowed, at_most)
        }
        if next(narrowed, None):
            found[f"the guard narrows more entries than the {at_most} that are named"] = {}
        return found


def count(ruleset: Ruleset | None) -> int:
    """How many entries a ruleset has, as written."""
    return sum(source.count for source in ruleset.sources) if ruleset else 0


def _article(what: str) -> str:
    return "the loopback network" if what == "loopback" else f"an {what}" if what[0] in "aeiou" else f"a {what}"
