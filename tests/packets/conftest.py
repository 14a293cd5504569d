"""The verdict program, compiled once for the suite with warnings as errors, and one make-believe interface a test."""

from collections.abc import Iterator

import pytest
from verdicts import Verdicts

from xdropd.kernel.compiler import Blueprint, compile_blueprint, source_folder


@pytest.fixture(scope="session")
def blueprint() -> Blueprint:
    return compile_blueprint(source_folder(), ("-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter"))


@pytest.fixture
def verdicts(blueprint: Blueprint) -> Iterator[Verdicts]:
    made = Verdicts(blueprint)
    yield made
    made.close()
