"""What the operator is told of reloads and of the whole: lines of the log, and the one of `systemctl status`."""

from collections.abc import Mapping

from xdropd.daemon.progress import Progress
from xdropd.errors import Problem, RefusedFile
from xdropd.filter.attaching import Attaching
from xdropd.filter.filter import Filter
from xdropd.filter.lists import Lists
from xdropd.host.log import WARNING
from xdropd.host.systemd import Systemd
from xdropd.host.telling import Fields, Telling
from xdropd.rules.plan import Counted
from xdropd.sources.catalogue import Reading
from xdropd.sources.settingsfile import SettingsFile

_TOLD_AT_MOST = 100


class Announcing:
    """One daemon's."""

    def __init__(
        self,
        lists: Lists,
        kernel: Filter,
        attaching: Attaching,
        settings: SettingsFile,
        telling: Telling,
        systemd: Systemd,
        progress: Progress,
    ) -> None:
        self._lists = lists
        self._filter = kernel
        self._attaching = attaching
        self._settings = settings
        self._telling = telling
        self._systemd = systemd
        self._progress = progress

    @property
    def state(self) -> str:
        """What is being done: nothing, as long as no interface is filtered."""
        if not self._filter.attachments:
            return "waiting"
        return "monitoring" if self._settings.in_force.action == "monitor" else "enforcing"

    def status_line(self) -> str:
        """One line for an operator."""
        names = [
            f"{self._attaching.name_of(ifindex)} ({kept.mode})"
            for ifindex, kept in sorted(self._filter.attachments.items())
        ]
        degraded = ", degraded" if self._telling.is_degraded else ""
        entries = f"{self._lists.count} entries" if self._lists.state else "what was in force before"
        if not names:
            return f"{self.state}{degraded}: no interface is filtered, {entries}"
        return f"{self.state}{degraded}: {entries} on {', '.join(names)}"

    def say_ready(self) -> None:
        """To the service manager: whatever was begun has come to its end."""
        self._progress.text = ""
        self._systemd.ready(self.status_line())

    def say_what_is_done(self) -> None:
        """To the service manager, in the line that an operator sees."""
        self._systemd.status(self._progress.text or self.status_line())

    def report(self, reading: Reading, counted: Counted) -> None:
        """A list is in force."""
        self._telling.log.info(
            "reload",
            f"blocklist: {counted.added} added, {counted.removed} removed, {self._lists.count} in force",
            file=reading.name,
        )
        self.tell_lists(reading)

    def tell_lists(self, reading: Reading) -> None:
        """What is wrong with list files."""
        places: Mapping[str, Fields] = {str(each): {"file": each.file, "line": each.line} for each in reading.warnings}
        self._telling.each_once("warnings", WARNING, "list", places)
        self._telling.trouble("lists", {each.file: str(each) for each in reading.troubles}, "list", "file")

    def tell_refusal(self, refusal: RefusedFile) -> list[Problem]:
        """Why a file is refused; the problems that were told."""
        told = refusal.problems[:_TOLD_AT_MOST]
        for problem in told:
            self._telling.log.error("reload", str(problem), file=problem.file, line=problem.line)
        if len(told) < len(refusal.problems):
            more = len(refusal.problems) - len(told)
            self._telling.log.error("reload", f"and {more} more problems, see: xdropctl check", file=told[0].file)
        return told

    def tell_replies(self) -> list[Problem]:
        """Whether replies pass where the settings say so; the problem, where the kernel does not let them."""
        why_not = self._filter.why_no_replies
        sentence = f"replies: pass is refused, they are dropped: {why_not}" if why_not else ""
        self._telling.trouble("replies", sentence, "settings")
        return [Problem(self._settings.name, 0, 0, sentence)] if sentence else []

    def tell_repaired(self, places: int) -> None:
        """The kernel held something else than it should have."""
        if places:
            what = "1 place, which was" if places == 1 else f"{places} places, which were"
            message = f"the kernel differed from the list and the settings in {what} repaired"
            self._telling.log.warning("reconcile", message)
