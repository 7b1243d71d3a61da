"""Clears that a store has lost are done again, on record.

A clear leaves its receipt in the store. A store that comes back without the receipt of a clear on
record has lost that clear.
"""

from collections.abc import Sequence
from uuid import UUID

from django.db import router
from django.db.models import Q

from analytics_admin.caching.epochs import MAX_RECEIPTS
from analytics_admin.models import Operation
from analytics_admin.services.audit import Actor
from analytics_admin.services.search_cache.operations import clear_search_cache, receipt_of

MAX_NAMED = 5
"""Lost clears that the reason names."""

Kind, Status = Operation.Kind, Operation.Status


def find_receipts(*, after: str, acknowledged: bool = False) -> list[str]:
    """Return the receipts of the clears that may have been done after the one of this receipt.

    Those that ended after it began, also if they began before: which of two was done first, no row
    tells. Oldest first; where that one is not on record, the last one alone. They are done, unknown
    or, without ``acknowledged``, under way.

    Raises:
        Error: the database does not answer.
    """
    clears = Operation.objects.using(router.db_for_write(Operation))  # a replica may be behind
    clears = clears.filter(kind=Kind.CLEAR_SEARCH_CACHE.value)
    base = _id_of(after)
    began_at = base and clears.filter(pk=base).values_list("started_at", flat=True).first()
    not_done = {Status.DENIED, Status.FAILED, *([Status.STARTED] if acknowledged else [])}
    clears = clears.exclude(status__in=not_done)
    if base is not None and began_at:
        ended_later = Q(started_at__gt=began_at) | Q(finished_at__gt=began_at)
        newest = clears.filter(ended_later).exclude(pk=base)[:MAX_RECEIPTS]
    else:
        newest = clears[:1]
    return [receipt_of(clear) for clear in newest.only("id")][::-1]


def clear_again(receipts: Sequence[str]) -> None:
    """Clear the search cache: the store has lost the clears of these receipts.

    Raises:
        OperatorError: as for ``clear_search_cache``.
    """
    lost = [str(UUID(receipt)) for receipt in receipts]
    named = ", ".join(lost[-MAX_NAMED:])
    reason = f"The store had lost operation {named}"
    if len(lost) > 1:
        reason = f"The store had lost {len(lost)} operations, the last of them {named}"
    clear_search_cache(actor=Actor.system("reconciliation"), reason=reason)


def _id_of(receipt: str) -> UUID | None:
    try:
        return UUID(receipt)
    except ValueError:
        return None
