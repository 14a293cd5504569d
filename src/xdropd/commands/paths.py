"""Paths as they are typed: relative ones begin at the current folder, which somebody may have removed."""

import os


def of_list(name: str) -> str:
    """What a list goes by: its path from / on, or its URL. Raises RefusedFile."""
    return name if name.startswith(("http://", "https://")) else absolute(name)


def absolute(path: str) -> str:
    """The path from / on. Raises RefusedFile where it is relative and the current folder is no more."""
    try:
        return os.path.abspath(path)  # noqa: PTH100  # pathlib takes 5 ms
    except FileNotFoundError:
        from xdropd.errors import Problem, RefusedFile
        from xdropd.text import names

        message = "the current folder has been removed; change to another one, or write the path from / on"
        raise RefusedFile([Problem(names.shown(path), 0, 0, message)]) from None
