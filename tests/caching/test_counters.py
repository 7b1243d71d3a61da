"""Counts, their announcement, and the buckets that sum them up."""

import threading

import pytest

from analytics_admin.caching.statistics.counters import COUNT_NAMES, CallCounter, Counts
from analytics_admin.caching.statistics.queries import PERIODS, Figures, _buckets, estimate_load


def test_a_stale_answer_is_no_hit_and_a_bypassed_call_does_not_count():
    counts = Counts(hits=6, misses=3, stale_served=1, bypassed=90)
    assert counts.hit_ratio == 0.6
    assert counts.calls == 100


@pytest.mark.parametrize("counts", [Counts(), Counts(bypassed=5)])
def test_without_calls_that_the_cache_was_there_for_the_ratio_is_unknown(counts):
    assert counts.hit_ratio is None


def test_adding_adds_every_figure():
    whole = Counts()
    for _ in range(2):
        whole.add(Counts(**{name: place for place, name in enumerate(COUNT_NAMES, start=1)}))
    assert [getattr(whole, name) for name in COUNT_NAMES] == [
        2 * place for place in range(1, len(COUNT_NAMES) + 1)
    ]


def test_the_first_count_after_a_take_is_announced_and_no_other():
    announced = []
    statistics = CallCounter(lambda: announced.append(1) is None)
    for _ in range(3):
        statistics.hit(0.5)
        statistics.add(misses=1)
    assert len(announced) == 1
    assert statistics.take() == Counts(hits=3, misses=3, saved_seconds=1.5)
    statistics.add(fills=1)
    assert len(announced) == 2


def test_rest_is_granted_only_with_nothing_counted():
    announced = []
    statistics = CallCounter(lambda: announced.append(1) is None)
    statistics.hit(0)
    assert not statistics.rest()
    statistics.take()
    assert statistics.rest()
    statistics.hit(0)
    assert len(announced) == 2


def test_counts_are_exact_while_threads_count_and_one_takes():
    statistics, taken = CallCounter(), Counts()

    def count():
        for _ in range(20_000):
            statistics.hit(0)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        taken.add(statistics.take())
    taken.add(statistics.take())
    assert taken.hits == 80_000


@pytest.mark.parametrize("length", PERIODS.values())
def test_hours_and_minutes_make_up_a_period_without_gap_or_overlap(length):
    for last in (*range(29_000_000, 29_000_125, 7), 29_000_039, 29_000_040):
        covered = []
        for span in _buckets(last - length + 1, last):
            first = span.number * (60 if span.unit == "h" else 1)
            covered += range(first, first + (60 if span.unit == "h" else 1))
        period = list(range(last - length + 1, last + 1))
        assert [minute for minute in covered if minute <= last] == period, last


def test_the_load_after_a_clear_is_every_call_with_what_hits_saved():
    counts = Counts(hits=600, misses=200, stale_served=100, compute_seconds=40, saved_seconds=160)
    figures = Figures(periods={"last_5_minutes": counts}, minutes=())
    load = estimate_load(figures, now=29_000_000 * 60 + 59.999)
    assert (load.calls, load.computations, load.computations_after) == (3, 0.667, 3)
    assert (load.compute_seconds, load.compute_seconds_after) == (0.133, 0.667)
    assert round(load.hit_ratio, 3) == 0.667


def test_the_next_count_is_announced_again_while_nobody_can_take_it():
    announced: list[int] = []

    def note() -> bool:
        announced.append(1)
        return len(announced) > 2

    counter = CallCounter(note)
    for _ in range(5):
        counter.hit(0.5)
    assert len(announced) == 3
