"""The operator's acts and questions: the only door into breakers and caching.

The admin, the API and the commands call these and nothing beneath them. Every act is permitted,
audited and announced here, so that it is the same act through each door.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from analytics_admin import audit
from analytics_admin.access import Act, may
from analytics_admin.acts import (
    FAILURE,
    MAX_REASON_LENGTH,
    ActDenied,
    ActFailed,
    ActRefused,
    ActResult,
    authorize,
    deny,
    failing_as,
)
from analytics_admin.audit import Actor
from analytics_admin.breaker_reports import (
    BREAKER_STATES,
    LARGEST_PAGE,
    BreakerDetail,
    BreakerPage,
    BreakerTransition,
    as_plain,
    describe_breaker,
    list_breakers,
    page_breakers,
)
from analytics_admin.breakers import roster
from analytics_admin.breakers.registry import UnknownBreakers
from analytics_admin.breakers.roster import BreakerMoved, BreakerReset, BreakerStatus
from analytics_admin.breakers.snapshot import Control
from analytics_admin.caching import purge
from analytics_admin.conf import app_settings
from analytics_admin.connections import StoreUnavailable
from analytics_admin.models import Operation
from analytics_admin.signals import search_cache_cleared

DEFAULT_HOLD = 3600.0
"""Seconds that a hold lasts unless its operator says otherwise."""
LONGEST_HOLD = 366 * 86_400.0
"""Seconds; a longer hold has to be said to be for ever."""
CONTROLS = tuple(control.value for control in Control)
"""What a breaker can be set to."""

__all__ = [
    "BREAKER_STATES",
    "CONTROLS",
    "FAILURE",
    "LARGEST_PAGE",
    "MAX_REASON_LENGTH",
    "Act",
    "ActDenied",
    "ActFailed",
    "ActRefused",
    "ActResult",
    "Actor",
    "BreakerDetail",
    "BreakerMoved",
    "BreakerPage",
    "BreakerStatus",
    "BreakerTransition",
    "SearchCacheStatus",
    "StoreUnavailable",
    "UnknownBreakers",
    "as_plain",
    "clear_search_cache",
    "deny",
    "describe_breaker",
    "describe_search_cache",
    "list_breakers",
    "may",
    "page_breakers",
    "reset_circuit_breakers",
    "set_breaker_control",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchCacheStatus:
    """What is known of the search cache now.

    ``keys`` is None when the store does not answer; ``unavailable`` then says why.
    ``last_clear`` is the newest clear that is known to be done.
    """

    alias: str
    dedicated: bool
    keys: int | None = None
    exact: bool = False
    unavailable: str = ""
    last_clear: Operation | None = None


def clear_search_cache(
    *,
    actor: Actor,
    reason: str = "",
    dry_run: bool = False,
    on_progress: Callable[[int], None] | None = None,
) -> ActResult:
    """Empty the search cache; ``on_progress`` is told how many keys are gone so far.

    Raises:
        ActDenied: the actor lacks the permission; nothing was done, a row says so.
        ActRefused: not asked for properly, or switched off; nothing was done or recorded.
        ActFailed: the store or the audit trail failed.
    """
    act = Act.CLEAR_SEARCH_CACHE
    reason = authorize(act, actor, reason, dry_run=dry_run)
    with failing_as(act) as attempt:
        if dry_run:
            return _clear_preview()
        with audit.audited(act.value, actor=actor, reason=reason, targets={}) as operation:
            attempt.operation_id = operation.pk
            operation.outcome = asdict(purge.clear(on_progress=on_progress))
    search_cache_cleared.send_robust(sender=None, operation=operation, outcome=operation.outcome)
    return ActResult(message="Search cache cleared", operation_id=operation.pk)


def reset_circuit_breakers(
    *,
    actor: Actor,
    names: Sequence[str] | None = None,
    only_open: bool = False,
    reason: str = "",
    dry_run: bool = False,
    expected_generation: str | None = None,
) -> ActResult:
    """Return breakers to closed with zero counts: all registered ones, or those named.

    ``only_open`` leaves the closed ones alone.

    Raises:
        TypeError: ``names`` is one text instead of several, or holds what is no text.
        ValueError: ``expected_generation`` without the one name whose it is.
        UnknownBreakers: a name is not registered; nothing was reset, created or recorded.
        BreakerMoved: it is not at ``expected_generation`` any more; nothing was reset.
        ActDenied, ActRefused, ActFailed: as for clear_search_cache.
    """
    if names is not None and not _are_texts(names):
        raise TypeError("names has to be a sequence of str, like ['catalog']")
    if expected_generation is not None and len(names or ()) != 1:
        raise ValueError("expected_generation is that of one name")
    act = Act.RESET_CIRCUIT_BREAKERS
    reason = authorize(act, actor, reason, dry_run=dry_run)
    if names is not None and not names:
        raise ActRefused("names: at least one name is needed", code="invalid")
    with failing_as(act, passing=(UnknownBreakers, BreakerMoved)) as attempt:
        if dry_run:
            if names and expected_generation is not None:
                roster.status(names[0], expected_generation=expected_generation)
            return _reset_preview(roster.plan_reset(names, only_open=only_open))
        targets = {"names": sorted(set(names)) if names else "all", "only_open": only_open}
        _refuse_unknown(names)
        with audit.audited(act.value, actor=actor, reason=reason, targets=targets) as operation:
            attempt.operation_id = operation.pk
            resets = roster.reset(
                names, only_open=only_open, expected_generation=expected_generation
            )
            operation.outcome = _reset_outcome(resets)
    if names is None and not only_open:
        message = "All circuit breakers reset successfully"
        return ActResult(message=message, operation_id=operation.pk)
    return ActResult(
        message=f"{len(resets)} circuit breakers reset successfully",
        operation_id=operation.pk,
        results=[_as_row(reset) for reset in resets],
    )


def set_breaker_control(
    *,
    name: str,
    control: str,
    actor: Actor,
    for_seconds: float | None = None,
    reason: str = "",
    expected_generation: str | None = None,
    dry_run: bool = False,
) -> ActResult:
    """Hold a breaker forced_open, disabled or metrics_only, or release it (automatic).

    A hold ends by itself after ``for_seconds`` (an hour if not given; ``math.inf``: never).

    Raises:
        UnknownBreakers: nothing was held, created or recorded.
        BreakerMoved: the breaker is not at ``expected_generation`` any more; nothing was done.
        ActDenied, ActRefused, ActFailed: as for clear_search_cache.
    """
    act = Act.CONTROL_CIRCUIT_BREAKERS
    reason = authorize(act, actor, reason, dry_run=dry_run)
    wanted, seconds = _hold_asked_for(control, for_seconds)
    with failing_as(act, passing=(UnknownBreakers, BreakerMoved)) as attempt:
        if dry_run:
            before = roster.status(name, expected_generation=expected_generation)
            return _control_preview(before, wanted)
        _refuse_unknown([name])
        targets = {"name": name, "control": wanted.value, "for_seconds": seconds}
        with audit.audited(act.value, actor=actor, reason=reason, targets=targets) as operation:
            attempt.operation_id = operation.pk
            before, after = roster.set_control(
                name,
                wanted,
                for_seconds=seconds,
                actor=actor.name,
                reason=reason,
                expected_generation=expected_generation,
            )
            moved = {"name": name, "from": before.state, "to": after.state}
            operation.outcome = {"results": [moved]}
    message = f"Circuit breaker {name} set to {wanted.value}"
    return ActResult(message=message, operation_id=operation.pk, results=[moved])


def describe_search_cache() -> SearchCacheStatus:
    """Return what the search cache holds and when it was last cleared, also when it is down."""
    settings = app_settings()
    kind, status = Act.CLEAR_SEARCH_CACHE.value, Operation.Status.DONE
    known: dict[str, Any] = {
        "alias": settings.search_cache,
        "dedicated": settings.search_cache_dedicated,
        "last_clear": Operation.objects.filter(kind=kind, status=status).first(),
    }
    try:
        preview = purge.preview()
    except StoreUnavailable as error:
        return SearchCacheStatus(**known, unavailable=error.reason)
    return SearchCacheStatus(**known, keys=preview.keys, exact=preview.exact)


def _are_texts(names: Sequence[Any]) -> bool:
    """A text is a sequence, too, of letters: one name would be read as many."""
    return not isinstance(names, str) and all(isinstance(name, str) for name in names)


def _hold_asked_for(control: str, for_seconds: float | None) -> tuple[Control, float | None]:
    """Return the control, and the seconds that it is to hold: None for ever."""
    if control not in set(Control):
        choices = ", ".join(Control)
        raise ActRefused(f"control: one of {choices}", code="invalid")
    wanted = Control(control)
    if wanted is Control.AUTOMATIC:
        if for_seconds is not None:
            raise ActRefused("for_seconds: a release has no end", code="invalid")
        return wanted, None
    seconds = DEFAULT_HOLD if for_seconds is None else for_seconds
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise ActRefused("for_seconds: has to be a number", code="invalid")
    if seconds == math.inf:
        return wanted, None
    if not 0 < seconds <= LONGEST_HOLD:  # false for a NaN too
        raise ActRefused(f"for_seconds: more than 0, at most {LONGEST_HOLD:.0f}", code="invalid")
    return wanted, float(seconds)


def _control_preview(before: BreakerStatus, wanted: Control) -> ActResult:
    preview = {"name": before.name, "from": before.state, "control": wanted.value}
    message = f"Dry run: circuit breaker {before.name} would be set to {wanted.value}"
    return ActResult(message=message, preview=preview)


def _refuse_unknown(names: Sequence[str] | None) -> None:
    """Raise UnknownBreakers before the audit row; a store that is down is the act's to report."""
    if names:
        with suppress(StoreUnavailable):
            roster.require_known(names)


def _clear_preview() -> ActResult:
    preview = purge.preview()
    about = "" if preview.exact else "about "
    message = f"Dry run: {about}{preview.keys} keys would be removed"
    return ActResult(message=message, preview=asdict(preview))


def _reset_preview(resets: Sequence[BreakerReset]) -> ActResult:
    return ActResult(
        message=f"Dry run: {len(resets)} circuit breakers would be reset",
        preview={"count": len(resets), "breakers": [_as_row(reset) for reset in resets]},
    )


def _reset_outcome(resets: Sequence[BreakerReset]) -> dict[str, Any]:
    """Keep the row small: how many, and the first hundred that were not closed."""
    moved = [_as_row(reset) for reset in resets if reset.from_state != reset.to_state]
    return {"count": len(resets), "moved": len(moved), "results": moved[:100]}


def _as_row(reset: BreakerReset) -> dict[str, str]:
    return {"name": reset.name, "from": reset.from_state, "to": reset.to_state}
