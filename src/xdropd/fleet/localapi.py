"""CrowdSec's local API: requests, and answers as they come.

Speaks HTTP with urllib3; in this folder no other file knows it. A connection is kept between requests, and no request
is made a second time here: the server's cursor moves with each answer, whether or not it arrives.

Protocol: the server's swagger document (pkg/models/localapi_swagger.yaml of CrowdSec), and for what that does not say,
what version 1.4.6 does.
"""

from __future__ import annotations

import json
import ssl
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import urllib3
from urllib3 import exceptions

import xdropd
from xdropd.errors import LocalApiError
from xdropd.text import addresses, wording
from xdropd.text.crowdsec import Configuration

USER_AGENT = f"xdropd-crowdsec/v{xdropd.__version__}"  # exactly one slash, or the server refuses it

_PIECE_BYTES = 1 << 16
_WHOLE_TAKES = 6  # times as long as anything else, for an answer with all there is
_SENTENCE_BYTES = 1000  # of an error's answer


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks, as files or texts that are there: a key, or a certificate with its key."""

    api_key: str = ""
    cert_path: str = ""
    key_path: str = ""
    ca_cert_path: str = ""


class LocalApi:
    """Of one server. Every method raises LocalApiError."""

    def __init__(self, configuration: Configuration, identity: Identity) -> None:
        self._url = configuration.api_url
        self._timeout_s = configuration.timeout
        self._headers = {"User-Agent": USER_AGENT, "Accept": "application/json"}
        self._key = {"X-Api-Key": identity.api_key} if identity.api_key else {}
        # Each alone: the default joins decisions before it filters them, and hides one behind another that is left out.
        query = {"dedup": "false", "scopes": ",".join(configuration.scopes)}
        lists = ("origins", "scenarios_containing", "scenarios_not_containing")
        query |= {name: ",".join(words) for name in lists if (words := getattr(configuration, name))}
        self._query = urllib.parse.urlencode(query)
        try:
            context = _context(configuration, identity) if self._url.startswith("https:") else None
        except OSError as problem:  # ssl.SSLError is one
            raise LocalApiError(f"a certificate or its key cannot be used: {problem}") from problem
        urllib3.disable_warnings(exceptions.InsecureRequestWarning)  # the log says it once
        verify = ssl.CERT_NONE if configuration.insecure_skip_verify else ssl.CERT_REQUIRED
        tls = {"ssl_context": context, "cert_reqs": verify} if context else {}
        self._pool = urllib3.PoolManager(num_pools=1, **tls)

    @contextmanager
    def decisions(self, *, whole: bool) -> Iterator[Iterator[bytes]]:
        """The body of an answer, piece by piece: all there is, or what has changed since this key asked last."""
        startup = "startup=true&" if whole else ""
        timeout_s = self._timeout_s * (_WHOLE_TAKES if whole else 1)
        with self._answer(
            "GET", f"v1/decisions/stream?{startup}{self._query}", headers=self._key, timeout_s=timeout_s
        ) as response:
            yield self._pieces(response)

    def login(self, login: str, password: str) -> str:
        """A token for a machine, good for an hour and until the server restarts."""
        said = self._said("POST", "v1/watchers/login", {"machine_id": login, "password": password}, "")
        token = said.get("token") if isinstance(said, dict) else None
        if not isinstance(token, str):
            raise LocalApiError("the server has taken the login and gives no token")
        return token

    def alerts(self, token: str, alerts: list[dict[str, Any]]) -> None:
        """Have decisions made."""
        self._said("POST", "v1/alerts", alerts, token)

    def delete(self, token: str, **which: str) -> None:
        """Have decisions deleted that have all these values."""
        self._said("DELETE", f"v1/decisions?{urllib.parse.urlencode(which)}", None, token)

    def usage_metrics(self, content: dict[str, Any]) -> None:
        """Tell what this component does, in the name of its key. Servers older than 1.6.3 answer 404."""
        self._said("POST", "v1/usage-metrics", content)

    def _said(self, method: str, path: str, content: object, token: str | None = None) -> object:
        """`token` is a machine's, "" before its login; None: it is the key that asks."""
        is_machine = token is not None
        headers = {} if is_machine else dict(self._key)
        if token:
            headers["Authorization"] = f"Bearer {token}"
        body = None
        if content is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(content, separators=(",", ":")).encode()
        with self._answer(
            method, path, headers=headers, timeout_s=self._timeout_s, body=body, is_machine=is_machine
        ) as response:
            text = b"".join(self._pieces(response))
        try:
            return json.loads(text) if text.strip() else None
        except ValueError as problem:
            raise LocalApiError("what the server answers is not JSON") from problem

    @contextmanager
    def _answer(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        timeout_s: float,
        body: bytes | None = None,
        is_machine: bool = False,
    ) -> Iterator[urllib3.HTTPResponse]:
        """An answer that is no refusal. What is not read of it ends its connection."""
        try:
            response = self._pool.request(
                method,
                self._url + path,
                body=body,
                headers={**self._headers, **headers},
                timeout=urllib3.Timeout(connect=min(self._timeout_s, timeout_s), read=timeout_s),
                retries=False,
                redirect=False,
                preload_content=False,
                enforce_content_length=True,
            )
        except (exceptions.HTTPError, ValueError, OSError) as problem:
            raise self._told(problem, timeout_s) from problem
        try:
            self._refuse_unless_well(response, is_machine=is_machine)
            yield response
        except (exceptions.HTTPError, OSError) as problem:
            response.close()
            raise self._told(problem, timeout_s) from problem
        except BaseException:
            response.close()
            raise
        else:
            response.release_conn()

    def _pieces(self, response: urllib3.HTTPResponse) -> Iterator[bytes]:
        """All of a body. One that ends before its length, or in the middle of a chunk, raises."""
        while piece := response.read(_PIECE_BYTES):
            yield piece

    def _refuse_unless_well(self, response: urllib3.HTTPResponse, *, is_machine: bool) -> None:
        if response.status not in range(200, 300):
            raise _refusal(response.status, self._first_of(response), is_machine=is_machine)

    def _first_of(self, response: urllib3.HTTPResponse) -> str:
        try:
            said = json.loads(response.read(_SENTENCE_BYTES))
        except (ValueError, exceptions.HTTPError, OSError):
            return ""
        return str(said.get("message", "")) if isinstance(said, dict) else ""

    def _told(self, problem: Exception, timeout_s: float) -> LocalApiError:
        """What went wrong on the way, from the innermost cause that says something."""
        host = urllib.parse.urlsplit(self._url).netloc
        for cause in _causes(problem):
            if isinstance(cause, ssl.SSLCertVerificationError):
                why = cause.verify_message or cause.reason
                return LocalApiError(
                    f"the certificate of {host} is not accepted: {why}", "ca_cert_path names who vouches for it"
                )
            if isinstance(cause, TimeoutError):
                return LocalApiError(f"{host} has not answered for {timeout_s:g} seconds")
            if isinstance(cause, OSError) and cause.strerror:
                return LocalApiError(f"{host}: {cause.strerror}")
        if isinstance(problem, exceptions.ProtocolError):
            return LocalApiError(f"the answer of {host} is cut short")
        return LocalApiError(f"{host}: {wording.quoted(str(problem))}")


def _causes(problem: BaseException | None) -> Iterator[BaseException]:
    """An exception and what it came from, however urllib3 packed it."""
    seen: list[BaseException] = []
    while problem is not None and problem not in seen:
        yield problem
        seen.append(problem)
        packed = next((each for each in problem.args if isinstance(each, BaseException)), None)
        problem = packed or problem.__cause__ or problem.__context__


def _refusal(status: int, said: str, *, is_machine: bool) -> LocalApiError:
    words = f"the server answers {status}" + (f": {wording.quoted(said)}" if said else "")
    if is_machine and status in (401, 403):
        return LocalApiError(
            f"the server does not know this machine, or not this password ({words})",
            "cscli machines add NAME --auto -f FILE writes what credentials_path names",
            status,
        )
    if status == 403:
        return LocalApiError(
            f"the server does not know this key, or not this certificate ({words})",
            "cscli bouncers add NAME prints one",
            status,
        )
    return LocalApiError(words, "", status)


def _context(configuration: Configuration, identity: Identity) -> ssl.SSLContext:
    """Raises OSError."""
    context = ssl.create_default_context(cafile=identity.ca_cert_path or None)
    # Of an address, urllib3 1.26 does not tell OpenSSL what to compare, but compares by itself where OpenSSL does not.
    host = urllib.parse.urlsplit(configuration.api_url).hostname or ""
    context.check_hostname = addresses.parse_address(host) is None and not configuration.insecure_skip_verify
    if configuration.insecure_skip_verify:
        context.verify_mode = ssl.CERT_NONE
    if identity.cert_path:
        context.load_cert_chain(identity.cert_path, identity.key_path)
    return context
