"""C text to a blueprint: what is the same on every machine, before any map or program exists here.

Knows how to run compile_child.py, and nothing of bcc. The blueprint is pure data; generation.py makes maps and
programs of it as often as it likes without compiling again.
"""

import base64
import dataclasses
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import xdropd
from xdropd.errors import CompileError
from xdropd.kernel import libbpf
from xdropd.kernel.abi import FITTED_NUMBERS
from xdropd.kernel.libbpf import MapShape

PROGRAM = "xdrop.bpf.c"

_SECONDS_AT_MOST = 300  # half a second on a machine of today, a minute on an emulated one
_DESCRIPTORS_AT_MOST = 64


@dataclass(frozen=True, slots=True)
class Blueprint:
    """Programs as instructions with the places where something is to be put in, and the shapes of their maps.

    `references[program]` lists (offset of an instruction, name of the map that it refers to); `numbers[program]` the
    same for fitted numbers.
    """

    programs: dict[str, bytes]
    references: dict[str, list[tuple[int, str]]]
    numbers: dict[str, list[tuple[int, str]]]
    maps: dict[str, MapShape]

    def to_json(self) -> bytes:
        """A form to keep on disk."""
        programs = {name: base64.b64encode(body).decode() for name, body in self.programs.items()}
        maps = [dataclasses.astuple(shape) for shape in self.maps.values()]
        kept = {"programs": programs, "references": self.references, "numbers": self.numbers, "maps": maps}
        return json.dumps(kept).encode()

    @classmethod
    def from_json(cls, data: bytes) -> "Blueprint":
        """The inverse of `to_json`. Raises ValueError, KeyError or TypeError where it is something else."""
        kept = json.loads(data)

        def places(key: str) -> dict[str, list[tuple[int, str]]]:
            return {name: list(map(tuple, found)) for name, found in kept[key].items()}

        return cls(
            {name: base64.b64decode(body) for name, body in kept["programs"].items()},
            places("references"),
            places("numbers"),
            {shape[0]: MapShape(*shape) for shape in kept["maps"]},
        )


def source_folder() -> Path:
    """Where xdrop.bpf.c and its headers are: beside the package when installed, else in the source tree.

    Raises CompileError if they are in neither place.
    """
    package = Path(xdropd.__file__).parent
    for folder in (package / "bpf", package.parent / "bpf", package.parent.parent / "bpf"):
        if (folder / PROGRAM).is_file():
            return folder
    raise CompileError(f"{PROGRAM} is not beside {package}", "the installation is incomplete; install xdropd again")


def stamp(folder: Path) -> str:
    """A hash of everything that the instructions are made from: equal stamps, equal programs."""
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.[ch]")):
        digest.update(file.relative_to(folder).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]


class Compilation:
    """A compile child at work. Start it, do something else, then `result`.

    `folder` has the headers, and `source` unless that is an absolute path.
    When this process dies the child dies; when the child dies `result` raises.
    """

    def __init__(self, folder: Path, cflags: tuple[str, ...] = (), source: str | Path = PROGRAM) -> None:
        self._ours, theirs = socket.socketpair()
        self._complaints = os.fdopen(os.memfd_create("clang", os.MFD_CLOEXEC), "w+b")  # no folder needs to be writable
        package_root = str(Path(xdropd.__file__).parent.parent)
        command = [sys.executable, "-s", "-m", "xdropd.kernel.compile_child"]
        command += [str(theirs.fileno()), str(os.getpid()), str(folder / source), *cflags]
        self._child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._complaints,
            pass_fds=[theirs.fileno()],
            cwd="/",
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": package_root, "BCC_KERNEL_SOURCE": str(folder)},
        )
        theirs.close()

    def fileno(self) -> int:
        """Readable once there is an answer, or none will come."""
        return self._ours.fileno()

    def result(self) -> Blueprint:
        """Wait for the blueprint. Raises CompileError with clang's own lines."""
        with self._ours, self._complaints:
            self._ours.settimeout(_SECONDS_AT_MOST)
            try:
                received, descriptors, _, _ = socket.recv_fds(self._ours, 1 << 16, _DESCRIPTORS_AT_MOST)
                try:
                    return self._read(received, descriptors)
                finally:
                    for descriptor in descriptors:
                        os.close(descriptor)
            except TimeoutError:
                raise CompileError(f"the compiler did not answer within {_SECONDS_AT_MOST} s") from None
            finally:
                self._child.kill()
                self._child.wait()

    def _read(self, received: bytes, descriptors: list[int]) -> Blueprint:
        while more := self._ours.recv(1 << 16):
            received += more
        if not received:
            raise CompileError(self._what_was_said())
        try:
            answer = json.loads(received)
            made = dict(zip(answer["maps"], descriptors, strict=True))
        except ValueError:  # it died in the middle of it
            raise CompileError(self._what_was_said()) from None
        shapes = {number: libbpf.map_shape(descriptor) for number, descriptor in made.items()}
        programs = {name: base64.b64decode(text) for name, text in answer["programs"].items()}
        references = {
            name: [(at, shapes[number].name) for at, number in libbpf.references(body, libbpf.PSEUDO_MAP_FD)]
            for name, body in programs.items()
        }
        numbers = {
            name: [(at, FITTED_NUMBERS[number]) for at, number in libbpf.references(body, libbpf.PSEUDO_FITTED_NUMBER)]
            for name, body in programs.items()
        }
        return Blueprint(programs, references, numbers, {shape.name: shape for shape in shapes.values()})

    def _what_was_said(self) -> str:
        code = self._child.wait()
        self._complaints.seek(0)
        lines = self._complaints.read().decode(errors="replace").strip()
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        return f"the BPF program does not compile ({how})\n{lines}"


def compile_blueprint(folder: Path, cflags: tuple[str, ...] = (), source: str | Path = PROGRAM) -> Blueprint:
    """Compile and wait."""
    return Compilation(folder, cflags, source).result()
