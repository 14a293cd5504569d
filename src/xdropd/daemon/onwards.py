"""Where passed packets go on to: the pinned program that the settings name, watched, for its owner may replace it."""

import os
from collections.abc import Generator

from xdropd.daemon.reactor import Reactor
from xdropd.filter.filter import Filter
from xdropd.filter.nextprogram import pinned
from xdropd.host.fileworker import Work
from xdropd.host.log import NOTICE
from xdropd.host.telling import Telling
from xdropd.sources.settingsfile import SettingsFile
from xdropd.text import names

_EVERY_SECONDS = 1.0


class Onwards:
    """One daemon's."""

    def __init__(self, kernel: Filter, settings: SettingsFile, reactor: Reactor, telling: Telling) -> None:
        self._filter = kernel
        self._settings = settings
        self._reactor = reactor
        self._telling = telling
        self._in_slot: str | None = None  # whose program that is; None if it was taken over, or there is none
        self._is_looking = False
        self._due_at = 0.0

    @property
    def _path(self) -> str | None:
        path = self._settings.in_force.next_program
        return None if path is None else names.actual(path)

    def look(self) -> Generator[None, None, None]:
        """Have it as the settings say, as a part of a job. Raises KernelError."""
        path = self._path
        found = None if path is None else (yield from self._reactor.read(lambda: pinned(path)))
        self._take(path, found)

    def look_after(self, now: float) -> None:
        """Look whether it is time again whether it was replaced, came, or went. Raises KernelError."""
        path = self._path
        if path is None or self._is_looking or now < self._due_at:
            return
        self._is_looking, self._due_at = True, now + _EVERY_SECONDS

        def take(work: Work[int | str | None]) -> None:
            self._is_looking = False
            self._take(path, work.result())

        self._reactor.later(lambda: pinned(path), take)

    def _take(self, path: str | None, found: int | str | None) -> None:
        """`found` is what `pinned` says of the path."""
        program = found if isinstance(found, int) else None
        try:
            if path == self._path and self._filter.can_count:
                self._tell(path, self._put(path, program, found if isinstance(found, str) else ""))
        finally:
            if program is not None:
                os.close(program)

    def _put(self, path: str | None, program: int | None, why_not: str) -> str:
        """Put it into the slot, or leave it out; what is wrong.

        What cannot be read, or does not fit, changes nothing, unless it is another path's that stands in the slot.
        """
        slot = self._filter.next_program
        if program is not None and not (why_not := slot.put(program)):
            self._in_slot = path
            return ""
        if not why_not or self._in_slot not in (None, path):
            slot.leave_out()
            self._in_slot = None
        return why_not or ("nothing is pinned there" if path is not None else "")

    def _tell(self, path: str | None, trouble: str) -> None:
        shown = self._settings.in_force.next_program
        goes_on = self._filter.next_program.id
        if trouble:
            trouble = f"next: {shown}: {trouble}; packets that pass go "
            trouble += f"on to program {goes_on}, as before" if goes_on else "no further"
        self._telling.trouble("next", {shown: trouble} if shown and trouble else {}, "next", "file")
        if path is not None and not trouble:
            self._telling.once("next", NOTICE, "next", f"packets that pass go on to program {goes_on}, {shown}")
