"""Moments as the protocol tells them: RFC 3339 in UTC, whole seconds."""

import math
import time
from datetime import UTC, datetime
from functools import lru_cache

import numpy as np

from xdropd.columns.prefixes import Column


@lru_cache(maxsize=256)  # most entries of a list came at one moment
def moment(seconds: float | None) -> str | None:
    """RFC 3339 in UTC."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(math.floor(seconds), UTC).isoformat().replace("+00:00", "Z")


def moments(seconds: Column) -> list[str]:
    """The same of many."""
    texts: list[str] = np.datetime_as_string(np.floor(seconds).astype("M8[s]"), timezone="UTC").tolist()
    return texts


def monotonic_zero_s() -> float:
    """The time of day at which CLOCK_MONOTONIC was 0, as the clocks are now."""
    return time.time() - time.monotonic()
