"""Ethernet in a tunnel: on the card the outer source decides, and on the tunnel's own device the inner one."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from foreground import Daemon

from netns import Net

INNER = ("10.9.0.1", "2001:db8:9::1")
INNOCENTS = {"10.9.0.67", "2001:db8:9::67"}
VILLAINS = {"10.9.0.66", "2001:db8:9::66"}
EVERYBODY = INNOCENTS | VILLAINS
LISTED = "block:\n" + "".join(f"  - {each}\n" for each in sorted(VILLAINS))


@pytest.fixture
def net() -> Iterator[Net]:
    """Between both there is a VXLAN, whose inner addresses these are."""
    with Net() as made:
        for namespace, local, remote, inner in (
            (made.host, made.host_address, made.peer_address, INNER),
            (made.peer, made.peer_address, made.host_address, EVERYBODY),
        ):
            ends = f"local {local} remote {remote} dstport 4789 dev eth0"
            made.batch(namespace, f"link add vxlan7 up type vxlan id 7 {ends}")
            made.address(namespace, *(f"{each}/{64 if ':' in each else 24}" for each in inner), device="vxlan7")
        yield made


def answered(net: Net) -> set[str]:
    """Who gets an answer through the tunnel."""
    return {
        source
        for target in INNER
        for source in net.answering(*(each for each in EVERYBODY if (":" in each) == (":" in target)), target=target)
    }


@pytest.mark.parametrize("interfaces", ["[eth0]", "[vxlan7]", "[eth0, vxlan7]"])
def test_who_decides_on_the_card_and_on_the_device(net: Net, tmp_path: Path, interfaces: str) -> None:
    assert answered(net) == EVERYBODY
    with Daemon(net, tmp_path, LISTED, "--settings", str(tmp_path / "etc" / "xdropd.yaml")) as daemon:
        # Whatever was filtered before: the kernel takes no program on the card while vxlan7 has one.
        for chosen in ("[vxlan7]", interfaces):
            daemon.settings.write_text(f"interfaces: {chosen}\n")
            assert daemon.ctl("reload").returncode == 0
        modes = {each["name"]: each["mode"] for each in daemon.status()["interfaces"]}
        wanted = {"eth0": "native", "vxlan7": "generic"}
        assert modes == {name: mode for name, mode in wanted.items() if name in interfaces}
        assert not daemon.status()["degraded"]
        assert answered(net) == (INNOCENTS if "vxlan7" in interfaces else EVERYBODY)
        assert daemon.ctl("block", net.peer_address).returncode == 0
        assert answered(net) == (set() if "eth0" in interfaces else INNOCENTS)
