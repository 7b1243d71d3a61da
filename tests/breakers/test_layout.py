"""Where the Redis store keeps things: what belongs together lies under one key, all in one slot."""

import json
from dataclasses import replace

import pytest
from redis.crc import key_slot

from analytics_admin.breakers.policy import Window
from analytics_admin.breakers.presence import Process
from analytics_admin.breakers.state import Control, Counts, FailureNote, Hold, Results
from analytics_admin.breakers.state_machine import control, new_record, reset
from analytics_admin.breakers.stores.base import Move, Report
from analytics_admin.breakers.stores.redis import LAYOUT, WRITE_BATCH, RedisStore
from tests.support.breakers import round_trips
from tests.support.stored_breakers import key_of, raw_client

HOLD = Hold(control=Control.METRICS_ONLY, until=None, actor="sam", reason="deploy")
NOTE = FailureNote(error="E", message="m", host="h", pid=1)
NAMES = ["a", "b:moves", "{c"]
WINDOWS = [Window(timed=True, size=60), Window(timed=False, size=100)]


@pytest.fixture
def store():
    return RedisStore("breakers", timeout=5)


def report(name, snapshot, window=None, **results):
    return Report(
        name=name,
        window=window,
        generation=snapshot.generation,
        results=Results(**results, notes=(NOTE,)),
        policy_text='{"failure_threshold": 3}',
    )


def use_everything(store):
    """Do all that a store can, to a few breakers."""
    store.register(NAMES, keep_for=1e6)
    made = store.compare_and_set([Move(name=it, expected=None, new=new_record()) for it in NAMES])
    snapshots = dict(zip(NAMES, (outcome.snapshot for outcome in made), strict=True))
    for window in WINDOWS:
        store.add([report(*it, window, failures=1, rejected=1) for it in snapshots.items()])
    moves = [
        Move(name=name, expected=old, new=control(old, HOLD), cause="control")
        for name, old in snapshots.items()
    ]
    moved = store.compare_and_set(moves)
    store.add([report(moves[0].name, moved[0].snapshot, WINDOWS[0], failures=1)])
    store.survey(NAMES, keep_for=1e6, activity_of=NAMES, all_up_to=9)
    store.load_many(NAMES, activity_of=NAMES)
    store.read_transitions(NAMES)
    store.inspect("a", WINDOWS[1])
    process = Process(process_id="p", host="h", pid=1, release="", policies="")
    store.present(process)
    store.processes()
    store.settle_server()
    store.withdraw("other")
    store.check_writable()


def test_all_keys_share_a_slot_and_carry_the_layouts_number(store):
    use_everything(store)
    keys = raw_client().keys("*")
    assert len(keys) > 3 * 5
    assert len({key_slot(key) for key in keys}) == 1
    assert all(b"breakers:%d}" % LAYOUT in key for key in keys)


def test_scripts_touch_the_keys_that_they_declare_and_no_others(store):
    use_everything(store)
    raw_client().flushdb()
    with raw_client().monitor() as monitor:
        use_everything(store)
        store.forget("a", generation=store.load_many(["a"]).snapshots["a"].generation)
        raw_client().echo("done")
        touched, declared = 0, set()
        for seen in monitor.listen():
            words = seen["command"].split(" ")
            if words[0].upper() == "ECHO":
                break
            if words[0].upper() == "EVALSHA":
                declared = set(words[3 : 3 + int(words[2])])
            elif seen["client_type"] == "lua" and words[0].upper() not in (
                "TIME",
                "PUBLISH",
                "INFO",
            ):
                keys = words[1:] if words[0].upper() in ("UNLINK", "DEL") else words[1:2]
                assert set(keys) <= declared, seen["command"]
                touched += 1
    assert touched > 50


@pytest.mark.parametrize("window", WINDOWS)
def test_what_a_decision_reads_goes_with_the_record(store, window):
    (made,) = store.compare_and_set(
        [Move(name="a", expected=None, new=control(new_record(), HOLD))]
    )
    store.add([report("a", made.snapshot, window, failures=3)])
    raw_client().delete(key_of("a"))  # as a server that runs out of memory does
    assert store.add([Report(name="a", window=window)]).snapshots["a"] is None
    again = replace(new_record(), generation=made.snapshot.generation)
    store.compare_and_set([Move(name="a", expected=None, new=again)])
    snapshot = store.add([Report(name="a", window=window)]).snapshots["a"]
    assert (snapshot.counts, snapshot.window, snapshot.hold) == (Counts(), Counts(), None)


def test_a_new_generation_keeps_nothing_of_the_one_before(store):
    (made,) = store.compare_and_set(
        [Move(name="a", expected=None, new=control(new_record(), HOLD))]
    )
    for window in WINDOWS:
        store.add([report("a", made.snapshot, window, failures=3)])
    assert len(raw_client().hkeys(key_of("a"))) > 3
    store.compare_and_set([Move(name="a", expected=made.snapshot, new=reset(made.snapshot))])
    assert raw_client().hkeys(key_of("a")) == [b"record"]


def test_windows_of_policies_that_are_gone_do_not_add_up(store):
    (made,) = store.compare_and_set([Move(name="a", expected=None, new=new_record())])
    for size in range(1, 200):
        window = Window(timed=False, size=size)
        store.add([report("a", made.snapshot, window, failures=1)])
    assert raw_client().hlen(key_of("a")) < 30
    snapshot = store.add([Report(name="a", window=window)]).snapshots["a"]
    assert snapshot.window == Counts(calls=1, failures=1)


def test_an_idle_breaker_takes_less_than_a_kilobyte(store):
    (made,) = store.compare_and_set([Move(name="idle", expected=None, new=new_record())])
    now = int(made.now)
    for second in range(now - 58, now + 1):
        results = {"successes": ((second, 20),), "failures": 1}
        store.add([report("idle", made.snapshot, WINDOWS[0], **results)])
    client = raw_client()
    client.delete(key_of("idle", "periods"), key_of("idle", "failures"))  # after five minutes
    assert sum(client.memory_usage(key, samples=0) for key in client.keys("*:idle")) < 1024


def test_very_many_breakers_are_moved_and_counted_in_one_round_trip_of_several_scripts(store):
    names = [f"n{number}" for number in range(2 * WRITE_BATCH + 5)]
    moves = [Move(name=name, expected=None, new=new_record()) for name in names]
    use_everything(store)
    raw_client().config_resetstat()
    with round_trips() as sent:
        made = store.compare_and_set(moves)
        reading = store.add(
            [report(name, it.snapshot, failures=1) for name, it in zip(names, made, strict=True)]
        )
    assert sent["trips"] == 2
    assert raw_client().info("commandstats")["cmdstat_evalsha"]["calls"] == 6
    assert [reading.snapshots[name].counts.failures for name in names] == [1] * len(names)


def test_a_script_that_the_server_lacks_runs_once_for_each_batch(store):
    names = [f"n{number}" for number in range(2 * WRITE_BATCH)]
    raw_client().script_flush()
    moves = [Move(name=name, expected=None, new=new_record()) for name in names]
    assert all(outcome.won for outcome in store.compare_and_set(moves))


def test_texts_of_operators_are_stored_as_they_are(store):
    text = "a b\n\x01\"é☃' <script> {0} %s ] \\"
    hold = replace(HOLD, actor=text, reason=text, until=4e9)
    (made,) = store.compare_and_set(
        [Move(name="a", expected=None, new=control(new_record(), hold))]
    )
    assert made.snapshot.hold == hold
    assert json.loads(raw_client().hget(key_of("a"), "hold"))["reason"] == text
