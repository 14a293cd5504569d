"""Usage metrics: what is counted is told once, whatever restarts or fails; and only to a server that takes it."""

import time
from types import SimpleNamespace

import pytest

from localserver import LocalServer
from xdropd.errors import Unavailable
from xdropd.fleet.bans import Bans
from xdropd.fleet.decisions import Decision
from xdropd.fleet.localapi import Identity, LocalApi
from xdropd.fleet.usage import FILE, Usage
from xdropd.host.log import Log
from xdropd.host.statefolder import StateFolder
from xdropd.text.crowdsec import Configuration

TAKEN = (201, b"")


@pytest.fixture
def server():
    with LocalServer() as made:
        yield made


@pytest.fixture
def clock(monkeypatch):
    """Both clocks; they stand still until they are moved."""
    moment = SimpleNamespace(wall_s=time.time(), monotonic_s=time.monotonic())

    def on(seconds):
        moment.wall_s += seconds
        moment.monotonic_s += seconds

    moment.on = on
    monkeypatch.setattr("xdropd.fleet.usage.time.time", lambda: moment.wall_s)
    monkeypatch.setattr("xdropd.fleet.usage.time.monotonic", lambda: moment.monotonic_s)
    return moment


class Xdropd:
    """What `metrics` answers."""

    def __init__(self):
        self.totals = {"eth0": {"passed": [1000, 64000], "dropped": [10, 640]}}
        self.sources = {"crowdsec:CAPI": [7, 448], "crowdsec:cscli": [3, 192], "/etc/xdrop/blocklist.yaml": [5, 320]}
        self.state, self.is_away = "enforcing", False

    def metrics(self):
        if self.is_away:
            raise Unavailable("xdropd does not answer")
        sources = [{"name": name, "packets": each[0], "bytes": each[1]} for name, each in self.sources.items()]
        return sources, {"state": self.state, "interfaces": [{"name": n, "totals": t} for n, t in self.totals.items()]}

    def drop(self, packets):
        for counter in (self.totals["eth0"]["dropped"], self.sources["crowdsec:CAPI"]):
            counter[0] += packets
            counter[1] += 64 * packets


@pytest.fixture
def xdropd():
    return Xdropd()


@pytest.fixture
def bans():
    made = Bans()
    made.take(Decision(1, "CAPI", "192.0.2.1", 1 << 40, "a"))
    made.take(Decision(2, "CAPI", "2001:db8::/64", 1 << 40, "a"))
    return made


class Told:
    """A companion's usage metrics, and what a window of them says."""

    def __init__(self, server, clock, xdropd, bans, folder):
        self.server, self.clock, self.xdropd, self.bans = server, clock, xdropd, bans
        self.folder = folder
        self.start()

    def start(self):
        configuration = Configuration(api_url=self.server.url, timeout=5.0)
        api = LocalApi(configuration, Identity("key"))
        folder = StateFolder(self.folder) if self.folder else None
        self.usage = Usage(configuration, api, self.xdropd, folder, Log("test"))
        self.usage.turn(self.bans)

    def turn(self, answer=TAKEN, after_s=1000.0):
        """The values that the server is told, by name, unit and labels; None if it is not asked."""
        self.clock.on(after_s)
        self.server.answers, self.server.told = [answer], []
        self.usage.turn(self.bans)
        if not self.server.told:
            return None
        ((path, content),) = self.server.told
        assert path == "/v1/usage-metrics"
        (component,) = content["remediation_components"]
        (window,) = component["metrics"]
        self.component, self.window_s = component, window["meta"]["window_size_seconds"]
        return {(item["name"], item["unit"], *item["labels"].values()): item["value"] for item in window["items"]}


@pytest.fixture
def told(server, clock, xdropd, bans, tmp_path):
    return Told(server, clock, xdropd, bans, tmp_path)


DECISIONS = {("active_decisions", "ip", "CAPI", "ipv4"): 1, ("active_decisions", "ip", "CAPI", "ipv6"): 1}


def dropped(packets):
    drops = {("dropped", "packet", "CAPI"): packets, ("dropped", "byte", "CAPI"): 64 * packets}
    return {("processed", "packet"): packets, ("processed", "byte"): 64 * packets, **drops, **DECISIONS}


def test_what_is_told(told, clock, xdropd):
    began_s = clock.wall_s
    xdropd.drop(150)
    xdropd.totals["eth0"]["passed"] = [1025, 65500]
    assert told.turn() == {**dropped(150), ("processed", "packet"): 175, ("processed", "byte"): 64 * 150 + 1500}
    assert told.window_s == 1000
    assert told.component.keys() == {
        *("type", "version", "feature_flags", "utc_startup_timestamp", "os", "metrics"),
    }
    assert told.component["utc_startup_timestamp"] == int(began_s)
    assert told.component["os"].keys() == {"name", "family", "version"}


def test_it_is_told_now_and_then_and_only_what_is_new(told, xdropd):
    xdropd.drop(1)
    assert told.turn(after_s=800) is None
    assert told.turn(after_s=200) == dropped(1)
    assert told.turn(after_s=800) is None
    xdropd.drop(2)
    assert told.turn(after_s=200) == dropped(2)
    assert told.turn() == DECISIONS


@pytest.mark.parametrize("failure", [(500, b'{"message":"x"}'), (403, b""), lambda _: None])
def test_what_the_server_has_not_taken_is_told_later(told, xdropd, failure, capfd):
    xdropd.drop(1)
    assert told.turn(failure) == dropped(1)
    xdropd.drop(2)
    assert told.turn(failure) == dropped(3)
    assert told.turn() == dropped(3)
    assert told.window_s == 3000
    assert told.turn() == DECISIONS
    assert capfd.readouterr().err.count("they are told later") == 1


def test_a_server_that_is_too_old_is_asked_once_a_day(told, xdropd, capfd):
    xdropd.drop(1)
    assert told.turn((404, b'{"message":"page not found"}')) == dropped(1)
    assert (
        capfd.readouterr().err
        == "test: info: the server takes no usage metrics, as CrowdSec does from version 1.6.3 on\n"
    )
    assert told.turn(after_s=86_000) is None
    assert told.turn((404, b""), after_s=1000) == dropped(1)
    assert capfd.readouterr().err == ""
    assert told.turn(after_s=87_000) == dropped(1), "it is a newer one now"


def test_a_restart_of_the_companion_loses_nothing_and_waits_no_longer(told, xdropd):
    told.turn()
    xdropd.drop(1)
    told.clock.on(600)
    told.start()
    xdropd.drop(2)
    assert told.turn(after_s=200) is None
    assert told.turn(after_s=200) == dropped(3)
    assert told.window_s == 1000


def test_without_a_state_folder_it_begins_where_the_counters_are(server, clock, xdropd, bans):
    told = Told(server, clock, xdropd, bans, None)
    xdropd.drop(1)
    assert told.turn() == dropped(1)
    told.start()
    assert told.turn() == DECISIONS


@pytest.mark.parametrize(
    "kept", [b"", b"{", b"[]", b'{"at_s": 1}', b'{"at_s": 1, "processed": {"a": 1}, "dropped": {}}']
)
def test_a_file_that_makes_no_sense_is_told_and_begun_anew(told, xdropd, kept, capfd):
    told.turn()
    (told.folder / FILE).write_bytes(kept)
    told.start()
    assert f"{FILE}: " in capfd.readouterr().err
    xdropd.drop(1)
    assert told.turn() == dropped(1)


def test_counters_that_begin_anew(told, xdropd):
    told.turn()
    xdropd.totals = {"eth0": {"passed": [0, 0], "dropped": [0, 0]}}
    xdropd.sources = {"crowdsec:CAPI": [0, 0]}
    xdropd.drop(4)
    assert told.turn() == dropped(4)


def test_a_clock_that_is_set_back_holds_nothing_up(told, clock, xdropd):
    told.turn()
    clock.wall_s -= 86_400
    told.start()
    xdropd.drop(1)
    assert told.turn() == dropped(1)
    assert told.window_s == 1


def test_an_origin_that_has_nothing_left_is_told_as_such(told, bans):
    told.turn()
    for decision in (Decision(1, "CAPI", "192.0.2.1", 0, "a"), Decision(2, "CAPI", "2001:db8::/64", 0, "a")):
        bans.drop(decision)
    assert told.turn() == dict.fromkeys(DECISIONS, 0)


def test_xdropd_that_only_monitors_drops_nothing(told, xdropd):
    xdropd.state = "monitoring"
    xdropd.drop(1)
    assert told.turn() == {key: value for key, value in dropped(1).items() if key[0] != "dropped"}
    xdropd.state = "enforcing"
    xdropd.drop(1)
    assert told.turn() == dropped(1)


def test_xdropd_that_is_away_is_asked_soon_again(told, xdropd):
    xdropd.is_away = True
    assert told.turn() is None
    xdropd.is_away = False
    assert told.turn(after_s=0) == DECISIONS
