"""How far a sweep has come: told while it goes on, kept when its time is over, never made up."""

from typing import Any

import pytest
from django.core.cache import caches

from analytics_admin.caching.clear import scan
from analytics_admin.caching.clear import sweep as sweeping
from analytics_admin.caching.epochs import new_record, record_key
from analytics_admin.caching.inspection import sweep_progress
from analytics_admin.caching.inspection.status import inspect
from analytics_admin.caching.inspection.sweep_progress import (
    SweepPosition,
    decode_position,
    progress_of,
    share_walked,
)


def raw() -> Any:
    return caches["search"].client.get_client(write=True)


def leave_behind(number: int) -> None:
    """Values of no generation, beside a record and one value that counts."""
    record = new_record()
    raw().set(record_key("search"), record.encode())
    step = raw().pipeline(transaction=False)
    for n in range(number):
        step.set(caches["search"].make_key(f"value:k:{n}"), "gone-by 1 0 1\n1")
    step.set(caches["search"].make_key("value:k:fresh"), f"{record.current} 1 0 1\n1")
    step.execute()


def seen_from_outside() -> Any:
    return inspect("search", dedicated=True).sweep


def test_a_sweep_whose_time_is_over_stops_and_the_next_goes_on_to_the_end():
    leave_behind(3000)
    first = sweeping.sweep_leftovers(seconds=0)
    assert (first.finished, first.resumed) == (False, False)
    assert 0 < first.progress < 1
    assert first.removed < 3000
    rest = sweeping.sweep_leftovers(seconds=60)
    assert (rest.finished, rest.resumed, rest.progress) == (True, True, 1.0)
    assert sweeping.preview().removed == 0
    assert raw().exists(caches["search"].make_key("value:k:fresh"))


def test_a_sweep_in_small_portions_comes_to_its_end_and_its_progress_only_rises():
    leave_behind(3000)
    shares = []
    for _ in range(100):
        outcome = sweeping.sweep_leftovers(seconds=0)
        shares.append(outcome.progress)
        if outcome.finished:
            break
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert len(shares) > 3000 // (2 * scan.SCAN_COUNT)


def test_who_looks_meanwhile_sees_how_far_it_is_and_that_it_goes_on():
    leave_behind(3000)
    told: list[tuple[int, Any]] = []
    sweeping.sweep_leftovers(on_progress=lambda seen: told.append((seen, seen_from_outside())))
    *steps, (_, last) = told
    for seen, progress in steps:
        assert (progress.seen, progress.under_way) == (seen, True)
        assert 0 < progress.progress < 1
    assert last is None
    assert seen_from_outside() is None


def test_one_that_has_stopped_is_said_to_be_and_counts_what_all_its_parts_did():
    leave_behind(3000)
    first, second = (sweeping.sweep_leftovers(seconds=0) for _ in range(2))
    progress = seen_from_outside()
    assert not progress.under_way
    assert progress.removed == first.removed + second.removed
    assert progress.progress == pytest.approx(second.progress, abs=1e-3)
    assert progress.resumable_until == progress.last_step_at + 3600


def test_one_that_was_killed_counts_as_under_way_for_some_seconds_and_as_cut_off_after_them():
    position = SweepPosition(cursor=1, moving=True).encode()
    life = sweep_progress.POSITION_LIFE * 1000
    ages = {0: True, 4_900: True, 5_100: False, 3_599_000: False}
    for age, under_way in ages.items():
        found = progress_of(position, milliseconds_left=life - age, now=10_000.0)
        assert found is not None
        assert found.under_way is under_way
        assert found.last_step_at == round(10_000 - age / 1000)


@pytest.mark.parametrize("damage", [None, b"", b"x", b"[]", b'{"cursor": -1}', b'{"cursor": "1"}'])
@pytest.mark.parametrize("left", [1000, -1, -2, None])
def test_what_is_no_position_is_no_progress(damage: bytes | None, left: int | None):
    assert decode_position(damage) is None
    assert progress_of(damage, milliseconds_left=left, now=1.0) is None


def test_a_position_without_an_end_or_at_the_end_is_no_progress():
    there = SweepPosition(cursor=7).encode()
    assert progress_of(there, milliseconds_left=-1, now=1.0) is None
    assert progress_of(SweepPosition(cursor=0).encode(), milliseconds_left=9, now=1.0) is None


def test_the_bare_cursor_of_an_earlier_release_is_gone_on_with():
    position = decode_position(b"17")
    assert position == SweepPosition(cursor=17)


@pytest.mark.parametrize(
    ("cursor", "share"), [(0, 1.0), (1, 0.5), (2, 0.25), (3, 0.75), (6, 0.375), (1 << 20, 2**-21)]
)
def test_a_cursor_is_the_share_of_the_table_that_lies_behind_it(cursor: int, share: float):
    assert share_walked(cursor) == share


def test_a_preview_in_a_moment_is_an_estimate_and_one_without_haste_is_exact():
    leave_behind(20_000)
    exact = sweeping.preview()
    assert (exact.seen, exact.removed, exact.exact) == (20_001, 20_000, True)
    quick = sweeping.preview(seconds=0)
    assert not quick.exact
    assert quick.removed == pytest.approx(20_000, rel=0.4)  # from some 400 of them


def test_a_preview_says_that_one_was_cut_off_and_where():
    leave_behind(3000)
    assert sweeping.preview().progress == 0.0
    cut_off = sweeping.sweep_leftovers(seconds=0)
    assert sweeping.preview().progress == cut_off.progress
