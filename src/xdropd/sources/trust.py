"""May a new version of a list file take the place of the last good one? A feed that breaks must not unblock."""

from xdropd.text.listfiles import Tally


def objection(new: Tally, last_entries: int | None) -> str | None:
    """Why `new` must not take the place of the last good version, that had `last_entries` (None: there is none).

    None if nothing speaks against it.
    """
    count = new.entries
    if new.unparsed * 10 > new.lines:
        return f"{new.unparsed} of its {new.lines} lines do not parse"
    if count == 0 and last_entries != 0:
        return "it has no entries" if last_entries is None else f"it has no entries any more, and had {last_entries}"
    if last_entries is not None and last_entries >= 100 and count * 2 < last_entries:
        return f"it has {count} {'entry' if count == 1 else 'entries'}, and had {last_entries}"
    return None
