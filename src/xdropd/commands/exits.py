"""Exit statuses, after sysexits.h; the only place that knows them."""

from xdropd import errors

DONE = 0
NO = 1
WRONG_USAGE = 2
UNAVAILABLE = 69
BUG = 70
NOT_PERMITTED = 77
BAD_INPUT = 78

_CODES = {
    errors.RefusedFile: BAD_INPUT,
    errors.NotPermitted: NOT_PERMITTED,
    errors.BadRequest: WRONG_USAGE,
    errors.Refused: NO,
}


def code_for(problem: errors.XdropdError) -> int:
    """The exit status that tells of a problem."""
    for kind, code in _CODES.items():
        if isinstance(problem, kind):
            return code
    return UNAVAILABLE
