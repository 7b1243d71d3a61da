"""The operator's act on the search cache.

Services offers them to every door; each act is permitted, put on record and announced here.
"""

from collections.abc import Callable
from dataclasses import asdict

from analytics_admin import audit
from analytics_admin.access import Act
from analytics_admin.acts import ActResult, authorize, failing_as
from analytics_admin.audit import Actor
from analytics_admin.caching import purge
from analytics_admin.signals import search_cache_cleared


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


def _clear_preview() -> ActResult:
    preview = purge.preview()
    about = "" if preview.exact else "about "
    message = f"Dry run: {about}{preview.keys} keys would be removed"
    return ActResult(message=message, preview=asdict(preview))
