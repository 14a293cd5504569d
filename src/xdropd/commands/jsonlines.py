"""An entry as a JSON object on a line of standard input, with its end and its reason.

As `xdropctl --json list` prints them, so what one source lists can be given to another; keys that say what has become
of an entry are passed over.
"""

from __future__ import annotations

import json
import time

from xdropd.commands import arguments
from xdropd.text.entrylines import FOR_GOOD, end_of

_KEYS = ("entry", "until", "for", "reason")
_PASSED_OVER = ("source", "line", "since", "packets", "bytes", "last_seen", "rate", "action")


def read(line: str, *, with_end: bool) -> tuple[str, str]:
    """The entry, and what stands behind it in a line of the control socket. Raises ValueError with a sentence.

    Without `with_end` it is enough that end and reason make sense.
    """
    try:
        said = json.loads(line)
    except (ValueError, RecursionError) as problem:
        raise ValueError(f"this is not JSON: {problem}") from None
    unknown = next((key for key in said if key not in _KEYS + _PASSED_OVER), None)
    if unknown is not None:
        raise ValueError(f"there is no key {unknown!r}, there are {', '.join(_KEYS)}")
    entry, reason = said.get("entry"), said.get("reason")
    if not isinstance(entry, str) or not entry:
        raise ValueError('"entry" is missing, write the address, network or range as a text')
    if isinstance(reason, str):
        arguments.reason(reason)
    elif reason is not None:
        raise ValueError('"reason" is a text')
    until = _until(said)
    return entry, f"\t{until}\t{reason or ''}" if with_end and (until or reason) else ""


def _until(said: dict[str, object]) -> str:
    """Nothing where it is for the options to say; null is for good, as `list` prints it."""
    until, duration = said.get("until"), said.get("for")
    if until is not None and duration is not None:
        raise ValueError('there are both "until" and "for", write one of them')
    if duration is not None:
        seconds = arguments.duration(str(duration))  # which takes no list and no object either
        return FOR_GOOD if seconds is None else f"{time.time() + seconds:.3f}"
    if until is None:
        return FOR_GOOD if "until" in said else ""
    end_of(str(until))
    return str(until)
