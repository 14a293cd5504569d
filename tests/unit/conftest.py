"""Hypothesis for this suite: no deadlines, for machines are shared, and no files in the source tree."""

import os
from pathlib import Path

import pytest
from hypothesis import configuration, settings

settings.register_profile("xdropd", deadline=None, database=None, derandomize=os.environ.get("CI") == "true")
settings.load_profile("xdropd")


@pytest.fixture(scope="session", autouse=True)
def _hypothesis_keeps_its_tables_in_the_cache(cache: Path) -> None:
    configuration.set_hypothesis_home_dir(cache / "hypothesis")
