"""Metrics as users get them: a real Prometheus scrapes the real exporter of a real daemon, all inside one namespace."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from foreground import Daemon

from netns import Net, inside
from waiting import wait_until
from xdropd.host import fetched

VILLAIN = "198.51.100.66"
WATCHED = "198.51.100.67"
LIST = "https://lists.example/drop.txt"
SCRAPE_SECONDS = 1
DASHBOARD = Path(__file__).parents[2] / "docs" / "grafana" / "xdropd.json"
EXPORTER, PROMETHEUS = "127.0.0.1:9792", "127.0.0.1:9090"
URL = f"http://{EXPORTER}/metrics"

# The contract's table: names and their labels.
CONTRACT = {
    "xdropd_packets_total": {"interface", "verdict"},
    "xdropd_bytes_total": {"interface", "verdict"},
    "xdropd_entries": {"family"},
    "xdropd_reloads_total": {"result"},
    "xdropd_reload_duration_seconds": set(),
    "xdropd_last_reload_success_timestamp_seconds": set(),
    "xdropd_degraded": set(),
    "xdropd_state": {"state"},
    "xdropd_interface_attached": {"interface", "mode"},
    "xdropd_source_entries": {"source"},
    "xdropd_source_packets_total": {"source"},
    "xdropd_source_info": {"source", "action"},
    "xdropd_fetch_last_success_timestamp_seconds": {"url"},
    "xdropd_fetch_failures_total": {"url"},
    "xdropd_build_info": {"version"},
}


@pytest.fixture(scope="module")
def net() -> Iterator[Net]:
    with Net() as made:
        made.address(made.peer, f"{VILLAIN}/{made.length}")
        made.address(made.peer, f"{WATCHED}/{made.length}")
        yield made


@pytest.fixture(scope="module")
def daemon(net: Net, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("daemon")
    fetched.list_path(folder, LIST).write_text("192.0.2.0/24\n")
    fetched.write_state(folder, fetched.State(LIST, time.time(), failures_total=3))
    tried = folder / "tried.txt"
    tried.write_text(f"{WATCHED}\n")
    blocklist = (
        f"block:\n  - {VILLAIN}\n  - 203.0.113.0/24\n  - 2001:db8:bad::/48\n"
        f"include:\n  - {LIST}\n  - {{path: {tried}, action: monitor}}\n"
    )
    with Daemon(net, folder, blocklist, "--interface", net.device, "--fetched", str(folder)) as running:
        assert running.ctl("block", "192.0.2.1", "--source", "f2b").returncode == 0
        assert running.ctl("reload").returncode == 0
        yield running


def exporter_command(daemon: Daemon, listen: str) -> list[Any]:
    return [sys.executable, "-m", "xdropd.commands.xdropctl", "--socket", daemon.socket, "exporter", "--listen", listen]


def fetch(net: Net, url: str) -> tuple[int, str]:
    """HTTP status and text; 0 where nobody listens."""
    try:
        with inside(net.host), urllib.request.urlopen(url, timeout=10) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as problem:
        return problem.code, problem.read().decode()
    except urllib.error.URLError as problem:
        return 0, str(problem)


def get(net: Net, url: str) -> str:
    status, text = fetch(net, url)
    assert status == 200, text
    return text


def answers(net: Net, url: str) -> bool:
    return fetch(net, url)[0] == 200


@pytest.fixture(scope="module")
def exporter(net: Net, daemon: Daemon) -> Iterator["subprocess.Popen[str]"]:
    child = net.start(net.host, *map(str, exporter_command(daemon, EXPORTER)))
    wait_until(lambda: answers(net, URL), within_s=10)
    yield child
    assert child.poll() is None
    child.send_signal(signal.SIGTERM)
    assert child.wait(5) == 0


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            match = re.fullmatch(r"([a-z_]+)(?:\{(.*)\})? (\S+)", line)
            assert match, line
            labels = frozenset(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', match[2] or ""))
            found[match[1], labels] = float(match[3])
    return found


# ---- what is served ----


@pytest.mark.usefixtures("exporter")
def test_names_and_labels_are_those_of_the_contract(net: Net) -> None:
    text = get(net, URL)
    served: dict[str, set[str]] = {}
    for name, labels in samples(text):
        served.setdefault(name, set()).update(label for label, _ in labels)
    assert served == CONTRACT
    for name in CONTRACT:
        assert f"# HELP {name} " in text
        assert f"# TYPE {name} {'counter' if name.endswith('_total') else 'gauge'}\n" in text


@pytest.mark.usefixtures("exporter")
def test_promtool_is_content(net: Net) -> None:
    text = get(net, URL)
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.usefixtures("exporter")
def test_numbers_are_the_daemons(net: Net, daemon: Daemon) -> None:
    def numbers() -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        return samples(get(net, URL))

    def labels(**named: str) -> frozenset[tuple[str, str]]:
        return frozenset(named.items())

    before = numbers()
    net.run(net.peer, "ping", "-q", "-c3", "-i0.2", "-W0.3", "-I", VILLAIN, net.host_address, check=False)
    after = numbers()
    dropped = "xdropd_packets_total", labels(interface="eth0", verdict="dropped")
    of_file = "xdropd_source_packets_total", labels(source=str(daemon.blocklist))
    assert after[dropped] - before[dropped] == 3
    assert after[of_file] - before[of_file] == 3
    size = "xdropd_bytes_total", labels(interface="eth0", verdict="dropped")
    assert after[size] - before[size] == 3 * 98
    assert after["xdropd_entries", labels(family="ipv4")] == 5
    assert after["xdropd_entries", labels(family="ipv6")] == 1
    assert after["xdropd_source_entries", labels(source="f2b")] == 1
    assert after["xdropd_source_entries", labels(source=str(daemon.blocklist))] == 3
    assert after["xdropd_interface_attached", labels(interface="eth0", mode="native")] == 1
    assert after["xdropd_degraded", labels()] == 0, daemon.ctl("status").stdout
    assert after["xdropd_reloads_total", labels(result="ok")] >= 1
    assert abs(after["xdropd_last_reload_success_timestamp_seconds", labels()] - time.time()) < 600
    version = daemon.ctl("--version").stdout.split()[1]
    assert after["xdropd_build_info", labels(version=version)] == 1


@pytest.mark.usefixtures("exporter")
def test_packets_of_a_source_never_fall_when_entries_leave(net: Net, daemon: Daemon) -> None:
    name = ("xdropd_source_packets_total", frozenset({("source", "night")}))
    address = "198.51.100.68"
    net.address(net.peer, f"{address}/{net.length}")
    assert daemon.ctl("block", address, "--source", "night").returncode == 0
    net.run(net.peer, "ping", "-q", "-c2", "-i0.2", "-W0.3", "-I", address, net.host_address, check=False)
    assert samples(get(net, URL))[name] == 2
    assert daemon.ctl("flush", "--source", "night").returncode == 0
    assert daemon.ctl("reload").returncode == 0
    served = samples(get(net, URL))
    assert served[name] == 2
    assert served["xdropd_source_entries", name[1]] == 0


def test_it_needs_no_powers(net: Net, daemon: Daemon, exporter: "subprocess.Popen[str]") -> None:
    """Only what a member of the group may: to open the socket."""
    before = daemon.socket.stat()
    os.chown(daemon.socket, 0, 65534)
    for folder in daemon.socket.parents[:3]:
        folder.chmod(0o711)
    try:
        command = [
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "--bounding-set=-all",
            "--no-new-privs",
        ]
        child = net.start(net.host, *command, *map(str, exporter_command(daemon, "[::1]:9793")))
        wait_until(lambda: answers(net, "http://[::1]:9793/metrics"), within_s=10)
        status = Path(f"/proc/{child.pid}/status").read_text()
        assert re.search(r"^CapEff:\s0+$", status, re.MULTILINE)
    finally:
        os.chown(daemon.socket, before.st_uid, before.st_gid)


def test_a_scrape_fails_while_there_is_no_daemon(tmp_path: Path) -> None:
    with Net() as apart:
        daemon = Daemon(apart, tmp_path)
        child = apart.start(apart.host, *map(str, exporter_command(daemon, EXPORTER)))
        status, text = wait_until(lambda: served if (served := fetch(apart, URL))[0] else None, within_s=20)
        assert status == 503
        assert "does not answer" in text
        with daemon:
            assert fetch(apart, URL)[0] == 200
        assert fetch(apart, URL)[0] == 503
        assert child.poll() is None


def test_a_place_that_is_taken(net: Net, daemon: Daemon, exporter: "subprocess.Popen[str]") -> None:
    second = net.start(net.host, *map(str, exporter_command(daemon, EXPORTER)))
    said, _ = second.communicate(timeout=10)
    assert second.returncode == 69
    assert EXPORTER in said
    assert "--listen" in said


# ---- Prometheus and the dashboard ----


@pytest.fixture(scope="module")
def prometheus(net: Net, tmp_path_factory: pytest.TempPathFactory, exporter: "subprocess.Popen[str]") -> None:
    folder = tmp_path_factory.mktemp("prometheus")
    settings = folder / "prometheus.yml"
    settings.write_text(
        f"global: {{scrape_interval: {SCRAPE_SECONDS}s}}\n"
        "scrape_configs:\n"
        f"  - {{job_name: xdropd, static_configs: [{{targets: ['{EXPORTER}']}}]}}\n"
    )
    subprocess.run(["promtool", "check", "config", settings], check=True, capture_output=True)
    net.start(
        net.host,
        "prometheus",
        f"--config.file={settings}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={PROMETHEUS}",
        "--log.level=error",
    )
    wait_until(lambda: answers(net, f"http://{PROMETHEUS}/-/ready"), within_s=30)
    wait_until(lambda: asked(net, 'up{job="xdropd"} == 1'), within_s=30)


def asked(net: Net, query: str) -> list[dict[str, Any]]:
    """The series that a query gives now."""
    reply = json.loads(get(net, f"http://{PROMETHEUS}/api/v1/query?{urlencode({'query': query})}"))
    assert reply["status"] == "success", (query, reply)
    result = reply["data"]["result"]
    assert isinstance(result, list)
    return result


def expressions() -> list[str]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", [])]


@pytest.mark.usefixtures("prometheus")
def test_every_query_of_the_dashboard_returns_data(net: Net, daemon: Daemon) -> None:
    assert daemon.ctl("reload").returncode == 0
    for source in (VILLAIN, WATCHED):
        net.run(net.peer, "ping", "-q", "-c5", "-i0.2", "-W0.3", "-I", source, net.host_address, check=False)
    queries = [expression.replace("$__rate_interval", f"{4 * SCRAPE_SECONDS}s") for expression in expressions()]
    assert len(queries) >= 15
    for query in queries:
        wait_until(lambda query=query: asked(net, query), within_s=15, what=query)  # type: ignore[misc]
    dropped = next(query for query in queries if "source_packets" in query)
    assert {each["metric"]["source"] for each in asked(net, dropped)} >= {str(daemon.blocklist)}


@pytest.mark.usefixtures("prometheus")
def test_prometheus_knows_every_name_and_nothing_strange(net: Net) -> None:
    reply = json.loads(get(net, f"http://{PROMETHEUS}/api/v1/label/__name__/values"))
    assert {name for name in reply["data"] if name.startswith("xdropd")} == set(CONTRACT)
    (target,) = json.loads(get(net, f"http://{PROMETHEUS}/api/v1/targets"))["data"]["activeTargets"]
    assert (target["health"], target["lastError"]) == ("up", "")


def test_the_dashboard_speaks_of_the_contracts_metrics_only() -> None:
    for expression in expressions():
        assert set(re.findall(r"xdropd_[a-z_]+", expression)) <= set(CONTRACT), expression
