"""The Debian package, from its build to its purge, as an administrator and a sponsor look at it."""

import json
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import installation
import pytest
import service
import wire
from flood import AT_LEAST_A_SECOND, Flood, prepare
from machine import Machine, run_unbooted
from wire import NEIGHBOUR, VILLAIN

import xdropd
from packaged import REPOSITORY, build
from roots import SUITES, make_root
from waiting import wait_until

UNIT = "xdropd.service"
EXPORTER = "xdropd-exporter.service"
BLOCKLIST = "/etc/xdrop/blocklist.yaml"
STATE = "/var/lib/xdropd"
ACTION = "/etc/fail2ban/action.d/xdropd.conf"

# The action for fail2ban when it was an example to be copied by hand.
_FORMER_ACTION = Path(__file__).with_name("former_action.conf")

# A route, a saved file: the contract's second to be in force, and one for the ping that finds out.
_CHANGE_WITHIN_S = 2.0

_LINTIAN = ("lintian", "--allow-root", "--fail-on=warning,info,pedantic", "-EviIL", "+pedantic")


@pytest.fixture(scope="module")
def previous(tree: Path) -> Path:
    """The package of an older version."""
    return installation.build_previous(tree, tree.parent)


@pytest.fixture(scope="module", params=SUITES)
def machine(cache: Path, package: Path, previous: Path, request: pytest.FixtureRequest) -> Iterator[Machine]:
    """A minimal Debian that has what the package depends on, both packages in /root, a cable, and no default route."""
    with Machine(cache, request.param) as made:
        made.copy_in(package, "/root/current.deb")
        made.copy_in(previous, "/root/previous.deb")
        wire.lay(made)
        made.run("ip", "route", "delete", "default")
        yield made


@pytest.fixture
def bare(machine: Machine) -> Iterator[Machine]:
    """The machine with no trace of xdropd, before and after."""
    yield machine
    machine.run("dpkg", "--purge", "xdropd")  # content where there is nothing to purge
    machine.run("rm", "--recursive", "--force", STATE, "/etc/xdrop")
    machine.run("ip", "route", "delete", "default", check=False)
    machine.run("systemctl", "reset-failed", check=False)


def _apt(machine: Machine, verb: str, what: str) -> str:
    """What an administrator types, without a terminal to ask; apt takes nothing from a network here."""
    command = ("apt-get", "--quiet=2", "--yes", "--no-install-recommends", verb, what)
    done = machine.run("env", "DEBIAN_FRONTEND=noninteractive", *command, within_s=120)
    return done.stdout + done.stderr


def _connect(machine: Machine) -> None:
    """Give the machine its default route."""
    machine.run("ip", "route", "replace", "default", "via", NEIGHBOUR)


def _block_villain(machine: Machine) -> None:
    """Edit the blocklist as shipped, as its own comment says."""
    edit = f"s/^block: \\[\\]$/block:/; /^block:/a\\  - {VILLAIN}"
    machine.run("sed", "--in-place", edit, BLOCKLIST)


def _state(machine: Machine, unit: str) -> tuple[str, str]:
    """(enabled or disabled, active or not) in systemd's words."""
    asked = (machine.run("systemctl", verb, unit, check=False).stdout.strip() for verb in ("is-enabled", "is-active"))
    enabled, active = asked
    return enabled, active


def _is_attached(machine: Machine) -> bool:
    return "xdp" in machine.run("ip", "link", "show", wire.DEVICE).stdout


def _in_kernel(machine: Machine) -> set[tuple[str, int]]:
    """Kind and id of every BPF object in the kernel, whoever made it; bpftool is another source of truth."""
    found = set()
    for kind in ("prog", "map", "link"):
        found |= {(kind, int(seen["id"])) for seen in json.loads(machine.run("bpftool", "-j", kind, "show").stdout)}
    return found


def _villains_packets(machine: Machine) -> int:
    said = machine.run("xdropctl", "--json", "lookup", VILLAIN).stdout
    return int(json.loads(said)["packets"])


def _ours_on_disk(machine: Machine) -> list[str]:
    """Every file and folder with our name on it, but for the packages in /root."""
    command = "find / -xdev ( -path /root -o -path /proc -o -path /sys ) -prune -o -iname *xdrop* -print"
    return machine.run(*command.split()).stdout.splitlines()


def _version(machine: Machine) -> tuple[str, str]:
    """(state, version) in dpkg's words."""
    said = machine.run("dpkg-query", "--show", "--showformat=${db:Status-Status} ${Version}", "xdropd").stdout
    state, _, version = said.partition(" ")
    return state, version


def test_lintian_finds_nothing(package: Path) -> None:
    (changes,) = package.parent.glob("*.changes")
    done = subprocess.run([*_LINTIAN, str(changes)], capture_output=True, text=True, timeout=120, check=False)
    assert (_complaints(done.stdout), done.returncode) == ([], 0), done.stderr


# Each release's lintian knows its own policy, and calls tags of another one strange: what the older one wants to have
# explained, the newer one does not ask for any more.
_OF_ANOTHER_RELEASE = ("out-of-date-standards-version", "alien-tag package-supports-alternative-init")


def _complaints(said: str) -> list[str]:
    return re.findall(r"^[A-Z]: xdropd(?: source)?: .*$", said, re.MULTILINE)


def test_it_builds_on_the_other_debian_too(builder: Path, tree: Path, tmp_path: Path, full: bool) -> None:
    """With that one's own tools; its lintian, which is large, is asked in a full run."""
    shutil.copytree(tree, tmp_path / "xdropd")
    steps = ["cd /build/xdropd", "dpkg-buildpackage --build=full --no-sign"]
    if full:
        steps += [
            "apt-get --quiet=2 update",
            "apt-get --quiet=2 --yes --no-install-recommends install lintian >/dev/null",
        ]
        steps += [f"{{ {' '.join(_LINTIAN)} ../*.changes || true; }}"]
    shared = {tmp_path: "/build"}
    done = run_unbooted(
        builder, "sh", "-c", f"exec 2>&1; {' && '.join(steps)}", shared=shared, with_network=full, within_s=240
    )
    assert [line for line in _complaints(done.stdout) if not any(tag in line for tag in _OF_ANOTHER_RELEASE)] == []
    assert done.returncode == 0, done.stdout
    assert [file.name for file in tmp_path.glob("*.deb")] == [f"xdropd_{xdropd.__version__}_all.deb"]


@pytest.mark.parametrize("suite", SUITES)
def test_in_a_container_without_systemd(suite: str, cache: Path, package: Path) -> None:
    """Installed where nothing runs, and run in the foreground by the package's own test."""
    story = "mkdir /tmp/test && dpkg --install /root/xdropd.deb && AUTOPKGTEST_TMP=/tmp/test sh -x /root/foreground"
    shared = {package: "/root/xdropd.deb", REPOSITORY / "debian" / "tests" / "foreground": "/root/foreground"}
    done = run_unbooted(make_root(cache, suite), "sh", "-c", story, shared=shared)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("suite", SUITES)
def test_an_action_for_fail2ban_that_was_copied_by_hand(suite: str, cache: Path, package: Path) -> None:
    """As it came it is replaced, and nobody is asked; edited it is somebody's, and dpkg does as it is told."""
    story = f"""
        set -ex
        mkdir --parents {Path(ACTION).parent}
        cp /root/former {ACTION}
        dpkg --install /root/xdropd.deb
        cmp /root/shipped {ACTION}
        dpkg --purge xdropd
        test ! -e /etc/fail2ban

        mkdir --parents {Path(ACTION).parent}
        cp /root/former {ACTION}
        echo "# edited" >>{ACTION}
        cp {ACTION} /root/edited
        dpkg --force-confold --install /root/xdropd.deb
        cmp /root/edited {ACTION}
        cmp /root/shipped {ACTION}.dpkg-dist
    """
    shipped = REPOSITORY / "etc" / "fail2ban" / "xdropd.conf"
    shared = {package: "/root/xdropd.deb", _FORMER_ACTION: "/root/former", shipped: "/root/shipped"}
    done = run_unbooted(make_root(cache, suite), "sh", "-c", story, shared=shared)
    assert done.returncode == 0, done.stdout


def test_two_builds_are_equal(tree: Path, package: Path, tmp_path: Path) -> None:
    """Another folder, other file times and modes, another zone, language and umask; the same bytes."""
    elsewhere = Path(shutil.copytree(tree, tmp_path / "elsewhere"))
    for file in elsewhere.rglob("*"):
        os.utime(file, (1, 1))
        file.chmod(file.stat().st_mode & 0o700)
    circumstances = ("TZ=Asia/Kathmandu", "LC_ALL=C", "SOURCE_DATE_EPOCH=1")
    shell = ("sh", "-c", 'umask 077; exec "$@"', "sh")
    again = build(elsewhere, tmp_path / "again", "env", *circumstances, *shell)
    for suffix in ("_all.deb", ".tar.xz", ".dsc"):
        (ours,) = package.parent.glob(f"*{suffix}")
        assert (again.parent / ours.name).read_bytes() == ours.read_bytes(), ours.name


def test_a_fresh_install_waits_for_a_default_route_and_filters(bare: Machine) -> None:
    machine = bare
    _apt(machine, "install", "/root/current.deb")
    assert _state(machine, UNIT) == ("enabled", "active")
    assert _state(machine, EXPORTER) == ("disabled", "inactive")
    ours = [str(line["MESSAGE"]) for line in machine.journal(UNIT) if line.get("SYSLOG_IDENTIFIER") == "xdropd"]
    assert ours[0].startswith("no interface has a default route yet")
    assert not _is_attached(machine)
    assert json.loads(machine.run("xdropctl", "--json", "status").stdout)["degraded"] is False

    _connect(machine)
    wait_until(lambda: _is_attached(machine), within_s=_CHANGE_WITHIN_S)
    assert wire.answers(machine, VILLAIN)

    _block_villain(machine)
    wait_until(lambda: not wire.answers(machine, VILLAIN), within_s=_CHANGE_WITHIN_S)
    assert wire.answers(machine, NEIGHBOUR)
    assert f"on {wire.DEVICE}" in machine.run("systemctl", "status", "--no-pager", UNIT).stdout


@pytest.mark.parametrize(
    ("settings", "drop_in", "status", "reason"),
    [
        ("xdp_mode: native\n", "", 0, "tun0: has a default route and is left alone: it has no native mode"),
        ("interfaces: [tun0]\nxdp_mode: native\n", "", 69, "tun0: it has no native mode"),
        ("interfaces: auto\n", "SystemCallFilter=~bpf", 77, "use bpf(2): the kernel refuses it"),
    ],
    ids=["nothing to filter", "named all the same", "without bpf"],
)
def test_a_machine_without_xdp(bare: Machine, settings: str, drop_in: str, status: int, reason: str) -> None:
    """Runs, or has clearly failed, and the first line of the journal says why. Either way it is installed."""
    machine = bare
    machine.run("ip", "tuntap", "add", "tun0", "mode", "tun")
    machine.run("ip", "link", "set", "tun0", "up")
    machine.run("ip", "route", "replace", "default", "dev", "tun0")
    machine.run("mkdir", "--parents", "/etc/xdrop")
    machine.write("/etc/xdrop/xdropd.yaml", settings)
    if drop_in:
        service.drop_in(machine, "test", drop_in)
    since = machine.now()
    try:
        keep = ("--force-confold", "--install", "/root/current.deb")
        machine.run("dpkg", *keep)
        journal = machine.journal(UNIT, since)
        said = [str(line["MESSAGE"]) for line in journal if line.get("SYSLOG_IDENTIFIER") == "xdropd"]
        assert said[0].startswith(reason), said
        # The journal has the status of what has ended; the unit forgets it when its next start begins.
        ended = [line["EXIT_STATUS"] for line in journal if "EXIT_STATUS" in line]
        assert ended[:1] == ([str(status)] if status else [])
        assert _state(machine, UNIT) == ("enabled", "active" if status == 0 else "activating")
        assert int(service.prop(machine, "NRestarts")) <= 2  # after 2 s and 4 s: dpkg takes a while
    finally:
        service.undo_drop_ins(machine)
        machine.run("ip", "link", "delete", "tun0")


def test_no_headers_and_no_compiler_come_along(bare: Machine) -> None:
    machine = bare
    _apt(machine, "install", "/root/current.deb")
    said = machine.run("dpkg-query", "--show", "--showformat=${Package}\n").stdout.split()
    unwanted = r"linux-headers.*|linux-libc-dev|gcc|gcc-\d+|clang.*|g\+\+.*|tcc"
    assert [name for name in said if re.fullmatch(unwanted, name)] == []
    wanted = ("python3-bpfcc", "python3-numpy", "python3-urllib3", "python3-yaml", "python3-watchdog", "libbpf1")
    depends = machine.run("dpkg-query", "--show", "--showformat=${Depends}", "xdropd").stdout
    assert set(wanted) <= set(depends.split(", "))
    # What databases and `systemctl enable --now xdropd-exporter` need is there as well, where nobody says otherwise.
    recommends = machine.run("dpkg-query", "--show", "--showformat=${Recommends}", "xdropd").stdout
    assert recommends == "python3-maxminddb, python3-prometheus-client"


def test_an_upgrade_under_load_lets_nothing_through(bare: Machine) -> None:
    machine = bare
    _connect(machine)
    _apt(machine, "install", "/root/previous.deb")
    _block_villain(machine)
    edited = machine.read(BLOCKLIST)
    wait_until(lambda: not wire.answers(machine, VILLAIN), within_s=_CHANGE_WITHIN_S)
    machine.run("xdropctl", "block", "203.0.113.7", "--reason", "kept")
    machine.run("systemctl", "enable", "--now", "--quiet", EXPORTER)
    prepare(machine)
    before = _villains_packets(machine)
    held = service.held(machine)

    with Flood(machine) as flood:
        wait_until(lambda: _villains_packets(machine) > before, within_s=5)
        _apt(machine, "install", "/root/current.deb")
        after = _villains_packets(machine)
        wait_until(lambda: _villains_packets(machine) > after, within_s=5)
    outcome = flood.outcome
    print(f"\nupgrade of the package: {outcome}")
    assert outcome.rate >= AT_LEAST_A_SECOND, outcome
    assert outcome.passed == 0, outcome
    assert outcome.lost == 0, outcome
    assert 0.95 * outcome.sent < _villains_packets(machine) - before <= outcome.sent, outcome

    assert not _version(machine)[1].endswith("~previous")
    assert machine.read(BLOCKLIST) == edited
    assert json.loads(machine.run("xdropctl", "--json", "lookup", "203.0.113.7").stdout)["reason"] == "kept"
    assert _state(machine, UNIT) == ("enabled", "active")
    assert _state(machine, EXPORTER) == ("enabled", "active")
    assert Counter(kind for kind, _ in service.held(machine)) == Counter(kind for kind, _ in held)
    assert not held & _in_kernel(machine) - service.held(machine)


def test_removed_purged_and_installed_again(bare: Machine) -> None:
    machine = bare
    _connect(machine)
    _apt(machine, "install", "/root/current.deb")
    _block_villain(machine)
    wait_until(lambda: not wire.answers(machine, VILLAIN), within_s=_CHANGE_WITHIN_S)
    edited = machine.read(BLOCKLIST)
    held = service.held(machine)
    assert {kind for kind, _ in held & _in_kernel(machine)} == {"prog", "map", "link"}

    _apt(machine, "remove", "xdropd")
    assert not held & _in_kernel(machine)
    assert not _is_attached(machine)
    assert wire.answers(machine, VILLAIN)
    assert machine.read(BLOCKLIST) == edited
    on_disk = _ours_on_disk(machine)
    assert [path for path in on_disk if not path.startswith(("/etc/", "/var/lib/"))] == []

    _apt(machine, "install", "/root/current.deb")
    assert _state(machine, UNIT) == ("enabled", "active")
    assert not wire.answers(machine, VILLAIN)

    machine.write("/etc/xdrop/lists.d/theirs.netset", "203.0.113.7\n")
    held = service.held(machine)
    _apt(machine, "purge", "xdropd")
    assert not held & _in_kernel(machine)
    assert _ours_on_disk(machine) == ["/etc/xdrop"]  # for the list in it, which no package brought
    assert machine.run("find", "/etc/xdrop", "-type", "f").stdout.split() == ["/etc/xdrop/lists.d/theirs.netset"]

    _apt(machine, "install", "/root/current.deb")
    assert _state(machine, UNIT) == ("enabled", "active")
    assert wire.answers(machine, VILLAIN)

    machine.run("rm", "/etc/xdrop/lists.d/theirs.netset")
    _apt(machine, "purge", "xdropd")
    assert _ours_on_disk(machine) == []


def test_a_half_done_upgrade_keeps_dropping_and_recovers(bare: Machine) -> None:
    machine = bare
    _connect(machine)
    _apt(machine, "install", "/root/previous.deb")
    _block_villain(machine)
    wait_until(lambda: not wire.answers(machine, VILLAIN), within_s=_CHANGE_WITHIN_S)

    machine.run("dpkg", "--unpack", "/root/current.deb")
    assert _version(machine)[0] == "unpacked"
    assert not wire.answers(machine, VILLAIN)
    machine.run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", UNIT)  # the next one finds new files
    assert not wire.answers(machine, VILLAIN)

    machine.run("dpkg", "--configure", "--pending")
    assert _version(machine)[0] == "installed"
    assert _state(machine, UNIT) == ("enabled", "active")
    assert not wire.answers(machine, VILLAIN)
    assert wire.answers(machine, NEIGHBOUR)


def test_a_broken_list_fails_the_service_and_not_the_installation(bare: Machine) -> None:
    machine = bare
    _connect(machine)
    _apt(machine, "install", "/root/current.deb")
    _apt(machine, "remove", "xdropd")
    machine.run("rm", "--recursive", STATE)
    machine.write(BLOCKLIST, "block:\n  - 10.0.0.300\n")

    _apt(machine, "install", "/root/current.deb")
    assert _version(machine)[0] == "installed"
    shown = machine.run("systemctl", "show", "--property=ExecMainStatus,SubState,NRestarts", UNIT).stdout
    assert set(shown.split()) == {"ExecMainStatus=78", "SubState=failed", "NRestarts=0"}
    assert any(f"{BLOCKLIST}:2:5: error: " in str(line["MESSAGE"]) for line in machine.journal(UNIT))

    machine.write(BLOCKLIST, f"block: [{VILLAIN}]\n")
    machine.run("systemctl", "start", UNIT)
    assert not wire.answers(machine, VILLAIN)


def test_its_own_tests_pass(bare: Machine) -> None:
    """DEP-8, by autopkgtest's own runner, with this machine as the testbed."""
    machine = bare
    machine.copy_in(REPOSITORY / "debian", "/root/xdropd/debian")
    machine.write("/root/xdropd/debian/files", "")  # marks a built tree: nothing that only a build needs is asked for
    _connect(machine)
    machine.run("sh", "-c", "rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*")  # there is no network to wait for
    # This machine is thrown away, which the runner on it cannot know.
    runner = ("autopkgtest", "--ignore-restrictions=isolation-machine", "--no-built-binaries")
    done = machine.run(*runner, "/root/current.deb", "/root/xdropd", "--", "null", check=False, within_s=300)
    verdicts = dict(re.findall(r"^(\S+) +(PASS|FAIL|SKIP|FLAKY)\b", done.stdout, re.MULTILINE))
    assert verdicts == {"check-files": "PASS", "foreground": "PASS", "service": "PASS"}, done.stdout + done.stderr
