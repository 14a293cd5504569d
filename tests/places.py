"""Where tests keep what is slow to make."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Downloads and the like, kept between runs; the folder that scripts/test uses."""
    users = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    folder = (Path("/var/cache") if os.geteuid() == 0 else users) / "xdropd-tests"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
