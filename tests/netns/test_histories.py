"""Random histories of the real daemon, judged from outside after every step by a model that shares nothing with it.

A failure is told as the shortest history that shows it, in commands that can be typed, with the seed that found it.
XDROPD_SEED chooses other histories than CI's.
"""

import os
from pathlib import Path

import pytest
from histories import RESET, Author, Failure, Shrinker, live, typed
from steps import Step
from world import World, two_texts

_SEED = os.environ.get("XDROPD_SEED", "1")
_LIVES, _LIVES_FULL = 16, 600  # of a daemon
_HISTORIES_A_LIFE = 12


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two source trees, which differ in the text of the BPF program."""
    return two_texts(tmp_path_factory.mktemp("texts"), Path(__file__).parents[2])


def _lives_without_a_fault(seed: str, folder: Path, texts: tuple[Path, Path]) -> int:
    """Live through some histories with one daemon, what came before included. The number of steps."""
    lived: list[Step] = []
    (folder / seed).mkdir()
    with World(folder / seed, texts) as world:
        for number in range(_HISTORIES_A_LIFE):
            history = [RESET] * bool(number) + Author(f"{seed}.{number}").history()
            try:
                live(world, history)
            except Failure as failure:
                wrong = failure
                break
            lived += history
        else:
            return len(lived)
    shrinker = Shrinker(folder, texts)
    found = shrinker.fails(wrong.steps) or shrinker.fails(lived + wrong.steps)
    if found is None:
        told = typed(Failure(lived + wrong.steps, str(wrong)))
        pytest.fail(f"seed {seed}, once and not again:\n{told}", pytrace=False)
    pytest.fail(f"seed {seed}:\n{typed(shrinker.shortest(found))}", pytrace=False)


def test_random_histories(tmp_path: Path, full: bool, texts: tuple[Path, Path]) -> None:
    lives = _LIVES_FULL if full else _LIVES
    steps = sum(_lives_without_a_fault(f"{_SEED}-{life}", tmp_path, texts) for life in range(lives))
    print(f"{lives * _HISTORIES_A_LIFE} histories of {steps} steps")
