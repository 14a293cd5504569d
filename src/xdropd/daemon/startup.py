"""The start, told from top to bottom: what was in force is taken over, and what should be is put in force."""

import contextlib
import time
from collections.abc import Iterator

from xdropd.daemon.failures import FAILURES, Failure, noting
from xdropd.daemon.inforce import NO_LIST_YET
from xdropd.daemon.parts import Parts
from xdropd.errors import AlreadyRunning, NotAttachable
from xdropd.host.statefolder import StateFolder
from xdropd.rules.plan import Counted
from xdropd.sources.catalogue import Reading


def start(parts: Parts) -> Iterator[None]:
    """Put the list in force. What fails is the end of a fresh start, never of one that has taken over a filter.

    There, what is in force is looked after, whatever becomes of what should be.
    """
    in_force, telling = parts.in_force, parts.telling
    if parts.state_folder is not None:
        _hold(parts.state_folder)
    inherited = parts.systemd.inherited()
    parts.log_copy.adopt(inherited)
    is_adopted = parts.filter.adopt(inherited)
    parts.handover.take_over()
    if is_adopted:
        parts.log.notice("adopt", "took over the running filter")
    with contextlib.suppress(*FAILURES if is_adopted else ()):  # it fails again below, where it is told
        in_force.prepare_program()
    parts.progress.show("reading the lists")
    refusals = yield from parts.intake.first_settings(is_adopted=is_adopted)
    parts.blocking.load()
    reading: Reading | None = None
    counted = Counted()
    failed: list[Failure] = []
    with noting(failed if is_adopted else None):
        parts.filter.agree()
        reading, refused = yield from parts.intake.first_lists(is_adopted=is_adopted)
        refusals += refused
        yield
        if reading is not None:
            counted = yield from in_force.change_to(parts.reloads.desired(reading), time.time())
        else:
            yield from in_force.renew()
    with noting(failed if is_adopted else None):
        in_force.choose(parts.settings.in_force)
        failures = parts.host.attach_interfaces()
        if failures and not is_adopted and not parts.filter.attachments and len(failures) == 1:
            raise NotAttachable(*failures.values())
        parts.host.tell_interfaces(failures)
    if in_force.state is None:
        telling.trouble("takeover", NO_LIST_YET)
    parts.progress.note_ready()
    parts.reconciling.begin()
    parts.announcing.say_ready()
    if reading is not None and in_force.state is not None:
        parts.announcing.report(reading, counted)
        parts.filter.sources.note_listed(in_force.source_names, time.time())
    yield from parts.reloads.conclude(refusals)
    if failed:
        parts.trust.lose(failed[0])
    parts.log.notice("ready", parts.announcing.status_line())


def _hold(state: StateFolder) -> None:
    try:
        state.hold()
    except BlockingIOError:
        raise AlreadyRunning(
            f"another xdropd keeps its state in {state.path}", "stop it, or choose another --state"
        ) from None
    except OSError:
        pass  # told once something is to be kept there
