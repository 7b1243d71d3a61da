"""What the tests of the search cache share: both stores, and a backend that counts."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.core.cache import caches
from django.core.cache.backends.locmem import LocMemCache

from analytics_admin.caching import SearchCache
from analytics_admin.caching.epochs import RECORD_NAME, EpochRecord, decode_record, record_key
from tests.support.cache_aliases import raw, redis_alias, use_caches

LOCAL = {
    "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
    "LOCATION": "search-cache-tests",
    "KEY_PREFIX": "s",
}
IN_LINE = {"SEARCH_CACHE_LEASE": 10, "SEARCH_CACHE_BACKGROUND_REFRESHES": 0}
"""No caller has another do its work: what happens can be told step by step."""
STORES = pytest.mark.parametrize("kind", ["redis", "memory"])
"""One contract over both stores."""


def use_store(settings: Any, kind: str, **options: Any) -> None:
    """Have the search alias be such a store, empty, with these settings of the app."""
    alias = redis_alias("s") if kind == "redis" else LOCAL
    use_caches(settings, search=alias)
    settings.ANALYTICS_ADMIN = {**IN_LINE, **options}
    caches["search"].clear()


def another() -> SearchCache:
    """Return the search cache as one more process holds it: with waits and connections its own."""
    return SearchCache(lambda: "search")


def record() -> EpochRecord:
    """Return the epoch record as it lies in the store."""
    alias = caches["search"]
    if isinstance(alias, LocMemCache):
        found = decode_record(alias.get(RECORD_NAME))
    else:
        found = decode_record(raw().get(record_key("search")))
    assert found is not None
    return found


def replace_record(new: EpochRecord) -> None:
    alias = caches["search"]
    if isinstance(alias, LocMemCache):
        alias.set(RECORD_NAME, new.encode(), timeout=None)
    else:
        raw().set(record_key("search"), new.encode())


class Backend:
    """A search that counts its calls, and can be held up or fail."""

    def __init__(self, value: Any = "found") -> None:
        self.value = value
        self.calls = 0
        self.begun = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()
        self.error: Exception | None = None

    def __call__(self) -> Any:
        self.calls += 1
        value, error = self.value, self.error
        self.begun.set()
        assert self.go_on.wait(60)
        if error is not None:
            raise error
        return value

    async def later(self) -> Any:
        return self()


class InThread:
    """A call under way in a thread of its own."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self._outcome: list[Any] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._outcome.append((self._call(), None))
        except BaseException as error:
            self._outcome.append((None, error))

    @property
    def is_waiting(self) -> bool:
        return not self._outcome

    def result(self) -> Any:
        self._thread.join(60)
        assert self._outcome, "the call did not end"
        value, error = self._outcome[0]
        if error is not None:
            raise error
        return value
