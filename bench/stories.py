"""The life of a list of each kind: loaded at a fresh start, one line edited, replaced by `block: []`.

On the way: memory settled, at most, and given back; and how long `status` had to wait at worst while any of it went on.
Beside it `ipset restore` and `nft -f` of the same list.
"""

import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from bench import peers
from bench.answers import Waiting
from bench.daemon import Daemon
from bench.edit import Editing
from bench.figures import XDROPD, Demand, Effort, Figure, Report, Spread, in_turns
from bench.kinds import ADDRESSES, ADDRESSES6, ANNOTATED, NETWORKS, NETWORKS6, RANGES, Kind

EMPTY = "block: []\n"
GROUP = "kinds"

_ROUNDS = 3
_SETTLED_S = 5.0
_EMPTIED_WITHIN_S = 1.5
_BACK_AT_MB = 45.0
_ANSWERED_WITHIN_S = 0.1
_QUICK = 2_000
_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Story:
    """A list, and what is asked of it beyond what is asked of all."""

    kind: Kind
    count: int
    load: tuple[Demand, ...] = ()
    edit_s: float | None = None
    resident_mb: float | None = None
    peak_mb: float | None = None


_STORIES: tuple[Story, ...] = (
    Story(ADDRESSES, 10_000, resident_mb=40),
    Story(ADDRESSES, _MILLION, resident_mb=60),
    Story(ADDRESSES, 10 * _MILLION, (Demand(6),), resident_mb=250),
    Story(NETWORKS, 100_000, (Demand(0.5),)),
    Story(NETWORKS, 180_000, edit_s=0.05),
    Story(NETWORKS, _MILLION, (Demand(0.7, "ipset restore"),), edit_s=0.6, resident_mb=150, peak_mb=350),
    Story(RANGES, 300_000, (Demand(1.5),)),
    Story(ADDRESSES6, _MILLION, (Demand(0.6, "ipset restore"),), edit_s=0.5),
    Story(NETWORKS6, 300_000, (Demand(1.0, "ipset restore"),)),
    Story(ANNOTATED, _MILLION, (Demand(5),), resident_mb=200),
)


def measure(report: Report, effort: Effort) -> None:
    """Every story; in a quick run one of each kind, and of a few entries."""
    stories = _STORIES
    if effort.is_quick:
        stories = tuple({story.kind: replace(story, count=_QUICK) for story in stories}.values())
    for story in stories:
        with ExitStack() as stack:
            _Telling(story, report, effort, stack).tell()


class _Telling:
    """One story."""

    def __init__(self, story: Story, report: Report, effort: Effort, stack: ExitStack) -> None:
        self._story, self._report, self._rounds = story, report, effort.rounds(_ROUNDS)
        self._settled_s = 0.5 if effort.is_quick else _SETTLED_S
        self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self._net, self._others = stack.enter_context(peers.host()), stack.enter_context(peers.host())
        self._daemon = stack.enter_context(Daemon(self._net.host, self._folder, self._net.device))
        self._entries = story.kind.entries(story.count)
        self._daemon.blocklist.write_text("block:\n" + story.kind.block(self._entries), encoding="utf-8")

    def tell(self) -> None:
        """In the order of a life."""
        self._daemon.start()  # leaves the compiled form, and everything in the page cache
        self._daemon.stop()
        with Waiting(self._daemon) as waiting:
            self._load()
            self._memory()
            self._edit()
            self._empty()
            self._daemon.reload(self._whole())
            self._daemon.reload(EMPTY)
        self._add("status, longest wait in all this", "s", waiting.longest_s, Demand(_ANSWERED_WITHIN_S))
        time.sleep(self._settled_s)
        memory = self._daemon.memory()
        self._add("resident, back at block: []", "MB", memory.now_bytes / 1e6, Demand(_BACK_AT_MB))

    def _load(self) -> None:
        sets = peers.Sets(self._story.kind.version, is_wide=self._story.kind in (NETWORKS, NETWORKS6, RANGES))
        contenders = {XDROPD: self._fresh}
        if self._story.count <= _MILLION:
            contenders["nft -f"] = peers.NftLoad(self._others, self._folder, self._entries, sets).seconds
            contenders["ipset restore"] = peers.IpsetLoad(self._others, self._folder, self._entries, sets).seconds
        found = in_turns(contenders, self._rounds)
        self._report.add(self._figure("YAML to in force, fresh start", "s", found, *self._story.load))

    def _fresh(self) -> float:
        self._daemon.stop()
        return self._daemon.start()

    def _memory(self) -> None:
        time.sleep(self._settled_s)
        memory = self._daemon.memory()
        self._add("resident", "MB", memory.now_bytes / 1e6, *_at_most(self._story.resident_mb))
        self._add("most resident while loading", "MB", memory.peak_bytes / 1e6, *_at_most(self._story.peak_mb))

    def _edit(self) -> None:
        whole = self._whole()
        item = whole.rindex("\n  - ", 0, whole.index(self._entries[self._story.count // 2])) + 1
        before, behind = whole[:item], whole[whole.index("\n  - ", item) + 1 :]
        editing = Editing(self._net, self._daemon, lambda address: f"{before}  - {address}\n{behind}")
        found = in_turns({XDROPD: editing.seconds}, self._rounds)
        what = "one line, from the rename to the first packet dropped"
        self._report.add(self._figure(what, "s", found, *_at_most(self._story.edit_s)))

    def _empty(self) -> None:
        time.sleep(self._settled_s)  # the READY of the edit before is not the one that is waited for
        begun = time.monotonic()
        self._daemon.reload(EMPTY)
        self._add("replaced by block: []", "s", time.monotonic() - begun, Demand(_EMPTIED_WITHIN_S))

    def _whole(self) -> str:
        return "block:\n" + self._story.kind.block(self._entries)

    def _add(self, what: str, unit: str, value: float, *demands: Demand) -> None:
        self._report.add(self._figure(what, unit, {XDROPD: Spread.of([value])}, *demands))

    def _figure(self, what: str, unit: str, measured: dict[str, Spread], *demands: Demand) -> Figure:
        return Figure(GROUP, f"{self._story.kind.name}: {what}", self._story.count, unit, measured, demands)


def _at_most(bound: float | None) -> Iterator[Demand]:
    if bound is not None:
        yield Demand(bound)
