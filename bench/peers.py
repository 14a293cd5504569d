"""The peers as an operator sets them up, each with the same listed addresses, in a namespace of its own."""

import contextlib
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Self

from bench import processes
from netns import Net
from xdropd.errors import Unavailable
from xdropd.text.addresses import format_address

_PACKAGES = {
    "xdp-filter": "xdp-tools",
    "nft": "nftables",
    "ipset": "ipset",
    "iptables": "iptables",
    "ethtool": "ethtool",
}

_NFT_RULE = (
    "add chain netdev bench ingress {{ type filter hook ingress device {device} priority 0; }}\n"
    "add rule netdev bench ingress {protocol} saddr @listed drop\n"
)
IPSET_RULE = ("iptables", "-t", "raw", "-A", "PREROUTING", "-m", "set", "--match-set", "listed", "src", "-j", "DROP")


def require(*programs: str) -> None:
    """Raises Unavailable if one is not there: a comparison that cannot be made is a failure."""
    for program in programs:
        if shutil.which(program) is None:
            raise Unavailable(f"{program} is not there, it is in the Debian package {_PACKAGES[program]}")


def texts(keys: Iterable[int]) -> list[str]:
    """IPv4 addresses."""
    return [format_address(4, key) for key in keys]


def nft_script(entries: Sequence[str], device: str, kind: str = "ipv4_addr", flags: str = "") -> str:
    """For `nft -f`: the set, and the rule that drops what is in it at ingress."""
    head = f"add table netdev bench\nadd set netdev bench listed {{ type {kind}; {flags} }}\n"
    protocol = "ip6" if kind == "ipv6_addr" else "ip"
    return head + _nft_elements(entries) + _NFT_RULE.format(device=device, protocol=protocol)


def _nft_elements(entries: Sequence[str]) -> str:
    return f"add element netdev bench listed {{ {', '.join(entries)} }}\n" if entries else ""


def ipset_script(entries: Sequence[str], name: str = "listed", kind: str = "hash:ip") -> str:
    """For `ipset restore`: the set, large enough."""
    count = max(len(entries), 1024)
    buckets = 1 << (count - 1).bit_length()
    head = f"create {name} {kind} hashsize {buckets} maxelem {2 * count}\n"
    return head + "".join(f"add {name} {entry}\n" for entry in entries)


class NftLoad:
    """`nft -f` of a whole list."""

    def __init__(
        self, net: Net, folder: Path, entries: Sequence[str], kind: str = "ipv4_addr", flags: str = ""
    ) -> None:
        require("nft")
        self._net = net
        self._whole, self._again = folder / "nft", folder / "nft-again"
        self._whole.write_text(nft_script(entries, net.device, kind, flags), encoding="utf-8")
        self._again.write_text("flush set netdev bench listed\n" + _nft_elements(entries), encoding="utf-8")
        self._command = ("nft", "-f", str(self._whole))

    def seconds(self, *, keep: bool = False) -> float:
        """Put it in force, timed; and take it off again unless it is to be kept."""
        taken = processes.seconds(self._command, self._net.host)
        if not keep:
            self._net.run(self._net.host, "nft", "flush", "ruleset")
        return taken

    def replace(self) -> float:
        """Take the list from its file once more, in one transaction, timed."""
        return processes.seconds(("nft", "-f", str(self._again)), self._net.host)

    def peak_bytes(self) -> int:
        """The most memory resident while it is put in force; it is taken off again."""
        peak = processes.peak_bytes(self._command, self._net.host)
        self._net.run(self._net.host, "nft", "flush", "ruleset")
        return peak


class IpsetLoad:
    """`ipset restore` of a whole list."""

    def __init__(self, net: Net, folder: Path, entries: Sequence[str], kind: str = "hash:ip") -> None:
        require("ipset")
        self._net = net
        self._whole, self._again = folder / "ipset", folder / "ipset-again"
        self._whole.write_text(ipset_script(entries, kind=kind), encoding="utf-8")
        swap = "swap listed another\ndestroy another\n"
        self._again.write_text(ipset_script(entries, "another", kind) + swap, encoding="utf-8")

    def seconds(self, *, keep: bool = False) -> float:
        """Put it in force, timed; and take it off again unless it is to be kept."""
        taken = processes.seconds(("ipset", "restore"), self._net.host, self._whole)
        if not keep:
            self._net.run(self._net.host, "ipset", "destroy")
        return taken

    def replace(self) -> float:
        """Take the list from its file once more into another set, and change over, timed."""
        return processes.seconds(("ipset", "restore"), self._net.host, self._again)

    def peak_bytes(self) -> int:
        """The most memory resident while it is put in force; it is taken off again."""
        peak = processes.peak_bytes(("ipset", "restore"), self._net.host, self._whole)
        self._net.run(self._net.host, "ipset", "destroy")
        return peak


class XdpFilter:
    """xdp-filter in a namespace, with a bpffs of its own: it pins there, and takes it all along when it ends."""

    def __init__(self, namespace: str, device: str) -> None:
        self._device = device
        script = "mount -t bpf bench-bpffs /sys/fs/bpf && echo ready && read -r _"
        self._keeper = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{namespace}", "unshare", "--mount", "sh", "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        require("xdp-filter")
        assert self._keeper.stdout
        if self._keeper.stdout.readline() != "ready\n":
            raise Unavailable("xdp-filter got no bpffs of its own")
        self.run("load", "--mode", "native", "--features", "ipv4", "--policy", "allow", self._device)
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):
            self.run("unload", "--all")
        self._keeper.communicate("\n")

    @property
    def command(self) -> list[str]:
        """How to run it there."""
        return ["nsenter", f"--target={self._keeper.pid}", "--mount", "--net", "xdp-filter"]

    def run(self, *arguments: str) -> None:
        """Run it and wait. Raises CalledProcessError."""
        subprocess.run([*self.command, *arguments], check=True, capture_output=True, text=True)

    def list_addresses(self, keys: Iterable[int]) -> None:
        """Add sources to be dropped, one process each: there is no other way."""
        for key in keys:
            self.run("ip", "--mode", "src", format_address(4, key))


@contextlib.contextmanager
def host(**options: bool) -> Iterator[Net]:
    """Two namespaces and a cable whose ends take frames as XDP transmits them."""
    require("ethtool")
    with Net(**options) as net:
        for end in (net.host, net.peer):
            net.run(end, "ethtool", "--features", net.device, "gro", "on")
        yield net
