"""The search of the audit trail: words in the fields of its rows."""

import json

from django.db.models import Q, QuerySet
from django.utils.text import smart_split, unescape_string_literal

from analytics_admin.models import Operation
from analytics_admin.services.audit import is_storable

SEARCHED_FIELDS = (
    "actor",
    "reason",
    "error",
    "id",
    "targets__names",
    "targets__tags",
    "outcome__results",
)
MAX_SEARCH_LENGTH = 254
"""Characters, as for an actor's name."""


def require_search(search: str) -> None:
    """Raise TypeError or ValueError for what is not storable text of MAX_SEARCH_LENGTH."""
    if not isinstance(search, str):
        raise TypeError(f"search has to be a str, not {search!r}")
    if len(search) > MAX_SEARCH_LENGTH or not is_storable(search):
        raise ValueError(f"search has to be text of at most {MAX_SEARCH_LENGTH} characters")


def search_operations(operations: QuerySet[Operation], search: str) -> QuerySet[Operation]:
    """Return operations with every word of ``search`` in some SEARCHED_FIELDS; quotes group words.

    It reads every row: ``audit_pages`` limits how many there are.

    Raises:
        TypeError, ValueError: not storable text of at most MAX_SEARCH_LENGTH characters.
    """
    require_search(search)
    for word in smart_split(search):
        quoted = word[0] in "\"'" and word[0] == word[-1]
        operations = operations.filter(_contains(unescape_string_literal(word) if quoted else word))
    return operations


def _contains(word: str) -> Q:
    """Match the word, and its escaped form for databases that store JSON escaped."""
    query = Q()
    for form in dict.fromkeys([word, json.dumps(word)[1:-1]]):
        for field in SEARCHED_FIELDS:
            query |= Q(**{f"{field}__icontains": form})
    return query
