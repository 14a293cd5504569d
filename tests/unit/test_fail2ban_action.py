"""What the action for fail2ban has a shell work out."""

import configparser
import os
import re
import subprocess
import time
from pathlib import Path

import pytest

ACTION = Path(__file__).parents[2] / "etc" / "fail2ban" / "xdropd.conf"

# In place of xdropctl: what it is given, a word a line, and the status that is asked for.
STAND_IN = "#!/bin/sh\nprintf '<%s>\\n' \"$@\"\nexit $STATUS\n"


def run(folder: Path, command: str, name: str = "sshd", status: int = 0) -> tuple[int, list[str]]:
    """A command of the action, as fail2ban has a shell carry it out: its status, and all words for xdropctl."""
    action = configparser.ConfigParser()
    action.read(ACTION, encoding="utf-8")
    tags = {**action["Init"], "name": name, "ip": "192.0.2.1", "family": "inet4", "bantime": "600", "time": "0"}
    text = action["Definition"][command]
    while tag := re.search("<([a-z0-9]+)>", text):  # values have tags in them as well
        text = text.replace(tag[0], tags[tag[1]])
    (folder / "xdropctl").write_text(STAND_IN)
    (folder / "xdropctl").chmod(0o755)
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", "STATUS": str(status)}
    done = subprocess.run(["sh", "-c", text], env=environment, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode, re.findall("(?m)^<(.*)>$", done.stdout)


@pytest.mark.parametrize(
    ("bantime", "age_s", "seconds"),
    [(600, 0, 601), (600, 100, 501), (600, 600, 1), (600, 601, 1), (600, 602, 1), (600, 86_400, 1), (-1, 5, -1)],
)
def test_what_is_left_of_a_ban(bantime: int, age_s: int, seconds: int) -> None:
    """Also of one that is over: -1 would be for good."""
    action = configparser.ConfigParser()
    action.read(ACTION, encoding="utf-8")
    rest = action["Init"]["rest"].replace("<bantime>", str(bantime)).replace("<time>", f"{time.time() - age_s:.6f}")
    said = subprocess.run(["sh", "-c", f"echo {rest}"], capture_output=True, text=True, check=True)
    assert said.stderr == ""
    assert int(said.stdout) in ({seconds, max(1, seconds - 1)} if seconds > 0 else {seconds})


@pytest.mark.parametrize("name", ["sshd", "two words", "odd; exit 3", "$(exit 3)", "*"])
def test_the_name_of_a_jail_is_a_word_whatever_is_in_it(tmp_path: Path, name: str) -> None:
    source = ["--source", f"fail2ban-{name}"]
    banned = ["block", "192.0.2.1", *source, "--reason", name, "--for", "1"]
    assert run(tmp_path, "actionban", name) == run(tmp_path, "actionprolong", name) == (0, banned)
    assert run(tmp_path, "actionunban", name) == (0, ["unblock", "192.0.2.1", *source])
    assert run(tmp_path, "actionflush", name) == (0, ["flush", *source])


@pytest.mark.parametrize(("status", "told"), [(0, 0), (1, 0), (2, 2), (69, 69), (78, 78)])
def test_why_an_unban_failed_is_told_unless_it_is_a_plain_no(tmp_path: Path, status: int, told: int) -> None:
    assert run(tmp_path, "actionunban", status=status)[0] == told
