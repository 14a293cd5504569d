"""What the kernel's part is in tests of the list arithmetic: maps that carry out a plan, and the lookup of a packet."""

from xdropd.rules.plan import Plan
from xdropd.rules.ruleset import VERSIONS, Layout
from xdropd.text.addresses import WIDTH, Span


def apply(layout: Layout, plan: Plan) -> Layout:
    addresses = {version: dict(layout.addresses[version]) for version in VERSIONS}
    prefixes = dict(layout.prefixes)
    for prefix in plan.exempt_set:
        prefixes[prefix] = None
    prefixes.update(plan.listed_set)
    for version in VERSIONS:
        addresses[version].update(plan.addresses_set[version])
        for key in plan.addresses_removed[version]:
            del addresses[version][key]
    for prefix in (*plan.listed_removed, *plan.exempt_removed):
        del prefixes[prefix]
    return Layout(addresses, prefixes, (layout.cells | set(plan.cells_added)) - set(plan.cells_removed))


def answer(layout: Layout, version: int, key: int) -> tuple[Span, int] | None:
    """As xdrop_verdict looks it up: the address first, then the longest prefix."""
    if key in layout.addresses[version]:
        return Span(version, key, key), layout.addresses[version][key]
    holding = [
        (prefix.length_bits, listed)
        for prefix, listed in layout.prefixes.items()
        if prefix.version == version and prefix.first <= key < prefix.first + (1 << WIDTH[version] - prefix.length_bits)
    ]
    if not holding:
        return None
    listed = max(holding, key=lambda found: found[0])[1]
    return listed and (listed.span, listed.source)
