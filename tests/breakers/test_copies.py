"""Breakers copy and pickle by name; what they raise and what they are made of keeps its values."""

import copy
import gc
import multiprocessing
import pickle
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from analytics_admin.breakers import (
    BreakerPolicy,
    CircuitBreaker,
    CircuitOpenError,
    circuit_breaker,
    get_breaker,
    runtime,
)
from tests.support.breakers import another


def pickled(thing: Any) -> Any:
    return pickle.loads(pickle.dumps(thing))


def is_bad(result: Any) -> bool:
    return result is None


WAYS: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": pickled,
    "oldest pickle": lambda thing: pickle.loads(pickle.dumps(thing, 0)),
}


@pytest.fixture(autouse=True)
def _forget_declared() -> Iterator[None]:
    yield
    for name in [name for name in runtime._breakers if name.startswith("copies.")]:
        del runtime._breakers[name]
        runtime._options.pop(name, None)
        runtime._policies.pop(name, None)


@pytest.mark.parametrize("way", WAYS)
def test_a_copy_of_a_breaker_is_the_breaker_of_that_name(way):
    breaker = circuit_breaker("copies.one", failure_threshold=3)
    breaker.call(int)
    assert WAYS[way](breaker) is breaker
    assert WAYS[way]({"of": [breaker]}) == {"of": [breaker]}


@pytest.mark.parametrize("way", ["copy", "deepcopy"])
def test_a_copy_of_another_engines_breaker_keeps_its_engine(way):
    breaker = another("copies.another")
    assert WAYS[way](breaker) is breaker


def test_a_protected_method_is_part_of_a_class_that_copies_and_pickles():
    class Client:
        breaker = circuit_breaker("copies.client")

        def __init__(self) -> None:
            self.own = self.breaker

    assert copy.deepcopy(Client()).own is Client.breaker


def test_unpickled_where_nobody_declared_it_a_breaker_has_the_settings_policy_until_code_does(
    settings,
):
    settings.ANALYTICS_ADMIN = {"BREAKER_DEFAULTS": {"failure_threshold": 9}}
    text = pickle.dumps(circuit_breaker("copies.sent", failure_threshold=3))
    del runtime._breakers["copies.sent"], runtime._options["copies.sent"]
    runtime._policies.clear()

    received = pickle.loads(text)
    assert received is get_breaker("copies.sent")
    assert received.policy.failure_threshold == 9
    assert circuit_breaker("copies.sent", failure_threshold=3) is received
    assert received.policy.failure_threshold == 3


def test_an_unpickled_name_must_be_one_that_a_breaker_can_have():
    with pytest.raises(ValueError, match="name must be"):
        runtime.unpickled_breaker("<b>")


def _call(breaker: CircuitBreaker) -> str:
    return f"{breaker.name} {breaker.call(lambda: 'called')}"


def test_a_breaker_may_be_sent_to_a_forked_process():
    breaker = circuit_breaker("copies.forked")
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(_call, (breaker,)) == "copies.forked called"


@pytest.mark.parametrize("way", WAYS)
def test_a_rejection_keeps_its_name_state_and_time(way):
    error = WAYS[way](CircuitOpenError("catalog", "open", 12.5))
    assert type(error) is CircuitOpenError
    assert (error.name, error.state, error.retry_after) == ("catalog", "open", 12.5)
    assert str(error) == "circuit breaker catalog is open; retry in 12.5 s"


@pytest.mark.parametrize("way", WAYS)
def test_a_policy_keeps_its_options_and_functions(way):
    policy = BreakerPolicy(failure_threshold=3, record_exceptions=(OSError,), record_result=is_bad)
    assert WAYS[way](policy) == policy


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("is_probe", [True, False])
def test_a_permit_is_for_one_call_and_refuses_to_be_copied(way, is_probe):
    breaker = another("copies.permit", failure_threshold=1, wait_duration_in_open_state=0.01)
    if is_probe:
        breaker.acquire().fail()
        time.sleep(0.02)
    permit = breaker.acquire()
    with pytest.raises(TypeError, match="a permit is for one call"):
        WAYS[way](permit)
    gc.collect()
    if is_probe:
        with pytest.raises(CircuitOpenError):
            breaker.acquire()
    permit.succeed()
    assert breaker.state == "closed"
