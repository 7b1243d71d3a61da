"""A policy is refused where it is written, with the field and the bound."""

import pickle
from copy import copy
from dataclasses import replace
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


RATE_RULES = [
    {"failure_rate_threshold": 50},
    {"slow_call_rate_threshold": 50},
    {"failure_rate_threshold": 50, "slow_call_rate_threshold": 50},
]


@pytest.mark.parametrize("rates", RATE_RULES)
def test_a_rate_alone_brings_no_rule_of_consecutive_failures(rates):
    assert BreakerPolicy().failure_threshold == 5
    assert BreakerPolicy(**rates).failure_threshold is None
    assert BreakerPolicy.from_options(rates) == BreakerPolicy(**rates, failure_threshold=None)


@pytest.mark.parametrize("rates", RATE_RULES)
@pytest.mark.parametrize("threshold", [1, 5, 6])
def test_both_rules_hold_where_both_are_asked_for(rates, threshold):
    assert BreakerPolicy(**rates, failure_threshold=threshold).failure_threshold == threshold


def test_a_copy_with_another_rate_keeps_the_threshold_that_was_in_force():
    assert replace(BreakerPolicy(), failure_rate_threshold=50).failure_threshold == 5
    rated = BreakerPolicy(failure_rate_threshold=50)
    assert replace(rated, failure_rate_threshold=60).failure_threshold is None
    assert pickle.loads(pickle.dumps(rated)) == copy(rated) == rated


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


WHOLE_NUMBERS = {
    "failure_threshold": None,
    "sliding_window_size": 10_000,
    "minimum_number_of_calls": None,
    "permitted_number_of_calls_in_half_open_state": 10_000,
}
DURATIONS = [
    "slow_call_duration_threshold",
    "wait_duration_in_open_state",
    "max_wait_duration_in_open_state",
    "max_wait_duration_in_half_open_state",
]
RATES = ["failure_rate_threshold", "slow_call_rate_threshold"]
NOT_FINITE = [float("nan"), float("inf"), float("-inf"), 10**400]


@pytest.mark.parametrize("field", WHOLE_NUMBERS)
def test_a_number_of_calls_is_a_whole_number_from_1_on(field):
    assert getattr(BreakerPolicy(**{field: 1}), field) == 1
    for value in (0, -1):
        with pytest.raises(ValueError, match=f"^{field} must be at least 1, not {value}$"):
            BreakerPolicy(**{field: value})
    for value in (1.0, "1", True, [1], float("nan"), timedelta(1)):
        with pytest.raises(TypeError, match=f"^{field} must be a whole number, not "):
            BreakerPolicy(**{field: value})


@pytest.mark.parametrize(("field", "most"), [item for item in WHOLE_NUMBERS.items() if item[1]])
def test_a_number_of_calls_that_the_store_has_to_hold_has_a_bound(field, most):
    assert getattr(BreakerPolicy(**{field: most}), field) == most
    with pytest.raises(ValueError, match=f"^{field} must be at most {most}, not {most + 1}$"):
        BreakerPolicy(**{field: most + 1})


@pytest.mark.parametrize("field", [name for name in WHOLE_NUMBERS if name != "failure_threshold"])
def test_only_rules_and_bounds_may_be_none(field):
    with pytest.raises(TypeError, match=f"^{field} must be a whole number, not None$"):
        BreakerPolicy(**{field: None})


@pytest.mark.parametrize("field", DURATIONS)
def test_a_duration_is_more_than_0_seconds_or_a_timedelta(field):
    assert getattr(BreakerPolicy(**{field: 90}), field) == 90.0
    assert getattr(BreakerPolicy(**{field: timedelta(minutes=1.5)}), field) == 90.0
    for value in (0, -1, -0.001, timedelta(0), timedelta(seconds=-5), *NOT_FINITE):
        with pytest.raises(ValueError, match=f"^{field} must be more than 0 seconds, not "):
            BreakerPolicy(**{field: value})
    for value in ("30", "1m", True, [30], {}):
        with pytest.raises(TypeError, match=f"^{field} must be seconds or a timedelta, not "):
            BreakerPolicy(**{field: value})


@pytest.mark.parametrize("field", RATES)
def test_a_rate_is_more_than_0_and_at_most_100_per_cent(field):
    assert getattr(BreakerPolicy(**{field: 100}), field) == 100.0
    assert getattr(BreakerPolicy(**{field: 0.01}), field) == 0.01
    for value in (0, -1, 100.01, *NOT_FINITE):
        with pytest.raises(ValueError, match=f"^{field} must be more than 0 and at most 100 per"):
            BreakerPolicy(**{field: value})
    for value in ("50", True, [50], timedelta(1)):
        with pytest.raises(TypeError, match=f"^{field} must be a number, not "):
            BreakerPolicy(**{field: value})


@pytest.mark.parametrize(
    ("field", "bounds", "good", "bad"),
    [
        ("open_state_backoff_multiplier", "at least 1", [1, 1.5, 1000], [0.99, 0, -2]),
        ("randomized_wait_factor", "0 to below 1", [0, 0.5, 0.999], [1, 1.5, -0.001]),
    ],
)
def test_a_factor_has_its_bounds(field, bounds, good, bad):
    for value in good:
        assert getattr(BreakerPolicy(**{field: value}), field) == value
    for value in (*bad, *NOT_FINITE):
        with pytest.raises(ValueError, match=f"^{field} must be {bounds}, not "):
            BreakerPolicy(**{field: value})
    for value in ("2", None, True):
        with pytest.raises(TypeError, match=f"^{field} must be a number, not "):
            BreakerPolicy(**{field: value})


@pytest.mark.parametrize("value", [None, 5, "", "time", "COUNT_BASED", [], ["count_based"], {}])
def test_a_window_is_of_calls_or_of_seconds(value):
    with pytest.raises((TypeError, ValueError), match="sliding_window_type must be 'count_based'"):
        BreakerPolicy(sliding_window_type=value)


@pytest.mark.parametrize("field", ["record_exceptions", "ignore_exceptions"])
def test_exceptions_are_given_as_a_class_or_several(field):
    assert getattr(BreakerPolicy(**{field: KeyError}), field) == (KeyError,)
    for several in ([KeyError, OSError], (KeyError, OSError)):
        assert getattr(BreakerPolicy(**{field: several}), field) == (KeyError, OSError)
    assert getattr(BreakerPolicy(**{field: ()}), field) == ()
    for value in (int, "KeyError", [KeyError()], ["KeyError"], [None], None, 5, [[KeyError]]):
        with pytest.raises(TypeError, match=f"^{field} must "):
            BreakerPolicy(**{field: value})


@pytest.mark.parametrize("option", [5, None, "Failure_Threshold", "failure-threshold", ""])
def test_an_option_that_does_not_exist_is_refused_by_name(option):
    with pytest.raises(TypeError, match=f"^BreakerPolicy has no option {option!r}"):
        BreakerPolicy.from_options({option: 1})
