"""eMule's ipfilter.dat: "001.002.003.004 - 005.006.007.008 , 000 , name".

From access level 128 on a line means "not filtered".
"""

import re

from xdropd.text import wording
from xdropd.text.formats.lines import DECIMALS, Entry, Format, decimal_range

_LINE = re.compile(rf"\s*{DECIMALS}\s*-\s*{DECIMALS}\s*(?:,\s*([0-9]{{1,3}})\s*(?:,.*)?)?")
_NOT_FILTERED = 128


def _parse(text: str) -> Entry | None:
    match = _LINE.fullmatch(text)
    if match is None:
        raise ValueError(f"not a range, an access level and a name: {wording.quoted(text.strip())}")
    if match[3] and int(match[3]) >= _NOT_FILTERED:
        return None
    return decimal_range(match[1], match[2])


FORMAT = Format(_parse)
