"""Damaged data of one breaker concerns that breaker alone, and a reset or forget repairs it."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import pytest

from analytics_admin.breakers import control
from analytics_admin.breakers.control import BreakerChange, set_control
from analytics_admin.breakers.policy import Window
from analytics_admin.breakers.runtime import read_registered, registered_names
from analytics_admin.breakers.state import (
    Control,
    Counts,
    FailureNote,
    Hold,
    Results,
    Snapshot,
    State,
)
from analytics_admin.breakers.state_machine import new_record, reset
from analytics_admin.breakers.stores.base import Move, Report
from analytics_admin.breakers.stores.redis import KINDS, RedisStore
from tests.support.breakers import another, state_now
from tests.support.cases import case
from tests.support.stored_breakers import PARTS, change_record, key_of, key_of_site, raw_client

VALUES = {
    "text": b"x",
    "empty": b"",
    "not UTF-8": b"\xff\xfe",
    "nan": b"nan",
    "inf": b"inf",
    "400 digits": b"9" * 400,
    "negative": b"-5",
    "nested": b"[" * 5_000,
    "huge": b"x" * 3_000_000,
    "hex": b"0x10",
    "late": b"1e300",
}
WINDOW = Window(timed=True, size=60)
WINDOWS = [WINDOW, Window(timed=False, size=100)]
NOTE = FailureNote(error="E", message="m", host="h", pid=1)
HOLD = Hold(control=Control.METRICS_ONLY, until=4e9, actor="sam", reason="try")


@dataclass(frozen=True, slots=True)
class Damage:
    """What is done to the keys of one breaker; ``is_record``: it makes its state unknown."""

    do: Callable[[], object]
    is_record: bool = False


Damages = Iterator[tuple[str, Damage]]


def damaged_values(label: str, value: bytes) -> Damages:
    for field in ("record", "hold", "time:60", "time:60:buckets", "count:100", "count:100:buckets"):
        do = partial(set_field, "record", field, value)
        yield f"{field} {label}", Damage(do, is_record=":" not in field)
    for part in PARTS if len(value) < 1_000 else ():
        is_valid = part == "generation" and label not in ("empty", "not UTF-8", "400 digits")
        do = partial(change_part, part, value)
        yield f"{part} {label}", Damage(do, is_record=not is_valid)
    for kind in ("moves", "failures"):
        yield f"a row of {kind} {label}", Damage(partial(add_row, kind, value))
    for kind in ("periods", "policies"):
        yield f"a field of {kind} {label}", Damage(partial(set_field, kind, value, value))
        yield f"a value of {kind} {label}", Damage(partial(damage_values, kind, value))


def damaged_holds() -> Damages:
    for until in ("NaN", "Infinity", "-1", "1e300", "9" * 5_000, '"x"', "[" * 5_000, "{}"):
        text = f'{{"until":{until},"actor":"a","reason":"b"}}'
        do = partial(set_field, "record", "hold", text)
        yield f"until {until[:8]}", Damage(do, is_record=True)


def missing_parts() -> Damages:
    for field in ("record", "hold", "time:60:buckets"):
        yield f"{field} cut off", Damage(partial(cut_off, field), is_record=":" not in field)
    for field in ("record", "hold", "time:60", "time:60:buckets"):
        yield f"no {field}", Damage(partial(drop_field, field), is_record=field == "hold")


def other_types() -> Damages:
    for kind in KINDS:
        expected = "list" if kind in ("moves", "failures") else "hash"
        for type_ in sorted(TYPES.keys() - {expected}):
            do = partial(replace_key, kind, type_)
            yield f"{kind} is a {type_}", Damage(do, is_record=kind == "record")


def too_many() -> Damages:
    for kind in ("periods", "policies"):
        yield f"very many {kind}", Damage(partial(fill, kind))


TYPES = {
    "string": lambda key: raw_client().set(key, "x"),
    "list": lambda key: raw_client().rpush(key, "x"),
    "set": lambda key: raw_client().sadd(key, "x"),
    "hash": lambda key: raw_client().hset(key, "x", "y"),
    "stream": lambda key: raw_client().xadd(key, {"x": "y"}),
}


def replace_key(kind, type_):
    replace(key_of("bad", kind), type_)


def replace(key, type_):
    raw_client().delete(key)
    TYPES[type_](key)


def set_field(kind, field, value):
    raw_client().hset(key_of("bad", kind), field, value)


def drop_field(field):
    raw_client().hdel(key_of("bad"), field)


def add_row(kind, row):
    raw_client().lpush(key_of("bad", kind), row)


def fill(kind):
    rows = {f"x{number}": "1" for number in range(5_000)}
    raw_client().hset(key_of("bad", kind), mapping=rows)


def change_part(part, value):
    client, key = raw_client(), key_of("bad")
    parts = client.hget(key, "record").split(b" ")
    parts[PARTS.index(part)] = value
    client.hset(key, "record", b" ".join(parts))


def damage_values(kind, value):
    client, key = raw_client(), key_of("bad", kind)
    client.hset(key, mapping=dict.fromkeys(client.hkeys(key), value))


def cut_off(field):
    client, key = raw_client(), key_of("bad")
    value = client.hget(key, field)
    client.hset(key, field, value[: len(value) // 2])


@pytest.fixture
def store() -> RedisStore:
    return RedisStore("breakers", timeout=5)


NAMES = ("a-good", "bad", "good")


@dataclass(slots=True)
class Made:
    """What the store held once the breakers were made, to be put there again while it is young."""

    at: float
    values: dict[bytes, tuple[int, bytes]]
    """By key: how many milliseconds it lasts, and its serialised value."""


@pytest.fixture(scope="module")
def made() -> Made:
    return Made(float("-inf"), {})


@pytest.fixture
def names(store, made) -> tuple[str, ...]:
    """Three breakers with all that a store can hold; the second is the one to be damaged."""
    begin_anew(store, made)
    return NAMES


def begin_anew(store: RedisStore, made: Made) -> None:
    """Have the store hold those breakers, and nothing else."""
    client = raw_client()
    if time.monotonic() - made.at > 5:
        client.flushall()
        make(store, *NAMES)
        keys = client.keys("*")
        made.values = {key: (max(0, client.pttl(key)), client.dump(key)) for key in keys}
        made.at = time.monotonic()
        return
    pipe = client.pipeline()
    pipe.flushall()
    for key, value in made.values.items():
        pipe.restore(key, *value)
    pipe.execute()


GROUPS = {
    **{label: [*damaged_values(label, value)] for label, value in VALUES.items()},
    "holds": [*damaged_holds()],
    "missing": [*missing_parts()],
    "types": [*other_types()],
    "many": [*too_many()],
}


def for_every_damage(test: Callable[..., None]) -> Callable[..., None]:
    """Run the test for each damage, on breakers that were made anew; a group is one test."""

    @pytest.mark.parametrize("group", GROUPS)
    def test_in_turn(store, made, group):
        for name, damage in GROUPS[group]:
            with case(name):
                begin_anew(store, made)
                test(store=store, names=NAMES, damage=damage)

    return test_in_turn


def make(store, *names):
    create(store, *names, hold=HOLD)
    tell(store, *names)
    snapshots = store.load_many(names).snapshots
    store.compare_and_set(
        [
            Move(name=name, expected=snapshots[name], new=held(), cause="control", actor="sam")
            for name in names
        ]
    )
    tell(store, *names)


def held() -> Snapshot:
    record = new_record()
    return Snapshot(generation=record.generation, hold=HOLD)


def create(store, *names, hold=None):
    moves = [
        Move(name=name, expected=None, new=Snapshot(generation=new_record().generation, hold=hold))
        for name in names
    ]
    store.compare_and_set(moves)


def load(store, name):
    return store.load_many([name]).snapshots[name]


def reports(store, names):
    snapshots, now = store.load_many(names).snapshots, int(store.load_many(names).now)
    results = Results(
        successes=((now - 3, 2), (now, 1)),
        newest_success_at=1.0,
        failures=1,
        rejected=1,
        notes=(NOTE,),
    )
    return [
        Report(
            name=name,
            window=window,
            generation=snapshots[name].generation if snapshots[name] else "none",
            results=results,
            policy_text='{"failure_threshold": 3}',
        )
        for name in names
        for window in WINDOWS
    ]


def tell(store, *names):
    """Report three successes and a failure in each of two windows."""
    return store.add(reports(store, names))


@for_every_damage
def test_it_concerns_its_own_breaker_alone(store, names, damage):
    before = store.load_many(names).snapshots
    damage.do()
    read_all(store, names)
    reading = tell(store, *names)
    for name in ("a-good", "good"):
        assert reading.snapshots[name].counts == before[name].counts + Counts(calls=8, failures=2)
        assert reading.snapshots[name].hold == HOLD
    loaded = store.load_many(names, activity_of=names)
    survey = store.survey(["bad"], keep_for=None, activity_of=["bad"], all_up_to=100)
    followed = store.read_transitions(names)
    for it in (loaded, survey.reading, followed):
        assert (it.snapshots["a-good"].hold, it.snapshots["good"].hold) == (HOLD, HOLD)
    assert set(survey.names) == set(names)
    assert survey.not_closed["good"] == "metrics_only"
    assert loaded.activity["good"].last_change.cause == "control"
    assert followed.transitions["good"][0].actor == "sam"
    if damage.is_record:
        assert {it.snapshots["bad"].state for it in (reading, loaded, survey.reading)} == {
            State.UNKNOWN
        }
    inspection = store.inspect("bad", WINDOW)
    assert inspection.seen_at is not None
    assert inspection.snapshot == loaded.snapshots["bad"]
    store.transitions("bad")
    assert store.register([*names, "new"], keep_for=1e6) == []
    moves = [
        Move(name=name, expected=loaded.snapshots[name], new=reset(loaded.snapshots[name]))
        for name in names
        if loaded.snapshots[name]
    ]
    assert all(outcome.won for outcome in store.compare_and_set(moves))


@for_every_damage
def test_a_reset_repairs_it(names, damage, store):
    damage.do()
    tell(store, *names)
    if load(store, "bad") is None:
        create(store, "bad")
    control.reset(["bad"], only_open=False)
    assert as_new(load(store, "bad"))
    reading = tell(store, "bad")
    assert reading.snapshots["bad"].counts == Counts(calls=8, failures=2)
    assert reading.snapshots["bad"].window == Counts(calls=4, failures=1)
    inspection = store.inspect("bad", WINDOW)
    assert inspection.windows[WINDOW] == Counts(calls=4, failures=1)
    assert inspection.history.failures[0].error == "E"
    assert inspection.history.policies
    opened = Move(name="bad", expected=load(store, "bad"), new=held(), cause="control", actor="x")
    store.compare_and_set([opened])
    assert store.transitions("bad")[0].actor == "x"


def read_all(store, names):
    """Look in every way, before the next write repairs what it can."""
    reading = store.load_many(names, activity_of=names)
    inspection = store.inspect("bad", WINDOW)
    assert inspection.snapshot == reading.snapshots["bad"]
    assert store.read_transitions(names).snapshots == reading.snapshots
    store.transitions("bad")
    assert store.survey(names, keep_for=1e6, all_up_to=9).reading.snapshots == reading.snapshots


def as_new(snapshot):
    return (snapshot.state, snapshot.hold, snapshot.counts) == (State.CLOSED, None, Counts())


@for_every_damage
def test_forgetting_it_leaves_nothing(names, damage, store):
    damage.do()
    snapshot = load(store, "bad")
    assert store.forget("bad", generation=snapshot.generation if snapshot else "")
    assert not [key for key in raw_client().keys("*") if b":bad" in key]
    assert store.load_many(["bad"]).snapshots["bad"] is None
    assert store.survey([], keep_for=None).names == {"a-good", "good"}


@pytest.mark.parametrize("wanted", [*Control])
@pytest.mark.parametrize("label", ["text", "huge", "not UTF-8"])
@pytest.mark.usefixtures("names")
def test_a_hold_and_a_release_repair_it_too(store, wanted, label):
    raw_client().hset(key_of("bad"), "record", VALUES[label])
    (change,) = control.set_control(["bad"], wanted, for_seconds=60, actor="ann", reason="")
    assert isinstance(change, BreakerChange)
    after = load(store, "bad")
    assert after.generation not in ("", "damaged")
    if wanted is Control.AUTOMATIC:
        assert as_new(after)
    else:
        assert (after.hold.control, after.hold.actor) == (wanted, "ann")


@pytest.mark.usefixtures("names")
def test_what_is_much_too_large_is_read_once(store):
    raw_client().hset(key_of("bad"), "hold", b"x" * 5_000_000)
    assert load(store, "bad").state is State.UNKNOWN
    assert raw_client().memory_usage(key_of("bad")) < 1_000


@pytest.mark.usefixtures("names")
def test_a_record_of_another_generation_is_not_replaced_by_a_reset_of_the_damaged_one(store):
    change_record("bad", wait="nan")
    damaged = load(store, "bad")
    change_record("bad", generation="other:2")
    (outcome,) = store.compare_and_set([Move(name="bad", expected=damaged, new=reset(damaged))])
    assert not outcome.won
    assert outcome.snapshot.generation == "other:2"


ODD_NAMES = [
    b"\xff\xfe",
    b"",
    b"<b>",
    b"a b",
    b"a/b",
    "é".encode(),
    b"x" * 9_000,
    b"\x1b[31m",
    b"%s",
]


@pytest.mark.parametrize("raw", ODD_NAMES)
def test_names_that_no_breaker_can_have_are_escaped_and_can_be_forgotten(store, names, raw):
    client = raw_client()
    client.zadd(store._index, {raw: 4e9})
    client.hset(store._not_closed, raw, b"\xff" * 9_000)
    survey = store.survey(names, keep_for=1e6, all_up_to=100)
    (odd,) = survey.names - set(names)
    assert len(odd) <= 100
    assert odd.isascii()
    assert odd.isprintable()
    json.dumps(odd)
    assert survey.reading.snapshots[odd] is None
    assert survey.not_closed[odd] == "unknown"
    assert read_registered([odd]).snapshots == {odd: None}
    control.set_control([odd], Control.DISABLED, for_seconds=60, actor="sam", reason="")
    assert read_registered(None).snapshots[odd].hold.control is Control.DISABLED
    control.reset(None, only_open=False)
    control.forget(odd)
    assert store.survey([], keep_for=None).names == set(names)
    assert client.zscore(store._index, raw) is None
    assert not client.hexists(store._not_closed, raw)


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_a_state_in_the_list_that_cannot_be_read_is_unknown(store, names, value):
    raw_client().hset(store._not_closed, "bad", b"forced_open " + value)
    raw_client().hset(store._not_closed, "good", value)
    not_closed = store.survey([], keep_for=None).not_closed
    assert not_closed["a-good"] == "metrics_only"
    assert not_closed["good"] == "unknown"
    assert not_closed["bad"] == ("forced_open" if value == b"" else "unknown")
    assert store.register(["new"], keep_for=1e6) == []


LISTS = {"_index": "all circuit breakers", "_not_closed": "not closed"}


@pytest.mark.parametrize("which", LISTS)
@pytest.mark.parametrize("type_", ["string", "list", "stream"])
def test_a_damaged_list_is_said_and_a_reset_of_all_repairs_it(store, names, which, type_):
    replace(getattr(store, which), type_)
    with pytest.raises(control.DamagedList, match=LISTS[which]):
        store.survey([], keep_for=None)
    reading = tell(store, *names)
    assert reading.snapshots["bad"].counts.calls > 0
    assert store.register(["new"], keep_for=1e6) == []
    create(store, "created-meanwhile", hold=HOLD)
    control.plan_reset(None, only_open=False)
    changes = control.reset(None, only_open=False)
    assert {change.name for change in changes} >= {*names, "created-meanwhile"}
    survey = store.survey([], keep_for=None, all_up_to=100)
    assert survey.names >= {*names, "created-meanwhile"}
    assert not survey.not_closed


@pytest.mark.parametrize("which", LISTS)
def test_a_repair_finds_what_is_not_closed(store, names, which):
    replace(getattr(store, which), "string")
    store.repair()
    survey = store.survey([], keep_for=None)
    assert survey.names == set(names)
    assert set(survey.not_closed) == set(names)


def test_a_name_with_a_line_break_does_not_shift_the_others():
    for name in ("foo", "orders"):
        another(name).call(int)
    raw_client().zadd(key_of_site("index"), {b"x\ny": time.time()})
    assert {"foo", "orders"} <= set(registered_names())
    set_control(["foo"], Control.FORCED_OPEN, for_seconds=None, actor="sam", reason="")
    assert state_now(another("foo")) == "forced_open"
    assert state_now(another("orders")) == "closed"
