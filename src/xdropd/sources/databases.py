"""What a database says of one address, of the few bytes that it takes to find out."""

from mmap import ACCESS_READ, mmap
from pathlib import Path

from xdropd.text.formats.mmdb import Database, Facts


def facts(where: Path | bytes, version: int, address: int) -> Facts:
    """Of a database's content, or its file. Raises OSError, Unfit."""
    if isinstance(where, bytes):
        return Database(where).facts(version, address)
    with where.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        return Database(content).facts(version, address)
