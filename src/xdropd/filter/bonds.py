"""Bonds take their ports one after the other: of which may more be coming in a moment?

The mode of a bond is chosen by what its ports can, and one that is filtered natively takes no port that cannot. So that
a bond that is just being put together is given a mode that suits them all, it is left alone for a moment.
"""

from xdropd.filter.carriers import Surroundings

AT_REST_AFTER_SECONDS = 0.3


class Gathering:
    """What was seen of all bonds so far. The first look finds them at rest."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[list[int], float]] | None = None

    def look(self, around: Surroundings, now: float) -> dict[int, float]:
        """The bonds whose ports have changed lately, and when they will be at rest if that was all."""
        bonds = {index: around.ports(index) for index, link in around.links.items() if link.kind == "bond"}
        if self._seen is None:
            self._seen = {index: (ports, float("-inf")) for index, ports in bonds.items()}
        before = self._seen
        self._seen = {
            index: before[index] if index in before and before[index][0] == ports else (ports, now)
            for index, ports in bonds.items()
        }
        due = {index: since + AT_REST_AFTER_SECONDS for index, (_, since) in self._seen.items()}
        return {index: at for index, at in due.items() if at > now}
