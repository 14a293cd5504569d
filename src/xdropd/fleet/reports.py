"""Reports: what this host has blocked by itself, and the server is yet to be told. A queue with a bound, as a value.

Its law: nothing that came from the server is reported to it, and of what is there nothing is taken back but what this
host has reported, for its name is part of the scenario. Knows no socket and no clock.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from fnmatch import fnmatchcase
from ipaddress import ip_address, summarize_address_range
from typing import Any, NamedTuple

ORIGIN = "xdropd"
WAITING_AT_MOST = 50_000
IN_AN_ALERT = 1000
"""So many decisions make one full."""

_FOR_GOOD_S = 10 * 365 * 86_400  # the server knows no decision without an end, and refuses one beyond 292 years


Key = tuple[str, str]
"""A source and one of its entries."""


class Block(NamedTuple):
    """An entry that a source has blocked."""

    until_s: float | None
    reason: str


class Reports:
    """See the module. What happens to an entry of a source takes the place of what happened to it before; but one that
    is blocked anew is taken back first, for at the server the decision that ends last is the one that counts."""

    def __init__(self, patterns: tuple[str, ...], own_prefix: str, machine: str) -> None:
        self._patterns = patterns
        self._own = f"{own_prefix}:"
        self._machine = machine
        self.blocked: dict[Key, Block] = {}
        """To be told, the oldest first."""
        self.unblocked: dict[Key, None] = {}
        """To be taken back, likewise."""
        self.cursor: str | None = None
        """Up to where xdropd's history is understood."""
        self.lost = 0
        """How many found no place, since somebody looked."""

    def __len__(self) -> int:
        """How many wait."""
        return len(self.blocked) + len(self.unblocked)

    def is_meant(self, source: str) -> bool:
        """Whether what a source does is reported."""
        if "/" in source or source.startswith(self._own):  # a file, of which selections have no line; or our own
            return False
        return any(fnmatchcase(source, each) for each in self._patterns)

    def take(self, event: Mapping[str, Any]) -> None:
        """An event of `watch`, or an entry of `list`."""
        source, entry, what = event.get("source", ""), event.get("entry", ""), event.get("event", "block")
        if what in ("block", "unblock") and self.is_meant(source):
            key = source, entry
            self.blocked.pop(key, None)  # what is new goes behind what waits
            if what == "unblock":
                self.unblocked[key] = None
            else:
                until = event.get("until")
                until_s = datetime.fromisoformat(until).timestamp() if until else None
                self.blocked[key] = Block(until_s, event.get("reason") or "")
            if len(self) > WAITING_AT_MOST:
                waiting: dict[Key, Any] = self.blocked or self.unblocked
                del waiting[next(iter(waiting))]
                self.lost += 1
        self.cursor = event.get("cursor", self.cursor)

    def told(self, keys: Iterable[Key]) -> None:
        """The server knows that these are blocked."""
        for key in keys:
            del self.blocked[key]

    def taken_back(self, key: Key) -> None:
        """The server has let go of this one."""
        del self.unblocked[key]

    def later(self, key: Key) -> None:
        """To take this one back is refused: it goes behind the others."""
        self.unblocked[key] = self.unblocked.pop(key)

    def scenario(self, source: str) -> str:
        """Who has blocked it, and where."""
        return f"{source}@{self._machine}"

    def alerts(self, now_s: float, now: str) -> Iterator[tuple[dict[Key, Block], dict[str, Any]]]:
        """Blocks that wait, some at a time, and the alert that tells of them. What has ended is told to nobody."""
        by_source: dict[str, dict[Key, Block]] = {}
        for key, block in list(self.blocked.items()):
            if block.until_s is not None and block.until_s <= now_s:
                del self.blocked[key]
            elif key not in self.unblocked:
                by_source.setdefault(key[0], {})[key] = block
        for source, blocks in by_source.items():
            some: dict[Key, Block] = {}
            decisions: list[dict[str, str]] = []
            for key, block in blocks.items():
                some[key] = block
                decisions += self._decisions(key, block, now_s)
                if len(decisions) >= IN_AN_ALERT:
                    yield some, self._alert(source, some, decisions, now)
                    some, decisions = {}, []
            if some:
                yield some, self._alert(source, some, decisions, now)

    def _decisions(self, key: Key, block: Block, now_s: float) -> Iterator[dict[str, str]]:
        source, entry = key
        seconds = _FOR_GOOD_S if block.until_s is None else min(max(1, round(block.until_s - now_s)), _FOR_GOOD_S)
        said = {"duration": f"{seconds}s", "type": "ban", "scenario": self.scenario(source), "origin": ORIGIN}
        for value in _values(entry):
            yield {"value": value, "scope": "Range" if "/" in value else "Ip", **said}

    def _alert(
        self, source: str, blocks: Mapping[Key, Block], decisions: list[dict[str, str]], now: str
    ) -> dict[str, Any]:
        message = next(iter(blocks.values())).reason or f"blocked by {source}"
        return alert_of(self.scenario(source), message, decisions, now)

    def deletions(self, *, blocked_anew: bool) -> Iterator[tuple[Key, list[dict[str, str]]]]:
        """What waits to be taken back, with a new block behind it or without, and by which values it is found."""
        for key in self.unblocked:
            if (key in self.blocked) == blocked_anew:
                said = {"origin": ORIGIN, "scenario": self.scenario(key[0])}
                yield key, [{"value": value, **said} for value in _values(key[1])]

    # ---- what outlives the process ----

    def as_bytes(self) -> bytes:
        """To be kept."""
        said = {
            "version": 1,
            "cursor": self.cursor,
            "patterns": self._patterns,
            "blocked": [[*key, *block] for key, block in self.blocked.items()],
            "unblocked": list(self.unblocked),
        }
        return json.dumps(said).encode()

    def read(self, data: bytes) -> None:
        """What was kept. Raises ValueError where it was something else.

        Of a source that is named newly, what is there may never have been told: there is no cursor then.
        """
        try:
            kept = json.loads(data)
            blocked = {
                (str(source), str(entry)): Block(until_s, str(reason))
                for source, entry, until_s, reason in kept["blocked"]
            }
            unblocked = {(str(source), str(entry)): None for source, entry in kept["unblocked"]}
            cursor = kept["cursor"] if set(self._patterns) <= set(kept["patterns"]) else None
        except (AttributeError, KeyError, TypeError) as problem:
            raise ValueError(f"it lacks {problem}") from problem
        self.blocked, self.unblocked, self.cursor = blocked, unblocked, cursor


def _values(entry: str) -> list[str]:
    """What the server knows an entry as: it has no ranges, so one of them is the networks that it consists of."""
    first, dash, last = entry.partition("-")
    if not dash:
        return [entry]
    networks = summarize_address_range(ip_address(first), ip_address(last))
    return [str(each) if each.num_addresses > 1 else str(each.network_address) for each in networks]


def alert_of(scenario: str, message: str, decisions: list[dict[str, str]], now: str) -> dict[str, Any]:
    """An alert (models.Alert): the server wants every key. Durations count from `now`, which is in RFC 3339."""
    return {
        "scenario": scenario,
        "scenario_hash": "",
        "scenario_version": "",
        "message": message,
        "events_count": len(decisions),
        "start_at": now,
        "stop_at": now,
        "capacity": 0,
        "leakspeed": "0",
        "simulated": False,
        "events": [],
        "source": {key: decisions[0][key] for key in ("scope", "value")},
        "decisions": decisions,
    }
