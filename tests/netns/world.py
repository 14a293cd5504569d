"""A small world around the real daemon: sixty addresses, and everything that can happen to it, told and judged.

It knows what a step does to the machine and to the model, and how to look at both from outside. Which steps there are
stands in steps.py.
"""

import contextlib
import io
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attached import FRAME_BYTES, Attached
from foreground import READY_WITHIN_S, Daemon
from model import Blocklist, Entry, Include, Item, Model, Span, canonical, holds, span
from othertime import OtherTime
from refusals import Refusals
from servicemanager import ServiceManager

from netns import Net, inside
from waiting import wait_until
from xdropd.commands import xdropctl

# Chosen so that what entries.py makes of them nests and collides.
IPV4 = (
    *(f"198.18.0.{number}" for number in range(20)),
    *(f"198.18.0.{number}" for number in (31, 32, 63, 64, 127, 128, 254, 255)),
    *("198.18.1.0", "198.18.1.255", "198.19.0.0", "198.20.0.1", "10.0.0.1", "10.255.255.255", "127.0.0.1"),
    *("198.51.100.1", "198.51.100.2", "0.0.0.1", "223.255.255.255", "255.255.255.255"),
)
IPV6 = (
    *(f"2001:db8:0:1::{number:x}" for number in range(12)),
    *("2001:db8:0:1:ffff::", "2001:db8:0:1:ffff:ffff:ffff:ffff", "2001:db8:0:2::", "2001:db8:8000::1", "2001:db9::1"),
    *("::1", "2001:db8:51::1", "ffff::1"),
)
ADDRESSES = {address: span(address) for address in (*IPV4, *IPV6)}

# What the kernel's maps hold of a list, in the structures of xdrop.bpf.c.
_ADDRESSES, _NETWORKS = ("addresses4", "addresses6"), ("networks4", "networks6")
_SOURCE, _RANGE, _ENDS = slice(28, 32), slice(32, 36), slice(32, 68)  # in stats, in struct network, in struct range

_REPAIRED = "the kernel differed from the list"
_BUG = re.compile(r"bug|Traceback|AssertionError")
_IN_FORCE_WITHIN_S = 3.0
_TOLD = 12
_LATE_S = 3  # at most, between our look at the clock and the daemon's
_PLACES = 100  # connections at once; the control socket has a few more


class Wrong(Exception):
    """The daemon is not as the model has it. Of many differences a few are told."""

    def __str__(self) -> str:
        lines = super().__str__().splitlines()
        return "\n".join(lines[:_TOLD] + [f"and {len(lines) - _TOLD} lines more"] * (len(lines) > _TOLD))


def lines_of(blocklist: Blocklist) -> list[str]:
    """The YAML text, with the lines where the model has them."""

    def listed(key: str, items: list[str]) -> list[str]:
        return [f"{key}:", *(f"  - {item}" for item in items)] if items else [f"{key}: []"]

    def item(each: Item) -> str:
        said = [f'address: "{each.entry}"']
        if each.reason:
            said.append(f'reason: "{each.reason}"')
        if each.until is not None:
            said.append(f"until: {datetime.fromtimestamp(each.until, UTC).isoformat()}")
        return f"{{{', '.join(said)}}}" if len(said) > 1 else f'"{each.entry}"'

    def include(each: Include) -> str:
        said = [f'path: "{each.pattern}"']
        said += [f'reason: "{each.reason}"'] if each.reason else []
        said += ["action: monitor"] if each.monitors else []
        return f"{{{', '.join(said)}}}" if len(said) > 1 else f'"{each.pattern}"'

    return [
        *listed("block", [item(each) for each in blocklist.block]),
        *listed("allow", [item(each) for each in blocklist.allow]),
        *listed("include", [include(each) for each in blocklist.include]),
        *(["broken: indeed"] if blocklist.is_broken else []),
    ]


def _text(content: Blocklist | tuple[str, ...]) -> str:
    lines = lines_of(content) if isinstance(content, Blocklist) else content
    return "".join(f"{line}\n" for line in lines)


class World:
    """A daemon under a service manager, the model of it, and the means to change both. `texts`: two program texts."""

    def __init__(self, folder: Path, texts: tuple[Path, Path]) -> None:
        self.folder = folder
        self._texts = texts
        self._stack = contextlib.ExitStack()
        self._net = self._stack.enter_context(Net())
        self.manager = self._stack.enter_context(ServiceManager(folder))
        self._clock, self.refusals = OtherTime(folder), Refusals(folder)
        preload = f"{self._clock.environment['LD_PRELOAD']} {self.refusals.environment['LD_PRELOAD']}"
        environment = {**self._clock.environment, **self.refusals.environment, "LD_PRELOAD": preload}
        self.daemon = Daemon(self._net, folder, environment=environment, manager=self.manager)
        self.etc = self.daemon.blocklist.parent
        (self.etc / "lists.d").mkdir()
        self.attached = Attached(self._net.host, self._net.device)
        self._stack.callback(self.attached.close)
        self._shifted_s = 0
        self._log_read = 0
        self._told: dict[str, dict[str, Any]] = {}
        self.model = Model(str(self.etc))
        self.model.own = {"127.0.0.1", self._net.host_address, self._net.host_address6}
        self.write("blocklist.yaml", Blocklist())
        self.settings()
        self.start(other_text=False)
        self.judge()

    def __enter__(self) -> "World":
        return self

    def __exit__(self, *_: object) -> None:
        self.end(signal.SIGKILL)
        self._stack.close()

    # ---- what can be done ----

    def write(self, path: str, content: Blocklist | tuple[str, ...] | None) -> None:
        """Rename a new version over a file, or remove it (None)."""
        file = self.etc / path
        if content is None:
            file.unlink(missing_ok=True)
            self.model.disk.pop(path, None)
            return
        new = file.with_name(f".{file.name}.new")
        new.write_text(_text(content))
        new.replace(file)
        self.model.disk[path] = content

    def settings(self, *, guard: bool = True, monitor: bool = False) -> None:
        """Write the settings file."""
        new = self.daemon.settings.with_name(".settings.new")
        new.write_text(f"guard: {str(guard).lower()}\naction: {'monitor' if monitor else 'drop'}\n")
        new.replace(self.daemon.settings)

    def ip(self, *arguments: str) -> None:
        """Run ip(8) on the host."""
        with inside(self._net.host):
            subprocess.run(["ip", *arguments], check=True, capture_output=True)

    @property
    def now(self) -> float:
        """By the daemon's clock."""
        return time.time() + self._shifted_s

    def let_pass(self, seconds: int) -> None:
        """Time, for the daemon."""
        self._shifted_s += seconds
        self._clock.shift(self._shifted_s)

    def ctl(self, *words: str, stdin: str = "") -> int:
        """What xdropctl does, in this process, which saves its start: the exit status."""
        before = sys.stdin, sys.stdout, sys.stderr
        sys.stdin = io.TextIOWrapper(io.BytesIO(stdin.encode()))
        sys.stdout = sys.stderr = self.said = io.TextIOWrapper(io.BytesIO(), write_through=True)
        try:
            return xdropctl.main(["--socket", str(self.daemon.socket), *words])
        finally:
            sys.stdin, sys.stdout, sys.stderr = before

    def output(self) -> str:
        """What `ctl` has printed last."""
        self.said.seek(0)
        return self.said.read()

    def start(self, *, other_text: bool) -> None:
        """The daemon, until it is ready."""
        self.daemon.sources = self._texts[other_text]
        process = self.daemon.start()
        self._log_read = 0

        def is_ready() -> bool:
            if process.poll() is not None:
                raise Wrong(f"the daemon ends with {process.returncode}: {self.daemon.log}")
            return bool(self.daemon.is_ready)

        wait_until(is_ready, within_s=READY_WITHIN_S, what="the daemon is ready")
        self.daemon.keep_compiled()
        self.attached.look()

    def end(self, how: signal.Signals) -> None:
        """End the daemon, unless it has ended."""
        process = self.daemon.process
        if process is not None and process.poll() is None:
            process.send_signal(how)
            process.wait(READY_WITHIN_S)
            if how != signal.SIGKILL and process.returncode:
                raise Wrong(f"it ends with {process.returncode} after {how.name}")

    # ---- what can be seen ----

    def keeps(self, contents: Sequence[Blocklist | tuple[str, ...]]) -> bool:
        """Whether each of these is somewhere in the state folder."""
        kept = set()
        for file in (self.folder / "state").rglob("[!.]*") if contents else ():  # a name with a dot is in the making
            with contextlib.suppress(OSError):  # a folder, or gone in this moment
                kept.add(file.read_text())
        return all(_text(content) in kept for content in contents)

    def ask_all(self, requests: list[dict[str, object]]) -> list[list[dict[str, Any]]]:
        """The answers to many requests at once, as they come over the socket."""
        answers: list[list[dict[str, Any]]] = []
        for at in range(0, len(requests), _PLACES):
            with contextlib.ExitStack() as stack:
                peers = []
                for request in requests[at : at + _PLACES]:
                    peer = stack.enter_context(socket.socket(socket.AF_UNIX))
                    peer.connect(str(self.daemon.socket))
                    peer.sendall(json.dumps({"version": 1, **request}).encode() + b"\n")
                    peers.append(stack.enter_context(peer.makefile("rb")))
                answers += [[json.loads(line) for line in peer] for peer in peers]
        for request, answer in zip(requests, answers, strict=True):
            if not answer or "error" in answer[-1]:
                raise Wrong(f"asked for {request}, it says {answer}")
        return answers

    def differences(self, *, counts: bool = True) -> list[str]:
        """In what `list` and `status` differ from the model; without `counts`, but for the counters."""
        self.model.now = self.now
        listed, status = self.ask_all([{"verb": "list"}, {"verb": "status"}])
        rows = [answer["row"] for answer in listed if "row" in answer]
        told = [_row(row, counts=counts) for row in rows]
        entries = self.model.entries()
        first, all_of_them = (
            [_expected(entry, self.model.counts.get(entry.key, 0), counts=counts) for entry in some]
            for some in (entries, self.model.written())
        )
        found = [f"list has {row}, which should not be" for row in _without(told, all_of_them)]
        found += [f"list lacks {row}" for row in _without(first, told)]
        ends = {(row["source"], row["entry"], row["line"]): row["until"] for row in rows}
        for entry in entries:
            until = ends.get((entry.source, canonical(entry.span), entry.line))
            if (until is None) != (entry.until is None) or abs(_at(until) - (entry.until or 0.0)) > _LATE_S:
                found.append(f"{canonical(entry.span)} of {entry.source} ends at {until} and not at {entry.until}")
        result = status[-1]["result"]
        if result["degraded"] != bool(self.model.troubles):
            found.append(f"degraded is {result['degraded']}: {result['troubles']}, should: {self.model.troubles}")
        if (result["state"] == "monitoring") != self.model.monitor:
            found.append(f"it is {result['state']}")
        listed_spans = [span(row["entry"]) for row in rows]
        families = {
            "ipv4": sum(version == 4 and first == last for version, first, last in listed_spans),
            "ipv6": sum(version == 6 and first == last for version, first, last in listed_spans),
            "networks": sum(first != last for _, first, last in listed_spans),
        }
        if families.items() - result["entries"].items():
            found.append(f"status counts {result['entries']}, should: {families}")
        return found

    def lookups(self) -> dict[str, dict[str, Any]]:
        """What `lookup` says of each address."""
        asked = [{"verb": "lookup", "address": address} for address in ADDRESSES]
        return dict(zip(ADDRESSES, (answer[-1]["result"] for answer in self.ask_all(asked)), strict=True))

    def dropped(self) -> dict[str, bool]:
        """Send a few packets from each address, not from all the same number: which are dropped."""
        return self.attached.drops(PACKETS)

    def should_drop(self, model: Model | None = None) -> dict[str, bool]:
        """What the model says."""
        model = model or self.model
        model.now = self.now
        entries = model.entries()
        return {address: not model.monitor and model.drops(at, entries) for address, at in ADDRESSES.items()}

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Meanwhile the daemon sees nothing, as if all of it happened in one moment."""
        process = self.daemon.process
        runs = process is not None and process.poll() is None
        if process and runs:
            process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            if process and runs:
                process.send_signal(signal.SIGCONT)

    def hang_up(self) -> None:
        """SIGHUP."""
        assert self.daemon.process
        self.daemon.process.send_signal(signal.SIGHUP)

    def ask_and_leave(self, verb: str, lines: Sequence[str] | None = None, **fields: object) -> None:
        """Ask for something, whether or not the daemon lives to answer; `lines`: entries that follow."""
        with contextlib.suppress(ConnectionResetError, BrokenPipeError), socket.socket(socket.AF_UNIX) as peer:
            peer.connect(str(self.daemon.socket))
            follow = {"entries": "follow"} if lines is not None else {}
            peer.sendall(json.dumps({"version": 1, "verb": verb, **fields, **follow}).encode() + b"\n")
            if lines is not None:
                peer.sendall("".join(f"{line}\n" for line in [*lines, ""]).encode())
            while peer.recv(1 << 16):
                pass

    def follow(self, verb: str, lines: Sequence[str], **fields: object) -> dict[str, Any]:
        """What is answered to a request that these lines follow."""
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(str(self.daemon.socket))
            head = json.dumps({"version": 1, "verb": verb, **fields, "entries": "follow"})
            peer.sendall("".join(f"{line}\n" for line in [head, *lines, ""]).encode())
            with peer.makefile("rb") as answer:
                last: dict[str, Any] = json.loads(answer.readlines()[-1])
        return last

    def forgive_log(self) -> None:
        """What a broken-off change left was repaired, and may be told."""
        if _BUG.search(log := self.log_since()):
            raise Wrong("the log says: " + log)

    @contextlib.contextmanager
    def another(self) -> Iterator["World"]:
        """A world with a daemon that has no past, and nothing in it."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder, World(Path(folder), self._texts) as fresh:
            yield fresh

    def held(self) -> dict[str, Counter[bytes]]:
        """What the kernel's maps hold of the list, by map: counters, and numbers of sources and of ranges apart.

        A range that is listed may stay, counts and all, although everything in it is exempt or somebody else's.
        """
        maps = self.attached.maps(*_ADDRESSES, *_NETWORKS, "ranges")

        def meaning(network: bytes) -> bytes:
            """A network of its own, an exempt one, or a piece of a range with these ends."""
            if any(network[_RANGE]):
                return maps["ranges"][network[_RANGE]][_ENDS]
            return b"" if any(network[_SOURCE]) else b"exempt"

        held = {name: Counter(maps[name].keys()) for name in _ADDRESSES}
        for name in _NETWORKS:
            held[name] = Counter(key + meaning(value) for key, value in maps[name].items())
        ranges = Counter(value[_ENDS] for value in maps["ranges"].values() if any(value[_ENDS]))
        held["ranges that nobody lists"] = ranges - Counter(_packed(entry.span) for entry in self.model.entries())
        return held

    def compare_with(self, fresh: "World") -> None:
        """Whether the kernel holds no more, and no less, than for a fresh daemon with the same files and blocks."""
        here, there = self.held(), fresh.held()
        wrong = [
            f"{name} holds {key.hex()}, for a fresh daemon not" for name in here for key in here[name] - there[name]
        ]
        wrong += [f"{name} lacks {key.hex()}" for name in here for key in there[name] - here[name]]
        if wrong:
            raise Wrong("\n".join(wrong))

    def log_since(self) -> str:
        """What was logged since the last call."""
        log = self.daemon.log
        new, self._log_read = log[self._log_read :], len(log)
        return new

    # ---- judging ----

    def wait(self) -> None:
        """Until what nobody confirms, a file that was saved, an address of the host, an end, is in force."""

        def differing() -> list[str]:
            return self.differences(counts=False) or [*_misjudged(self, self.lookups())]

        deadline = time.monotonic() + _IN_FORCE_WITHIN_S
        while found := differing():
            if time.monotonic() > deadline:
                raise Wrong("\n".join(found))
            time.sleep(0.002)

    def judge_packets(self) -> None:
        """While no daemon runs: packets meet what was in force, and count."""
        if wrong := self._wrong_verdicts():
            raise Wrong("\n".join(["without a daemon", *wrong]))
        self._credit()

    def judge(self) -> None:
        """All of it, after a step. Raises Wrong with everything that is not as the model has it."""
        self.model.now = self.now
        self.model.forget()
        wrong = self._wrong_verdicts()
        self._told = self.lookups()
        wrong += _misjudged(self, self._told)
        self._credit()
        wrong += self.differences()
        log = self.log_since()
        if _REPAIRED in log or _BUG.search(log):
            wrong.append("the log says: " + log)
        if wrong:
            raise Wrong("\n".join(wrong))

    def _wrong_verdicts(self) -> list[str]:
        should, drops = self.should_drop(), self.dropped()
        return [
            f"{address} {'is dropped' if dropped else 'passes'}"
            for address, dropped in drops.items()
            if dropped != should[address]
        ]

    def _credit(self) -> None:
        """Count what was sent; among equals, for the one that `lookup` named last."""
        entries = self.model.entries()
        for address, at in ADDRESSES.items():
            named = self._told[address]["source"], self._told[address]["entry"]
            for entry in () if self.model.covered(at) else self.model.credited(at, entries):
                if named == (entry.source, canonical(entry.span)):
                    self.model.credit(entry, PACKETS[address])

    def resume_counts(self) -> None:
        """Where a step that was broken off may count twice: counters may have grown, and are taken as they are."""
        rows = [answer["row"] for answer in self.ask_all([{"verb": "list"}])[0] if "row" in answer]
        for row in rows:
            key = row["source"], span(row["entry"])
            if row["packets"] < self.model.counts.get(key, 0):
                raise Wrong(f"{row['entry']} of {row['source']} had {self.model.counts[key]}, has {row['packets']}")
            self.model.counts[key] = row["packets"]


PACKETS = {address: 1 + at % 3 for at, address in enumerate(ADDRESSES)}


def _row(row: dict[str, Any], *, counts: bool) -> tuple[object, ...]:
    said = (row["entry"], row["source"], row["line"] or 0, row["reason"] or "")
    if not counts:
        return said
    if row["bytes"] != FRAME_BYTES * row["packets"] or (row["last_seen"] is None) != (row["packets"] == 0):
        raise Wrong(f"{row} contradicts itself")
    return (*said, row["packets"])


def _expected(entry: Entry, packets: int, *, counts: bool) -> tuple[object, ...]:
    said = (canonical(entry.span), entry.source, entry.line or 0, entry.reason or "")
    return (*said, packets) if counts else said


def _without(these: list[tuple[object, ...]], those: list[tuple[object, ...]]) -> list[tuple[object, ...]]:
    left = list(those)
    return [row for row in these if not (row in left and left.remove(row) is None)]


def _packed(of: Span) -> bytes:
    """As the ends stand in struct range."""
    version, *ends = of
    packed = (end.to_bytes(4 if version == 4 else 16, "big").ljust(16, b"\0") for end in ends)
    return b"".join(packed) + version.to_bytes(4, sys.byteorder)


def _at(moment: str | None) -> float:
    return datetime.fromisoformat(moment).timestamp() if moment else 0.0


def _misjudged(world: World, told: dict[str, dict[str, Any]]) -> Iterator[str]:
    """What `lookup` says otherwise than the model."""
    model = world.model
    entries, keepers = model.entries(), model.keepers()
    for address, at in ADDRESSES.items():
        said = told[address]
        by, keeping = model.credited(at, entries), [keeper for keeper in keepers if holds(keeper[1], at)]
        if said["blocked"] != model.drops(at, entries):
            yield f"lookup {address} says blocked is {said['blocked']}"
        named = said["entry"] and (said["entry"], said["source"], said["line"], said["reason"])
        right = [(canonical(entry.span), entry.source, entry.line, entry.reason) for entry in by]
        if named not in right and (named or (right and not keeping)):
            yield f"lookup {address} names {named}, should be one of {right}"
        kept = said["kept_by"] and (said["kept_by"]["kind"], span(said["kept_by"]["entry"]))
        if (kept and kept not in keeping) or (keeping and by and not kept):
            yield f"lookup {address} says it is kept by {kept}, should be one of {keeping}"


def two_texts(folder: Path, source: Path) -> tuple[Path, Path]:
    """The source tree, and a copy whose BPF program has another text, and so another stamp."""
    other = folder / "other"
    shutil.copytree(source / "src", other / "src")
    shutil.copytree(source / "bpf", other / "bpf")
    with (other / "bpf" / "xdrop.bpf.c").open("a") as program:
        program.write("/* another */\n")
    return source / "src", other / "src"
