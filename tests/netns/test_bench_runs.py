"""The bench runs, quickly: some groups, or every one in a full run. How fast anything is does not matter here."""

import json
import subprocess
from pathlib import Path

import pytest

from extent import IS_FULL

REPOSITORY = Path(__file__).parents[2]
GROUPS = (
    *("cost", "hot-packet", "drop-rate", "load", "edit", "block", "memory", "start", "kinds", "real-lists", "in-force"),
    *("interfaces", "growth", "countries", "fleet"),
)
GROUPS_IN_CI = ("hot-packet", "drop-rate", "edit")


@pytest.mark.parametrize("group", GROUPS if IS_FULL else GROUPS_IN_CI)
def test_a_group_gives_its_figures(group: str, tmp_path: Path) -> None:
    told = tmp_path / "figures.json"
    command = [REPOSITORY / "scripts" / "bench", group, "--quick", "--json", told]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    found = json.loads(told.read_text())
    assert found["failures"] == [], done.stdout
    assert {figure["group"].replace(" ", "-") for figure in found["figures"]} == {group}
    assert done.returncode == any(figure["reached"] is False for figure in found["figures"])
    for figure in found["figures"]:
        assert figure["what"] in done.stdout
        assert all(spread["low"] <= spread["median"] <= spread["high"] for spread in figure["measured"].values())


def test_a_peer_that_is_not_there_is_a_failure(tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for program in ("/usr/sbin/ip", "/usr/sbin/ethtool", "/usr/sbin/sysctl", "/usr/bin/dpkg-query"):
        (tools / Path(program).name).symlink_to(program)
    told = tmp_path / "figures.json"
    environment = {
        "PATH": str(tools),
        "PYTHONPATH": ":".join(str(REPOSITORY / part) for part in ("", "src", "tests/netns", "tests")),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = ["/usr/bin/python3", "-m", "bench", "load", "--quick", "--json", told]
    done = subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert json.loads(told.read_text())["failures"] == [
        "load FAILED: nft is not there, it is in the Debian package nftables"
    ]
    assert "load FAILED" in done.stdout
