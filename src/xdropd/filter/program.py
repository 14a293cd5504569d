"""The BPF program as a blueprint: compiled when first wanted, and kept in the state folder under a stamp of its text.

So a compiler that is broken, or busy, matters only after an upgrade of the program text.
"""

import contextlib
import select

from xdropd.host.statefolder import StateFolder
from xdropd.kernel import compiler
from xdropd.kernel.compiler import Blueprint, Compilation

_WITH_REPLIES = "-replies"


class Program:
    """The program text that is installed with this package, and which program is loaded of it."""

    def __init__(self, state: StateFolder | None) -> None:
        self.wants_replies = False
        """Whether replies to this host's own connections should pass."""
        self.why_no_replies = ""
        """What this kernel said of a program that lets them pass; it will say the same another time."""
        self._state = state
        self._folder = compiler.source_folder()
        self._stamp = compiler.stamp(self._folder)
        self._name = f"program/{self._stamp}.json"
        self._blueprint: Blueprint | None = None
        self._compilation: Compilation | None = None

    @property
    def passes_replies(self) -> bool:
        """Whether the program to be loaded lets replies pass."""
        return self.wants_replies and not self.why_no_replies

    @property
    def stamp(self) -> str:
        """Equal stamps, equal programs."""
        return self._stamp + _WITH_REPLIES if self.passes_replies else self._stamp

    def is_made_from(self, stamp: str) -> bool:
        """Whether a program with this stamp was made from the same text, whatever was chosen."""
        return stamp.removesuffix(_WITH_REPLIES) == self._stamp

    def prepare(self) -> None:
        """Have `blueprint` answer soon: find a compiled form, or start the compiler in the background."""
        if self._blueprint is None and self._compilation is None:
            self._blueprint = self._kept()
            if self._blueprint is None:
                self._compilation = Compilation(self._folder)

    def waits(self, seconds: float) -> bool:
        """Whether the compiler is still at work after so many seconds at most."""
        return self._compilation is not None and not select.select([self._compilation], [], [], seconds)[0]

    def blueprint(self) -> Blueprint:
        """The program, waiting for the compiler if need be. Raises CompileError."""
        self.prepare()
        if self._blueprint is None:
            compilation, self._compilation = self._compilation, None  # one that failed is begun anew
            assert compilation
            self._blueprint = compilation.result()
            self._keep(self._blueprint)
        return self._blueprint

    def _kept(self) -> Blueprint | None:
        if self._state is None:
            return None
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # anything else but a blueprint: compile
            data = self._state.load(self._name)
            return None if data is None else Blueprint.from_json(data)
        return None

    def _keep(self, blueprint: Blueprint) -> None:
        if self._state is None:
            return
        with contextlib.suppress(OSError):  # a full disk is told when the lists are kept
            self._state.keep_only("program", set())
            self._state.save(self._name, blueprint.to_json())
