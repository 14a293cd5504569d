"""The last good versions, kept for the next process, which may find the files broken."""

import time

from xdropd.daemon.backoff import Backoff
from xdropd.daemon.reactor import Reactor
from xdropd.host.fileworker import Work
from xdropd.host.telling import Telling
from xdropd.sources.catalogue import Catalogue
from xdropd.sources.settingsfile import SettingsFile

_AT_THE_END_SECONDS = 5.0  # half of the unit's TimeoutStopSec


class Keeping:
    """One daemon's."""

    def __init__(self, catalogue: Catalogue, settings: SettingsFile, reactor: Reactor, telling: Telling) -> None:
        self._catalogue = catalogue
        self._settings = settings
        self._reactor = reactor
        self._telling = telling
        self._retry = Backoff()

    def keep(self) -> None:
        """In the state folder. Without space there it is tried again until there is some, whatever else happens."""
        self._retry.failed(time.monotonic())  # unless it is told otherwise
        self._reactor.later(self._save, self._tell)

    def look_after(self, now: float) -> None:
        """What could not be kept is tried again."""
        if "state" in self._telling.troubles and self._retry.is_due(now):
            self.keep()

    def keep_before_the_end(self) -> None:
        """What is being kept, too. A disk that hangs is not waited for."""
        if not self._reactor.files.hung:
            self._reactor.wait_for(self._reactor.files.submit(self._save), time.monotonic() + _AT_THE_END_SECONDS)

    def _save(self) -> None:
        self._catalogue.save()
        self._settings.save()

    def _tell(self, saving: Work[None]) -> None:
        try:
            saving.result()
        except OSError as problem:
            self._telling.trouble("state", f"the last good lists cannot be kept: {problem}")
        else:
            self._retry.succeeded()
            self._telling.clear("state")
