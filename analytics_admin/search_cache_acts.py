"""The operator's act on the search cache, and what is known of it.

Services offers them to every door; each act is permitted, put on record and announced here.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from analytics_admin import audit
from analytics_admin.access import Act
from analytics_admin.acts import ActResult, authorize, failing_as
from analytics_admin.audit import Actor
from analytics_admin.caching import purge
from analytics_admin.conf import app_settings
from analytics_admin.connections import StoreUnavailable
from analytics_admin.models import Operation
from analytics_admin.signals import search_cache_cleared


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


def _clear_preview() -> ActResult:
    preview = purge.preview()
    about = "" if preview.exact else "about "
    message = f"Dry run: {about}{preview.keys} keys would be removed"
    return ActResult(message=message, preview=asdict(preview))
