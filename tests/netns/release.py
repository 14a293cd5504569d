"""Another release of this package: the same Python, another program text, and a compiler that may be missing.

new = Release(folder)
daemon.sources = new.folder
"""

import shutil
from pathlib import Path

_REPOSITORY = Path(__file__).parents[2]


class Release:
    """Installed in `folder`. With another text, nothing will do that was compiled before."""

    def __init__(self, folder: Path, *, other_text: bool = True, compiles: bool = True) -> None:
        self.folder = folder / "release"
        self.folder.mkdir()
        sources = _REPOSITORY / "src" / "xdropd"
        shutil.copytree(sources, self.folder / "xdropd", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(_REPOSITORY / "bpf", self.folder / "bpf")
        if other_text:
            with (self.folder / "bpf" / "xdrop.bpf.c").open("a") as text:
                text.write(f"/* {folder} */\n")
        self._hidden = self.folder / "bcc.py"  # found before the distribution's
        if not compiles:
            self.lose_compiler()

    def lose_compiler(self) -> None:
        """Compilations fail from now on, as without python3-bpfcc."""
        self._hidden.write_text("raise SystemExit('there is no bcc')\n")

    def regain_compiler(self) -> None:
        """They succeed again."""
        self._hidden.unlink()

    def has_a_bug(self, file: str, line: str) -> None:
        """Before a line of a file in the package, something is raised from now on."""
        source = self.folder / "xdropd" / file
        before, found, after = source.read_text().partition(line)
        assert found
        indent = before[before.rfind("\n") + 1 :]
        source.write_text(f"{before}raise ZeroDivisionError('a mistake of ours')\n{indent}{found}{after}")
