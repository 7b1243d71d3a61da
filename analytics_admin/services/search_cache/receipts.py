"""The receipts of clears: what the store keeps of the last one, and what the audit trail knows.

A store that comes back with another receipt than that of the last clear on record has lost a clear.
"""

from django.db import router

from analytics_admin.models import Operation

_NOT_DONE = (Operation.Status.DENIED, Operation.Status.FAILED)


def receipt_of(operation: Operation) -> str:
    """Return what a clear leaves in the store."""
    return operation.pk.hex


def find_last_receipt() -> str | None:
    """Return the receipt of the last clear that is done, under way or unknown; None without any.

    Raises:
        Error: the database does not answer.
    """
    clears = Operation.objects.using(router.db_for_write(Operation))  # a replica may be behind
    clears = clears.filter(kind=Operation.Kind.CLEAR_SEARCH_CACHE.value)
    last = clears.exclude(status__in=_NOT_DONE).only("id").first()
    return None if last is None else receipt_of(last)
