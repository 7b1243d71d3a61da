"""The search cache over the store that the test is run with."""

from typing import Any

import pytest

from analytics_admin.caching import SearchCache
from tests.support.search_caches import another, use_store


@pytest.fixture
def cache(settings: Any, kind: str) -> SearchCache:
    use_store(settings, kind)
    return another()


@pytest.fixture
def other(cache: SearchCache) -> SearchCache:
    """The cache as another process holds it."""
    return another()
