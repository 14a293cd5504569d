"""A real CrowdSec server, its local API alone, in one of a Net's namespaces; as Debian packages it, not installed."""

import http.client
import json
import os
import signal
import ssl
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from netns import inside
from waiting import wait_until
from xdropd.fleet.reports import alert_of

_UNPACKED_BY = Path(__file__).parents[2] / "scripts" / "crowdsec"

KEY = "a-key-for-tests"
_AGENT = "tests/v1"  # with exactly one slash, or a login is refused
_MACHINE, _PASSWORD = "tester", "testpass"
_ANSWERS_WITHIN_S = 20
_ENDS_WITHIN_S = 10


def programs() -> Path:
    """The folder of crowdsec and cscli, of the Debian that this machine runs."""
    said = subprocess.run([_UNPACKED_BY], check=True, capture_output=True, text=True).stdout
    return Path(said.strip())


class Server:
    """At `url` inside a namespace, with its database in `folder`. Use as a context.

    `tls` are lines that go below `tls:` in its configuration. `environment` goes to the server alone.
    """

    port = 8090

    def __init__(
        self,
        namespace: str,
        folder: Path,
        address: str = "127.0.0.1",
        tls: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._programs = programs()
        self._environment = environment or {}
        self._namespace, self._address = namespace, address
        self._folder = folder
        self._scheme = "https" if tls else "http"
        self.url = f"{self._scheme}://{address}:{self.port}/"
        folder.mkdir(exist_ok=True)
        self.database = folder / "data" / "crowdsec.db"
        (folder / "data").mkdir(exist_ok=True)
        (folder / "profiles.yaml").write_text('name: none\nfilters: ["1==2"]\n')
        below = "\n    tls: {" + ", ".join(tls) + "}" if tls else ""
        (folder / "config.yaml").write_text(
            f"""\
common: {{daemonize: false, log_media: stdout, log_level: info}}
config_paths: {{config_dir: {folder}, data_dir: {folder}/data}}
db_config: {{type: sqlite, db_path: {self.database}, use_wal: true}}
api:
  client: {{credentials_path: {folder}/lapi.yaml}}
  server:
    listen_uri: "{address}:{self.port}"
    profiles_path: {folder}/profiles.yaml{below}
prometheus: {{enabled: false}}
"""
        )
        self.process: subprocess.Popen[bytes] | None = None
        self._token = ""
        self.introduce()

    def introduce(self) -> None:
        """Make a database with the machine of these tests and one bouncer's key."""
        self.cscli(
            "machines", "add", _MACHINE, "--password", _PASSWORD, "-f", f"{self._folder}/lapi.yaml", "-u", self.url
        )
        self.cscli("bouncers", "add", "xdropd", "-k", KEY)

    def cscli(self, *arguments: str) -> str:
        """Run cscli beside the server."""
        command = [str(self._programs / "cscli"), "--error", "-c", f"{self._folder}/config.yaml", *arguments]
        done = subprocess.run(
            ["ip", "netns", "exec", self._namespace, *command], capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self) -> None:
        """Returns when it answers."""
        command = [str(self._programs / "crowdsec"), "-c", f"{self._folder}/config.yaml", "-no-cs"]
        with (self._folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                ["ip", "netns", "exec", self._namespace, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self._environment},
            )
        wait_until(self._answers, within_s=_ANSWERS_WITHIN_S, what="the server answers")
        self._token = ""

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log
        try:
            return self.request("GET", "/health")[0] == 200
        except OSError:
            return False

    @property
    def log(self) -> str:
        """What it has said."""
        return (self._folder / "log").read_text()

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it."""
        assert self.process is not None
        self.process.send_signal(how)
        self.process.wait(_ENDS_WITHIN_S)

    def wipe(self) -> None:
        """A server that has stopped starts with an empty database the next time, and the same keys."""
        for file in self.database.parent.glob("crowdsec.db*"):
            file.unlink()
        self.introduce()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def request(self, method: str, path: str, content: object = None, **headers: str) -> tuple[int, Any]:
        """Status and content of an answer."""
        connection = http.client.HTTPConnection(self._address, self.port, timeout=30)
        if self._scheme == "https":
            context = ssl._create_unverified_context()
            connection = http.client.HTTPSConnection(self._address, self.port, timeout=30, context=context)
        with inside(self._namespace):
            connection.connect()
        try:
            body = None if content is None else json.dumps(content).encode()
            connection.request(
                method, path, body, {"Content-Type": "application/json", "User-Agent": _AGENT, **headers}
            )
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"null")
        finally:
            connection.close()

    def as_machine(self, method: str, path: str, content: object = None) -> Any:
        """A request in the name of the machine, which must succeed. Polls hold SQLite's lock now and then."""
        if not self._token:
            login = {"machine_id": _MACHINE, "password": _PASSWORD}
            self._token = self.request("POST", "/v1/watchers/login", login)[1]["token"]

        def answer() -> tuple[int, Any] | None:
            status, said = self.request(method, path, content, Authorization=f"Bearer {self._token}")
            return None if status == 500 and "database is locked" in str(said) else (status, said)

        found = wait_until(answer, within_s=_ANSWERS_WITHIN_S, what="the server can write")
        assert found is not None
        assert found[0] in (200, 201), found[1]
        return found[1]

    def decide(
        self,
        *values: str,
        duration: str | Sequence[str] = "4h",
        origin: str = "cscli",
        scenario: str = "manual",
        kind: str = "ban",
        scope: str = "Ip",
    ) -> list[str]:
        """Decisions as `cscli decisions add` makes them; the numbers of their alerts. One duration, or each its own."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")  # from which a duration counts
        each = {"scope": scope, "type": kind, "scenario": scenario, "origin": origin}
        durations = [duration] * len(values) if isinstance(duration, str) else duration
        decisions = [
            {**each, "value": value, "duration": lasts} for value, lasts in zip(values, durations, strict=True)
        ]
        alerts = [alert_of(scenario, "m", decisions[at : at + 1000], now) for at in range(0, len(values), 1000)]
        return list(self.as_machine("POST", "/v1/alerts", alerts))

    def delete(self, **which: str) -> int:
        """Delete decisions that have these values; how many."""
        query = "&".join(f"{name}={value}" for name, value in which.items())
        return int(self.as_machine("DELETE", f"/v1/decisions?{query}")["nbDeleted"])

    def decisions(self, key: str = KEY) -> list[dict[str, Any]]:
        """All in force, as a bouncer of another name would see them."""
        return self.request("GET", "/v1/decisions", **{"X-Api-Key": key})[1] or []
