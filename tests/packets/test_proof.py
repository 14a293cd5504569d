"""The proof of what maps hold: it is there when it is true, and gone before it would be false."""

import errno
import json
from functools import partial

import pytest
from test_generations import BLOCK, HITS, MORE, Daemon, hit
from verdicts import Verdicts, state

from xdropd.errors import KernelError
from xdropd.filter.proof import Proof, Proven
from xdropd.filter.store import Store
from xdropd.host.systemd import Systemd
from xdropd.kernel import libbpf
from xdropd.kernel.compiler import Blueprint
from xdropd.kernel.generation import Generation
from xdropd.rules.plan import plan
from xdropd.rules.winners import State


@pytest.fixture
def daemon(blueprint: Blueprint) -> Daemon:
    made = Daemon(Verdicts(blueprint))
    made.change(state(BLOCK, ["10.0.0.0/30"]), now_s=1)
    return made


def given(daemon: Daemon) -> bool:
    generation = daemon.counting.generation
    assert generation
    return daemon.proof.prepare(generation, daemon.state, daemon.proof.withdrawals, lambda _: "beside it")()


def found_by_the_next(daemon: Daemon) -> Proven | None:
    """What a process finds that adopts the maps and the file as they are."""
    old, file = daemon.counting.generation, daemon.proof.descriptor
    assert old
    adopted = Generation(old.number, old.stamp, old.maps, old.program)
    found = Proof(Store(Systemd())).found(file, adopted)
    if found:
        assert adopted.bookkeeping() == old.bookkeeping()
        assert adopted.ranges.owners == old.ranges.owners
    return found


def test_the_next_process_finds_the_state_and_what_was_told_beside(daemon: Daemon) -> None:
    assert found_by_the_next(daemon) is None
    assert given(daemon)
    found = found_by_the_next(daemon)
    assert found
    assert found.others == "beside it"
    assert plan(daemon.state, found.state).count == 0
    assert daemon.verdicts.holds_just(found.state)
    hit(daemon.verdicts, *HITS)


def test_a_change_in_place_withdraws_it_before_the_first_map_is_changed(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert given(daemon)

    def refused(*_: object) -> None:
        assert found_by_the_next(daemon) is None
        raise KernelError("update", errno.EPERM, "no")

    for call in ("update", "update_batch", "delete_batch"):
        monkeypatch.setattr(libbpf, call, refused)
    with pytest.raises(KernelError):
        daemon.change(state((*BLOCK[1:], "192.0.2.7")), now_s=2)
    monkeypatch.undo()
    assert found_by_the_next(daemon) is None


def test_a_swap_leaves_a_proof_of_a_generation_that_is_not_in_force(daemon: Daemon) -> None:
    assert given(daemon)
    daemon.change(state(MORE), now_s=2)
    assert found_by_the_next(daemon) is None
    assert given(daemon)
    found = found_by_the_next(daemon)
    assert found
    assert daemon.verdicts.holds_just(found.state)


@pytest.mark.parametrize("is_written_down_late", [False, True])
def test_what_was_to_be_given_before_a_change_is_not_given_behind_it(
    daemon: Daemon, is_written_down_late: bool
) -> None:
    """Late: whoever writes it down had other things to do before."""
    generation, proof, before = daemon.counting.generation, daemon.proof, daemon.state
    assert generation
    prepare = partial(proof.prepare, generation, before, proof.withdrawals, lambda _: None)
    give = None if is_written_down_late else prepare()
    daemon.change(state(BLOCK[1:]), now_s=2)
    give = give or prepare()
    assert not give()
    assert found_by_the_next(daemon) is None
    assert not proof.is_given_for(generation, before)


def test_listings_that_stay_are_not_written_again(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    assert given(daemon)
    written: list[int] = []
    monkeypatch.setattr("xdropd.filter.proof.packed", lambda each: written.append(each.count))
    daemon.state = State(daemon.state.sources, daemon.state.exempt)
    assert given(daemon)
    assert not written
    assert found_by_the_next(daemon)


def test_another_versions_file_proves_nothing(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json, "dumps", lambda told: json.JSONEncoder().encode({**told, "format": 0}))
    assert given(daemon)
    assert found_by_the_next(daemon) is None
