"""A process of the site that calls a breaker all the time, and keeps a log of what it met.

The functions run in the process itself; ``begin`` comes first and ``end`` hands over the log.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from django.test import override_settings

from analytics_admin.breakers import CircuitBreaker, CircuitOpenError, circuit_breaker
from analytics_admin.breakers.runtime import operator_store
from analytics_admin.breakers.stores.base import TransitionRecord
from analytics_admin.signals import breaker_store_changed

PACE = 0.025
"""Seconds between two calls."""
PROBE = 0.2
"""Seconds that a probe takes: the other processes call while it is under way."""
WAITS_LONG = {"failure_threshold": 1, "wait_duration_in_open_state": 3600.0}
"""The policy of the breakers: what opens one is certain, and it does not close by itself."""
BEAT = 0.005
"""Seconds between two beats of what tells whether the machine stood still."""

REJECTED = "rejected: "
PASSED = "passed: "
MEETS = {
    "forced_open": REJECTED + "forced_open",
    "disabled": PASSED + "disabled",
    "metrics_only": PASSED + "metrics_only",
}
"""What calls meet under each hold, what they may meet when it is over, and how it ends."""
AFTERWARDS = {
    "forced_open": {PASSED + "closed", PASSED + "half_open", REJECTED + "half_open"},
    "disabled": {PASSED + "closed"},
    "metrics_only": {PASSED + "closed"},
}
ENDS = {
    "forced_open": [("half_open", "hold_over"), ("closed", "probes_succeeded")],
    "disabled": [("closed", "hold_over")],
    "metrics_only": [("closed", "hold_over")],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call: when (monotonic seconds), and what it met, like "rejected: open"."""

    began: float
    ended: float
    met: str


@dataclass(slots=True, kw_only=True)
class Log:
    """The calls of one process, and how long it was kept from running: (until when, seconds)."""

    calls: list[Call] = field(default_factory=list)
    pauses: list[tuple[float, float]] = field(default_factory=list)

    def last_without(self, met: str, *, after: float, before: float) -> float:
        """Return when the last call between the instants began that met anything else.

        One that was under way at the second instant may meet either.
        """
        strangers = [call.began for call in self.calls if call.met != met and call.ended < before]
        return max([after, *strangers])

    def last_with(self, met: str, *, after: float) -> float:
        """Return when the last call that met this began."""
        return max([after, *[call.began for call in self.calls if call.met == met]])

    def met_between(self, after: float, before: float) -> set[str]:
        """Return what calls met that began and ended between the two instants."""
        return {c.met for c in self.calls if c.began >= after and c.ended <= before}

    def count(self, met: str, *, after: float = 0.0, before: float = float("inf")) -> int:
        """Return how many calls met this that began between the two instants."""
        return sum(call.met == met and after <= call.began < before for call in self.calls)

    def longest_pause(self, after: float, before: float) -> float:
        """Return the longest of the machine's pauses, in seconds, that touches this time."""
        return max(
            (late for until, late in self.pauses if until > after and until - late < before),
            default=0.0,
        )


class _Caller:
    """One thread for each breaker, so that none waits for another one's probe."""

    def __init__(self, names: Sequence[str]) -> None:
        self._logs = {name: Log() for name in names}
        self._pauses: list[tuple[float, float]] = []
        self._over = threading.Event()
        breakers = [circuit_breaker(name, **WAITS_LONG) for name in names]
        self._threads = [threading.Thread(target=self._call, args=(it,)) for it in breakers]
        self._threads.append(threading.Thread(target=self._beat))
        for thread in self._threads:
            thread.daemon = True
            thread.start()

    def end(self) -> dict[str, Log]:
        self._over.set()
        for thread in self._threads:
            thread.join()
        for log in self._logs.values():
            log.pauses = self._pauses
        return self._logs

    def _call(self, breaker: CircuitBreaker) -> None:
        log = self._logs[breaker.name]
        while not self._over.wait(PACE):
            began = time.monotonic()
            try:
                met = PASSED + breaker.call(_work, breaker)
            except CircuitOpenError as error:
                met = REJECTED + error.state
            log.calls.append(Call(began=began, ended=time.monotonic(), met=met))

    def _beat(self) -> None:
        """A sleep that takes longer than it should is the machine's doing, not the breaker's."""
        last = time.monotonic()
        while not self._over.is_set():
            time.sleep(BEAT)
            now = time.monotonic()
            if now - last > 2 * BEAT:
                self._pauses.append((now, now - last - BEAT))
            last = now


def _work(breaker: CircuitBreaker) -> str:
    state = breaker.state
    if state == "half_open":
        time.sleep(PROBE)
    return state


_callers: list[_Caller] = []
_went_away = threading.Event()
_came_back = threading.Event()


def begin(names: Sequence[str]) -> None:
    """Call the breakers at the same time until ``end``."""
    _callers.append(_Caller(names))


def end() -> dict[str, Log]:
    """Stop calling; return the log of each breaker by its name."""
    return _callers.pop().end()


def open_for_an_hour(name: str) -> None:
    """Have every call rejected, by a breaker whose wait is long."""
    circuit_breaker(name, **WAITS_LONG).acquire().fail()


def moves(name: str) -> list[TransitionRecord]:
    """Return what the store recorded of the breaker, oldest first."""
    return operator_store().transitions(name)[::-1]


def held_until(name: str) -> float:
    """Return the store time at which the breaker's hold ends."""
    held = operator_store().load_many([name]).snapshots[name]
    assert held is not None
    assert held.hold is not None
    assert held.hold.until is not None
    return held.hold.until


def hasten_return(seconds: float) -> None:
    """Have this process look that often for a store that is away, and note when it comes back."""
    override_settings(ANALYTICS_ADMIN={"STORE_RETRY_INTERVAL": seconds}).enable()
    breaker_store_changed.connect(_note_store)


def wait_for_loss() -> None:
    """Return when this process has lost the store; none that has nothing to ask notices at once."""
    assert _went_away.wait(10)
    _went_away.clear()


def wait_for_return() -> None:
    """Return when the store's return has been told since the last time that this was asked."""
    assert _came_back.wait(10)
    _came_back.clear()


def _note_store(reason: str | None, **_: object) -> None:
    (_came_back if reason is None else _went_away).set()
