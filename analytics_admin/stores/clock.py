"""A server's clock, as a process reckons it between two answers."""

PERIOD_SECONDS = 30.0


class ServerClock:
    """How far a server's clock is ahead of the monotonic one.

    Each answer tells, but one that was late makes it seem less: the best of the last half to whole
    minute counts. It is too much if the server's clock was set back, or another server answers: the
    first answer that shows this replaces it.
    """

    def __init__(self) -> None:
        self.offset: float | None = None
        """Seconds; None before the first answer."""
        self._began_at = float("-inf")
        self._best = self._best_before = float("-inf")

    def note(self, now: float, *, asked_at: float, heard_at: float) -> None:
        """Learn from an answer of the server's time ``now``, between two monotonic instants."""
        least, most = now - heard_at, now - asked_at
        if max(self._best, self._best_before) > most:
            self._best = self._best_before = float("-inf")
            self._began_at = heard_at
        elif heard_at - self._began_at > PERIOD_SECONDS:
            self._best_before, self._best = self._best, float("-inf")
            self._began_at = heard_at
        self._best = max(self._best, least)
        self.offset = max(self._best, self._best_before)
