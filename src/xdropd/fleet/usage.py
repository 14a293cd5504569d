"""Usage metrics: what xdropd drops on the server's behalf, told to a server that takes it (CrowdSec 1.6.3 and later).

Its law: what is counted is told once. The numbers that were told last outlive the process, and others take their place
only when the server has those. (Where its answer is lost, they are told again: the protocol cannot tell.) xdropd does
not count by family, so `ip_type` is told of decisions alone. Form: models.AllMetrics of CrowdSec.
"""

from __future__ import annotations

import json
import os
import platform
import random
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import xdropd
from xdropd.errors import LocalApiError, XdropdError
from xdropd.fleet.bans import Bans
from xdropd.fleet.localapi import LocalApi
from xdropd.host.log import Log
from xdropd.host.statefolder import StateFolder
from xdropd.text.crowdsec import Configuration

FILE = "usage.json"

_TYPE = "xdropd-crowdsec"
_UNITS = ("packet", "byte")
_UNKNOWN = 404
_ASKED_AGAIN_S = 86_400.0  # somebody may have a newer server by then


class Counters(Protocol):
    """xdropd, over its control socket. Raises XdropdError."""

    def metrics(self) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """The sources and the rest of what `metrics` answers."""


class Counted(NamedTuple):
    """What xdropd has counted up to a moment, as packets and bytes."""

    at_s: float
    processed: dict[str, list[int]]
    """By interface."""
    dropped: dict[str, list[int]]
    """By origin."""

    @classmethod
    def of(cls, sources: list[dict[str, Any]], result: Mapping[str, Any], prefix: str, now_s: float) -> Counted:
        """What an answer of `metrics` says; the names of the fleet's sources begin with `prefix`."""
        totals = {each["name"]: each["totals"].values() for each in result["interfaces"]}
        processed = {
            name: [sum(volume[at] for volume in volumes) for at in range(2)] for name, volumes in totals.items()
        }
        ours = [source for source in sources if source["name"].startswith(prefix)]
        dropped = {each["name"].removeprefix(prefix): [each["packets"], each["bytes"]] for each in ours}
        return cls(now_s, processed, dropped)

    @classmethod
    def read(cls, data: bytes) -> Counted:
        """What `as_bytes` has made. Raises ValueError where it was something else."""
        try:
            kept = json.loads(data)
            volumes = [{name: [*map(int, volume)] for name, volume in kept[key].items()} for key in cls._fields[1:]]
            return cls(float(kept["at_s"]), *volumes)
        except (AttributeError, KeyError, TypeError) as problem:
            raise ValueError(f"it lacks {problem}") from problem

    def as_bytes(self) -> bytes:
        """To be kept."""
        return json.dumps({"version": 1, **self._asdict()}).encode()


def items(before: Counted, now: Counted, bans: Bans, *, drops: bool) -> Iterator[dict[str, Any]]:
    """What was counted in between, and the decisions in force now. While it only monitors, xdropd drops nothing."""
    grown = [_grown(before.processed.get(name), volume) for name, volume in now.processed.items()]
    yield from _volume("processed", [sum(each) for each in zip([0, 0], *grown, strict=True)], {})
    for origin, volume in now.dropped.items() if drops else ():
        yield from _volume("dropped", _grown(before.dropped.get(origin), volume), {"origin": origin})
    for origin, ip_type, count in bans.count_by_type():
        yield _item("active_decisions", count, "ip", {"origin": origin, "ip_type": ip_type})


def _grown(before: list[int] | None, now: list[int]) -> list[int]:
    """By how much. Counters that went back have begun anew."""
    pairs = list(zip(before or [0, 0], now, strict=True))
    return now if any(one > other for one, other in pairs) else [other - one for one, other in pairs]


def _volume(name: str, volume: list[int], labels: dict[str, str]) -> Iterator[dict[str, Any]]:
    yield from (_item(name, count, unit, labels) for count, unit in zip(volume, _UNITS, strict=True) if count)


def _item(name: str, value: int, unit: str, labels: dict[str, str]) -> dict[str, Any]:
    return {"name": name, "value": value, "unit": unit, "labels": labels}


class Usage:
    """Of one daemon, to one server, from time to time."""

    def __init__(
        self, configuration: Configuration, api: LocalApi, daemon: Counters, folder: StateFolder | None, log: Log
    ) -> None:
        self._every_s = configuration.usage_metrics
        self._prefix = f"{configuration.source}:"
        self._api = api
        self._daemon = daemon
        self._folder = folder
        self._log = log
        self._began_s = time.time()
        self._trouble = ""
        self._told = self._load()
        self._due_s = 0.0
        if self._told is not None:
            self._wait(self._every_s - min(max(0.0, self._began_s - self._told.at_s), self._every_s))

    def turn(self, bans: Bans) -> None:
        """Tell the server, if it is time. At first only see what is counted: that has no window that it belongs to."""
        if time.monotonic() < self._due_s:
            return
        try:
            sources, result = self._daemon.metrics()
        except XdropdError:
            return  # who tells xdropd of decisions has said so
        now = Counted.of(sources, result, self._prefix, time.time())
        self._wait(self._every_s)
        if self._told is None:
            self._keep(now)
        else:
            self._tell(now, list(items(self._told, now, bans, drops=result["state"] != "monitoring")))

    def _wait(self, seconds: float) -> None:
        self._due_s = time.monotonic() + seconds + random.uniform(0, self._every_s / 10)  # noqa: S311  # no secret

    def _tell(self, now: Counted, said: list[dict[str, Any]]) -> None:
        assert self._told is not None
        window_s = max(1, round(now.at_s - self._told.at_s))
        metrics = {"meta": {"window_size_seconds": window_s, "utc_now_timestamp": int(now.at_s)}, "items": said}
        component = {
            "type": _TYPE,
            "version": f"v{xdropd.__version__}",
            "feature_flags": [],
            "utc_startup_timestamp": int(self._began_s),
            "os": _os(),
            "metrics": [metrics],
        }
        try:
            self._api.usage_metrics({"remediation_components": [component]})
        except LocalApiError as problem:
            if problem.status == _UNKNOWN:
                self._due_s = time.monotonic() + _ASKED_AGAIN_S
                self._say("the server takes no usage metrics, as CrowdSec does from version 1.6.3 on")
            else:
                self._say(f"usage metrics: {problem}; they are told later")
        else:
            self._say("")
            self._keep(now)

    def _say(self, sentence: str) -> None:
        """Once, as long as it is the same. Nothing of what is blocked depends on it."""
        if sentence and sentence != self._trouble:
            self._log.info("usage", sentence)
        self._trouble = sentence

    # ---- what outlives the process ----

    def _load(self) -> Counted | None:
        try:
            data = self._folder.load(FILE) if self._folder else None
            return None if data is None else Counted.read(data)
        except (OSError, ValueError) as problem:
            self._log.warning("usage", f"{FILE}: {problem}; usage metrics begin anew")
            return None

    def _keep(self, now: Counted) -> None:
        self._told = now
        try:
            if self._folder:
                self._folder.save(FILE, now.as_bytes())
        except OSError as problem:
            self._log.error(
                "usage", f"{FILE}: {problem.strerror or problem}; usage metrics do not outlive this process"
            )


def _os() -> dict[str, str]:
    try:
        said = platform.freedesktop_os_release()
    except OSError:
        said = {}
    return {"name": said.get("NAME", "Linux"), "family": "linux", "version": said.get("VERSION_ID", os.uname().release)}
