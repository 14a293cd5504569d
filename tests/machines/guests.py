"""A virtual machine that runs Debian's own kernel: qemu without any help of the host's, thrown away afterwards.

    with Guest(image, CARDS) as guest:
        guest.run("ip", "link", "set", "nic0", "up")

Knows nothing of xdropd. Every card has a cable (cable.py); `nicN` in the guest is the one with the number N. What the
guest writes to its disk is gone with it, and qemu goes when this process does.
"""

import json
import shlex
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from cable import Cable, QueuesCable
from images import Image

MAC = "52:54:00:12:34:0{}"
"""Of the card with a number."""

_BOOT_SECONDS_AT_MOST = 240
_CONNECTED_WITHIN_S = 20.0
_LOOK_EVERY_S = 0.05

_MACHINE = (
    *("-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", "1536", "-display", "none", "-monitor", "none"),
    *("-nic", "none"),
)
# A kernel that panics as it boots starts anew: with several CPUs, now and then the emulator runs code of the kernel's
# that is just being changed ("Oops: int3").
_KERNEL_OPTIONS = "root=/dev/vda rw console=ttyS0 quiet systemd.show_status=no net.ifnames=0 panic=-1"


class Guest:
    """One that runs. `cards` are names of qemu's devices, each with the options that it needs after a comma.

    `emulator` is the command of a qemu.
    """

    def __init__(self, image: Image, cards: Sequence[str], emulator: Sequence[str] = ("qemu-system-x86_64",)) -> None:
        self._place = tempfile.TemporaryDirectory(prefix="guest-")
        place = Path(self._place.name)
        self._console = place / "console"
        self.cables = [QueuesCable() if "mq=on" in card else Cable() for card in cards]
        wiring: list[str] = []
        for number, (card, cable) in enumerate(zip(cards, self.cables, strict=True)):
            wiring += ["-netdev", f"{cable.netdev},id=net{number}"]
            name, comma, options = card.partition(",")
            wiring += ["-device", f"{name},id=card{number},netdev=net{number},mac={MAC.format(number)}{comma}{options}"]
        self._qemu = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "KILL", *emulator, *_MACHINE),
                *("-kernel", str(image.kernel), "-initrd", str(image.initrd), "-append", _KERNEL_OPTIONS),
                *("-drive", f"file={image.disk},format=raw,if=virtio,snapshot=on"),
                *("-device", "virtio-serial-pci", "-device", "virtserialport,chardev=agent,name=agent"),
                *("-chardev", f"socket,id=agent,path={place}/agent,server=on,wait=off"),
                *("-qmp", f"unix:{place}/qmp,server=on,wait=off", "-serial", f"file:{self._console}"),
                *wiring,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            pass_fds=[each for cable in self.cables for each in cable.descriptors],
        )
        try:
            self._agent = _Lines(self._connected(place / "agent"))
            self._qmp = _Lines(self._connected(place / "qmp"))
            self._qmp.read(_CONNECTED_WITHIN_S)  # its greeting
            self.qmp("qmp_capabilities")
            self.booted_in_s = self._wait_for_boot()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _connected(self, path: Path) -> socket.socket:
        """To a socket of qemu's, which is there once it has begun."""
        connection = socket.socket(socket.AF_UNIX)
        for _ in range(int(_CONNECTED_WITHIN_S / _LOOK_EVERY_S)):
            try:
                connection.connect(str(path))
            except (FileNotFoundError, ConnectionRefusedError):
                if self._qemu.poll() is not None:
                    break
                time.sleep(_LOOK_EVERY_S)
            else:
                return connection
        connection.close()
        said = self._qemu.communicate()[0] if self._qemu.poll() is not None else ""
        raise AssertionError(f"qemu does not start: {said}")

    def _wait_for_boot(self) -> float:
        begun = time.monotonic()
        try:
            self.run("systemctl", "is-system-running", "--wait", check=False, within_s=_BOOT_SECONDS_AT_MOST)
        except TimeoutError:
            raise AssertionError(f"the guest does not boot\n{self.console()}") from None
        self.do("echo 0 >/proc/sys/kernel/panic")  # from now on it stands still, for all to see
        return time.monotonic() - begun

    def console(self) -> str:
        """What the guest has written to its console."""
        return self._console.read_text(errors="replace") if self._console.exists() else ""

    def run(
        self, *command: str, check: bool = True, stdin: str = "", within_s: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the guest, as root. Where `check`, any exit status but 0 fails with what it printed."""
        asked = {"command": command, "stdin": stdin, "within_s": within_s}
        answer = self._agent.ask(asked, within_s + _CONNECTED_WITHIN_S)
        if check and answer["status"]:
            failure = f"exit status {answer['status']}\n{answer['stdout']}{answer['stderr']}"
            raise AssertionError(f"{shlex.join(command)}: {failure}")
        return subprocess.CompletedProcess(command, answer["status"], answer["stdout"], answer["stderr"])

    def do(self, *commands: str, check: bool = True) -> str:
        """Lines for a shell, one after the other until one fails; what they print."""
        return self.run("sh", "-e", "-c", "\n".join(commands), check=check).stdout

    def write(self, path: str, text: str) -> None:
        """Write a file in place, as an editor without backups does; its folder must be there."""
        self.run("dd", "status=none", f"of={path}", stdin=text)

    def qmp(self, command: str, **arguments: object) -> Any:
        """Have qemu do something to the machine; what it returns."""
        answer = self._qmp.ask({"execute": command, "arguments": arguments}, _CONNECTED_WITHIN_S)
        while "event" in answer:
            answer = self._qmp.read(_CONNECTED_WITHIN_S)
        if "error" in answer:
            raise AssertionError(f"{command}: {answer['error']}")
        return answer["return"]

    def close(self) -> None:
        """Pull the plug."""
        if self._qemu.poll() is None:
            self._qemu.kill()
        self._qemu.communicate()
        for cable in self.cables:
            cable.close()
        self._place.cleanup()


class _Lines:
    """JSON lines over a socket, asked and answered in turn."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._received = b""

    def ask(self, question: object, within_s: float) -> dict[str, Any]:
        """Raises TimeoutError."""
        self._connection.settimeout(within_s)
        self._connection.sendall(json.dumps(question).encode() + b"\n")
        return self.read(within_s)

    def read(self, within_s: float) -> dict[str, Any]:
        """The next line. Raises TimeoutError."""
        self._connection.settimeout(within_s)
        while b"\n" not in self._received:
            more = self._connection.recv(1 << 16)
            if not more:
                raise AssertionError("qemu has ended")
            self._received += more
        line, _, self._received = self._received.partition(b"\n")
        said: dict[str, Any] = json.loads(line)
        return said
