"""Which names are registered: they retire unused, are limited in number, and can be forgotten."""

import logging
import time
from functools import partial

import pytest
from django.core.cache import caches
from django.test import override_settings

from analytics_admin.breakers import BreakerPolicy, CircuitBreaker
from analytics_admin.breakers import control as breaker_control
from analytics_admin.breakers.control import BreakerChanged, BreakerInUse, set_control
from analytics_admin.breakers.runtime import (
    UnknownBreakers,
    call_store,
    operator_store,
    registered_names,
)
from analytics_admin.breakers.state import Control, Hold
from analytics_admin.breakers.state_machine import control, new_record
from analytics_admin.breakers.stores import redis_scripts as scripts
from analytics_admin.breakers.stores.base import MAX_NAMES, Move, Report, StoreUnavailable
from analytics_admin.breakers.stores.memory import MemoryStore
from analytics_admin.breakers.stores.redis import RedisStore
from analytics_admin.services import describe_breaker, list_breakers
from tests.support.breakers import another, names_in, rest_engines, snapshot_of, state_now, trip
from tests.support.stored_breakers import key_of_site, raw_client

MONTH = 30 * 86_400.0


class Aging:
    """A store of which a test can say that names were last used longer ago."""

    def __init__(self, store):
        self.store = store

    def age(self, name, seconds):
        if isinstance(self.store, MemoryStore):
            self.store._seen[name] -= seconds
        else:
            client = caches["breakers"].client.get_client()
            client.zincrby(self.store._index, -seconds, name)


@pytest.fixture(params=["memory", "redis"])
def aging(request):
    return Aging(MemoryStore() if request.param == "memory" else RedisStore("breakers", timeout=2))


def create(store, *names, hold=None):
    moves = [Move(name=name, expected=None, new=control(new_record(), hold)) for name in names]
    return [outcome.snapshot for outcome in store.compare_and_set(moves)]


def listed(store, keep_for=MONTH):
    return sorted(store.survey([], keep_for=keep_for).names)


def test_a_name_unused_for_the_time_is_off_the_list(aging):
    create(aging.store, "used", "unused")
    aging.age("unused", MONTH + 60)
    assert listed(aging.store) == ["used"]
    assert listed(aging.store, keep_for=None) == ["unused", "used"]


def test_a_held_breaker_does_not_retire(aging):
    hold = Hold(control=Control.DISABLED, until=None, actor="sam")
    create(aging.store, "held", hold=hold)
    aging.age("held", MONTH + 60)
    assert listed(aging.store) == ["held"]
    assert aging.store.register(["another"], keep_for=MONTH) == []
    assert aging.store.load_many(["held"]).snapshots["held"].hold == hold


@pytest.mark.parametrize("control", ["forced_open", "disabled", "metrics_only"])
def test_a_hold_keeps_a_name_until_it_ends_and_no_longer(aging, control):
    now = aging.store.load_many([]).now or time.time()
    for name, until in (("held", now + 60), ("over", now - 60)):
        create(aging.store, name, hold=Hold(control=Control(control), until=until, actor="sam"))
        aging.age(name, MONTH + 60)
    assert listed(aging.store) == ["held"]
    inspected = {name: aging.store.inspect(name) for name in ("held", "over")}
    assert [it.is_registered(MONTH) for it in inspected.values()] == [True, False]
    assert aging.store.register(["another"], keep_for=MONTH) == []
    assert listed(aging.store, keep_for=None) == ["another", "held"]


def test_a_name_that_is_used_again_is_on_the_list_again_as_it_was(aging):
    (created,) = create(aging.store, "back")
    aging.age("back", MONTH + 60)
    reading = aging.store.add([Report(name="back", policy_text="")])
    assert listed(aging.store) == ["back"]
    assert reading.snapshots["back"] == created


def test_retired_names_make_place_with_their_records_when_another_registers(aging):
    create(aging.store, "old", "young")
    aging.age("old", MONTH + 60)
    assert aging.store.register(["new"], keep_for=MONTH) == []
    assert listed(aging.store, keep_for=None) == ["new", "young"]
    assert aging.store.load_many(["old"]).snapshots["old"] is None


def test_there_is_place_for_so_many_names_and_no_more(aging):
    names = [f"tenant-{number}" for number in range(MAX_NAMES - 1)]
    assert aging.store.register(names, keep_for=MONTH) == []
    assert aging.store.register(["last", "beyond", names[5]], keep_for=MONTH) == ["beyond"]
    assert aging.store.register(["beyond", names[5]], keep_for=MONTH) == ["beyond"]
    assert aging.store.forget(names[0], generation="")
    assert aging.store.register(["beyond"], keep_for=MONTH) == []
    assert len(listed(aging.store)) == MAX_NAMES


def test_a_breaker_without_a_place_passes_calls_and_the_log_says_so_once(caplog):
    operator_store().register([f"tenant-{number}" for number in range(MAX_NAMES)], keep_for=None)
    breaker = another("beyond", failure_threshold=1)
    for _ in range(3):
        breaker.acquire().fail()
        assert state_now(breaker) == "closed"
    assert "beyond" not in names_in(operator_store())
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    (said,) = [record.getMessage() for record in errors]
    assert "maximum of 10000 names is registered; calls of 'beyond'" in said
    declared = override_settings(ANALYTICS_ADMIN={"BREAKERS": {"beyond": {}}})
    with declared, pytest.raises(StoreUnavailable, match="which is the maximum"):
        hold("beyond")


def test_a_name_without_a_place_keeps_no_other_from_being_registered_again():
    names = [f"tenant-{number}" for number in range(MAX_NAMES - 1)]
    operator_store().register(names, keep_for=None)
    good = another("good", failure_threshold=1)
    good.call(lambda: None)
    beyond = CircuitBreaker("beyond", good.engine, BreakerPolicy)
    beyond.call(lambda: None)
    assert "beyond" not in names_in(operator_store())
    caches["breakers"].client.get_client().flushdb()
    assert snapshot_of(good).generation != ""
    good.acquire().fail()
    assert state_now(good) == "open"


def test_a_process_says_by_its_first_synchronisation_that_it_uses_a_breaker():
    store = operator_store()
    create(store, "seen")
    aging = Aging(store)
    aging.age("seen", MONTH + 60)
    assert "seen" not in registered_names()
    assert another("seen").state == "closed"
    assert "seen" in registered_names()


def test_a_site_chooses_after_what_time_names_retire():
    create(operator_store(), "idle")
    Aging(operator_store()).age("idle", 120)
    for after, expected in ((60, False), (180, True), (None, True)):
        with override_settings(ANALYTICS_ADMIN={"RETIRE_BREAKERS_AFTER": after}):
            assert ("idle" in registered_names()) is expected
            assert any(status.name == "idle" for status in list_breakers()) is expected


def test_an_act_on_a_retired_name_is_one_on_an_unknown_name():
    create(operator_store(), "gone")
    Aging(operator_store()).age("gone", MONTH + 60)
    with pytest.raises(UnknownBreakers):
        hold("gone")
    with pytest.raises(UnknownBreakers):
        describe_breaker("gone")


def test_a_forgotten_breaker_leaves_nothing_behind():
    client = caches["breakers"].client.get_client()
    trip("mistyped")
    change = breaker_control.forget("mistyped")
    assert (change.from_state, change.to_state) == ("open", "forgotten")
    assert "mistyped" not in registered_names()
    assert not list(client.scan_iter("*mistyped*"))
    assert list_breakers(state="open") == []


def test_a_process_that_still_uses_a_forgotten_breaker_registers_it_as_closed():
    breaker = trip("in-use")
    breaker_control.forget("in-use")
    assert state_now(breaker) == "closed"
    assert "in-use" in registered_names()


def test_a_held_breaker_is_not_forgotten():
    trip("held")
    hold("held")
    with pytest.raises(BreakerInUse, match="release it first"):
        breaker_control.forget("held")
    assert "held" in registered_names()


def test_a_declared_breaker_is_not_forgotten():
    declared = override_settings(ANALYTICS_ADMIN={"BREAKERS": {"declared": {}}})
    with declared, pytest.raises(BreakerInUse, match="declare"):
        breaker_control.forget("declared")


def test_a_breaker_that_moved_is_not_forgotten():
    breaker = trip("moved")
    seen = snapshot_of(breaker).generation
    breaker_control.reset(["moved"], only_open=False)
    with pytest.raises(BreakerChanged):
        breaker_control.forget("moved", expected={"moved": seen})
    assert "moved" in registered_names()


def test_a_breaker_of_another_generation_is_not_dropped(aging):
    (created,) = create(aging.store, "here")
    assert not aging.store.forget("here", generation="")
    assert not aging.store.forget("here", generation=f"{created.generation}0")
    assert listed(aging.store) == ["here"]
    assert aging.store.forget("here", generation=created.generation)
    assert listed(aging.store) == []


def test_a_hold_that_comes_in_between_is_not_forgotten(monkeypatch):
    trip("raced")
    store = operator_store()
    drop = store.forget

    def hold_first(name, **options):
        hold("raced")
        return drop(name, **options)

    monkeypatch.setattr(store, "forget", hold_first)
    with pytest.raises(BreakerInUse, match="release it first"):
        breaker_control.forget("raced")
    assert store.load_many(["raced"]).snapshots["raced"].hold.actor == "sam"


def test_a_breaker_forgotten_though_the_reply_was_lost_is_forgotten(monkeypatch):
    trip("mistyped")
    store = operator_store()
    drop = store.forget

    def lose_the_reply(name, **options):
        drop(name, **options)
        raise StoreUnavailable("the store did not answer in time")

    monkeypatch.setattr(store, "forget", lose_the_reply)
    assert breaker_control.forget("mistyped").to_state == "forgotten"


def test_a_breaker_that_was_not_forgotten_is_not_said_to_be(monkeypatch):
    trip("mistyped")

    def refuse(name, **_):
        raise StoreUnavailable("the store did not answer in time")

    monkeypatch.setattr(operator_store(), "forget", refuse)
    with pytest.raises(StoreUnavailable):
        breaker_control.forget("mistyped")


def test_an_unknown_name_cannot_be_forgotten():
    with pytest.raises(UnknownBreakers):
        breaker_control.forget("nope")


def hold(name):
    breaker_control.set_control([name], Control.DISABLED, for_seconds=None, actor="sam", reason="")


def test_a_forget_revives_no_hold_that_a_process_remembers():
    breaker = another("held")
    breaker.call(int)
    hold = partial(set_control, ["held"], for_seconds=None, actor="sam", reason="")
    hold(control=Control.FORCED_OPEN)
    assert breaker.engine.report_all(10)
    breaker.engine._sync.synchronise(call_store(), [breaker.local_state])
    assert breaker.local_state.snapshot.hold is not None
    hold(control=Control.AUTOMATIC)
    snapshot = operator_store().load_many(["held"]).snapshots["held"]
    assert operator_store().forget("held", generation=snapshot.generation)
    breaker.local_state.used_at = time.monotonic() + 60
    breaker.engine._sync.synchronise(call_store(), [breaker.local_state])
    stored = operator_store().load_many(["held"]).snapshots["held"]
    assert stored is not None
    assert stored.hold is None


def test_a_retired_name_that_comes_back_meanwhile_keeps_its_record():
    another("back").call(int)
    rest_engines()
    store = operator_store()
    store._run(scripts.RETIRE, [store._index, *store._keys_of("back")], ["back"])
    assert store.load_many(["back"]).snapshots["back"] is not None
    raw_client().zrem(key_of_site("index"), "back")
    store._run(scripts.RETIRE, [store._index, *store._keys_of("back")], ["back"])
    assert store.load_many(["back"]).snapshots["back"] is None
