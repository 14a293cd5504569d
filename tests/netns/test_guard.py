"""What the guard is for: a host that cannot do without each of its parts, first without the guard, then with it."""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from foreground import Daemon

from netns import Net
from waiting import wait_until

WITHIN_S = 5.0
RESOLVER, OTHER_RESOLVER, VILLAIN = "198.51.100.53", "198.51.100.54", "198.51.100.66"

# What udhcpc calls with what it was given.
ON_LEASE = """#!/bin/sh
case "$1" in bound|renew) ip address replace "$ip/$mask" dev "$interface";; esac
echo "$1" >> "{events}"
"""


class Guarded(Daemon):
    """A daemon on the host of a Net, and what it is told from test to test."""

    def under(self, guard: str, *entries: str) -> None:
        """With this setting and these entries in force."""
        self.settings.write_text(f"interfaces: [{Net.device}]\nguard: {guard}\n")
        self.blocklist.write_text("".join(f"{line}\n" for line in ("block:", *(f'  - "{entry}"' for entry in entries))))
        assert self.ask("reload")[-1]["result"]["ok"], self.log

    def keeper(self, address: str) -> str | None:
        """What keeps an address from being blocked."""
        kept_by = self.lookup(address)["kept_by"]
        return kept_by and f"{kept_by['entry']} {kept_by['source']}"


@pytest.fixture(scope="module")
def net() -> Iterator[Net]:
    with Net() as made:
        folder = Path("/etc/netns", made.host)  # ip-netns(8): its files stand in for those of /etc
        folder.mkdir(parents=True)
        try:
            (folder / "resolv.conf").write_text(f"nameserver {RESOLVER}\n")
            made.address(made.peer, *(f"{address}/24" for address in (RESOLVER, OTHER_RESOLVER, VILLAIN, "10.9.9.9")))
            made.address(made.host, "fe80::1/64")
            made.address(made.peer, "fe80::2/64")
            made.run(made.host, "ip", "route", "add", "10.9.9.0/24", "dev", made.device)
            yield made
        finally:
            shutil.rmtree(folder)
            with contextlib.suppress(OSError):
                folder.parent.rmdir()


@pytest.fixture(scope="module")
def daemon(net: Net, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    with Guarded(net, folder, "block: []\n", "--settings", str(folder / "etc" / "xdropd.yaml")) as running:
        yield running


@contextlib.contextmanager
def running(net: Net, namespace: str, *command: str) -> Iterator["subprocess.Popen[str]"]:
    child = net.start(namespace, *command)
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def dhcp_server(
    net: Net, namespace: str, first: int, folder: Path
) -> "contextlib.AbstractContextManager[subprocess.Popen[str]]":
    """For ten addresses from .`first` on, of which its own host has none. It says what it does in `folder`."""
    return running(
        net,
        namespace,
        *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root", "--no-ping"),
        *(f"--interface={net.device}", "--bind-interfaces", "--dhcp-authoritative", "--dhcp-option=3"),
        *(f"--dhcp-range=198.51.100.{first},198.51.100.{first + 9},2m", f"--dhcp-leasefile={folder}/leases"),
        *(f"--log-facility={folder}/log", f"--pid-file={folder}/pid"),
    )


def dhcp_client(net: Net, namespace: str, folder: Path, *arguments: str) -> tuple[str, ...]:
    """The command; the script that it calls notes what it was called for in `folder`."""
    script = folder / "script"
    script.write_text(ON_LEASE.format(events=folder / "events"))
    script.chmod(0o755)
    return ("udhcpc", "--foreground", "--interface", net.device, "--script", str(script), *arguments)


def times(file: Path, word: str) -> int:
    return file.read_text().count(word) if file.exists() else 0


@pytest.mark.parametrize(
    ("guard", "is_gateway", "renews"),
    [("false", True, False), ("true", False, False), ("true", True, True), ("[connected]", False, True)],
)
@pytest.mark.threat_model
def test_a_lease_is_renewed_by_a_gateway_or_a_neighbour(
    net: Net, daemon: Guarded, tmp_path: Path, guard: str, is_gateway: bool, renews: bool
) -> None:
    """A DHCP server answers from its own address."""
    events, log = tmp_path / "events", tmp_path / "log"
    daemon.under("true", "203.0.113.0/24")
    if is_gateway:
        net.run(net.host, "ip", "route", "replace", "default", "via", net.peer_address)
    try:
        client = dhcp_client(net, net.host, tmp_path)
        with dhcp_server(net, net.peer, 100, tmp_path), running(net, net.host, *client) as child:
            wait_until(lambda: times(events, "bound") == 1, within_s=WITHIN_S, what="there is a lease")
            daemon.under(guard, "198.51.100.0/24")
            answered = times(log, "DHCPACK")
            os.kill(child.pid, signal.SIGUSR1)  # renew now
            wait_until(lambda: times(log, "DHCPACK") > answered, within_s=WITHIN_S, what="the server has answered")
            if renews:
                wait_until(lambda: times(events, "renew") == 1, within_s=WITHIN_S, what="the lease is renewed")
            else:
                with pytest.raises(AssertionError):
                    wait_until(lambda: times(events, "renew") == 1, within_s=0.7)
    finally:
        net.run(net.host, "ip", "route", "del", "default", check=False)


@pytest.mark.parametrize(("guard", "is_heard"), [("false", False), ("true", True)])
@pytest.mark.threat_model
def test_a_dhcp_server_hears_who_has_no_address_yet(
    net: Net, daemon: Guarded, tmp_path: Path, guard: str, is_heard: bool
) -> None:
    """Lists of bogons have 0.0.0.0/8, from which every DHCP client asks (RFC 2131, section 4.1)."""
    daemon.under(guard, "0.0.0.0/8")
    tries = "30" if is_heard else "2"  # a busy machine may take seconds to answer; who is answered asks no more
    client = dhcp_client(net, net.peer, tmp_path, "--now", "--quit", "--retries", tries, "--timeout", "1")
    with dhcp_server(net, net.host, 200, tmp_path):
        wait_until(lambda: times(tmp_path / "log", "started") > 0, within_s=WITHIN_S, what="the server listens")
        assert net.start(net.peer, *client).wait() == (0 if is_heard else 1)
    assert (times(tmp_path / "events", "bound") == 1) == is_heard


@pytest.mark.parametrize(("guard", "is_reached"), [("false", False), ("true", True)])
@pytest.mark.threat_model
def test_a_router_finds_this_host_with_a_cold_neighbour_cache(
    net: Net, daemon: Guarded, guard: str, is_reached: bool
) -> None:
    """It asks from its link-local address (RFC 4861, section 7.2.2), which is nobody's gateway."""
    far = net.more()
    net.cable(far, "far0", net.peer, far[-8:])
    net.run(net.peer, "sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
    net.address(far, "2001:db8:99::2/64", device="far0")
    net.address(net.peer, "2001:db8:99::1/64", device=far[-8:])
    net.run(far, "ip", "-6", "route", "add", "default", "via", "2001:db8:99::1")
    net.run(net.host, "ip", "-6", "route", "replace", "2001:db8:99::/64", "via", net.peer_address6)
    try:
        daemon.under(guard, "8000::/1", "fe80::/10")
        net.run(net.peer, "ip", "-6", "neigh", "flush", "dev", net.device)
        done = net.start(far, "ping", "-q", "-c1", "-W1", net.host_address6).wait()
        assert (done == 0) == is_reached
        assert (daemon.keeper("fe80::2") == "fe80::/10 link-local network") == is_reached
        assert daemon.lookup("fec0::1")["blocked"]
        if is_reached:
            said = f"fe80::/10 of {daemon.blocklist} is narrowed by the guard: fe80::/10 is the link-local network"
            wait_until(lambda: said in daemon.log and said in daemon.status()["narrowed"], within_s=WITHIN_S)
    finally:
        net.run(net.peer, "ip", "link", "del", far[-8:])
        net.run(net.host, "ip", "-6", "route", "del", "2001:db8:99::/64")


@pytest.mark.parametrize(("guard", "is_noticed"), [("false", False), ("true", True)])
@pytest.mark.threat_model
def test_an_address_that_this_host_has_is_not_taken_by_a_neighbour(
    net: Net, daemon: Guarded, guard: str, is_noticed: bool
) -> None:
    """Who asks whether an address is taken has none yet, and asks from :: (RFC 4862, section 5.4.2)."""
    daemon.under(guard, "::/8")
    for setting in ("accept_dad", "dad_transmits"):
        net.run(net.peer, "sysctl", "-qw", f"net.ipv6.conf.{net.device}.{setting}=1")

    def shown(flag: str) -> bool:
        return net.host_address6 in net.run(net.peer, "ip", "-6", "address", "show", "dev", net.device, flag)

    net.run(net.peer, "ip", "address", "add", f"{net.host_address6}/64", "dev", net.device)
    try:
        wait_until(
            lambda: shown("dadfailed") or not shown("tentative"), within_s=WITHIN_S, what="it has been asked for"
        )
        assert shown("dadfailed") == is_noticed
    finally:
        net.run(net.peer, "ip", "address", "del", f"{net.host_address6}/64", "dev", net.device)
        net.run(net.peer, "sysctl", "-qw", f"net.ipv6.conf.{net.device}.accept_dad=0")


def resolves(net: Net) -> bool:
    return net.start(net.host, "getent", "ahostsv4", "feed.example").wait() == 0


@pytest.mark.threat_model
def test_names_are_resolved_whatever_is_listed(net: Net, daemon: Guarded) -> None:
    """By whom resolv.conf names, from one moment to the next."""
    conf = Path("/etc/netns", net.host, "resolv.conf")
    options = "options timeout:1 attempts:1\n"
    conf.write_text(f"nameserver {RESOLVER}\n{options}")
    server = ("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--no-resolv", "--no-hosts")
    listening = (f"--listen-address={RESOLVER},{OTHER_RESOLVER}", "--bind-interfaces", "--pid-file=")
    with running(net, net.peer, *server, *listening, "--address=/feed.example/203.0.113.80"):
        daemon.under("true", "203.0.113.0/24")
        wait_until(lambda: resolves(net), within_s=WITHIN_S, what="the name server answers")
        daemon.under("false", "198.51.100.0/24")
        assert not resolves(net)
        daemon.under("true", "198.51.100.0/24")
        assert resolves(net)
        assert daemon.keeper(RESOLVER) == f"{RESOLVER} name server"
        assert daemon.lookup(OTHER_RESOLVER)["blocked"]
        reloads = daemon.ask("metrics")[-1]["result"]["reloads"]
        conf.write_text(f"search example.org\nnameserver {OTHER_RESOLVER}\n{options}")
        wait_until(lambda: daemon.keeper(OTHER_RESOLVER) == f"{OTHER_RESOLVER} name server", within_s=WITHIN_S)
        assert resolves(net)
        assert daemon.lookup(RESOLVER)["blocked"]
        assert daemon.ask("metrics")[-1]["result"]["reloads"] == reloads, "the lists are not read for that"


def test_what_is_connected_and_what_is_private_where_that_is_chosen(net: Net, daemon: Guarded) -> None:
    everything = ("0.0.0.0/1", "128.0.0.0/1", "2000::/3", "fc00::/7")
    for guard, is_neighbour, is_private in (
        ("false", False, False),
        ("true", False, False),
        ("[connected]", True, False),
        ("[private]", False, True),
        ("[connected, private]", True, True),
    ):
        daemon.under(guard, *everything)
        assert net.answers(VILLAIN) == is_neighbour, guard
        assert net.answers("10.9.9.9") == is_private, guard
        assert (daemon.keeper("fd00::1") == "fc00::/7 private network") == is_private
        assert (daemon.keeper("2001:db8:51::77") == "2001:db8:51::/64 connected network") == is_neighbour
        assert daemon.lookup("203.0.113.9")["blocked"]
    net.run(net.host, "ip", "address", "add", "203.0.113.1/24", "dev", net.device)
    wait_until(lambda: daemon.keeper("203.0.113.9") == "203.0.113.0/24 connected network", within_s=WITHIN_S)
    net.run(net.host, "ip", "address", "del", "203.0.113.1/24", "dev", net.device)
    wait_until(lambda: daemon.lookup("203.0.113.9")["blocked"], within_s=WITHIN_S)
