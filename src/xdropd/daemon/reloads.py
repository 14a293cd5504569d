"""A reload, told from top to bottom: text is read, becomes what is desired, and that is put in force.

reloads → intake → catalogue → blocklist      the text, file by file, as columns
        → desired → winners → plan            what should be in force, and the steps that lead there
        → lists → generation → tables         the steps, taken in the kernel
"""

import time
from collections.abc import Generator, Iterator
from dataclasses import replace

from xdropd.daemon.announcing import Announcing
from xdropd.daemon.blocking import Blocking
from xdropd.daemon.following import Following
from xdropd.daemon.inforce import InForce
from xdropd.daemon.intake import Intake
from xdropd.daemon.ownhost import OwnHost
from xdropd.daemon.progress import Progress
from xdropd.daemon.reactor import Reactor
from xdropd.daemon.results import ReloadResult, Results
from xdropd.daemon.settling import Settling
from xdropd.daemon.trust import Trust
from xdropd.daemon.wanted import ReloadRequest
from xdropd.errors import Problem
from xdropd.filter.filter import Filter
from xdropd.host.systemd import Systemd
from xdropd.host.telling import Telling
from xdropd.rules.desired import Desired
from xdropd.sources.blocks import Blocks
from xdropd.sources.catalogue import Reading
from xdropd.sources.settingsfile import SettingsFile


class Reloads:
    """One daemon's."""

    def __init__(
        self,
        systemd: Systemd,
        telling: Telling,
        reactor: Reactor,
        progress: Progress,
        results: Results,
        settings: SettingsFile,
        blocks: Blocks,
        kernel: Filter,
        in_force: InForce,
        announcing: Announcing,
        trust: Trust,
        intake: Intake,
        blocking: Blocking,
        host: OwnHost,
        following: Following,
        settling: Settling,
    ) -> None:
        self._systemd = systemd
        self._telling = telling
        self._reactor = reactor
        self._progress = progress
        self._results = results
        self._settings = settings
        self._blocks = blocks
        self._filter = kernel
        self._in_force = in_force
        self._announcing = announcing
        self._trust = trust
        self._intake = intake
        self._blocking = blocking
        self._host = host
        self._following = following
        self._settling = settling

    def reload(self, request: ReloadRequest) -> Iterator[None]:
        """Read what changed and put it in force; what is refused leaves what was before."""
        begun = time.monotonic()
        self._systemd.reloading()
        self._blocking.try_again()
        self._progress.show("reading the lists")
        settings_before = self._settings.in_force
        refusals = yield from self._intake.settings()
        reading, refused = yield from self._intake.lists(request.accept)
        refusals += refused
        now_s = time.time()
        yield
        if self._in_force.choose(self._settings.in_force) and self._settings.in_force == settings_before:
            self._announcing.tell_repaired(1)
        if reading is not None:
            counted = yield from self._in_force.change_to(self.desired(reading), now_s)
            self._telling.trouble("takeover")
            self._trust.regain()
            self._announcing.report(reading, counted)
            self._filter.sources.note_listed(self._in_force.source_names, time.time())
        else:
            yield from self._keep_in_force(now_s)
        self._host.sync_interfaces()
        self._results.last_reload_s = time.monotonic() - begun
        request.result = yield from self.conclude(refusals)
        self._announcing.say_ready()

    def desired(self, reading: Reading) -> Desired:
        """What the files say, with what callers have blocked, under the guard that is chosen."""
        return replace(reading.desired().with_blocks(self._blocks.by_source), guard=self._host.guard())

    def conclude(self, refusals: list[Problem]) -> Generator[None, None, ReloadResult]:
        """What every reading ends with, whether it was refused or not."""
        self._progress.text = ""
        result = self._results.ended(refusals)
        self._settling.ask()
        yield from self._reactor.read(self._following.renew)
        return result

    def _keep_in_force(self, now_s: float) -> Iterator[None]:
        """The blocklist is refused: the list before it stays, and what failed of that one is tried again."""
        if self._in_force.state is None:
            yield from self._in_force.renew()
        elif self._in_force.is_doubtful:
            desired = replace(self._in_force.desired, guard=self._host.guard())
            yield from self._in_force.change_to(desired, now_s)
        else:
            yield from self._host.renew_guard()
        self._trust.regain()
