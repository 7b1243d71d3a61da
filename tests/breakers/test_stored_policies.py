"""Policies as the fleet tells them: an operator's process need not have the code."""

import json

import pytest
from django.core.cache import caches

from analytics_admin.breakers.policy import (
    MAX_POLICY_CHARS,
    BreakerPolicy,
    decode_policy,
    encode_policy,
    plain_policy,
)
from analytics_admin.breakers.runtime import operator_store
from analytics_admin.breakers.state_machine import new_record
from analytics_admin.breakers.stores.base import Move, Report
from analytics_admin.breakers.stores.memory import MemoryStore
from analytics_admin.breakers.stores.redis import RedisStore
from analytics_admin.services import describe_breaker
from tests.support.breakers import another, snapshot_of

RATES = {
    "failure_threshold": None,
    "failure_rate_threshold": 60,
    "sliding_window_size": 10,
    "minimum_number_of_calls": 4,
}


class Timeout(Exception):
    pass


def is_empty(result):
    return not result


def use(name, **policy):
    """Use the breaker as another process does, until it has said so."""
    breaker = another(name, **policy)
    breaker.acquire().succeed()
    snapshot_of(breaker)
    return breaker


def test_a_process_without_the_code_knows_policy_and_rates():
    breaker = use("elsewhere", **RATES)
    for fail in (False, False, True, True):
        permit = breaker.acquire()
        permit.fail() if fail else permit.succeed()
    snapshot_of(breaker)
    detail = describe_breaker("elsewhere")
    assert detail.policy == plain_policy(BreakerPolicy.from_options(RATES))
    assert detail.other_policies == []
    assert detail.window.calls == 5
    assert detail.failure_rate == 40.0


def test_a_process_that_ends_after_its_first_failure_has_reported_its_policy():
    another("short", failure_threshold=1, wait_duration_in_open_state=600).acquire().fail()
    detail = describe_breaker("short")
    assert detail.status.state == "open"
    assert detail.policy["wait_duration_in_open_state"] == 600


def test_two_policies_in_use_are_both_listed_the_latest_first():
    use("deploying", failure_threshold=3)
    operator_store().add([Report(name="deploying", policy_text='{"failure_threshold": 7}')])
    caches["breakers"].client.get_client().hincrby(
        operator_store()._key("deploying", "policies"), '{"failure_threshold": 3}', -60
    )
    detail = describe_breaker("deploying")
    assert detail.policy["failure_threshold"] == 7
    assert [other["failure_threshold"] for other in detail.other_policies] == [3]


def test_a_policy_that_was_last_reported_long_ago_is_no_longer_in_use():
    use("deployed", failure_threshold=3)
    operator_store().add([Report(name="deployed", policy_text='{"failure_threshold": 7}')])
    key = operator_store()._key("deployed", "policies")
    caches["breakers"].client.get_client().hincrby(key, '{"failure_threshold": 3}', -3 * 3600)
    assert describe_breaker("deployed").other_policies == []


DEEP = '{"record_exceptions": ' + "[" * 500 + "]" * 500 + "}"


@pytest.mark.parametrize(
    "text", ["", "[]", "no json", '{"failure_threshold": "x"}', '{"new": 1}', DEEP]
)
def test_what_this_release_does_not_understand_is_passed_over(text):
    use("upgraded", failure_threshold=3)
    operator_store().add([Report(name="upgraded", policy_text=text)])
    assert describe_breaker("upgraded").policy["failure_threshold"] == 3


def test_classes_and_functions_go_by_their_names():
    policy = BreakerPolicy(
        record_exceptions=(Timeout, OSError), ignore_exceptions=(KeyError,), record_result=is_empty
    )
    judged, plain = decode_policy(encode_policy(policy))
    assert plain == plain_policy(policy)
    assert plain["record_exceptions"] == [f"{__name__}.Timeout", "builtins.OSError"]
    assert plain["record_result"] == f"{__name__}.is_empty"
    assert judged.failure_threshold == policy.failure_threshold


def test_only_what_differs_from_the_defaults_is_stored():
    assert encode_policy(BreakerPolicy()) == "{}"
    assert json.loads(encode_policy(BreakerPolicy(failure_threshold=9))) == {"failure_threshold": 9}


@pytest.mark.parametrize("threshold", [{}, {"failure_threshold": None}, {"failure_threshold": 5}])
@pytest.mark.parametrize("rates", [{"failure_rate_threshold": 60}, {"slow_call_rate_threshold": 9}])
def test_the_rule_of_consecutive_failures_is_read_as_it_was_stored(rates, threshold):
    policy = BreakerPolicy(**rates, **threshold)
    judged, plain = decode_policy(encode_policy(policy))
    assert judged == policy
    assert plain == plain_policy(policy)
    assert ("failure_threshold" in encode_policy(policy)) is (policy.failure_threshold == 5)


def test_a_policy_of_very_many_classes_is_not_stored():
    classes = tuple(type(f"E{number}", (Exception,), {}) for number in range(200))
    assert encode_policy(BreakerPolicy(record_exceptions=classes)) == ""
    assert 0 < len(encode_policy(BreakerPolicy(record_exceptions=classes[:5]))) <= MAX_POLICY_CHARS


@pytest.mark.parametrize("kind", ["memory", "redis"])
def test_only_the_last_few_are_kept(kind):
    store = MemoryStore() if kind == "memory" else RedisStore("breakers", timeout=2)
    store.compare_and_set([Move(name="a", expected=None, new=new_record())])
    for number in range(9):
        store.add([Report(name="a", policy_text=json.dumps({"failure_threshold": number + 1}))])
    assert len(store.inspect("a").history.policies) == 3
