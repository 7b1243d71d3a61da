"""Breakers as other processes of the fleet have them, for tests within one process."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch
from weakref import WeakKeyDictionary

from redis.connection import AbstractConnection

from analytics_admin.breakers import BreakerPolicy, CircuitBreaker, runtime
from analytics_admin.breakers.engine import Engine
from analytics_admin.breakers.reporter import THREAD_NAME as REPORTER
from analytics_admin.breakers.state import Snapshot

_engines: list[Engine] = []
_rested_at: WeakKeyDictionary[Engine, float] = WeakKeyDictionary()
"""When a resting engine had last been used."""


def note_engine(engine: Engine) -> None:
    """Have the engine stopped at the end of the test."""
    _engines.append(engine)


def reset_engines() -> None:
    """Stop the engines of a test."""
    for engine in _engines:
        engine.reconnect()
    _engines.clear()


def rest_engines() -> None:
    """Have no engine of this process write by itself, until a breaker is used again."""
    for engine in (runtime.engine, *_engines):
        rest(engine)


def rest(engine: Engine) -> None:
    used_at = _used_at(engine)
    if _rested_at.get(engine) == used_at:  # it is at rest; each round of its reporter takes time
        return
    engine.report_all(10)
    for state in list(engine._states.values()):
        state.expire()  # the next call reads it, and has it kept up to date
    engine.schedule.followed.clear()
    engine.report_all(10)
    _rested_at[engine] = used_at


def _used_at(engine: Engine) -> float:
    return max((state.last_used_at() for state in list(engine._states.values())), default=0.0)


def another(name: str, **policy: Any) -> CircuitBreaker:
    """Return the breaker as another process has it: with an engine of its own."""
    engine = Engine(runtime.call_store, runtime.announce)
    return CircuitBreaker(name, engine, lambda: BreakerPolicy.from_options(policy))


def trip(name: str) -> CircuitBreaker:
    """Return a breaker that is open, in the shared store."""
    breaker = another(name, failure_threshold=1)
    breaker.acquire().fail()
    assert breaker.state == "open"
    rest(breaker.engine)
    return breaker


def snapshot_of(breaker: CircuitBreaker) -> Snapshot:
    """Return the stored snapshot, after this process has reported its results."""
    breaker.engine.expire(breaker.name)
    assert breaker.state
    assert breaker.local_state.snapshot is not None
    return breaker.local_state.snapshot


def state_now(breaker: CircuitBreaker) -> str:
    """Return the state in the store, whatever this process knew before."""
    breaker.engine.expire(breaker.name)
    return breaker.state


def names_in(store):
    """Return the names registered in the store, sorted."""
    return sorted(store.survey([], keep_for=None).names)


@contextmanager
def round_trips() -> Iterator[Counter[str]]:
    """Count what is sent to any store in the block: its "trips".

    Of these, "questions" leaves out the choice of a database, which a new connection begins with.
    """
    sent: Counter[str] = Counter()
    real = AbstractConnection.send_packed_command

    def counting(connection, command, check_health=True):
        if threading.current_thread().name == REPORTER:  # it goes by the clock, not by the test
            return real(connection, command, check_health)
        sent["trips"] += 1
        sent["questions"] += b"SELECT" not in b"".join(command)[:30]
        return real(connection, command, check_health)

    with patch.object(AbstractConnection, "send_packed_command", counting):
        yield sent
