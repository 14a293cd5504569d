"""What the service manager is told, by a socket that is read, is not read for a while, or never."""

import array
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from waiting import wait_until
from xdropd.host import systemd
from xdropd.host.systemd import Systemd

WITHIN_S = 5.0


class Manager:
    """Reads when it is asked to. `kept` is what is left of the descriptors that came, which end with it."""

    def __init__(self, path: Path) -> None:
        self.address = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._socket.setblocking(False)

    def read(self) -> list[str]:
        """All that has come. Descriptors are closed, which is how a barrier is answered."""
        told = []
        while True:
            try:
                data, ancillary, _, _ = self._socket.recvmsg(4096, socket.CMSG_SPACE(4))
            except BlockingIOError:
                return told
            for _, _, rights in ancillary:
                for descriptor in array.array("i", rights):
                    os.close(descriptor)
            told.append(data.decode())

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    made = Manager(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", made.address)
    yield made
    made.close()


@pytest.fixture
def descriptor() -> Iterator[int]:
    opened = os.open("/dev/null", os.O_RDONLY)
    yield opened
    os.close(opened)


def fill(told: Systemd) -> None:
    """Until no more fits into the socket's queue."""
    while not told._waiting:
        told.reloading()


def test_what_only_matters_now_is_dropped_and_the_rest_waits_in_order(manager: Manager, descriptor: int) -> None:
    told = Systemd()
    fill(told)
    told.status("dropped")
    told.alive()
    told.patience(60)
    told.store({"a": descriptor})
    told.forget(["a"])
    told.ready("enforcing")
    told.status("dropped as well, for READY waits")
    came = manager.read()
    told.flush()
    came += manager.read()
    assert [message.split("\n")[0] for message in came if not message.startswith("RELOADING=1")] == [
        "FDSTORE=1",
        "FDSTOREREMOVE=1",
        "READY=1",
    ]
    told.status("read again")
    assert manager.read() == ["STATUS=read again"]


def test_what_waits_to_be_stored_may_be_closed_meanwhile(manager: Manager) -> None:
    told = Systemd()
    fill(told)
    reading, writing = os.pipe()
    told.store({"pipe": writing})
    os.close(writing)
    os.set_blocking(reading, False)
    with pytest.raises(BlockingIOError):  # somebody still holds the other end
        os.read(reading, 1)
    manager.read()
    told.flush()
    manager.read()
    assert os.read(reading, 1) == b""
    os.close(reading)


def test_a_barrier_is_answered_when_all_before_it_was_read(manager: Manager, descriptor: int) -> None:
    told = Systemd()
    fill(told)
    told.store({"a": descriptor})
    came: list[str] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.wait(0.01):
            came.extend(manager.read())

    reader = threading.Thread(target=read)
    reader.start()
    try:
        assert told.barrier()
    finally:
        stop.set()
        reader.join()
    assert came[-2:] == ["FDSTORE=1\nFDNAME=a\nFDPOLL=0", "BARRIER=1"]
    assert told.keeps
    assert not told.is_silent


def test_nobody_waits_twice_for_who_does_not_answer(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd, "_BARRIER_SECONDS", 0.1)
    told = Systemd()
    assert not told.barrier()
    assert told.is_silent
    assert not told.keeps
    monkeypatch.setattr(systemd, "_BARRIER_SECONDS", 3600.0)  # to wait once more would hang
    assert not told.barrier()
    manager.read()
    assert not told.is_silent
    assert told.keeps


def test_what_is_unread_for_long_is_told_and_what_found_no_place_is_never_said_to_be_kept(
    manager: Manager, descriptor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systemd, "_BARRIER_SECONDS", 0.05)
    told = Systemd()
    fill(told)
    assert not told.is_silent
    wait_until(lambda: told.is_silent, within_s=WITHIN_S)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(2 * systemd._WAITING_AT_MOST):
        told.store({"a": descriptor})
    assert len(os.listdir("/proc/self/fd")) - before <= systemd._WAITING_AT_MOST
    while told._waiting:
        manager.read()
        told.flush()
    assert told.is_silent


def test_a_manager_that_is_gone_is_no_failure(manager: Manager) -> None:
    told = Systemd()
    Path(manager.address).unlink()
    told.ready("enforcing")
    told.status("enforcing")
    told.flush(0.05)


def test_a_status_is_one_short_line_of_text(manager: Manager) -> None:
    told = Systemd()
    told.status("enforcing on caf\udce9\nFDSTOREREMOVE=1")
    told.ready("ä" * 10_000)  # systemd passes over a message of more than 4096 bytes, and would not see READY
    status, ready = manager.read()
    assert status == r"STATUS=enforcing on caf\xe9\x0aFDSTOREREMOVE=1"
    assert ready.startswith("READY=1\nSTATUS=ää")
    assert len(ready.encode()) < 4096


@pytest.mark.parametrize("address", ["", "vsock:2:1", "nothing"])
def test_without_a_socket_nobody_is_there(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    told = Systemd()
    assert not told.is_there
    told.ready("enforcing")
    told.status("enforcing")
    told.store({"a": 0})
    assert told.barrier()
    assert not told.is_silent


def test_abstract_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"xdropd-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0{name}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        Systemd().status("enforcing")
        assert listening.recv(100) == b"STATUS=enforcing"
