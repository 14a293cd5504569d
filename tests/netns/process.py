"""A program of ours as a process in one of a Net's namespaces, and the log that it writes."""

import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

_ENDS_WITHIN_S = 20


class Process:
    """Leaving the context that a kind of it is sends SIGTERM and requires exit status 0, unless it has ended."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._log_begins = 0
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """Everything that the process started last has said."""
        return self._log.read_bytes()[self._log_begins :].decode()

    def _begun_log(self) -> BinaryIO:
        """The file to write it into, from now on."""
        log = self._log.open("ab")
        self._log_begins = log.tell()
        return log

    def _start_in(self, namespace: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        with self._begun_log() as log:
            self.process = subprocess.Popen(
                ["ip", "netns", "exec", namespace, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
            )

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end: the exit status, negative for a death by signal."""
        assert self.process is not None
        self.process.send_signal(how)
        try:
            return self.process.wait(_ENDS_WITHIN_S)
        finally:
            self._kill()

    def __exit__(self, *_: object) -> None:
        assert self.process is not None
        if self.process.poll() is None:
            assert self.stop() == 0, self.log

    def _kill(self) -> None:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
