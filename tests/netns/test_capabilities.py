"""What the daemon must be allowed, and what it says where it is not: of the kernel, which decides."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from foreground import Daemon
from refusals import Refusals
from servicemanager import ServiceManager
from test_faults import never_passes

from netns import Net
from xdropd.kernel.libbpf import F_XDP_HAS_FRAGS

VILLAIN, NEIGHBOUR = "198.51.100.66", "198.51.100.67"
_LIST = f"block:\n  - {VILLAIN}\n"
_ENDS_WITHIN_S = 20


@pytest.fixture
def net() -> Iterator[Net]:
    """Two hosts, the peer with both sources."""
    with Net() as made:
        made.address(made.peer, *(f"{address}/{made.length}" for address in (VILLAIN, NEIGHBOUR)))
        made.run(made.peer, "ping", "-c1", "-W1", made.host_address)  # neighbours are resolved from here on
        yield made


def _without(*capabilities: str) -> tuple[str, ...]:
    return "setpriv", "--bounding-set", ",".join(f"-{each}" for each in capabilities)


def _as_nobody(*capabilities: str) -> tuple[str, ...]:
    given = ",".join(f"+{each}" for each in capabilities) or "-all"
    return "setpriv", "--reuid=65534", "--clear-groups", f"--inh-caps={given}", f"--ambient-caps={given}"


@pytest.mark.parametrize(
    ("within", "missing"),
    [
        (_without("perfmon", "sys_admin"), "CAP_PERFMON"),
        (_without("bpf", "sys_admin"), "CAP_BPF"),
        (_without("net_admin", "sys_admin"), "CAP_NET_ADMIN"),
        (_without("bpf", "perfmon", "sys_admin"), "CAP_BPF, CAP_PERFMON"),
        (_as_nobody(), "CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON"),
        (_as_nobody("bpf", "net_admin"), "CAP_PERFMON"),
    ],
    ids=["no perfmon", "no bpf", "no net_admin", "net_admin alone", "an ordinary user", "a user with two of three"],
)
def test_those_that_are_missing_are_named_with_the_remedy(
    net: Net, tmp_path: Path, within: tuple[str, ...], missing: str
) -> None:
    daemon = Daemon(net, tmp_path, _LIST, within=within)
    assert daemon.start().wait(_ENDS_WITHIN_S) == 77
    (said,) = daemon.log.splitlines()
    assert said.startswith(f"xdropd: error: use bpf(2): without {missing} (")
    assert f"AmbientCapabilities={missing.replace(',', '')};" in said
    assert said.endswith("".join(f"--cap-add={name[4:]} " for name in missing.split(", ")).rstrip() + ")")


def test_those_of_a_user_namespace_do_not_count(net: Net, tmp_path: Path) -> None:
    daemon = Daemon(net, tmp_path, _LIST, within=("unshare", "--user", "--map-root-user"))
    assert daemon.start().wait(_ENDS_WITHIN_S) == 77
    assert "although the capabilities are there" in daemon.log
    assert "user namespace" in daemon.log


def test_a_kernel_that_is_too_old_is_told_in_one_sentence_and_not_tried_again(net: Net, tmp_path: Path) -> None:
    refusals = Refusals(tmp_path)
    refusals.know_no_flags(F_XDP_HAS_FRAGS)
    daemon = Daemon(net, tmp_path, _LIST, environment=refusals.environment)
    assert daemon.start().wait(_ENDS_WITHIN_S) == 71
    assert daemon.log == f"xdropd: error: Linux {os.uname().release} is too old: xdropd needs 5.18 or newer\n"
    unit = (Path(__file__).parents[2] / "systemd" / "xdropd.service").read_text()
    assert "\nRestartPreventExitStatus=71 78\n" in unit


def test_one_that_stands_for_all_of_them_will_do(net: Net, tmp_path: Path) -> None:
    """CAP_SYS_ADMIN, as containers were given before there were others; the compiler gets by with it as well."""
    daemon = Daemon(net, tmp_path, _LIST, within=_without("bpf", "net_admin", "perfmon"))
    daemon.starts_compiled = False
    with daemon:
        assert net.answering(VILLAIN, NEIGHBOUR) == {NEIGHBOUR}


@pytest.mark.parametrize("capability", ["bpf", "perfmon"])
def test_a_successor_without_them_leaves_the_filter_where_it_is(net: Net, tmp_path: Path, capability: str) -> None:
    """As after a slip in a drop-in of the unit: what the store holds must not look as if it were of no use."""
    with ServiceManager(tmp_path) as manager:
        with Daemon(net, tmp_path, _LIST, manager=manager) as first:
            first.stop(signal.SIGKILL)
        stored = manager.stored()
        with never_passes(net, VILLAIN):
            daemon = Daemon(net, tmp_path, _LIST, manager=manager, within=_without(capability, "sys_admin"))
            assert daemon.start().wait(_ENDS_WITHIN_S) == 77
            assert manager.stored() == stored
            with Daemon(net, tmp_path, _LIST, manager=manager) as last:
                assert last.lookup(VILLAIN)["blocked"]
