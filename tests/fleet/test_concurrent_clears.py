"""Clears from several processes at once, and beside processes that go on writing, end well."""

import multiprocessing
from multiprocessing.synchronize import Barrier, Event
from typing import Any

import pytest
from django.core.cache import caches

from analytics_admin.caching.clear import hard
from analytics_admin.stores.client import OutcomeUnknown, StoreUnavailable
from tests.support.cache_aliases import fill, keys_in, raw, record, redis_alias, use_caches

processes = multiprocessing.get_context("fork")
KEYS = 20_000
OPERATORS = 4


def _clear(barrier: Barrier, answers: Any) -> None:
    barrier.wait(timeout=30)
    try:
        hard.clear()
    except (StoreUnavailable, OutcomeUnknown) as error:
        answers.put(repr(error))
    else:
        answers.put("done")


def _write(started: Event, stop: Event, wrote: Any) -> None:
    number = 0
    while not stop.is_set():
        caches["other"].set(f"new{number}", "value")
        caches["search"].set(f"new{number}", "value")
        number += 1
        if number == 100:
            started.set()
    wrote.value = number


def _populate(prefix: str, count: int) -> None:
    script = "for i = 1, tonumber(ARGV[2]) do redis.call('SET', ARGV[1] .. i, 'v') end"
    raw().eval(script, 0, prefix, count)


@pytest.mark.parametrize("dedicated", [True, False], ids=["flush", "unlink"])
@pytest.mark.parametrize("again", range(5))
def test_operators_who_clear_at_once_all_end_well(
    settings: Any, dedicated: bool, again: int
) -> None:
    use_caches(settings, dedicated=dedicated, search=redis_alias("search"))
    _populate("search:1:", KEYS)
    barrier, answers = processes.Barrier(OPERATORS), processes.Queue()
    operators = [
        processes.Process(target=_clear, args=(barrier, answers)) for _ in range(OPERATORS)
    ]
    for operator in operators:
        operator.start()
    assert [answers.get(timeout=60) for _ in operators] == ["done"] * OPERATORS
    for operator in operators:
        operator.join(timeout=10)
    assert keys_in() == set()
    left = record()
    assert left is not None
    assert len(left.accepted) == 1


def test_a_clear_beside_writers_takes_all_that_was_there_and_nothing_of_others(
    settings: Any,
) -> None:
    use_caches(settings, search=redis_alias("search"), other=redis_alias("search:1"))
    _populate("search:1:old", KEYS)
    fill("other", range(100))
    started, stop, wrote = processes.Event(), processes.Event(), processes.Value("i", 0)
    writer = processes.Process(target=_write, args=(started, stop, wrote))
    writer.start()
    try:
        assert started.wait(timeout=30)
        seen = 0

        def watch(removed: int) -> None:
            nonlocal seen
            seen = removed

        outcome = hard.clear(on_progress=watch)
    finally:
        stop.set()
        writer.join(timeout=10)
    left = keys_in()
    assert outcome.keys == seen >= KEYS
    assert not any(key.startswith(b"search:1:old") for key in left)
    assert {f"search:1:1:new{number}".encode() for number in range(wrote.value)} <= left
    assert {f"search:1:1:{number}".encode() for number in range(100)} <= left
