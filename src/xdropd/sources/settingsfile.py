"""The settings file: what it says now, and its last good version. Knows the state folder; puts nothing in force."""

import contextlib
from pathlib import Path

from xdropd.errors import Problem, RefusedFile
from xdropd.host.files import Signature, read_file
from xdropd.host.statefolder import StateFolder
from xdropd.text import names
from xdropd.text import settings as settings_text
from xdropd.text.settings import Settings

_GOOD = "last-good/xdropd.yaml"


class SettingsFile:
    """The file at `name` (as the user gave it). `state` None: nothing outlives us.

    `name` is how it is told, `in_force` is what counts of all that was read; whoever reads decides that.
    `signature` is what the file was when it was last read; None: there was none, or it could not be read.
    """

    def __init__(self, name: str, state: StateFolder | None) -> None:
        self.path = Path(name).absolute()
        self.name = names.shown(name)
        self.signature: Signature | None = None
        self.in_force = Settings()
        self._state = state
        self._unsaved: bytes | None = None

    def read(self) -> Settings:
        """What it says now; the defaults where there is no file. Raises RefusedFile with every problem."""
        self.signature = None
        try:
            data, self.signature = read_file(self.path)
        except FileNotFoundError:
            return Settings()
        except OSError as problem:
            raise RefusedFile([Problem(self.name, 0, 0, f"cannot be read: {problem.strerror}")]) from problem
        settings = settings_text.read(data, self.name)
        self._unsaved = data
        return settings

    def last_good(self) -> Settings | None:
        """The last good version that was kept, or None without one."""
        with contextlib.suppress(OSError, RefusedFile):  # as good as never saved
            data = self._state.load(_GOOD) if self._state else None
            return None if data is None else settings_text.read(data, self.name)
        return None

    def save(self) -> None:
        """Keep the version that was read last, if it was good. Raises OSError; then it is tried again."""
        if self._state and self._unsaved is not None:
            self._state.save(_GOOD, self._unsaved)
            self._unsaved = None
