"""What a daemon is made of, put together in the order in which one part needs the other."""

from dataclasses import dataclass
from pathlib import Path

from xdropd.daemon.announcing import Announcing
from xdropd.daemon.blocking import Blocking
from xdropd.daemon.changes import Changes
from xdropd.daemon.expiry import Expiry
from xdropd.daemon.fetching import Fetching
from xdropd.daemon.following import Following
from xdropd.daemon.handover import Handover
from xdropd.daemon.health import Health
from xdropd.daemon.keeping import Keeping
from xdropd.daemon.onwards import Onwards
from xdropd.daemon.ownhost import OwnHost
from xdropd.daemon.progress import Progress
from xdropd.daemon.proving import Proving
from xdropd.daemon.reactor import Reactor
from xdropd.daemon.reconciling import Reconciling
from xdropd.daemon.results import Results
from xdropd.daemon.routing import Routing
from xdropd.daemon.settling import Settling
from xdropd.daemon.trust import Trust
from xdropd.daemon.wanted import ReloadRequest, WantedReloads
from xdropd.daemon.watching import Watching
from xdropd.filter.attaching import Attaching
from xdropd.filter.filter import Filter
from xdropd.filter.program import Program
from xdropd.filter.samples import SampleLog
from xdropd.host.blocklog import BlockLog
from xdropd.host.fetched import FETCHED_FOLDER, WANTED_FILE
from xdropd.host.log import Log
from xdropd.host.nameservers import NameServers
from xdropd.host.netlink import Netlink, Questions
from xdropd.host.statefolder import StateFolder
from xdropd.host.systemd import Systemd
from xdropd.host.telling import Telling
from xdropd.sources.blocks import Blocks
from xdropd.sources.catalogue import Catalogue
from xdropd.sources.logcopy import LogCopy
from xdropd.sources.settingsfile import SettingsFile
from xdropd.text import names


@dataclass(frozen=True, slots=True)
class Places:
    """Where everything is. `state` None: nothing outlives the process. `interfaces` overrides the settings."""

    settings: str
    blocklist: str
    state: Path | None
    interfaces: tuple[str, ...] | None = None
    wish: Path = Path(WANTED_FILE)
    """The file that says what is to be fetched."""
    fetched: Path = Path(FETCHED_FOLDER)
    """The folder of what has been fetched."""


class Parts:
    """One of each."""

    def __init__(self, places: Places, systemd: Systemd, log: Log) -> None:
        self.log = log
        self.systemd = systemd
        self.telling = telling = Telling(log)
        self.progress = progress = Progress(systemd)
        self.results = results = Results(names.shown(places.blocklist))
        self.wanted = wanted = WantedReloads()
        self.reactor = reactor = Reactor(telling)
        self.changes = changes = Changes(lambda: reactor.is_calculating)
        # Sources.
        self.state_folder = StateFolder(places.state) if places.state else None
        self.settings = settings = SettingsFile(places.settings, self.state_folder)
        self.catalogue = catalogue = Catalogue(places.blocklist, self.state_folder, places.fetched)
        self.name_servers = NameServers()
        self.log_copy = LogCopy(systemd)
        block_log = BlockLog(self.state_folder) if self.state_folder else None
        self.blocks = blocks = Blocks(block_log, self.log_copy)
        # The filter.
        self.program = Program(self.state_folder)
        self.netlink = Netlink()
        self.filter = kernel = Filter(systemd, log, self.netlink, self.program, reactor.aside, progress.say)
        self.attaching = Attaching(kernel, self.netlink, telling)
        self.samples = SampleLog(log, self.attaching.place_of)
        # What is in force, and what becomes of it.
        self.lists = lists = kernel.lists
        self.handover = Handover(kernel, catalogue, lists, reactor)
        self.announcing = Announcing(lists, kernel, self.attaching, settings, telling, systemd, progress)
        self.trust = Trust(lists, telling, results, self.announcing)
        self.keeping = Keeping(catalogue, settings, reactor, telling)
        self.following = Following(
            catalogue,
            settings,
            self.name_servers,
            reactor,
            telling,
            wanted.ask_for_any,
            lambda: self.host.hear_name_servers(),
        )
        self.fetching = Fetching(places.wish, places.fetched, catalogue.absolute, reactor, telling)
        self.settling = Settling(lists, self.keeping, self.following, reactor, telling)
        self.routing = Routing(Questions(), reactor)
        self.host = OwnHost(
            places.interfaces,
            self.netlink,
            self.name_servers,
            self.routing,
            self.attaching,
            settings,
            lists,
            changes,
            self.settling,
        )
        self.blocking = Blocking(blocks, lists, changes, reactor, telling)
        self.watching = watching = Watching()
        self.expiry = Expiry(blocks, self.blocking, lists, changes, self.trust, wanted.ask_for_any, watching, log)
        self.proving = Proving(kernel, self.attaching, self.netlink, settings)
        self.onwards = Onwards(kernel, settings, reactor, telling)
        self.reconciling = Reconciling(lists, kernel, settings, reactor, self.announcing)
        self.health = Health(systemd, kernel, self.host, self.following, self.trust, self.announcing, progress, telling)

    def ask_for_reload(self, accept: str | None = None) -> ReloadRequest:
        """Have a reload done for somebody who asks for one, who may have a doubt: reconcile as well, behind it."""
        self.reconciling.is_wanted = True
        return self.wanted.ask(accept)
