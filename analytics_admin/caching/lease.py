"""What a call does that found no fresh value: compute it, wait for another call, or serve stale.

Of all callers on all processes, the one that holds the lease computes. After ``lease`` seconds
another caller may take the lease over, and the first of the two to finish fills the cache. So a
computation may take longer than its lease, up to ten times, at the price of being done twice. A
killed process holds the others up for one lease at most. (Nishtala et al., "Scaling Memcache at
Facebook", NSDI 2013.)

Whoever has waited looks at the store again before it serves a stored value: the value may have been
cleared, deleted or replaced meanwhile.
"""

import random
import time
from collections.abc import Callable, Generator
from typing import Any

from analytics_admin.caching.background import BackgroundRefreshes
from analytics_admin.caching.codec import UnstorableValue, decode, encode
from analytics_admin.caching.effects import (
    Answer,
    CallStore,
    Computation,
    Compute,
    Effect,
    Effects,
    FlightWait,
    InBackground,
    Lookup,
    Sleep,
    WaitFor,
)
from analytics_admin.caching.entries import Entry, decode_entry
from analytics_admin.caching.freshness import Freshness, assess_freshness
from analytics_admin.caching.request import CacheRequest
from analytics_admin.caching.singleflight import (
    Flight,
    FlightResult,
    SingleFlight,
    current_flights,
    is_being_computed_here,
)
from analytics_admin.caching.statistics.counters import CallCounter
from analytics_admin.caching.stores.access import StoreAccess
from analytics_admin.caching.stores.base import Claim, Store

MAX_WAIT_LEASES = 2.0
"""A call waits for others this many leases: one caller may be killed, and one take over."""
MAX_FRUITLESS_WAITS = 2
"""A call computes for itself after this many computations by others brought no value. Behind a
backend that is down, callers must not fail one after the other."""
NO_CALLER = Lookup(None, "stale", 0.0)
"""The answer of a background refresh, which has no caller."""
MIN_PAUSE_SECONDS = 0.01
MAX_PAUSE_SECONDS = 0.1
"""Between two looks at another process' computation."""


class MissResolver:
    """Resolves the misses of one process against one store."""

    def __init__(
        self, access: StoreAccess, counter: CallCounter, *, background_refreshes: int = 0
    ) -> None:
        self._access = access
        self._counter = counter
        self._refreshes = BackgroundRefreshes(background_refreshes)
        self._flights = SingleFlight()

    def resolve(self, request: CacheRequest, seen: Freshness) -> Effects:
        """Get a value for a request whose reading ``seen`` was not fresh."""
        if is_being_computed_here(request.keys):  # it would wait for itself
            return (yield from self._compute_alone("miss"))
        looked_at = time.monotonic()
        until = looked_at + MAX_WAIT_LEASES * request.lease
        fruitless = 0
        while True:
            flight, is_own = self._flights.join(request.keys, accepted=seen.accepted)
            if is_own and seen.stale is not None and self._refreshes.enabled:
                yield from self._refresh_in_background(request, flight, seen)
            elif is_own:
                try:
                    return (yield from self._lead(request, flight, seen, until))
                finally:
                    self._flights.end(flight)
            if seen.stale is not None:
                return self._serve_stale(seen.stale, now=seen.now)
            answer = yield from self._follow(request, flight, until, looked_at)
            if not isinstance(answer, Freshness):
                return answer
            # Under other epochs, it was a clear that took the result.
            fruitless = fruitless + 1 if answer.accepted == seen.accepted else 0
            if fruitless >= MAX_FRUITLESS_WAITS and answer.stale is None:
                return (yield from self._compute_alone("miss"))
            seen, looked_at = answer, time.monotonic()

    def bypass(self) -> Effects:
        """Compute without the store, which is unavailable."""
        return (yield from self._compute_alone("bypass"))

    def after_fork(self) -> None:
        """Start afresh in a forked child: the running flights are its parent's."""
        self._flights = SingleFlight()
        self._refreshes.after_fork()

    def _refresh_in_background(
        self, request: CacheRequest, flight: Flight, seen: Freshness
    ) -> Generator[Effect, Any, None]:
        """Lead the flight in the background, unless too many refreshes are running."""
        flight.is_background = True
        is_started = False
        try:
            effects = self._lead_in_background(request, flight, seen)
            is_started = yield InBackground(self._refreshes, effects)
        finally:
            if not is_started:  # a later caller will try
                self._flights.end(flight)

    def _lead_in_background(
        self, request: CacheRequest, flight: Flight, seen: Freshness
    ) -> Effects:
        """Refresh a stale value, unless another process does."""
        try:
            claim: Claim | None = yield CallStore(_claim_call(request, flight, seen.damaged))
            if claim is not None and claim.state == "granted":
                flight.epochs = claim.epochs
                return (yield from self._refresh(request, flight, seen, claim))
            return NO_CALLER
        finally:
            self._flights.end(flight)

    def _follow(
        self, request: CacheRequest, flight: Flight, until: float, looked_at: float
    ) -> Generator[Effect, Any, Answer | Freshness]:
        """Wait for the flight; return its value, or a new reading if it brought none.

        A value that may have been cleared before ``looked_at``, the caller's monotonic clock after
        its last look at the store, is not taken.
        """
        wait: FlightWait = yield WaitFor(flight, until - time.monotonic())
        if wait.result is not None and wait.result.counted_at > looked_at:
            return self._serve_result(wait.result)
        if not wait.has_ended:
            return (yield from self._compute_alone("miss"))
        freshness = yield from self._look(request)
        if freshness is None:
            return (yield from self._compute_alone("bypass"))
        if freshness.fresh is not None:
            return self._serve_fresh(freshness.fresh, now=freshness.now)
        return freshness

    def _lead(
        self, request: CacheRequest, flight: Flight, seen: Freshness, until: float
    ) -> Effects:
        """Compute on behalf of this process, or watch the process that computes."""
        started = time.monotonic()
        last, fruitless = None, 0
        while True:
            asked_at = time.monotonic()
            claim: Claim | None = yield CallStore(_claim_call(request, flight, seen.damaged))
            if claim is None:
                return (yield from self._continue_without_lease(request, flight, seen))
            flight.epochs = claim.epochs
            if claim.state == "granted":
                return (yield from self._refresh(request, flight, seen, claim))
            if claim.state == "fresh" and (entry := decode_entry(claim.entry)) is not None:
                result = _result_of(entry, now=claim.now, counted_at=asked_at)
                self._flights.end(flight, result)
                return self._serve_result(result)
            if (stand_in := (yield from self._stand_in(request, seen))) is not None:
                return stand_in
            if (
                last is not None
                and last.epochs == claim.epochs
                and last.seconds_left < claim.seconds_left
            ):
                fruitless += 1  # another caller has taken the lease since
            last, now = claim, time.monotonic()
            if now >= until or fruitless >= MAX_FRUITLESS_WAITS:
                self._flights.end(flight)
                return (yield from self._compute_alone("miss"))
            # Pauses grow with the wait; the jitter spreads the processes.
            pause = min(MAX_PAUSE_SECONDS, MIN_PAUSE_SECONDS + (now - started) / 10)
            pause *= random.uniform(0.5, 1.5)
            yield Sleep(min(pause, claim.seconds_left + 0.001, until - now))

    def _refresh(
        self, request: CacheRequest, flight: Flight, seen: Freshness, claim: Claim
    ) -> Effects:
        """Compute under the lease and store the result, if the lease still holds then."""
        keys = request.keys
        computation = yield from self._compute_within(flight, claim)
        error, text = computation.error, ""
        if error is None:
            try:
                text = encode(computation.value)
            except UnstorableValue as unstorable:
                error = unstorable
        if error is not None:
            yield CallStore(lambda store: store.release(keys, claim), is_owed=True)
            self._flights.end(flight)
            if flight.is_background:
                return error
            return (yield from self._serve_despite(error, request, seen))
        fits = _fits(text, request.max_bytes)
        asked_at = time.monotonic()
        stored: bool | None = yield CallStore(
            lambda store: store.fill(
                keys,
                claim,
                text if fits else None,
                request.ttl(),
                computed_in=computation.seconds,
            ),
            is_owed=True,
        )
        if stored:
            result = FlightResult(text, asked_at, time.monotonic(), computation.seconds)
            self._flights.end(flight, result)
        self._counter.add(
            misses=not flight.is_background,
            fills=bool(stored and fits),
            too_large=not fits,
            refused_fills=stored is False,
        )
        return Lookup(decode(text), "miss", 0.0)

    def _compute_within(
        self, flight: Flight, claim: Claim
    ) -> Generator[Compute, Computation, Computation]:
        """Compute as part of the flight; return the lease if the caller is interrupted."""
        reset_token = current_flights.set((*current_flights.get(), flight))
        try:
            computation = yield Compute()
        except GeneratorExit:
            self._access.post(lambda store: store.release(flight.keys, claim))
            raise
        finally:
            current_flights.reset(reset_token)
        self._count(computation)
        return computation

    def _compute_alone(self, state: str) -> Effects:
        """Compute and store nothing."""
        computation: Computation = yield Compute()
        self._count(computation)
        self._counter.add(**{"misses" if state == "miss" else "bypassed": 1})
        if computation.error is not None:
            return computation.error
        try:
            value = decode(encode(computation.value))
        except UnstorableValue as error:
            return error
        return Lookup(value, "miss" if state == "miss" else "bypass", 0.0)

    def _continue_without_lease(
        self, request: CacheRequest, flight: Flight, seen: Freshness
    ) -> Effects:
        """The store was lost after the value was read, or it takes no writes."""
        self._flights.end(flight)
        if (stand_in := (yield from self._stand_in(request, seen))) is not None:
            return stand_in
        return (yield from self._compute_alone("bypass"))

    def _serve_despite(self, error: Exception, request: CacheRequest, seen: Freshness) -> Effects:
        """Serve the stale value instead of the failed computation, if it still may be served."""
        if not isinstance(error, UnstorableValue):
            stand_in = yield from self._stand_in(request, seen)
            if stand_in is not None:
                self._counter.add(stale_on_error=stand_in.state == "stale")
                return stand_in
        self._counter.add(misses=1)
        return error

    def _stand_in(
        self, request: CacheRequest, seen: Freshness
    ) -> Generator[Effect, Any, Lookup | None]:
        """Return what a new look at the store finds in place of the stale value that was seen.

        None if there is nothing that may be served now, or without the store: what was seen before
        a wait may have been cleared since.
        """
        if seen.stale is None:
            return None
        freshness = yield from self._look(request)
        if freshness is None:
            return None
        if freshness.fresh is not None:
            return self._serve_fresh(freshness.fresh, now=freshness.now)
        if freshness.stale is not None:
            return self._serve_stale(freshness.stale, now=freshness.now)
        return None

    def _look(self, request: CacheRequest) -> Generator[Effect, Any, Freshness | None]:
        """Read the value; return None if the store is unavailable."""
        freshness: Freshness | None = yield CallStore(
            lambda store: assess_freshness(store.read(request.keys), request.stale_for)
        )
        return freshness

    def _serve_result(self, result: FlightResult) -> Lookup:
        self._counter.hit(result.computed_in)
        return Lookup(decode(result.text), "hit", time.monotonic() - result.stored_at)

    def _serve_fresh(self, entry: Entry, *, now: float) -> Lookup:
        self._counter.hit(entry.computed_in)
        return Lookup(decode(entry.text), "hit", max(0.0, now - entry.stored_at))

    def _serve_stale(self, entry: Entry, *, now: float) -> Lookup:
        """Serve a stale value straight from a look at the store."""
        self._counter.add(stale_served=1, saved_seconds=entry.computed_in)
        return Lookup(decode(entry.text), "stale", max(0.0, now - entry.stored_at))

    def _count(self, computation: Computation) -> None:
        self._counter.add(
            compute_errors=computation.error is not None, compute_seconds=computation.seconds
        )


def _claim_call(request: CacheRequest, flight: Flight, damaged: bytes) -> Callable[[Store], Claim]:
    def claim_lease(store: Store) -> Claim:
        claim = store.claim(request.keys, request.ttl(), lease=request.lease, damaged=damaged)
        if claim.state == "granted" and flight.future.done():  # its task was cancelled meanwhile
            store.release(request.keys, claim)
        return claim

    return claim_lease


def _result_of(entry: Entry, *, now: float, counted_at: float) -> FlightResult:
    age = max(0.0, now - entry.stored_at)
    return FlightResult(entry.text, counted_at, time.monotonic() - age, entry.computed_in)


def _fits(text: str, limit: int) -> bool:
    return len(text) <= limit and (text.isascii() or len(text.encode()) <= limit)
