"""What is kept of a breaker for its operators: bounded, apart from the record, on both stores."""

import itertools
import os
import socket
import time

import pytest
from django.core.cache import caches
from django.test import override_settings

from analytics_admin.breakers import CircuitOpenError
from analytics_admin.breakers import control as breaker_control
from analytics_admin.breakers.history import (
    MAX_PERIODS,
    PERIOD_SECONDS,
    RETENTION_SECONDS,
    encode_note,
    take_note,
)
from analytics_admin.breakers.policy import MAX_POLICY_CHARS
from analytics_admin.breakers.runtime import operator_store
from analytics_admin.breakers.state import Control, Counts, FailureNote, Results
from analytics_admin.breakers.state_machine import new_record
from analytics_admin.breakers.stores.base import Move, Report
from analytics_admin.breakers.stores.memory import MemoryStore
from analytics_admin.breakers.stores.redis import RedisStore
from analytics_admin.services import describe_breaker
from tests.support.breakers import another, snapshot_of, state_now


class QueryFailed(Exception):
    """What a backend's client raises."""


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text today")


@pytest.fixture(params=["memory", "redis"])
def store(request):
    return MemoryStore() if request.param == "memory" else RedisStore("breakers", timeout=2)


def create(store, name="a"):
    (outcome,) = store.compare_and_set([Move(name=name, expected=None, new=new_record())])
    return outcome.snapshot


def tell(store, generation, name="a", **results):
    store.add([Report(name=name, generation=generation, results=Results(**results))])


def history_of(store, name="a"):
    return store.inspect(name).history


def test_the_last_ten_failures_are_kept_newest_first(store):
    created = create(store)
    for number in range(12):
        note = FailureNote(error="E", message=f"number {number}", host="h", pid=number)
        tell(store, created.generation, failures=1, notes=(note,))
    kept = history_of(store).failures
    assert [failure.pid for failure in kept] == list(range(11, 1, -1))
    assert (kept[0].error, kept[0].message, kept[0].host) == ("E", "number 11", "h")
    assert abs(kept[0].at - time.time()) < 5


def test_a_failure_that_is_not_counted_is_not_kept(store):
    create(store)
    tell(store, "another:1", failures=1, notes=(FailureNote(error="E"),))
    assert history_of(store).failures == []
    assert history_of(store).periods == []


def test_calls_and_rejections_are_kept_by_the_period(store):
    created = create(store)
    now = store.load_many([]).now
    if now % PERIOD_SECONDS > PERIOD_SECONDS - 2:  # so that all of it falls into one period
        time.sleep(PERIOD_SECONDS - now % PERIOD_SECONDS)
    second = int(store.load_many(["a"]).now)
    tell(store, created.generation, successes=((second, 3),), failures=1, slow_failures=1)
    tell(store, created.generation, slow_successes=2, rejected=7)
    tell(store, "another:1", rejected=5)
    (period,) = history_of(store).periods
    assert period.calls == Counts(calls=7, failures=2, slow=3)
    assert period.rejected == 12
    assert period.at == second // PERIOD_SECONDS * PERIOD_SECONDS


def test_the_history_outlives_the_generation_and_ends_with_the_name(store):
    created = create(store)
    tell(store, created.generation, failures=1, rejected=1, notes=(FailureNote(error="E"),))
    reset = new_record()
    store.compare_and_set([Move(name="a", expected=created, new=reset, cause="reset")])
    kept = history_of(store)
    assert (len(kept.failures), len(kept.transitions), len(kept.periods)) == (1, 1, 1)
    assert store.forget("a", generation=reset.generation)
    gone = store.inspect("a")
    assert (gone.snapshot, gone.seen_at) == (None, None)
    assert (gone.history.failures, gone.history.transitions, gone.history.periods) == (
        [],
        [],
        [],
    )


def test_hostile_texts_come_back_as_they_were(store):
    created = create(store)
    text = "a b\n\x01\x1b[31m\"é☃' <script> {0} %s ] \\ \x00"
    note = FailureNote(error=text, message=text, host=text, pid=1)
    tell(store, created.generation, failures=1, notes=(note,))
    (failure,) = history_of(store).failures
    assert (failure.error, failure.message, failure.host) == (text, text, text)


def test_periods_older_than_five_minutes_are_left_out():
    clock = [1_000_000.0]
    store = MemoryStore(lambda: clock[0])
    created = create(store)
    for _ in range(MAX_PERIODS + 5):
        tell(store, created.generation, failures=1)
        clock[0] += PERIOD_SECONDS
    kept = history_of(store).periods
    assert len(kept) == MAX_PERIODS - 1
    assert kept[0].at == clock[0] - PERIOD_SECONDS * (MAX_PERIODS - 1)


def test_the_server_drops_old_periods_and_all_that_is_idle():
    store, client = RedisStore("breakers", timeout=2), caches["breakers"].client.get_client()
    created = create(store)
    history = store._key("a", "periods")
    stale = int(time.time()) // PERIOD_SECONDS * PERIOD_SECONDS - PERIOD_SECONDS * (
        MAX_PERIODS + 50
    )
    client.hset(history, mapping={stale + PERIOD_SECONDS * n: "1 1 1 1" for n in range(50)})
    tell(store, created.generation, failures=1, notes=(FailureNote(error="E"),))
    assert client.hlen(history) == 1
    assert 0 < client.ttl(history) <= PERIOD_SECONDS * (MAX_PERIODS + 1)
    store.compare_and_set([Move(name="a", expected=created, new=new_record(), cause="reset")])
    for kind in ("failures", "moves"):
        assert RETENTION_SECONDS - 5 < client.ttl(store._key("a", kind)) <= RETENTION_SECONDS


@pytest.mark.parametrize("sign", ["\U0001f4a5", "\x01", "\x01\U0001f4a5"])
def test_a_breakers_history_takes_at_most_20_kilobytes(sign):
    store, client = RedisStore("breakers", timeout=2), caches["breakers"].client.get_client()
    name = "n" * 100
    snapshot = create(store, name)
    error = type("E" * 200, (Exception,), {"__module__": "m" * 200})(sign * 5000)
    for _ in range(40):
        note = encode_note(take_note(error, with_text=True))
        tell(store, snapshot.generation, name, failures=1, slow_failures=1, notes=(note,))
        move = Move(
            name=name,
            expected=snapshot,
            new=new_record(),
            cause="consecutive_failures",
            attempt="0123456789abcdef",
            actor="\U0001f4a5" * 254,
        )
        (outcome,) = store.compare_and_set([move])
        assert outcome.won
        snapshot = outcome.snapshot
    for number in range(5):
        store.add([Report(name=name, policy_text=f"{number}" * MAX_POLICY_CHARS)])
    history = store._key(name, "periods")
    now = int(time.time()) // PERIOD_SECONDS * PERIOD_SECONDS
    client.hset(
        history, mapping={now - PERIOD_SECONDS * n: "99999 99999 99999 99999" for n in range(40)}
    )
    keys = [store._key(name, kind) for kind in ("failures", "moves", "periods", "policies")]
    assert sum(client.memory_usage(key, samples=0) for key in keys) <= 20_480


# Through the engine.


def test_a_failed_call_tells_its_class_text_host_and_process():
    breaker = another("told", failure_threshold=3)
    with pytest.raises(QueryFailed):
        breaker.call(_fail, QueryFailed("no connection to db7"))
    (failure,) = describe_breaker("told").failures
    assert failure.error == f"{__name__}.QueryFailed"
    assert failure.message == "no connection to db7"
    assert (failure.host, failure.pid) == (socket.gethostname(), os.getpid())


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (ValueError("x" * 300), "x" * 200),
        (ValueError("half \ud83d pair"), "half ? pair"),
        (ValueError(), ""),
        (Mute(), "(message not available)"),
    ],
)
def test_texts_are_cut_and_made_storable(error, kept):
    breaker = another("cut", failure_threshold=3)
    with pytest.raises(type(error)):
        breaker.call(_fail, error)
    assert describe_breaker("cut").failures[0].message == kept


def test_an_exception_of_no_module_counts_like_any_other():
    home: dict = {}
    exec("Homeless = type('Homeless', (Exception,), {})", home)
    breaker = another("catalog")
    with pytest.raises(home["Homeless"]), breaker:
        raise home["Homeless"]
    assert describe_breaker("catalog").failures[0].error == "Homeless"


def test_a_site_can_keep_texts_out():
    with override_settings(ANALYTICS_ADMIN={"KEEP_EXCEPTION_TEXTS": False}):
        breaker = another("private")
        with pytest.raises(QueryFailed):
            breaker.call(_fail, QueryFailed("user sam@example.org"))
    client = caches["breakers"].client.get_client()
    stored = b"".join(b"".join(client.lrange(key, 0, -1)) for key in client.keys("*:failures:*"))
    assert b"QueryFailed" in stored
    assert b"sam@example.org" not in stored


def test_rejected_calls_are_reported_with_the_next_synchronisation_and_cost_no_round_trip():
    breaker = another("rejecting", failure_threshold=1)
    breaker.acquire().fail()
    for _ in range(5):
        with pytest.raises(CircuitOpenError):
            breaker.acquire()
    assert breaker.call(int, fallback=7) == 7
    snapshot_of(breaker)
    detail = describe_breaker("rejecting")
    assert sum(period.rejected for period in detail.history) == 6
    assert sum(period.counts.failures for period in detail.history) == 1


def test_it_says_why_it_opened_as_long_as_it_is_so():
    breaker = another("why", failure_threshold=2)
    assert breaker.state == "closed"
    assert describe_breaker("why").opened is None
    for _ in range(2):
        breaker.acquire().fail()
    opened = describe_breaker("why").opened
    assert (opened.cause, opened.consecutive_failures) == ("consecutive_failures", 2)
    assert opened.counts == Counts(calls=2, failures=2)


def test_the_history_has_no_gaps_and_ends_now():
    another("quiet").acquire().succeed()
    history = describe_breaker("quiet").history
    steps = {(b.at - a.at).total_seconds() for a, b in itertools.pairwise(history)}
    assert (len(history), steps) == (MAX_PERIODS, {float(PERIOD_SECONDS)})
    assert 0 <= time.time() - history[-1].at.timestamp() < PERIOD_SECONDS + 1


def test_metrics_only_says_once_that_it_would_have_opened_and_why():
    received = []
    breaker = another("dry-run", failure_threshold=3)
    breaker.acquire().succeed()
    hold("dry-run", "metrics_only")
    before = snapshot_of(breaker).generation
    for _ in range(8):
        breaker.acquire().fail()
        received.append(state_now(breaker))
    detail = describe_breaker("dry-run")
    assert set(received) == {"metrics_only"}
    assert detail.status.would_open
    assert (detail.opened.to_state, detail.opened.cause) == ("would_open", "consecutive_failures")
    assert detail.opened.consecutive_failures == 3
    moves = [(move.from_state, move.to_state) for move in detail.transitions]
    assert moves.count(("metrics_only", "would_open")) == 1
    assert snapshot_of(breaker).generation == before  # an operator's view stays valid
    assert detail.status.counts == Counts(calls=8, failures=8)
    hold("dry-run", "automatic")
    assert not describe_breaker("dry-run").status.would_open
    assert operator_store().transitions("dry-run")[0].to_state == "closed"


def test_a_healthy_breaker_under_metrics_only_would_not_have_opened():
    breaker = another("dry-run", failure_threshold=3)
    breaker.acquire().succeed()
    hold("dry-run", "metrics_only")
    breaker.acquire().fail()
    assert not describe_breaker("dry-run").status.would_open
    assert describe_breaker("dry-run").opened is None


def _fail(error):
    raise error


def hold(name, control):
    breaker_control.set_control([name], Control(control), for_seconds=60, actor="sam", reason="")


def test_of_failures_reported_together_each_leaves_its_note(store):
    created = create(store)
    notes = tuple(FailureNote(error=f"E{number}") for number in range(3))
    tell(store, created.generation, failures=3, notes=notes)
    assert [it.error for it in store.inspect("a").history.failures] == ["E2", "E1", "E0"]
