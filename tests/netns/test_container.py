"""xdropd as containers run it (docs/containers.md): process 1, three capabilities, a read-only root, a ConfigMap.

A container runtime does with namespaces, mounts and capabilities what unshare(1), mount(8) and setpriv(1) do here.
"""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest
from foreground import READY_WITHIN_S

from netns import Net
from waiting import wait_until

VILLAIN, OTHER, NEIGHBOUR = "198.51.100.66", "198.51.100.67", "198.51.100.68"
_CHANGE_WITHIN_S = 2.0
_POWERS = 1 << 12 | 1 << 38 | 1 << 39  # CAP_NET_ADMIN, CAP_PERFMON, CAP_BPF in uapi/linux/capability.h

# $1: a folder to have as /mnt, read-only; the rest: a command, which becomes process 1.
_AS_A_CONTAINER = """
set -e
mount --bind "$1" /mnt
mount -o remount,bind,ro /mnt
mount -t tmpfs -o mode=755 run /run
mkdir /run/xdropd
mount -o remount,bind,ro /
shift
exec "$@"
"""
_WITH_THREE_CAPABILITIES = (
    *("setpriv", "--no-new-privs", "--bounding-set=-all,+bpf,+net_admin,+perfmon"),
    *("--inh-caps=-all", "--ambient-caps=-all"),
)


class ConfigMap:
    """A folder as Kubernetes mounts a ConfigMap: links to files behind `..data`, which is what an update swaps.

    https://pkg.go.dev/k8s.io/kubernetes/pkg/volume/util#AtomicWriter
    """

    def __init__(self, folder: Path, files: Mapping[str, str]) -> None:
        self.folder = folder
        self._number = 0
        folder.mkdir()
        self.update(files)

    def update(self, files: Mapping[str, str]) -> None:
        """Have it hold these files, all of them at once."""
        before, self._number = self.folder / f"..{self._number}", self._number + 1
        new = self.folder / f"..{self._number}"
        new.mkdir()
        for name, text in files.items():
            (new / name).write_text(text)
        (self.folder / "..data_tmp").symlink_to(new.name)
        (self.folder / "..data_tmp").rename(self.folder / "..data")
        for name in files:
            if not (self.folder / name).is_symlink():
                (self.folder / name).symlink_to(f"..data/{name}")
        for link in self.folder.iterdir():
            if not link.name.startswith("..") and link.name not in files:
                link.unlink()
        if before.is_dir():
            for file in before.iterdir():
                file.unlink()
            before.rmdir()


class Container:
    """xdropd in `net.host`, with its files from a ConfigMap. `pid` is that of its process 1, as the host sees it."""

    def __init__(self, net: Net, config: ConfigMap, log: Path, *more: str) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.endswith("_DIRECTORY")}
        files = ("--blocklist", "/mnt/blocklist.yaml", "--settings", "/mnt/xdropd.yaml")
        command = (*_WITH_THREE_CAPABILITIES, sys.executable, "-m", "xdropd.commands.xdropd", *files)
        namespaces = ("unshare", *more, "--pid", "--fork", "--kill-child", "--mount", "--mount-proc")
        self._log = log
        with log.open("ab") as written:
            self.process = subprocess.Popen(
                [
                    *("ip", "netns", "exec", net.host, *namespaces),
                    *("sh", "-c", _AS_A_CONTAINER, "sh", config.folder, *command),
                ],
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=written,
                env=environment,
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def pid(self) -> int:
        return int(Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text())

    def wait_until_ready(self) -> None:
        def is_ready() -> bool:
            assert self.process.poll() is None, self.log
            return re.search("^xdropd: notice: (enforcing|monitoring)", self.log, re.MULTILINE) is not None

        wait_until(is_ready, within_s=READY_WITHIN_S, what="the daemon is ready")

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """As `docker exec` does."""
        enter = ("nsenter", f"--target={self.pid}", "--mount", "--pid", "--net", "--")
        return subprocess.run([*enter, *command], capture_output=True, text=True, check=False, timeout=30)

    def ctl(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return self.run(sys.executable, "-m", "xdropd.commands.xdropctl", *words)

    def is_degraded(self) -> bool:
        return bool(json.loads(self.ctl("--json", "status").stdout)["degraded"])


@pytest.fixture
def net() -> Iterator[Net]:
    with Net() as made:
        made.address(made.peer, *(f"{address}/{made.length}" for address in (VILLAIN, OTHER, NEIGHBOUR)))
        made.run(made.host, "ip", "route", "add", "default", "via", made.peer_address)
        yield made


FILES = MappingProxyType(
    {
        "blocklist.yaml": f"block:\n  - {VILLAIN}\ninclude: ['*.netset', named.txt]\n",
        "xdropd.yaml": "interfaces: auto\n",
        "feed.netset": "192.0.2.1\n",
        "named.txt": "192.0.2.2\n",
    }
)


@pytest.fixture
def config(tmp_path: Path) -> ConfigMap:
    return ConfigMap(tmp_path / "config", FILES)


@pytest.fixture
def container(net: Net, config: ConfigMap, tmp_path: Path) -> Iterator[Container]:
    made = Container(net, config, tmp_path / "log")
    try:
        made.wait_until_ready()
        yield made
    finally:
        if made.process.poll() is None:
            made.process.kill()  # which its children do not outlive
        made.process.wait(10)


def test_as_process_1_with_three_capabilities_and_a_root_that_is_read_only(net: Net, container: Container) -> None:
    assert not net.answers(VILLAIN)
    assert net.answers(NEIGHBOUR)
    status = Path(f"/proc/{container.pid}/status").read_text()
    assert re.search(r"^NSpid:\s+\d+\s+1$", status, re.MULTILINE), status
    for kind, held in (("Eff", _POWERS), ("Prm", _POWERS), ("Bnd", _POWERS), ("Inh", 0), ("Amb", 0)):
        (shown,) = re.findall(rf"^Cap{kind}:\s+([0-9a-f]+)$", status, re.MULTILINE)
        assert int(shown, 16) == held, kind
    assert "Read-only file system" in container.run("mkdir", "/var/lib/xdropd-test").stderr
    assert not container.is_degraded(), "no state folder was asked for"
    assert container.ctl("block", OTHER).returncode == 0
    assert not net.answers(OTHER)

    children = Path(f"/proc/{container.pid}/task/{container.pid}/children")
    assert children.read_text() == "", "the compiler is gone, and is no zombie"
    os.kill(container.pid, signal.SIGTERM)
    assert container.process.wait(10) == 0, container.log
    assert net.answers(VILLAIN)


def test_a_configmap_is_swapped(net: Net, config: ConfigMap, container: Container) -> None:
    assert not net.answers(VILLAIN)
    other = {
        "blocklist.yaml": f"block:\n  - {OTHER}\ninclude: ['*.netset', named.txt]\n",
        "xdropd.yaml": "interfaces: auto\nlog_drops: 0\n",
        "feed.netset": "192.0.2.3\n",
        "named.txt": "192.0.2.4\n",
    }

    def in_force() -> set[str]:
        listed = container.ctl("--json", "list").stdout
        return set(re.findall(r'"entry": "([0-9.]+)"', listed))

    for files, entries in ((other, {OTHER, "192.0.2.3", "192.0.2.4"}), (FILES, {VILLAIN, "192.0.2.1", "192.0.2.2"})):
        config.update(files)
        wait_until(lambda: in_force() == entries, within_s=_CHANGE_WITHIN_S, what=container.log)  # noqa: B023
        assert net.answers(VILLAIN) == (VILLAIN not in entries)
        assert not container.is_degraded()
    assert container.log.count("notice: settings: ") == 2, container.log

    # A key that comes and one that goes; and a mistake, with which everything stays as it was.
    config.update({**FILES, "more.netset": f"{OTHER}\n"})
    wait_until(lambda: OTHER in in_force(), within_s=_CHANGE_WITHIN_S, what=container.log)
    config.update(FILES)
    wait_until(lambda: OTHER not in in_force(), within_s=_CHANGE_WITHIN_S, what=container.log)
    config.update({**FILES, "blocklist.yaml": "block:\n  - 10.0.0.1/8\n"})
    wait_until(container.is_degraded, within_s=_CHANGE_WITHIN_S, what=container.log)
    assert not net.answers(VILLAIN)
    config.update(FILES)
    wait_until(lambda: not container.is_degraded(), within_s=_CHANGE_WITHIN_S, what=container.log)


def test_a_user_namespace_is_refused(net: Net, config: ConfigMap, tmp_path: Path) -> None:
    """Capabilities count there for what belongs to it, and the kernel's BPF does not."""
    made = Container(net, config, tmp_path / "log", "--user", "--map-root-user")
    assert made.process.wait(READY_WITHIN_S) == 77, made.log
    assert "those of a user namespace do not count" in made.log
