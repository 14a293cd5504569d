"""What is in force, list and settings, and how it becomes what is desired. Told by the stories; asked by everybody."""

import time
from collections.abc import Generator, Iterator

from xdropd.daemon.progress import Progress
from xdropd.daemon.reactor import Reactor
from xdropd.errors import Unavailable
from xdropd.filter.filter import Filter
from xdropd.filter.lists import Aside
from xdropd.filter.program import Program
from xdropd.host.telling import Telling
from xdropd.rules.desired import Desired
from xdropd.rules.plan import Counted, Plan, plan, touched
from xdropd.rules.winners import State
from xdropd.text.settings import Settings

NO_LIST_YET = "no list could be put in force since xdropd started, what was in force before stays in force"


class InForce:
    """`state` is None before there was any list that this process put there; `desired` is what it was made of."""

    def __init__(
        self, kernel: Filter, program: Program, reactor: Reactor, telling: Telling, progress: Progress
    ) -> None:
        self.desired = Desired()
        self.state: State | None = None
        self.next_end_s = float("inf")
        self._filter = kernel
        self._program = program
        self._reactor = reactor
        self._telling = telling
        self._progress = progress

    @property
    def count(self) -> int:
        """How many entries are in force."""
        return self.state.count if self.state else 0

    @property
    def source_names(self) -> set[str]:
        """Of all that lists something."""
        return {source.name for source in self.state.sources} if self.state else set()

    def known(self) -> State:
        """The state. Raises Unavailable where only the kernel knows it."""
        if self.state is None:
            raise Unavailable(NO_LIST_YET, "xdropctl status tells why")
        return self.state

    @property
    def is_doubtful(self) -> bool:
        """Whether a change failed half-way, so that the kernel may hold something else."""
        return "kernel" in self._telling.troubles

    def change_to(self, desired: Desired, now_s: float, aside: Aside | None = None) -> Generator[None, None, Counted]:
        """Put in force what is desired, whatever was before; how many entries came and went.

        Raises KernelError, CompileError, MemoryError or OSError where that fails; nothing here has changed then.
        """
        aside = aside or self._reactor.aside
        before, lists = self.state, self._filter.lists
        self._progress.text = "comparing the lists with those in force"

        def compare() -> tuple[State, Plan | None, Counted]:
            after = desired.state(now_s, self._filter.sources.number_of, before)
            if before is None or self.is_doubtful:
                return after, None, touched(before or State(), after)[1]
            change = plan(before, after)
            return after, change, change.counted

        after, change, counted = yield from aside(compare)
        if change is None:
            yield from self.await_program()
            work, what = lists.begin(after, now_s, aside), f"{after.count} entries"
        else:
            work, what = lists.change(change, now_s, aside), f"{change.count} changes"
        for _ in work:
            self._progress.text = f"putting {what} in force: {lists.percent} %"
            yield
        self._progress.text = ""
        self.desired, self.state = desired, after
        self.next_end_s = after.next_end_s
        return counted

    def renew(self) -> Iterator[None]:
        """There is no list that can be used: what is in force goes on under this version's programs."""
        yield from self.await_program()
        yield from self._filter.lists.renew(time.time())

    def prepare_program(self) -> None:
        """Have it compiled meanwhile, where something must be made of it."""
        if not self._filter.is_current:
            self._program.prepare()

    def await_program(self) -> Iterator[None]:
        """Until it is compiled, where something must be made of it."""
        self.prepare_program()
        while self._program.waits(0.05):
            self._progress.show("compiling the BPF program")
            yield

    def choose(self, settings: Settings) -> bool:
        """Put settings in force; whether that made a difference."""
        per_minute = settings.log_drops_per_minute
        return self._filter.choose(
            log_interval_ns=60_000_000_000 // per_minute if per_minute else 0,
            monitor=settings.action == "monitor",
            pass_malformed=settings.malformed == "pass",
        )
