"""A clear that a store which came back has lost is done again, on record."""

from uuid import UUID

from analytics_admin.services.audit import Actor
from analytics_admin.services.search_cache.operations import clear_search_cache


def clear_again(receipt: str) -> None:
    """Clear the search cache: the store has lost the clear of this receipt.

    Raises:
        OperatorError: as for ``clear_search_cache``.
    """
    reason = f"The store had lost operation {UUID(receipt)}"
    clear_search_cache(actor=Actor.system("reconciliation"), reason=reason)
