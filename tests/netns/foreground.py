"""The real daemon as a process in the foreground, without systemd, in one of a Net's namespaces."""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from process import Process
from servicemanager import ServiceManager

from netns import Net, inside
from waiting import wait_until

# What is compiled once is compiled for all: the form that a daemon keeps in its state folder, by name.
_compiled: dict[str, bytes] = {}

# Start, compile and fill on a busy machine.
READY_WITHIN_S = 20
_READY = re.compile(r"^xdropd: notice: (enforcing|monitoring|waiting)", re.MULTILINE)


class Daemon(Process):
    """A daemon on `net.host`, filtering `eth0`, with its files in `folder`. Use as a context; `log` tells what it said.

    Entering returns when the daemon is ready, leaving sends SIGTERM and requires exit status 0, unless it was stopped.
    `environment` adds variables, an empty one is taken out; `within` is a command that the daemon's is given to.
    With a `manager` it is a service, whose filter outlives it; `sources` is the folder of the package that it runs.
    """

    program: tuple[str, ...] = ("-m", "xdropd.commands.xdropd")
    sources: Path | None = None
    starts_compiled = True  # what was compiled before is in its state folder

    def __init__(
        self,
        net: Net,
        folder: Path,
        blocklist: str = "block: []\n",
        *arguments: str,
        environment: Mapping[str, str] = MappingProxyType({}),
        within: Sequence[str] = (),
        manager: ServiceManager | None = None,
    ) -> None:
        super().__init__(folder / "log")
        self.blocklist = folder / "etc" / "blocklist.yaml"
        self.settings = folder / "etc" / "xdropd.yaml"
        self.socket = folder / "control.sock"
        self._net = net
        self._environment = {**os.environ, "STATE_DIRECTORY": str(folder / "state"), "RUNTIME_DIRECTORY": str(folder)}
        self._environment.pop("NOTIFY_SOCKET", None)
        self._environment = {name: value for name, value in {**self._environment, **environment}.items() if value}
        self._within = within
        self._manager = manager
        self._arguments = arguments or ("--interface", net.device)
        self.blocklist.parent.mkdir(exist_ok=True)
        self.blocklist.write_text(blocklist)
        if not self.settings.exists():
            self.settings.write_text("interfaces: auto\n")
        self._programs = folder / "state" / "program"

    def start(self) -> "subprocess.Popen[bytes]":
        """Start it and do not wait."""
        with contextlib.suppress(OSError):  # a state folder without space
            for name, data in _compiled.items() if self.starts_compiled else ():
                self._programs.mkdir(mode=0o700, parents=True, exist_ok=True)
                (self._programs / name).write_bytes(data)
        files = ("--settings", self.settings, "--blocklist", self.blocklist, "--socket", self.socket)
        command = [*self._within, sys.executable, *self.program, *map(str, files), *self._arguments]
        environment = {**self._environment, **({"PYTHONPATH": str(self.sources)} if self.sources else {})}
        if self._manager:
            with self._begun_log() as log, inside(self._net.host):
                self.process = self._manager.start(command, environment, log)
        else:
            self._start_in(self._net.host, command, environment)
        assert self.process is not None
        return self.process

    @property
    def is_ready(self) -> bool:
        """Whether it has said so."""
        return _READY.search(self.log) is not None

    def keep_compiled(self) -> None:
        """What it has compiled is there for the next start of any daemon."""
        _compiled.update({file.name: file.read_bytes() for file in self._programs.glob("*.json")})

    def __enter__(self) -> Self:
        process = self.start()

        def is_ready() -> bool:
            assert process.poll() is None, f"exit status {process.returncode}\n{self.log}"
            return self.is_ready

        try:
            wait_until(is_ready, within_s=READY_WITHIN_S, what="the daemon is ready")
        except BaseException:
            self._kill()
            raise
        self.keep_compiled()
        return self

    def ask(self, verb: str, **fields: object) -> list[dict[str, Any]]:
        """What the socket answers (docs/protocol.md), a line each: what `xdropctl` prints in a fraction of its time."""
        with socket.socket(socket.AF_UNIX) as asking:
            asking.connect(str(self.socket))
            asking.sendall(json.dumps({"version": 1, "verb": verb, **fields}).encode() + b"\n")
            with asking.makefile("rb") as answer:
                return [json.loads(line) for line in answer]

    def status(self) -> dict[str, Any]:
        """What `xdropctl --json status` prints."""
        told: dict[str, Any] = self.ask("status")[-1]["result"]
        return told

    def lookup(self, address: str) -> dict[str, Any]:
        """What `xdropctl --json lookup` prints."""
        told: dict[str, Any] = self.ask("lookup", address=address)[-1]["result"]
        return told

    def rows(self, **fields: str) -> list[dict[str, Any]]:
        """What `xdropctl --json list` prints."""
        return [line["row"] for line in self.ask("list", **fields) if "row" in line]

    def ctl(self, *arguments: str, stdin: str | None = None) -> "subprocess.CompletedProcess[str]":
        """Run `xdropctl` against this daemon's socket."""
        return subprocess.run(
            [sys.executable, "-m", "xdropd.commands.xdropctl", "--socket", self.socket, *arguments],
            env=self._environment,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
