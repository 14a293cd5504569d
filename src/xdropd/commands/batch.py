"""What `block`, `unblock` and `lookup` are given: on the command line, and on standard input with "-".

A mistake on the command line is wrong usage; one on standard input refuses the batch and has a line and a column.
Loads as little as it can: see arguments.py.
"""

from __future__ import annotations

from _socket import AF_INET, AF_INET6, inet_pton

from xdropd.commands.arguments import WrongLine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import BinaryIO

    from xdropd.errors import Problem

NAME = "standard input"

_IN_A_REQUEST_AT_MOST = 1000
_AT_ONCE = 16384


def entries(operands: Sequence[str], verb: str, standard_input: BinaryIO) -> Given:
    """All of them, in order. Raises WrongLine, Unavailable, or RefusedFile with every line that does not parse."""
    found = Given()
    for operand in operands:
        if operand == "-":
            _read(found, _all_of(standard_input), ends=verb != "unblock")
        elif why := _why_not(operand):
            raise WrongLine(why, verb)
        else:
            found.add(operand)
    return found


class Given:
    """Entries as they were written, and where any says more, a line of each as the control socket takes it."""

    def __init__(self) -> None:
        self.entries: list[str] = []
        self.rests: dict[int, str] = {}
        """What stands behind an entry in its line, by its index."""

    def add(self, entry: str, rest: str = "") -> None:
        """One more."""
        if rest:
            self.rests[len(self.entries)] = rest
        self.entries.append(entry)

    @property
    def must_follow(self) -> bool:
        """Whether they do not go into a request's own line."""
        return bool(self.rests) or len(self.entries) > _IN_A_REQUEST_AT_MOST

    def lines(self) -> list[bytes]:
        """As the control socket takes them, some at a time."""
        if not self.rests:
            return [
                ("\n".join(self.entries[at : at + _AT_ONCE]) + "\n").encode()
                for at in range(0, len(self.entries), _AT_ONCE)
            ]
        lines = [f"{entry}{self.rests.get(at, '')}\n" for at, entry in enumerate(self.entries)]
        return ["".join(lines[at : at + _AT_ONCE]).encode() for at in range(0, len(lines), _AT_ONCE)]


def address(text: str, verb: str) -> str:
    """An address as it was written. Raises WrongLine."""
    if why := _why_not(text):
        raise WrongLine(why, verb)
    from xdropd.text.addresses import parse_leniently

    if not parse_leniently(text)[0].is_address:
        raise WrongLine(f"{verb} takes a single address, not '{text}'", verb)
    return text


def _all_of(standard_input: BinaryIO) -> bytes:
    try:
        return standard_input.read()
    except OSError as problem:
        from xdropd.errors import Unavailable

        raise Unavailable(f"{NAME} cannot be read: {problem.strerror or problem}") from problem


def _read(found: Given, data: bytes, *, ends: bool) -> None:
    problems: list[Problem] = []
    text = data.decode("utf-8-sig", errors="replace")
    for number, line in enumerate(text.split("\n"), start=1):
        if line.lstrip().startswith("{"):
            from xdropd.commands import jsonlines

            try:
                entry, rest = jsonlines.read(line, with_end=ends)
            except ValueError as problem:
                _note(problems, number, len(line) - len(line.lstrip()) + 1, str(problem))
                continue
            place = line.find(entry) + 1
        else:
            entry, rest = line.partition("#")[0].strip(), ""
            if not entry:
                continue
            place = line.index(entry) + 1
        if why := _why_not(entry):
            _note(problems, number, max(1, place), why)
        else:
            found.add(entry, rest)
    if problems:
        from xdropd.errors import RefusedFile

        raise RefusedFile(problems)


def _note(problems: list[Problem], line: int, column: int, why: str) -> None:
    from xdropd.errors import Problem

    problems.append(Problem(NAME, line, column, why))


def _why_not(text: str) -> str:
    """What is wrong with an entry, "" if nothing is. Plain addresses, nearly all of them, are seen at a glance."""
    try:
        inet_pton(AF_INET6 if ":" in text else AF_INET, text)
    except (OSError, ValueError):
        from xdropd.text.addresses import parse_leniently

        try:
            parse_leniently(text)
        except ValueError as problem:
            return str(problem)
    return ""
