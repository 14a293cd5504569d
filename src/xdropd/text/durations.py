"""Lengths of time as people write them: 90s, 15m, 2h, 7d, plain seconds."""

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(text: str) -> int | None:
    """Whole seconds, at least one; None if it is no duration."""
    number, unit = (text[:-1], _UNITS_S[text[-1]]) if text[-1:] in _UNITS_S else (text, 1)
    if not (number.isascii() and number.isdecimal()) or int(number[:20]) == 0:
        return None
    return int(number[:20]) * unit
