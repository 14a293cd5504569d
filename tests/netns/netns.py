"""Two hosts out of namespaces: one to protect, one to talk to it, and a cable between them.

    with Net() as net:
        net.run(net.peer, "ping", "-c1", "-W1", net.host_address)

Everything is made by ip(8) and removed on the way out, whatever happened inside. Names carry the process id, so that
what a killed run left behind is known for that and removed by the next one.
"""

import contextlib
import ctypes
import itertools
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

_CLONE_NEWNET = 0x40000000  # uapi/linux/sched.h
_RUN_SECONDS_AT_MOST = 30
_NAME = re.compile(r"xdropd-([0-9]+)-[0-9]+-(?:host|peer|more)[0-9]*")

_libc = ctypes.CDLL(None, use_errno=True)
_serial = itertools.count()


def _ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


def _remove_what_dead_runs_left() -> None:
    for line in _ip("netns", "list").splitlines():
        name = line.split()[0]
        match = _NAME.fullmatch(name)
        if match and not Path("/proc", match[1]).exists():
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


@contextlib.contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Move the calling thread there and back: sockets opened meanwhile belong to that namespace for good."""
    with Path("/proc/thread-self/ns/net").open() as home, Path("/run/netns", namespace).open() as there:
        _enter(there.fileno())
        try:
            yield
        finally:
            _enter(home.fileno())


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), f"setns: {os.strerror(ctypes.get_errno())}")


class Net:
    """Namespaces `host` and `peer`, joined by a veth pair; both ends are called `device`, up, and have addresses.

    Without `addresses` the ends carry none, not even a link-local one, and are up all the same.
    """

    device = "eth0"
    host_address, peer_address, length = "198.51.100.1", "198.51.100.2", 24
    host_address6, peer_address6, length6 = "2001:db8:51::1", "2001:db8:51::2", 64

    def __init__(self, *, addresses: bool = True) -> None:
        self._stem = f"xdropd-{os.getpid()}-{next(_serial)}"
        self.host, self.peer = f"{self._stem}-host", f"{self._stem}-peer"
        self._addresses = addresses
        self._namespaces: list[str] = []
        self._children: list[subprocess.Popen[str]] = []

    def __enter__(self) -> "Net":
        _remove_what_dead_runs_left()
        try:
            self._make(self.host)
            self._make(self.peer)
            self.cable(self.host, self.device, self.peer, self.device)
            if self._addresses:
                self.address(self.host, f"{self.host_address}/{self.length}", f"{self.host_address6}/{self.length6}")
                self.address(self.peer, f"{self.peer_address}/{self.length}", f"{self.peer_address6}/{self.length6}")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End what was started here, and remove the namespaces with all that is in them."""
        for child in self._children:
            if child.poll() is None:
                child.kill()
            child.communicate()
        self._children.clear()
        while self._namespaces:
            subprocess.run(["ip", "netns", "del", self._namespaces.pop()], check=False, capture_output=True)

    def _make(self, namespace: str) -> None:
        _ip("netns", "add", namespace)
        self._namespaces.append(namespace)
        # No duplicate address detection: an address works at once. No router solicitations: nothing moves by itself.
        settings = ("accept_dad=0", "dad_transmits=0", "accept_ra=0", "router_solicitations=0", "addr_gen_mode=1")
        for setting in settings:
            key, value = setting.split("=")
            for which in ("all", "default"):
                self.run(namespace, "sysctl", "-qw", f"net.ipv6.conf.{which}.{key}={value}")
        self.run(namespace, "ip", "link", "set", "lo", "up")

    def more(self) -> str:
        """One more namespace, not yet connected to anything."""
        namespace = f"{self._stem}-more{len(self._namespaces)}"
        self._make(namespace)
        return namespace

    def cable(self, here: str, device: str, there: str, other: str) -> None:
        """A veth pair between two namespaces, both ends up."""
        self.run(here, "ip", "link", "add", device, "type", "veth", "peer", "name", other, "netns", there)
        self.run(here, "ip", "link", "set", device, "up")
        self.run(there, "ip", "link", "set", other, "up")

    def address(self, namespace: str, *addresses: str, device: str = device) -> None:
        """Add addresses with prefix lengths to a device, in force at once."""
        for address in addresses:
            unchecked = ("nodad",) if ":" in address else ()
            self.run(namespace, "ip", "address", "add", address, "dev", device, *unchecked)

    def run(self, namespace: str, *command: str, check: bool = True, stdin: str | None = None) -> str:
        """Run a command there and return what it printed. Raises CalledProcessError with its standard error shown."""
        done = subprocess.run(
            ["ip", "netns", "exec", namespace, *command],
            check=False,
            capture_output=True,
            input=stdin,
            text=True,
            timeout=_RUN_SECONDS_AT_MOST,
        )
        if check and done.returncode:
            failure = subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
            failure.add_note(f"in {namespace}: {' '.join(command)}\n{done.stdout}{done.stderr}")
            raise failure
        return done.stdout

    def answers(self, source: str = peer_address, target: str = host_address) -> bool:
        """Whether a ping of the peer comes back, from one of its addresses."""
        return bool(self.answering(source, target=target))

    def answering(self, *sources: str, target: str = host_address) -> set[str]:
        """Those of the peer's addresses from which a ping comes back, all at once."""
        ping = ("ip", "netns", "exec", self.peer, "ping", "-q", "-c1", "-W0.3", "-I")
        quiet = subprocess.DEVNULL
        pings = {source: subprocess.Popen([*ping, source, target], stdout=quiet, stderr=quiet) for source in sources}
        return {source for source, child in pings.items() if child.wait() == 0}

    def batch(self, namespace: str, *lines: str) -> None:
        """Many `ip` commands in one process (ip -batch): a thousand routes take milliseconds."""
        with tempfile.NamedTemporaryFile("w") as file:
            file.write("\n".join(lines) + "\n")
            file.flush()
            self.run(namespace, "ip", "-batch", file.name)

    def start(self, namespace: str, *command: str) -> "subprocess.Popen[str]":
        """Start a command there; it is killed on the way out if it still runs then."""
        child = subprocess.Popen(
            ["ip", "netns", "exec", namespace, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._children.append(child)
        return child
