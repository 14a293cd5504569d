"""What is put before the C library of one process (LD_PRELOAD), and does as words in a shared file say, at any time."""

import mmap
import struct
import subprocess
from pathlib import Path


class Preloaded:
    """Start a process with `environment`: a library made of `source` finds the file by the name in capitals.

    `folder` holds both. The words are C's longs, and 0 at first.
    """

    def __init__(self, folder: Path, name: str, source: str, words: int = 1) -> None:
        text, library, shared = (folder / f"{name}{suffix}" for suffix in (".c", ".so", ""))
        text.write_text(source)
        subprocess.run(["cc", "-shared", "-fPIC", "-O", "-o", library, text, "-ldl"], check=True)
        self._format = f"={words}q"
        size = struct.calcsize(self._format)
        shared.write_bytes(bytes(size))
        with shared.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), size)
        self.environment = {"LD_PRELOAD": str(library), name.upper(): str(shared)}

    @property
    def words(self) -> tuple[int, ...]:
        """What the file says now."""
        return struct.unpack(self._format, self._memory[:])

    def say(self, *words: int) -> None:
        """The first of them."""
        said = struct.pack(f"={len(words)}q", *words)
        self._memory[: len(said)] = said
