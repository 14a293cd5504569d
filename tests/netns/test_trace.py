"""A reload is followed through few files, each of which makes one form of the list out of another.

Run as a program (`sudo scripts/trace-reload`), it prints the way.
"""

import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from foreground import Daemon

from netns import Net

_FILES_AT_MOST = 8
# They carry values from one thread to the other, whatever they are.
_CARRIERS = ("daemon/reactor.py", "host/fileworker.py")
_TOLD = "daemon/announcing.py"


class Call(NamedTuple):
    """Of a function that was given the list, or that returned it."""

    file: str
    function: str
    returned: bool
    forms: tuple[str, ...]


class TracedDaemon(Daemon):
    """What it says of reloads is in `trace`."""

    program = (str(Path(__file__).with_name("traced.py")),)


def traced(folder: Path) -> list[Call]:
    """The calls of one reload in which an address, a network and a range come and go, up to the last record."""
    trace = folder / "trace"
    (folder / "etc").mkdir()
    listed = folder / "etc" / "listed"
    listed.write_text("192.0.2.1\n198.18.0.0/24\n203.0.113.3-203.0.113.9\n")
    with (
        Net() as net,
        TracedDaemon(
            net, folder, "block: []\ninclude:\n  - listed\n", environment={"XDROPD_TRACE": str(trace)}
        ) as daemon,
    ):
        listed.write_text("192.0.2.2\n198.18.1.0/24\n203.0.113.3-203.0.113.8\n")
        assert daemon.ask("reload")[-1]["result"]["ok"]
        calls = []
        for line in trace.read_text().splitlines():
            file, function, did, *forms = line.split()
            calls.append(Call(file, function, did == "returned", tuple(forms)))
    told = next(at for at, call in enumerate(calls) if call.file == _TOLD)
    return [call for call in calls[:told] if call.file not in _CARRIERS]


def way_of(calls: list[Call]) -> list[str]:
    """The files, in the order in which the list comes to them."""
    return list(dict.fromkeys(call.file for call in calls))


def test_a_reload_is_followed_through_few_files(tmp_path: Path) -> None:
    calls = traced(tmp_path)
    way = way_of(calls)
    assert len(way) <= _FILES_AT_MOST, way
    assert way[-1].startswith("kernel/"), "the trace reaches to the records"
    makers: dict[str, set[str]] = {}
    for call in calls:
        if call.returned and call.function in ("read", "state", "plan"):
            makers.setdefault(call.forms[0], set()).add(call.file)
    assert {"ListFile", "Reading", "State", "Plan"} <= makers.keys()
    assert {len(files) for files in makers.values()} == {1}, makers


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        found = traced(Path(made))
        for number, name in enumerate(way_of(found), start=1):
            first = next(call for call in found if call.file == name)
            sys.stdout.write(f"{number}  {name:24} {first.function}({', '.join(first.forms)})\n")
