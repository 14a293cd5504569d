"""From one layout to another: every step, in an order that is safe at each instant.

Pure. The law: while a plan is carried out, no packet of a source that is listed before and after passes, and none of a
source that is listed neither before nor after is dropped, wherever it is interrupted.

Why the order below keeps it. An exempt prefix never holds a listed address of its own layout, and the address map is
asked before the prefixes. While prefixes are added, the longest match of an address is either one of the old layout's
(and says what the old one said), or one of the new layout's; the new exempt ones are there before the new listed ones,
so a new listed prefix never shows where the new layout has an exemption within it. While prefixes are removed, every
new one is there already; the old listed ones go before the old exempt ones, so none shows that an exemption covered.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from xdropd.rules.ruleset import VERSIONS, Layout, Listed, Prefix


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do, in the order of the fields. Addresses that change their source are among those set.

    `addresses_reowned` tells the source that those were credited to before. `new_prefixes` says how many keys of each
    version the maps must have room for.
    """

    cells_added: tuple[Listed, ...] = ()
    exempt_set: tuple[Prefix, ...] = ()
    listed_set: tuple[tuple[Prefix, Listed], ...] = ()
    addresses_set: dict[int, dict[int, int]] = field(default_factory=lambda: {4: {}, 6: {}})
    addresses_removed: dict[int, dict[int, int]] = field(default_factory=lambda: {4: {}, 6: {}})
    listed_removed: tuple[Prefix, ...] = ()
    exempt_removed: tuple[Prefix, ...] = ()
    cells_removed: tuple[Listed, ...] = ()
    addresses_reowned: dict[int, dict[int, int]] = field(default_factory=lambda: {4: {}, 6: {}})
    new_prefixes: dict[int, int] = field(default_factory=lambda: {4: 0, 6: 0})

    def __bool__(self) -> bool:
        return any(self._sizes())

    def _sizes(self) -> Iterator[int]:
        yield from map(len, (self.cells_added, self.exempt_set, self.listed_set, self.listed_removed))
        yield from map(len, (self.exempt_removed, self.cells_removed))
        for version in VERSIONS:
            yield len(self.addresses_set[version])
            yield len(self.addresses_removed[version])

    @property
    def new_addresses(self) -> dict[int, int]:
        """How many keys of each version the maps must have room for."""
        return {
            version: len(self.addresses_set[version]) - len(self.addresses_reowned[version]) for version in VERSIONS
        }

    @property
    def steps(self) -> int:
        """How many single changes there are."""
        return sum(self._sizes())


def difference(before: Layout, after: Layout) -> Plan:
    """The plan that makes `after` of `before`; both describe the same region."""
    listed_set, exempt_set = [], []
    new_prefixes = dict.fromkeys(VERSIONS, 0)
    for prefix, winner in after.prefixes.items():
        if prefix not in before.prefixes:
            new_prefixes[prefix[0]] += 1
        elif before.prefixes[prefix] == winner:
            continue
        if winner is None:
            exempt_set.append(prefix)
        else:
            listed_set.append((prefix, winner))
    gone = [prefix for prefix in before.prefixes if prefix not in after.prefixes]
    return Plan(
        cells_added=tuple(after.cells - before.cells),
        exempt_set=tuple(exempt_set),
        listed_set=tuple(listed_set),
        addresses_set={
            version: {
                key: number
                for key, number in after.addresses[version].items()
                if before.addresses[version].get(key) != number
            }
            for version in VERSIONS
        },
        addresses_removed={
            version: {
                key: number for key, number in before.addresses[version].items() if key not in after.addresses[version]
            }
            for version in VERSIONS
        },
        listed_removed=tuple(prefix for prefix in gone if before.prefixes[prefix] is not None),
        exempt_removed=tuple(prefix for prefix in gone if before.prefixes[prefix] is None),
        cells_removed=tuple(before.cells - after.cells),
        addresses_reowned={
            version: {
                key: number
                for key, number in before.addresses[version].items()
                if after.addresses[version].get(key, number) != number
            }
            for version in VERSIONS
        },
        new_prefixes=new_prefixes,
    )
