"""Moments as RFC 3339 writes them: one as people do, or many as scripts do."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from xdropd.columns.prefixes import Column
from xdropd.text import wording

EXAMPLE = "2026-12-01T00:00:00Z"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# RFC 3339, section 5.6; with the space that its note allows, and with minutes alone.
_MOMENT = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)(?:[Tt ](?P<time>\d\d:\d\d)(?P<seconds>:\d\d(?:\.\d+)?)?"
    r"(?: ?(?P<zone>[Zz]|[+-]\d\d:?\d\d))?)?",
    re.ASCII,
)
_ZERO = ord("0")
_REGULAR = np.frombuffer(b"0000-00-00T00:00:00Z", np.uint8)  # the form that scripts write, any digit for a zero


def seconds(text: str) -> float:
    """Seconds since the epoch. Raises ValueError with a sentence."""
    match = _MOMENT.fullmatch(text)
    if not text:
        raise ValueError(f"nothing follows 'until:', write a time such as {EXAMPLE} or remove the line")
    if match is None:
        raise ValueError(f"{wording.quoted(text)} is not a time, write one such as {EXAMPLE}")
    date, time, seconds, zone = match.group("date", "time", "seconds", "zone")
    if zone is None:
        missing = "zone" if time else "time of day and no zone"
        suggestion = f"{date}T{time or '00:00'}{seconds or ':00'}"
        raise ValueError(
            f"{wording.quoted(text)} has no {missing}, write {suggestion}Z for UTC or, say, {suggestion}+02:00"
        )
    try:
        moment = datetime.fromisoformat(f"{date}T{time}{seconds or ':00'}{zone.upper()}")
    except ValueError as error:
        raise ValueError(f"{wording.quoted(text)} does not exist ({error}), write a time such as {EXAMPLE}") from None
    return (moment - _EPOCH).total_seconds()


def column(texts: Sequence[bytes]) -> Column:
    """The same of many, float64. Raises ValueError if one of them is no moment."""
    found = _regular(b"".join(texts), len(texts))
    if found is None:
        known = {text: seconds(text.decode()) for text in set(texts)}
        found = np.fromiter(map(known.__getitem__, texts), np.float64, len(texts))
    return found


def _regular(joined: bytes, count: int) -> Column | None:
    """Seconds of moments that are all in the regular form; None if they are not, or if one does not exist."""
    if not joined or len(joined) != count * len(_REGULAR):
        return None
    octets = np.frombuffer(joined, np.uint8).reshape(count, -1)
    digits = octets - _ZERO  # what is no digit becomes 10 or more
    if not (np.where(digits < 10, _ZERO, octets) == _REGULAR).all():
        return None
    numbers = digits.astype(np.int64)
    year = numbers[:, :4] @ [1000, 100, 10, 1]
    month, day, hour, minute, second = (numbers[:, at] * 10 + numbers[:, at + 1] for at in (5, 8, 11, 14, 17))
    # By numbers: from a text that is no moment, numpy 1.24 dies of a segmentation fault.
    months = ((year - 1970) * 12 + month - 1).astype("datetime64[M]")
    days = months.astype("datetime64[D]") + (day - 1)
    exists = (year > 0) & (month > 0) & (month <= 12) & (days.astype("datetime64[M]") == months)
    if not (exists & (hour < 24) & (minute < 60) & (second < 60)).all():
        return None
    found: Column = (days.astype(np.int64) * 86_400 + hour * 3600 + minute * 60 + second).astype(np.float64)
    return found
