"""What a page of breakers says of their last five minutes: alike on both stores, and alone."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from django.core.cache import caches

from analytics_admin.breakers import circuit_breaker, runtime
from analytics_admin.breakers.history import MAX_PERIODS, PERIOD_SECONDS, Activity, Period
from analytics_admin.breakers.state import Counts, FailureNote, Results
from analytics_admin.breakers.state_machine import new_record
from analytics_admin.breakers.stores.base import Move, Reading, Report
from analytics_admin.breakers.stores.memory import MemoryStore
from analytics_admin.breakers.stores.redis import RedisStore
from analytics_admin.services import UnknownBreakers, describe_breaker, page_breakers
from analytics_admin.services.breakers.types import as_activities
from tests.support.breakers import another, round_trips, snapshot_of


class Site:
    """A site's breakers in one of the stores, whose past a test can tell."""

    def __init__(self, store):
        self.store = store

    def create(self, name):
        (made,) = self.store.compare_and_set([Move(name=name, expected=None, new=new_record())])
        return made.snapshot

    def reset(self, name, expected, cause):
        move = Move(name=name, expected=expected, new=new_record(), cause=cause, actor="sam")
        (made,) = self.store.compare_and_set([move])
        return made.snapshot

    def this_period(self):
        return (
            int(self.store.survey([], keep_for=None).reading.now) // PERIOD_SECONDS * PERIOD_SECONDS
        )

    def past(self, name, *periods):
        """Have had these (calls, failures, slow calls, rejected) by the period's start."""
        for at, numbers in periods:
            if isinstance(self.store, MemoryStore):
                calls = Counts(calls=numbers[0], failures=numbers[1], slow=numbers[2])
                period = Period(at=at, calls=calls, rejected=numbers[3])
                self.store._histories[name].periods.append(period)
            else:
                key = self.store._key(name, "periods")
                client().hset(key, at, " ".join(map(str, numbers)))


def client():
    return caches["breakers"].client.get_client()


@pytest.fixture(params=["memory", "redis"])
def site(request, monkeypatch):
    store = MemoryStore() if request.param == "memory" else RedisStore("breakers", timeout=2)
    monkeypatch.setattr(runtime, "operator_store", lambda: store)
    return Site(store)


def activity_of(name, **asked):
    return page_breakers(search=name, activity=True, **asked).activity[name]


def test_a_page_has_the_activity_of_its_breakers_when_it_is_asked_for_and_of_no_others(site):
    for name in ("act.a", "act.b", "act.c"):
        site.create(name)
    asked = {"search": "act.", "page_size": 2}
    assert page_breakers(**asked).activity == {}
    assert set(page_breakers(**asked, activity=True).activity) == {"act.a", "act.b"}
    assert set(page_breakers(**asked, activity=True, page=2).activity) == {"act.c"}


def test_a_survey_of_few_reads_the_activity_of_all_and_one_of_many_of_those_asked_for(site):
    for name in "abc":
        site.create(name)
    asked = {"names": ["a", "b"], "activity_of": ["a"], "keep_for": None}
    few = site.store.survey(**asked, all_up_to=3).reading
    many = site.store.survey(**asked, all_up_to=2).reading
    assert (set(few.snapshots), set(few.activity)) == (set("abc"), set("abc"))
    assert (set(many.snapshots), set(many.activity)) == (set("ab"), {"a"})
    plain = site.store.survey(["a"], keep_for=None, all_up_to=3).reading
    assert (set(plain.snapshots), plain.activity) == (set("abc"), {})


def test_it_says_what_the_breakers_own_page_says(site):
    created = site.create("same")
    note = FailureNote(error="E")
    results = Results(failures=2, slow_successes=3, rejected=4, notes=(note,))
    site.store.add([Report(name="same", generation=created.generation, results=results)])
    site.reset("same", site.reset("same", created, "reset"), "control")
    listed, detail = activity_of("same"), describe_breaker("same")
    assert listed.last_change == detail.transitions[0]
    assert (listed.last_change.cause, listed.last_change.actor) == ("control", "sam")
    assert listed.since == detail.since
    # The clock goes on between the two questions.
    assert {it.at: it for it in listed.history}.items() >= {
        it.at: it for it in detail.history[:-1]
    }.items()
    assert (listed.rejected, listed.failure_rate) == (4, 40.0)


def test_the_history_has_no_gaps_and_ends_with_the_period_that_is_not_over(site):
    site.create("gaps")
    now = site.this_period()
    site.past("gaps", (now - 7 * PERIOD_SECONDS, (5, 1, 2, 3)))
    page = page_breakers(search="gaps", activity=True)
    history = page.activity["gaps"].history
    steps = {later.at - earlier.at for earlier, later in itertools.pairwise(history)}
    assert (len(history), steps) == (MAX_PERIODS, {timedelta(seconds=PERIOD_SECONDS)})
    assert history[-1].at <= page.at < history[-1].at + timedelta(seconds=PERIOD_SECONDS)
    (busy,) = (period for period in history if period.counts.calls)
    assert busy.at == datetime.fromtimestamp(now - 7 * PERIOD_SECONDS, UTC)
    assert (busy.counts, busy.rejected) == (Counts(calls=5, failures=1, slow=2), 3)


def test_the_calls_of_a_minute_are_those_of_the_newest_that_is_over(site):
    site.create("rate")
    now = site.this_period()
    site.past(
        "rate", *((now - age * PERIOD_SECONDS, (10**age, 0, 0, 1)) for age in range(8, -1, -1))
    )
    page = page_breakers(search="rate", activity=True)
    ended = int(page.at.timestamp()) // PERIOD_SECONDS * PERIOD_SECONDS
    ages = range(1, 7) if ended == now else range(6)  # the period has just ended
    assert page.activity["rate"].calls_per_minute == sum(10**age for age in ages)
    assert page.activity["rate"].rejected == 9


def test_rates_are_of_the_calls_of_five_minutes(site):
    site.create("old")
    now = site.this_period()
    site.past(
        "old",
        (now - MAX_PERIODS * PERIOD_SECONDS, (90, 90, 90, 90)),
        (now - 9 * PERIOD_SECONDS, (8, 2, 0, 1)),
    )
    assert activity_of("old").failure_rate == 25.0
    assert activity_of("old").rejected == 1


def test_of_a_breaker_without_calls_no_rate_is_known(site):
    site.create("quiet")
    quiet = activity_of("quiet")
    assert (quiet.failure_rate, quiet.calls_per_minute, quiet.rejected) == (None, 0.0, 0)
    assert quiet.last_change is None
    assert abs(quiet.since - page_breakers().at) < timedelta(seconds=5)


def test_one_that_is_declared_and_not_used_has_a_history_too(site):
    circuit_breaker("act.unused")
    unused = activity_of("act.unused")
    assert (unused.since, unused.last_change) == (None, None)
    assert len(unused.history) == MAX_PERIODS


def test_a_history_that_cannot_be_read_affects_its_own_breaker_only():
    site = Site(RedisStore("breakers", timeout=2))
    for name in ("odd.a", "odd.b", "odd.c"):
        created = site.create(name)
        site.reset(name, created, "reset")
        site.past(name, (site.this_period() - PERIOD_SECONDS, (4, 1, 0, 0)))
    client().hset(site.store._key("odd.a", "periods"), "someday", "many")
    client().delete(site.store._key("odd.b", "moves"))
    client().set(site.store._key("odd.b", "moves"), "no list")
    activity = page_breakers(search="odd.", activity=True).activity
    assert [activity[name].failure_rate for name in sorted(activity)] == [None, 25.0, 25.0]
    assert [it.last_change is not None for it in activity.values()] == [True, False, True]


@pytest.mark.parametrize("periods_away", [-MAX_PERIODS, -MAX_PERIODS - 5, 1])
def test_calls_of_another_time_than_the_readings_are_no_part_of_the_history(periods_away):
    now = 1_000_000.0  # as when the clock went on, or was set back, between two round trips
    seen = Activity(tallies=[(int(now) + periods_away * PERIOD_SECONDS, 5, 5, 5, 5)])
    reading = Reading(now=now, snapshots={"a": None}, activity={"a": seen})
    history = as_activities(reading, ["a"])["a"].history
    assert len(history) == MAX_PERIODS
    assert not any(period.counts.calls or period.rejected for period in history)


def test_a_page_says_the_store_time_of_its_reading(site):
    site.create("timed")
    moments = [page_breakers().at, describe_breaker("timed").at, page_breakers(search="-").at]
    now = datetime.fromtimestamp(site.store.survey([], keep_for=None).reading.now, UTC)
    assert all(now - timedelta(seconds=5) < at <= now for at in moments)
    assert moments == sorted(moments)


def test_one_breaker_costs_one_round_trip_whatever_its_policy_and_an_unknown_one_two():
    rates = {"failure_rate_threshold": 60, "minimum_number_of_calls": 2}
    for name, more in {
        "t.timed": {**rates, "sliding_window_type": "time_based", "sliding_window_size": 30},
        "t.counted": {**rates, "sliding_window_size": 10},
        "t.usual": rates,
        "t.none": {},
    }.items():
        breaker = another(name, failure_threshold=None if more else 5, **more)
        for _ in range(2):
            breaker.acquire().succeed()
        snapshot_of(breaker)
        breaker.acquire().fail()
        describe_breaker(name)  # tells the server the script
        with round_trips() as sent:
            detail = describe_breaker(name)
        assert sent["trips"] == 1
        assert detail.window == (Counts(calls=3, failures=1) if more else None)
        assert detail.failure_rate == (pytest.approx(100 / 3) if more else None)
    with round_trips() as sent, pytest.raises(UnknownBreakers):
        describe_breaker("t.unknown")
    assert sent["trips"] == 2  # the second for the names that may have been meant


def test_a_server_without_the_scripts_gets_them_in_one_more_round_trip():
    Site(runtime.operator_store()).create("again")
    page_breakers()
    client().script_flush()
    with round_trips() as sent:
        page_breakers(activity=True)
    assert sent["trips"] == 2
