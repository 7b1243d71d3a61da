"""The clears of the search cache that the audit trail knows, for who looks back at them.

Services offers this to every door; nothing here changes anything.
"""

from datetime import datetime

from analytics_admin.access import Act
from analytics_admin.models import Operation

MOST_MARKS = 100

_HAPPENED = (Operation.Status.DONE, Operation.Status.UNKNOWN)


def list_recent_clears(number: int) -> list[Operation]:
    """Return the newest clears, whatever became of them."""
    return list(Operation.objects.filter(kind=Act.CLEAR_SEARCH_CACHE.value)[:number])


def list_clears_since(at: datetime) -> list[datetime]:
    """Return when the search cache was cleared, or may have been, oldest first; at most 100."""
    clears = Operation.objects.filter(
        kind=Act.CLEAR_SEARCH_CACHE.value, status__in=_HAPPENED, started_at__gte=at
    )
    return sorted(clears.values_list("started_at", flat=True)[:MOST_MARKS])


def clear_mode_of(clear: Operation) -> str:
    """Return ``hard``, ``soft``, or ``tags`` for a clear of some tags' values alone."""
    mode: str = "tags" if clear.targets.get("tags") else clear.targets.get("mode", "hard")
    return mode
