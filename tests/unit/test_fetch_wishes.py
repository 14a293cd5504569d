"""What the daemon says of URLs: what it wants, what never came, what is stale, who has asked."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from waiting import wait_until
from xdropd.daemon import fetching
from xdropd.daemon.fetching import Fetching
from xdropd.daemon.reactor import Reactor
from xdropd.host import fetched
from xdropd.host.fetched import State, Wanted
from xdropd.host.log import Log
from xdropd.host.telling import Telling
from xdropd.sources.catalogue import Catalogue

URL, OTHER = "https://lists.example/drop.txt", "https://lists.example/other.txt"


class Told(Log):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def event(self, level: int, _event: str, message: str, **_: str | int) -> None:
        self.lines.append(f"{level} {message}")


class Scene:
    """The part of a daemon that fetches, with the files it reads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "fetched"
        self.folder.mkdir()
        self.wish = folder / "fetch.json"
        self.blocklist = folder / "blocklist.yaml"
        self.log = Told()
        self.telling = Telling(self.log)
        self.reactor = Reactor(self.telling)
        self.catalogue = Catalogue(str(self.blocklist), None, self.folder)
        self.fetching = Fetching(self.wish, self.folder, self.catalogue.absolute, self.reactor, self.telling)

    def read(self, include: str) -> None:
        self.blocklist.write_text(f"block: []\ninclude: {include}\n")
        self.fetching.want(self.catalogue.read())

    def until(self, condition: Callable[[], Any], later_s: float = 0.0) -> None:
        """Have what is due done until something is so, as if it were so much later."""

        def looked() -> Any:
            self.fetching.look_after(time.monotonic() + later_s)
            self.reactor.take_done()
            return condition()

        wait_until(looked, within_s=10)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_what_is_wanted(scene: Scene) -> None:
    scene.read(f"[{URL}, {{url: {OTHER}, every: 5m, headers: h, sha256: {'AB' * 32}}}, {URL}]")
    wanted = (Wanted(URL, 86_400), Wanted(OTHER, 300, str(scene.blocklist.parent / "h"), "ab" * 32))
    scene.until(lambda: fetched.read_wanted(scene.wish) == wanted)
    scene.read("[]")
    scene.until(lambda: not scene.wish.exists())
    assert scene.fetching.states == {}


def test_a_wish_that_cannot_be_written_is_a_trouble_until_it_can(scene: Scene) -> None:
    scene.wish.mkdir()
    (scene.wish / "file").touch()
    scene.read(f"[{URL}]")
    scene.until(lambda: "fetch.json" in scene.telling.troubles)
    (scene.wish / "file").unlink()
    scene.wish.rmdir()
    scene.until(lambda: not scene.telling.troubles, later_s=120)
    assert fetched.read_wanted(scene.wish) == (Wanted(URL, 86_400),)


def test_what_never_came_is_a_trouble_after_ten_minutes(scene: Scene) -> None:
    scene.read(f"[{URL}]")
    scene.fetching.look_after(time.monotonic() + fetching._MISSED_AFTER_S - 10)
    assert not scene.telling.is_degraded
    scene.until(lambda: scene.telling.is_degraded, later_s=601)
    assert "nobody has fetched it, see: systemctl status" in scene.telling.all_troubles()[0]
    fetched.write_state(scene.folder, State(URL, failures=1, failure="lists.example does not answer"))
    why = f"{URL}: has not come yet: lists.example does not answer"
    scene.until(lambda: scene.telling.all_troubles() == [why], later_s=700)
    scene.read(f"[{URL}]")
    scene.until(lambda: scene.telling.all_troubles() == [why], later_s=700)
    assert sum(why in line for line in scene.log.lines) == 1, "once"
    fetched.list_path(scene.folder, URL).write_text("192.0.2.1\n")
    scene.read(f"[{URL}]")
    scene.until(lambda: not scene.telling.is_degraded, later_s=701)


@pytest.mark.parametrize(
    ("every", "interval_s", "age_s", "is_stale"),
    [("5m", 300, 800, False), ("5m", 300, 1000, True), ("5m", 3600, 1000, False), ("1h", 300, 10_000, False)],
)
def test_what_is_not_renewed_is_a_warning(
    scene: Scene, every: str, interval_s: int, age_s: int, is_stale: bool
) -> None:
    """For three times its interval, or the one that the server asks for."""
    fetched.list_path(scene.folder, URL).write_text("192.0.2.1\n")
    fetched.write_state(scene.folder, State(URL, time.time() - age_s, interval_s=interval_s, failure="no answer"))
    scene.read(f"[{{url: {URL}, every: {every}}}]")
    scene.until(lambda: scene.fetching.states)
    scene.until(lambda: True)
    told = [line for line in scene.log.lines if line.startswith("4 ") and "not renewed since" in line]
    assert len(told) == is_stale
    assert all(line.endswith("what came then stays: no answer") for line in told)
    assert not scene.telling.is_degraded


def test_who_asks_waits_until_it_is_done_and_two_wait_for_the_same(scene: Scene) -> None:
    scene.read(f"[{URL}, {OTHER}]")
    assert scene.fetching.is_done(URL)
    scene.fetching.ask([URL])
    assert not scene.fetching.is_done(URL)
    assert scene.fetching.is_done(OTHER)
    scene.until(lambda: (fetched.read_wanted(scene.wish) or [None])[0] == scene.fetching.wanted[0])
    first = scene.fetching.wanted[0].asked
    assert first is not None
    scene.fetching.ask([URL])
    assert scene.fetching.wanted[0].asked == first
    fetched.write_state(scene.folder, State(URL, asked=first))
    scene.until(lambda: scene.fetching.is_done(URL), later_s=5)
    scene.read(f"[{OTHER}]")
    assert scene.fetching.is_done(URL)


def test_somebody_at_work_is_seen(scene: Scene) -> None:
    from xdropd.fetch.fetcher import Fetcher

    scene.read(f"[{URL}]")
    with Fetcher(scene.folder, scene.log).alone():
        scene.until(lambda: scene.fetching.is_at_work)
    scene.until(lambda: not scene.fetching.is_at_work, later_s=60)


def test_what_a_fetcher_makes_the_daemon_may_read(tmp_path: Path) -> None:
    """Whatever the umask of who starts it in the foreground; what is there already stays as it was."""
    from xdropd.fetch.fetcher import Fetcher

    folder = tmp_path / "there" / "some" / "fetched"
    folder.parents[1].mkdir(mode=0o710)
    before = os.umask(0o077)
    try:
        with Fetcher(folder, Told()).alone():
            pass
    finally:
        os.umask(before)
    modes = [path.stat().st_mode & 0o777 for path in (folder, *folder.parents[:2])]
    assert modes == [0o755, 0o755, 0o710]
