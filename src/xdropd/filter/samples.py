"""Sampled drops for the log: who, how much, where, and listed by whom. The kernel decides how many there are."""

import time
from collections.abc import Callable

from xdropd.filter.filter import Filter
from xdropd.host.log import Log
from xdropd.kernel.abi import Sample
from xdropd.rules.winners import State
from xdropd.text.addresses import Span
from xdropd.text.settings import Settings

_AT_ONCE_SECONDS = 0.5  # as many as the rate gives in this time, and one, may come together


class SampleLog:
    """Keeps to the rate that was chosen where several CPUs sampled at one moment: a bucket of tokens."""

    def __init__(self, log: Log, place_of: Callable[[int], tuple[str, str]]) -> None:
        self._log = log
        self._place_of = place_of
        self._left = 1.0
        self._counted_ns = time.monotonic_ns()

    def log(self, kernel: Filter, settings: Settings, state: State | None) -> None:
        """Tell of what was sampled since the last call."""
        now_ns, per_minute = time.monotonic_ns(), settings.log_drops_per_minute
        gained = (now_ns - self._counted_ns) / 60e9 * per_minute
        self._counted_ns = now_ns
        self._left = min(self._left + gained, max(1.0, per_minute / 60 * _AT_ONCE_SECONDS + 1))
        for sample in kernel.samples():
            if per_minute and self._left >= 1:
                self._left -= 1
                self._tell(sample, settings, state)

    def _tell(self, sample: Sample, settings: Settings, state: State | None) -> None:
        address = int.from_bytes(sample.source, "big")
        source = Span(sample.version, address, address)
        held = state.holder(sample.version, address) if state else None
        entry = str(Span(*held[1][:3])) if held else str(source)
        name, port = self._place_of(sample.ifindex)
        place = f"{name} (port {port})" if port else name
        verb = "would drop" if settings.action == "monitor" else "dropped"
        message = f"{verb} {sample.length_bytes} bytes from {source} on {place}, listed as {entry}"
        fields = {"interface": name, "entry": entry, **({"port": port} if port else {})}
        if held:
            message += f" by {held[0].name}"
            fields["source"] = held[0].name
        self._log.info("drop", message, **fields)
