"""Which name servers this host has, by the files that its resolvers read."""

from pathlib import Path

import pytest

from xdropd.host import nameservers
from xdropd.host.nameservers import NameServers
from xdropd.text.resolvconf import name_servers


def named(text: str) -> list[str]:
    return sorted(map(str, name_servers(text.encode(errors="surrogateescape"))))


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("nameserver 192.0.2.1\nnameserver\t2001:db8::53   # ours\n", ["192.0.2.1", "2001:db8::53"]),
        ("# nameserver 192.0.2.1\n; nameserver 192.0.2.2\n nameserver 192.0.2.3\nsearch a.example 192.0.2.4\n", []),
        ("nameserver fe80::1%eth0\nnameserver ::ffff:192.0.2.5\r\n", ["192.0.2.5", "fe80::1"]),
        ("nameserver\nnameserver dns.example\nnameserver 192.0.2\nnameservers 192.0.2.6\n", []),
        ("nameserver 192.0.2.1", ["192.0.2.1"]),
        ("\udcff\0\nnameserver 192.0.2.7\n", ["192.0.2.7"]),
        ("", []),
    ],
)
def test_resolv_conf(text: str, addresses: list[str]) -> None:
    assert named(text) == addresses


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    found = tmp_path / "resolv.conf", tmp_path / "resolve" / "resolv.conf"
    monkeypatch.setattr(nameservers, "PATHS", found)
    found[1].parent.mkdir()
    return found


@pytest.mark.parametrize("stub", ["127.0.0.53", "::1", "::ffff:127.0.0.53"])
def test_behind_a_stub_are_those_that_it_asks(files: tuple[Path, Path], stub: str) -> None:
    """systemd-resolved(8), on /etc/resolv.conf. Without a stub nobody asks them."""
    first, behind = files
    servers = NameServers()
    servers.read()
    assert servers.known == frozenset()
    first.write_text("nameserver 192.0.2.1\n")
    behind.write_text("nameserver 203.0.113.1\n")
    servers.read()
    assert set(map(str, servers.known)) == {"192.0.2.1"}
    first.write_text(f"nameserver {stub}\n")
    servers.read()
    assert {"203.0.113.1"} < set(map(str, servers.known))
    assert servers.signatures.keys() == set(files)


def test_what_cannot_be_read_is_what_it_was(files: tuple[Path, Path]) -> None:
    first, _ = files
    first.write_text("nameserver 192.0.2.1\n")
    servers = NameServers()
    servers.read()
    first.unlink()
    first.mkdir()
    servers.read()
    assert set(map(str, servers.known)) == {"192.0.2.1"}
    first.rmdir()
    servers.read()
    assert servers.known == frozenset()
