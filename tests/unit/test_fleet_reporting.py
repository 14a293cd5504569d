"""Reports to a small server that refuses some."""

import time

import pytest

from localserver import LocalServer
from waiting import wait_until
from xdropd.errors import LocalApiError
from xdropd.fleet.localapi import Identity, LocalApi
from xdropd.fleet.reporting import Reporting
from xdropd.fleet.reports import Reports
from xdropd.host.log import Log
from xdropd.text.crowdsec import Configuration, Machine


class Server(LocalServer):
    """One that refuses alerts with what `refuses` names, as it does where their text is nothing to it."""

    def __init__(self):
        super().__init__()
        self.refuses, self.status = "203.0.113.1", 500

    def answer_to(self, path):
        if path == "/v1/watchers/login":
            return b'{"code":200,"expire":"","token":"t"}'
        if path.startswith("/v1/decisions?"):
            return (self.status, b'{"message":"no"}') if f"value={self.refuses}&" in path else b'{"nbDeleted":"1"}'
        _, (alert,) = self.told[-1]
        is_refused = any(each["value"] == self.refuses for each in alert["decisions"])
        return (self.status, b'{"message":"no"}') if is_refused else (201, b'["1"]')


class Daemon:
    """Sources that block, or take back; `tags` of some."""

    def __init__(self, *sources, event="block", tags=None):
        self._sources, self._event, self._tags = sources, event, tags or {}

    def ask(self, request):
        assert request == {"verb": "status"}
        return {"sources": [{"name": name, "tag": self._tags.get(name)} for name in {*self._sources}]}

    def rows(self, request):
        if request["verb"] == "list":
            return
        yield {"event": "cursor", "cursor": "a.0"}
        for number, source in enumerate(self._sources, 1):
            yield {"event": self._event, "cursor": f"a.{number}", "source": source, "entry": f"203.0.113.{number}"}
        time.sleep(60)


@pytest.fixture
def server():
    with Server() as made:
        yield made


@pytest.mark.parametrize("event", ["block", "unblock"])
def test_a_report_that_the_server_refuses_holds_up_none_behind_it(server, capfd, event):
    configuration = Configuration(api_url=server.url, timeout=5.0)
    reports = Reports(("*",), "crowdsec", "web1")
    api, log = LocalApi(configuration, Identity("key")), Log("test")
    daemon = Daemon("xdropctl", "fail2ban-sshd", event=event)
    reporting = Reporting(reports, Machine("", "web1", "secret"), api, daemon, None, log)

    def turn():
        reporting.turn()
        return [entry for _, entry in (*reports.blocked, *reports.unblocked)]

    wait_until(lambda: turn() == ["203.0.113.1"] and reports.cursor == "a.2", within_s=10)
    assert "the server answers 500" in capfd.readouterr().err
    server.status = 403
    assert turn() == ["203.0.113.1"]
    server.refuses = ""
    assert turn() == []
    assert "the server takes reports again" in capfd.readouterr().err
    reporting.close()


@pytest.mark.parametrize("status", [401, 403])
def test_a_machine_that_is_not_known_is_told_as_one(status):
    """A key would be of no use to it."""
    with LocalServer() as server:
        api = LocalApi(Configuration(api_url=server.url, timeout=5.0), Identity("key"))
        for ask in (lambda: api.login("web1", "x"), lambda: api.alerts("t", []), lambda: api.delete("t", value="x")):
            server.answers = [(status, b'{"message":"no"}')]
            with pytest.raises(LocalApiError) as caught:
                ask()
            assert "bouncers" not in str(caught.value)
            assert "cscli machines add" in caught.value.hint
            assert "credentials_path" in caught.value.hint
            assert caught.value.status == status
        server.answers = [(403, b'{"message":"no"}')]
        with pytest.raises(LocalApiError, match="cscli bouncers add"), api.decisions(whole=True):
            pass


def test_what_the_companion_itself_puts_in_force_holds_up_no_report(server):
    configuration = Configuration(api_url=server.url, timeout=5.0)
    reports = Reports(("fail2ban-*",), "crowdsec", "web1")
    api, log = LocalApi(configuration, Identity("key")), Log("test")
    daemon = Daemon(*["crowdsec:CAPI"] * 50_000, "fail2ban-sshd")
    server.refuses = ""
    reporting = Reporting(reports, Machine("", "web1", "secret"), api, daemon, None, log)
    wait_until(lambda: reporting._heard.qsize() == 52, within_s=10)  # its first cursor, one for each thousand, and ours
    reporting.turn()
    assert [content[0]["scenario"] for path, content in server.told if path == "/v1/alerts"] == ["fail2ban-sshd@web1"]
    assert reports.cursor == "a.50001"
    reporting.close()


def test_what_another_companion_brought_is_not_reported_whatever_it_is_called(server):
    """As after `source` was renamed: what the server has told would go up again, as ours."""
    configuration = Configuration(api_url=server.url, timeout=5.0)
    reports = Reports(("*",), "fleet", "web1")
    api, log = LocalApi(configuration, Identity("key")), Log("test")
    daemon = Daemon("crowdsec:CAPI", "feed", tags={"crowdsec:CAPI": "xdropd-crowdsec crowdsec", "feed": "1"})
    server.refuses = ""
    reporting = Reporting(reports, Machine("", "web1", "secret"), api, daemon, None, log)
    wait_until(lambda: reporting._heard.qsize() == 2, within_s=10)
    reporting.turn()
    assert [content[0]["scenario"] for path, content in server.told if path == "/v1/alerts"] == ["feed@web1"]
    reporting.close()


def test_what_is_taken_back_and_blocked_anew_is_told_in_this_order(server):
    configuration = Configuration(api_url=server.url, timeout=5.0)
    reports = Reports(("*",), "crowdsec", "web1")
    api, log = LocalApi(configuration, Identity("key")), Log("test")
    reporting = Reporting(reports, Machine("", "web1", "secret"), api, Daemon(), None, log)
    for event in ("unblock", "block"):
        reports.take({"event": event, "cursor": "a.1", "source": "xdropctl", "entry": "203.0.113.9"})
    reporting.turn()
    assert [path.partition("?")[0] for path, _ in server.told] == ["/v1/watchers/login", "/v1/decisions", "/v1/alerts"]
    assert not reports
    reporting.close()
