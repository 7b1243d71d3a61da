"""The sweep removes what counts no more, reports its progress and keeps to its time."""

from dataclasses import replace
from typing import Any

from django.core.cache import caches

from analytics_admin.caching.clear import sweep
from analytics_admin.caching.epochs import new_record, record_key
from analytics_admin.caching.keyspace import SCAN_COUNT


def raw() -> Any:
    return caches["search"].client.get_client(write=True)


def leave_behind(number: int) -> None:
    """Store values of no epoch, beside a record and one value that counts."""
    record = new_record()
    raw().set(record_key("search"), record.encode())
    pipeline = raw().pipeline(transaction=False)
    for n in range(number):
        pipeline.set(caches["search"].make_key(f"2:value:k:{n}"), "1 gone-by 1 0 1\n1")
    pipeline.set(caches["search"].make_key("2:value:k:fresh"), f"1 {record.current} 1 0 1\n1")
    pipeline.execute()


def test_a_sweep_whose_time_is_over_stops_and_the_next_removes_the_rest():
    leave_behind(3000)
    first = sweep.sweep_leftovers(seconds=0)
    assert not first.finished
    assert 0 < first.removed < 3000
    rest = sweep.sweep_leftovers(seconds=60)
    assert rest.finished
    assert first.removed + rest.removed == 3000
    assert raw().exists(caches["search"].make_key("2:value:k:fresh"))


def test_progress_rises_step_by_step_to_the_number_of_values():
    leave_behind(3000)
    progress: list[int] = []
    outcome = sweep.sweep_leftovers(on_progress=progress.append)
    assert progress == sorted(progress)
    assert len(progress) > 3000 // (2 * SCAN_COUNT)
    assert progress[-1] == outcome.seen == 3001


def test_a_preview_counts_all_and_one_whose_time_is_over_says_that_it_did_not():
    leave_behind(3000)
    exact = sweep.preview()
    assert (exact.seen, exact.removed, exact.exact) == (3001, 3000, True)
    quick = sweep.preview(seconds=0)
    assert not quick.exact
    assert 0 < quick.removed <= quick.seen < 3001


def test_a_sweep_leaves_nothing_of_its_own_in_the_store():
    leave_behind(10)
    sweep.sweep_leftovers(seconds=0)
    sweep.sweep_leftovers()
    assert {key.split(b":")[-1] for key in raw().keys("*")} == {b"fresh", b"2"}


def test_what_counts_again_if_no_clear_was_lost_stays():
    """A store on another server: whether it holds the last clear is not known yet."""
    suspended = replace(new_record(), suspended=frozenset({"gone-by"}))
    leave_behind(10)
    raw().set(record_key("search"), suspended.encode())
    assert sweep.sweep_leftovers().removed == 1  # the value of a record that was replaced
