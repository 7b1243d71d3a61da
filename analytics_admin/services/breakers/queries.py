"""Queries on circuit breakers: lists, pages, one in detail, and the origin of its policy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from analytics_admin.breakers import listing, runtime
from analytics_admin.breakers.listing import find_breakers
from analytics_admin.breakers.policy import (
    BreakerPolicy,
    decode_policy,
    default_options,
    plain_policy,
)
from analytics_admin.breakers.runtime import (
    UnknownBreakers,
    declared_names,
    effective_policy,
    policy_layers,
)
from analytics_admin.breakers.state import NO_COUNTS, Control, Snapshot, State
from analytics_admin.breakers.status import BreakerStatus, build_status
from analytics_admin.breakers.stores.base import Inspection
from analytics_admin.breakers.sync import POLICY_REPORT_SECONDS
from analytics_admin.services.audit import is_storable
from analytics_admin.services.breakers.types import (
    BreakerDetail,
    BreakerPage,
    as_activities,
    as_failure,
    as_history,
    as_transition,
    entered_at,
    find_opening,
)
from analytics_admin.services.obedience import count_obedient
from analytics_admin.services.values import as_time, require_choice, require_page

BREAKER_SORTS = listing.SORTS
REJECTING_STATES = listing.REJECTING_STATES
BREAKER_STATES = (
    *(state.value for state in State),
    *(control.value for control in Control if control is not Control.AUTOMATIC),
)
"""States as calls meet them: a hold counts as one."""
MAX_BREAKERS_PER_PAGE = 100
DEFAULT = "default"
ELSEWHERE = "elsewhere"
_Policy = tuple[BreakerPolicy, dict[str, Any]]
"""A policy, and its options as JSON has them."""


def list_breakers(
    *, state: str | None = None, search: str = "", sort: str = "name"
) -> list[BreakerStatus]:
    """Return the registered breakers, optionally in one state and with ``search`` in the name.

    ``sort`` is "name", or "urgency": rejecting breakers first, closed ones last.

    Raises:
        TypeError, ValueError: no such state or order; ``search`` is no str.
        StoreUnavailable: the states are unknown.
    """
    _require_filters(state, search, sort)
    matches = find_breakers(state=state, search=search, sort=sort, bounds=slice(None))
    return list(matches.breakers)


def page_breakers(
    *,
    state: str | None = None,
    search: str = "",
    sort: str = "name",
    page: int = 1,
    page_size: int = MAX_BREAKERS_PER_PAGE,
    activity: bool = False,
    processes: bool = False,
) -> BreakerPage:
    """Return a page of list_breakers; a page beyond the last is empty.

    With ``activity`` it has the recent activity of the page's breakers, with ``processes`` how many
    processes are up to date.

    Raises:
        TypeError, ValueError: also for ``page`` below 1 and ``page_size`` outside 1 to 100.
        StoreUnavailable
    """
    _require_filters(state, search, sort)
    require_page(page, page_size, max_size=MAX_BREAKERS_PER_PAGE, of="breakers")
    for option, value in {"activity": activity, "processes": processes}.items():
        if not isinstance(value, bool):
            raise TypeError(f"{option} has to be a bool, not {value!r}")
    bounds = slice((page - 1) * page_size, page * page_size)
    matches = find_breakers(
        state=state,
        search=search,
        sort=sort,
        bounds=bounds,
        activity=activity,
        processes=processes,
    )
    names = [status.name for status in matches.breakers]
    pages = max(1, -(-matches.count // page_size))
    return BreakerPage(
        count=matches.count,
        page=page,
        pages=pages,
        breakers=matches.breakers,
        states=matches.states,
        at=as_time(matches.reading.now),
        activity=as_activities(matches.reading, names) if activity else {},
        processes=count_obedient(matches.processes, matches.sequence, matches.reading.now)
        if processes
        else None,
    )


def describe_breaker(name: str) -> BreakerDetail:
    """Return one registered breaker in detail.

    Raises:
        TypeError: ``name`` is no str.
        UnknownBreakers, StoreUnavailable
    """
    if not isinstance(name, str):
        raise TypeError(f"a circuit breaker's name has to be a str, not {name!r}")
    if not is_storable(name):
        raise UnknownBreakers([name])
    policy = effective_policy(name)
    inspection = runtime.operator_store().inspect(name, policy.window)
    if not inspection.is_registered(runtime.keep_for()) and name not in declared_names():
        raise UnknownBreakers([name], runtime.registered_names())
    return _detail(
        name, inspection, _policies_in_use(inspection) or [(policy, plain_policy(policy))]
    )


def is_known(name: str) -> bool:
    """Return whether a breaker of this name is registered, or declared here.

    Raises:
        StoreUnavailable
    """
    try:
        runtime.require_known([name])
    except UnknownBreakers:
        return False
    return True


def is_declared(name: str) -> bool:
    """Return whether this site's code or settings declare the breaker, as far as known here."""
    return name in declared_names()


def _detail(name: str, inspection: Inspection, in_use: Sequence[_Policy]) -> BreakerDetail:
    policy, history = in_use[0][0], inspection.history
    window = inspection.windows.get(policy.window, NO_COUNTS) if policy.window else NO_COUNTS
    snapshot = replace(inspection.snapshot or Snapshot(generation=""), window=window)
    rated = window if policy.window and window.calls >= policy.calls_needed else None
    status = build_status(name, snapshot, inspection.now, policy)
    transitions = [as_transition(record) for record in history.transitions]
    return BreakerDetail(
        status=status,
        at=as_time(inspection.now),
        since=entered_at(snapshot),
        policy=in_use[0][1],
        other_policies=[plain for _, plain in in_use[1:]],
        window=window if policy.window else None,
        failure_rate=rated.failure_rate() if rated else None,
        slow_call_rate=rated.slow_rate() if rated else None,
        opened=find_opening(status, transitions),
        last_used=as_time(inspection.seen_at) if inspection.seen_at else None,
        failures=[as_failure(record) for record in history.failures],
        history=as_history(history.periods, inspection.now),
        transitions=transitions,
    )


def _policies_in_use(inspection: Inspection) -> list[_Policy]:
    """Return the policies that processes reported, newest first, without outdated ones.

    Each process reports its policy once an hour.
    """
    newest_first = sorted(inspection.history.policies.items(), key=lambda reported: -reported[1])
    recent = [
        text
        for number, (text, at) in enumerate(newest_first)
        if number == 0 or at > inspection.now - 2 * POLICY_REPORT_SECONDS
    ]
    return [policy for text in recent if (policy := decode_policy(text)) is not None]


def _require_filters(state: str | None, search: str, sort: str) -> None:
    require_choice("state", state, (None, *BREAKER_STATES))
    require_choice("sort", sort, BREAKER_SORTS)
    if not isinstance(search, str):
        raise TypeError(f"search has to be a str, not {search!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyOption:
    """One option of a policy. Exceptions and functions are named.

    ``default`` is its value were it not set: of ``failure_threshold`` None beside a rate.
    """

    name: str
    value: Any
    default: Any
    chosen_by: str
    """"default", "code", "BREAKER_DEFAULTS" or "BREAKERS" (settings), or "elsewhere": another
    process' code or settings."""

    @property
    def is_default(self) -> bool:
        return self.chosen_by == DEFAULT


def explain_policy(name: str, policy: Mapping[str, Any]) -> list[PolicyOption]:
    """Return every option of the ``policy`` from describe_breaker, and where it was set.

    A default that was set explicitly counts as set.
    """
    defaults, local = default_options(policy), plain_policy(effective_policy(name))
    layers = policy_layers(name)

    def chosen_by(option: str) -> str:
        if policy[option] == local[option]:
            return layers.get(option, DEFAULT)
        return DEFAULT if policy[option] == defaults[option] else ELSEWHERE

    return [
        PolicyOption(
            name=option, value=policy[option], default=default, chosen_by=chosen_by(option)
        )
        for option, default in defaults.items()
    ]
