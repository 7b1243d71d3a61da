"""The search cache, and how it is cleared.

hits = search_cache.get_or_compute(("search", query, page), lambda: run_search(query, page))
"""

from analytics_admin.caching.codec import UnstorableValue, ValueTooLarge
from analytics_admin.caching.effects import Lookup, TextLookup
from analytics_admin.caching.search_cache import SearchCache, search_cache
from analytics_admin.stores.client import StoreUnavailable

__all__ = [
    "Lookup",
    "SearchCache",
    "StoreUnavailable",
    "TextLookup",
    "UnstorableValue",
    "ValueTooLarge",
    "search_cache",
]
