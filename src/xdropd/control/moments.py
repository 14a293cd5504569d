"""Moments as the protocol tells them: RFC 3339 in UTC."""

import time
from datetime import UTC, datetime
from functools import lru_cache


@lru_cache(maxsize=256)  # most entries of a list came at one moment
def moment(seconds: float | None) -> str | None:
    """RFC 3339 in UTC."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def wall_clock(monotonic_ns: int) -> float:
    """The time of day at a moment of CLOCK_MONOTONIC."""
    return time.time() - (time.monotonic_ns() - monotonic_ns) / 1e9
