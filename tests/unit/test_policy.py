"""A policy is refused where it is written, with the field and the bound."""

from datetime import timedelta

import pytest

from analytics_admin.breakers.policy import BreakerPolicy


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"failure_threshold": 0}, ValueError, "failure_threshold must be at least 1"),
        ({"failure_threshold": -3}, ValueError, "failure_threshold must be at least 1"),
        ({"failure_threshold": 1.5}, TypeError, "failure_threshold must be a whole number"),
        ({"failure_threshold": True}, TypeError, "failure_threshold must be a whole number"),
        ({"failure_threshold": "5"}, TypeError, "failure_threshold must be a whole number"),
        ({"permitted_number_of_calls_in_half_open_state": 0}, ValueError, "at least 1"),
        ({"wait_duration_in_open_state": 0}, ValueError, "more than 0 seconds"),
        ({"wait_duration_in_open_state": float("nan")}, ValueError, "more than 0 seconds"),
        ({"wait_duration_in_open_state": float("inf")}, ValueError, "more than 0 seconds"),
        ({"wait_duration_in_open_state": timedelta(seconds=-1)}, ValueError, "more than 0"),
        ({"wait_duration_in_open_state": "30"}, TypeError, "seconds or a timedelta"),
        ({"max_wait_duration_in_half_open_state": 0}, ValueError, "more than 0 seconds"),
        ({"record_exceptions": "ValueError"}, TypeError, "record_exceptions"),
        ({"record_exceptions": [int]}, TypeError, "exception classes only"),
        ({"ignore_exceptions": 5}, TypeError, "ignore_exceptions"),
        ({"failure_rate_threshold": 0}, ValueError, "failure_rate_threshold must be more than 0"),
        ({"failure_rate_threshold": 101}, ValueError, "at most 100 per cent"),
        ({"slow_call_rate_threshold": float("nan")}, ValueError, "at most 100 per cent"),
        ({"slow_call_rate_threshold": "50"}, TypeError, "slow_call_rate_threshold must be a num"),
        ({"slow_call_duration_threshold": 0}, ValueError, "more than 0 seconds"),
        ({"sliding_window_type": "COUNT"}, ValueError, "'count_based' or 'time_based'"),
        ({"sliding_window_size": 0}, ValueError, "sliding_window_size must be at least 1"),
        ({"sliding_window_size": 10_001}, ValueError, "at most 10000"),
        (
            {"sliding_window_size": 901, "sliding_window_type": "time_based"},
            ValueError,
            "at most 900",
        ),
        ({"minimum_number_of_calls": 0}, ValueError, "minimum_number_of_calls must be at least"),
        ({"open_state_backoff_multiplier": 0.9}, ValueError, "must be at least 1"),
        ({"randomized_wait_factor": 1}, ValueError, "0 to below 1"),
        ({"randomized_wait_factor": -0.1}, ValueError, "0 to below 1"),
        (
            {"wait_duration_in_open_state": 30, "max_wait_duration_in_open_state": 20},
            ValueError,
            "at least wait_duration_in_open_state",
        ),
        ({"failure_threshold": None}, ValueError, "only beside a rate threshold"),
        ({"record_result": 5}, TypeError, "record_result must be callable"),
        ({"failure_treshold": 5}, TypeError, "did you mean 'failure_threshold'"),
        ({"xyz": 5}, TypeError, "no option 'xyz'"),
    ],
)
def test_an_unusable_option_is_refused_by_name(options, error, text):
    with pytest.raises(error, match=text):
        BreakerPolicy.from_options(options)


def test_a_timedelta_is_kept_as_seconds():
    policy = BreakerPolicy.from_options({"wait_duration_in_open_state": timedelta(minutes=2)})
    assert policy.wait_duration_in_open_state == 120.0
    assert policy == BreakerPolicy(wait_duration_in_open_state=120)


def test_ignored_exceptions_win_over_recorded_ones():
    policy = BreakerPolicy(record_exceptions=(OSError,), ignore_exceptions=(TimeoutError,))
    assert policy.counts_as_failure(OSError())
    assert not policy.counts_as_failure(TimeoutError())
    assert policy.ignores(TimeoutError())
    assert not policy.counts_as_failure(ValueError())


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(), GeneratorExit()])
def test_what_ends_a_program_is_not_a_failure(error):
    assert not BreakerPolicy().counts_as_failure(error)
