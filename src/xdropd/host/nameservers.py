"""The name servers of this host, as its resolvers find them in files.

systemd-resolved puts itself into resolv.conf, on a loopback address, and keeps another file with the name servers that
it asks. That one is read where a name server of the first is this host itself, whoever it is that listens there.
Not here: how a file is followed.
"""

from pathlib import Path

from xdropd.host.files import Signature, read_file
from xdropd.text.addresses import Span
from xdropd.text.resolvconf import name_servers

PATHS = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))

_LIMIT_BYTES = 1 << 20


class NameServers:
    """`known` has each server's address, as of the last reading, and `signatures` what the files were then."""

    def __init__(self) -> None:
        self.known: frozenset[Span] = frozenset()
        self.signatures: dict[Path, Signature | None] = dict.fromkeys(PATHS)
        self._named: dict[Path, frozenset[Span]] = dict.fromkeys(PATHS, frozenset())

    def read(self) -> None:
        """Read the files, which may hang. What cannot be read stays what it was; what is not there names nobody."""
        for path in PATHS:
            try:
                data, self.signatures[path] = read_file(path, _LIMIT_BYTES)
                self._named[path] = name_servers(data)
            except (FileNotFoundError, NotADirectoryError):
                self.signatures[path], self._named[path] = None, frozenset()
            except OSError:
                self.signatures[path] = None
        first, behind = (self._named[path] for path in PATHS)
        self.known = first | behind if any(map(_is_loopback, first)) else first


def _is_loopback(address: Span) -> bool:
    return address.first >> 24 == 127 if address.version == 4 else address.first == 1
