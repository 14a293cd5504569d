"""How much of the tests runs: everything (scripts/test --full), or as much as CI has time for."""

import os

IS_FULL = os.environ.get("XDROPD_FULL") == "1"
