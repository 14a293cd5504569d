"""One download: a GET, conditional where something has come before, through redirects, straight into a file.

Speaks HTTP with urllib3; no other file knows it. What comes is bounded, unpacked of its transfer's coding only
(Content-Encoding) and not looked into. Raises NotFetched with what went wrong, for the operator.
"""

from __future__ import annotations

import functools
import hashlib
import http
import http.client
import ipaddress
import socket
import ssl
import time
import zlib
from collections.abc import Iterator, Mapping
from typing import BinaryIO, NamedTuple
from urllib.parse import urljoin, urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3 import exceptions
from urllib3.util.ssl_match_hostname import CertificateError

import xdropd
from xdropd.errors import NotFetched
from xdropd.fetch import headers as fields
from xdropd.fetch.turns import Turns
from xdropd.text import wording

LIMIT_BYTES = 256 << 20
"""Of a list, before and after unpacking: as much as the daemon reads of a file."""
SILENCE_S = 60.0
REDIRECTS_AT_MOST = 5

USER_AGENT = f"xdropd-fetch/{xdropd.__version__} (xdropd, a blocklist daemon for Linux)"

_PIECE_BYTES = 1 << 16
_DIGITS = 18  # of a length; Python reads no number of thousands of them
_CHARACTERS_OF_A_VALIDATOR = 1000  # what is longer is not kept, and not sent back
_EARLY_END = "UNEXPECTED_EOF_WHILE_READING"  # as OpenSSL calls it
_MOVED = (301, 302, 303, 307, 308)
_SENT_AWAY = (http.HTTPStatus.FORBIDDEN, http.HTTPStatus.TOO_MANY_REQUESTS)
_GZIP = ("gzip", "x-gzip")
_PORTS = {"http": 80, "https": 443}
_AUTO_WINDOW = 32 + zlib.MAX_WBITS  # zlib.h, inflateInit2: a gzip header or one of zlib


class Before(NamedTuple):
    """What came the last time, for a request on a condition."""

    etag: str | None = None
    last_modified: str | None = None


NOTHING_BEFORE = Before()


class Answer(NamedTuple):
    """What a server said, all being well."""

    is_changed: bool
    """False: "304 Not Modified", and nothing was written."""
    least_s: int
    etag: str | None
    last_modified: str | None
    sha256: str = ""
    """Of the content."""
    sha256_coded: str = ""
    """Of the same with the Content-Encoding in which it was sent: some servers mark a file that is packed so."""


def download(
    url: str,
    into: BinaryIO,
    *,
    headers: Mapping[str, str],
    turns: Turns,
    before: Before = NOTHING_BEFORE,
    limit_bytes: int = LIMIT_BYTES,
    silence_s: float = SILENCE_S,
) -> Answer:
    """Fetch a URL into an open file. `headers` go to its own host only, wherever that sends us."""
    here = url
    for _ in range(REDIRECTS_AT_MOST + 1):
        own = dict(headers) if _is_same_party(url, here) else {}
        with turns.of(urlsplit(here).hostname or ""), _asked(here, own, before, silence_s) as response:
            if response.status in _MOVED and response.headers.get("Location"):
                here = _next(here, response.headers["Location"])
                continue
            return _taken(response, into, before, limit_bytes)
    raise NotFetched(f"it redirects more than {REDIRECTS_AT_MOST} times")


class _asked:  # noqa: N801  # used like a function
    """A response whose body is yet to be read. Its connection ends with the context."""

    def __init__(self, url: str, own: dict[str, str], before: Before, silence_s: float) -> None:
        self._host = urlsplit(url).hostname or ""
        conditions = {"If-None-Match": before.etag, "If-Modified-Since": before.last_modified}
        given = {name: value for name, value in conditions.items() if value}
        ours = {"User-Agent": USER_AGENT, "Accept-Encoding": "gzip", "Accept": "*/*", **given}
        theirs = {name.lower() for name in own}  # nobody's case matters, and one of a name is enough
        request = {name: value for name, value in ours.items() if name.lower() not in theirs} | own
        self._pool = _pool_for(url)
        self._silence_s = silence_s
        try:
            self._response = self._pool.request(
                "GET",
                _without_credentials(url),
                headers=request,
                timeout=urllib3.Timeout(connect=min(30.0, silence_s), read=silence_s),
                retries=False,
                redirect=False,
                preload_content=False,
                enforce_content_length=True,
            )
        except (exceptions.HTTPError, ValueError, OSError) as problem:
            self._pool.clear()
            raise _told(problem, self._host, silence_s) from problem

    def __enter__(self) -> urllib3.HTTPResponse:
        return self._response

    def __exit__(self, _kind: object, problem: BaseException | None, _trace: object) -> None:
        self._response.close()
        self._pool.clear()
        if isinstance(problem, exceptions.HTTPError | http.client.HTTPException):
            raise _told(problem, self._host, self._silence_s) from problem


def _pool_for(url: str) -> urllib3.PoolManager:
    """Through the proxy that the environment names for this host, if any (http_proxy, https_proxy, no_proxy)."""
    parts = urlsplit(url)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    has_tls = parts.scheme == "https" or (proxy or "").startswith("https:")
    context = _context(parts.hostname or "") if has_tls else None
    if not proxy or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return urllib3.PoolManager(num_pools=1, ssl_context=context)
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    try:
        given = urllib3.util.parse_url(proxy)
        authorization = urllib3.make_headers(proxy_basic_auth=given.auth) if given.auth else None
        return urllib3.ProxyManager(proxy, num_pools=1, proxy_headers=authorization, ssl_context=context)
    except (exceptions.HTTPError, ValueError) as problem:
        raise NotFetched("the proxy that the environment names cannot be used", was_answered=False) from problem


def _context(host: str) -> ssl.SSLContext:
    """Takes time: it reads all authorities."""
    context = ssl.create_default_context()
    # Of an address, urllib3 1.26 does not tell OpenSSL what to compare, but compares by itself where OpenSSL does not.
    context.check_hostname = not _is_address(host)
    # Without a length the end of the connection is the end of the list, and anybody on the way can end a connection.
    # That the server meant it is told by TLS alone (RFC 8446, section 6.1), which Python does not ask for by itself.
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    strictly = functools.partial(context.wrap_socket, suppress_ragged_eofs=False)
    context.wrap_socket = strictly  # type: ignore[method-assign]
    return context


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _without_credentials(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment=""))


def _next(here: str, location: str) -> str:
    """Where a redirect leads. Raises NotFetched where it may not lead."""
    try:
        there = urljoin(here, location)
        parts = urlsplit(there)
        scheme, host, _ = parts.scheme, parts.hostname, parts.port  # of which each may raise
    except ValueError as problem:
        raise NotFetched(f"it redirects to what is no URL: {wording.quoted(location)}") from problem
    if scheme not in _PORTS or not host:
        raise NotFetched(f"it redirects to what is neither http nor https: {wording.quoted(there)}")
    if urlsplit(here).scheme == "https" and scheme == "http":
        raise NotFetched(f"it redirects from https to http, {wording.quoted(there)}, where anybody could change it")
    return there


def _is_same_party(first: str, other: str) -> bool:
    """Whether what is a secret with the first may be told to the other: the same host and port, or its TLS."""
    a, b = urlsplit(first), urlsplit(other)
    ports = [each.port or _PORTS.get(each.scheme) for each in (a, b)]
    is_upgrade = (a.scheme, b.scheme) == ("http", "https") and ports == [80, 443]
    return a.hostname == b.hostname and (is_upgrade or (a.scheme == b.scheme and ports[0] == ports[1]))


def _taken(response: urllib3.HTTPResponse, into: BinaryIO, before: Before, limit_bytes: int) -> Answer:
    said = response.headers
    etag, last_modified = (_kept(said.get(name)) for name in ("ETag", "Last-Modified"))
    if response.status == http.HTTPStatus.NOT_MODIFIED and any(before):
        known = Before(etag or before.etag, last_modified or before.last_modified)
        return Answer(False, fields.least_s(said), *known)
    if response.status != http.HTTPStatus.OK:
        retry_after_s = fields.retry_after_s(said, time.time())
        was_sent_away = response.status in _SENT_AWAY and not retry_after_s
        raise NotFetched(_refusal(response), was_sent_away=was_sent_away, retry_after_s=retry_after_s)
    announced = said.get("Content-Length", "").strip()
    if announced.isascii() and announced.isdecimal() and (len(announced) > _DIGITS or int(announced) > limit_bytes):
        raise _too_large(limit_bytes)
    sent = hashlib.sha256()
    plain = hashlib.sha256()
    size = 0
    for piece in _decoded(_pieces(response, sent, limit_bytes), said.get("Content-Encoding", "")):
        size += len(piece)
        if size > limit_bytes:
            raise _too_large(limit_bytes)
        plain.update(piece)
        into.write(piece)
    into.flush()
    return Answer(True, fields.least_s(said), etag, last_modified, plain.hexdigest(), sent.hexdigest())


def _kept(validator: str | None) -> str | None:
    is_short = validator is not None and len(validator) <= _CHARACTERS_OF_A_VALIDATOR and validator.isascii()
    return validator if is_short else None


def _pieces(response: urllib3.HTTPResponse, sent: hashlib._Hash, limit_bytes: int) -> Iterator[bytes]:
    """What is sent, as it comes. A body that ends before its length, or in the middle of a chunk, raises."""
    size = 0
    while piece := response.read(_PIECE_BYTES, decode_content=False):
        size += len(piece)
        if size > limit_bytes:
            raise _too_large(limit_bytes)
        sent.update(piece)
        yield piece


def _decoded(pieces: Iterator[bytes], coding: str) -> Iterator[bytes]:
    """Without its Content-Encoding, in pieces of a bounded size, whatever it unpacks to."""
    codings = [each for each in map(str.strip, coding.lower().split(",")) if each not in ("", "identity")]
    if not codings:
        yield from pieces
        return
    if len(codings) > 1 or codings[0] not in _GZIP:
        raise NotFetched(f"it comes with Content-Encoding {wording.quoted(coding)}, which was not asked for")
    unpacker = zlib.decompressobj(_AUTO_WINDOW)
    try:
        for piece in pieces:
            left = piece
            while left:
                if unpacker.eof:  # members follow each other (RFC 1952, section 2.2)
                    unpacker = zlib.decompressobj(_AUTO_WINDOW)
                yield unpacker.decompress(left, _PIECE_BYTES)
                left = unpacker.unconsumed_tail or unpacker.unused_data
        while not unpacker.eof and (rest := unpacker.decompress(unpacker.unconsumed_tail, _PIECE_BYTES)):
            yield rest
    except zlib.error as problem:
        raise NotFetched("its gzip coding is damaged") from problem
    if not unpacker.eof:
        raise NotFetched("it ends in the middle of its gzip coding")


def _refusal(response: urllib3.HTTPResponse) -> str:
    try:
        phrase = http.HTTPStatus(response.status).phrase
    except ValueError:
        phrase = ""
    told = f"the server answers {response.status} {phrase}".rstrip()
    if response.status in (http.HTTPStatus.UNAUTHORIZED, http.HTTPStatus.FORBIDDEN):
        told += " (if it takes a token, 'headers: FILE' is the place for it)"
    return told


def _too_large(limit_bytes: int) -> NotFetched:
    return NotFetched(f"it has more than {limit_bytes >> 20} MiB, which is the most that is taken")


def _told(problem: Exception, host: str, silence_s: float) -> NotFetched:
    """What went wrong on the way, from the innermost cause that says something."""
    causes = list(_causes(problem))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return NotFetched(f"the certificate of {host} is not accepted: {cause.verify_message or cause.reason}")
        if isinstance(cause, CertificateError):
            return NotFetched(f"the certificate of {host} is not accepted: {cause}")
        if isinstance(cause, exceptions.ConnectTimeoutError) and not isinstance(cause, exceptions.NewConnectionError):
            return NotFetched(f"{host} does not answer", was_answered=False)
        if isinstance(cause, exceptions.ReadTimeoutError | TimeoutError):
            return NotFetched(f"nothing came from {host} for {silence_s:g} seconds")
        if isinstance(cause, socket.gaierror):
            return NotFetched(f"the name {host} has no address: {cause.strerror}", was_answered=False)
        if isinstance(cause, exceptions.IncompleteRead | http.client.IncompleteRead):
            return NotFetched("it was cut off: it ends before the length that the server gave")
        if isinstance(cause, ssl.SSLEOFError) or getattr(cause, "reason", None) == _EARLY_END:
            return NotFetched(f"it was cut off: the connection with {host} ends without the end of TLS")
    for cause in causes:
        if isinstance(cause, ssl.SSLError):
            return NotFetched(f"no TLS with {host}: {cause.reason or cause}")
        if isinstance(cause, OSError) and cause.strerror:
            return NotFetched(f"{host}: {cause.strerror}", was_answered=False)
    if any(isinstance(cause, exceptions.ProtocolError | http.client.HTTPException) for cause in causes):
        return NotFetched(f"what {host} answers is not HTTP, or ends too early: {wording.quoted(str(causes[-1]))}")
    return NotFetched(f"{host}: {wording.quoted(str(problem))}", was_answered=False)


def _causes(problem: BaseException | None) -> Iterator[BaseException]:
    """An exception and all that it came from, however urllib3 packed it."""
    seen: set[int] = set()
    waiting = [problem]
    while waiting:
        each = waiting.pop(0)
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        waiting += [inner for inner in each.args if isinstance(inner, BaseException)]
        waiting += [each.__cause__, None if each.__suppress_context__ else each.__context__]
