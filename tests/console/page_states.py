"""Every page of the console in every state that it has words for, by route of its address."""

import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from django.test import override_settings

from analytics_admin import services
from analytics_admin.breakers import runtime
from analytics_admin.models import Operation
from tests.console.staging import (
    AWAY,
    BREAKER,
    CACHE,
    E1,
    LIST,
    OPERATION,
    OPERATIONS,
    REASON,
    SHELL,
    SHOWN,
    all_pages,
    breaker_in,
    by_rates,
    changed,
    fill_the_cache,
    pages_of_every_follow_up,
    record,
    record_every_operation,
    sign_in_with,
    url,
    would_open,
)
from tests.support.breakers import another, state_now

State = Callable[[Any], Any]
STATES: dict[str, dict[str, State]] = defaultdict(dict)
"""By route and name: what stages a state and returns the page, asked for by the client given."""


def state(*routes: str) -> Callable[[State], State]:
    def add(stage: State) -> State:
        for route in routes:
            STATES[route][stage.__name__] = stage
        return stage

    return add


# The list of circuit breakers


@state(LIST)
def empty(client: Any) -> Any:
    return client.get(url(LIST))


@state(LIST)
def in_all_states(client: Any) -> Any:
    for number, shown in enumerate(SHOWN):
        breaker_in(shown, str(number))
    services.set_breaker_control(name="0", control="forced_open", actor=SHELL, for_seconds=math.inf)
    for _ in range(3):
        breaker_in("closed", "1:1").acquire().fail(E1("!"))
    return client.get(url(LIST))


@state(LIST)
def would_have_opened(client: Any) -> Any:
    would_open()
    return client.get(url(LIST))


@state(LIST)
def none_matches(client: Any) -> Any:
    breaker_in("closed")
    return client.get(url(LIST), {"search": "2", "state": "open", "sort": "name"})


@state(LIST)
def filter_that_is_none(client: Any) -> Any:
    breaker_in("closed")
    return client.get(url(LIST), {"state": "8"})


@state(LIST)
def many_pages(client: Any) -> Any:
    runtime.operator_store().register([str(number) for number in range(205)], keep_for=None)
    return client.get(url(LIST), {"page": "2"})


# One circuit breaker


@state(BREAKER)
def in_each_state(client: Any) -> Any:
    for number, shown in enumerate(SHOWN):
        breaker_in(shown, str(number))
    return [client.get(url(f"circuitbreaker/{number}/")) for number in range(len(SHOWN))]


@state(BREAKER)
def disabled_for_ever(client: Any) -> Any:
    breaker_in("closed")
    services.set_breaker_control(
        name="1", control="disabled", actor=SHELL, for_seconds=math.inf, reason=REASON
    )
    return client.get(url("circuitbreaker/1/"))


@state(BREAKER)
def metrics_only_thatwould_open(client: Any) -> Any:
    would_open()
    return client.get(url("circuitbreaker/1/"))


@state(BREAKER)
def by_rates_with_failures_and_a_past(client: Any) -> Any:
    breaker = by_rates()
    for _ in range(8):
        breaker.acquire().fail(E1("!"))
    state_now(breaker)
    services.reset_circuit_breakers(actor=SHELL)
    services.reset_circuit_breakers(actor=SHELL, names=["1"], reason=REASON)
    services.set_breaker_control(name="1", control="disabled", actor=SHELL)
    services.set_breaker_control(name="1", control="automatic", actor=SHELL)
    for status in Operation.Status:
        record(kind="control_circuit_breakers", status=status, targets={"names": ["1"]})
    return client.get(url("circuitbreaker/1/"))


@state(BREAKER)
def too_few_calls_for_rates_and_two_policies(client: Any) -> Any:
    by_rates().acquire().fail(E1("!"))
    other = another("1", failure_threshold=9, sliding_window_type="time_based")
    other.acquire().succeed()
    state_now(other)
    return client.get(url("circuitbreaker/1/"))


# The search cache


@state(CACHE)
def never_cleared(client: Any) -> Any:
    return client.get(url(CACHE))


@state(CACHE)
def with_figures_tags_and_others_keys(client: Any) -> Any:
    fill_the_cache()
    return client.get(url(CACHE))


@state(CACHE)
def over_hours(client: Any) -> Any:
    fill_the_cache()
    return client.get(url(CACHE), {"hours": "24", "tag": "1"})


@state(CACHE)
def over_hours_that_are_none(client: Any) -> Any:
    return client.get(url(CACHE), {"hours": "5"})


@state(CACHE)
def undoable(client: Any) -> Any:
    services.clear_search_cache(actor=SHELL, mode="soft", reason=REASON)
    return client.get(url(CACHE))


@state(CACHE)
def after_clears_of_all_kinds(client: Any) -> Any:
    services.clear_search_cache(actor=SHELL, mode="hard")
    services.clear_search_cache(actor=SHELL, tags=["1", "2"], reason=REASON)
    for status in ("failed", "denied", "unknown"):
        record(status=status, error="!" if status == "failed" else "")
    return client.get(url(CACHE))


@state(CACHE)
def with_others_in_its_database(client: Any) -> Any:
    fill_the_cache()
    with changed(SEARCH_CACHE_DEDICATED=False):
        return client.get(url(CACHE))


# The audit trail


@state(OPERATIONS)
def no_operation(client: Any) -> Any:
    return client.get(url(OPERATIONS))


@state(OPERATIONS)
def of_every_kind_and_status(client: Any) -> Any:
    record_every_operation()
    return client.get(url(OPERATIONS))


@state(OPERATIONS)
def searched_and_filtered(client: Any) -> Any:
    record_every_operation()
    chosen = {"q": "1", "status": "done", "actor": "0", "kind__exact": "clear_search_cache"}
    return client.get(url(OPERATIONS), chosen)


@state(OPERATIONS)
def over_many_pages(client: Any) -> Any:
    Operation.objects.bulk_create(
        Operation(kind="undo_clear", status="done", channel="api", actor="0") for _ in range(120)
    )
    return client.get(url(OPERATIONS), {"p": "2", "o": "1.-2"})


@state(OPERATIONS, "operation/export/")
def filter_that_was_never_one(client: Any) -> Any:
    route = "operation/export/"
    return client.get(url(route), {"status": "8"}, follow=True)


@state("operation/<uuid:operation_id>/change/")
def at_djangos_own_address(client: Any) -> Any:
    return client.get(url(f"operation/{record().pk}/change/"), follow=True)


@state(OPERATION)
def each_of_every_kind_and_status(client: Any) -> Any:
    return [client.get(url(f"operation/{row.pk}/")) for row in record_every_operation()]


@state(OPERATION)
def whose_account_is_deleted_and_whose_kind_is_unknown(client: Any) -> Any:
    row = record(kind="9", channel="api", user=None, actor="", outcome={"8": True, "7": "6"})
    return client.get(url(f"operation/{row.pk}/"))


state(OPERATION)(pages_of_every_follow_up)


# What all of them share


@state(CACHE, LIST, BREAKER, OPERATIONS, OPERATION)
def with_the_store_down(client: Any) -> Any:
    breaker_in("closed")
    services.set_breaker_control(name="1", control="disabled", actor=SHELL)
    with override_settings(CACHES=AWAY):
        return all_pages(client, Operation.objects.get())


@state(CACHE, LIST, BREAKER, OPERATIONS)
def on_a_site_that_is_read_only(client: Any) -> Any:
    breaker_in("closed")
    with changed(READ_ONLY=True):
        return all_pages(client, record())


@state(CACHE, LIST, BREAKER)
def without_permissions(client: Any) -> Any:
    breaker_in("closed")
    sign_in_with(client, "view_console")
    with changed(REQUIRE_MODEL_PERMISSIONS=True):
        return all_pages(client, record())


@state(CACHE, LIST, BREAKER, OPERATIONS, OPERATION)
def refused_altogether(client: Any) -> Any:
    sign_in_with(client)
    with changed(REQUIRE_MODEL_PERMISSIONS=True):
        return all_pages(client, record())


@state(CACHE, LIST, BREAKER, OPERATIONS, OPERATION)
def with_its_environment(client: Any) -> Any:
    breaker_in("closed")
    with changed(ENVIRONMENT_NAME="1", CONSOLE_REFRESH_SECONDS=None):
        return all_pages(client, record())


@state("the pages of the admin that the section is on")
def with_recent_actions(client: Any) -> Any:
    client.post(url("searchcache/clear/"), {"confirmed": "yes", "mode": "hard", "reason": REASON})
    return [client.get("/admin/"), client.get(url(""))]
