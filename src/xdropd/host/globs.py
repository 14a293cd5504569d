"""Glob patterns: which files they stand for now, and which folders decide that.

They mean what they mean to Python's glob module with recursive=True: `*`, `?` and `[...]` never go across a slash, `**`
is any number of folders, and a leading dot is matched by a dot alone. But folders are passed over, and so are the names
that editors and packages leave behind: what was taken out of a list must not come back with its backup, nor a folder of
lists with a copy of it. A link back to a folder on the way is not followed.
Not here: what is in the files, and when to look again.
"""

# ruff: noqa: PTH116, PTH118, PTH208
# Patterns and paths are plain strings: they are taken apart and put together.

import fnmatch
import glob
import os
import stat
from collections import defaultdict
from typing import NamedTuple

from xdropd.host.files import NO_SUCH_FILE
from xdropd.host.fileworker import NoAnswer, touch

_LEFT_BEHIND = ("*~", "#*#", "*.bak", "*.orig", "*.swp", "*.dpkg-*", "*.rpm*", "*.ucf-*")
_ANY_FOLDERS = "**"

_Names = list[tuple[str, bool | None]]
"""Names in a folder, and whether each is a folder; None of a link, which may lead to one."""

Stamp = tuple[int, ...]
"""Changes whenever a name in the folder does; empty if there is no folder."""


class Found(NamedTuple):
    """What a pattern stands for."""

    files: frozenset[str]
    stamps: dict[str, Stamp]
    """Of each folder that decides it, from before it was looked into."""
    components: dict[str, set[str]]
    """Of each of these folders: with which parts of the pattern the names in it are matched."""


def look(pattern: str) -> Found:
    """Look through the folders of an absolute pattern. Raises NoAnswer."""
    parts = pattern.split("/")
    first = next((at for at, part in enumerate(parts) if glob.has_magic(part)), len(parts) - 1)
    start = "/".join(parts[:first]) or "/"
    files: set[str] = set()
    stamps = {start: stamp_of(start)}
    components: defaultdict[str, set[str]] = defaultdict(set)
    listed: dict[str, _Names] = {}
    todo: list[tuple[str, int, frozenset[Stamp]]] = [(start, first, frozenset())]
    while todo:
        folder, at, above = todo.pop()
        if folder not in stamps:
            stamps[folder] = stamp_of(folder)
        part, is_last = parts[at], at == len(parts) - 1
        components[folder].add(part)
        if part == _ANY_FOLDERS:
            above |= {stamps[folder][:2]}
            if not is_last:
                todo.append((folder, at + 1, frozenset()))
        if folder not in listed and glob.has_magic(part):
            listed[folder] = _listed(pattern, folder)
        for name, known in listed[folder] if glob.has_magic(part) else [(part, None)]:
            path = os.path.join(folder, name)
            if not fits(name, part):
                continue
            is_folder = known if known is not None else _leads_to_folder(path, is_file=is_last and part != _ANY_FOLDERS)
            if is_folder is False and is_last:
                files.add(path)
            elif is_folder and part != _ANY_FOLDERS and not is_last:
                todo.append((path, at + 1, frozenset()))
            elif is_folder and part == _ANY_FOLDERS and stamp_of(path)[:2] not in above:
                todo.append((path, at, above))
    return Found(frozenset(files), stamps, dict(components))


def matching(pattern: str) -> frozenset[str]:
    """The files that a pattern stands for now. Raises NoAnswer."""
    return look(pattern).files


def fits(name: str, component: str) -> bool:
    """True if a name matches one component of a pattern."""
    if not glob.has_magic(component):
        return name == component
    is_hidden = name.startswith(".") and not component.startswith(".")
    return not is_hidden and fnmatch.fnmatchcase(name, component) and not _is_left_behind(name)


def stamp_of(folder: str) -> Stamp:
    """Empty as well if there is no answer."""
    try:
        status = touch(folder, os.stat, folder)
    except NO_SUCH_FILE:
        return ()
    return status.st_dev, status.st_ino, status.st_mtime_ns


def _listed(pattern: str, folder: str) -> _Names:
    try:
        return touch(pattern, _list, folder)
    except NoAnswer:
        raise
    except NO_SUCH_FILE:
        return []


def _list(folder: str) -> _Names:
    with os.scandir(folder) as entries:
        return [(entry.name, None if entry.is_symlink() else entry.is_dir(follow_symlinks=False)) for entry in entries]


def _leads_to_folder(path: str, *, is_file: bool) -> bool | None:
    """Whether a path leads to a folder; None if it leads nowhere. Without an answer it may pass for a file."""
    try:
        return stat.S_ISDIR(touch(path, os.stat, path).st_mode)
    except NoAnswer:
        if not is_file:
            raise
        return False
    except NO_SUCH_FILE:
        return None


def _is_left_behind(name: str) -> bool:
    return any(fnmatch.fnmatchcase(name, left) for left in _LEFT_BEHIND)
