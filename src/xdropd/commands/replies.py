"""What the lines of an answer say, many at a time: rows as columns, in the order of their keys.

To make an object of every row, decoded key by key, would be most of what a listing of a million takes. But the rows of
an answer have the same keys. So a pattern finds the values that are a row's own, each column of which is decoded as one
list; what stands behind them many rows have alike, and it is decoded once for these. Knows no verb and no socket.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any

Columns = Mapping[str, Sequence[Any]]
"""The values of some rows by their key."""

_OWN = 3  # values that a row shares with no other, or few: the first ones, such as an entry, its source and its line
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
    own = keys[:_OWN]
    found = _pattern(own).findall(text) if len(keys) > len(own) else []
    if len(found) <= text.count("\n"):
        return None
    *columns, rests = zip(*found, strict=True)
    distinct = set(rests)
    objects = dict(zip(distinct, _list(f"{{{rest}}}" for rest in distinct), strict=True))
    if any((*own, *each) != keys for each in objects.values()):
        return None
    values = {rest: tuple(each.values()) for rest, each in objects.items()}
    shared = zip(*map(values.__getitem__, rests), strict=True)
    return dict(zip(keys, (*map(_list, columns), *shared), strict=True))


def _list(values: Iterable[str]) -> list[Any]:
    decoded: list[Any] = json.loads(f"[{','.join(values)}]")
    return decoded


@lru_cache
def _pattern(keys: tuple[str, ...]) -> re.Pattern[str]:
    fields = ",".join(f"{re.escape(json.dumps(key))}:{_VALUE}" for key in keys)
    return re.compile(rf'^{{"row":{{{fields},(.*)}}}}$', re.MULTILINE)
