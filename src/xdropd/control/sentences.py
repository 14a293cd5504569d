"""Sentences for callers: who else lists an entry, and what keeps it out."""

from collections.abc import Iterator

import numpy as np

from xdropd.columns.listing import SPANS, Listing, having
from xdropd.columns.prefixes import match
from xdropd.rules.allow import Exempt, Keeper
from xdropd.rules.winners import Source, State
from xdropd.text.addresses import Span

NAMED_AT_MOST = 100  # a batch can be large, a message is for reading
_KEEPERS_NAMED_AT_MOST = 10


def and_more(each: list[str], more: int, what: str) -> list[str]:
    """Sentences, and one on how many there are besides."""
    return [*each, f"{more} more {what}"] if more > 0 else each


def remarks(state: State, asked: Listing) -> list[str]:
    """Which of these entries stay blocked, and why. Of a few also who holds them from above."""
    exactly = _listed_exactly(state, asked)
    named = [Span(*row[:3]) for row in exactly.first_rows(NAMED_AT_MOST)]
    said = [f"{span} stays blocked, it is held by {', '.join(_holders(state, span))}" for span in named]
    said += [
        f"{span} stays blocked, it is held by {wider}"
        for span in (Span(*row[:3]) for row in asked.first_rows(NAMED_AT_MOST))
        if exactly.row(*span) is None and (wider := _wider_holder(state, span))
    ]
    return and_more(said, exactly.count - NAMED_AT_MOST, "stay blocked as well")


def _listed_exactly(state: State, asked: Listing) -> Listing:
    """Those that any source lists."""
    tables = {}
    for kind in SPANS:
        table = asked.table(kind)
        is_listed = np.zeros(len(table), bool)
        for source in _blocking(state) if len(table) else ():
            is_listed[match(table.keys, source.listing.table(kind).keys)[0]] = True
        tables[kind] = table.taken(is_listed)
    return having(asked, tables)


def _holders(state: State, span: Span) -> list[str]:
    """Who lists exactly this span: places in files, and callers of `block`."""
    return [
        f"{source.name}:{row.line}" if source.is_file else f"a block of {source.name}"
        for source in _blocking(state)
        if (row := source.listing.row(*span))
    ]


def _blocking(state: State) -> Iterator[Source]:
    return (source for source in state.sources if not source.monitors)


def _wider_holder(state: State, span: Span) -> str:
    """The network, range or selection that blocks an address all the same."""
    held = state.holder(span.version, span.first) if span.is_address else None
    if held is None or held[0].monitors or state.exempt.covers(*span):
        return ""
    source, row = held
    return f"{Span(*row[:3])} of {source.name}{f':{row.line}' if row.line else ''}"


def why_not_unblocked(state: State, span: Span, source_name: str) -> str:
    """Who holds it instead, and what to do about it."""
    listing = [(source, row) for source in _blocking(state) if (row := source.listing.row(*span))]
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
    return f"{span} is covered by {exempted_by(_covering(exempt, span))}, blocking it would have no effect"


def narrowed(exempt: Exempt, entries: Listing) -> list[str]:
    """On entries that are covered in part."""
    spans = [Span(*row[:3]) for row in entries.first_rows(NAMED_AT_MOST)]
    said = [f"{span} is narrowed by {exempted_by(exempt.touching(*span))}" for span in spans]
    return and_more(said, entries.count - len(said), "are narrowed as well")


def without_effect(exempt: Exempt, entries: Listing) -> list[str]:
    """On entries that are covered wholly, and are listed all the same."""
    spans = [Span(*row[:3]) for row in entries.first_rows(NAMED_AT_MOST)]
    said = [f"{span} does nothing while it is covered by {exempted_by(_covering(exempt, span))}" for span in spans]
    return and_more(said, entries.count - len(said), "are covered as well")


def _covering(exempt: Exempt, span: Span) -> list[Keeper]:
    return list(exempt.keepers(*span))[:1] or exempt.touching(*span)


def exempted_by(keepers: list[Keeper]) -> str:
    """What keeps something out."""
    said = [
        f"allow {Span(*keeper.row[:3])} of {keeper.source}{f':{keeper.row.line}' if keeper.row.line else ''}"
        if keeper.kind == "allow"
        else f"the guard of {Span(*keeper.row[:3])} ({keeper.source})"
        for keeper in keepers[:_KEEPERS_NAMED_AT_MOST]
    ]
    more = len(keepers) - len(said)
    return " and ".join([*said, f"{more} more"] if more else said)


def one_a_line(each: list[str], count: int) -> str:
    """One a line, and how many more of `count` there are."""
    more = count - len(each[:NAMED_AT_MOST])
    return "\n".join(each[:NAMED_AT_MOST] + ([f"and {more} more"] if more else []))
