"""A fleet's decisions: a real CrowdSec server, the real companion, the real daemon, and all that happens to servers."""

import contextlib
import json
import math
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from companion import Companion
from foreground import Daemon
from lapi import KEY, Server
from othertime import OtherTime

from localserver import Answer, LocalServer
from netns import Net, inside
from waiting import wait_until

WITHIN_S = 30  # a server that was away for long is asked again after long
COMPLETE_AFTER_S = 8
ALLOWED = "203.0.113.200"
VILLAIN = "198.51.100.66"


@pytest.fixture(scope="module")
def net() -> Iterator[Net]:
    with Net() as made:
        yield made


@pytest.fixture(scope="module")
def daemon(net: Net, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(net, tmp_path_factory.mktemp("daemon"), f"block: []\nallow: [{ALLOWED}]\n") as running:
        yield running


@pytest.fixture
def server(net: Net, tmp_path: Path) -> Iterator[Server]:
    with Server(net.host, tmp_path / "server") as running:
        yield running


@pytest.fixture(autouse=True)
def _clean(daemon: Daemon) -> Iterator[None]:
    yield
    for source in {row["source"] for row in daemon.rows() if row["line"] is None}:
        daemon.ask("flush", source=source)


@pytest.fixture
def companion(net: Net, daemon: Daemon, server: Server, tmp_path: Path) -> Iterator[Companion]:
    with following(net, daemon, server, tmp_path) as running:
        yield running


_followers: dict[Path, Companion] = {}  # the last one of each daemon


def following(net: Net, daemon: Daemon, server: Server | LocalServer, folder: Path, more: str = "") -> Companion:
    configuration = f"api_url: {server.url}\napi_key: {KEY}\nupdate_frequency: 100ms\ntimeout: 1s\n{more}"
    _followers[daemon.socket] = Companion(net.host, folder, daemon.socket, configuration)
    return _followers[daemon.socket]


def blocked(daemon: Daemon) -> dict[str, str]:
    """Entries of the fleet and their sources."""
    return {row["entry"]: row["source"] for row in daemon.rows() if row["source"].startswith("crowdsec:")}


def soon(daemon: Daemon, *entries: str) -> None:
    """Exactly these are blocked on the fleet's behalf before long.

    The server's cursor skips what is decided while it answers, so that now and then only a complete answer has it.
    """
    complete_at_s = time.monotonic() + COMPLETE_AFTER_S

    def are_blocked() -> bool:
        nonlocal complete_at_s
        if set(blocked(daemon)) == set(entries):
            return True
        follower = _followers.get(daemon.socket)
        if follower and time.monotonic() > complete_at_s:
            complete_at_s = math.inf
            assert follower.process is not None
            follower.process.send_signal(signal.SIGHUP)  # rather than wait for the hour
        return False

    wait_until(are_blocked, within_s=WITHIN_S, what=f"blocked: {entries}")


def test_decisions_come_and_go(daemon: Daemon, server: Server, companion: Companion) -> None:
    server.decide("203.0.113.7", kind="captcha")
    server.decide("FR", scope="Country")
    server.decide("203.0.113.1", "2001:db8:0:0::1", "::ffff:203.0.113.2", "203.0.113.64/26", origin="cscli")
    server.decide("203.0.113.1", origin="CAPI", scenario="crowdsecurity/ssh-bf", kind="BAN")
    soon(daemon, "203.0.113.1", "2001:db8::1", "203.0.113.2", "203.0.113.64/26")

    def of_both() -> dict[str, dict[str, Any]]:
        return {row["source"]: row for row in daemon.rows(entry="203.0.113.1")}

    companion.process.send_signal(signal.SIGHUP)  # one of the two may have been skipped, see soon()
    wait_until(lambda: set(of_both()) == {"crowdsec:cscli", "crowdsec:CAPI"}, within_s=WITHIN_S)
    both = of_both()
    assert both["crowdsec:CAPI"]["reason"] == "crowdsecurity/ssh-bf (CAPI)"
    assert both["crowdsec:cscli"]["until"]
    server.delete(origin="cscli")
    soon(daemon, "203.0.113.1")
    assert set(of_both()) == {"crowdsec:CAPI"}


@pytest.mark.threat_model
def test_what_is_too_wide_or_allowed_is_told(daemon: Daemon, server: Server, companion: Companion) -> None:
    server.decide("0.0.0.0/0", ALLOWED, "203.0.113.3")
    soon(daemon, "203.0.113.3", ALLOWED)
    companion.says("0.0.0.0/0 is wider than what is taken here")
    companion.says(f"{ALLOWED} ")
    assert not daemon.lookup(ALLOWED)["blocked"]
    assert not daemon.lookup("198.51.100.77")["blocked"]


def test_a_start_takes_nothing_back_before_two_answers_agree(
    net: Net, daemon: Daemon, server: Server, tmp_path: Path
) -> None:
    server.decide("203.0.113.1", "203.0.113.2")
    with following(net, daemon, server, tmp_path) as first:
        soon(daemon, "203.0.113.1", "203.0.113.2")
        assert first.stop(signal.SIGKILL) == -signal.SIGKILL
    server.delete(value="203.0.113.2")
    server.decide("203.0.113.3")
    with following(net, daemon, server, tmp_path) as second:
        soon(daemon, "203.0.113.1", "203.0.113.3")
        second.says("all there is: 2 entries", 2)
        server.delete(origin="cscli")
        soon(daemon)


def test_what_a_server_does_without_a_word_is_found_out(
    net: Net, daemon: Daemon, server: Server, tmp_path: Path
) -> None:
    (alert,) = server.decide("203.0.113.1")
    server.decide("203.0.113.2")
    with following(net, daemon, server, tmp_path) as running:
        soon(daemon, "203.0.113.1", "203.0.113.2")
        server.as_machine("DELETE", f"/v1/alerts/{alert}")
        running.process.send_signal(signal.SIGHUP)
        soon(daemon, "203.0.113.2")
        server.delete(origin="cscli")
        soon(daemon)


@pytest.mark.threat_model
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_server_that_goes_takes_nothing_along(
    daemon: Daemon, server: Server, companion: Companion, how: signal.Signals
) -> None:
    server.decide("203.0.113.1")
    soon(daemon, "203.0.113.1")
    server.stop(how)
    companion.says("Connection refused; all that is blocked stays blocked")
    assert set(blocked(daemon)) == {"203.0.113.1"}
    server.start()
    server.decide("203.0.113.2")
    soon(daemon, "203.0.113.1", "203.0.113.2")
    companion.says("the server answers again")


@pytest.mark.threat_model
def test_a_server_that_hangs_is_waited_for(daemon: Daemon, server: Server, companion: Companion) -> None:
    server.decide("203.0.113.1")
    soon(daemon, "203.0.113.1")
    assert server.process is not None
    server.process.send_signal(signal.SIGSTOP)
    companion.says("has not answered for")  # of patience there is more where it asks for all there is
    assert set(blocked(daemon)) == {"203.0.113.1"}
    server.process.send_signal(signal.SIGCONT)
    server.decide("203.0.113.2")
    soon(daemon, "203.0.113.1", "203.0.113.2")


@pytest.mark.threat_model
def test_a_key_that_is_unknown_takes_nothing_back(
    net: Net, daemon: Daemon, server: Server, companion: Companion
) -> None:
    server.decide("203.0.113.1")
    soon(daemon, "203.0.113.1")
    server.cscli("bouncers", "delete", "xdropd")
    companion.says("the server does not know this key")
    companion.says("all that is blocked stays blocked")
    assert set(blocked(daemon)) == {"203.0.113.1"}
    server.cscli("bouncers", "add", "xdropd", "-k", KEY)
    server.decide("203.0.113.2")
    companion.process.send_signal(signal.SIGHUP)  # rather than wait for the minute
    soon(daemon, "203.0.113.1", "203.0.113.2")


@pytest.mark.threat_model
def test_a_database_that_is_wiped_takes_little_back_and_much_not_at_once(
    daemon: Daemon, server: Server, companion: Companion
) -> None:
    many = [f"10.1.{number >> 8}.{number & 255}" for number in range(300)]
    server.decide(*many)
    companion.process.send_signal(signal.SIGHUP)  # that took long enough for some to be skipped, see soon()
    soon(daemon, *many)
    server.stop()
    companion.says("all that is blocked stays blocked")  # or it might not notice, and ask for changes
    server.wipe()
    server.start()
    server.decide("203.0.113.1")
    companion.says("most of what was there, stay for now")
    server.decide("203.0.113.2")  # in force by the answer after that one
    soon(daemon, *many, "203.0.113.1", "203.0.113.2")


def test_two_companions_with_one_key_both_have_all_in_the_end(
    net: Net, daemon: Daemon, server: Server, companion: Companion, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other_daemon = Daemon(net, tmp_path / "other", "block: []\n", "--interface", "lo")
    with contextlib.ExitStack() as stack:
        stack.enter_context(other_daemon)
        other = stack.enter_context(following(net, other_daemon, server, tmp_path / "other"))
        entries = [f"203.0.113.{number}" for number in range(1, 20)]
        for entry in entries:
            server.decide(entry)
        for each in (companion, other):
            each.process.send_signal(signal.SIGHUP)  # rather than wait for the hour
        soon(daemon, *entries)
        soon(other_daemon, *entries)


def test_what_only_somebody_else_with_the_same_key_was_told_is_in_force_soon(
    daemon: Daemon, server: Server, companion: Companion
) -> None:
    server.decide("203.0.113.1")
    soon(daemon, "203.0.113.1")
    some_polls(server)
    companion.process.send_signal(signal.SIGSTOP)
    server.decide("203.0.113.2")
    told = server.request("GET", "/v1/decisions/stream", **{"X-Api-Key": KEY})[1]["new"]
    assert [each["value"] for each in told] == ["203.0.113.2"]
    companion.process.send_signal(signal.SIGCONT)
    server.decide("203.0.113.3")
    companion.says("numbers of decisions are skipped")
    companion.says("all there is: 3 entries, 3 of cscli; 1 of them the server had not told before")
    soon(daemon, "203.0.113.1", "203.0.113.2", "203.0.113.3")


def some_polls(server: Server) -> None:
    """For what has changed."""
    before = server.log.count("/stream?dedup")
    wait_until(lambda: server.log.count("/stream?dedup") > before + 3, within_s=WITHIN_S)


@pytest.mark.threat_model
def test_a_clock_of_the_server_that_is_set_back_hides_nothing_for_long(
    net: Net, daemon: Daemon, tmp_path: Path
) -> None:
    clock = OtherTime(tmp_path)
    with Server(net.host, tmp_path / "server", environment=clock.environment) as server:
        server.decide("203.0.113.1", "203.0.113.2")
        with following(net, daemon, server, tmp_path) as companion:
            soon(daemon, "203.0.113.1", "203.0.113.2")
            some_polls(server)
            companion.process.send_signal(signal.SIGSTOP)
            clock.shift(-3600)
            server.decide("203.0.113.3")
            companion.process.send_signal(signal.SIGCONT)
            some_polls(server)
            assert set(blocked(daemon)) == {"203.0.113.1", "203.0.113.2"}, "the server keeps the third to itself"
            server.decide("203.0.113.4")
            companion.says("numbers of decisions are skipped")
            companion.says("all there is: 4 entries, 4 of cscli; 1 of them the server had not told before")
            assert "lacks them as well" not in companion.log
            server.delete(value="203.0.113.2")
            soon(daemon, "203.0.113.1", "203.0.113.3", "203.0.113.4")
            clock.shift(0)
            server.decide("203.0.113.5")
            server.delete(value="203.0.113.1")
            soon(daemon, "203.0.113.3", "203.0.113.4", "203.0.113.5")


def test_what_somebody_flushes_is_there_again_with_the_next_complete_answer(
    net: Net, daemon: Daemon, server: Server, companion: Companion
) -> None:
    server.decide("203.0.113.1")
    soon(daemon, "203.0.113.1")
    daemon.ask("flush", source="crowdsec:cscli")
    companion.process.send_signal(signal.SIGHUP)
    soon(daemon, "203.0.113.1")


def test_what_is_blocked_here_becomes_a_decision_for_all(
    net: Net, daemon: Daemon, server: Server, tmp_path: Path
) -> None:
    server.cscli("machines", "add", "web1", "--password", "secret", "-f", f"{tmp_path}/machine.yaml", "-u", server.url)
    server.decide("203.0.113.9")
    daemon.ask("block", entries=["203.0.113.10"], source="xdropctl")  # before anybody listened
    more = f"report: ['*']\ncredentials_path: {tmp_path}/machine.yaml\n"
    with following(net, daemon, server, tmp_path, more) as running:

        def reported(*entries: str) -> None:
            wait_until(lambda: _reported(server) == set(entries), within_s=WITHIN_S, what=f"{entries}\n{running.log}")

        reported("203.0.113.10")
        daemon.ask("block", entries=["203.0.113.11", "203.0.113.64/26"], source="fail2ban-sshd", seconds=3600)
        reported("203.0.113.10", "203.0.113.11", "203.0.113.64/26")
        told = {each["value"]: each for each in server.decisions() if each["origin"] == "xdropd"}
        assert told["203.0.113.11"]["scenario"] == "fail2ban-sshd@web1"
        assert told["203.0.113.11"]["duration"].startswith("59m")
        assert told["203.0.113.64/26"]["scope"] == "Range"
        daemon.ask("block", entries=["203.0.113.128-203.0.113.130"], source="xdropctl")
        ranges = "203.0.113.128/31", "203.0.113.130"  # for which the server has no word
        reported("203.0.113.10", "203.0.113.11", "203.0.113.64/26", *ranges)
        daemon.ask("unblock", entries=["203.0.113.128-203.0.113.130"], source="xdropctl")
        reported("203.0.113.10", "203.0.113.11", "203.0.113.64/26")
        running.process.send_signal(signal.SIGHUP)
        running.says("the configuration is read again")
        server.decide("203.0.113.11", origin="xdropd", scenario="fail2ban-sshd@web2")
        server.stop()  # and with it every token is void
        daemon.ask("unblock", entries=["203.0.113.11"], source="fail2ban-sshd")
        daemon.ask("block", entries=["203.0.113.12"], source="fail2ban-sshd")
        running.says("reports wait")
        assert running.stop(signal.SIGKILL) == -signal.SIGKILL
        server.start()
        running.start()
        reported("203.0.113.10", "203.0.113.11", "203.0.113.12", "203.0.113.64/26")
        # What is blocked is told before what is taken back.
        wait_until(lambda: _scenarios(server, "203.0.113.11") == {"fail2ban-sshd@web2"}, within_s=WITHIN_S)


def _reported(server: Server) -> set[str]:
    return {each["value"] for each in server.decisions() if each["origin"] == "xdropd"}


def _scenarios(server: Server, value: str) -> set[str]:
    """The server keeps the decisions of an alert that it has refused, "database is locked": they may be there twice."""
    return {each["scenario"] for each in server.decisions() if each["value"] == value}


class NewerServer(LocalServer):
    """One that takes usage metrics, and has one decision."""

    def answer_to(self, path: str) -> Answer:
        if path == "/v1/usage-metrics":
            return 201, b""
        decision = '{"duration":"4h","id":1,"origin":"CAPI","scenario":"ssh","scope":"Ip","type":"ban","value":"%s"}'
        return f'{{"deleted":null,"new":[{decision % VILLAIN}]}}'.encode()

    def sums(self) -> Counter[tuple[str, ...]]:
        """All that was told, by name, unit and labels."""
        told: Counter[tuple[str, ...]] = Counter()
        for _, content in self.told:
            for item in content["remediation_components"][0]["metrics"][0]["items"]:
                told[item["name"], item["unit"], *item["labels"].values()] += item["value"]
        return told


def test_a_newer_server_is_told_what_is_dropped_by_origin(net: Net, daemon: Daemon, tmp_path: Path) -> None:
    net.address(net.peer, f"{VILLAIN}/{net.length}")

    def ping(times: int) -> None:
        net.run(net.peer, "ping", "-q", f"-c{times}", "-i0.2", "-W0.2", "-I", VILLAIN, net.host_address, check=False)

    def dropped_in(kept: Path) -> int:
        return int(json.loads(kept.read_bytes())["dropped"]["CAPI"][0])

    def is_told(packets: int) -> None:
        dropped = {("dropped", "packet", "CAPI"): packets, ("dropped", "byte", "CAPI"): 98 * packets}
        wait_until(lambda: dropped.items() <= server.sums().items(), within_s=WITHIN_S, what=f"{server.sums()}")

    with inside(net.host):
        server = NewerServer()
    with server, following(net, daemon, server, tmp_path, "usage_metrics: 1s\n") as companion:
        soon(daemon, VILLAIN)
        kept = tmp_path / "companion" / "usage.json"
        wait_until(kept.exists, within_s=WITHIN_S)
        before = dropped_in(kept)
        ping(3)
        is_told(3)
        wait_until(lambda: dropped_in(kept) == before + 3, within_s=WITHIN_S)  # one that ends before tells it again
        assert server.sums()["processed", "packet"] >= 3
        assert server.sums()["active_decisions", "ip", "CAPI", "ipv4"] >= 1
        companion.stop()
        ping(2)
        companion.start()
        is_told(5)


def test_an_older_server_takes_no_usage_metrics_and_is_not_pestered(
    net: Net, daemon: Daemon, server: Server, tmp_path: Path
) -> None:
    with following(net, daemon, server, tmp_path, "usage_metrics: 1s\n") as companion:
        companion.says("info: the server takes no usage metrics")
        server.decide("203.0.113.1")
        soon(daemon, "203.0.113.1")
        time.sleep(2)
        assert companion.log.count("usage metrics") == 1
        assert server.log.count("/v1/usage-metrics") == 1


@pytest.mark.threat_model
def test_a_certificate_says_who_asks(net: Net, daemon: Daemon, tmp_path: Path) -> None:
    folder = tmp_path / "certificates"
    folder.mkdir()
    script = """\
openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 1 -subj /CN=ca
for who in server bouncer-ou; do
    openssl req -newkey rsa:2048 -nodes -keyout $who.key -out $who.csr -subj /OU=$who/CN=$who
    printf 'subjectAltName=IP:127.0.0.1\\nextendedKeyUsage=serverAuth,clientAuth\\n' > extensions
    openssl x509 -req -in $who.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 1 -extfile extensions \\
        -out $who.pem
done
"""
    subprocess.run(["bash", "-ec", script], cwd=folder, check=True, capture_output=True)
    tls = (
        f"cert_file: {folder}/server.pem, key_file: {folder}/server.key, ca_cert_path: {folder}/ca.pem",
        "client_verification: VerifyClientCertIfGiven, bouncers_allowed_ou: [bouncer-ou], agents_allowed_ou: [agent]",
    )
    with Server(net.host, tmp_path / "server", tls=tls) as server:
        server.decide("203.0.113.1")
        who = f"cert_path: {folder}/bouncer-ou.pem\nkey_path: {folder}/bouncer-ou.key\n"
        configuration = f"api_url: {server.url}\nupdate_frequency: 100ms\n{who}"
        with Companion(net.host, tmp_path, daemon.socket, configuration) as running:
            running.says("the certificate of 127.0.0.1:8090 is not accepted")
            running.configuration.write_text(f"{configuration}ca_cert_path: {folder}/ca.pem\n")
            running.process.send_signal(signal.SIGHUP)
            soon(daemon, "203.0.113.1")
            server.decide("203.0.113.2")
            running.configuration.write_text(f"{configuration}insecure_skip_verify: true\n")
            running.process.send_signal(signal.SIGHUP)
            running.says("insecure_skip_verify: whoever answers at api_url decides what is blocked here")
            soon(daemon, "203.0.113.1", "203.0.113.2")


def test_a_configuration_with_a_mistake_is_no_start_and_no_end(
    net: Net, daemon: Daemon, server: Server, companion: Companion, tmp_path: Path
) -> None:
    server.decide("203.0.113.1")
    soon(daemon, "203.0.113.1")
    companion.configuration.write_text("api_kye: x\n")
    companion.process.send_signal(signal.SIGHUP)
    companion.says("crowdsec.yaml:1:1: error: unknown key 'api_kye', did you mean 'api_key'?")
    companion.says("the configuration stays as it was")
    server.decide("203.0.113.2")
    soon(daemon, "203.0.113.1", "203.0.113.2")
    companion.stop()
    companion.start()
    assert companion.process.wait(WITHIN_S) == 78
