"""A reload, told from top to bottom: text is read, becomes what is desired, and that is put in force.

reloads → catalogue → blocklist, listfiles    the texts, read as columns
        → desired → winners → plan            what should be in force, and the steps that lead there
        → lists → generation                  the steps, taken in the kernel's tables
"""

import time
from collections.abc import Generator, Iterator
from dataclasses import replace

from xdropd.daemon.parts import Parts
from xdropd.daemon.results import ReloadResult
from xdropd.daemon.severed import severed
from xdropd.daemon.wanted import ReloadRequest
from xdropd.errors import Problem, RefusedFile
from xdropd.rules.desired import Desired
from xdropd.rules.winners import State
from xdropd.sources import blocks
from xdropd.sources.catalogue import Reading


def reload(parts: Parts, request: ReloadRequest) -> Iterator[None]:
    """Read what changed and put it in force; what is refused leaves what was before."""
    begun = time.monotonic()
    parts.systemd.reloading()
    parts.blocking.try_again()
    parts.progress.show("reading the lists")
    settings_before = parts.settings.in_force
    refusals = yield from _read_settings(parts)
    yield from parts.reactor.read(parts.name_servers.read)
    reading, refused = yield from _read_lists(parts, request.accept)
    refusals += refused
    yield from parts.host.learn_routes()
    now_s = time.time()
    before = parts.lists.state
    warnings: tuple[str, ...] = ()
    parts.filter.choose_program(parts.settings.in_force)
    if parts.filter.choose(parts.settings.in_force) and parts.settings.in_force == settings_before:
        parts.announcing.tell_repaired(1)
    yield from parts.onwards.look()
    if parts.lists.is_doubtful:
        parts.filter.agree()  # what failed may have been a swap, and the maps of one generation do not tell
    if reading is not None:
        counted = yield from parts.lists.change_to(desired(parts, reading), now_s)
        parts.telling.clear("takeover")
        parts.trust.regain()
        parts.announcing.report(reading, counted)
        parts.fetching.want(reading)
        if before is not None:  # else nobody knows what is new
            warnings = yield from tell_severed(parts, before)
        parts.filter.counting.sources.note_listed(parts.lists.source_names, time.time())
    else:
        yield from _keep_in_force(parts, now_s)
    parts.host.sync_interfaces()
    parts.results.last_reload_s = time.monotonic() - begun
    request.result = yield from conclude(parts, refusals, warnings)
    parts.announcing.say_ready()


def _read_settings(parts: Parts) -> Generator[None, None, list[Problem]]:
    """Its problems, with which the settings before stay in force."""
    before = parts.settings.in_force.as_written()
    try:
        parts.settings.in_force = yield from parts.reactor.read(parts.settings.read)
    except RefusedFile as refusal:
        told = parts.announcing.tell_refusal(refusal)
        parts.telling.trouble("settings", "the settings file is refused, those before stay in force")
        return told
    parts.telling.clear("settings")
    for key, value in parts.settings.in_force.as_written().items():
        if before[key] != value:
            parts.telling.log.notice("settings", f"settings: {key} was {before[key]}, is {value}")
    return []


def _read_lists(parts: Parts, accept: str | None) -> Generator[None, None, tuple[Reading | None, list[Problem]]]:
    """What changed; None, and the problems, where the list before stays in force."""
    try:
        read = yield from parts.reactor.read(lambda: parts.catalogue.read(accept))
    except RefusedFile as refusal:
        told = parts.announcing.tell_refusal(refusal)
        parts.telling.trouble("blocklist", "the blocklist is refused, the list before stays in force")
        return None, told
    reading = fit_to_be_used(parts, read)
    if reading is None:
        return None, list(read.troubles)
    parts.telling.clear("blocklist")
    return reading, []


def fit_to_be_used(parts: Parts, reading: Reading) -> Reading | None:
    """None where lists could not be found and the kernel alone knows what is in force, them included."""
    if not reading.is_partial or parts.lists.state is not None or not parts.filter.attachments:
        return reading
    parts.announcing.tell_lists(reading)
    parts.telling.trouble("blocklist", "not all lists can be found, what was in force before is in force")
    return None


def desired(parts: Parts, reading: Reading | None) -> Desired:
    """What the files say, None: said, with what callers have blocked, under the guard that is chosen."""
    said = reading.desired() if reading is not None else parts.lists.desired
    return replace(said.having("callers", blocks.written(parts.blocks.by_source)), guard=parts.host.guard())


def tell_severed(parts: Parts, before: State | None) -> Generator[None, None, tuple[str, ...]]:
    """Which open connections the list in force cuts off, and what was in force before did not: a sentence each."""
    after, passes = parts.lists.state, parts.filter.passes_replies
    found = []
    if after is not None:
        found = yield from parts.reactor.read(lambda: severed(before, after, passes_replies=passes))
    for each in found:
        said = f"{each.source} lists {each}"
        parts.log.warning("connections", said, entry=str(each.entry), source=each.source, line=each.line)
    return tuple(f"{each.source} lists {each}" for each in found)


def conclude(
    parts: Parts, refusals: list[Problem], warnings: tuple[str, ...] = ()
) -> Generator[None, None, ReloadResult]:
    """What every reading ends with, whether it was refused or not."""
    parts.progress.text = ""
    result = parts.results.ended(refusals + parts.announcing.tell_replies(), warnings)
    parts.settling.ask()
    yield from parts.reactor.read(parts.following.renew)
    return result


def _keep_in_force(parts: Parts, now_s: float) -> Iterator[None]:
    """The blocklist is refused: the list before it stays, under the program that is chosen now.

    What failed of that list is tried again.
    """
    if parts.lists.state is None:
        yield from parts.lists.renew()
    elif parts.lists.is_doubtful or not parts.lists.is_current:
        yield from parts.lists.change_to(desired(parts, None), now_s)
    else:
        yield from parts.host.renew_guard()
    parts.trust.regain()
