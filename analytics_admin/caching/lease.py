"""What a call does that found no fresh value: compute it, wait for another call, or serve stale.

Of all callers on all processes, the one that holds the lease computes. Its process renews the lease
while the computation runs, up to twelve times: a killed process holds the others up for one lease
at most, one that hangs for a few. Then another caller may take the lease over, and the first of
the two to finish fills the cache. (Nishtala et al., "Scaling Memcache at Facebook", NSDI 2013.)

Without the store there is no lease. Still one caller of each process computes and the others wait.

Whoever has waited looks at the store again before it serves a stored value: the value may have been
cleared, deleted or replaced meanwhile.
"""

import math
import random
import time
from collections import OrderedDict
from collections.abc import Generator
from functools import partial
from typing import Any, NamedTuple

from analytics_admin.caching.background import BackgroundRefreshes
from analytics_admin.caching.codec import UnstorableValue, encode
from analytics_admin.caching.effects import (
    NO_END,
    Answer,
    CallStore,
    Computation,
    Compute,
    Effect,
    Effects,
    FlightWait,
    InBackground,
    Sleep,
    TextLookup,
    WaitFor,
)
from analytics_admin.caching.entries import Entry, decode_entry, head_of
from analytics_admin.caching.freshness import Freshness, assess_freshness, can_decode
from analytics_admin.caching.renewal import LeaseRenewals
from analytics_admin.caching.request import CacheRequest
from analytics_admin.caching.singleflight import (
    REFUSED,
    Caller,
    Flight,
    FlightFailure,
    FlightResult,
    SingleFlight,
    current_flights,
    fresh_copy,
    is_being_computed_here,
    running_loop,
    waits_for_itself,
)
from analytics_admin.caching.statistics.counters import CallCounter
from analytics_admin.caching.stores.access import StoreAccess
from analytics_admin.caching.stores.base import Claim, Damage, EntryKeys, Store
from analytics_admin.stores.contained_logger import get_logger

logger = get_logger("analytics_admin.caching")

MAX_WAIT_LEASES = 10.0
"""A call waits this many leases for other processes: one may hang, and one take over."""
MAX_FRUITLESS_WAITS = 2
"""A call computes for itself after this many computations by others brought no value. Behind a
backend that is down, callers must not fail one after the other."""
NO_CALLER = TextLookup("null", "stale", 0.0)
"""The answer of a background refresh, which has no caller."""
MIN_PAUSE_SECONDS = 0.01
MAX_PAUSE_SECONDS = 0.1
"""Between two looks at another process' computation."""
LOOKS_PER_SECOND = 500.0
"""Of all callers in a process, about: after a clear of many hot values more of them would take the
processor from those who compute."""


class MissResolver:
    """Resolves the misses of one process against one store."""

    def __init__(
        self,
        access: StoreAccess,
        counter: CallCounter,
        *,
        background_refreshes: int = 0,
        lease: float = 1.0,
    ) -> None:
        self._access = access
        self._counter = counter
        self._refreshes = BackgroundRefreshes(
            background_refreshes, max_seconds=MAX_WAIT_LEASES * lease
        )
        self._flights = SingleFlight()
        self._renewals = LeaseRenewals(access, self._flights.end)
        self._pauses = RefreshPauses()

    def resolve(
        self, request: CacheRequest, seen: Freshness | None, began_at: float = math.inf
    ) -> Effects:
        """Get a value for a request whose reading ``seen`` was not fresh.

        None: the store is unavailable. ``began_at`` is the monotonic clock before the reading.
        """
        if is_being_computed_here(request.keys):  # it would wait for itself
            return (yield from self._compute_alone("miss" if seen else "bypass"))
        looked_at, fruitless = time.monotonic(), 0
        while True:
            caller = Caller(min(began_at, looked_at), looked_at, seen and seen.accepted)
            answer = yield from self._attempt(request, seen, caller)
            if not isinstance(answer, _NewLook):
                return answer
            # Under other epochs, it was a clear that took the result.
            accepted = answer.seen and answer.seen.accepted
            is_fruitless = answer.is_fruitless and accepted == caller.accepted
            fruitless = fruitless + 1 if is_fruitless else 0
            seen, looked_at = answer.seen, time.monotonic()
            if fruitless >= MAX_FRUITLESS_WAITS and (seen is None or seen.stale is None):
                return (yield from self._compute_alone("miss"))

    def _attempt(
        self, request: CacheRequest, seen: Freshness | None, caller: Caller
    ) -> Generator[Effect, Any, "Answer | _NewLook"]:
        """Lead a flight, or follow another caller's; with a stale value, do not wait for it."""
        stale = None if seen is None else seen.stale
        if seen is None or stale is None:
            flight, is_own = self._flights.join(request.keys, caller, lease=request.lease)
            if not is_own:
                return (yield from self._follow(request, flight, seen, caller))
            return (yield from self._lead_to_the_end(request, flight, seen, caller.looked_at))
        if not self._pauses.holds(request.keys):
            flight, is_own = self._flights.join(request.keys, caller, lease=request.lease)
            if is_own and self._in_background(request, flight):
                yield from self._refresh_in_background(request, flight, seen)
            elif is_own:
                return (yield from self._lead_to_the_end(request, flight, seen, caller.looked_at))
        return self._serve_stale(stale, now=seen.now)

    def _lead_to_the_end(
        self, request: CacheRequest, flight: Flight, seen: Freshness | None, looked_at: float
    ) -> Effects:
        try:
            if seen is None:
                return (yield from self._compute_unstored(flight, "bypass"))
            return (yield from self._lead(request, flight, seen, looked_at))
        finally:
            self._leave(flight)

    def bypass(self, request: CacheRequest, began_at: float) -> Effects:
        """Get a value without the store, which is unavailable."""
        return (yield from self.resolve(request, None, began_at))

    def uncached(self) -> Effects:
        """Compute for this caller: the cache is switched off."""
        return (yield from self._compute_alone("miss"))

    def detach(self, *, entry: str = "", tag_keys: tuple[str, ...] = ()) -> None:
        """Have no later call wait for what began before this process' own act."""
        self._flights.detach(entry, tag_keys)

    def close(self) -> None:
        """End the thread."""
        self._renewals.close()

    def after_fork(self) -> None:
        """Start afresh in a forked child: the running flights are its parent's."""
        self._flights.after_fork()
        self._refreshes.after_fork()
        self._renewals.after_fork()
        self._pauses = RefreshPauses()

    # Leading a flight

    def _lead(
        self, request: CacheRequest, flight: Flight, seen: Freshness, looked_at: float
    ) -> Effects:
        """Compute on behalf of this process, or watch the process that computes."""
        yield from self._take_over(flight)
        started, until = looked_at, looked_at + MAX_WAIT_LEASES * request.lease
        last, fruitless = None, 0
        while True:
            flight.extend()
            asked_at = time.monotonic()
            claim = yield from self._claim(request, flight, seen)
            if claim is None:  # the store was lost, or takes no writes
                if (stand_in := (yield from self._stand_in(request, seen))) is not None:
                    return stand_in
                flight.epochs = flight.epochs or seen.accepted
                return (yield from self._compute_unstored(flight, "bypass"))
            flight.epochs, flight.claimed_at = frozenset({claim.epochs}), time.monotonic()
            if claim.state == "granted":
                return (yield from self._refresh(request, flight, seen, claim))
            if claim.state == "fresh":
                entry = decode_entry(claim.entry)
                if entry is None or not can_decode(entry):  # damaged since it was read
                    seen = seen._replace(damage=Damage(head=head_of(claim.entry)))
                    continue
                result = _result_of(entry, now=claim.now, counted_at=asked_at)
                self._flights.end(flight, result)
                return self._take(result)
            if (stand_in := (yield from self._stand_in(request, seen))) is not None:
                return stand_in
            if last is not None and last.epochs == claim.epochs and last.lease != claim.lease:
                fruitless += 1  # another caller has taken the lease since
            last, now = claim, time.monotonic()
            if now >= until or fruitless >= MAX_FRUITLESS_WAITS:
                return (yield from self._compute_unstored(flight, "miss"))
            # Pauses grow with the wait; the jitter spreads the processes.
            pause = min(MAX_PAUSE_SECONDS, MIN_PAUSE_SECONDS + (now - started) / 10)
            pause = max(pause, self._flights.number / LOOKS_PER_SECOND)
            pause *= random.uniform(0.5, 1.5)
            yield Sleep(min(pause, claim.seconds_left + 0.001, until - now))

    def _take_over(self, flight: Flight) -> Generator[Effect, Any, None]:
        """Give back the lease of a flight that came to no end, so that this one can have it."""
        ended, flight.replaces = flight.replaces, None
        if ended is None:
            return
        self._renewals.drop(ended)
        claim, keys = ended.claim, ended.keys
        if claim is not None:
            yield CallStore(lambda store: store.release(keys, claim))
        self._flights.end(ended)

    def _claim(
        self, request: CacheRequest, flight: Flight, seen: Freshness
    ) -> Generator[Effect, Any, Claim | None]:
        """Ask for the lease; give it back if the caller does not hear that it was granted."""
        self._renewals.prepare()
        ticket = _ClaimTicket(request, seen.damage, self._renewals.returned(request.keys))
        claim: Claim | None = None
        try:
            claim = yield CallStore(ticket.take)
        finally:
            if claim is None and (unheard := ticket.abandon()) is not None:
                self._renewals.give_back(request.keys, unheard)
        if claim is not None and claim.state == "granted":
            self._renewals.hold(flight, claim)
        return claim

    def _refresh(
        self, request: CacheRequest, flight: Flight, seen: Freshness, claim: Claim
    ) -> Effects:
        """Compute under the lease and store the result, if the lease still holds then."""
        keys = request.keys
        computation, text, error = yield from self._compute(flight)
        if error is not None:
            self._renewals.drop(flight)
            flight.claim = None
            yield CallStore(lambda store: store.release(keys, claim), is_owed=True)
            self._flights.end(flight, FlightFailure(error))
            return (yield from self._fail(error, request, flight, seen))
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
        self._renewals.drop(flight)
        flight.claim = None
        self._pauses.end(keys)
        result = FlightResult(
            text,
            "hit" if stored else "bypass",
            time.monotonic(),
            computation.seconds,
            counted_at=asked_at if stored else -math.inf,
            computed_from=computation.began_at,
            epochs=frozenset({claim.epochs}),
            is_unanswered=stored is None,
        )
        self._flights.end(flight, REFUSED if stored is False else result)
        self._counter.add(
            misses=not flight.is_background,
            fills=bool(stored and fits),
            too_large=not fits,
            refused_fills=stored is False,
        )
        return TextLookup(text, "miss", 0.0)

    def _compute_unstored(self, flight: Flight, state: str) -> Effects:
        """Compute as a flight that stores nothing: without the store, or after all waits."""
        computation, text, error = yield from self._compute(flight)
        self._counter.add(**{"misses" if state == "miss" else "bypassed": 1})
        if error is not None:
            self._flights.end(flight, FlightFailure(error))
            return error
        result = FlightResult(
            text,
            "miss" if state == "miss" else "bypass",
            time.monotonic(),
            computation.seconds,
            computed_from=computation.began_at,
            epochs=flight.epochs or frozenset(),
        )
        self._flights.end(flight, result)
        return TextLookup(text, result.state, 0.0)

    def _compute(
        self, flight: Flight
    ) -> Generator[Effect, Any, tuple[Computation, str, Exception | None]]:
        """Compute as part of the flight; return also the value's text, or what went wrong."""
        flight.extend()
        computation: Computation = yield Compute(flight)
        self._count(computation)
        if computation.error is not None:
            return computation, "", computation.error
        try:
            return computation, encode(computation.value), None
        except UnstorableValue as error:
            return computation, "", error

    def _leave(self, flight: Flight) -> None:
        """End the caller's own flight, however it left; another caller leads the next.

        Garbage collection may call this.
        """
        if flight.claim is not None:
            self._renewals.drop(flight)
            self._renewals.give_back(flight.keys, flight.claim)
            flight.claim = None
        self._flights.end(flight)

    def _fail(
        self, error: Exception, request: CacheRequest, flight: Flight, seen: Freshness
    ) -> Effects:
        """Serve the stale value instead of the failed computation, if it still may be served."""
        if seen.stale is not None:
            self._pauses.note_failure(request.keys, error)
        if flight.is_background:
            return NO_CALLER
        if not isinstance(error, UnstorableValue):
            stand_in = yield from self._stand_in(request, seen)
            if stand_in is not None:
                self._counter.add(stale_on_error=stand_in.state == "stale")
                return stand_in
        self._counter.add(misses=1)
        return error

    # Following another caller's flight

    def _follow(
        self, request: CacheRequest, flight: Flight, seen: Freshness | None, caller: Caller
    ) -> Generator[Effect, Any, "Answer | _NewLook"]:
        """Wait for the flight; return its value, or a new look if it brought none."""
        own = current_flights.get()
        for waiting in own:
            waiting.awaits.add(flight)
        try:
            wait: FlightWait = NO_END if waits_for_itself(flight) else (yield WaitFor(flight))
        finally:
            for waiting in own:
                waiting.awaits.discard(flight)
        outcome = wait.outcome
        if isinstance(outcome, FlightFailure):
            self._counter.add(**{"misses" if seen else "bypassed": 1})
            return fresh_copy(outcome.error)
        result = outcome if isinstance(outcome, FlightResult) else None
        if result is not None and not result.may_be_taken(caller):
            result = None
        if result is not None and (seen is None or not result.needs_look(caller)):
            return self._take(result)
        if (
            result is None and not wait.has_ended and flight.is_alive
        ):  # it waits for this very call or thread
            return (yield from self._compute_alone("miss" if seen else "bypass"))
        freshness = None if seen is None else (yield from self._look(request))
        if freshness is not None and freshness.fresh is not None:
            return self._serve_fresh(freshness.fresh, now=freshness.now)
        if result is not None and freshness is None:
            return self._take(result)  # nobody can know more
        is_fruitless = outcome is REFUSED or result is not None or not wait.has_ended
        return _NewLook(freshness, is_fruitless)

    # In the background

    def _in_background(self, request: CacheRequest, flight: Flight) -> bool:
        """Say whether to refresh in the background.

        A refresh that was cut off there, as by ``async_to_sync``, is made up for by a caller.
        """
        if not request.background or not self._refreshes.enabled:
            return False
        replaces_dead = flight.replaces is not None and flight.replaces.is_background
        return not self._pauses.take_cut_off(request.keys) and not replaces_dead

    def _refresh_in_background(
        self, request: CacheRequest, flight: Flight, seen: Freshness
    ) -> Generator[Effect, Any, None]:
        """Lead the flight in the background, unless too many refreshes are running."""
        flight.is_background = True
        is_started = False
        try:
            effects = self._lead_in_background(request, flight, seen)
            cut_off = partial(self._cut_off, flight)
            is_started = yield InBackground(self._refreshes, effects, cut_off)
        finally:
            if not is_started:  # a later caller will try
                self._flights.end(flight)

    def _lead_in_background(
        self, request: CacheRequest, flight: Flight, seen: Freshness
    ) -> Effects:
        """Refresh a stale value, unless another process does."""
        is_cut_off = True
        flight.loop = running_loop()
        try:
            yield from self._take_over(flight)
            claim = yield from self._claim(request, flight, seen)
            if claim is not None and claim.state == "granted":
                flight.epochs, flight.claimed_at = frozenset({claim.epochs}), time.monotonic()
                yield from self._refresh(request, flight, seen, claim)
            is_cut_off = False
            return NO_CALLER
        finally:
            if is_cut_off:
                self._cut_off(flight)
            self._leave(flight)

    def _cut_off(self, flight: Flight) -> None:
        self._pauses.note_cut_off(flight.keys)
        self._leave(flight)

    # Parts

    def _compute_alone(self, state: str) -> Effects:
        """Compute for this caller only and store nothing."""
        computation: Computation = yield Compute()
        self._count(computation)
        self._counter.add(**{"misses" if state == "miss" else "bypassed": 1})
        if computation.error is not None:
            return computation.error
        try:
            text = encode(computation.value)
        except UnstorableValue as error:
            return error
        return TextLookup(text, "miss" if state == "miss" else "bypass", 0.0)

    def _stand_in(
        self, request: CacheRequest, seen: Freshness
    ) -> Generator[Effect, Any, TextLookup | None]:
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
            lambda store: assess_freshness(
                store.read(request.keys), request.stale_for, decodes=True
            )
        )
        return freshness

    def _take(self, result: FlightResult) -> TextLookup:
        """Serve what another caller's flight has brought."""
        if result.state == "hit":
            self._counter.hit(result.computed_in)
        else:
            self._counter.add(**{"misses" if result.state == "miss" else "bypassed": 1})
        return TextLookup(result.text, result.state, time.monotonic() - result.stored_at)

    def _serve_fresh(self, entry: Entry, *, now: float) -> TextLookup:
        self._counter.hit(entry.computed_in)
        return TextLookup(entry.text, "hit", max(0.0, now - entry.stored_at))

    def _serve_stale(self, entry: Entry, *, now: float) -> TextLookup:
        """Serve a stale value straight from a look at the store."""
        self._counter.add(stale_served=1, saved_seconds=entry.computed_in)
        return TextLookup(entry.text, "stale", max(0.0, now - entry.stored_at))

    def _count(self, computation: Computation) -> None:
        self._counter.add(
            computed=1,
            compute_errors=computation.error is not None,
            compute_seconds=computation.seconds,
        )


class _NewLook(NamedTuple):
    """What a follower finds in the store after a flight that brought it nothing."""

    seen: Freshness | None
    is_fruitless: bool
    """Whether the flight computed in vain, or hung."""


class _ClaimTicket:
    """A request for a lease, of which its caller may not hear.

    The thread that carries it out and the caller that gives it up each look at what the other has
    noted, after their own note: at least one of them returns the lease.
    """

    __slots__ = ("_damage", "_granted", "_is_abandoned", "_request", "_returned")

    def __init__(
        self, request: CacheRequest, damage: Damage, returned: Claim | None = None
    ) -> None:
        self._request = request
        self._damage = damage
        self._returned = returned
        self._granted: Claim | None = None
        self._is_abandoned = False

    def take(self, store: Store) -> Claim | None:
        request = self._request
        if self._has_left():
            return None
        if self._returned is not None:  # by another caller of this process, just before
            store.release(request.keys, self._returned)
        claim = store.claim(request.keys, request.ttl(), lease=request.lease, damage=self._damage)
        if claim.state == "granted":
            self._granted = claim
            if self._has_left():
                store.release(request.keys, claim)
        return claim

    def _has_left(self) -> bool:
        return self._is_abandoned

    def abandon(self) -> Claim | None:
        """Return the lease that is to be given back, if it was granted by now."""
        self._is_abandoned = True
        return self._granted


class RefreshPauses:
    """How one process goes on after refreshes of stale values that failed or were cut off.

    After two failures in a row callers get the stale value, and nobody computes, for a pause that
    doubles with each further failure. Failures are logged, seldom.
    """

    FIRST_SECONDS = 1.0
    MAX_SECONDS = 30.0
    MAX_KEYS = 1000
    LOG_SECONDS = 5.0

    def __init__(self) -> None:
        self._failures: OrderedDict[EntryKeys, tuple[int, float]] = OrderedDict()
        self._cut_off: dict[EntryKeys, bool] = {}
        self._logged_at: dict[str, float] = {}

    def holds(self, keys: EntryKeys) -> bool:
        """Say whether to serve the stale value without a refresh."""
        failures = self._failures.get(keys)
        return failures is not None and time.monotonic() < failures[1]

    def note_failure(self, keys: EntryKeys, error: Exception) -> None:
        number = self._failures.get(keys, (0, 0.0))[0] + 1
        pause = 0.0
        if number > 1:
            pause = min(self.MAX_SECONDS, self.FIRST_SECONDS * 2 ** min(number - 2, 10))
            pause *= random.uniform(0.9, 1.1)
        self._failures[keys] = number, time.monotonic() + pause
        if len(self._failures) > self.MAX_KEYS:
            self._failures.popitem(last=False)
        self._log(error)

    def end(self, keys: EntryKeys) -> None:
        """Note that a refresh has succeeded."""
        self._failures.pop(keys, None)

    def note_cut_off(self, keys: EntryKeys) -> None:
        """Note that a background refresh was cut off. Garbage collection may call this."""
        if len(self._cut_off) < self.MAX_KEYS:
            self._cut_off[keys] = True

    def take_cut_off(self, keys: EntryKeys) -> bool:
        """Say whether the last background refresh was cut off; only the first caller gets True."""
        return self._cut_off.pop(keys, False)

    def _log(self, error: Exception) -> None:
        if getattr(error, "code", "") == "circuit_open":  # the breaker has logged why
            return
        name, now = type(error).__name__, time.monotonic()
        if now - self._logged_at.get(name, -self.LOG_SECONDS) < self.LOG_SECONDS:
            return
        if len(self._logged_at) >= self.MAX_KEYS:
            self._logged_at.clear()
        self._logged_at[name] = now
        if isinstance(error, UnstorableValue):
            logger.error("search cache: a stale value could not be refreshed: %s", error)
            return
        words = "search cache: a stale value could not be refreshed: %s"
        logger.warning(words, name, exc_info=error)


def _result_of(entry: Entry, *, now: float, counted_at: float) -> FlightResult:
    age = max(0.0, now - entry.stored_at)
    return FlightResult(
        entry.text, "hit", time.monotonic() - age, entry.computed_in, counted_at=counted_at
    )


def _fits(text: str, limit: int) -> bool:
    return len(text) <= limit and (text.isascii() or len(text.encode()) <= limit)
