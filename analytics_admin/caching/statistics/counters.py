"""Counters of this process' calls: exact under threads, and cheap."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, fields

MAX_FUNCTIONS = 200
"""Functions that one process counts between two reports; those beyond are not counted."""


@dataclass(slots=True, kw_only=True)
class FunctionCounts:
    """Counted calls of one cached function."""

    hits: int = 0
    misses: int = 0
    stale_served: int = 0
    bypassed: int = 0
    bytes: int = 0
    """Of the results that were computed, as they are stored."""
    compute_seconds: float = 0.0

    def add(self, more: "FunctionCounts") -> None:
        """Add other counts to these."""
        for name in FUNCTION_COUNT_NAMES:
            setattr(self, name, getattr(self, name) + getattr(more, name))

    @property
    def calls(self) -> int:
        return self.hits + self.misses + self.stale_served + self.bypassed


FUNCTION_COUNT_NAMES = tuple(item.name for item in fields(FunctionCounts))


@dataclass(slots=True, kw_only=True)
class Counts:
    """Counted calls. Each call is one of hits, misses, stale_served and bypassed."""

    hits: int = 0
    """Served with a fresh value, also after waiting for another caller's computation."""
    misses: int = 0
    """Computed by the caller itself."""
    stale_served: int = 0
    """Served with a value past its timeout during a refresh, or because that failed."""
    bypassed: int = 0
    """Computed because the store was unavailable or full."""
    stale_on_error: int = 0
    """Those of stale_served whose computation failed."""
    fills: int = 0
    """Values stored."""
    refused_fills: int = 0
    """Values computed but not stored: the cache was cleared or the value set meanwhile."""
    compute_errors: int = 0
    """Computations that raised."""
    computed: int = 0
    """Calls of the backend, also in the background."""
    too_large: int = 0
    """Values not stored because of their size."""
    compute_seconds: float = 0.0
    """Time spent in computations."""
    saved_seconds: float = 0.0
    """Time that the served values took to compute when they were stored."""
    functions: dict[str, FunctionCounts] = field(default_factory=dict)
    """Those of cached functions, by name."""

    def add(self, more: "Counts") -> None:
        """Add other counts to these."""
        for name in COUNT_NAMES:
            setattr(self, name, getattr(self, name) + getattr(more, name))
        for function, counts in more.functions.items():
            self.functions.setdefault(function, FunctionCounts()).add(counts)

    @property
    def calls(self) -> int:
        return self.hits + self.misses + self.stale_served + self.bypassed

    @property
    def hit_ratio(self) -> float | None:
        """The share of hits in the calls that reached the store; None without such a call.

        A stale value is not a hit: its caller need not wait, but the backend is still called.
        """
        reached = self.calls - self.bypassed
        return self.hits / reached if reached else None


COUNT_NAMES = tuple(item.name for item in fields(Counts) if item.name != "functions")
_STATES = {"hit": "hits", "miss": "misses", "stale": "stale_served", "bypass": "bypassed"}


class CallCounter:
    """Counts the calls of one process; safe under threads.

    ``on_first`` is called, in the counting thread, at the first count since the last ``take``; and
    at the next one again if it returns False.
    """

    def __init__(self, on_first: Callable[[], bool] | None = None) -> None:
        self._on_first = on_first or (lambda: True)
        self.after_fork()

    def after_fork(self) -> None:
        """Start afresh in a forked child: the parent reports the earlier counts."""
        self._lock = threading.Lock()
        self._counts = Counts()
        self._announced = False

    def hit(self, saved: float) -> None:
        """Count a hit whose computation took ``saved`` seconds. Cheap: this is the hot path."""
        with self._lock:
            counts = self._counts
            counts.hits += 1
            counts.saved_seconds += saved
        if not self._announced:
            self._announce()

    def add(self, **amounts: float) -> None:
        """Add to the named counts."""
        with self._lock:
            for name, amount in amounts.items():
                setattr(self._counts, name, getattr(self._counts, name) + amount)
        if not self._announced:
            self._announce()

    def called(self, function: str, state: str) -> None:
        """Count a call of a cached function by the state of its answer."""
        with self._lock:
            if (counts := self._function(function)) is not None:
                what = _STATES[state]
                setattr(counts, what, getattr(counts, what) + 1)

    def computed(self, function: str, *, size: int, seconds: float) -> None:
        """Count a computation of a cached function; ``size`` is that of its encoded result."""
        with self._lock:
            if (counts := self._function(function)) is not None:
                counts.bytes += size
                counts.compute_seconds += seconds

    def _function(self, name: str) -> FunctionCounts | None:
        functions = self._counts.functions
        if name not in functions and len(functions) < MAX_FUNCTIONS:
            functions[name] = FunctionCounts()
        return functions.get(name)

    def take(self) -> Counts:
        """Return the counts and start from zero."""
        with self._lock:
            taken, self._counts = self._counts, Counts()
            self._announced = False
        return taken

    def rest(self) -> bool:
        """Return whether there is nothing to take; if so, ``on_first`` follows the next count."""
        with self._lock:
            if self._counts != Counts():
                return False
            self._announced = False
            return True

    def _announce(self) -> None:
        self._announced = True  # before the call: a take in between must lead to another call
        if not self._on_first():
            self._announced = False
