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


def entries(operands: Sequence[str], verb: str, standard_input: BinaryIO) -> list[str]:
    """All of them, in order. Raises WrongLine, Unavailable, or RefusedFile with every line that does not parse."""
    found: list[str] = []
    for operand in operands:
        if operand == "-":
            found += _read(_all_of(standard_input))
        elif why := _why_not(operand):
            raise WrongLine(why, verb)
        else:
            found.append(operand)
    return found


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


def _read(data: bytes) -> list[str]:
    found: list[str] = []
    problems: list[Problem] = []
    text = data.decode("utf-8-sig", errors="replace")
    for number, line in enumerate(text.split("\n"), start=1):
        entry = line.partition("#")[0].strip()
        if not entry:
            continue
        if why := _why_not(entry):
            from xdropd.errors import Problem

            problems.append(Problem(NAME, number, line.index(entry) + 1, why))
        else:
            found.append(entry)
    if problems:
        from xdropd.errors import RefusedFile

        raise RefusedFile(problems)
    return found


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
