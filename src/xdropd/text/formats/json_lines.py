"""One object a line with a "cidr" (Spamhaus DROP); objects of type "metadata" are comments."""

import json

from xdropd.text import wording
from xdropd.text.formats.lines import Entry, Format, entry


def _parse(text: str) -> Entry | None:
    if text.lstrip()[0] != "{":
        raise ValueError(f"not a JSON object: {wording.quoted(text.strip())}")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not a JSON object ({error}): {wording.quoted(text.strip())}") from None
    cidr = value.get("cidr")
    if isinstance(cidr, str):
        return entry(cidr)
    if value.get("type") == "metadata":
        return None
    raise ValueError(f"a JSON object without 'cidr': {wording.quoted(text.strip())}")


FORMAT = Format(_parse)
