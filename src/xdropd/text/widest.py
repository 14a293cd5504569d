"""`widest` as files write it: the shortest prefix lengths that a list of others may have. Loads no numpy.

What becomes of an entry that is too wide is in width.py, which computes with columns.
"""

import re

from xdropd.text import wording

WIDEST = (8, 16)
"""What is taken where nothing is said, of IPv4 and of IPv6."""
WIDTHS = {"ipv4": 32, "ipv6": 128}
"""The keys of a mapping, and the longest prefix of each."""

_LENGTH = re.compile(r"0|[1-9][0-9]{0,2}")


def length_in(text: str, width: int) -> int:
    """A prefix length of addresses with so many bits. Raises ValueError with a sentence."""
    if not _LENGTH.fullmatch(text) or int(text) > width:
        raise ValueError(f"{wording.quoted(text)} is no prefix length, write 0 to {width}")
    return int(text)
