"""What the questions about circuit breakers are answered with, and how JSON says it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any

from analytics_admin.breakers.history import PERIOD_SECONDS
from analytics_admin.breakers.state import Counts
from analytics_admin.breakers.status import BreakerStatus

PERIODS_A_MINUTE = 60 // PERIOD_SECONDS
NOT_SAID = ("status", "at")
"""Parts of a detail that JSON says otherwise, or not at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPage:
    """One page of a list; ``count`` is how many breakers all ``pages`` have."""

    count: int
    page: int
    pages: int
    breakers: Sequence[BreakerStatus]
    states: Mapping[str, int]
    """How many of all the site's breakers are in each state, listed or not."""
    at: datetime
    """When the store was read, by its clock: ``retry_after`` counts from then on."""
    activity: "Mapping[str, BreakerActivity]"
    """Of each of ``breakers`` by name, if it was asked for; else empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerTransition:
    """A breaker's move from one state or hold to another; ``actor`` is the operator behind it."""

    at: datetime
    from_state: str
    to_state: str
    cause: str
    actor: str
    consecutive_failures: int
    counts: Counts
    """What had been counted until then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerFailure:
    """One of the last failures, in the process that saw it."""

    at: datetime
    error: str
    """The exception's class; empty where no exception told of the failure."""
    message: str
    """The exception's text, cut; empty where the site does not keep texts."""
    host: str
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPeriod:
    """The calls of ten seconds from ``at`` on."""

    at: datetime
    counts: Counts
    rejected: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerActivity:
    """What a listed breaker has been doing lately."""

    last_change: BreakerTransition | None
    """The newest of its transitions that is kept; None: none is."""
    since: datetime | None
    """When it came to be so; None for one that nobody has used yet."""
    history: Sequence[BreakerPeriod]
    """The last five minutes, oldest first, without gaps; the newest period is not over yet."""

    @property
    def failure_rate(self) -> float | None:
        """Per cent of the calls in ``history``; None without any."""
        calls = sum(period.counts.calls for period in self.history)
        failures = sum(period.counts.failures for period in self.history)
        return 100 * failures / calls if calls else None

    @property
    def calls_per_minute(self) -> float:
        """Calls of the newest minute whose periods are all over, those rejected not among them."""
        minute = self.history[-1 - PERIODS_A_MINUTE : -1]
        return float(sum(period.counts.calls for period in minute))

    @property
    def rejected(self) -> int:
        """Calls that were rejected in ``history``."""
        return sum(period.rejected for period in self.history)


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerDetail:
    """All that is known of one breaker."""

    status: BreakerStatus
    at: datetime
    """When the store was read, by its clock: ``retry_after`` counts from then on."""
    since: datetime | None
    """When it came to be so; None for one that nobody has used yet."""
    policy: Mapping[str, Any]
    """Every option, exceptions and functions by their names, as the fleet last told it."""
    other_policies: Sequence[Mapping[str, Any]]
    """Those that other processes told in the last two hours: during a deploy there are several."""
    window: Counts | None
    """Those that the rates are taken of; None when the policy asks for no rate."""
    failure_rate: float | None
    """Per cent in the window; None while it holds fewer calls than the policy's minimum."""
    slow_call_rate: float | None
    opened: BreakerTransition | None
    """Why it is open or half-open, or would be but for metrics_only: the move that made it so."""
    last_used: datetime | None
    """When a process last said that it uses it, which each does hourly; None: none ever did."""
    failures: Sequence[BreakerFailure]
    """The last ten, newest first; of earlier generations too."""
    history: Sequence[BreakerPeriod]
    """The last five minutes, oldest first, without gaps; the newest period is not over yet."""
    transitions: Sequence[BreakerTransition]
    """The last twenty, newest first."""


def as_plain(about: BreakerStatus | BreakerDetail) -> dict[str, Any]:
    """Return the answer as JSON says it: numbers, null for what is not known, ISO 8601 times."""
    if isinstance(about, BreakerStatus):
        return {key: _plain(value) for key, value in asdict(about).items()}
    rest = {
        item.name: _plain(getattr(about, item.name))
        for item in fields(about)
        if item.name not in NOT_SAID
    }
    return {**as_plain(about.status), **rest}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, BreakerTransition | BreakerFailure | BreakerPeriod | Counts):
        return {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
    return value
