"""Lengths of time as Go writes them: 1h2m3.4s. Apart from durations.py, which a ban loads and so loads nothing."""

import re

from xdropd.text import wording

# time.ParseDuration of Go, which writes the micro sign U+00B5 and takes U+03BC as well.
_GO_UNITS_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9}
_GO_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(h|ms|m|s|us|µs|μs|ns)")

_GO_USUAL = re.compile(r"(?:([0-9]+)h)?([0-9]+)m([0-9]+(?:\.[0-9]+)?)s")  # of which there are hundreds of thousands


def go_seconds(text: str) -> float:
    """Seconds of a duration as Go writes it: "3h59m59.8s", "911.5ms", "-987.791µs", "0s". Raises ValueError."""
    if usual := _GO_USUAL.fullmatch(text):
        hours, minutes, seconds = usual.groups("0")
        return int(hours) * 3600.0 + int(minutes) * 60.0 + float(seconds)
    sign, unsigned = (-1.0, text[1:]) if text.startswith("-") else (1.0, text.removeprefix("+"))
    if unsigned == "0":
        return 0.0
    total, at = 0.0, 0
    while match := _GO_PART.match(unsigned, at):
        total += float(match[1]) * _GO_UNITS_S[match[2]]
        at = match.end()
    if not unsigned or at < len(unsigned):
        raise ValueError(f"{wording.quoted(text)} is no duration, write one such as 10s, 1m30s or 1h")
    return sign * total
