"""A booted Debian in a container: a real systemd as its process 1, thrown away afterwards. Knows nothing of xdropd.

    with Machine(cache, "bookworm") as machine:
        machine.run("systemctl", "is-system-running", "--wait")

The root is made once by debootstrap and kept in the cache. A machine lives on a layer above it, in memory, mounted in
a mount namespace of its own; so everything of it, processes, mounts and files, goes with its systemd-nspawn process,
and that one goes when this process does, even by `kill -9`. BPF programs, maps and links have no namespace: what
a machine leaves in the kernel can be seen from anywhere.
"""

import contextlib
import itertools
import json
import os
import platform
import shlex
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from extent import IS_FULL
from roots import CLEAN, SUITES, make_root

# Where the kernel and we ourselves are looked at, and systemd's part is the same in both, CI takes one of them.
ENOUGH_SUITES = SUITES if IS_FULL else SUITES[:1]
OTHER_SUITES = tuple(suite for suite in SUITES if suite != platform.freedesktop_os_release().get("VERSION_CODENAME"))

_BOOT_SECONDS_AT_MOST = 60
_SHUTDOWN_SECONDS_AT_MOST = 30

# A machine of systemd 257 does not boot on the mixed cgroups of older hosts; one of 252 takes either.
_NSPAWN_ENVIRONMENT = {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"}

# $1: the root to lay over, $2: a folder to mount in, the rest: systemd-nspawn with its arguments. Without overlayfs, a
# copy. A file system of its own over nspawn's run-time folder keeps the host's clean. The machine has all powers, and
# must not use them to load modules into the host's kernel. nspawn leaves with 133 where the
# machine wants to boot again. SIGTERM is passed on, and asks nspawn for an orderly shutdown; `wait` then returns early.
_LAYER_AND_BOOT = """
set -e
lower=$1 place=$2
shift 2
mount -t tmpfs -o mode=755 machine "$place"
mkdir "$place/upper" "$place/work" "$place/root"
mount -t overlay -o "lowerdir=$lower,upperdir=$place/upper,workdir=$place/work" machine "$place/root" ||
    cp --archive --reflink=auto "$lower/." "$place/root"
ln -sf /dev/null "$place/root/etc/systemd/system/systemd-modules-load.service"
mkdir -p /run/systemd/nspawn
mount -t tmpfs machine /run/systemd/nspawn
set +e
status=133
while [ $status -eq 133 ]; do
    setpriv --pdeathsig TERM "$@" --directory="$place/root" &
    nspawn=$!
    trap 'kill -TERM $nspawn; stopping=yes' TERM
    wait $nspawn
    status=$?
done
[ -z "$stopping" ] || wait $nspawn
"""

_serial = itertools.count()


_CONTAINER = (
    *("systemd-nspawn", "--quiet", "--register=no", "--link-journal=no", "--resolv-conf=off", "--timezone=off"),
    *("--capability=all", "--system-call-filter=bpf perf_event_open", "--private-network"),
    # Where systemd is process 1 it gives the container a scope; elsewhere there is nobody to ask for one.
    *(() if Path("/run/systemd/system").is_dir() else ("--keep-unit",)),
)


def run_unbooted(
    root: Path, *command: str, shared: Mapping[Path, str], with_network: bool = False, within_s: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run a command in a container where nothing else runs, no systemd either; what it changes is thrown away.

    `shared` are files and folders of the host, writable, and where the container has them.
    """
    place = ("sh", "-c", 'mkdir -p /run/systemd/nspawn; mount -t tmpfs container /run/systemd/nspawn; exec "$@"', "sh")
    binds = [f"--bind={here}:{there}" for here, there in shared.items()]
    return subprocess.run(
        [
            *("unshare", "--mount", "--propagation", "private", *place),
            *(part for part in _CONTAINER if not (with_network and part == "--private-network")),
            *("--volatile=overlay", "--as-pid2", "--pipe", f"--directory={root}", *binds),
            *(*CLEAN, *command),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=within_s,
        check=False,
        env={**os.environ, **_NSPAWN_ENVIRONMENT},
    )


class Machine:
    """A machine that runs. Its network is its own and empty but for `lo`; it sees the host's kernel, and its BPF."""

    def __init__(self, cache: Path, suite: str, purpose: str = "machine") -> None:
        root = make_root(cache, suite, purpose)
        name = f"xdropd-{os.getpid()}-{next(_serial)}"
        self._place = Path(tempfile.mkdtemp(prefix=f"{name}-"))
        self._console = tempfile.TemporaryFile()  # noqa: SIM115  # as long as the machine
        self._notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notices.bind("")  # the kernel picks an abstract name
        self._is_ready = threading.Event()
        self.leader_pid = 0  # of the machine's process 1, as it is seen from here
        self._nspawn = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "TERM"),
                *("unshare", "--mount", "--propagation", "private"),
                *("sh", "-c", _LAYER_AND_BOOT, "boot", str(root), str(self._place)),
                *_CONTAINER,
                *("--boot", "--console=pipe", f"--machine={name}", "--notify-ready=yes"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=self._console,
            stderr=subprocess.STDOUT,
            env={**os.environ, **_NSPAWN_ENVIRONMENT, "NOTIFY_SOCKET": f"@{self._notices.getsockname()[1:].decode()}"},
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        try:
            self._wait_for_boot()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _listen(self) -> None:
        """Take systemd-nspawn's notices as they come: where nobody reads them, the machine's process 1 comes to a stop.

        https://www.freedesktop.org/software/systemd/man/252/systemd-nspawn.html#--notify-ready=
        """
        while notice := self._notices.recv(4096):
            for line in notice.decode().splitlines():
                name, _, value = line.partition("=")
                if name == "X_NSPAWN_LEADER_PID":
                    self.leader_pid = int(value)
                elif name == "READY" and value == "1":
                    self._is_ready.set()

    def _wait_for_boot(self) -> None:
        """Until the machine's process 1 has reached its default target."""
        deadline = time.monotonic() + _BOOT_SECONDS_AT_MOST
        while not self._is_ready.wait(0.1):
            if not self.is_running or time.monotonic() > deadline:
                raise AssertionError(f"the machine does not boot\n{self.console()}")

    @property
    def is_running(self) -> bool:
        """Whether it is still there."""
        return self._nspawn.poll() is None

    def console(self) -> str:
        """What the machine has written to its console."""
        self._console.seek(0)
        return self._console.read().decode(errors="replace")

    def _nsenter(self, *command: str) -> list[str]:
        return ["nsenter", f"--target={self.leader_pid}", "--all", "--wd", "--", *CLEAN, *command]

    def run(
        self, *command: str, check: bool = True, stdin: str | bytes = b"", within_s: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the machine, as root. Where `check`, any exit status but 0 fails with what it printed."""
        given = stdin.encode() if isinstance(stdin, str) else stdin
        raw = subprocess.run(self._nsenter(*command), input=given, capture_output=True, timeout=within_s, check=False)
        done = subprocess.CompletedProcess(
            command, raw.returncode, raw.stdout.decode(errors="replace"), raw.stderr.decode(errors="replace")
        )
        if check and done.returncode:
            raise AssertionError(f"{shlex.join(command)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def start(self, *command: str) -> "subprocess.Popen[str]":
        """Start a command in the machine, as root; it ends with the machine at the latest."""
        return subprocess.Popen(
            self._nsenter(*command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def pid_outside(self, pid: int) -> int:
        """The number by which the host knows a process of the machine. Raises ProcessLookupError."""
        for status in Path("/proc").glob("[0-9]*/status"):
            with contextlib.suppress(OSError):  # it ends while it is looked at
                numbers = status.read_text().partition("NSpid:")[2].partition("\n")[0].split()
                namespace = (status.parent / "ns" / "pid").readlink()
                if numbers[-1:] == [str(pid)] and namespace == Path(f"/proc/{self.leader_pid}/ns/pid").readlink():
                    return int(numbers[0])
        raise ProcessLookupError(pid)

    def write(self, path: str, text: str) -> None:
        """Write a file in place, as an editor without backups does; its folder must be there."""
        self.run("dd", "status=none", f"of={path}", stdin=text)

    def read(self, path: str) -> str:
        """A file's text."""
        return self.run("cat", path).stdout

    def copy_in(self, source: Path, destination: str) -> None:
        """Copy a file to `destination`, or what a folder holds into the folder `destination`; owned by root."""
        if source.is_dir():
            archive = subprocess.run(
                ["tar", "--create", "--owner=root:0", "--group=root:0", "--directory", source, "."],
                check=True,
                capture_output=True,
            ).stdout
            self.run("mkdir", "--parents", destination)
            self.run("tar", "--extract", "--no-same-permissions", "--directory", destination, stdin=archive)
        else:
            mode = f"--mode={source.stat().st_mode & 0o777:o}"
            self.run(
                "install", "-D", mode, "--no-target-directory", "/dev/stdin", destination, stdin=source.read_bytes()
            )

    def now(self) -> str:
        """This moment, for `journal`."""
        return self.run("date", "+%F %T.%6N").stdout.strip()

    def journal(self, unit: str, since: str = "") -> list[dict[str, str]]:
        """What the journal holds of a unit, oldest first, with all fields."""
        self.run("journalctl", "--sync")
        later = (f"--since={since}",) if since else ()
        lines = self.run("journalctl", "--unit", unit, "--output=json", "--all", *later).stdout.splitlines()
        return [json.loads(line) for line in lines]

    def reboot(self) -> None:
        """Restart the machine as `reboot` does; its files stay, its network and processes do not."""
        self._is_ready.clear()
        self.run("systemctl", "reboot", check=False)  # it may be gone before it has answered
        self._wait_for_boot()

    def close(self) -> None:
        """Shut the machine down in good order; whatever does not go is killed with it."""
        if self._nspawn.poll() is None:
            self._nspawn.terminate()
            try:
                self._nspawn.wait(_SHUTDOWN_SECONDS_AT_MOST)
            except subprocess.TimeoutExpired:
                self._nspawn.kill()
                self._nspawn.wait()
        self._notices.shutdown(socket.SHUT_RD)
        self._listener.join()
        self._notices.close()
        self._console.close()
        self._place.rmdir()
