"""The verb `fetch`: lists with a URL are fetched now, by xdropd-fetch, and taken."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

from xdropd.control import fields
from xdropd.control.moments import moment
from xdropd.control.waiting import Waiting
from xdropd.daemon.parts import Parts
from xdropd.errors import BadRequest, Refused, Unavailable
from xdropd.host.control import Line

_URLS_AT_MOST = 1000
# The timer of xdropd-fetch goes off every minute, for what the path unit has missed.
_SOMEBODY_BEGINS_WITHIN_S = 90.0


class Fetches:
    """Of one daemon."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._waiting = Waiting(parts.progress, parts.reactor)

    def fetch(self, request: Mapping[str, Any]) -> Iterator[Line]:
        """Those that are named, or all; the reply comes when each was tried, and what came is in force."""
        named = _urls(request)
        yield from self._waiting.until_ready()
        fetching = self._parts.fetching
        known = [each.url for each in fetching.wanted]
        if strange := [url for url in named if url not in known]:
            raise Refused(f"{strange[0]} is not a URL that {self._parts.catalogue.name} includes")
        urls = list(dict.fromkeys(named)) or known
        begun_s = time.time()
        if urls:
            fetching.ask(urls)
            yield from self._until_done(urls)
            asked = self._parts.ask_for_reload()
            yield from self._waiting.until(lambda: asked.result is not None)
        yield {"result": {"fetched": [self._outcome(url, begun_s) for url in urls]}}

    def _until_done(self, urls: list[str]) -> Iterator[Line]:
        """Raises Unavailable where nobody is at work and nothing gets any further."""
        fetching = self._parts.fetching
        left = len(urls)
        gives_up_s = time.monotonic() + _SOMEBODY_BEGINS_WITHIN_S

        def is_over() -> bool:
            nonlocal left, gives_up_s
            now_left = sum(not fetching.is_done(url) for url in urls)
            if now_left < left or fetching.is_at_work:
                left, gives_up_s = now_left, time.monotonic() + _SOMEBODY_BEGINS_WITHIN_S
            return not now_left or time.monotonic() >= gives_up_s

        yield from self._waiting.until(is_over)
        if any(not fetching.is_done(url) for url in urls):
            raise Unavailable(
                f"nobody has fetched anything for {_SOMEBODY_BEGINS_WITHIN_S:g} seconds",
                "see: systemctl status xdropd-fetch.path xdropd-fetch.service",
            )

    def _outcome(self, url: str, begun_s: float) -> dict[str, Any]:
        """How it went: `ok`, and what came is in force; `changed`, and another content came; or why not."""
        state = self._parts.fetching.states.get(url)
        failure = state.failure if state else "it is not wanted any more"
        trouble = self._why_not_in_force(url)
        changed_at = state.changed_at if state else None
        return {
            "url": url,
            "ok": not failure and not trouble,
            "changed": changed_at is not None and changed_at >= begun_s,
            "failure": failure or trouble,
            "next_at": moment(state.next_at if state else None),
        }

    def _why_not_in_force(self, url: str) -> str | None:
        """What is wrong with this list, or with all of them."""
        troubles = self._parts.telling.troubles
        of_all = (sentence for what in ("blocklist", "kernel") for sentence in troubles.get(what, {}).values())
        return troubles.get("lists", {}).get(url) or next(of_all, None)


def _urls(request: Mapping[str, Any]) -> list[str]:
    urls = request.get("urls")
    if urls is None:
        return []
    if not isinstance(urls, list) or len(urls) > _URLS_AT_MOST or not all(isinstance(url, str) for url in urls):
        raise BadRequest(f'"urls" is a list of at most {_URLS_AT_MOST} texts')
    return [fields.text({"urls": url}, "urls") for url in urls]
