"""Following the files: what matters of them is looked at now and then, and a change has them read again."""

import time
from collections.abc import Callable
from pathlib import Path

from xdropd.daemon.reactor import Reactor
from xdropd.host.fileworker import Work
from xdropd.host.log import WARNING
from xdropd.host.nameservers import NameServers
from xdropd.host.telling import Telling
from xdropd.host.watch import Watcher
from xdropd.sources.catalogue import Catalogue
from xdropd.sources.settingsfile import SettingsFile


class Following:
    """One daemon's. `reload` has the files read again, `renew_guard` is told that the name servers were."""

    def __init__(
        self,
        catalogue: Catalogue,
        settings: SettingsFile,
        name_servers: NameServers,
        reactor: Reactor,
        telling: Telling,
        reload: Callable[[], object],
        renew_guard: Callable[[], None],
    ) -> None:
        self._catalogue = catalogue
        self._settings = settings
        self._name_servers = name_servers
        self._reactor = reactor
        self._telling = telling
        self._reload = reload
        self._renew_guard = renew_guard
        self._watcher = Watcher(self._hear)
        self._followed: tuple[frozenset[Path], frozenset[str]] = (frozenset(), frozenset())
        self._hung: frozenset[str] = frozenset()
        self._has_heard = False
        self._is_looking = False
        self._look_at = 0.0

    @property
    def is_alive(self) -> bool:
        """Whether changes are noticed at all."""
        return self._watcher.is_alive()

    def due_s(self, tick_s: float) -> float:
        """In how many seconds the next look is due. None is before the start is over, however long that takes."""
        return tick_s if self._is_looking or not self._look_at else self._look_at - time.monotonic()

    def renew(self) -> None:
        """Tell the watcher what matters now, and what was read of it. Called where file systems may hang."""
        files, patterns = self._catalogue.followed()
        followed = files | {self._settings.path, *self._name_servers.signatures}, patterns
        if followed != self._followed:
            self._watcher.follow(*followed)
            self._followed = followed
        for path, signature in (self._catalogue.signatures() | self._name_servers.signatures).items():
            self._watcher.mark_read(path, signature)
        self._watcher.mark_read(self._settings.path, self._settings.signature)

    def look(self, now: float) -> None:
        """Have the followed files looked at, if that is due.

        One that got out of reach, or is back, is as good as changed: the next reading tells which.
        """
        if not self._is_looking and (self._has_heard or now >= self._look_at):
            self._is_looking, self._has_heard = True, False
            self._reactor.later(lambda: self._watcher.look(time.monotonic()), self._take)
        before, self._hung = self._hung, frozenset(self._reactor.files.hung)
        files, patterns = self._followed
        if (before ^ self._hung) & {*map(str, files), *patterns}:
            self._reload()

    def tell(self) -> None:
        """What ails the watcher, if anything does."""
        if self._watcher.problem:
            self._telling.once("watch", WARNING, "watch", self._watcher.problem)

    def _take(self, look: Work[frozenset[Path | str]]) -> None:
        self._is_looking = False
        self._look_at = time.monotonic() + self._watcher.next_look_s()
        changed = look.result()
        if changed & self._name_servers.signatures.keys():
            self._reactor.later(self._name_servers.read, lambda _: self._renew_guard())
        if changed - self._name_servers.signatures.keys():
            self._reload()

    def _hear(self) -> None:
        self._has_heard = True
        self._reactor.wake()
