"""50,000 mutated files end in a result or in problems with places: no traceback, no hang. The same each run."""

import random
import signal

import pytest

from mutations import BLOCKLISTS, LISTS, SETTINGS, mutated
from xdropd.errors import RefusedFile
from xdropd.sources import trust
from xdropd.text import blocklist, listfiles, settings

SECONDS_AT_MOST = 5  # for one text of a few kilobytes, on a busy machine


def check(problems, data):
    assert problems
    lines = data.count(b"\n") + data.count(b"\r") + data.count(b"\xc2\x85") + data.count(b"\xe2\x80") + 1
    for problem in problems:
        assert problem.file == "FILE"
        assert 1 <= problem.line <= lines + 1
        assert 1 <= problem.column <= len(data) + 2
        assert problem.message.isprintable()
        assert len(problem.message) < 500


def read_strictly(reader, data):
    try:
        reader(data, "FILE")
    except RefusedFile as error:
        check(error.problems, data)
        return False
    return True


def read_leniently(data):
    found = listfiles.read(data, "FILE")
    skipped = [each for each in found.warnings if each.message.startswith("this line is skipped, ")]
    wide = [each for each in skipped if " is wider than " in each.message]
    assert found.lines >= found.unparsed >= len(skipped) - len(wide) >= min(found.unparsed, 20)
    assert found.lines - found.unparsed >= len(wide)
    assert found.listing.count <= found.lines - found.unparsed  # what is there twice is one entry
    if found.warnings:
        check(found.warnings, data)
    objection = trust.objection(found.tally, 100)
    assert objection is None or objection.isprintable()
    return objection is None


@pytest.fixture
def alarm():
    """Start the clock for one text; when it runs out, the test fails there."""

    def ring(signum, frame):
        raise AssertionError("a text took too long")

    before = signal.signal(signal.SIGALRM, ring)
    yield lambda: signal.setitimer(signal.ITIMER_REAL, SECONDS_AT_MOST)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(
    ("count", "bases", "read"),
    [
        (22_000, BLOCKLISTS, lambda data: read_strictly(blocklist.read, data)),
        (8_000, SETTINGS, lambda data: read_strictly(settings.read, data)),
        (20_000, LISTS, read_leniently),
    ],
    ids=["blocklist", "settings", "lists"],
)
@pytest.mark.threat_model
def test_mutated_files(count, bases, read, alarm):
    order = random.Random(count)
    good = 0
    for number in range(count):
        data = mutated(order, bases)
        alarm()
        try:
            good += read(data)
        except BaseException:
            print(f"text {number}: {data!r}")
            raise
    assert count * 0.02 < good < count * 0.98, "the mutations are too wild or too tame"
