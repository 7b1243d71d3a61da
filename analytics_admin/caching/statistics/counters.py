"""What the calls of this process came to, counted exactly and cheaply.

Knows nothing of a store; whoever keeps the figures takes them from here.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, fields


@dataclass(slots=True, kw_only=True)
class Counts:
    """Calls since the last take. Each call is one of hits, misses, stale_served and bypassed."""

    hits: int = 0
    """Served with a fresh value, be it after a wait for another's computation."""
    misses: int = 0
    """Computed by the caller itself."""
    stale_served: int = 0
    """Served with a value past its time, while another refreshed it or the computation failed."""
    bypassed: int = 0
    """Computed with the store away."""
    stale_on_error: int = 0
    """Those of stale_served whose computation failed."""
    fills: int = 0
    """Values stored."""
    refused_fills: int = 0
    """Values computed and not stored, for the cache was cleared or the value set meanwhile."""
    compute_errors: int = 0
    """Computations that raised."""
    too_large: int = 0
    """Values not stored for their size."""
    compute_seconds: float = 0.0
    """Time that computations took."""
    saved_seconds: float = 0.0
    """Time that the computations of values served would have taken, as they did when stored."""

    def add(self, more: "Counts") -> None:
        """Add another's figures to these."""
        for name in COUNT_NAMES:
            setattr(self, name, getattr(self, name) + getattr(more, name))

    @property
    def calls(self) -> int:
        return self.hits + self.misses + self.stale_served + self.bypassed

    @property
    def hit_ratio(self) -> float | None:
        """The share of hits in the calls that the cache was there for; None without such a call.

        A stale answer is no hit: it spares its caller the wait, and the backend is asked.
        """
        asked = self.calls - self.bypassed
        return self.hits / asked if asked else None


COUNT_NAMES = tuple(item.name for item in fields(Counts))


class CallCounter:
    """The counts of one process; exact under threads.

    ``on_first`` is called, in the thread that counts, when something has been counted since the
    last take.
    """

    def __init__(self, on_first: Callable[[], None] | None = None) -> None:
        self._on_first = on_first or _nobody_listens
        self.after_fork()

    def after_fork(self) -> None:
        """Begin anew in a forked child: what was counted before is its parent's to tell."""
        self._lock = threading.Lock()
        self._counts = Counts()
        self._said = False

    def hit(self, saved: float) -> None:
        """Count a hit whose computation took ``saved`` seconds. Cheap: this is the hot path."""
        with self._lock:
            counts = self._counts
            counts.hits += 1
            counts.saved_seconds += saved
        if not self._said:
            self._say()

    def add(self, **amounts: float) -> None:
        """Add to the counts named."""
        with self._lock:
            for name, amount in amounts.items():
                setattr(self._counts, name, getattr(self._counts, name) + amount)
        if not self._said:
            self._say()

    def take(self) -> Counts:
        """Return the counts and begin anew."""
        with self._lock:
            taken, self._counts = self._counts, Counts()
            self._said = False
        return taken

    def rest(self) -> bool:
        """Say whether there is nothing to take; then ``on_first`` is called for the next count."""
        with self._lock:
            if self._counts != Counts():
                return False
            self._said = False
            return True

    def _say(self) -> None:
        self._said = True  # before the call: a take in between is to be followed by another
        self._on_first()


def _nobody_listens() -> None:
    """Let counts be; whoever made these takes them by hand."""
