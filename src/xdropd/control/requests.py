"""The verbs of the control socket. docs/protocol.md describes them; JSON keys are a contract."""

from collections.abc import Iterator, Mapping
from typing import Any

from xdropd.control.answers import Answers
from xdropd.control.fetches import Fetches
from xdropd.control.operations import Operations
from xdropd.control.watch import Watch
from xdropd.daemon.parts import Parts
from xdropd.errors import BadRequest
from xdropd.host.control import Line

_KEYS = {
    "accept",
    "address",
    "by",
    "count",
    "cursor",
    "ends",
    "entries",
    "entry",
    "lines",
    "reason",
    "seconds",
    "source",
    "tag",
    "urls",
    "widest",
}


class Requests:
    """Those to one daemon. Callable as the control server's handler."""

    def __init__(self, parts: Parts) -> None:
        answers, operations, fetches = Answers(parts), Operations(parts), Fetches(parts)
        self._verbs = {
            "status": answers.status,
            "list": answers.list,
            "lookup": answers.lookup,
            "top": answers.top,
            "metrics": answers.metrics,
            "block": operations.block,
            "unblock": operations.unblock,
            "flush": operations.flush,
            "replace": operations.replace,
            "change": operations.change,
            "watch": Watch(parts).watch,
            "reload": operations.reload,
            "fetch": fetches.fetch,
        }

    def __call__(self, request: Mapping[str, Any]) -> Iterator[Line]:
        """Replies to one request. Raises XdropdError."""
        verb = self._verbs.get(request["verb"])
        if verb is None:
            raise BadRequest(f"there is no verb {request['verb']!r}", f"there are {', '.join(self._verbs)}")
        return verb({key: value for key, value in request.items() if key in _KEYS})
