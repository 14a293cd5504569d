"""After a takeover: a filter that runs something, and a daemon that cannot tell what, or cannot make anything else.

Each state is reached as it is in life: a process dies, its successor finds damage in the store, or has no compiler for
its program text, or a list that it must refuse and no good one kept, or all of that. Whatever then happens around it,
what was dropped is dropped, the daemon lives and says what is wrong, and it is well as soon as the cause is gone.
"""

import contextlib
import os
import select
import shutil
import signal
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from foreground import Daemon
from release import Release
from servicemanager import ServiceManager
from test_attaching import echo_request, is_echo_reply, replies, tunnel
from test_faults import never_passes, replace

from netns import Net
from waiting import wait_until

VILLAIN, NEIGHBOUR, NETWORKED, RANGED = "198.51.100.66", "198.51.100.67", "198.51.100.68", "198.51.100.71"
_RANGE = "198.51.100.71-198.51.100.73"
_LIST = f"block:\n  - {VILLAIN}\n  - 198.51.100.68/31\n  - {_RANGE}\n  - 203.0.113.0/24\n"
_REFUSED = "block: [this is no address]\n"
_BOTH_INTERFACES = ("--interface", Net.device, "--interface", "more*")
_WATCHDOG_S = 1.0
_CHANGE_WITHIN_S = 3.0
_RECOVERS_WITHIN_S = 20.0  # the daemon tries again after five seconds, and then after ten
_VERBS: Mapping[str, Mapping[str, object]] = {
    "status": {},
    "list": {},
    "lookup": {"address": VILLAIN},
    "top": {},
    "metrics": {},
    "block": {"entries": ["192.0.2.1"]},
    "unblock": {"entries": ["192.0.2.1"]},
    "replace": {"source": "nobody", "entries": ["192.0.2.1"]},
    "change": {"source": "nobody", "entries": ["192.0.2.2", "-192.0.2.1"]},
    "flush": {"source": "nobody"},
    "reload": {},
}


@dataclass(frozen=True)
class HalfWay:
    """What the successor finds: pieces of the store that are something else, no compiler, no list that it could use."""

    ruined: tuple[str, ...] = ()
    other_text: bool = True
    compiles: bool = True
    is_listed: bool = True


_STATES = {
    "maps that are not understood, no compiler": HalfWay(("gen.*.networks4",), compiles=False),
    "maps that are not understood, no list": HalfWay(("gen.*.networks4",), is_listed=False),
    "maps that are not understood, neither": HalfWay(("gen.*.networks4",), compiles=False, is_listed=False),
    "another text, no list": HalfWay(is_listed=False),
    "the same text, no list": HalfWay(other_text=False, is_listed=False),
    "no settings in the kernel, no compiler": HalfWay(("shared.settings",), compiles=False),
    "no samples, neither": HalfWay(("shared.samples",), compiles=False, is_listed=False),
    "no names of sources, no list": HalfWay(("sources",), is_listed=False),
}


@dataclass
class Service:
    """A service in `folder` that goes through several processes.

    It lists VILLAIN, a network of NETWORKED and a range of RANGED.
    """

    net: Net
    folder: Path
    manager: ServiceManager
    settings: str = "log_drops: 100/s\n"
    state: Path = field(init=False)

    def __post_init__(self) -> None:
        self.state = self.folder / "state"
        (self.folder / "etc").mkdir()
        (self.folder / "etc" / "xdropd.yaml").write_text(self.settings)

    def process(self, text: str = _LIST, release: Release | None = None) -> Daemon:
        """The next one, not started yet."""
        daemon = Daemon(self.net, self.folder, text, *_BOTH_INTERFACES, manager=self.manager)
        daemon.sources = release.folder if release else None
        return daemon

    def process_without_compiler(self, text: str = _LIST) -> tuple[Daemon, Release]:
        """The next one, of the same program text, which it has neither compiled nor the means to."""
        shutil.rmtree(self.state / "program")
        release = Release(self.folder, other_text=False, compiles=False)
        daemon = self.process(text, release)
        daemon.starts_compiled = False
        return daemon, release

    def lives_and_dies(self, text: str = _LIST) -> None:
        """A process that gets ready and is killed."""
        with self.process(text) as daemon:
            daemon.stop(signal.SIGKILL)


@pytest.fixture
def net() -> Iterator[Net]:
    """Two hosts, the peer with the four sources."""
    with Net() as made:
        made.address(made.peer, *(f"{address}/{made.length}" for address in (VILLAIN, NEIGHBOUR, NETWORKED, RANGED)))
        made.run(made.peer, "ping", "-c1", "-W1", made.host_address)  # neighbours are resolved from here on
        yield made


@pytest.fixture
def service(net: Net, tmp_path: Path) -> Iterator[Service]:
    """A service that nobody has started yet."""
    with ServiceManager(tmp_path, watchdog_s=_WATCHDOG_S) as manager:
        yield Service(net, tmp_path, manager)


def _is_alive(daemon: Daemon) -> bool:
    assert daemon.process
    assert daemon.process.poll() is None, daemon.log
    assert "Traceback" not in daemon.log, daemon.log
    return True


def _recovers(daemon: Daemon, within_s: float = _RECOVERS_WITHIN_S) -> None:
    wait_until(lambda: _is_alive(daemon) and not daemon.status()["degraded"], within_s=within_s, what=daemon.log)


def _reloads(daemon: Daemon) -> int:
    reloads: dict[str, int] = daemon.ask("metrics")[-1]["result"]["reloads"]
    return sum(reloads.values())


def _ask_everything(daemon: Daemon) -> None:
    for verb, fields in _VERBS.items():
        told = daemon.ask(verb, **fields)
        assert told, (verb, daemon.log)
        assert told[-1].get("kind") in (None, "Unavailable", "Refused", "CompileError"), (verb, told)
        assert _is_alive(daemon)


def _meet_everything(net: Net, daemon: Daemon, manager: ServiceManager) -> None:
    """What goes on around a daemon in a few days, in a few seconds."""
    fed = manager.times("WATCHDOG=1")
    assert net.answering(VILLAIN, NETWORKED, RANGED) == set()  # sampled drops
    net.address(net.host, "198.51.100.9/24", "2001:db8:51::9/64")
    net.cable(net.host, "more0", net.more(), "eth0")
    net.run(net.host, "ip", "address", "del", "198.51.100.9/24", "dev", net.device)
    before = _reloads(daemon)
    assert daemon.process
    daemon.process.send_signal(signal.SIGHUP)  # a reload, and reconciliation behind it
    wait_until(lambda: _is_alive(daemon) and _reloads(daemon) > before, within_s=_RECOVERS_WITHIN_S)
    net.run(net.host, "ip", "link", "del", "more0")
    _ask_everything(daemon)
    manager.wait_for("WATCHDOG=1", more_than=fed + 1)
    assert _is_alive(daemon)


@pytest.mark.parametrize("state", _STATES.values(), ids=list(_STATES))
def test_it_lives_says_what_is_wrong_and_recovers(service: Service, state: HalfWay) -> None:
    net = service.net
    with service.process() as first:
        assert first.ctl("block", "192.0.2.77", "--for", "2s").returncode == 0
        first.stop(signal.SIGKILL)
    for glob in state.ruined:
        service.manager.ruin(glob)
    if not state.is_listed:
        shutil.rmtree(service.state / "last-good", ignore_errors=True)
    release = Release(service.folder, other_text=state.other_text, compiles=state.compiles)
    text = _LIST if state.is_listed else _REFUSED
    with never_passes(net, VILLAIN), service.process(text, release) as daemon:
        assert daemon.status()["degraded"]
        _meet_everything(net, daemon, service.manager)
        assert daemon.status()["degraded"]

        if not state.compiles:
            release.regain_compiler()
        replace(daemon.blocklist, _LIST)
        assert daemon.ctl("reload").returncode == 0, daemon.log
        assert not daemon.status()["degraded"]
        assert net.answering(VILLAIN, NEIGHBOUR, NETWORKED, RANGED) == {NEIGHBOUR}
        listed = [VILLAIN, "198.51.100.68/31", "203.0.113.0/24", _RANGE]  # what was blocked for two seconds has ended
        wait_until(lambda: [row["entry"] for row in daemon.rows()] == listed, within_s=_CHANGE_WITHIN_S)
        assert daemon.ctl("block", NEIGHBOUR).returncode == 0
        assert net.answering(NEIGHBOUR) == set()


def test_what_failed_at_the_start_is_tried_again_by_itself(service: Service) -> None:
    service.lives_and_dies()
    release = Release(service.folder, compiles=False)
    with never_passes(service.net, VILLAIN), service.process(release=release) as daemon:
        assert daemon.status()["degraded"]
        release.regain_compiler()
        _recovers(daemon)
        assert daemon.lookup(VILLAIN)["blocked"]


def test_a_refused_list_does_not_stop_what_is_tried_again(service: Service) -> None:
    """The program text is another one, and there never is a list: what is in force goes on under that text,
    ranges included.
    """
    service.lives_and_dies()
    shutil.rmtree(service.state / "last-good", ignore_errors=True)
    release = Release(service.folder, compiles=False)
    with never_passes(service.net, VILLAIN), service.process(_REFUSED, release) as daemon:
        before = service.manager.stored()
        release.regain_compiler()
        daemon.ctl("reload")
        assert "the kernel" not in "".join(daemon.status()["troubles"]), daemon.log
        assert daemon.status()["degraded"]
        assert service.manager.stored() != before  # a generation of another number
        assert service.net.answering(VILLAIN, NEIGHBOUR, NETWORKED, RANGED) == {NEIGHBOUR}


def test_one_interface_of_two_without_its_jump_table_and_no_compiler(service: Service) -> None:
    net = service.net
    net.cable(net.host, "more0", net.more(), "eth0")
    service.lives_and_dies()
    index = net.run(net.host, "cat", "/sys/class/net/more0/ifindex").strip()
    service.manager.lose(f"if.{index}.in_force")
    daemon, release = service.process_without_compiler()
    with never_passes(net, VILLAIN), daemon:
        assert daemon.status()["degraded"]
        _ask_everything(daemon)
        release.regain_compiler()
        assert daemon.ctl("reload").returncode == 0, daemon.log
        assert not daemon.status()["degraded"]


def test_names_in_the_store_that_another_version_gave(service: Service) -> None:
    """Whatever they are, they are no reason to end; the first version had a program for each interface."""
    service.lives_and_dies()
    service.manager.rename("gen.*.xdrop_verdict", lambda name: f"{name}.7")
    with never_passes(service.net, VILLAIN), service.process() as daemon:
        assert not daemon.status()["degraded"]
        assert daemon.lookup(VILLAIN)["blocked"]


def test_another_mode_lets_nothing_go_that_cannot_be_attached_again(service: Service) -> None:
    net = service.net
    service.lives_and_dies()
    release = Release(service.folder, compiles=False)
    with service.process(release=release) as daemon:
        with never_passes(net, VILLAIN):
            replace(daemon.settings, service.settings + "xdp_mode: generic\n")
            wait_until(lambda: "stays in native mode" in daemon.log, within_s=_RECOVERS_WITHIN_S, what=daemon.log)
            assert [each["mode"] for each in daemon.status()["interfaces"]] == ["native"]
        release.regain_compiler()
        _recovers(daemon)
        assert [each["mode"] for each in daemon.status()["interfaces"]] == ["generic"]
        assert net.answering(VILLAIN, NEIGHBOUR) == {NEIGHBOUR}


@pytest.mark.parametrize("what", ["an entry ends", "the host changes"])
def test_no_compiler_when_what_is_due_needs_one(service: Service, what: str) -> None:
    """So much has left the list that its maps are made anew with the next change, whatever that is."""
    net = service.net
    many = "".join(f"  - 10.0.{number >> 8}.{number & 255}\n" for number in range(5000))
    service.lives_and_dies(_LIST + many)
    daemon, release = service.process_without_compiler(_LIST + many)
    with never_passes(net, VILLAIN), daemon:
        if what == "an entry ends":
            assert daemon.ctl("block", NEIGHBOUR, "--for", "2s").returncode == 0
        replace(daemon.blocklist, _LIST)
        wait_until(lambda: "5000 removed" in daemon.log, within_s=_CHANGE_WITHIN_S, what=daemon.log)
        if what == "the host changes":
            net.address(net.host, "203.0.113.9/32")  # it is listed, and narrowed from now on
        wait_until(lambda: _is_alive(daemon) and daemon.status()["degraded"], within_s=_CHANGE_WITHIN_S)
        _ask_everything(daemon)
        assert net.answering(VILLAIN) == set()
        release.regain_compiler()
        _recovers(daemon)
        assert net.answering(NEIGHBOUR) == {NEIGHBOUR}
        assert daemon.lookup("203.0.113.9")["blocked"] == (what == "an entry ends")


@contextlib.contextmanager
def _never_answered(packets: int, source: str) -> Iterator[None]:
    """Echo requests written to a tunnel one after the other, none of which may be answered."""
    is_over, answers, asked = threading.Event(), list[bool](), 0

    def ask() -> None:
        nonlocal asked
        while not is_over.wait(0.001):
            asked += os.write(packets, echo_request(source)) > 0
            while select.select([packets], [], [], 0)[0]:
                answers.append(is_echo_reply(os.read(packets, 2048), source))

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield
    finally:
        is_over.set()
        asking.join()
    assert asked
    assert not any(answers), f"{sum(answers)} of {asked} packets of {source} passed"


def test_slots_of_interfaces_that_are_made_anew_say_whose_packets_start_with_ip(service: Service) -> None:
    """Taken for frames, they would all pass: also those that come in while the list is put in force."""
    with tunnel(service.net, "more0", "10.9.0.1") as packets:
        service.lives_and_dies()
        service.manager.ruin("shared.interfaces")
        with _never_answered(packets, VILLAIN), service.process() as daemon:
            assert not daemon.status()["degraded"], daemon.log
            daemon.stop(signal.SIGKILL)
        with service.process() as daemon:
            assert [replies(packets, source) for source in (VILLAIN, NEIGHBOUR)] == [0, 1]
            assert not daemon.status()["degraded"], daemon.log
