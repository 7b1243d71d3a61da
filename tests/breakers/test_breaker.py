"""What code that uses a breaker may rely on, over the real store."""

import asyncio
import threading
import time
from dataclasses import replace
from typing import Any

import pytest
from django.core.cache import caches
from django.test import override_settings

from analytics_admin.breakers import (
    BreakerPolicy,
    CircuitBreaker,
    CircuitOpenError,
    circuit_breaker,
    control,
    get_breaker,
    runtime,
)
from analytics_admin.breakers.runtime import operator_store, registered_names
from analytics_admin.breakers.state import Counts, Snapshot, State
from analytics_admin.breakers.stores.base import Move, StoreUnavailable
from analytics_admin.services import list_breakers
from analytics_admin.signals import breaker_state_changed
from analytics_admin.testing import simulated_breakers
from tests.support import breakers
from tests.support.backend import BackendDown
from tests.support.breakers import names_in, snapshot_of, state_now
from tests.support.sites import eventually
from tests.support.stored_breakers import change_record, key_of, raw_client


@pytest.fixture
def breaker(request):
    return another(request.node.name[:60].partition("[")[0])


def another(name: str, **policy: Any) -> CircuitBreaker:
    """Return the breaker as one more process would hold it, under the tests' policy."""
    options = {"failure_threshold": 3, "wait_duration_in_open_state": 60, **policy}
    return breakers.another(name, **options)


def fail(breaker: CircuitBreaker, times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(BackendDown), breaker:
            raise BackendDown


def let_the_wait_end(breaker: CircuitBreaker) -> None:
    """Shorten the open time in the store, as if it had passed."""
    snapshot = operator_store().load_many([breaker.name]).snapshots[breaker.name]
    over = replace(snapshot, generation=snapshot.generation + "0", wait=0.0)
    move = Move(name=breaker.name, expected=snapshot, new=over)
    assert operator_store().compare_and_set([move])[0].won
    breaker.engine.expire(breaker.name)


def test_the_threshold_of_consecutive_failures_opens_it(breaker):
    fail(breaker, 2)
    assert breaker.state == "closed"
    fail(breaker)
    assert breaker.state == "open"


def test_an_open_breaker_rejects_without_running_the_function(breaker):
    fail(breaker, 3)
    with pytest.raises(CircuitOpenError) as caught:
        breaker.call(pytest.fail, "the function ran")
    assert caught.value.name == breaker.name
    assert caught.value.state == "open"
    assert 59 < caught.value.retry_after <= 60


def test_another_process_sees_it_open(breaker):
    fail(breaker, 3)
    with pytest.raises(CircuitOpenError):
        another(breaker.name).acquire()


def test_failures_of_several_processes_add_up(breaker):
    for process in (breaker, another(breaker.name), another(breaker.name)):
        fail(process)
    assert breaker.state == "closed"  # another process may still report a success in between
    assert eventually(lambda: breaker.state == "open")


def test_a_success_between_failures_ends_the_run(breaker):
    fail(breaker, 2)
    breaker.call(lambda: None)
    fail(breaker, 2)
    assert breaker.state == "closed"
    fail(breaker)
    assert breaker.state == "open"


def test_a_probe_that_succeeds_closes_it(breaker):
    fail(breaker, 3)
    let_the_wait_end(breaker)
    assert breaker.call(lambda: "back") == "back"
    assert breaker.state == another(breaker.name).state == "closed"


def test_a_probe_that_fails_opens_it_again(breaker):
    fail(breaker, 3)
    let_the_wait_end(breaker)
    fail(breaker)
    assert breaker.state == "open"


def test_one_probe_passes_at_a_time_in_the_whole_fleet(breaker):
    fail(breaker, 3)
    let_the_wait_end(breaker)
    probe = breaker.acquire()
    for process in (breaker, another(breaker.name)):
        with pytest.raises(CircuitOpenError) as caught:
            process.acquire()
        assert caught.value.state == "half_open"
    probe.succeed()
    assert breaker.state == "closed"


def test_a_probe_given_back_may_be_taken_by_another(breaker):
    fail(breaker, 3)
    let_the_wait_end(breaker)
    breaker.acquire().release()
    another(breaker.name).acquire().succeed()
    assert another(breaker.name).state == "closed"


def test_a_probe_that_never_reports_has_failed_after_the_half_open_wait(breaker):
    patient = another(breaker.name, max_wait_duration_in_half_open_state=0.05)
    fail(patient, 3)
    let_the_wait_end(patient)
    lost = patient.acquire()
    with pytest.raises(CircuitOpenError) as caught:
        patient.acquire()
    assert caught.value.state == "half_open"
    time.sleep(caught.value.retry_after)
    assert (state_now(patient), snapshot_of(patient).attempts) == ("open", 2)
    let_the_wait_end(patient)
    patient.acquire().succeed()
    assert patient.state == "closed"
    lost.fail(BackendDown())
    assert another(breaker.name).state == "closed"


def test_a_failure_that_began_before_a_reset_changes_nothing_after_it(breaker):
    permits = [breaker.acquire() for _ in range(3)]
    control.reset([breaker.name], only_open=False)
    for permit in permits:
        permit.fail(BackendDown())
    breaker.engine.expire(breaker.name)
    assert snapshot_of(breaker).counts.failures == 0


def test_a_success_in_flight_does_not_close_what_opened_meanwhile(breaker):
    slow = another(breaker.name).acquire()
    fail(breaker, 3)
    slow.succeed()
    assert another(breaker.name).state == "open"


def test_a_permit_reports_once(breaker):
    permit = breaker.acquire()
    for _ in range(9):
        permit.fail()
    assert snapshot_of(breaker).counts.failures == 1


def test_ignored_exceptions_count_as_nothing_and_unrecorded_ones_as_success(breaker):
    picky = another(breaker.name, record_exceptions=(BackendDown,), ignore_exceptions=(KeyError,))
    for error in (KeyError, ValueError):
        with pytest.raises(error), picky:
            raise error
    picky.engine.expire(picky.name)
    snapshot = snapshot_of(picky)
    assert snapshot.counts == Counts(calls=1)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_ends_a_program_counts_as_nothing(breaker, error):
    with pytest.raises(error), breaker:
        raise error
    breaker.engine.expire(breaker.name)
    snapshot = snapshot_of(breaker)
    assert snapshot.counts == Counts()


def test_calls_run_side_by_side(breaker):
    """The breaker holds no lock while the function runs."""
    barrier = threading.Barrier(8)
    calls = [
        threading.Thread(target=breaker.call, args=(barrier.wait,), kwargs={"timeout": 5})
        for _ in range(8)
    ]
    for call in calls:
        call.start()
    for call in calls:
        call.join()
    assert not barrier.broken


def test_the_decorator_keeps_name_result_and_exception(breaker):
    @breaker
    def fetch(query: str) -> str:
        """Fetch."""
        if query == "bad":
            raise BackendDown
        return query.upper()

    assert (fetch.__name__, fetch.__doc__) == ("fetch", "Fetch.")
    assert fetch("ok") == "OK"
    with pytest.raises(BackendDown):
        fetch("bad")
    assert snapshot_of(breaker).counts.failures == 1


def test_methods_can_be_protected(breaker):
    class Client:
        @breaker
        def answer(self) -> "Client":
            return self

    client = Client()
    assert client.answer() is client


def test_coroutine_functions_are_protected_while_they_run(breaker):
    @breaker
    async def fetch(bad: bool) -> str:
        await asyncio.sleep(0)
        if bad:
            raise BackendDown
        return "ok"

    async def use() -> None:
        assert await fetch(bad=False) == "ok"
        for _ in range(3):
            with pytest.raises(BackendDown):
                await fetch(bad=True)
        with pytest.raises(CircuitOpenError):
            await fetch(bad=False)

    asyncio.run(use())


def test_a_cancelled_task_counts_as_nothing(breaker):
    async def use() -> None:
        async def hang() -> None:
            async with breaker:
                await asyncio.sleep(60)

        task = asyncio.create_task(hang())
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(use())
    breaker.engine.expire(breaker.name)
    assert snapshot_of(breaker).counts.failures == 0


def test_a_generator_function_is_refused(breaker):
    def rows():
        yield 1

    async def arows():
        yield 1

    for function in (rows, arows):
        with pytest.raises(TypeError, match="generator"):
            breaker(function)


def test_nested_blocks_of_one_breaker_report_each_their_own(breaker):
    def outer() -> None:
        with breaker:
            breaker.call(lambda: None)
            raise BackendDown

    with pytest.raises(BackendDown):
        outer()
    snapshot = snapshot_of(breaker)
    assert snapshot.counts == Counts(calls=2, failures=1)


def test_declaring_twice_alike_gives_the_same_object_and_otherwise_is_refused():
    first = circuit_breaker("declared-twice", failure_threshold=4)
    assert circuit_breaker("declared-twice", failure_threshold=4) is first
    assert get_breaker("declared-twice") is first
    with pytest.raises(ValueError, match="another policy"):
        circuit_breaker("declared-twice", failure_threshold=5)


def test_code_that_declares_a_breaker_after_its_first_use_by_name_has_its_policy():
    layers = {"BREAKERS": {"used-early": {"wait_duration_in_open_state": 5}}}
    with override_settings(ANALYTICS_ADMIN=layers):
        early = get_breaker("used-early")
        early.call(lambda: None)
        breaker = circuit_breaker("used-early", failure_threshold=1)
        assert breaker is early
        fail(breaker)
        assert breaker.state == "open"
        assert breaker.policy.wait_duration_in_open_state == 5


def test_a_breaker_called_while_code_declares_it_has_the_codes_policy_afterwards(monkeypatch):
    with override_settings(ANALYTICS_ADMIN={"BREAKERS": {"used-meanwhile": {}}}):
        early = get_breaker("used-meanwhile")
        make_policy = BreakerPolicy.from_options.__func__

        def declare_meanwhile(cls, options):
            policy = make_policy(cls, options)
            monkeypatch.undo()
            circuit_breaker("used-meanwhile", failure_threshold=1)
            return policy

        monkeypatch.setattr(BreakerPolicy, "from_options", classmethod(declare_meanwhile))
        early.call(lambda: None)
        assert early.policy.failure_threshold == 1
        fail(early)
        assert early.state == "open"


@pytest.mark.parametrize("name", ["", "-a", ".a", "a b", "a/b", "ä", "a\n", "a" * 101])
def test_an_unusable_name_is_refused(name):
    with pytest.raises(ValueError, match="name must be"):
        circuit_breaker(name)


def test_a_name_that_is_no_string_is_refused():
    with pytest.raises(TypeError, match="must be a string"):
        circuit_breaker(5)


def test_get_breaker_of_an_unknown_name_is_a_lookup_error_and_registers_nothing():
    with pytest.raises(LookupError, match="no-such"):
        get_breaker("no-such")
    assert "no-such" not in registered_names()


def test_settings_win_over_code_and_code_over_defaults():
    breaker = circuit_breaker("merged", failure_threshold=4)
    layers = {
        "BREAKER_DEFAULTS": {"failure_threshold": 9, "wait_duration_in_open_state": 9},
        "BREAKERS": {"merged": {"permitted_number_of_calls_in_half_open_state": 2}},
    }
    with override_settings(ANALYTICS_ADMIN=layers):
        policy = breaker.policy
        assert policy.failure_threshold == 4
        assert policy.wait_duration_in_open_state == 9
        assert policy.permitted_number_of_calls_in_half_open_state == 2
    assert breaker.policy.wait_duration_in_open_state == 60


RATE = {"failure_rate_threshold": 50}


@pytest.mark.parametrize(
    ("defaults", "code", "settings", "threshold"),
    [
        ({}, {}, {}, 5),
        ({}, RATE, {}, None),
        (RATE, {}, {}, None),
        ({}, {}, RATE, None),
        ({"failure_threshold": 5}, RATE, {}, 5),
        (RATE, {"failure_threshold": 7}, {}, 7),
        ({}, {"failure_threshold": 5}, RATE, 5),
        ({}, RATE, {"failure_threshold": 8}, 8),
        ({"failure_threshold": 9}, {**RATE, "failure_threshold": None}, {}, None),
        ({"failure_threshold": 9}, RATE, {"failure_threshold": None}, None),
        ({}, RATE, {"failure_rate_threshold": None}, 5),
    ],
)
def test_the_consecutive_rule_beside_a_rate_holds_where_any_layer_asks_for_it(
    request, defaults, code, settings, threshold
):
    name = f"layered:{request.node.callspec.id}"
    layers = {"BREAKER_DEFAULTS": defaults, "BREAKERS": {name: settings}}
    with override_settings(ANALYTICS_ADMIN=layers):
        assert circuit_breaker(name, **code).policy.failure_threshold == threshold


def test_five_failures_among_few_calls_open_no_breaker_that_has_a_rate():
    with simulated_breakers():
        rated = circuit_breaker("rated-only", failure_rate_threshold=50)
        plain = circuit_breaker("rated-not")
        fail(rated, 99)
        assert rated.state == "closed"  # under the minimum, no rate is known
        fail(rated, 1)
        assert rated.state == "open"
        fail(plain, 5)
        assert plain.state == "open"


def test_a_transition_is_signalled_once_by_the_process_that_made_it(breaker):
    seen = []

    def note(name, from_state, to_state, cause, **_):
        seen.append((name, from_state, to_state, cause))

    breaker_state_changed.connect(note)
    try:
        fail(breaker, 3)
        assert another(breaker.name).state == "open"
    finally:
        breaker_state_changed.disconnect(note)
    assert seen == [(breaker.name, "closed", "open", "consecutive_failures")]


def test_a_breaker_without_store_works_within_the_process():
    locmem = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
    with override_settings(CACHES={"default": locmem, "breakers": locmem, "search": locmem}):
        breaker = another("in-memory")
        fail(breaker, 3)
        assert another("in-memory").state == "open"
        control.reset(["in-memory"], only_open=False)
        assert another("in-memory").state == "closed"
    assert caches["breakers"].client.get_client().exists("in-memory") == 0


def test_reset_reaches_breakers_that_only_other_processes_know(breaker):
    fail(breaker, 3)
    assert breaker.name not in runtime._breakers
    resets = {reset.name: reset for reset in control.reset(None, only_open=False)}
    assert resets[breaker.name].from_state == "open"
    assert another(breaker.name).state == "closed"


def test_reset_of_an_unknown_name_resets_and_creates_nothing(breaker):
    fail(breaker, 3)
    with pytest.raises(runtime.UnknownBreakers) as caught:
        control.reset([breaker.name, "zz", "aa"], only_open=False)
    assert caught.value.names == ["aa", "zz"]
    assert another(breaker.name).state == "open"
    assert not {"aa", "zz"} & set(registered_names())


def test_only_open_passes_over_the_closed(breaker):
    fail(breaker, 3)
    another("healthy").call(lambda: None)
    assert [reset.name for reset in control.reset(None, only_open=True)] == [breaker.name]


def test_listing_registers_nothing(breaker):
    declared = circuit_breaker("declared-unused")
    statuses = {status.name: status for status in list_breakers()}
    assert statuses["declared-unused"].state == State.CLOSED
    assert "declared-unused" not in names_in(operator_store())
    assert declared.name in registered_names()


def test_reset_of_ten_thousand_breakers_reaches_them_all():
    names = [f"b{number:05}" for number in range(10_000)]
    moves = [
        Move(name=n, expected=None, new=Snapshot(generation="x:1", state=State.OPEN, wait=60.0))
        for n in names
    ]
    operator_store().compare_and_set(moves)
    control.reset(None, only_open=False)
    states = {status.name: status.state for status in list_breakers()}
    assert {states[name] for name in names} == {"closed"}


@pytest.fixture
def unreadable(breaker):
    """Return the name of an open breaker whose record another release has written over."""
    fail(breaker, 3)
    change_record(breaker.name, state="from_the_future")
    return breaker.name


def test_a_record_that_cannot_be_read_lets_its_own_calls_pass_and_harms_no_other(unreadable):
    healthy = another("healthy")
    assert another(unreadable).call(lambda: "passed") == "passed"
    fail(healthy, 3)
    assert another("healthy").state == "open"
    states = {status.name: status.state for status in list_breakers()}
    assert (states[unreadable], states["healthy"]) == ("unknown", "open")


@pytest.mark.parametrize("only_open", [True, False])
def test_a_reset_writes_an_unreadable_record_anew(unreadable, only_open):
    resets = {reset.name: reset for reset in control.reset(None, only_open=only_open)}
    assert (resets[unreadable].from_state, resets[unreadable].to_state) == ("unknown", "closed")
    assert another(unreadable).state == "closed"
    fail(another(unreadable), 3)
    assert another(unreadable).state == "open"


def test_something_else_under_a_breakers_key_is_replaced_by_a_reset(breaker):
    fail(breaker, 3)
    raw_client().set(key_of(breaker.name), "not a record")
    assert another(breaker.name).state == "unknown"
    assert another(breaker.name).call(lambda: "passed") == "passed"
    control.reset([breaker.name], only_open=False)
    assert another(breaker.name).state == "closed"


def test_a_reset_is_announced_and_recorded_for_the_breakers_that_it_moved(breaker):
    fail(breaker, 3)
    another("healthy").call(lambda: None)
    seen = []

    def note(name, from_state, to_state, cause, **_):
        seen.append((name, from_state, to_state, cause))

    breaker_state_changed.connect(note)
    try:
        control.reset(None, only_open=False)
    finally:
        breaker_state_changed.disconnect(note)
    assert seen == [(breaker.name, "open", "closed", "reset")]
    assert [record.cause for record in operator_store().transitions(breaker.name)] == [
        "reset",
        "consecutive_failures",
    ]
    assert operator_store().transitions("healthy") == []


def test_a_reset_whose_reply_was_lost_is_settled_by_reading(breaker, monkeypatch):
    fail(breaker, 3)
    store = operator_store()
    answer = store.compare_and_set

    def lose_the_reply(moves):
        answer(moves)
        raise StoreUnavailable("the store did not answer in time")

    monkeypatch.setattr(store, "compare_and_set", lose_the_reply)
    (reset,) = control.reset([breaker.name], only_open=False)
    assert (reset.from_state, reset.to_state) == ("open", "closed")
    assert len(store.transitions(breaker.name)) == 2


def test_a_reset_that_was_not_made_is_not_claimed(breaker, monkeypatch):
    fail(breaker, 3)

    def refuse(moves):
        raise StoreUnavailable("the store did not answer in time")

    monkeypatch.setattr(operator_store(), "compare_and_set", refuse)
    with pytest.raises(StoreUnavailable):
        control.reset([breaker.name], only_open=False)
    assert another(breaker.name).state == "open"


def test_a_with_block_in_an_event_loop_probes_too(breaker):
    fail(breaker, 3)
    let_the_wait_end(breaker)

    async def use() -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                with breaker:
                    return
            except CircuitOpenError:
                await asyncio.sleep(0.01)
        pytest.fail("no probe was allowed")

    asyncio.run(use())
    assert snapshot_of(breaker).state is State.CLOSED


def test_a_transition_whose_reply_was_lost_is_announced_when_it_is_found_made(breaker):
    seen = []

    def note(name, from_state, to_state, cause, **_):
        seen.append((from_state, to_state, cause))

    store = breaker.engine.reporter.choose_store() or breaker.engine.reporter._shared
    answer, lost = store.compare_and_set, []

    def lose_one_reply(moves):
        outcomes = answer(moves)
        if moves[0].cause and not lost:
            lost.append(moves)
            raise StoreUnavailable("the store did not answer in time")
        return outcomes

    breaker_state_changed.connect(note)
    store.compare_and_set = lose_one_reply
    try:
        fail(breaker, 3)
        breaker.engine.outage.stand_in = None  # the store is back
        assert state_now(breaker) == "open"
    finally:
        del store.compare_and_set
        breaker_state_changed.disconnect(note)
    assert lost
    assert seen.count(("closed", "open", "consecutive_failures")) == 1
