"""docs/fleet.md as its reader has it: Debian's crowdsec and our package installed, the guide's commands word by word.

One machine is server and host at once. It has no network, so the central service of CrowdSec is never asked.
"""

import json
import re
import subprocess
from pathlib import Path

import pytest
import service
import wire
from machine import Machine
from wire import NEIGHBOUR, VILLAIN

from waiting import wait_until

UNIT = "xdropd-crowdsec.service"
CONFIGURATION = "/etc/xdrop/crowdsec.yaml"
CREDENTIALS = "/etc/xdrop/local_api_credentials.yaml"
REPOSITORY = Path(__file__).parents[2]
GUIDE = (REPOSITORY / "docs" / "fleet.md").read_text()
BANNED_IN_GUIDE = "203.0.113.9"
WITHIN_S = 30


def follow(machine: Machine, command: str, check: bool = True) -> str:
    """Do what the guide says, as root, with our villain for its own. What is printed."""
    assert re.search(rf"^{re.escape(command)}( +#.*)?$", GUIDE, re.MULTILINE), f"the guide does not say {command!r}"
    words = command.removeprefix("sudo ").replace(BANNED_IN_GUIDE, VILLAIN).split()
    return machine.run(*words, check=check).stdout


def text_of_guide(begins: str) -> str:
    """The text for a file that begins like this."""
    (found,) = re.findall(rf"^```\w*\n({re.escape(begins)}.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    return str(found)


def append(machine: Machine, path: str, text: str) -> None:
    machine.write(path, machine.read(path) + text)


@pytest.fixture(scope="module")
def fleet(machine: Machine) -> Machine:
    """The guide's first section, on a machine with a cable; it asks every second, for we are in a hurry."""
    wire.lay(machine)
    machine.write(service.SETTINGS, f"interfaces: [{wire.DEVICE}]\n")
    machine.run("mkdir", "/etc/crowdsec")
    machine.write("/etc/crowdsec/online_api_credentials.yaml", "# no thanks\n")  # see its README.Debian
    machine.write("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n")  # started at once, it waits for the central service
    machine.run("chmod", "755", "/usr/sbin/policy-rc.d")
    script = REPOSITORY / "scripts" / "crowdsec"
    package = subprocess.run([script, "--package"], check=True, capture_output=True, text=True).stdout.strip()
    machine.copy_in(Path(package), "/root/crowdsec.deb")
    machine.run("dpkg", "--install", "/root/crowdsec.deb", within_s=180)

    append(machine, "/etc/crowdsec/config.yaml.local", text_of_guide("api:"))
    follow(machine, "sudo systemctl restart crowdsec")
    (key,) = re.findall(r"^ +(\w{32})$", follow(machine, "sudo cscli bouncers add web1"), re.MULTILINE)
    machine.write(CONFIGURATION, f"api_url: http://{wire.ADDRESS}:8080/\napi_key: {key}\nupdate_frequency: 1s\n")
    assert follow(machine, "sudo xdropd-crowdsec --check") == ""
    follow(machine, "sudo systemctl enable --now xdropd xdropd-crowdsec")
    return machine


def test_a_ban_on_the_server_drops_packets_and_is_taken_back(fleet: Machine) -> None:
    assert wire.answers(fleet, VILLAIN)
    follow(fleet, f"sudo cscli decisions add --ip {BANNED_IN_GUIDE} --duration 4h")
    wait_until(lambda: not wire.answers(fleet, VILLAIN), within_s=WITHIN_S, what="the ban is in force")
    assert wire.answers(fleet, NEIGHBOUR)
    assert "crowdsec:cscli" in follow(fleet, f"sudo xdropctl lookup {BANNED_IN_GUIDE}")
    assert "crowdsec:cscli: 1 added" in follow(fleet, "journalctl -u xdropd-crowdsec")
    follow(fleet, f"sudo cscli decisions delete --ip {BANNED_IN_GUIDE}")
    wait_until(lambda: wire.answers(fleet, VILLAIN), within_s=WITHIN_S, what="the ban is taken back")


def test_a_ban_of_this_host_becomes_a_decision_and_is_taken_back(fleet: Machine) -> None:
    follow(fleet, "sudo cscli machines add web1 --auto --file web1.yaml")
    fleet.run("install", "--mode=0600", "web1.yaml", CREDENTIALS)
    append(fleet, CONFIGURATION, text_of_guide("report:"))
    folder = f"/etc/systemd/system/{UNIT}.d"
    fleet.run("mkdir", folder)
    fleet.write(f"{folder}/override.conf", text_of_guide("[Service]"))  # as systemctl edit does
    fleet.run("systemctl", "daemon-reload")
    assert follow(fleet, "sudo xdropd-crowdsec --check") == ""
    follow(fleet, "sudo systemctl restart xdropd-crowdsec")
    for file in (CONFIGURATION, CREDENTIALS):  # who reads them is root, and no process of ours
        assert fleet.run("stat", "--format=%U %a", file).stdout == "root 600\n"

    def decided() -> str:
        return follow(fleet, "sudo cscli decisions list --origin xdropd")

    fleet.run("xdropctl", "block", VILLAIN, "--source", "fail2ban-sshd", "--for", "10m")
    wait_until(lambda: VILLAIN in decided(), within_s=WITHIN_S, what="the ban is a decision")
    assert "fail2ban-sshd@web1" in decided()

    def blocked_by() -> set[str]:
        rows = map(json.loads, fleet.run("xdropctl", "--json", "list").stdout.splitlines())
        return {row["source"] for row in rows if row["entry"] == VILLAIN}

    wait_until(lambda: blocked_by() == {"fail2ban-sshd", "crowdsec:xdropd"}, within_s=WITHIN_S, what="it comes back")
    fleet.run("xdropctl", "unblock", VILLAIN, "--source", "fail2ban-sshd")
    wait_until(lambda: not blocked_by(), within_s=WITHIN_S, what="it is taken back everywhere")
    assert VILLAIN not in decided()
    assert wire.answers(fleet, VILLAIN)
