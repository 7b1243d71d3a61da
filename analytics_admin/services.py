"""The operator's acts and questions: the only door into breakers and caching.

The admin, the API and the commands call these and nothing beneath them. Every act is permitted,
audited and announced here, so that it is the same act through each door.
"""

import logging
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

from analytics_admin import audit
from analytics_admin.access import Act, may
from analytics_admin.audit import Actor, AuditUnavailable
from analytics_admin.breakers import roster
from analytics_admin.breakers.registry import UnknownBreakers
from analytics_admin.breakers.roster import BreakerReset, BreakerStatus
from analytics_admin.caching import purge
from analytics_admin.conf import app_settings
from analytics_admin.connections import OutcomeUnknown, StoreUnavailable
from analytics_admin.models import Operation
from analytics_admin.signals import search_cache_cleared

__all__ = [
    "Act",
    "ActDenied",
    "ActFailed",
    "ActRefused",
    "ActResult",
    "Actor",
    "BreakerStatus",
    "SearchCacheStatus",
    "StoreUnavailable",
    "UnknownBreakers",
    "clear_search_cache",
    "deny",
    "describe_search_cache",
    "list_breakers",
    "may",
    "reset_circuit_breakers",
]

logger = logging.getLogger("analytics_admin.services")

MAX_REASON_LENGTH = 500

# What the operator reads when an act fails; the reason is filled in by ActFailed.
FAILURE = {
    Act.CLEAR_SEARCH_CACHE: "Failed to clear cache: {reason}",
    Act.RESET_CIRCUIT_BREAKERS: "Failed to reset circuit breakers: {reason}",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ActResult:
    """What an act says to its operator.

    ``preview`` is set by a dry run alone, which has no ``operation_id``; ``results`` by a reset
    of chosen breakers alone.
    """

    message: str
    operation_id: UUID | None = None
    preview: Mapping[str, Any] | None = None
    results: Sequence[Mapping[str, Any]] | None = None


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


class ActFailed(Exception):
    """The act was tried, or could not be put on record, and is not known to be done."""

    def __init__(self, act: Act, reason: str, *, code: str, operation_id: UUID | None) -> None:
        self.reason = reason
        self.code = code
        self.operation_id = operation_id
        super().__init__(FAILURE[act].format(reason=reason))


class ActDenied(Exception):
    """The actor is not allowed to do this; a row with status "denied" says so."""

    code = "permission_denied"

    def __init__(self, operation_id: UUID) -> None:
        self.operation_id = operation_id
        super().__init__("Not authorized")


class ActRefused(Exception):
    """The act was not asked for properly, or is switched off; nothing was done or recorded."""

    def __init__(self, message: str, *, code: str) -> None:
        self.code = code
        super().__init__(message)


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
    reason = _authorize(act, actor, reason, dry_run=dry_run)
    with _failing_as(act) as attempt:
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
) -> ActResult:
    """Return breakers to closed with zero counts: all registered ones, or those named.

    ``only_open`` leaves the closed ones alone.

    Raises:
        TypeError: ``names`` is one text instead of several, or holds what is no text.
        UnknownBreakers: a name is not registered; nothing was reset, created or recorded.
        ActDenied, ActRefused, ActFailed: as for clear_search_cache.
    """
    if names is not None and not _are_texts(names):
        raise TypeError("names has to be a sequence of str, like ['catalog']")
    act = Act.RESET_CIRCUIT_BREAKERS
    reason = _authorize(act, actor, reason, dry_run=dry_run)
    if names is not None and not names:
        raise ActRefused("names: at least one name is needed", code="invalid")
    with _failing_as(act) as attempt:
        if dry_run:
            return _reset_preview(roster.plan_reset(names, only_open=only_open))
        targets = {"names": sorted(set(names)) if names else "all", "only_open": only_open}
        _refuse_unknown(names)
        with audit.audited(act.value, actor=actor, reason=reason, targets=targets) as operation:
            attempt.operation_id = operation.pk
            resets = roster.reset(names, only_open=only_open)
            operation.outcome = _reset_outcome(resets)
    if names is None and not only_open:
        message = "All circuit breakers reset successfully"
        return ActResult(message=message, operation_id=operation.pk)
    return ActResult(
        message=f"{len(resets)} circuit breakers reset successfully",
        operation_id=operation.pk,
        results=[_as_row(reset) for reset in resets],
    )


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


def list_breakers(*, state: str | None = None) -> list[BreakerStatus]:
    """Return every registered breaker by name, or those in the given state.

    Raises:
        StoreUnavailable: the shared store does not answer; nothing is known of any of them.
    """
    return [status for status in roster.statuses() if state in (None, status.state)]


def deny(act: Act, *, actor: Actor) -> ActDenied:
    """Put a refused act on record and return the exception that says so.

    Raises:
        ActFailed: the audit trail can't be written.
    """
    with _failing_as(act):
        return ActDenied(audit.record_denied(act.value, actor=actor).pk)


def _authorize(act: Act, actor: Actor, reason: str, *, dry_run: bool) -> str:
    """Return the reason, trimmed, when the actor may do the act now."""
    if actor.user is not None and not may(actor.user, act):
        raise deny(act, actor=actor)
    settings = app_settings()
    reason = reason.strip()
    if not audit.is_storable(reason):
        raise ActRefused("reason: holds characters that are no text", code="invalid")
    if len(reason) > MAX_REASON_LENGTH:
        raise ActRefused(f"reason: at most {MAX_REASON_LENGTH} characters", code="invalid")
    if settings.read_only and not dry_run:
        raise ActRefused("This site is read-only: acts are switched off", code="read_only")
    if settings.require_reason and not reason and not dry_run:
        raise ActRefused("reason: this site asks for a reason", code="reason_required")
    return reason


def _are_texts(names: Sequence[Any]) -> bool:
    """A text is a sequence, too, of letters: one name would be read as many."""
    return not isinstance(names, str) and all(isinstance(name, str) for name in names)


@dataclass(slots=True)
class _Attempt:
    operation_id: UUID | None = None


@contextmanager
def _failing_as(act: Act) -> Iterator[_Attempt]:
    """Turn whatever goes wrong in the block into ActFailed, in words that hold no secret."""
    attempt = _Attempt()
    try:
        yield attempt
    except UnknownBreakers:
        raise
    except (StoreUnavailable, AuditUnavailable, OutcomeUnknown) as error:
        raise _failed(act, error.reason, error.code, attempt) from None
    # The one broad except of the app: the operator is promised an answer whatever breaks, and
    # the exception's text may hold a URL with its password, so only its type and place are kept.
    except Exception as error:
        places = "".join(traceback.format_tb(error.__traceback__))
        logger.error("%s broke: %s\n%s", act, type(error).__name__, places)
        reason = f"unexpected error ({type(error).__name__})"
        raise _failed(act, reason, "internal_error", attempt) from None


def _failed(act: Act, reason: str, code: str, attempt: _Attempt) -> ActFailed:
    record = f"operation {attempt.operation_id}" if attempt.operation_id else "not on record"
    logger.warning("%s failed: %s (%s)", act, reason, record)
    return ActFailed(act, reason, code=code, operation_id=attempt.operation_id)


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
