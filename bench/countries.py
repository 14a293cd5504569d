"""Ten large countries out of a real database in MaxMind's format.

The database is not ours to ship: @ip-location-db/geo-whois-asn-country-mmdb comes from the npm registry, or is the file
that $XDROPD_COUNTRIES names.
"""

import os
import subprocess
import tempfile
from pathlib import Path

from bench import included
from bench.figures import Demand, Effort, Report
from xdropd.errors import Unavailable
from xdropd.text import listfiles
from xdropd.text.listfiles import How

_GROUP = "countries"
_PACKAGE = "@ip-location-db/geo-whois-asn-country-mmdb"
_LARGE = ("US", "CN", "RU", "DE", "GB", "FR", "IN", "BR", "JP", "AU")


def measure(report: Report, effort: Effort) -> None:
    """One database. Raises Unavailable where it cannot be had."""
    countries = _LARGE[:1] if effort.is_quick else _LARGE
    select = tuple(f"country={code}" for code in countries)
    with tempfile.TemporaryDirectory() as folder:
        file = _database(Path(folder))
        found = listfiles.read(file.read_bytes(), file.name, How(select=select)).listing.selections
        count = sum(len(members.keys) for members in found.members.values())
        name = f"{len(countries)} of a database of a million prefixes"
        include = f'{{path: "{file}", select: [{", ".join(select)}]}}'
        included.measure(report, effort, _GROUP, name, count, include, Demand(2))


def _database(folder: Path) -> Path:
    if given := os.environ.get("XDROPD_COUNTRIES"):
        return Path(given).resolve()
    try:
        packed = subprocess.run(
            ["npm", "pack", "--silent", _PACKAGE], cwd=folder, check=True, capture_output=True, text=True
        ).stdout.strip()
        subprocess.run(["tar", "--extract", "--file", packed], cwd=folder, check=True)
    except (OSError, subprocess.CalledProcessError) as problem:
        raise Unavailable(f"npm pack {_PACKAGE} fails, name the file with XDROPD_COUNTRIES") from problem
    return folder / "package" / "geo-whois-asn-country.mmdb"
