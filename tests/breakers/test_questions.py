"""When the Redis store asks all processes for successes, since a rate may open a breaker."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analytics_admin.breakers.policy import Rates, Window
from analytics_admin.breakers.presence import Presence
from analytics_admin.breakers.state import Control, Counts, Hold, Results
from analytics_admin.breakers.state_machine import closeness, control, new_record
from analytics_admin.breakers.stores.base import Move, Report
from analytics_admin.breakers.stores.memory import MemoryStore
from analytics_admin.breakers.stores.redis import RedisStore
from tests.support.stored_breakers import raw_client

RATES = Rates(failures=50, slow_calls=80, calls_needed=10)
WINDOWS = [Window(timed=True, size=60), Window(timed=False, size=20)]


@pytest.fixture
def store():
    """The store of a process that is alone."""
    store = RedisStore("breakers", timeout=5)
    Presence().tell(store, gets_pushes=True)
    return store


def create(store, new=None):
    (made,) = store.compare_and_set([Move(name="a", expected=None, new=new or new_record())])
    return made.snapshot.generation


def tell(store, generation, window=WINDOWS[0], rates=RATES, **results):
    report = Report(
        name="a", window=window, generation=generation, rates=rates, results=Results(**results)
    )
    return store.add([report])


def test_it_asks_when_a_rate_comes_close_to_its_limit_and_when_it_reaches_it(store):
    generation = create(store)
    with raw_client().pubsub() as messages:
        messages.subscribe(store._channel)
        assert messages.get_message(timeout=5)["type"] == "subscribe"
        asked = [tell(store, generation, failures=1).is_alone for _ in range(12)]
        assert [number for number, is_asked in enumerate(asked, 1) if is_asked] == [3, 10]
        for _ in range(2):
            assert messages.get_message(timeout=5)["data"].startswith(b'["?"')
        assert messages.get_message(timeout=0.05) is None


def test_it_says_whether_all_that_are_present_hear(store):
    generation = create(store)
    Presence().tell(store, gets_pushes=True)
    deaf = tell(store, generation, failures=10)
    assert (deaf.is_alone, deaf.is_question_heard) == (False, False)
    store.compare_and_set(
        [Move(name="a", expected=store.load_many(["a"]).snapshots["a"], new=new_record())]
    )
    generation = store.load_many(["a"]).snapshots["a"].generation
    with raw_client().pubsub() as first, raw_client().pubsub() as second:
        for each in (first, second):
            each.subscribe(store._channel)
            each.get_message(timeout=5)
        heard = tell(store, generation, failures=10)
    assert (heard.is_alone, heard.is_question_heard) == (False, True)


@pytest.mark.parametrize("held", [Control.DISABLED, Control.FORCED_OPEN])
def test_it_does_not_ask_about_a_breaker_that_no_rate_opens(store, held):
    hold = Hold(control=held, until=None)
    generation = create(store, control(new_record(), hold))
    assert not tell(store, generation, failures=10).is_alone


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(
    window=st.sampled_from(WINDOWS),
    rates=st.builds(
        Rates,
        failures=st.sampled_from([0, 30, 50.5, 100]),
        slow_calls=st.sampled_from([0, 20, 100]),
        calls_needed=st.integers(1, 30),
    ),
    told=st.lists(
        st.tuples(st.integers(0, 9), st.integers(0, 3), st.integers(0, 3), st.integers(0, 2)),
        max_size=12,
    ),
)
def test_it_asks_whenever_the_rules_say_that_a_rate_came_closer(store, window, rates, told):
    memory = MemoryStore()
    raw_client().delete(store._key("a"))
    generation = create(store)
    create_in_memory = Move(name="a", expected=None, new=store.load_many(["a"]).snapshots["a"])
    memory.compare_and_set([create_in_memory])
    before = Counts()
    for quick, slow, failures, both in told:
        results = {
            "successes": ((1_000, quick),) if quick else (),
            "slow_successes": slow,
            "failures": failures,
            "slow_failures": both,
        }
        if window.timed and quick:  # in the window, by both clocks
            results["successes"] = ((int(memory._clock()) - 1, quick),)
        reading = tell(store, generation, window, rates, **results)
        after = tell(memory, generation, window, rates, **results).snapshots["a"].window
        assert reading.snapshots["a"].window == after
        assert reading.is_alone == (closeness(after, rates) > closeness(before, rates))
        before = after
