"""Sentences for callers: who else lists an entry, and what keeps it out."""

from itertools import islice

from xdropd.columns.listing import Listing, common
from xdropd.rules.allow import Exempt, Keeper
from xdropd.rules.winners import State
from xdropd.text.addresses import Span

NAMED_AT_MOST = 100  # a batch can be large, a message is for reading
_KEEPERS_NAMED_AT_MOST = 10


def remarks(state: State, spans: list[Span], asked: Listing) -> list[str]:
    """Which of these spans, which `asked` lists, stay blocked, and why. Of a few also who holds them from above."""
    exactly = {Span(*row[:3]) for source in state.sources for row in common(source.listing, asked)}
    said = [
        f"{span} stays blocked, it is held by {', '.join(_holders(state, span))}"
        for span in islice((span for span in spans if span in exactly), NAMED_AT_MOST)
    ]
    said += [
        f"{span} stays blocked, it is held by {wider}"
        for span in spans[:NAMED_AT_MOST]
        if span not in exactly and (wider := _wider_holder(state, span))
    ]
    more = len(exactly) - NAMED_AT_MOST
    return [*said, f"{more} more stay blocked as well"] if more > 0 else said


def _holders(state: State, span: Span) -> list[str]:
    """Who lists exactly this span: places in files, and callers of `block`."""
    return [
        f"{source.name}:{row.line}" if source.is_file else f"a block of {source.name}"
        for source in state.sources
        if (row := source.listing.row(*span))
    ]


def _wider_holder(state: State, span: Span) -> str:
    """The network or range that blocks an address all the same."""
    held = state.holder(span.version, span.first) if span.is_address else None
    if held is None or state.exempt.covers(*span):
        return ""
    source, row = held
    return f"{Span(*row[:3])} of {source.name}{f':{row.line}' if row.line else ''}"


def why_not_unblocked(state: State, span: Span, source_name: str) -> str:
    """Who holds it instead, and what to do about it."""
    listing = [(source, row) for source in state.sources if (row := source.listing.row(*span))]
    places = [f"{source.name}:{row.line}" for source, row in listing if source.is_file]
    callers = [source.name for source, _ in listing if not source.is_file]
    said = f"{span} is not blocked by {source_name}"
    if callers:
        said += f", but by {' and '.join(callers)} (see --source)"
    if places:
        said += f"; {' and '.join(places)} {'lists' if len(places) == 1 else 'list'} it: take it out there, or allow it"
    elif not callers and (wider := _wider_holder(state, span)):
        said += f"; {wider} blocks it: allow it in the blocklist"
    return said


def why_refused(exempt: Exempt, span: Span) -> str:
    """What covers all of it."""
    keepers = list(exempt.keepers(*span))[:1] or exempt.touching(*span)
    return f"{span} is covered by {exempted_by(keepers)}, blocking it would have no effect"


def exempted_by(keepers: list[Keeper]) -> str:
    """What keeps something out."""
    said = [
        f"allow {Span(*keeper.row[:3])} of {keeper.source}:{keeper.row.line}"
        if keeper.kind == "allow"
        else f"the guard of {Span(*keeper.row[:3])} ({keeper.source})"
        for keeper in keepers[:_KEEPERS_NAMED_AT_MOST]
    ]
    more = len(keepers) - len(said)
    return " and ".join([*said, f"{more} more"] if more else said)


def one_a_line(each: list[str], count: int = 0) -> str:
    """One a line, and how many more there are."""
    more = (count or len(each)) - len(each[:NAMED_AT_MOST])
    return "\n".join(each[:NAMED_AT_MOST] + ([f"and {more} more"] if more else []))
