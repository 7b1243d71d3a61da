"""What a call does that found no fresh value: compute it, wait for who does, or take a stale one.

Of all callers in the fleet the one that holds the lease computes. The lease is taken for ``lease``
seconds; when they are over another caller may compute as well, and the first of the two to finish
fills the cache. So a computation may take longer than its lease, up to ten times, at the price of
being done twice; and one whose process was killed is missed for no longer than that.
"""

import random
import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from analytics_admin.caching.background import BackgroundRefreshes
from analytics_admin.caching.codec import UnstorableValue, decode, encode
from analytics_admin.caching.durations import shortened
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
from analytics_admin.caching.singleflight import (
    Flight,
    FlightResult,
    SingleFlight,
    is_being_computed_here,
    within,
)
from analytics_admin.caching.statistics.counters import CallCounter
from analytics_admin.caching.stores.availability import StoreAccess
from analytics_admin.caching.stores.base import Claim, EntryKeys, Store, Ttl

MAX_WAIT_LEASES = 2.0
"""Times the lease that a call waits for others at most: one may be killed, and one take over."""
MAX_FRUITLESS_WAITS = 2
"""Computations of others that a call sees bring nothing before it computes for itself: behind a
backend that is down, callers must not fail one after the other."""
NO_CALLER = Lookup(None, "stale", 0.0)
"""The answer of a refresh to the caller that it has not."""
MIN_PAUSE_SECONDS = 0.01
MAX_PAUSE_SECONDS = 0.1
"""Seconds between two looks at what another process does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheRequest:
    """What is asked for, and on which terms."""

    place: EntryKeys
    timeout: float | None
    """Seconds for which a value is fresh; None for ever."""
    stale_for: float
    lease: float
    max_bytes: int

    def life(self) -> Ttl:
        """Return how long a value stored now is to live, by a shortened timeout."""
        if self.timeout is None:
            return Ttl(fresh_ms=0, kept_ms=0)
        fresh = max(1, round(shortened(self.timeout) * 1000))
        return Ttl(fresh_ms=fresh, kept_ms=fresh + round(self.stale_for * 1000))


class MissResolver:
    """The lookups of one process against one store."""

    def __init__(self, line: StoreAccess, statistics: CallCounter, *, refreshes: int = 0) -> None:
        self._line = line
        self._statistics = statistics
        self._refreshes = BackgroundRefreshes(refreshes)
        self.flights = SingleFlight()

    def resolve(self, question: CacheRequest, seen: Freshness) -> Effects:
        """Find a value where none that is fresh was seen."""
        if is_being_computed_here(question.place):  # it would wait for itself
            return (yield from self._compute_alone("miss"))
        until = time.monotonic() + MAX_WAIT_LEASES * question.lease
        fruitless = 0
        while True:
            flight, is_own = self.flights.join(question.place, stamps=seen.stamps)
            if is_own and seen.stale is not None and self._refreshes.are_on:
                yield from self._refresh_behind(question, flight, seen)
            elif is_own:
                try:
                    return (yield from self._lead(question, flight, seen, until))
                finally:
                    self.flights.end(flight)
            if seen.stale is not None:
                return self._serve_stale(seen.stale, now=seen.now)
            found = yield from self._follow(question, flight, until)
            if not isinstance(found, Freshness):
                return found
            # Under other stamps it was a clear that took the result.
            fruitless = fruitless + 1 if found.stamps == seen.stamps else 0
            if fruitless >= MAX_FRUITLESS_WAITS and found.stale is None:
                return (yield from self._compute_alone("miss"))
            seen = found

    def after_fork(self) -> None:
        """Begin anew in a forked child: what was under way is its parent's."""
        self.flights = SingleFlight()
        self._refreshes.after_fork()

    def _refresh_behind(
        self, question: CacheRequest, flight: Flight, seen: Freshness
    ) -> Generator[Effect, Any, None]:
        """Have the flight led behind the caller's back, unless too many are already."""
        flight.is_behind = True
        is_taken = False
        try:
            is_taken = yield InBackground(
                self._refreshes, self._lead_behind(question, flight, seen)
            )
        finally:
            if not is_taken:  # then a later caller will try
                self.flights.end(flight)

    def _lead_behind(self, question: CacheRequest, flight: Flight, seen: Freshness) -> Effects:
        """Compute anew what is served meanwhile, unless another process is at it."""
        began = time.monotonic()
        try:
            claim: Claim | None = yield CallStore(_claiming(question, flight, seen.damaged))
            if claim is not None and claim.state == "granted":
                flight.stamp = claim.stamp
                return (yield from self._refresh(question, flight, seen, claim, began))
            return NO_CALLER
        finally:
            self.flights.end(flight)

    def _follow(
        self, question: CacheRequest, flight: Flight, until: float
    ) -> Generator[Effect, Any, Answer | Freshness]:
        """Wait for the flight; return its value, or what is to be seen if it brought none."""
        waited: FlightWait = yield WaitFor(flight, until - time.monotonic())
        if waited.landing is not None:
            return self._serve_landing(waited.landing)
        if not waited.ended:
            return (yield from self._compute_alone("miss"))
        found: Freshness | None = yield CallStore(
            lambda store: assess_freshness(store.read(question.place), question.stale_for)
        )
        if found is None:
            return (yield from self._compute_alone("bypass"))
        if found.fresh is not None:
            return self._serve_landing(_landing_of(found.fresh, now=found.now))
        return found

    def bypass(self) -> Effects:
        """Compute without the store, which is away."""
        return (yield from self._compute_alone("bypass"))

    def _lead(
        self, question: CacheRequest, flight: Flight, seen: Freshness, until: float
    ) -> Effects:
        """Compute on behalf of this process, or watch the process that does."""
        began = time.monotonic()
        last, fruitless = None, 0
        while True:
            claim: Claim | None = yield CallStore(_claiming(question, flight, seen.damaged))
            if claim is None:
                return (yield from self._go_on_without(flight, seen))
            flight.stamp = claim.stamp
            if claim.state == "granted":
                return (yield from self._refresh(question, flight, seen, claim, began))
            if claim.state == "fresh" and (entry := decode_entry(claim.entry)) is not None:
                landing = _landing_of(entry, now=claim.now)
                self.flights.end(flight, landing)
                return self._serve_landing(landing)
            if seen.stale is not None:
                return self._serve_stale(seen.stale, now=seen.now)
            if last is not None and last.stamp == claim.stamp and last.left < claim.left:
                fruitless += 1  # another has the lease now
            last, now = claim, time.monotonic()
            if now >= until or fruitless >= MAX_FRUITLESS_WAITS:
                self.flights.end(flight)
                return (yield from self._compute_alone("miss"))
            # The longer it takes, the less a longer pause matters; jitter parts the processes.
            pause = min(MAX_PAUSE_SECONDS, MIN_PAUSE_SECONDS + (now - began) / 10)
            pause *= random.uniform(0.5, 1.5)
            yield Sleep(min(pause, claim.left + 0.001, until - now))

    def _refresh(
        self, question: CacheRequest, flight: Flight, seen: Freshness, claim: Claim, seen_at: float
    ) -> Effects:
        """Compute under the lease and store what comes, if the lease still holds then.

        ``seen_at`` is this process' monotonic clock when ``seen`` was.
        """
        place = question.place
        outcome = yield from self._compute_within(flight, claim)
        error, text = outcome.error, ""
        if error is None:
            try:
                text = encode(outcome.value)
            except UnstorableValue as unstorable:
                error = unstorable
        if error is not None:
            yield CallStore(lambda store: store.release(place, claim))
            self.flights.end(flight)
            if flight.is_behind:
                return error
            return self._serve_despite(error, seen, now=seen.now + time.monotonic() - seen_at)
        fits = _fits(text, question.max_bytes)
        stored: bool | None = yield CallStore(
            lambda store: store.fill(
                place,
                claim,
                text if fits else None,
                question.life(),
                computed_in=outcome.seconds,
            )
        )
        if stored:
            self.flights.end(flight, FlightResult(text, time.monotonic(), outcome.seconds))
        self._statistics.add(
            misses=not flight.is_behind,
            fills=bool(stored and fits),
            too_large=not fits,
            refused_fills=stored is False,
        )
        return Lookup(decode(text), "miss", 0.0)

    def _compute_within(
        self, flight: Flight, claim: Claim
    ) -> Generator[Compute, Computation, Computation]:
        """Compute as part of the flight; give the lease back if the caller is interrupted."""
        token = within.set((*within.get(), flight))
        try:
            outcome = yield Compute()
        except GeneratorExit:
            self._line.post(lambda store: store.release(flight.place, claim))
            raise
        finally:
            within.reset(token)
        self._count(outcome)
        return outcome

    def _compute_alone(self, state: str) -> Effects:
        """Compute and store nothing."""
        outcome: Computation = yield Compute()
        self._count(outcome)
        self._statistics.add(**{"misses" if state == "miss" else "bypassed": 1})
        if outcome.error is not None:
            return outcome.error
        try:
            value = decode(encode(outcome.value))
        except UnstorableValue as error:
            return error
        return Lookup(value, "miss" if state == "miss" else "bypass", 0.0)

    def _go_on_without(self, flight: Flight, seen: Freshness) -> Effects:
        """The store was lost since the value was read."""
        self.flights.end(flight)
        if seen.stale is not None:
            return self._serve_stale(seen.stale, now=seen.now)
        return (yield from self._compute_alone("bypass"))

    def _serve_landing(self, landing: FlightResult) -> Answer:
        self._statistics.hit(landing.computed_in)
        return Lookup(decode(landing.text), "hit", time.monotonic() - landing.born)

    def _serve_stale(self, entry: Entry, *, now: float) -> Answer:
        self._statistics.add(stale_served=1, saved_seconds=entry.computed_in)
        return Lookup(decode(entry.text), "stale", max(0.0, now - entry.stored_at))

    def _serve_despite(self, error: Exception, seen: Freshness, *, now: float) -> Answer:
        """Serve the stale value in place of the computation that failed, if it still may be."""
        if seen.stale is None or seen.stale_until <= now or isinstance(error, UnstorableValue):
            self._statistics.add(misses=1)
            return error
        self._statistics.add(stale_on_error=1)
        return self._serve_stale(seen.stale, now=now)

    def _count(self, outcome: Computation) -> None:
        self._statistics.add(
            compute_errors=outcome.error is not None, compute_seconds=outcome.seconds
        )


def _claiming(question: CacheRequest, flight: Flight, damaged: bytes) -> Any:
    def claim(store: Store) -> Claim:
        claim = store.claim(question.place, question.life(), lease=question.lease, damaged=damaged)
        if claim.state == "granted" and flight.future.done():  # its task was cancelled meanwhile
            store.release(question.place, claim)
        return claim

    return claim


def _landing_of(entry: Entry, *, now: float) -> FlightResult:
    age = max(0.0, now - entry.stored_at)
    return FlightResult(entry.text, time.monotonic() - age, entry.computed_in)


def _fits(text: str, limit: int) -> bool:
    return len(text) <= limit and (text.isascii() or len(text.encode()) <= limit)
