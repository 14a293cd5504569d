"""The files as the daemon takes them: what they say now, what counts where one is refused, and what is told of that."""

from collections.abc import Generator

from xdropd.daemon.announcing import Announcing
from xdropd.daemon.inforce import InForce
from xdropd.daemon.reactor import Reactor
from xdropd.errors import Problem, RefusedFile
from xdropd.filter.filter import Filter
from xdropd.host.telling import Telling
from xdropd.sources.catalogue import Catalogue, Reading
from xdropd.sources.settingsfile import SettingsFile
from xdropd.text.settings import Settings


class Intake:
    """One daemon's settings and lists."""

    def __init__(
        self,
        settings: SettingsFile,
        catalogue: Catalogue,
        in_force: InForce,
        kernel: Filter,
        reactor: Reactor,
        telling: Telling,
        announcing: Announcing,
    ) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._in_force = in_force
        self._filter = kernel
        self._reactor = reactor
        self._telling = telling
        self._announcing = announcing

    def settings(self) -> Generator[None, None, list[Problem]]:
        """Take the settings file as it is; its problems, with which the settings before stay in force."""
        before = self._settings.in_force.as_written()
        try:
            self._settings.in_force = yield from self._reactor.read(self._settings.read)
        except RefusedFile as refusal:
            told = self._announcing.tell_refusal(refusal)
            self._telling.trouble("settings", "the settings file is refused, those before stay in force")
            return told
        self._telling.trouble("settings")
        for key, value in self._settings.in_force.as_written().items():
            if before[key] != value:
                self._telling.log.notice("settings", f"settings: {key} was {before[key]}, is {value}")
        return []

    def lists(self, accept: str | None) -> Generator[None, None, tuple[Reading | None, list[Problem]]]:
        """Read what changed; None, and the problems, where the list before stays in force.

        `accept` is the path of a list file to be taken as it is.
        """
        try:
            read = yield from self._reactor.read(lambda: self._catalogue.read(accept))
        except RefusedFile as refusal:
            told = self._announcing.tell_refusal(refusal)
            self._telling.trouble("blocklist", "the blocklist is refused, the list before stays in force")
            return None, told
        reading = self._fit_to_be_used(read)
        if reading is None:
            return None, list(read.troubles)
        self._telling.trouble("blocklist")
        return reading, []

    # ---- at the start, where the last good versions may count ----

    def first_settings(self, *, is_adopted: bool) -> Generator[None, None, list[Problem]]:
        """As `settings`. Raises RefusedFile where there is nothing to go on with."""
        try:
            self._settings.in_force = yield from self._reactor.read(self._settings.read)
        except RefusedFile as refusal:
            self._announcing.tell_refusal(refusal)
            saved = yield from self._reactor.read(self._settings.last_good)
            if saved is None and not is_adopted:
                raise
            self._settings.in_force = saved or Settings()
            what = "the last good ones" if saved else "the defaults"
            self._telling.trouble("settings", f"the settings file is refused, {what} are in force")
            return refusal.problems
        return []

    def first_lists(self, *, is_adopted: bool) -> Generator[None, None, tuple[Reading | None, list[Problem]]]:
        """As `lists`. Raises RefusedFile where there is nothing to go on with."""
        try:
            read = yield from self._reactor.read(self._catalogue.read)
        except RefusedFile as refusal:
            self._announcing.tell_refusal(refusal)
            saved = yield from self._reactor.read(self._catalogue.read_last_good)
            if saved is None and not is_adopted:
                raise
            what = "the last good one" if saved else "what was in force before"
            self._telling.trouble("blocklist", f"the blocklist is refused, {what} is in force")
            return saved and self._fit_to_be_used(saved), refusal.problems
        reading = self._fit_to_be_used(read)
        return reading, [] if reading else list(read.troubles)

    def _fit_to_be_used(self, reading: Reading) -> Reading | None:
        """None where lists could not be found and the kernel alone knows what is in force, them included."""
        if not reading.is_partial or self._in_force.state is not None or not self._filter.attachments:
            return reading
        self._announcing.tell_lists(reading)
        self._telling.trouble("blocklist", "not all lists can be found, what was in force before is in force")
        return None
