"""The steps of a history: each a value that acts on a world, and that says how a person would type it."""

import json
import shlex
import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace

from model import Blocklist, Item, Model, canonical
from world import World, Wrong, lines_of

from waiting import wait_until

KEPT_WITHIN_S = 10.0  # a busy disk

Content = Blocklist | tuple[str, ...] | None
Files = tuple[tuple[str, Content], ...]
"""Paths and what they become; None: the file goes. `until` of items counts from the moment of writing."""


def _with_ends(content: Content, now: float) -> Content:
    if not isinstance(content, Blocklist):
        return content

    def ending(items: tuple[Item, ...]) -> tuple[Item, ...]:
        return tuple(item if item.until is None else replace(item, until=int(now) + item.until) for item in items)

    return replace(content, block=ending(content.block), allow=ending(content.allow))


def _typed(path: str, content: Content) -> str:
    if content is None:
        return f"rm -f {path}"
    if isinstance(content, Blocklist):
        lines = lines_of(_with_ends(content, 0))
        text = " ".join(shlex.quote(line) for line in lines)
        ends = any(item.until for item in content.block + content.allow)
        note = "   # a time of 1970 is so long after now" if ends else ""
        return f"printf '%s\\n' {text} >new; mv new {path}{note}"
    if not content:
        return f": >new; mv new {path}"
    filler = next((at for at, line in enumerate(content) if line != filler_line(at)), len(content))
    whole, more = divmod(filler, 256)
    words = [f"10.9.{{0..{whole - 1}}}.{{0..255}}"] if whole else []
    words += [f"10.9.{whole}.{{0..{more - 1}}}"] if more else []
    words = [*content] if filler < 4 else [*words, *content[filler:]]
    quoted = " ".join(word if "{" in word else shlex.quote(word) for word in words)
    return f"printf '%s\\n' {quoted} >new; mv new {path}"


def filler_line(number: int) -> str:
    """What makes a list file long, elsewhere than the addresses that are looked at."""
    return f"10.9.{number >> 8}.{number & 255}"


class Step:
    """One thing that happens. `act` does it to the daemon and to the model, and may raise Wrong."""

    def act(self, world: World) -> None:
        """Do it, and see that it is done."""
        raise NotImplementedError

    def parts(self) -> "Iterator[Step]":
        """Smaller steps to the same end."""
        yield self

    def told(self) -> Iterator[str]:
        """Commands that a person can type in the folder of the blocklist."""
        raise NotImplementedError


@dataclass(frozen=True)
class Write(Step):
    """Files change; `how` the daemon hears of it: "watch", "reload" or "hup"."""

    files: Files
    how: str = "reload"

    def write(self, world: World) -> None:
        """The files alone, all at once."""
        with world.frozen():
            for path, content in self.files:
                world.write(path, _with_ends(content, world.now))

    def act(self, world: World) -> None:
        self.write(world)
        world.model.now = world.now
        taken = world.model.reload()
        if self.how == "reload":
            status = world.ctl("reload")
            if status != (0 if taken else 78):
                raise Wrong(f"xdropctl reload exits with {status}: {world.output()}")
            return
        if self.how == "hup":
            world.hang_up()
        world.wait()

    def told(self) -> Iterator[str]:
        several = len(self.files) > 1
        yield from ["kill -STOP $DAEMON"] * several
        for path, content in self.files:
            yield _typed(path, content)
        yield from ["kill -CONT $DAEMON"] * several
        yield {"reload": "xdropctl reload", "hup": "kill -HUP $DAEMON; sleep 1", "watch": "sleep 1"}[self.how]


@dataclass(frozen=True)
class Settings(Step):
    """The settings file changes, and is asked for."""

    guard: bool
    monitor: bool

    def act(self, world: World) -> None:
        world.settings(guard=self.guard, monitor=self.monitor)
        world.model.guard, world.model.monitor = self.guard, self.monitor
        taken = world.model.reload()
        status = world.ctl("reload")
        if status != (0 if taken else 78):
            raise Wrong(f"xdropctl reload exits with {status}: {world.output()}")

    def told(self) -> Iterator[str]:
        guard, action = str(self.guard).lower(), "monitor" if self.monitor else "drop"
        yield f"printf '%s\\n' 'guard: {guard}' 'action: {action}' >new; mv new xdropd.yaml; xdropctl reload"


@dataclass(frozen=True)
class Own(Step):
    """The host gets an address, or loses it."""

    address: str
    is_there: bool

    def act(self, world: World) -> None:
        if (self.address in world.model.own) != self.is_there:
            world.ip(*self._words())
            (world.model.own.add if self.is_there else world.model.own.discard)(self.address)
            world.wait()

    def _words(self) -> list[str]:
        length, unchecked = (128, ["nodad"]) if ":" in self.address else (32, [])
        operation = ["add", f"{self.address}/{length}", "dev", "eth0", *unchecked]
        return ["address", *(operation if self.is_there else ["del", *operation[1:4]])]

    def told(self) -> Iterator[str]:
        yield f"ip {' '.join(self._words())}; sleep 1"


@dataclass(frozen=True)
class Gateway(Step):
    """A default route comes, or goes."""

    address: str
    is_there: bool

    def act(self, world: World) -> None:
        if (self.address in world.model.gateways) != self.is_there:
            world.ip(*self._words())
            (world.model.gateways.add if self.is_there else world.model.gateways.discard)(self.address)
            world.wait()

    def _words(self) -> list[str]:
        network = "2001:db8:ffff::/48" if ":" in self.address else f"172.16.{self.address.split('.')[-1]}.0/24"
        return ["route", "add" if self.is_there else "del", network, "via", self.address, "dev", "eth0", "onlink"]

    def told(self) -> Iterator[str]:
        yield f"ip {' '.join(self._words())}; sleep 1"


@dataclass(frozen=True)
class Pass(Step):
    """Time."""

    seconds: int

    def act(self, world: World) -> None:
        world.let_pass(self.seconds)
        world.wait()

    def told(self) -> Iterator[str]:
        yield f"date -s '+{self.seconds} seconds'; sleep 1"


@dataclass(frozen=True)
class Block(Step):
    """`xdropctl block`, the entries on standard input."""

    source: str
    entries: tuple[str, ...]
    seconds: int | None = None
    reason: str = ""

    def act(self, world: World) -> None:
        world.model.now = world.now
        should = world.model.block(self.source, list(self.entries), self.seconds, self.reason)
        if (status := self.call(world)) != should:
            raise Wrong(f"xdropctl block exits with {status}, should: {should}: {world.output()}")

    def call(self, world: World) -> int:
        """The command alone."""
        return world.ctl(*self._words(), stdin="".join(f"{entry}\n" for entry in self.entries))

    def _words(self) -> list[str]:
        ending = [] if self.seconds is None else ["--for", f"{self.seconds}s"]
        return ["block", "--source", self.source, *ending, *(["--reason", self.reason] if self.reason else []), "-"]

    def told(self) -> Iterator[str]:
        yield f"xdropctl {shlex.join([*self._words()[:-1], *self.entries])}"


@dataclass(frozen=True)
class Unblock(Step):
    """`xdropctl unblock`."""

    source: str
    entries: tuple[str, ...]

    def act(self, world: World) -> None:
        world.model.now = world.now
        should = world.model.unblock(self.source, list(self.entries))
        if (status := self.call(world)) != should:
            raise Wrong(f"xdropctl unblock exits with {status}, should: {should}: {world.output()}")

    def call(self, world: World) -> int:
        """The command alone."""
        return world.ctl("unblock", "--source", self.source, *self.entries)

    def told(self) -> Iterator[str]:
        yield f"xdropctl unblock --source {self.source} {' '.join(self.entries)}"


@dataclass(frozen=True)
class Flush(Step):
    """`xdropctl flush`."""

    source: str

    def act(self, world: World) -> None:
        should = world.model.flush(self.source)
        if (status := self.call(world)) != should:
            raise Wrong(f"xdropctl flush exits with {status}: {world.output()}")

    def call(self, world: World) -> int:
        """The command alone."""
        return world.ctl("flush", "--source", self.source)

    def told(self) -> Iterator[str]:
        yield f"xdropctl flush --source {self.source}"


def _lines(items: tuple[Item, ...], now: float) -> str:
    """As the control socket and xdropctl take them."""
    return "".join(
        json.dumps(
            {
                "entry": item.entry,
                "reason": item.reason or None,
                "until": None if item.until is None else now + item.until,
            }
        )
        + "\n"
        for item in items
    )


@dataclass(frozen=True)
class Replace(Step):
    """`xdropctl replace`, each entry with an end, which counts from now, and a reason of its own."""

    source: str
    items: tuple[Item, ...]

    def act(self, world: World) -> None:
        world.model.now = world.now
        should = world.model.replace(self.source, list(self.items))
        if (status := self.call(world)) != should:
            raise Wrong(f"xdropctl replace exits with {status}, should: {should}: {world.output()}")

    def call(self, world: World) -> int:
        """The command alone."""
        words = ["replace", "--source", self.source, "--empty", "-"]
        return world.ctl(*words, stdin=_lines(self.items, world.model.now))

    def told(self) -> Iterator[str]:
        lines = shlex.join(_lines(self.items, 0).splitlines())
        yield f"printf '%s\\n' {lines} | xdropctl replace --source {self.source} --empty -"


@dataclass(frozen=True)
class Alter(Step):
    """`change` of the control socket: entries come as in Replace, and others go."""

    source: str
    items: tuple[Item, ...]
    gone: tuple[str, ...]

    def act(self, world: World) -> None:
        world.model.now = world.now
        should = world.model.change(self.source, list(self.items), list(self.gone))
        if (status := self.call(world)) != should:
            raise Wrong(f"change is {status}, should be {should}")

    def lines(self, now: float) -> list[str]:
        """As the control socket takes them."""
        came = [
            f"{item.entry}\t{'' if item.until is None else f'{now + item.until:.3f}'}\t{item.reason}"
            for item in self.items
        ]
        return [*came, *(f"-{entry}" for entry in self.gone)]

    def call(self, world: World) -> int:
        """Whether it was refused."""
        return int("error" in world.follow("change", self.lines(world.model.now), source=self.source))

    def told(self) -> Iterator[str]:
        request = json.dumps({"version": 1, "verb": "change", "source": self.source, "entries": "follow"})
        lines = " ".join(shlex.quote(line.replace("\t", "\\t")) for line in [request, *self.lines(0), ""])
        yield f"printf '%b\\n' {lines} | socat - control.sock"


@dataclass(frozen=True)
class Restart(Step):
    """The daemon ends and another takes over, perhaps of another version; files may change in between."""

    how: signal.Signals
    other_text: bool = False
    meanwhile: Files = ()

    def act(self, world: World) -> None:
        if self.how == signal.SIGKILL:
            _wait_until_kept(world, self.meanwhile)
        world.end(self.how)
        world.judge_packets()
        Write(self.meanwhile).write(world)
        world.start(other_text=self.other_text)
        world.model.now = world.now
        world.model.reload(at_start=True)

    def told(self) -> Iterator[str]:
        yield f"kill -{self.how.name} $DAEMON"
        for path, content in self.meanwhile:
            yield _typed(path, content)
        yield f"start it again{', with a comment added to xdrop.bpf.c' if self.other_text else ''}"


def _wait_until_kept(world: World, files: Files) -> None:
    """Good versions are kept a moment after they are in force. It matters where a file is bad at the next start."""
    after = world.model.copy()
    after.disk = {path: content for path, content in {**after.disk, **dict(files)}.items() if content is not None}
    after.reload(at_start=True)
    good = [world.model.good[path] for path in after.troubles if path in world.model.good]
    wait_until(lambda: world.keeps(good), within_s=KEPT_WITHIN_S, what="good versions are kept")


def _weakly(world: World, before: Model, after: Model, *, one_of_both: bool) -> None:
    """After a change that was broken off: all that is in both is dropped, and nothing that is in neither."""
    olds, news = world.should_drop(before), world.should_drop(after)
    drops = world.dropped()
    wrong = [
        f"{address} {'is dropped' if drop else 'passes'}"
        for address, drop in drops.items()
        if drop not in (olds[address], news[address])
    ]
    if one_of_both and drops not in (olds, news):
        wrong.append("neither the old list nor the new one is in force")
    if wrong:
        raise Wrong("half-way: " + ", ".join(wrong))


Change = Write | Block | Unblock | Replace | Alter | Flush | Settings


def _candidates(world: World, change: Change) -> tuple[Model, Model]:
    """The model before and after."""
    before = world.model
    after = before.copy()
    before.now = after.now = world.now
    match change:
        case Block():
            after.block(change.source, list(change.entries), change.seconds, change.reason)
        case Unblock():
            after.unblock(change.source, list(change.entries))
        case Replace():
            after.replace(change.source, list(change.items))
        case Alter():
            after.change(change.source, list(change.items), list(change.gone))
        case Flush():
            after.flush(change.source)
        case Settings():
            after.guard, after.monitor = change.guard, change.monitor
            after.reload()
            before.reload()
        case Write():
            world.model = after
            change.write(world)
            world.model = before
            before.disk = dict(after.disk)
            after.reload()
    return before, after


@dataclass(frozen=True)
class Refused(Step):
    """The kernel refuses some calls while something changes, and then no more."""

    change: Change
    first: int
    last: int
    error: int

    def act(self, world: World) -> None:
        before, after = _candidates(world, self.change)
        world.refusals.refuse(self.first, self.last, self.error)
        try:
            match self.change:
                case Write():
                    status = world.ctl("reload")
                case Settings():
                    world.settings(guard=self.change.guard, monitor=self.change.monitor)
                    status = world.ctl("reload")
                case _:
                    status = self.change.call(world)
            _weakly(world, before, after, one_of_both=self.first == self.last and isinstance(self.change, Write))
        finally:
            world.refusals.relent()
        if isinstance(self.change, Write | Settings) or status == 0:
            world.model = after
        taken = world.model.reload()
        if (status := world.ctl("reload")) != (0 if taken else 78):
            raise Wrong(f"xdropctl reload exits with {status} when the kernel refuses no more: {world.output()}")
        world.forgive_log()
        world.resume_counts()

    def told(self) -> Iterator[str]:
        until = "on" if self.last > 1 << 30 else f"to {self.last}"
        yield f"# while bpf(2) fails from call {self.first} {until} with errno {self.error}:"
        for line in self.change.told():
            yield f"    {line}"
        yield "xdropctl reload"


@dataclass(frozen=True)
class Killed(Step):
    """The daemon dies at a call of bpf(2) in the midst of a change, and another takes over."""

    change: Change
    call: int
    other_text: bool = False

    def act(self, world: World) -> None:
        _wait_until_kept(world, self.change.files if isinstance(self.change, Write) else ())
        before, after = _candidates(world, self.change)
        world.refusals.kill_at(self.call)
        try:
            match self.change:
                case Write():
                    world.ask_and_leave("reload")
                case Settings():
                    world.settings(guard=self.change.guard, monitor=self.change.monitor)
                    world.ask_and_leave("reload")
                case Block():
                    change = self.change
                    given = {"entries": change.entries, "reason": change.reason, "seconds": change.seconds}
                    world.ask_and_leave("block", source=change.source, **given)
                case Unblock():
                    world.ask_and_leave("unblock", source=self.change.source, entries=self.change.entries)
                case Replace() | Alter():
                    gone = self.change.gone if isinstance(self.change, Alter) else ()
                    lines = Alter(self.change.source, self.change.items, gone).lines(before.now)
                    verb = "change" if isinstance(self.change, Alter) else "replace"
                    world.ask_and_leave(verb, lines, source=self.change.source)
                case Flush():
                    world.ask_and_leave("flush", source=self.change.source)
        finally:
            world.end(signal.SIGKILL)
            world.refusals.relent()
        _weakly(world, before, after, one_of_both=False)
        world.start(other_text=self.other_text)
        for model in (before, after):
            model.reload(at_start=True)
        if isinstance(self.change, Write | Settings):
            world.model = after
        else:  # it was not confirmed: either
            world.model = before if _is_in_force(world, before) else after
        world.forgive_log()
        world.resume_counts()

    def told(self) -> Iterator[str]:
        yield f"# kill -KILL $DAEMON at its call {self.call} of bpf(2) during:"
        for line in self.change.told():
            yield f"    {line}"
        yield f"start it again{', with a comment added to xdrop.bpf.c' if self.other_text else ''}"


@dataclass(frozen=True)
class Compare(Step):
    """Nothing happens to it; a fresh daemon is given the same lists, and what the kernel holds for both is compared."""

    def act(self, world: World) -> None:
        model = world.model
        model.now = world.now
        with world.another() as fresh:
            fresh.let_pass(round(world.now - fresh.now))
            Settings(guard=False, monitor=model.monitor).act(fresh)  # a block that is covered would be refused
            for each in (entry for entry in model.entries() if entry.line is None):
                seconds = None if each.until is None else max(1, round(each.until - model.now))
                Block(each.source, (canonical(each.span),), seconds).act(fresh)
            for address in model.own - fresh.model.own:
                Own(address, is_there=True).act(fresh)
            for address in model.gateways:
                Gateway(address, is_there=True).act(fresh)
            for path, content in model.good.items():
                fresh.write(path, content)
            Settings(model.guard, model.monitor).act(fresh)
            world.compare_with(fresh)

    def told(self) -> Iterator[str]:
        yield "# what the kernel holds, beside a fresh daemon with the same files:"


def _is_in_force(world: World, model: Model) -> bool:
    world.model = model
    return not world.differences(counts=False)


@dataclass(frozen=True)
class Reset(Step):
    """Everything that was listed goes, and the host is as it was; the daemon lives on."""

    sources: tuple[str, ...]
    paths: tuple[str, ...]
    own: tuple[str, ...]
    gateways: tuple[str, ...]

    def act(self, world: World) -> None:
        for step in self.parts():
            step.act(world)

    def parts(self) -> Iterator[Step]:
        yield Settings(guard=True, monitor=False)
        yield from (Flush(source) for source in self.sources)
        yield from (Own(address, is_there=False) for address in self.own)
        yield from (Gateway(address, is_there=False) for address in self.gateways)
        yield Write((*((path, None) for path in self.paths), ("blocklist.yaml", Blocklist())))

    def told(self) -> Iterator[str]:
        for step in self.parts():
            yield from step.told()
