"""The formats of list files: each is a file here and a line in the table. One format holds for a whole file.

xdropd-fetch, which loads no numpy, cannot ask them: where they have an address is in fetch/judging.py once more.
"""

from contextlib import suppress
from itertools import islice

from xdropd.text.formats import dshield, emule, hosts, json_lines, p2p, plain
from xdropd.text.formats.lines import Format, content_lines

FORMATS: tuple[Format, ...] = (
    plain.FORMAT,
    json_lines.FORMAT,
    dshield.FORMAT,
    p2p.FORMAT,
    emule.FORMAT,
)

_SAMPLE_LINES = 100


def format_of(data: bytes) -> Format:
    """The format that reads the most of the first lines; of those that read as many, the first."""
    if hosts.is_one(data):
        return hosts.FORMAT
    read = [0] * len(FORMATS)
    for text in islice(content_lines(data), _SAMPLE_LINES):
        for at, each in enumerate(FORMATS):
            with suppress(ValueError):
                each.read(text)
                read[at] += 1
    return FORMATS[read.index(max(read))]
