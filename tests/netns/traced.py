"""The daemon as it is, with an ear on every call: which files the list passes through in a reload, and in which form.

A program, started in place of xdropd: what it heard of the last reload is in the file that $XDROPD_TRACE names, a line
for each call that was given the list in one of its forms, or that returned one: FILE FUNCTION called|returned FORM...
sys.setprofile(3) is set for the loop while the reload takes a step, and for the workers.
"""

import inspect
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import xdropd
from xdropd.commands.xdropd import main
from xdropd.daemon import loop
from xdropd.daemon.parts import Parts
from xdropd.daemon.wanted import ReloadRequest
from xdropd.host import fileworker
from xdropd.rules.desired import Desired
from xdropd.rules.plan import Changes, Plan
from xdropd.rules.winners import Records, State
from xdropd.sources.catalogue import Reading
from xdropd.text.blocklist import Blocklist
from xdropd.text.listfiles import ListFile

FORMS = (Blocklist, ListFile, Reading, Desired, State, Plan, Changes, Records)
_PACKAGE = Path(xdropd.__file__).parent
_reload, _do = loop.reload, fileworker.Work.do
_heard: list[str] = []


def _hear(frame: FrameType, event: str, returned: object) -> None:
    file = Path(frame.f_code.co_filename)
    if event not in ("call", "return") or not file.is_relative_to(_PACKAGE):
        return
    given = (frame.f_locals.get(name) for name in inspect.getargs(frame.f_code).args)
    values = given if event == "call" else (returned,)
    if forms := [type(value).__name__ for value in values if isinstance(value, FORMS)]:
        did = "called" if event == "call" else "returned"
        _heard.append(" ".join([str(file.relative_to(_PACKAGE)), frame.f_code.co_name, did, *forms]))


def _traced_reload(parts: Parts, request: ReloadRequest) -> Iterator[None]:
    _heard.clear()
    reloading = _reload(parts, request)
    while True:
        sys.setprofile(_hear)
        try:
            next(reloading)
        except StopIteration:
            return
        finally:
            sys.setprofile(None)
            if any(line.endswith("Changes") for line in _heard):  # not of the reload that finds that nothing changed
                Path(os.environ["XDROPD_TRACE"]).write_text("".join(f"{line}\n" for line in _heard))
        yield


def _traced_work(work: fileworker.Work[object]) -> None:
    sys.setprofile(_hear)
    try:
        _do(work)
    finally:
        sys.setprofile(None)


if __name__ == "__main__":
    loop.reload = _traced_reload
    fileworker.Work.do = _traced_work  # type: ignore[method-assign]
    sys.exit(main())
