"""Exit statuses, after sysexits.h; the only place that knows them.

Kinds of problems go by the names of their classes, so that xdropctl can ask for the kind that the daemon's answer names
without loading what it takes to raise one.
"""

DONE = 0
NO = 1
WRONG_USAGE = 2
UNAVAILABLE = 69
BUG = 70
TOO_OLD = 71
NOT_PERMITTED = 77
BAD_INPUT = 78

_CODES = {
    "RefusedFile": BAD_INPUT,
    "NotPermitted": NOT_PERMITTED,
    "BadRequest": WRONG_USAGE,
    "Refused": NO,
    "Lost": NO,
    "KernelTooOld": TOO_OLD,
    "Bug": BUG,
}


def code_for(problem: Exception) -> int:
    """The exit status that tells of a problem."""
    return next((_CODES[kind.__name__] for kind in type(problem).__mro__ if kind.__name__ in _CODES), UNAVAILABLE)


def code_for_kind(kind: str) -> int:
    """The same, for the "kind" of an error that came over the control socket."""
    return _CODES.get(kind, UNAVAILABLE)
