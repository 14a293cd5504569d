"""xdropd-fetch against servers of all kinds, in a namespace: what it takes, what it refuses and how it tells."""

import gzip
import hashlib
import io
import itertools
import json
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from webserver import Request, WebServer, answer, certificate, chunked, packed

from netns import Net, inside
from waiting import wait_until
from xdropd.fetch.attempt import Limits
from xdropd.fetch.fetcher import Fetcher
from xdropd.host import fetched
from xdropd.host.fetched import Wanted
from xdropd.host.log import Log

LIST = b"# drop\n192.0.2.1\n198.51.100.128/25\n"
LIMITS = Limits(1 << 20, 2.0, 20.0)
OTHER = "198.51.100.3"


@pytest.fixture(scope="module")
def net() -> Iterator[Net]:
    with Net() as net:
        net.address(net.peer, f"{OTHER}/24")
        yield net


@pytest.fixture
def server(net: Net) -> Iterator[WebServer]:
    with WebServer(net.peer, net.peer_address) as server:
        yield server


class Folder:
    """Where the fetcher of a test puts what it fetches from the host's namespace."""

    def __init__(self, net: Net, path: Path) -> None:
        self.path = path
        self._net = net

    def fetch(self, *wanted: Wanted | str, limits: Limits = LIMITS) -> list[str]:
        """What went wrong with each of these, "" if nothing did."""
        all_wanted = [Wanted(each, 3600) if isinstance(each, str) else each for each in wanted]
        fetcher = Fetcher(self.path, Log(), limits)
        with inside(self._net.host), fetcher.alone():
            results = fetcher.fetch(all_wanted)
        left = {path.name for path in self.path.iterdir()}
        assert left <= {f"{fetched.name_of(url)}.{kind}" for url in self.urls() for kind in ("list", "json")}
        return [results[each.url] for each in all_wanted]

    def urls(self) -> list[str]:
        return [state.url for state in fetched.read_states(self.path)]

    def content(self, url: str) -> bytes | None:
        path = fetched.list_path(self.path, url)
        return path.read_bytes() if path.exists() else None

    def state(self, url: str) -> fetched.State:
        found = fetched.read_state(self.path, url)
        assert found is not None
        return found


@pytest.fixture
def folder(net: Net, tmp_path: Path) -> Folder:
    return Folder(net, tmp_path / "fetched")


def _zip(data: bytes) -> bytes:
    into = io.BytesIO()
    with zipfile.ZipFile(into, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("drop.txt", data)
    return into.getvalue()


@pytest.mark.parametrize(
    "said",
    [
        answer(LIST),
        b"HTTP/1.0 200 OK\r\n\r\n" + LIST,
        chunked(LIST[:5], LIST[5:]),
        packed(LIST),
        answer(gzip.compress(LIST)),
        answer(gzip.compress(gzip.compress(LIST)), Content_Encoding="x-gzip"),
        answer(_zip(LIST), Content_Type="text/html"),
        b"HTTP/1.1 100 Continue\r\n\r\n" + answer(LIST),
    ],
    ids=["length", "close", "chunks", "coded", "gz", "gz-coded", "zip", "continue"],
)
def test_a_list_comes(server: WebServer, folder: Folder, said: bytes) -> None:
    url = f"{server.url}/drop.txt"
    server.answers["/drop.txt"] = said
    assert folder.fetch(url) == [""]
    assert folder.content(url) == LIST
    state = folder.state(url)
    assert (state.failure, state.failures, state.interval_s) == (None, 0, 3600)
    assert state.fetched_at == state.tried_at
    assert [oct(path.stat().st_mode & 0o777) for path in sorted(folder.path.iterdir())] == ["0o644", "0o644"]
    (request,) = server.requests
    assert request.headers["User-Agent"].startswith("xdropd-fetch/")
    assert "If-None-Match" not in request.headers


BOMB = gzip.compress(bytes(8 << 20))

REFUSED = {
    "empty": (answer(b""), "it is empty"),
    "blank": (answer(b"\n\n"), "it is empty"),
    "polite": (answer(b"you can only fetch every 30 minutes\n"), "'you can only fetch every 30 minutes'"),
    "page": (answer(b"<!DOCTYPE html><title>Sign in</title>"), "it is a web page and no list: 'Sign in'"),
    "half": (answer(LIST, Content_Length=str(2 * len(LIST))), "it was cut off"),
    "half-chunk": (chunked(LIST, end=b"100\r\n192.0.2.2\n"), "it was cut off"),
    "no-last-chunk": (chunked(LIST, end=b""), "it was cut off"),
    "half-coded": (answer(gzip.compress(LIST)[:-9], Content_Encoding="gzip"), "in the middle of its gzip coding"),
    "badly-coded": (answer(LIST, Content_Encoding="gzip"), "its gzip coding is damaged"),
    "odd-coding": (answer(LIST, Content_Encoding="br"), "Content-Encoding 'br'"),
    "two-lengths": (answer(LIST, Content_Length="10, 11"), "."),
    "large": (answer(b"192.0.2.1\n" * 200_000), "it has more than 1 MiB"),
    "says-large": (answer(b"", Content_Length="999999999999"), "it has more than 1 MiB"),
    "says-larger-than-numbers": (answer(b"", Content_Length="9" * 5000), "it has more than 1 MiB"),
    "endless": (chunked(*[b"192.0.2.1\n" * 1000] * 200, end=b""), "it has more than 1 MiB"),
    "bomb-coded": (answer(BOMB, Content_Encoding="gzip"), "it has more than 1 MiB"),
    "bomb": (answer(BOMB), "it unpacks to more than 1 MiB"),
    "bomb-zip": (answer(_zip(bytes(8 << 20))), "it unpacks to more than 1 MiB"),
    "bomb-twice": (answer(gzip.compress(BOMB)), "it is no list"),
    "not-found": (answer(LIST, "404 Not Found"), "the server answers 404 Not Found"),
    "forbidden": (answer(LIST, "403 Forbidden"), "'headers: FILE'"),
    "partial": (answer(LIST, "206 Partial Content"), "the server answers 206"),
    "not-modified": (answer(b"", "304 Not Modified"), "the server answers 304"),
    "odd-status": (answer(LIST, "799 Odd"), "the server answers 799"),
    "no-http": (b"SSH-2.0-OpenSSH_9.2\r\n", "is not HTTP"),
    "nothing": (b"", "is not HTTP, or ends too early: 'Remote end closed connection without response'"),
    "many-headers": (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n", "is not HTTP"),
    "long-header": (b"HTTP/1.1 200 OK\r\nA: " + b"b" * 100_000 + b"\r\n\r\n", "is not HTTP"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.threat_model
def test_what_is_no_list_changes_nothing(server: WebServer, folder: Folder, name: str) -> None:
    said, why = REFUSED[name]
    url = f"{server.url}/drop.txt"
    server.answers["/drop.txt"] = said
    (failure,) = folder.fetch(url)
    assert failure
    assert why in failure
    assert folder.content(url) is None
    server.answers["/drop.txt"] = answer(LIST)
    assert folder.fetch(url) == [""]
    came = folder.state(url)
    server.answers["/drop.txt"] = said
    assert folder.fetch(url) == [failure]
    assert folder.content(url) == LIST
    state = folder.state(url)
    assert (state.fetched_at, state.changed_at) == (came.fetched_at, came.changed_at)
    assert (state.failures, state.failures_total, state.failure) == (1, 2, failure)
    assert state.next_at is not None
    assert state.tried_at is not None
    assert state.next_at - state.tried_at >= 60


def test_conditions_and_what_is_not_modified(server: WebServer, folder: Folder) -> None:
    url = f"{server.url}/drop.txt"
    server.answers["/drop.txt"] = answer(LIST, ETag='W/"1"', Last_Modified="Sun, 29 Nov 2026 10:00:00 GMT")
    assert folder.fetch(url) == [""]
    first = folder.state(url)
    inode = fetched.list_path(folder.path, url).stat().st_ino
    server.answers["/drop.txt"] = answer(b"", "304 Not Modified", ETag='"2"', Cache_Control="max-age=7200")
    assert folder.fetch(url) == [""]
    asked = server.requests[1].headers
    assert (asked["If-None-Match"], asked["If-Modified-Since"]) == ('W/"1"', "Sun, 29 Nov 2026 10:00:00 GMT")
    second = folder.state(url)
    assert (second.etag, second.last_modified, second.interval_s) == ('"2"', first.last_modified, 7200)
    assert second.fetched_at > first.fetched_at
    assert second.changed_at == first.changed_at
    assert second.next_at - second.fetched_at >= 7200
    server.answers["/drop.txt"] = answer(LIST)
    assert folder.fetch(url) == [""]
    assert fetched.list_path(folder.path, url).stat().st_ino == inode, "the same content does not come as another file"
    assert folder.state(url).etag is None
    fetched.list_path(folder.path, url).unlink()
    assert folder.fetch(url) == [""]
    assert "If-None-Match" not in server.requests[-1].headers
    assert folder.content(url) == LIST


def test_a_server_that_wants_to_be_left_alone(server: WebServer, folder: Folder) -> None:
    url = f"{server.url}/drop.txt"
    server.answers["/drop.txt"] = answer(b"", "429 Too Many Requests", Retry_After="7200")
    assert folder.fetch(url) == ["the server answers 429 Too Many Requests"]
    state = folder.state(url)
    assert 7200 <= state.next_at - state.tried_at <= 7200 * 1.05 + 1
    assert Fetcher(folder.path, Log()).due([Wanted(url, 3600)]) == []
    assert Fetcher(folder.path, Log()).due([Wanted(url, 3600, asked="now")]) != []


@pytest.mark.parametrize("status", ["403 Forbidden", "429 Too Many Requests"])
def test_who_is_sent_away_without_a_word_waits_an_hour(server: WebServer, folder: Folder, status: str) -> None:
    url = f"{server.url}/drop.txt"
    server.answers["/drop.txt"] = answer(b"", status)
    folder.fetch(Wanted(url, 86_400))
    state = folder.state(url)
    assert 3600 <= state.next_at - state.tried_at <= 3600 * 1.25 + 1


@pytest.mark.threat_model
def test_redirects(server: WebServer, folder: Folder, net: Net, tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("Authorization: Bearer t0ken\n")
    secret.chmod(0o600)
    for step in range(1, 6):
        server.answers[f"/{step}"] = answer(b"", f"30{2 if step % 2 else 7} Moved", Location=f"/{step + 1}")
    server.answers["/6"] = answer(LIST)
    assert folder.fetch(Wanted(f"{server.url}/1", 3600, str(secret))) == [""]
    assert {request.headers["Authorization"] for request in server.requests} == {"Bearer t0ken"}
    server.answers["/0"] = answer(b"", "301 Moved", Location="/1")
    assert folder.fetch(f"{server.url}/0") == ["it redirects more than 5 times"]
    with WebServer(net.peer, OTHER) as other:
        other.answers["/drop.txt"] = answer(LIST)
        server.answers["/away"] = answer(b"", "302 Found", Location=f"{other.url}/drop.txt")
        assert folder.fetch(Wanted(f"{server.url}/away", 3600, str(secret))) == [""]
        assert "Authorization" not in other.requests[0].headers, "a token is for its own host"
    assert server.requests[-1].headers["Authorization"] == "Bearer t0ken"


@pytest.mark.parametrize(
    ("location", "why"),
    [
        ("file:///etc/passwd", "neither http nor https: 'file:///etc/passwd'"),
        ("ftp://198.51.100.3/drop.txt", "neither http nor https"),
        ("http://[::1/drop.txt", "no URL"),
        ("http://[::::]/drop.txt", "no URL"),
        ("http://198.51.100.3:99999/drop.txt", "no URL"),
    ],
)
@pytest.mark.threat_model
def test_where_a_redirect_may_not_lead(server: WebServer, folder: Folder, location: str, why: str) -> None:
    server.answers["/drop.txt"] = answer(b"", "302 Found", Location=location)
    (failure,) = folder.fetch(f"{server.url}/drop.txt")
    assert why in failure


@pytest.mark.threat_model
def test_tls(net: Net, folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = certificate(tmp_path, net.peer_address)
    wrong = certificate(tmp_path, "other.example")
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(right.read_bytes() + wrong.read_bytes())
    with (
        WebServer(net.peer, net.peer_address, 443, right) as server,
        WebServer(net.peer, OTHER, 443, wrong) as misnamed,
        WebServer(net.peer, net.peer_address) as plain,
    ):
        for each in (server, misnamed, plain):
            each.answers["/drop.txt"] = answer(LIST)
        (failure,) = folder.fetch(f"{server.url}/drop.txt")
        assert "certificate of 198.51.100.2 is not accepted: self-signed certificate" in failure
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        assert folder.fetch(f"{server.url}/drop.txt") == [""]
        server.answers["/cut"] = b"HTTP/1.0 200 OK\r\n\r\n" + LIST  # Python's servers end a connection, and not TLS
        (failure,) = folder.fetch(f"{server.url}/cut")
        assert "it was cut off: the connection with 198.51.100.2 ends without the end of TLS" in failure
        (failure,) = folder.fetch(f"{misnamed.url}/drop.txt")
        assert "certificate of 198.51.100.3 is not accepted: " in failure
        assert "match" in failure
        assert misnamed.requests == []
        server.answers["/down"] = answer(b"", "302 Found", Location=f"{plain.url}/drop.txt")
        (failure,) = folder.fetch(f"{server.url}/down")
        assert "redirects from https to http" in failure
        assert plain.requests == []
        plain.answers["/up"] = answer(b"", "302 Found", Location=f"{server.url}/drop.txt")
        assert folder.fetch(f"{plain.url}/up") == [""]
        (failure,) = folder.fetch(f"https://{plain.url[7:]}:80/drop.txt")
        assert "TLS" in failure


@pytest.mark.threat_model
def test_silence_and_a_trickle_end(server: WebServer, folder: Folder) -> None:
    head = answer(b"", Content_Length="100000")
    server.answers["/mute"] = lambda _: server.slowly([b"", head], 30)
    server.answers["/stops"] = lambda _: server.slowly([head + LIST, b"x"], 30)
    server.answers["/trickles"] = lambda _: server.slowly(itertools.chain([head], itertools.repeat(b"1")), 0.2)
    server.answers["/slow-head"] = lambda _: server.slowly(
        itertools.chain([b"HTTP/1.1 200 OK\r\nA: "], itertools.repeat(b"b")), 0.2
    )
    mute, stops, trickles, slow_head = (f"{server.url}/{name}" for name in ("mute", "stops", "trickles", "slow-head"))
    limits = LIMITS._replace(silence_s=0.5)
    assert folder.fetch(mute, stops, limits=limits) == ["nothing came from 198.51.100.2 for 0.5 seconds"] * 2
    limits = LIMITS._replace(silence_s=20.0, whole_s=1.5)
    assert folder.fetch(trickles, slow_head, limits=limits) == ["it took longer than 1.5 seconds"] * 2


def test_nobody_there(server: WebServer, folder: Folder, net: Net) -> None:
    refused, silent, nameless = folder.fetch(
        f"http://{net.peer_address}:81/drop.txt", "http://198.51.100.77/drop.txt", "http://nowhere.invalid/drop.txt"
    )
    assert refused == "198.51.100.2: Connection refused"
    assert silent in ("198.51.100.77 does not answer", "198.51.100.77: No route to host")
    assert "the name nowhere.invalid has no address" in nameless
    assert folder.state("http://nowhere.invalid/drop.txt").next_at is not None


def test_what_is_no_url_stops_no_other(server: WebServer, folder: Folder) -> None:
    server.answers["/drop.txt"] = answer(LIST)
    urls = "http://[::::]/drop.txt", "http://198.51.100.2:99999/drop.txt", f"{server.url}/drop.txt"
    no_address, no_port, fine = folder.fetch(*urls)
    assert "does not appear to be an IPv4 or IPv6 address" in no_address
    assert "Port out of range" in no_port
    assert fine == ""


def test_a_header_of_ours_may_be_said_otherwise(server: WebServer, folder: Folder, tmp_path: Path) -> None:
    """Whatever its case, it goes once."""
    headers = tmp_path / "headers"
    headers.write_text("user-agent: friend of the publisher\n")
    headers.chmod(0o600)
    server.answers["/drop.txt"] = answer(LIST)
    assert folder.fetch(Wanted(f"{server.url}/drop.txt", 3600, str(headers))) == [""]
    (request,) = server.requests
    assert request.headers.get_all("User-Agent") == ["friend of the publisher"]


def test_one_at_a_time_of_a_host_and_hosts_side_by_side(server: WebServer, folder: Folder, net: Net) -> None:
    both = threading.Barrier(2, timeout=10)

    def met(_: Request) -> bytes:
        both.wait()
        return answer(LIST)

    with WebServer(net.peer, OTHER) as other:
        for number in range(3):
            server.answers[f"/{number}"] = answer(LIST)
        server.answers["/met"] = other.answers["/met"] = met
        urls = [f"{server.url}/met", *(f"{server.url}/{number}" for number in range(3)), f"{other.url}/met"]
        assert folder.fetch(*urls) == [""] * 5
    assert server.most_at_once == 1
    assert server.paths() == ["/met", "/0", "/1", "/2"]


def test_one_at_a_time_of_a_host_to_which_redirects_lead(server: WebServer, folder: Folder, net: Net) -> None:
    def slowly(_: Request) -> Iterator[bytes]:
        return server.slowly((answer(LIST)[:-1], LIST[-1:]), 0.3)

    with WebServer(net.peer, OTHER) as other:
        server.answers["/own"] = server.answers["/moved"] = slowly
        other.answers["/here"] = answer(b"", "302 Found", Location=f"{server.url}/moved")
        assert folder.fetch(f"{server.url}/own", f"{other.url}/here") == ["", ""]
    assert (server.most_at_once, len(server.requests)) == (1, 2)


def test_another_interval_is_the_one_that_counts_also_where_nothing_comes(server: WebServer, folder: Folder) -> None:
    """It says from when on what came is stale."""
    url = f"{server.url}/drop.txt"
    server.answers["/drop.txt"] = answer(LIST, Cache_Control="max-age=7200")
    assert folder.fetch(Wanted(url, 30 * 86_400)) == [""]
    server.answers["/drop.txt"] = answer(b"", "500 Internal Server Error")
    folder.fetch(Wanted(url, 3600))
    assert folder.state(url).interval_s == 3600


def test_only_what_has_the_sum_is_taken(server: WebServer, folder: Folder) -> None:
    url = f"{server.url}/drop.txt"
    server.answers["/drop.txt"] = answer(LIST, ETag='"1"')
    right, other = hashlib.sha256(LIST).hexdigest(), hashlib.sha256(b"").hexdigest()
    assert folder.fetch(Wanted(url, 3600, None, right.upper())) == [""]
    (failure,) = folder.fetch(Wanted(url, 3600, None, other))
    assert failure == f"its SHA-256 is {right} and not what 'sha256' says"
    assert "If-None-Match" not in server.requests[-1].headers, "what we have is not what is wanted"
    assert folder.content(url) == LIST
    zipped = gzip.compress(LIST)
    server.answers["/drop.txt"] = answer(zipped, Content_Encoding="x-gzip")
    coded = Wanted(url, 3600, None, hashlib.sha256(zipped).hexdigest())
    assert folder.fetch(coded) == [""]
    server.answers["/drop.txt"] = answer(zipped, Content_Encoding="x-gzip", ETag='"2"')
    assert [folder.fetch(coded), folder.fetch(coded)] == [[""], [""]]
    assert server.requests[-1].headers["If-None-Match"] == '"2"', "what we have is what is wanted"


def test_no_sum_is_told_of_what_lies_there_while_that_changes(
    server: WebServer, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fetcher that is killed in between has not said of one content what was true of another."""
    url = f"{server.url}/drop.txt"
    server.answers["/drop.txt"] = answer(LIST, ETag='"1"')
    assert folder.fetch(url) == [""]
    server.answers["/drop.txt"] = answer(LIST + b"203.0.113.9\n")
    publish = fetched.publish

    def killed(written: Path, path: Path) -> None:
        publish(written, path)
        if path == fetched.list_path(folder.path, url):
            raise KeyboardInterrupt

    monkeypatch.setattr(fetched, "publish", killed)
    with pytest.raises(KeyboardInterrupt):
        folder.fetch(url)
    assert folder.content(url) != LIST
    state = folder.state(url)
    assert (state.sha256, state.sha256_coded, state.etag) == (None, None, None)
    assert state.fetched_at is not None


def test_a_proxy_of_the_environment(
    server: WebServer, folder: Folder, net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://user:pass@{net.peer_address}")
    monkeypatch.setenv("no_proxy", OTHER)
    server.answers["http://lists.example/drop.txt"] = answer(LIST)
    assert folder.fetch("http://lists.example/drop.txt") == [""]
    assert server.requests[0].headers["Proxy-Authorization"] == "Basic dXNlcjpwYXNz"
    with WebServer(net.peer, OTHER) as other:
        other.answers["/drop.txt"] = answer(LIST)
        assert folder.fetch(f"{other.url}/drop.txt") == [""]


def test_what_nobody_wants_any_more_is_forgotten_after_a_week(server: WebServer, folder: Folder) -> None:
    server.answers["/a"] = server.answers["/b"] = answer(LIST)
    kept, gone = f"{server.url}/a", f"{server.url}/b"
    folder.fetch(kept, gone)
    fetcher = Fetcher(folder.path, Log())
    fetcher.forget([Wanted(kept, 3600)])
    assert sorted(folder.urls()) == [kept, gone]
    state = folder.state(gone)
    assert state.unwanted_since is not None
    fetcher.forget([Wanted(kept, 3600), Wanted(gone, 3600)])
    assert folder.state(gone).unwanted_since is None, "it is wanted again"
    fetched.write_state(folder.path, replace(state, unwanted_since=state.unwanted_since - 7 * 86_400 - 1))
    fetcher.forget([Wanted(kept, 3600)])
    assert folder.urls() == [kept]
    assert len(list(folder.path.iterdir())) == 2


# ---- the program ----


class Program:
    """xdropd-fetch in the foreground."""

    def __init__(self, net: Net, folder: Path) -> None:
        self.wanted, self.fetched, self.log = folder / "fetch.json", folder / "fetched", folder / "log"
        self._net = net

    def want(self, *wanted: Wanted) -> None:
        fetched.write_wanted(self.wanted, wanted)

    def _command(self, *arguments: str) -> tuple[str, ...]:
        files = ("--wanted", str(self.wanted), "--fetched", str(self.fetched))
        return sys.executable, "-m", "xdropd.commands.xdropd_fetch", *files, *arguments

    def start(self, *arguments: str) -> "subprocess.Popen[bytes]":
        command = self._command(*arguments)
        with self.log.open("ab") as log:
            command = ("ip", "netns", "exec", self._net.host, *command)
            return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)

    def peak_bytes(self, *arguments: str) -> int:
        """The most memory that one of its processes has in a run, asked of a process that has little itself."""
        code = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL);"
        code += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)"
        return int(self._net.run(self._net.host, sys.executable, "-c", code, *self._command(*arguments)))

    def run(self, *arguments: str) -> int:
        return self.start(*arguments).wait(30)

    def says(self, *arguments: str) -> str:
        return self.start(*arguments).communicate(timeout=30)[0].decode()


@pytest.fixture
def program(net: Net, tmp_path: Path) -> Program:
    return Program(net, tmp_path)


def test_once(server: WebServer, program: Program) -> None:
    url, broken = f"{server.url}/drop.txt", f"{server.url}/broken"
    assert program.run("--once") == 0, "nothing is wanted"
    server.answers["/drop.txt"] = answer(LIST)
    program.want(Wanted(url, 3600))
    assert program.run("--once") == 0
    assert fetched.list_path(program.fetched, url).read_bytes() == LIST
    assert program.run("--once") == 0
    assert server.paths() == ["/drop.txt"], "not due"
    assert program.run("--once", url) == 0
    assert server.paths() == ["/drop.txt"] * 2, "due or not"
    program.want(Wanted(url, 3600, asked="x"), Wanted(broken, 3600))
    assert program.run("--once") == 69
    assert program.run("--once") == 0, "its next attempt is not due yet"
    assert program.run("--once", broken) == 69
    told = program.says("--once", url, broken)
    assert told.splitlines() == [f"{url}: fetched", f"{broken}: the server answers 404 Not Found"]
    assert fetched.read_state(program.fetched, broken).failures == 3
    log = program.log.read_text()
    assert log.startswith(f"xdropd-fetch: notice: {url}: has come\nxdropd-fetch: warning: {broken}: ")
    assert len(log.splitlines()) == 2, "the log hears of a change, and of nothing else"
    program.wanted.write_text("[]")
    assert program.run("--once") == 78
    assert program.run("--once", "file:///etc/passwd") == 2


def test_files_of_others_are_left_alone(server: WebServer, program: Program) -> None:
    """Whatever folder it is pointed at."""
    program.fetched.mkdir()
    theirs = (".profile", "notes.json", "x.list", ".attempt", ".x.new")
    for name in theirs:
        (program.fetched / name).write_text("{}")
    ours = program.fetched / f".{'0' * 32}.json.new"
    ours.touch()
    server.answers["/drop.txt"] = answer(LIST)
    program.want(Wanted(f"{server.url}/drop.txt", 3600))
    assert program.run("--once") == 0
    assert {path.name for path in program.fetched.iterdir()} >= set(theirs)
    assert not ours.exists()


def test_it_follows_what_is_wanted(server: WebServer, program: Program) -> None:
    url, other = f"{server.url}/a", f"{server.url}/b"
    server.answers["/a"] = server.answers["/b"] = answer(LIST)
    running = program.start()
    try:
        program.want(Wanted(url, 3600))
        wait_until(fetched.list_path(program.fetched, url).exists, within_s=20)
        program.want(Wanted(url, 3600), Wanted(other, 3600))
        wait_until(fetched.list_path(program.fetched, other).exists, within_s=20)
        program.wanted.write_text("rubbish")
        wait_until(lambda: "fetch.json: " in program.log.read_text(), within_s=20)
        program.want(Wanted(url, 3600, asked="now"))
        wait_until(lambda: server.paths() == ["/a", "/b", "/a"], within_s=20)
        assert running.poll() is None
    finally:
        running.terminate()
        assert running.wait(10) == 0


def test_killed_it_leaves_the_old_list(server: WebServer, program: Program) -> None:
    url = f"{server.url}/drop.txt"
    server.answers["/drop.txt"] = answer(LIST)
    program.want(Wanted(url, 3600))
    assert program.run("--once") == 0
    lines = itertools.repeat(b"192.0.2.9\n" * 1000)
    head = answer(b"", Content_Length="100000000")
    server.answers["/drop.txt"] = lambda _: server.slowly(itertools.chain([head], lines), 0.05)
    running = program.start("--once", url)
    child = int(wait_until(lambda: _children(running.pid), within_s=20)[0])
    wait_until(
        lambda: sum(part.stat().st_size for part in program.fetched.glob(".attempt-*/sent")) > 100_000, within_s=20
    )
    running.kill()
    running.wait()
    wait_until(lambda: not Path("/proc", str(child)).exists(), within_s=10, what="the attempt ends with it")
    assert fetched.list_path(program.fetched, url).read_bytes() == LIST
    assert list(program.fetched.glob(".attempt-*"))
    server.answers["/drop.txt"] = answer(LIST + b"192.0.2.2\n")
    assert program.run("--once", url) == 0
    assert fetched.list_path(program.fetched, url).read_bytes() == LIST + b"192.0.2.2\n"
    assert list(program.fetched.glob(".*")) == [], "what was left is gone"


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def test_its_memory_does_not_grow_with_the_list(server: WebServer, program: Program) -> None:
    url = f"{server.url}/large.gz"
    peaks = []
    for size in (1 << 20, 100 << 20):
        data = b"".join(b"203.0.%d.%d\n" % divmod(number, 256) for number in range(1 << 16))
        whole = data * (size // len(data) + 1)
        server.answers["/large.gz"] = answer(whole)
        peaks.append(program.peak_bytes("--once", url))
        assert fetched.list_path(program.fetched, url).stat().st_size == len(whole)
    assert peaks[1] < peaks[0] + (8 << 20), peaks


# ---- nginx ----


def test_nginx_answers_conditions(net: Net, folder: Folder, tmp_path: Path) -> None:
    served = tmp_path / "www"
    served.mkdir()
    tmp_path.chmod(0o755)
    (served / "drop.txt").write_bytes(LIST * 100)
    config = tmp_path / "nginx.conf"
    config.write_text(
        f"daemon off; master_process off; pid {tmp_path}/pid; error_log stderr; events {{ }}\n"
        f"http {{ access_log {tmp_path}/access; gzip on; gzip_min_length 1;\n"
        "gzip_types text/plain; default_type text/plain;\n"
        + "".join(
            f"{kind}_temp_path {tmp_path}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        + f"server {{ listen {net.peer_address}:8080; root {served}; expires 2h; }} }}\n"
    )
    net.start(net.peer, "nginx", "-c", str(config), "-e", "stderr")
    url = f"http://{net.peer_address}:8080/drop.txt"
    wait_until(lambda: folder.fetch(url) == [""], within_s=20)
    assert folder.content(url) == LIST * 100
    state = folder.state(url)
    assert state.etag.startswith('W/"')
    assert state.interval_s == 7200
    assert folder.fetch(url) == [""]
    assert folder.state(url).changed_at == state.changed_at
    (served / "drop.txt").write_bytes(LIST)
    assert folder.fetch(url) == [""]
    assert folder.content(url) == LIST
    lines = (tmp_path / "access").read_text().splitlines()
    assert [line.split('"')[2].split()[0] for line in lines] == ["200", "304", "200"]


def test_what_it_tells_is_as_documented(server: WebServer, folder: Folder) -> None:
    url = f"{server.url}/drop.txt"
    server.answers["/drop.txt"] = answer(LIST)
    folder.fetch(url)
    told = json.loads(fetched.state_path(folder.path, url).read_bytes())
    documented = {
        "url",
        "fetched_at",
        "changed_at",
        "tried_at",
        "next_at",
        "failures",
        "failure",
        "etag",
        "last_modified",
    }
    assert documented <= told.keys()
