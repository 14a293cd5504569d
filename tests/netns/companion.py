"""The real xdropd-crowdsec as a process, in one of a Net's namespaces."""

import os
import sys
from pathlib import Path
from typing import Self

from process import Process

from waiting import wait_until

_SAID_WITHIN_S = 30


class Companion(Process):
    """Of the daemon behind `socket`. Use as a context.

    Entering returns when it has said something, thus listens to signals: before, SIGHUP would be its end.
    """

    def __init__(self, namespace: str, folder: Path, socket: Path, configuration: str) -> None:
        super().__init__(folder / "companion.log")
        self._log.touch()
        self._namespace = namespace
        self.configuration = folder / "crowdsec.yaml"
        self.configuration.write_text(configuration)
        self._socket = socket
        self._environment = {**os.environ, "STATE_DIRECTORY": str(folder / "companion")}
        self._environment.pop("NOTIFY_SOCKET", None)

    def start(self) -> None:
        """Start it and do not wait."""
        files = ("--config", str(self.configuration), "--socket", str(self._socket))
        command = [sys.executable, "-m", "xdropd.commands.xdropd_crowdsec", *files]
        self._start_in(self._namespace, command, self._environment)

    def __enter__(self) -> Self:
        self.start()
        try:
            self.says("")
        except BaseException:
            self._kill()
            raise
        return self

    def says(self, what: str, times: int = 1) -> None:
        """Wait until it has said so; "" is whatever it says first."""

        def has_said() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, f"exit status {self.process.returncode}\n{self.log}"
            return bool(self.log) and self.log.count(what) >= times

        wait_until(has_said, within_s=_SAID_WITHIN_S, what=f"it says {what!r} {times} times:\n{self.log}")

    @property
    def resident_kb(self) -> int:
        """VmRSS, of the process behind ip netns exec, which becomes it."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0])
