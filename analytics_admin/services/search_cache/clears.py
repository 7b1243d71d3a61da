"""The clears of the search cache that the audit trail knows, for who looks back at them.

Services offers this to every door; nothing here changes anything.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.conf import settings
from django.utils import timezone

from analytics_admin.models import Operation, with_zone

MAX_CLEARS_LISTED = 100

_HAPPENED = (Operation.Status.DONE, Operation.Status.UNKNOWN)


def list_recent_clears(number: int) -> list[Operation]:
    """Return the newest clears, whatever became of them."""
    return list(Operation.objects.filter(kind=Operation.Kind.CLEAR_SEARCH_CACHE.value)[:number])


def list_clears_since(at: datetime) -> list[datetime]:
    """Return when the search cache was cleared, or may have been, oldest first; at most 100."""
    since = at if settings.USE_TZ else timezone.make_naive(at)  # as the rows have it
    clears = Operation.objects.filter(
        kind=Operation.Kind.CLEAR_SEARCH_CACHE.value, status__in=_HAPPENED, started_at__gte=since
    )
    newest = clears.values_list("started_at", flat=True)[:MAX_CLEARS_LISTED]
    return sorted(map(with_zone, newest))


def clear_mode_of(clear: Operation) -> str:
    """Return ``hard``, ``soft``, or ``tags`` for a clear of some tags' values alone.

    A row that does not say it, whatever wrote it, is one of a hard clear: the first kind there was.
    """
    if clear_tags_of(clear):
        return "tags"
    mode = _targets(clear).get("mode")
    return mode if isinstance(mode, str) else "hard"


def clear_tags_of(clear: Operation) -> list[str]:
    """Return the tags whose values a clear was of; none for a clear of everything."""
    tags = _targets(clear).get("tags")
    return [str(tag) for tag in tags] if isinstance(tags, list) else []


def _targets(clear: Operation) -> Mapping[str, Any]:
    return clear.targets if isinstance(clear.targets, dict) else {}
