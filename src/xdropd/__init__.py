"""xdropd: drop every packet of a listed source before the network stack sees it."""

__version__ = "1.0.0"
