"""What can go wrong, a sentence each.

Lives here: every exception that leaves a module of this package on purpose, and how one of the system's is told. Not
here: exit codes (only the commands know those) and logging. `Problem` is a value, not an exception: readers return all
of them at once.
"""

import os
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OLDEST_LINUX = (5, 18)
"""Frames in several buffers, their length and their headers are asked for (docs/support-matrix.md)."""


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One mistake in a file. `line` and `column` count from 1, columns in characters; 0 where there is no place."""

    file: str
    line: int
    column: int
    message: str
    severity: str = "error"

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{place}: {self.severity}: {self.message}"

    def as_json(self) -> dict[str, Any]:
        """As replies and `--json` have it; null where there is no place."""
        return {"file": self.file, "line": self.line or None, "column": self.column or None, "message": self.message}


class XdropdError(Exception):
    """Base of everything below: a sentence for the operator, and a remedy where there is one."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class RefusedFile(XdropdError):
    """A settings file or blocklist has problems and nothing of it was taken."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


class KernelError(XdropdError):
    """The kernel refused a call. `errno` is kept; `call` names what was tried."""

    def __init__(self, call: str, errno: int, reason: str, hint: str = "") -> None:
        super().__init__(f"{call}: {reason}", hint)
        self.call = call
        self.errno = errno


class NotKept(KernelError):
    """The service manager did not confirm in time that it keeps what the next step relies on."""


class NotPermitted(KernelError):
    """The kernel refused a call for want of a capability."""


class ProgramRefused(KernelError):
    """The kernel's verifier does not accept a program. The reason holds its last lines; no capability would help."""


class KernelTooOld(XdropdError):
    """This kernel lacks what the program asks for, and will tomorrow."""

    def __init__(self) -> None:
        super().__init__(
            f"Linux {os.uname().release} is too old: xdropd needs {'.'.join(map(str, OLDEST_LINUX))} or newer"
        )


class CompileError(XdropdError):
    """bcc could not compile the BPF program. The message holds clang's own lines."""


class NotAttachable(XdropdError):
    """An interface cannot carry the filter: not Ethernet, or its place is taken by somebody else."""


class AlreadyRunning(XdropdError):
    """Another daemon answers on the control socket."""


class Unavailable(XdropdError):
    """The daemon does not answer, or does not answer yet."""


class Lost(XdropdError):
    """Who follows has lost its place, and goes on from what there is now."""


class Refused(XdropdError):
    """A plain no: what was asked for would have no effect."""


class BadRequest(XdropdError):
    """A request on the control socket makes no sense."""


class NotFetched(XdropdError):
    """A list could not be fetched.

    `was_answered`: a server spoke. `was_sent_away`: it does not want to be asked, and does not say for how long.
    `retry_after_s`: it asks to be left alone for so long.
    """

    def __init__(
        self, message: str, *, was_answered: bool = True, was_sent_away: bool = False, retry_after_s: int = 0
    ) -> None:
        super().__init__(message)
        self.was_answered = was_answered
        self.was_sent_away = was_sent_away
        self.retry_after_s = retry_after_s


class LocalApiError(XdropdError):
    """CrowdSec's local API did not do what it was asked for. `status` is that of HTTP; 0: there was no answer."""

    def __init__(self, message: str, hint: str = "", status: int = 0) -> None:
        super().__init__(message, hint)
        self.status = status


class ErrorAnswer(XdropdError):
    """The daemon answered a request with an error. `kind` is the name of one of these classes, or "Bug"."""

    def __init__(self, message: str, kind: str, problems: list[Problem]) -> None:
        super().__init__(message)
        self.kind = kind
        self.problems = problems


def sentence_of(problem: OSError) -> str:
    """What an OSError is about, its file or else the call that it came from, and why."""
    if problem.filename is not None:
        place = str(problem.filename)
    else:
        *_, last = traceback.extract_tb(problem.__traceback__)
        place = f"{last.line or last.name} ({Path(last.filename).name}:{last.lineno})"
    return f"{place}: {problem.strerror or problem}"  # some of Python's own carry a sentence and no number
