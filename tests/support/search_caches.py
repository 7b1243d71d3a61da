"""What the tests of the search cache share: both stores, a backend, and calls in steps."""

import asyncio
import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

import pytest
from django.core.cache import caches
from django.core.cache.backends.locmem import LocMemCache

from analytics_admin.caching import Lookup, SearchCache
from analytics_admin.caching.effects import CallStore, Compute, Effects, TextLookup, _ado, _do
from analytics_admin.caching.epochs import RECORD_NAME, EpochRecord, decode_record, record_key
from analytics_admin.caching.freshness import assess_freshness
from analytics_admin.stores.latency import CallerWait
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


def renew_nothing(cache: SearchCache) -> None:
    """Have the cache's process hold its leases as one that is killed: it renews none."""
    renewals: Any = (cache._client or cache._connect()).resolver._renewals
    renewals.hold = lambda flight, claim: None


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


class InSteps:
    """Effects carried out one by one: the test says how far, and what happens in between.

    The effects are those of a real call, and so is the store. ``in_loop`` carries each out as async
    code does.
    """

    def __init__(self, effects: Effects, access: Any, compute: Any, *, in_loop: bool) -> None:
        self._access, self._compute, self._effects = access, compute, effects
        self._in_loop = in_loop
        self._context = copy_context()  # as in a thread of its own
        self.carried_out: list[Any] = []
        """The effects so far, after the reading."""
        self.answer: TextLookup | Exception | None = None
        self._due: Any = None
        self._go_on(None)

    def background(self) -> "InSteps":
        """Return the refresh that the call has due; the call goes on without it."""
        refresh = InSteps(self._due.effects, self._access, self._compute, in_loop=self._in_loop)
        self._go_on(True)
        return refresh

    def until(self, kind: type) -> Any:
        """Carry out all effects before the next of this kind; return that one, which is due."""
        while not isinstance(self._due, kind):
            assert self.answer is None, f"no {kind.__name__} before the answer {self.answer}"
            self.carry_out()()
        return self._due

    def carry_out(self) -> Callable[[], None]:
        """Carry out the effect that is due; the call hears of the outcome when that is called."""
        self.carried_out.append(self._due)
        wait = CallerWait()
        arguments = (self._due, self._access, self._compute, wait)
        if self._in_loop:
            reply = self._context.run(lambda: asyncio.run(_ado(*arguments)))
        else:
            reply = self._context.run(_do, *arguments)
        return lambda: self._go_on(reply)

    def stored(self) -> Callable[[], None]:
        """Compute and store the value; the call hears of that when the result is called."""
        self.until(Compute)
        self.carry_out()()
        self.until(CallStore)
        return self.carry_out()

    def end(self) -> Lookup:
        """Carry out the rest; return or raise what the call does."""
        while self.answer is None:
            self.carry_out()()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer.decoded()

    def _go_on(self, reply: Any) -> None:
        try:
            self._due = self._context.run(self._effects.send, reply)
        except StopIteration as end:
            self._due, self.answer = None, end.value


def in_steps(
    cache: SearchCache,
    compute: Callable[[], Any],
    *,
    key: object = "q",
    in_loop: bool = False,
    **options: Any,
) -> InSteps:
    """Return a call that has looked at the store and found no fresh value."""
    client = cache._client or cache._connect()
    request = client.request(key, **options)
    reading = client.access.run(lambda store: store.read(request.keys))
    seen = assess_freshness(reading, request.stale_for)
    assert seen.fresh is None, "the call is over: a hit"
    return InSteps(client.resolver.resolve(request, seen), client.access, compute, in_loop=in_loop)
