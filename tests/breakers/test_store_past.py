"""A store that came back with its past gets back what its processes know of later."""

from collections.abc import Callable
from typing import Any

import pytest
import redis

from analytics_admin.breakers import CircuitBreaker, control, runtime
from analytics_admin.breakers.state import Control, Snapshot, State
from tests.support.breakers import another, rest, state_now
from tests.support.proxy import Proxy
from tests.support.servers import StoreServer
from tests.support.sites import eventually
from tests.support.stored_breakers import key_of, raw_client

KINDS = ("record", "moves")


def hold(name: str, control_: Control = Control.FORCED_OPEN, actor: str = "sam") -> None:
    control.set_control([name], control_, for_seconds=None, actor=actor, reason="")


def take_copy(name: str) -> Callable[[], None]:
    """Return what makes the store's breaker as it is now again."""
    copies = {key_of(name, kind): raw_client().dump(key_of(name, kind)) for kind in KINDS}

    def put_back() -> None:
        for key, copy in copies.items():
            if copy is None:
                raw_client().delete(key)
            else:
                raw_client().restore(key, 0, copy, replace=True)

    return put_back


def stored(name: str = "a") -> Snapshot:
    snapshot = runtime.operator_store().load_many([name]).snapshots[name]
    assert snapshot is not None
    return snapshot


def used(name: str = "a", **policy: Any) -> CircuitBreaker:
    breaker = another(name, **policy)
    breaker.call(int)
    assert breaker.engine.report_all(10)
    return breaker


@pytest.mark.parametrize(
    "act",
    [
        lambda breaker: hold("a"),
        lambda breaker: hold("a", Control.DISABLED),
        lambda breaker: [breaker.acquire().fail(), breaker.engine.report_all(10)],
        lambda breaker: [hold("a"), control.reset(["a"], only_open=False)],
    ],
    ids=["forced_open", "disabled", "opened", "reset"],
)
def test_the_last_change_that_the_store_has_lost_is_made_again(act):
    breaker = used(failure_threshold=1, wait_duration_in_open_state=60)
    put_back = take_copy("a")
    act(breaker)
    known = state_now(breaker)
    generation, kept_hold = stored().generation, stored().hold
    put_back()
    assert stored().generation != generation
    assert state_now(breaker) == known
    assert (stored().generation, stored().hold) == (generation, kept_hold)
    assert state_now(another("a")) == known


def test_the_last_change_of_an_operator_in_the_stores_other_course_of_events_stays():
    breaker = used()
    before = take_copy("a")
    hold("a", actor="other")
    of_the_other = take_copy("a")
    before()
    hold("a", Control.DISABLED)
    hold("a", Control.METRICS_ONLY)
    assert state_now(breaker) == "metrics_only"
    of_the_other()
    assert state_now(breaker) == "forced_open"
    assert stored().hold.actor == "other"


def test_a_later_change_in_the_stores_other_course_of_events_stays():
    breaker = used(failure_threshold=1, wait_duration_in_open_state=60)
    put_back = take_copy("a")
    hold("a")
    hold("a", Control.DISABLED)
    assert state_now(breaker) == "disabled"
    rest(breaker.engine)  # it reads nothing meanwhile
    put_back()
    opened = used(failure_threshold=1, wait_duration_in_open_state=60)
    opened.acquire().fail()
    assert opened.engine.report_all(10)
    assert state_now(breaker) == "open"
    assert stored().state is State.OPEN


@pytest.mark.hurried
def test_a_hold_that_the_promoted_copy_has_not_heard_of_binds_again(
    proxy: Proxy, settings: Any
) -> None:
    settings.ANALYTICS_ADMIN = {"STORE_RETRY_INTERVAL": 0.2}
    breaker = used()
    raw_client().config_set("repl-diskless-sync-delay", 0)
    with StoreServer() as copy:
        copied = redis.Redis(unix_socket_path=copy.socket_path)
        copied.replicaof("127.0.0.1", proxy.port)
        assert eventually(lambda: copied.hexists(key_of("a"), "record"))
        copied.replicaof("NO", "ONE")
        hold("a")
        assert eventually(lambda: breaker.state == "forced_open")
        proxy.move_to(copy.socket_path)
        assert eventually(lambda: copied.hexists(key_of("a"), "hold"))
        assert breaker.state == "forced_open"
