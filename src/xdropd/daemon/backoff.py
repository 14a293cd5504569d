"""When to try again what the world refused, and may not refuse for ever: soon, then more and more rarely."""

FIRST_SECONDS = 5.0
SECONDS_AT_MOST = 60.0


class Backoff:
    """Tries of one thing. Times are those of time.monotonic(), in seconds."""

    def __init__(self) -> None:
        self._due_at = 0.0
        self._seconds = FIRST_SECONDS

    def failed(self, now: float) -> None:
        """It did not work: wait, and after the next failure twice as long, a minute at most."""
        self._due_at = now + self._seconds
        self._seconds = min(2 * self._seconds, SECONDS_AT_MOST)

    def succeeded(self) -> None:
        """It worked: the next failure is a first one."""
        self._seconds = FIRST_SECONDS

    def is_due(self, now: float) -> bool:
        """Whether to try again."""
        return now >= self._due_at
