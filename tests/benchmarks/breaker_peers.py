"""The peers of our breakers, each as its own documentation says to use it."""

import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, cast

import redis

Function = Callable[..., Any]
# A function, the consecutive failures that open its breaker, and the store's URL; without one the
# breaker keeps its state in memory.
Protect = Callable[[Function, int, str | None], Function]

INSTALL = "pip install -r tests/benchmarks/requirements.txt"
NEVER = 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Another breaker; ``shared``: it can keep its state in Redis."""

    module: str
    protect: Protect
    shared: bool = True


def _circuitbreaker(function: Function, threshold: int, url: str | None) -> Function:
    import circuitbreaker

    return circuitbreaker.CircuitBreaker(failure_threshold=threshold, recovery_timeout=60)(function)


def circuitbreaker_block() -> AbstractContextManager[Any]:
    """Return its breaker as a block, which counts but never rejects."""
    import circuitbreaker

    return cast("AbstractContextManager[Any]", circuitbreaker.CircuitBreaker())


def _pybreaker(function: Function, threshold: int, url: str | None) -> Function:
    import pybreaker

    storage = pybreaker.CircuitMemoryStorage(pybreaker.STATE_CLOSED)
    if url:
        client = redis.Redis.from_url(url)
        name = f"{function.__name__}-{threshold}"
        storage = pybreaker.CircuitRedisStorage(pybreaker.STATE_CLOSED, client, namespace=name)
    return pybreaker.CircuitBreaker(fail_max=threshold, state_storage=storage)(function)


def _purgatory(function: Function, threshold: int, url: str | None) -> Function:
    import purgatory

    uow = None
    if url:
        uow = purgatory.SyncRedisUnitOfWork(url)
        # Its synchronous storage makes itself an asyncio client, whose answers it cannot read.
        uow.contexts.redis = redis.Redis.from_url(url)
    factory = purgatory.SyncCircuitBreakerFactory(default_threshold=threshold, uow=uow)
    return factory(f"{function.__name__}-{threshold}")(function)


def _aiobreaker(function: Function, threshold: int, url: str | None) -> Function:
    import aiobreaker
    from aiobreaker.storage.redis import CircuitRedisStorage

    storage = None
    if url:
        client, closed = redis.Redis.from_url(url), aiobreaker.CircuitBreakerState.CLOSED
        name = f"{function.__name__}-{threshold}-aio"
        storage = CircuitRedisStorage(closed, client, namespace=name)
    return aiobreaker.CircuitBreaker(fail_max=threshold, state_storage=storage)(function)


def _interlock(function: Function, threshold: int, url: str | None) -> Function:
    """It knows rates only: the first failure opens it, or none of a window never filled."""
    import interlock
    from interlock.integrations.redis import RedisStorage

    calls = 1 if threshold == 1 else NEVER
    return interlock.CircuitBreaker(
        name=f"{function.__name__}-{threshold}",
        config=interlock.Config(minimum_number_of_calls=calls, failure_rate_threshold=1.0),
        storage=RedisStorage(redis.Redis.from_url(url)) if url else None,
    )(function)


PEERS = {
    "circuitbreaker": Peer(module="circuitbreaker", protect=_circuitbreaker, shared=False),
    "pybreaker": Peer(module="pybreaker", protect=_pybreaker),
    "purgatory": Peer(module="purgatory", protect=_purgatory),
    "aiobreaker": Peer(module="aiobreaker", protect=_aiobreaker),
    "interlock-cb": Peer(module="interlock", protect=_interlock),
}


def installed() -> dict[str, Peer]:
    """Return the peers that can be imported; say of the others how to get them."""
    found = {}
    for name, peer in PEERS.items():
        try:
            importlib.import_module(peer.module)
        except ImportError:
            print(f"{name} is not installed and left out: {INSTALL}")
        else:
            found[name] = peer
    return found
