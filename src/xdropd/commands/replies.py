"""What the lines of an answer say, many at a time: rows as columns, in the order of their keys.

Rows of one answer have the same keys, and hold texts, numbers and nulls. So a pattern takes the lines apart, and each
column is decoded as one list, in half of the time that an object for each row takes. Knows no verb and no socket.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any

Columns = Mapping[str, Sequence[Any]]
"""The values of some rows by their key."""

# A text of RFC 8259, or whatever else is one value. Nothing in it can be matched in two ways, so it never looks back.
_VALUE = r'("[^"\\\n]*+(?:\\.[^"\\\n]*+)*+"|[^]["{},\n]++)'


def said_in(lines: bytes) -> Iterator[Mapping[str, Any]]:
    """What whole lines say. Rows that follow each other come as one reply: {"rows": Columns}."""
    text = lines.decode(errors="surrogatepass")
    if rows := _rows(text):
        yield {"rows": rows}
        return
    replies = _list(text.split("\n"))
    for keys, some in groupby(replies, lambda reply: tuple(reply.get("row", ()))):
        if keys:
            found = [reply["row"] for reply in some]
            yield {"rows": {key: [row[key] for row in found] for key in keys}}
        else:
            yield from some


def rows_of(columns: Columns) -> Iterator[dict[str, Any]]:
    """Row by row."""
    return (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))


def _rows(text: str) -> Columns | None:
    """Lines that are rows of the same keys; None where some are not, as at the end of every answer."""
    if not (text.startswith('{"row":') and text.rpartition("\n")[2].startswith('{"row":')):
        return None
    keys = tuple(json.loads(text.partition("\n")[0])["row"])
    found = _pattern(keys).findall(text) if len(keys) > 1 else []  # of one alone it would not find tuples
    if len(found) <= text.count("\n"):
        return None
    return dict(zip(keys, map(_list, zip(*found, strict=True)), strict=True))


def _list(values: Iterable[str]) -> list[Any]:
    decoded: list[Any] = json.loads(f"[{','.join(values)}]")
    return decoded


@lru_cache
def _pattern(keys: tuple[str, ...]) -> re.Pattern[str]:
    fields = ",".join(f"{re.escape(json.dumps(key))}:{_VALUE}" for key in keys)
    return re.compile(rf'^{{"row":{{{fields}}}}}$', re.MULTILINE)
