"""PPPoE sessions of this network namespace: which device each one goes over.

From /proc/net/pppoe (pppoe_seq_show in drivers/net/ppp/pppoe.c): a line of titles, then one a session with its number,
the other side's address and the device. It does not say which ppp device a session belongs to, and nothing else does.
Under `self`, for that stays where services see no more of /proc than processes (ProcSubset=pid).
"""

import os
from pathlib import Path

from xdropd.text import names

_SESSIONS = Path("/proc/self/net/pppoe")


def devices() -> frozenset[str]:
    """Names, as they are told, of the devices below all sessions; none where the kernel has no PPPoE."""
    try:
        return read(_SESSIONS.read_bytes())
    except OSError:
        return frozenset()


def read(table: bytes) -> frozenset[str]:
    """The same of a table's text."""
    rows = (line.split() for line in table.splitlines()[1:])
    return frozenset(names.shown(os.fsdecode(row[2])) for row in rows if len(row) == 3)
