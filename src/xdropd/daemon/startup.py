"""The start, told from top to bottom: what was in force is taken over, and what should be is put in force."""

import contextlib
import time
from collections.abc import Generator, Iterator

from xdropd.daemon.failures import FAILURES, Failure, noting
from xdropd.daemon.parts import Parts
from xdropd.daemon.reloads import conclude, desired, fit_to_be_used, tell_severed
from xdropd.errors import AlreadyRunning, NotAttachable, Problem, RefusedFile
from xdropd.filter.lists import NO_LIST_YET
from xdropd.host.statefolder import StateFolder
from xdropd.rules.plan import Counted
from xdropd.rules.winners import State
from xdropd.sources.catalogue import Reading
from xdropd.text.settings import Settings


def start(parts: Parts) -> Iterator[None]:
    """Put the list in force. What fails is the end of a fresh start, never of one that has taken over a filter.

    There, what is in force is looked after, whatever becomes of what should be.
    """
    lists, telling = parts.lists, parts.telling
    if parts.state_folder is not None:
        _hold(parts.state_folder)
    inherited = parts.systemd.inherited()
    parts.log_copy.adopt(inherited)
    is_adopted = parts.filter.adopt(inherited)
    parts.handover.take_over()
    before = lists.state
    if is_adopted:
        parts.log.notice("adopt", "took over the running filter")
    with contextlib.suppress(*FAILURES if is_adopted else ()):  # it fails again below, where it is told
        lists.prepare_program()
    parts.progress.show("reading the lists")
    refusals = yield from _read_settings(parts, is_adopted=is_adopted)
    parts.filter.choose_program(parts.settings.in_force)
    yield from parts.reactor.read(parts.name_servers.read)
    yield from parts.blocking.load()
    reading: Reading | None = None
    counted: Counted | None = None
    failed: list[Failure] = []
    with noting(failed if is_adopted else None):
        parts.filter.agree()
        reading, refused = yield from _read_lists(parts, is_adopted=is_adopted)
        refusals += refused
        yield from parts.host.learn_routes()
        if reading is None and lists.state is None:
            yield from lists.renew()
        else:
            counted = yield from lists.change_to(desired(parts, reading), time.time())
        parts.filter.agree()  # where what was before is not known, one of several interfaces may have kept it
    with noting(failed if is_adopted else None):
        yield from _attach(parts, is_adopted=is_adopted)
    if lists.state is None:
        telling.trouble("takeover", NO_LIST_YET)
    parts.progress.note_ready()
    parts.reconciling.begin()
    if failed:
        parts.trust.lose(failed[0])  # before anybody is told that it is ready
    parts.announcing.say_ready()
    if reading is not None and counted is not None:
        yield from _report(parts, reading, counted, before, is_adopted=is_adopted)
    yield from conclude(parts, refusals)
    if failed:
        parts.results.last = parts.results.of_failure(failed[0])
    parts.log.notice("ready", parts.announcing.status_line())


def _attach(parts: Parts, *, is_adopted: bool) -> Iterator[None]:
    """Have packets meet the filter. Raises NotAttachable where the one interface there is cannot be filtered."""
    parts.filter.choose(parts.settings.in_force)
    yield from parts.onwards.look()
    undone = parts.host.attach_interfaces()
    is_the_only_one = len(undone.attaching) == 1 and not undone.following and not parts.filter.attachments
    if is_the_only_one and not is_adopted:
        raise NotAttachable(*undone.attaching.values())
    parts.host.tell_interfaces(undone)


def _report(
    parts: Parts, reading: Reading, counted: Counted, before: State | None, *, is_adopted: bool
) -> Iterator[None]:
    """The list is in force. `before`: what was in force already, as far as that is known."""
    parts.announcing.report(reading, counted)
    parts.fetching.want(reading)
    if before is not None or not is_adopted:  # else nobody knows what is new
        yield from tell_severed(parts, before)
    parts.filter.counting.sources.note_listed(parts.lists.source_names, time.time())


def _read_settings(parts: Parts, *, is_adopted: bool) -> Generator[None, None, list[Problem]]:
    """Its problems. Raises RefusedFile where there is nothing to go on with."""
    try:
        parts.settings.in_force = yield from parts.reactor.read(parts.settings.read)
    except RefusedFile as refusal:
        parts.announcing.tell_refusal(refusal)
        saved = yield from parts.reactor.read(parts.settings.last_good)
        if saved is None and not is_adopted:
            raise
        parts.settings.in_force = saved or Settings()
        what = "the last good ones" if saved else "the defaults"
        parts.telling.trouble("settings", f"the settings file is refused, {what} are in force")
        return refusal.problems
    return []


def _read_lists(parts: Parts, *, is_adopted: bool) -> Generator[None, None, tuple[Reading | None, list[Problem]]]:
    """What all files say, None where nothing can be used; and the problems.

    Raises RefusedFile where there is nothing to go on with.
    """
    try:
        read = yield from parts.reactor.read(parts.catalogue.read)
    except RefusedFile as refusal:
        parts.announcing.tell_refusal(refusal)
        saved = yield from parts.reactor.read(parts.catalogue.read_last_good)
        if saved is None and not is_adopted:
            raise
        what = "the last good one" if saved else "what was in force before"
        parts.telling.trouble("blocklist", f"the blocklist is refused, {what} is in force")
        return saved and fit_to_be_used(parts, saved), refusal.problems
    reading = fit_to_be_used(parts, read)
    return reading, [] if reading else list(read.troubles)


def _hold(state: StateFolder) -> None:
    try:
        state.hold()
    except BlockingIOError:
        raise AlreadyRunning(
            f"another xdropd keeps its state in {state.path}", "stop it, or choose another --state"
        ) from None
    except OSError:
        pass  # told once something is to be kept there
