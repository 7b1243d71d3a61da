"""The questions about circuit breakers: which there are, and all that is known of one.

Services offers these to every door; nothing here changes anything.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any

from analytics_admin.audit import is_storable
from analytics_admin.breakers import engine, roster
from analytics_admin.breakers.evidence import (
    PERIOD,
    FailureRecord,
    Period,
    TransitionRecord,
    first_period,
)
from analytics_admin.breakers.listing import SORTS, list_part
from analytics_admin.breakers.policy import BreakerPolicy
from analytics_admin.breakers.registry import UnknownBreakers, declared_names, effective_policy
from analytics_admin.breakers.roster import BreakerStatus
from analytics_admin.breakers.snapshot import Control, Counts, Snapshot, State
from analytics_admin.breakers.store import WOULD_OPEN, Report

BREAKER_STATES = (
    *(state.value for state in State),
    *(control.value for control in Control if control is not Control.AUTOMATIC),
)
"""What calls can meet: a state, or a hold in force."""
LARGEST_PAGE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPage:
    """One page of a list; ``count`` is how many breakers all ``pages`` have."""

    count: int
    page: int
    pages: int
    breakers: Sequence[BreakerStatus]
    states: Mapping[str, int]
    """How many of all the site's breakers are in each state, listed or not."""


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
class BreakerDetail:
    """All that is known of one breaker."""

    status: BreakerStatus
    since: datetime | None
    """When it came to be so; None for one that nobody has used yet."""
    policy: BreakerPolicy
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


def list_breakers(
    *, state: str | None = None, search: str = "", sort: str = "name"
) -> list[BreakerStatus]:
    """Return the registered breakers: all, or those in the state, whose names hold ``search``.

    ``sort`` is "name", or "urgency": first those that refuse calls, last the closed ones.

    Raises:
        TypeError, ValueError: there is no such state or order; ``search`` is no text.
        StoreUnavailable: the shared store does not answer; nothing is known of any of them.
    """
    _require_filters(state, search, sort)
    part = list_part(state=state, search=search, sort=sort, bounds=slice(None))
    return list(part.breakers)


def page_breakers(
    *,
    state: str | None = None,
    search: str = "",
    sort: str = "name",
    page: int = 1,
    page_size: int = LARGEST_PAGE,
) -> BreakerPage:
    """Return a page of what list_breakers lists; one beyond the last is empty.

    Raises:
        TypeError, ValueError: also for a page below 1 and a size that is not 1 to 100.
        StoreUnavailable
    """
    _require_filters(state, search, sort)
    if not all(type(number) is int for number in (page, page_size)):
        raise TypeError("page and page_size have to be whole numbers")
    if page < 1 or not 1 <= page_size <= LARGEST_PAGE:
        raise ValueError(f"pages count from 1 and have 1 to {LARGEST_PAGE} breakers")
    bounds = slice((page - 1) * page_size, page * page_size)
    part = list_part(state=state, search=search, sort=sort, bounds=bounds)
    pages = max(1, -(-part.count // page_size))
    return BreakerPage(
        count=part.count, page=page, pages=pages, breakers=part.breakers, states=part.states
    )


def look_up_breakers(names: Sequence[str]) -> list[BreakerStatus]:
    """Return these registered breakers by name, each once.

    Raises:
        UnknownBreakers, StoreUnavailable
    """
    roster.require_known(names)
    return roster.statuses(sorted(set(names)))


def describe_breaker(name: str) -> BreakerDetail:
    """Return what is known of one registered breaker; changes and creates nothing.

    Raises:
        TypeError: ``name`` is no text.
        UnknownBreakers, StoreUnavailable
    """
    if not isinstance(name, str):
        raise TypeError(f"a circuit breaker's name has to be a str, not {name!r}")
    if not is_storable(name):
        raise UnknownBreakers([name])
    policy = effective_policy(name)
    found = engine.act_store().inspect(Report(name=name, window=policy.window))
    snapshot, evidence = found.snapshot, found.evidence
    if not found.is_registered(engine.keep_for()) and name not in declared_names():
        raise UnknownBreakers([name])
    known = snapshot or Snapshot(generation="")
    judged = known.window if policy.window and known.window.calls >= policy.calls_needed else None
    status = roster.status_of(name, snapshot, found.now)
    transitions = [_transition(record) for record in evidence.transitions]
    return BreakerDetail(
        status=status,
        since=_time(known.entered_at) if known.entered_at else None,
        policy=policy,
        window=known.window if policy.window else None,
        failure_rate=judged.failure_rate() if judged else None,
        slow_call_rate=judged.slow_rate() if judged else None,
        opened=_opened(status, transitions),
        last_used=_time(found.seen_at) if found.seen_at else None,
        failures=[_failure(record) for record in evidence.failures],
        history=_history(evidence.periods, found.now),
        transitions=transitions,
    )


def as_plain(about: BreakerStatus | BreakerDetail) -> dict[str, Any]:
    """Return the answer as JSON says it: numbers, null for what is not known, ISO 8601 times."""
    if isinstance(about, BreakerStatus):
        return {key: _plain(value) for key, value in asdict(about).items()}
    rest = {
        item.name: _plain(getattr(about, item.name))
        for item in fields(about)
        if item.name not in ("status", "policy")
    }
    return {**as_plain(about.status), "policy": _plain_policy(about.policy), **rest}


def _require_filters(state: str | None, search: str, sort: str) -> None:
    _require_choice("state", state, (None, *BREAKER_STATES))
    _require_choice("sort", sort, SORTS)
    if not isinstance(search, str):
        raise TypeError(f"search has to be a str, not {search!r}")


def _require_choice(what: str, given: str | None, choices: Sequence[str | None]) -> None:
    if given not in choices:
        raise ValueError(f"{what} must be one of {', '.join(filter(None, choices))}")


def _transition(record: TransitionRecord) -> BreakerTransition:
    return BreakerTransition(
        at=_time(record.at),
        from_state=record.from_state,
        to_state=record.to_state,
        cause=record.cause,
        actor=record.actor,
        consecutive_failures=record.consecutive_failures,
        counts=record.counts,
    )


def _opened(
    status: BreakerStatus, transitions: Sequence[BreakerTransition]
) -> BreakerTransition | None:
    """Return the newest move into open, if that is still why calls meet what they meet."""
    if status.would_open:
        wanted = WOULD_OPEN
    elif status.state in (State.OPEN, State.HALF_OPEN):
        wanted = State.OPEN.value
    else:
        return None
    return next((move for move in transitions if move.to_state == wanted), None)


def _failure(record: FailureRecord) -> BreakerFailure:
    return BreakerFailure(
        at=_time(record.at),
        error=record.error,
        message=record.message,
        host=record.host,
        pid=record.pid,
    )


def _history(periods: Sequence[Period], now: float) -> list[BreakerPeriod]:
    """Return every period of the five minutes, also those without calls."""
    found = {period.at: period for period in periods}
    every = range(first_period(now), int(now) + 1, PERIOD)
    return [
        BreakerPeriod(at=_time(at), counts=period.calls, rejected=period.rejected)
        for at in every
        for period in [found.get(at) or Period(at=at)]
    ]


def _time(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, BreakerTransition | BreakerFailure | BreakerPeriod | Counts):
        return {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
    return value


def _plain_policy(policy: BreakerPolicy) -> dict[str, Any]:
    """Exception classes and functions go by their names."""
    options = {item.name: getattr(policy, item.name) for item in fields(policy)}
    for option in ("record_exceptions", "ignore_exceptions"):
        options[option] = [_dotted(cls) for cls in options[option]]
    judge = policy.record_result
    return {**options, "record_result": None if judge is None else _dotted(judge)}


def _dotted(thing: Any) -> str:
    """A callable object may have no name of its own; its class has."""
    named = thing if hasattr(thing, "__qualname__") else type(thing)
    return f"{named.__module__}.{named.__qualname__}"
