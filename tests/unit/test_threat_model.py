"""Each claim of docs/threat-model.md names a test; it must be there."""

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
_NAMED = re.compile(r"`(?:(\w+/test_\w+\.py))?::(test_\w+)`")


def _claims() -> list[tuple[str, str]]:
    claims, file = [], ""
    for named, test in _NAMED.findall((REPOSITORY / "docs" / "threat-model.md").read_text()):
        file = named or file  # `::test_x` is of the file that was named last
        claims.append((file, test))
    return claims


def test_there_are_claims() -> None:
    assert len(_claims()) > 20


@pytest.mark.parametrize(("file", "test"), _claims())
def test_the_test_that_shows_it_exists(file: str, test: str) -> None:
    assert f"\ndef {test}(" in (REPOSITORY / "tests" / file).read_text()
